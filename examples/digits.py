"""Fit a coupled variational autoencoder to handwritten digits, score held-out images and draw what was learned.

The 8 x 8 digits that ship with scikit-learn are dequantised, (X + U[0, 1))/17, and columns that never vary are dropped. The
Gaussian likelihood learns one scale for each pixel. `GaussianMixture` is fitted to the same rows for comparison; its covariance
type, number of components and regularisation are chosen on a validation quarter of them.

Run: python examples/digits.py [--output demo.png]
"""

from __future__ import annotations

import argparse
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import ParameterGrid, train_test_split

from skcvae import CoupledVAE
from skcvae.datasets import digit_images, load_dequantised_digits
from skcvae.likelihoods import GaussianLikelihood
from skcvae.schedule import Schedule


def best_mixture(X: np.ndarray) -> GaussianMixture:
    """A Gaussian mixture chosen on a validation quarter of X, then fitted to all of it."""
    fitting, validation = train_test_split(X, test_size=0.25, random_state=1)
    grid = ParameterGrid({"covariance_type": ["full", "diag"], "n_components": [10, 20], "reg_covar": [3e-4, 1e-3, 3e-3]})
    best = max(grid, key=lambda p: GaussianMixture(random_state=0, **p).fit(fitting).score(validation))
    return GaussianMixture(random_state=0, **best).fit(X)


def picture(rows: np.ndarray, n_columns: int) -> np.ndarray:
    """Rows of pixels as one large image."""
    tiles = digit_images(rows).reshape(-1, n_columns, 8, 8)
    return np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.5).swapaxes(1, 2).reshape(len(tiles) * 9, -1)


def draw(model: CoupledVAE, X: np.ndarray, classes: np.ndarray, path: str) -> None:
    """Samples, reconstructions and the latent space coloured by digit."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.4), layout="constrained")
    shown = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
    axes[0].imshow(picture(model.sample(100, noise="mean", random_state=0), 10), **shown)
    axes[0].set_title("samples (decoder means)")
    pairs = np.stack([X[:50], model.reconstruct(X[:50])], 1).reshape(-1, X.shape[1])
    axes[1].imshow(picture(pairs, 10), **shown)
    axes[1].set_title("held-out digits, each beside its reconstruction")
    for axis in axes[:2]:
        axis.axis("off")
    latent = model.transform(X)
    points = axes[2].scatter(*latent[:, :2].T, c=classes, cmap="tab10", vmin=-0.5, vmax=9.5, s=14)
    axes[2].set(title="posterior means of held-out digits", xlabel="$z_1$", ylabel="$z_2$")
    axes[2].set_aspect("equal", "datalim")
    figure.colorbar(points, ax=axes[2], ticks=range(10), label="digit", shrink=0.8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="digits.png", help="where the picture goes")
    path = parser.parse_args().output
    X, classes = load_dequantised_digits()
    X_train, X_test, _, y_test = train_test_split(X, classes, test_size=0.25, random_state=0)
    model = CoupledVAE(
        n_components=2,
        likelihood=GaussianLikelihood("learned_per_feature", floor=0.1),
        hidden_layer_sizes=(128, 128),
        max_iter=1000,
        schedule=Schedule(polish_rounds=10),
        random_state=0,
        verbose=True,
    )
    begin = time.perf_counter()
    model.fit(X_train)
    seconds = time.perf_counter() - begin
    mixture = best_mixture(X_train)
    size = np.median(model.posterior(X_test).importance_ess)
    print(f"rows x features: {X_train.shape} to fit, {X_test.shape} held out")
    print(f"CoupledVAE, held-out log-likelihood:      {model.score(X_test):.2f} nats ({model.score(X_train):.2f} fitted)")
    print(f"GaussianMixture, held-out log-likelihood: {mixture.score(X_test):.2f} nats ({mixture.score(X_train):.2f} fitted)")
    print(f"  ({mixture.covariance_type}, {mixture.n_components} components, reg_covar={mixture.reg_covar:g}, by validation)")
    print(f"marginal error of the coupling: {model.coupling_.marginal_error:.1e}")
    print(f"median effective sample size:   {size:.0f} of {model.coupling_.n_draws} draws")
    print(f"time to fit: {seconds:.0f} s, {model.n_iter_} steps")
    draw(model, X_test, y_test, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
