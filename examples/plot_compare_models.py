r"""
Comparing the models
====================

All estimators have one meaning of ``score``: the log-likelihood, in nats, of exactly what ``sample`` draws. ``cross_val_score``
therefore compares them fairly, also with models that have a closed density. Here: a pinwheel of five arms in the plane.
"""

import warnings

import matplotlib.pyplot as plt
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae.datasets import make_pinwheel
from skcvae.schedule import Schedule

warnings.simplefilter("ignore")

# %%
# The data: 600 points.

X, _ = make_pinwheel(600, random_state=0)

# %%
# The models. The coupled one gets a short schedule of polishing, so that this page builds in a minute. A WAE's penalty is on
# another scale than its reconstruction term, in nats, and needs to be large.

short = Schedule(polish_rounds=3, max_draws=8192)
shared = {"hidden_layer_sizes": (64, 64), "max_iter": 800, "random_state": 0}
models = {
    "Gaussian mixture": GaussianMixture(10, random_state=0),
    "VAE": VAE(**shared),
    "VAE, planar flows": VAE(encoder="planar", **shared),
    "WAE": WAE(penalty=300, **shared),
    "InfoVAE": InfoVAE(lambd=100, **shared),
    "CoupledVAE": CoupledVAE(schedule=short, **{**shared, "max_iter": 400}),
}
scores = {name: cross_val_score(model, X, cv=2) for name, model in models.items()}
for name, values in scores.items():
    print(f"{name:18s} {values.mean():7.3f} ± {values.std():.3f} nats")

# %%
# Samples of each, with the held-out score above them.

figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), sharex=True, sharey=True, layout="constrained")
panels = {"Data": X} | {name: model.fit(X).sample(600) for name, model in models.items()}
panels["Gaussian mixture"] = panels["Gaussian mixture"][0]
for ax, (name, points) in zip(axes.flat, panels.items(), strict=False):
    ax.plot(*points.T, ".", markersize=2, color="tab:gray" if name == "Data" else "tab:blue")
    score = f"\n{scores[name].mean():.2f} ± {scores[name].std():.2f} nats" if name in scores else ""
    ax.set(title=name + score, aspect="equal")
axes.flat[-1].axis("off")
plt.show()
