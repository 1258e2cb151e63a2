"""
Handwritten digits
==================

For readers who want to see all that a model gives for images: new ones, reconstructions, and a map of those that there are.
"""

# %%
# scikit-learn's digits, 8 x 8 pixels. `load_dequantised_digits` adds noise below the step of the grey values, so that they have a
# density, and leaves out three pixels that are always 0; `digit_images` gives rows back their shape.
import warnings

import matplotlib.pyplot as plt
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skcvae import CoupledVAE
from skcvae.datasets import digit_images, load_dequantised_digits
from skcvae.display import LatentDisplay, ReconstructionDisplay, SamplesDisplay
from skcvae.likelihoods import GaussianLikelihood
from skcvae.schedule import Schedule

warnings.simplefilter("ignore", ConvergenceWarning)  # the fits of this page are short on purpose

X, y = load_dequantised_digits()
X_train, X_test, _, y_test = train_test_split(X, y, test_size=0.25, random_state=0)

# %%
# Two components, so that the latent space can be drawn. Some pixels vary far more than others: every one learns a scale of its own.
model = CoupledVAE(
    n_components=2,
    likelihood=GaussianLikelihood("learned_per_feature", floor=0.1),
    hidden_layer_sizes=(64, 64),
    max_iter=400,
    schedule=Schedule(polish_rounds=3, max_draws=16384),
    random_state=0,
).fit(X_train)
print(f"log-likelihood: {model.score(X_train):.2f} nats fitted, {model.score(X_test):.2f} held out")

# %%
# New digits, and held-out digits above what the model makes of them. ``noise="mean"`` shows the decoder's means; the default would
# add the noise that the score counts with. Means may leave the range of the grey values a little; both pictures are given it.
figure, axes = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
shown = {"image_shape": digit_images, "vmin": 0, "vmax": 1}
SamplesDisplay.from_estimator(model, n_samples=100, noise="mean", random_state=0, ax=axes[0], **shown)
ReconstructionDisplay.from_estimator(model, X_test[:48], ax=axes[1], **shown)
plt.show()

# %%
# The map: posterior means of the held-out digits, which the fit has not seen. The classes were not given to it either.
figure, ax = plt.subplots(figsize=(6.4, 5), layout="constrained")
LatentDisplay.from_estimator(model, X_test, y_test, ax=ax)
plt.show()
