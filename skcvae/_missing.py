"""Missing cells of rows that are fitted: draws given the observed ones, of a Gaussian copula first, then of the model itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import QuantileTransformer

from skcvae._data import Table
from skcvae._fitted import Fit
from skcvae._place import HOST
from skcvae.likelihoods import gaussian_parts
from skcvae.posteriors import patterns

Array = NDArray[np.float64]
#: Short fits whose draws complete the rows for the next one.
N_ROUNDS = 2
#: Quantiles of a column, at most.
MOST_QUANTILES = 1000
#: Of correlations of pairs, the smallest eigenvalue.
SMALLEST_EIGENVALUE = 0.01
#: Observed cells that say whether a column takes few values, at least.
FEWEST_OBSERVED = 20


def completed(table: Table, fit: Callable[[Table, int], Fit], rng: np.random.Generator) -> Table:
    """The rows with draws of their missing cells, after some short fits to rows that were completed so before."""
    X = np.ascontiguousarray(table.X, dtype=np.float64)
    filled = Table(_by_copula(X, rng), table.weights)
    for _ in range(N_ROUNDS):
        filled = redrawn(Table(X, table.weights), fit(filled, int(rng.integers(2**31))), rng)
    return filled


@torch.no_grad()
def redrawn(table: Table, record: Fit, rng: np.random.Generator) -> Table:
    """The rows with draws of their missing cells by a fitted model."""
    X, partial = np.ascontiguousarray(table.X, dtype=np.float64), record.at(HOST).partial
    assert partial is not None, "in double precision there is one"
    return Table(_snapped(partial.completed(X, 1, rng)[:, 0], X), table.weights)


def _by_copula(X: Array, rng: np.random.Generator) -> Array:
    """Rows (n, d) completed by a Gaussian copula with the correlations of pairs of columns.

    Columns become normal scores by their ranks, so that what comes back is within the observed values.
    """
    ranks = QuantileTransformer(n_quantiles=min(MOST_QUANTILES, len(X)), output_distribution="normal", subsample=None)
    scores = ranks.fit_transform(X)
    mean = np.nanmean(scores, axis=0)  # far from 0 where many cells have one value
    scores -= mean
    correlation = _correlation(scores)
    for observed, places in patterns(X):
        if observed.all():
            continue
        _, gain, factor = gaussian_parts(correlation, observed)
        noise = rng.standard_normal((len(places), len(factor))) @ factor.T
        scores[np.ix_(places, ~observed)] = scores[np.ix_(places, observed)] @ gain.T + noise
    return _snapped(np.where(np.isnan(X), ranks.inverse_transform(scores + mean), X), X)


def _correlation(scores: Array) -> Array:
    """Correlations (d, d) of normal scores (n, d) by the rows that have both columns, with a factor."""
    is_there = ~np.isnan(scores)
    count = is_there.T.astype(np.float64) @ is_there
    present = np.where(is_there, scores, 0)
    spread = np.sqrt(np.square(present).sum(0) / np.diag(count))
    spread[spread == 0] = 1.0
    pairs = (present / spread).T @ (present / spread) / np.maximum(count, 1)
    values, axes = np.linalg.eigh(np.where(np.eye(len(pairs)) > 0, 1.0, np.clip(pairs, -1, 1)))
    whole = (axes * np.maximum(values, SMALLEST_EIGENVALUE)) @ axes.T
    length = spread / np.sqrt(np.diag(whole))
    result: Array = whole * length * length[:, None]
    return result


def _snapped(filled: Array, X: Array) -> Array:
    """Rows (n, d) with the missing cells of columns that take few values put to the nearest of these."""
    for column, cells in zip(filled.T, X.T, strict=True):
        values = np.unique(cells[~np.isnan(cells)])
        is_missing = np.isnan(cells)
        n_observed = int((~is_missing).sum())
        if is_missing.any() and n_observed >= FEWEST_OBSERVED and len(values) ** 2 <= n_observed:
            middles = (values[1:] + values[:-1]) / 2
            column[is_missing] = values[np.searchsorted(middles, column[is_missing])]
    return filled
