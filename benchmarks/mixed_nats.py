"""Mixed tables: held-out log-likelihood a row, beside mixtures and the density of adversarial random forests.

Tables are those of `mixed.py` that have both numbers and categories, without rows that have a hole. A quarter of the rows is held
out. Scores are probabilities of categories times densities of numbers in units of the fitted rows' deviations; that of whole
numbers is a density too, for all methods. `CoupledVAE.columns_` says which columns are categories. Numbers with a value of its own
mass (a hurdle) are densities, as no other method has such a mass, and are "gaussian" to CoupledVAE. Held-out rows with a category
that no fitted row has are left out.

- `apart`: columns are independent, one Gaussian or the frequencies each.
- `mixture`: components with a Gaussian of all numbers and frequencies of all categories, by EM. The number of components (1 to
  13) and full or diagonal covariances are chosen by the last quarter of the fitted rows. `transformed`: numbers have gone through
  scikit-learn's PowerTransformer, and the score counts its Jacobian.
- `arfpy`: 30 trees, the mean over trees of the density of a row's leaf: truncated Gaussians and frequencies. arfpy has no function
  for it. A leaf's deviation is at least 1 % of the column's. 1 % of each frequency is that of the column, and 1 % of the density
  is that of the columns apart, so that none is 0.

Run: python benchmarks/mixed_nats.py [--folder PATH] [--seeds 0 1 2] [--tables ...] [--methods ...]
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from cells import Cells, asked, table
from mixed import LOADERS, frame_of
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm, truncnorm
from sklearn.cluster import KMeans
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky, _estimate_log_gaussian_prob
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import PowerTransformer, StandardScaler

from skcvae import CoupledVAE

Array = NDArray[np.float64]
#: Added to variances of a component, in units of the columns', and to counts of categories, times their frequencies.
RIDGE, PSEUDO_COUNT = 1e-4, 1.0
N_STEPS, LEAST_GAIN = 300, 1e-5
N_COMPONENTS, SHARE = (1, 2, 3, 5, 8, 13), 0.01


@dataclass(frozen=True)
class Rows:
    """Standardised numbers (n, p), codes (n, q) and the frequencies of each code."""

    numbers: Array
    codes: NDArray[np.intp]
    frequencies: list[Array]

    def taken(self, rows: slice) -> Rows:
        return Rows(self.numbers[rows], self.codes[rows], self.frequencies)


def of_frames(fitted: pd.DataFrame, held_out: pd.DataFrame, categories: list[str]) -> tuple[Rows, Rows]:
    numbers = [name for name in fitted if name not in categories]
    scaler = StandardScaler().fit(fitted[numbers].to_numpy(np.float64))
    whole = pd.concat([fitted, held_out])
    codes = np.stack([pd.factorize(whole[name], sort=True)[0] for name in categories], 1)
    frequencies = [np.bincount(column[: len(fitted)], minlength=column.max() + 1) + 0.5 for column in codes.T]
    frequencies = [counts / counts.sum() for counts in frequencies]
    cut = (slice(None, len(fitted)), slice(len(fitted), None))
    X = scaler.transform(whole[numbers].to_numpy(np.float64))
    return Rows(X[cut[0]], codes[cut[0]], frequencies), Rows(X[cut[1]], codes[cut[1]], frequencies)


def log_apart(rows: Rows) -> Array:
    """Log-density (n,) of columns that are independent."""
    found = norm.logpdf(rows.numbers).sum(1)
    return found + sum(np.log(p)[code] for p, code in zip(rows.frequencies, rows.codes.T, strict=True))


class Mixture:
    """A mixture by EM: in a component the numbers are one Gaussian and the categories are independent."""

    def __init__(self, k: int, kind: str, seed: int) -> None:
        self.k, self.kind, self.seed = k, kind, seed

    def fit(self, rows: Rows) -> Mixture:
        one_hot = [np.eye(len(p))[code] / np.sqrt(2 * p) for p, code in zip(rows.frequencies, rows.codes.T, strict=True)]
        labels = KMeans(self.k, n_init=3, random_state=self.seed).fit_predict(np.hstack([rows.numbers, *one_hot]))
        shares, before = np.eye(self.k)[labels], -np.inf
        for _ in range(N_STEPS):
            self._maximise(rows, shares)
            log_joint = self._log_joint(rows)
            score, shares = logsumexp(log_joint, 1).mean(), np.exp(log_softmax(log_joint, 1))
            if score - before < LEAST_GAIN:
                break
            before = score
        return self

    def score_samples(self, rows: Rows) -> Array:
        return logsumexp(self._log_joint(rows), 1)

    def _maximise(self, rows: Rows, shares: Array) -> None:
        counts = shares.sum(0) + 1e-9
        self.log_weights, self.means = np.log(counts / counts.sum()), shares.T @ rows.numbers / counts[:, None]
        covariances = []
        for share, count, mean in zip(shares.T, counts, self.means, strict=True):
            gap = rows.numbers - mean
            covariance = (share * gap.T) @ gap / count
            covariances.append(covariance if self.kind == "full" else np.diag(np.diag(covariance)))
        eye = np.eye(rows.numbers.shape[1])
        self.factors = _compute_precision_cholesky(np.stack(covariances) + RIDGE * eye, "full")
        self.log_frequencies = []
        for p, code in zip(rows.frequencies, rows.codes.T, strict=True):
            found = np.stack([np.bincount(code, share, len(p)) for share in shares.T]) + PSEUDO_COUNT * p
            self.log_frequencies.append(np.log(found / found.sum(1, keepdims=True)))

    def _log_joint(self, rows: Rows) -> Array:
        found = self.log_weights + _estimate_log_gaussian_prob(rows.numbers, self.means, self.factors, "full")
        return found + sum(log_p[:, code].T for log_p, code in zip(self.log_frequencies, rows.codes.T, strict=True))


def mixture(fitted: Rows, held_out: Rows, seed: int) -> Array:
    cut, models = 3 * len(fitted.numbers) // 4, []
    for kind in ("full", "diagonal"):
        for k in N_COMPONENTS:
            if 4 * k < cut:
                score = Mixture(k, kind, seed).fit(fitted.taken(slice(None, cut))).score_samples(fitted.taken(slice(cut, None)))
                models.append((float(score.mean()), k, kind))
    _, k, kind = max(models)
    return Mixture(k, kind, seed).fit(fitted).score_samples(held_out)


def transformed(fitted: Rows, held_out: Rows, seed: int) -> Array:
    power, X = PowerTransformer().fit(fitted.numbers), held_out.numbers
    slope = np.sign(X) * (power.lambdas_ - 1) * np.log1p(np.abs(X)) - np.log(power._scaler.scale_)
    first, second = (Rows(power.transform(one.numbers), one.codes, one.frequencies) for one in (fitted, held_out))
    return mixture(first, second, seed) + slope.sum(1)


def forest(fitted: Rows, held_out: Rows, seed: int) -> Array:
    from arfpy import arf

    names = [f"x{place}" for place in range(fitted.numbers.shape[1])]
    frame = pd.DataFrame(fitted.numbers, columns=names)
    for place, (p, code) in enumerate(zip(fitted.frequencies, fitted.codes.T, strict=True)):
        frame[f"c{place}"] = pd.Categorical(code, categories=range(len(p)))
    np.random.seed(seed)  # noqa: NPY002
    model = arf.arf(x=frame, random_state=seed, verbose=False)
    found = model.forde()
    coverage = model.bnds[["tree", "nodeid", "cvg"]].drop_duplicates().set_index(["tree", "nodeid"])["cvg"]
    numbers = {key: part.set_index("variable").loc[names] for key, part in found["cnt"].groupby(["tree", "nodeid"])}
    categories = dict(list(found["cat"].groupby(["tree", "nodeid"])))
    log_densities = np.full((len(coverage), len(held_out.numbers)), -np.inf)
    for row, (key, share) in enumerate(coverage.items()):
        leaf = numbers[key]
        low, high = leaf["min"].to_numpy(), leaf["max"].to_numpy()
        inside = np.flatnonzero(((held_out.numbers > low) & (held_out.numbers <= high)).all(1))
        if len(inside):
            mean, deviation = leaf["mean"].to_numpy(), np.maximum(leaf["sd"].fillna(0).to_numpy(), SHARE)
            bounds = (low - mean) / deviation, (high - mean) / deviation
            log_p = truncnorm.logpdf(held_out.numbers[inside], *bounds, loc=mean, scale=deviation).sum(1)
            for place, p in enumerate(fitted.frequencies):
                part = categories[key][categories[key]["variable"] == f"c{place}"]
                probabilities = SHARE * p
                probabilities[part["value"].astype(int)] += (1 - SHARE) * part["prob"].to_numpy()
                log_p += np.log(probabilities)[held_out.codes[inside, place]]
            log_densities[row, inside] = np.log(share) + log_p
    log_forest = logsumexp(log_densities, 0) - np.log(coverage.sum())
    return np.logaddexp(np.log1p(-SHARE) + log_forest, np.log(SHARE) + log_apart(held_out))


METHODS: dict[str, Callable[[Rows, Rows, int], Array]] = {
    "apart": lambda fitted, held_out, seed: log_apart(held_out),
    "mixture": mixture,
    "mixture, transformed": transformed,
    "arfpy": forest,
}
MODEL = "CoupledVAE()"


def kinds_of(frame: pd.DataFrame) -> dict[str, str]:
    model = CoupledVAE(max_iter=1, random_state=0)
    model._rows(frame, fitting=True)  # the kinds of columns, without a fit
    return {column.name: "categorical" if column.kind == "categorical" else "gaussian" for column in model.columns_.columns}


def cell(frame: pd.DataFrame, method: str, seed: int) -> dict[str, float]:
    fitted, held_out = (part.reset_index(drop=True) for part in train_test_split(frame, random_state=seed))
    kinds = kinds_of(frame)
    categories = [name for name, kind in kinds.items() if kind == "categorical"]
    seen = np.logical_and.reduce([held_out[name].isin(fitted[name].unique()) for name in categories])
    held_out = held_out[seen].reset_index(drop=True)
    result = {"n": len(frame), "d": frame.shape[1], "n_categorical": len(categories), "left_out": int((~seen).sum())}
    begin = time.process_time()
    if method == MODEL:
        scores = CoupledVAE(random_state=seed, likelihood=kinds).fit(fitted).score_samples(held_out)
        scores += np.log(fitted.drop(columns=categories).std(ddof=0)).sum()
    else:
        scores = METHODS[method](*of_frames(fitted, held_out, categories), seed)
    return {**result, "nats": float(scores.mean()), "seconds": time.process_time() - begin}


def main() -> None:
    arguments = asked(__doc__.splitlines()[0], [*METHODS, MODEL])
    methods = [m for m in arguments.methods if m != "arfpy" or importlib.util.find_spec("arfpy") is not None]
    cells, lines, means = Cells("mixed_nats"), [], []
    for name in arguments.tables or [*arguments.files, *LOADERS]:
        frame = frame_of(name, arguments.folder).dropna()
        if len(set(kinds_of(frame).values())) < 2:
            continue
        line, row = [name, f"{frame.shape[0]} x {frame.shape[1]}"], []
        for method in methods:
            found = [
                cells.row(functools.partial(cell, frame, method, seed), table=name, method=method, seed=seed)
                for seed in arguments.seeds
            ]
            nats = [one["nats"] for one in found]
            spread = f" ± {np.std(nats, ddof=1):.2f}" if len(nats) > 1 else ""
            line.append(f"{np.mean(nats):.2f}{spread}")
            row.append(np.mean(nats))
        lines.append(line)
        means.append(row)
    ranks = (-np.array(means)).argsort(1).argsort(1) + 1
    lines.append(["mean rank", f"{len(means)} tables", *(f"{rank:.1f}" for rank in ranks.mean(0))])
    print(table(["table", "rows x columns", *methods], lines))


if __name__ == "__main__":
    main()
