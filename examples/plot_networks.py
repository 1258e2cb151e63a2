"""
Networks of your own
====================

For readers whose data call for another architecture. ``network`` takes an object of `skcvae.networks`, with parameters that a grid
search can range over, or your own torch modules.
"""

# %%
# scikit-learn's digits as 8 x 8 images; three columns that are always 0 are kept here, so that the rows are images.
import warnings

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits as sklearn_digits
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skcvae import VAE
from skcvae.display import SamplesDisplay
from skcvae.networks import MLP, Conv

warnings.simplefilter("ignore", ConvergenceWarning)  # the fits of this page are short on purpose

X = sklearn_digits().data[:800] / 16
X_train, X_test = X[:600], X[600:]

# %%
# A decoder of your own gets standardised latent points and gives one output for each feature; an encoder gets standardised rows and
# gives what the posterior needs, for a Gaussian a mean and a scale for each component. A function of the sizes makes either.


def make_encoder(n_inputs: int, n_outputs: int) -> nn.Module:
    """Two layers with dropout."""
    return nn.Sequential(nn.Linear(n_inputs, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, n_outputs))


class Residual(nn.Module):
    """A decoder with a residual block."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Linear(n_inputs, 64), nn.Linear(64, 64), nn.Linear(64, n_outputs)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Decoder outputs (n, n_outputs) of latent points (n, n_inputs)."""
        h = torch.tanh(self.first(z))
        return self.last(h + torch.relu(self.block(h)))


networks = {
    "MLP((64, 64))": MLP((64, 64)),
    'MLP((64, 64), "silu", batch_norm=True)': MLP((64, 64), "silu", batch_norm=True),
    "Conv(channels=(16, 32))": Conv(channels=(16, 32)),
    "your own": (make_encoder, Residual),
}

# %%
# The score does not depend on the network's kind, so that it compares them. A linear map runs beside every decoder.
figure, axes = plt.subplots(1, 4, figsize=(13, 3.8), layout="constrained")
for (name, network), ax in zip(networks.items(), axes, strict=True):
    model = VAE(8, network=network, likelihood="bernoulli", max_iter=600, random_state=0).fit(X_train)
    SamplesDisplay.from_estimator(model, n_samples=36, noise="mean", image_shape=(8, 8), random_state=0, ax=ax)
    ax.set(title=f"{name}\n{model.score(X_test):.2f}", ylabel="")
    print(f"{name:40s} {model.score(X_test):.2f}")
plt.show()
