"""Numeric tables: held-out log-likelihood at the defaults, beside one Gaussian and mixtures, plain and on transformed columns.

A quarter of the rows is held out at random, by the seed; all scores are nats in units of the fitted rows' deviations. Columns that
are no numbers and rows with missing cells are left out. Transformed columns have gone through scikit-learn's PowerTransformer, as
they come, and the score counts its Jacobian.

- `one Gaussian`: Ledoit-Wolf. `mixture`: GaussianMixture of 1 to 8 components and all covariance types, by BIC. Both have
  standardised columns, or transformed ones.
- `CoupledVAE`: nothing else set, on standardised columns. `table`: `likelihood="table"`, on columns as they come.

`seconds` is the fit's and the score's, of one core.

Tables of scikit-learn, and the CSV files of a folder.

Run: python benchmarks/tables.py [--folder PATH] [--seeds 0 1 2] [--tables ...] [--methods ...]
"""

from __future__ import annotations

import argparse
import functools
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cells import Cells, table
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import PowerTransformer, StandardScaler

from skcvae import VAE, CoupledVAE

Array = NDArray[np.float64]
Score = Callable[[Array, Array, int], Array]
LOADERS = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
    "linnerud": datasets.load_linnerud,
}


def one_gaussian(fitted: Array, held_out: Array, seed: int) -> Array:
    found = LedoitWolf().fit(fitted)
    # scikit-learn's covariance scores one sample as a whole; a mixture of one component scores rows.
    model = GaussianMixture(1)
    model.weights_, model.means_ = np.ones(1), found.location_[None]
    model.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(found.covariance_))[None]
    model.covariance_type = "full"
    return model.score_samples(held_out)  # type: ignore[no-any-return]


def mixture(fitted: Array, held_out: Array, seed: int) -> Array:
    kinds = ("full", "tied", "diag", "spherical")
    models = [
        GaussianMixture(k, covariance_type=kind, reg_covar=1e-4, n_init=2, random_state=seed).fit(fitted)
        for kind in kinds
        for k in range(1, 9)
        if k * 4 < len(fitted)
    ]
    return min(models, key=lambda model: model.bic(fitted)).score_samples(held_out)  # type: ignore[no-any-return]


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


METHODS: dict[str, Score] = {
    "one Gaussian": standardised(one_gaussian),
    "one Gaussian, transformed": transformed(one_gaussian),
    "mixture": standardised(mixture),
    "mixture, transformed": transformed(mixture),
    "CoupledVAE": standardised(ours(CoupledVAE)),
    "CoupledVAE, table": ours(CoupledVAE, likelihood="table"),
    "VAE, table": ours(VAE, likelihood="table"),
}


def rows_of(name: str, folder: Path | None) -> Array:
    if name in LOADERS:
        return np.asarray(LOADERS[name]().data, dtype=np.float64)
    if folder is None:
        raise ValueError(f"{name!r} is no table of scikit-learn. Give --folder.")
    return pd.read_csv(folder / f"{name}.csv").select_dtypes("number").dropna().to_numpy(np.float64)


def cell(X: Array, method: str, seed: int) -> dict[str, float]:
    fitted, held_out = train_test_split(X, random_state=seed)
    varies = fitted.std(0) > 0
    fitted, held_out = fitted[:, varies], held_out[:, varies]
    begin = time.process_time()
    scores = METHODS[method](fitted, held_out, seed) + np.log(fitted.std(0)).sum()
    return {"nats": float(scores.mean()), "seconds": time.process_time() - begin, "n": len(X), "d": int(varies.sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    arguments = parser.parse_args()
    files = [] if arguments.folder is None else sorted(path.stem for path in arguments.folder.glob("*.csv"))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")
    cells, lines = Cells("tables"), []
    for name in arguments.tables or [*LOADERS, *files]:
        X = rows_of(name, arguments.folder)
        line: list[object] = [name, f"{X.shape[0]} x {X.shape[1]}"]
        for method in arguments.methods:
            nats = []
            for seed in arguments.seeds:
                compute = functools.partial(cell, X, method, seed)
                nats.append(cells.row(compute, table=name, method=method, seed=seed)["nats"])
            spread = f" ± {np.std(nats, ddof=1):.2f}" if len(nats) > 1 else ""
            line.append(f"{np.mean(nats):.2f}{spread}")
        lines.append(line)
    print(table(["table", "rows x columns", *arguments.methods], lines))


if __name__ == "__main__":
    main()
