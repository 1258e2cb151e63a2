"""The default noise scale on grids of other widths, rotated and rescaled, and on standardised tables.

Protocol, grids: the 25 Gaussians of `gaussians25.py` with standard deviation 0.02, 0.05 and 0.15, rotated by 0.5 radians and
multiplied by 30; ``CoupledVAE(hidden_layer_sizes=(256, 256, 256), max_iter=2000, random_state=0).fit(X)``; metrics of 20000 samples
turned and scaled back. `ratio` is the std within modes over that of the data's own points, both within 4 std.

Protocol, tables: standardised wine and breast cancer, half held out (seed 0); ``CoupledVAE(2, random_state=0)``. Held-out scores in
nats, beside probabilistic PCA with 2 components, the linear model of the same noise (`PCA.score`), a Gaussian with the covariance
regularised by 1e-3, and the best of `GaussianMixture` with 2 to 4 components on the held-out rows, which favours the mixture.

Run: python benchmarks/scales.py
"""

from __future__ import annotations

import numpy as np
from gaussians25 import grid_metrics, make_grid
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skcvae import CoupledVAE

TURN = 30 * np.array([[np.cos(0.5), np.sin(0.5)], [-np.sin(0.5), np.cos(0.5)]])


def grid_row(std: float) -> str:
    """One grid's row of the table."""
    X = make_grid(std, 0)
    model = CoupledVAE(hidden_layer_sizes=(256, 256, 256), max_iter=2000, random_state=0).fit(X @ TURN)
    got = grid_metrics(model.sample(20000, random_state=1) @ np.linalg.inv(TURN), std)
    ratio = got["std"] / grid_metrics(X, std)["std"]
    return f"| {std} | {got['modes']} | {got['within']:.2f} | {got['std']:.4f} | {ratio:.3f} | {got['kl']:.4f} |"


def table_row(name: str, data: np.ndarray) -> str:
    """One data set's row of the table."""
    X_train, X_test = train_test_split(StandardScaler().fit_transform(data), test_size=0.5, random_state=0)
    model = CoupledVAE(2, random_state=0).fit(X_train)
    linear = PCA(2).fit(X_train).score(X_test)
    gaussian, *mixtures = (GaussianMixture(c, reg_covar=1e-3, random_state=0).fit(X_train).score(X_test) for c in (1, 2, 3, 4))
    return f"| {name} {data.shape} | {model.score(X_test):.2f} | {linear:.2f} | {gaussian:.2f} | {max(mixtures):.2f} |"


def main() -> None:
    print("| std | modes | within 4 std, % | std within modes | ratio | kl |\n|---|---|---|---|---|---|")
    for std in (0.02, 0.05, 0.15):
        print(grid_row(std), flush=True)
    print("\n| table | CoupledVAE | PCA | Gaussian | GaussianMixture |\n|---|---|---|---|---|")
    print(table_row("wine", load_wine().data), flush=True)
    print(table_row("breast cancer", load_breast_cancer().data), flush=True)


if __name__ == "__main__":
    main()
