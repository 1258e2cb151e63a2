"""
Three priors on the same data
=============================

For readers who must choose ``prior``. It says what a latent variable is: a Gaussian gives every row a place in a plane, a Dirichlet
shares of a few extremes, and a categorical prior one of a few clusters.
"""

# %%
# Data with three arms, and a quick fit.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skcvae import CoupledVAE
from skcvae.datasets import make_pinwheel
from skcvae.schedule import Schedule

warnings.simplefilter("ignore", ConvergenceWarning)  # the fits of this page are short on purpose

X, _ = make_pinwheel(800, n_arms=3, random_state=0)
X_train, X_test = train_test_split(X, random_state=0)
quick = {"hidden_layer_sizes": (64, 64), "max_iter": 400, "random_state": 0}
quick |= {"schedule": Schedule(polish_rounds=3, max_draws=16384)}
models = {
    "gaussian": CoupledVAE(2, prior="gaussian", **quick).fit(X_train),
    "dirichlet": CoupledVAE(3, prior="dirichlet", **quick).fit(X_train),
    "categorical": CoupledVAE(3, prior="categorical", **quick).fit(X_train),
}
for name, model in models.items():
    print(f"{name:12s} first row's z: {model.transform(X_test[:1]).round(2)}, score {model.score(X_test):.3f} nats")

# %%
# ``predict`` is there where the prior has atoms.
print("rows in each cluster:", np.bincount(models["categorical"].predict(X_train)))

# %%
# Above, the data in the colour of z: a coordinate, a mixture of three colours by the three shares, or the colour of a cluster.
# Below, new samples with the held-out score.
corners = np.array([[0.0, 0.45, 0.7], [0.9, 0.6, 0.0], [0.8, 0.4, 0.65]])
figure, axes = plt.subplots(2, 3, figsize=(9.6, 6.4), sharex=True, sharey=True, layout="constrained")
for (name, model), (above, below) in zip(models.items(), axes.T, strict=True):
    Z = model.transform(X)
    look = {"c": Z[:, 0], "cmap": "cividis"} if name == "gaussian" else {"c": (Z @ corners).clip(0, 1)}
    above.scatter(*X.T, s=6, **look)
    above.set(title=f'prior="{name}"', aspect="equal")
    below.scatter(*model.sample(800, random_state=0).T, s=6, color="#0072B2")
    below.set(title=f"{model.score(X_test):.2f} nats", aspect="equal")
axes[0, 0].set_ylabel("data, coloured by z")
axes[1, 0].set_ylabel("samples")
plt.show()
