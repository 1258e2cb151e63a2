"""Numeric tables: held-out log-likelihood at the defaults, beside Gaussians, mixtures and kernels, plain and transformed.

A quarter of the rows is held out at random, by the seed; all scores are nats in units of the fitted rows' deviations. Columns are
left out that are no numbers, or that take fewer than 10 different values: a density on these has no bound, and rises with the
smallest variance that a method allows. Missing cells take the median of the fitted rows. Transformed columns have gone through
scikit-learn's PowerTransformer, as they come, and the score counts its Jacobian.

- `one Gaussian`: Ledoit-Wolf. `mixture`: GaussianMixture of 1 to 8 components and all covariance types, by BIC, or by the score of
  the last quarter of the fitted rows (`chosen`). `factors`: FactorAnalysis, and `kernels`: KernelDensity, the number of factors and
  the bandwidth chosen in the same way. All have standardised columns, or transformed ones.
- `CoupledVAE()`: nothing else set, on columns as they come. `plain`: its `likelihood="gaussian"`, on standardised columns.
- `VAE, table`: with the likelihood that CoupledVAE has by default. `VAE` and `WAE`, which holds rows out: on transformed columns.

`seconds` is the fit's and the score's, of one core. `rank` is the mean over tables of a method's rank by its mean score.

Tables of scikit-learn (the digits dequantised) and of matplotlib, and the CSV files of a folder.

Run: python benchmarks/tables.py [--folder PATH] [--seeds 0 1 2] [--tables ...] [--methods ...]
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cells import Cells, asked, table
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import PowerTransformer, StandardScaler

from skcvae import VAE, WAE, CoupledVAE
from skcvae.datasets import load_dequantised_digits

Array = NDArray[np.float64]
Score = Callable[[Array, Array, int], Array]
LOADERS: dict[str, Callable[[], Array]] = {
    "iris": lambda: datasets.load_iris().data,
    "wine": lambda: datasets.load_wine().data,
    "breast cancer": lambda: datasets.load_breast_cancer().data,
    "diabetes": lambda: datasets.load_diabetes().data,
    "linnerud": lambda: np.hstack([datasets.load_linnerud().data, datasets.load_linnerud().target]),
    "digits": lambda: load_dequantised_digits()[0],
}


def stocks() -> Array:
    """Monthly prices of five companies and two indices since 1990, which matplotlib brings, where all of them are there."""
    from matplotlib import cbook

    prices = pd.read_csv(cbook.get_sample_data("Stocks.csv", asfileobj=False), comment="#").select_dtypes("number")
    prices = prices.dropna(how="all")
    return prices.dropna(axis=1).to_numpy(np.float64)  # type: ignore[no-any-return]


LOADERS["stocks"] = stocks
#: Different values that a column has, at least.
FEWEST_VALUES = 10


def one_gaussian(fitted: Array, held_out: Array, seed: int) -> Array:
    found = LedoitWolf().fit(fitted)
    # scikit-learn's covariance scores one sample as a whole; a mixture of one component scores rows.
    model = GaussianMixture(1)
    model.weights_, model.means_ = np.ones(1), found.location_[None]
    model.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(found.covariance_))[None]
    model.covariance_type = "full"
    return model.score_samples(held_out)  # type: ignore[no-any-return]


def mixtures(n_rows: int, seed: int) -> list[GaussianMixture]:
    kinds = ("full", "tied", "diag", "spherical")
    return [
        GaussianMixture(k, covariance_type=kind, reg_covar=1e-4, n_init=2, random_state=seed)
        for kind in kinds
        for k in range(1, 9)
        if k * 4 < n_rows
    ]


def mixture(fitted: Array, held_out: Array, seed: int) -> Array:
    models = [model.fit(fitted) for model in mixtures(len(fitted), seed)]
    return min(models, key=lambda model: model.bic(fitted)).score_samples(held_out)  # type: ignore[no-any-return]


def chosen(candidates: Callable[[int, int, int], list[Any]]) -> Score:
    """Of candidates for (n, d) rows and a seed the one whose fit to the first three quarters has the best score of the last."""

    def of(fitted: Array, held_out: Array, seed: int) -> Array:
        cut = 3 * len(fitted) // 4
        models = candidates(cut, fitted.shape[1], seed)
        scores = [np.mean(clone(model).fit(fitted[:cut]).score_samples(fitted[cut:])) for model in models]
        return models[int(np.argmax(scores))].fit(fitted).score_samples(held_out)  # type: ignore[no-any-return]

    return of


def factors(n: int, d: int, seed: int) -> list[Any]:
    return [FactorAnalysis(k, random_state=seed) for k in (1, 2, 3, 5, 8, 12, 20) if k <= min(d, n - 1)]


def kernels(n: int, d: int, seed: int) -> list[Any]:
    return [KernelDensity(bandwidth=h) for h in np.geomspace(0.05, 2, 12)]


def standardised(score: Score) -> Score:
    """The same on standardised columns."""

    def of(fitted: Array, held_out: Array, seed: int) -> Array:
        scaler = StandardScaler().fit(fitted)
        return score(scaler.transform(fitted), scaler.transform(held_out), seed) - np.log(scaler.scale_).sum()

    return of


def transformed(score: Score) -> Score:
    """The same on transformed columns."""

    def of(fitted: Array, held_out: Array, seed: int) -> Array:
        power = PowerTransformer().fit(fitted)
        slope = np.sign(held_out) * (power.lambdas_ - 1) * np.log1p(np.abs(held_out)) - np.log(power._scaler.scale_)
        return score(power.transform(fitted), power.transform(held_out), seed) + slope.sum(1)

    return of


def ours(kind: type, **params: object) -> Score:
    return lambda fitted, held_out, seed: kind(random_state=seed, **params).fit(fitted).score_samples(held_out)


PLAIN: dict[str, Score] = {
    "one Gaussian": one_gaussian,
    "mixture": mixture,
    "mixture, chosen": chosen(lambda n, d, seed: mixtures(n, seed)),
    "factors": chosen(factors),
    "kernels": chosen(kernels),
}
METHODS: dict[str, Score] = {
    **{name: standardised(score) for name, score in PLAIN.items()},
    **{f"{name}, transformed": transformed(score) for name, score in PLAIN.items()},
    "CoupledVAE()": ours(CoupledVAE),
    "CoupledVAE, plain": standardised(ours(CoupledVAE, likelihood="gaussian")),
    "VAE, table": ours(VAE, likelihood="table"),
    "VAE, transformed": transformed(ours(VAE)),
    "WAE, transformed": transformed(ours(WAE, early_stopping=True)),
}


def rows_of(name: str, folder: Path | None) -> Array:
    if name in LOADERS:
        X = np.asarray(LOADERS[name](), dtype=np.float64)
    elif folder is None:
        raise ValueError(f"{name!r} is no table of scikit-learn. Give --folder.")
    else:
        X = pd.read_csv(folder / f"{name}.csv").select_dtypes("number").to_numpy(np.float64)
    return X[:, [len(np.unique(column[~np.isnan(column)])) >= FEWEST_VALUES for column in X.T]]


def cell(X: Array, method: str, seed: int) -> dict[str, float]:
    fitted, held_out = train_test_split(X, random_state=seed)
    median = np.nanmedian(fitted, axis=0)
    fitted, held_out = (np.where(np.isnan(part), median, part) for part in (fitted, held_out))
    begin = time.process_time()
    scores = METHODS[method](fitted, held_out, seed) + np.log(fitted.std(0)).sum()
    return {"nats": float(scores.mean()), "seconds": time.process_time() - begin, "n": len(X), "d": X.shape[1]}


def main() -> None:
    arguments = asked(__doc__.splitlines()[0], list(METHODS))
    cells, lines, means, names = Cells("tables"), [], [], []
    for name in arguments.tables or [*LOADERS, *arguments.files]:
        X = rows_of(name, arguments.folder)
        if X.shape[1] < 2:
            continue
        line, row = [name, f"{X.shape[0]} x {X.shape[1]}"], []
        for method in arguments.methods:
            found = [
                cells.row(functools.partial(cell, X, method, seed), table=name, method=method, seed=seed)
                for seed in arguments.seeds
            ]
            nats = [one["nats"] for one in found]
            spread = f" ± {np.std(nats, ddof=1):.2f}" if len(nats) > 1 else ""
            line.append(f"{np.mean(nats):.2f}{spread}, {np.mean([one['seconds'] for one in found]):.0f} s")
            row.append(np.mean(nats))
        lines.append(line)
        means.append(row)
        names.append(name)
    ranks = (-np.array(means)).argsort(1).argsort(1) + 1
    lines.append(["mean rank", f"{len(names)} tables", *(f"{rank:.1f}" for rank in ranks.mean(0))])
    print(table(["table", "rows x columns", *arguments.methods], lines))


if __name__ == "__main__":
    main()
