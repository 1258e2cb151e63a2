"""What the defaults are worth: held-out log-likelihood beside tuned rivals, in nats a row.

Protocol: half of the rows (at most 10000 in all) are fitted, half held out (seed 0); tables are standardised with the fitted half's
moments. Every model's setting is chosen by the score of the last quarter of the fitted half, of a fit on the rest, and fitted again
on the whole half; `CoupledVAE()` itself is as it comes, with nothing chosen. Of a kernel density estimate the bandwidth is chosen,
of PCA's probabilistic score (probabilistic PCA) the number of components, of GaussianMixture the number and kind. All with
random_state=0.

Data: 25 Gaussians (7500 x 2), two moons (2000 x 2, noise 0.1), scikit-learn's digits (dequantised, without constant columns), wine,
breast cancer, and covtype's ten numbers where it can be fetched (10000 rows).

A killed run goes on at the next cell. Run: python benchmarks/defaults.py [--data ...] [--models ...] [--table]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from cells import Cells, table
from gaussians25 import make_grid
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import fetch_covtype, load_breast_cancer, load_wine, make_moons
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, datasets

MOST_ROWS = 10000
LATENT = [{"n_components": k} for k in (2, 5, 10)]
RIVALS: dict[str, tuple[BaseEstimator, list[dict[str, Any]]]] = {
    "CoupledVAE()": (CoupledVAE(random_state=0), [{}]),
    "CoupledVAE": (CoupledVAE(random_state=0), [{}, *({**s, "proposal": "encoder"} for s in LATENT[1:])]),
    "VAE": (VAE(random_state=0), LATENT),
    "WAE": (WAE(random_state=0), [{**s, "penalty": p} for s in LATENT for p in (10.0, 1000.0)]),
    "InfoVAE": (InfoVAE(random_state=0), LATENT),
    "GaussianMixture": (
        GaussianMixture(random_state=0, reg_covar=1e-4),
        [{"n_components": c, "covariance_type": kind} for c in (1, 2, 5, 10, 25, 50) for kind in ("full", "diag")],
    ),
    "KernelDensity": (KernelDensity(), [{"bandwidth": b} for b in np.geomspace(0.02, 2, 12).round(3)]),
    "PCA": (PCA(random_state=0), [{"n_components": k} for k in (1, 2, 5, 10, 20, 40)]),
}
DATA: dict[str, Callable[[], np.ndarray]] = {
    "25 Gaussians": lambda: make_grid(0.05, 0),
    "moons": lambda: make_moons(2000, noise=0.1, random_state=0)[0],
    "digits": lambda: datasets.load_dequantised_digits()[0],
    "wine": lambda: load_wine().data,
    "breast cancer": lambda: load_breast_cancer().data,
    "covtype": lambda: fetch_covtype().data[:, :10],
}
TABLES = ("wine", "breast cancer", "covtype")


def halves(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and held out."""
    X = DATA[name]()
    X = X[np.random.default_rng(0).permutation(len(X))[:MOST_ROWS]]
    first, second = train_test_split(X, test_size=0.5, random_state=0)
    scaler = StandardScaler().fit(first) if name in TABLES else None
    return (first, second) if scaler is None else (scaler.transform(first), scaler.transform(second))


def mean_score(model: Any, X: np.ndarray) -> float:
    """Nats a row; a kernel density's score is a sum."""
    return float(np.mean(model.score_samples(X)))


def best_setting(model: BaseEstimator, grid: list[dict[str, Any]], X: np.ndarray) -> dict[str, Any]:
    """The setting with the highest score of the last quarter."""
    first, last = X[: 3 * len(X) // 4], X[3 * len(X) // 4 :]
    most = len(first) if isinstance(model, GaussianMixture) else min(first.shape) - isinstance(model, PCA)
    allowed = [s for s in grid if s.get("n_components", 1) <= most]
    if len(allowed) == 1:
        return allowed[0]
    scores = [mean_score(clone(model).set_params(**setting).fit(first), last) for setting in allowed]
    return allowed[int(np.argmax(scores))]


def row(name: str, data: str) -> dict[str, Any]:
    """Held-out nats of a model on a data set."""
    (first, second), (model, grid) = halves(data), RIVALS[name]
    setting = best_setting(model, grid, first)
    fitted = clone(model).set_params(**setting).fit(first)
    return {"setting": ", ".join(f"{v}" for v in setting.values()), "nats": mean_score(fitted, second), "shape": list(first.shape)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--models", nargs="+", default=list(RIVALS), choices=list(RIVALS))
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cells = Cells("defaults")
    for data in [] if arguments.table else arguments.data:
        for name in arguments.models:
            try:
                cells.row(lambda name=name, data=data: row(name, data), data=data, model=name)
            except OSError as error:
                print(f"{data}: not run, {error}")
    found = {(r["data"], r["model"]): f"{r['nats']:.2f}" + (f" ({r['setting']})" if r["setting"] else "") for r in cells.rows}
    lines = [[data, *(found.get((data, name), "not run") for name in RIVALS)] for data in DATA]
    print(table(["data", *RIVALS], lines))


if __name__ == "__main__":
    main()
