"""The noise of a table: the covariance of what a decoder leaves of rows that it has not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from skcvae._data import Table, some
from skcvae._fitted import Fit
from skcvae._place import HOST, as_array
from skcvae._training import Pace
from skcvae.likelihoods import (
    GaussianLikelihood,
    Likelihood,
    MappedGaussian,
    RowMap,
    begun,
    halves,
    mean_of_rows,
    updated,
    variance_of_rows,
)

#: How often the covariance is found anew.
N_PASSES = 2
#: Rows of which it is found, at most.
MOST_ROWS = 8192
#: Draws from a row's posterior that its residuals are averaged over.
N_DRAWS = 16
#: Standard errors by which one Gaussian must be ahead in the rows held out to be preferred.
CLEARLY = 2.0

Fitting = Callable[[Likelihood, Table, int], Fit]
Found = tuple[float, NDArray[np.float64], NDArray[np.float64]]


def cross_fitted(
    likelihood: GaussianLikelihood,
    table: Table,
    n_components: int,
    fit: Fitting,
    pace: Pace,
    rng: np.random.Generator,
    found: list[Found],
    keep: Callable[[list[Found]], None],
) -> RowMap | None:
    r"""The map of rows with the covariance of the noise, found by fits to each half of the rows, each asked of the other half.

    Of rows B that were not fitted the residuals' second moment is

    .. math:: S_B = \frac1{|B|} \sum_{i \in B} E_{p(z \mid x_i)} (x_i - \mu(z)) (x_i - \mu(z))^T

    and the noise is put to the average of the halves. It begins with the rows' covariance, in which the first axes are small.

    Parameters
    ----------
    likelihood : GaussianLikelihood, with covariance="residual"
    table : Table
    n_components : int
    fit : callable, a short fit of a likelihood to some rows by a seed
    pace : Pace, told of the fits; when the time is over the noise stays as it is by then
    rng : np.random.Generator
    found : list, what earlier fits have found: how many rows B counts as, S_B, and by how much they were ahead of one Gaussian
    keep : callable, told of this list after every fit

    Returns
    -------
    RowMap, or None where there are too few rows, or where one Gaussian is clearly ahead in the rows held out
    """
    index = some(len(table.X), MOST_ROWS, rng)
    asked = table if index is None else table.taken(index.numpy())
    asked = Table(asked.X.astype(np.float64, copy=False), asked.weights)
    begin = begun(likelihood, asked.X, asked.weights, n_components)
    if begin is None:
        return None
    row_map, smallest = begin
    first = halves(asked.X)
    pairs = [(asked.taken(first), asked.taken(~first)), (asked.taken(~first), asked.taken(first))]
    seeds = rng.integers(2**31, size=2 * N_PASSES)
    for number in range(N_PASSES):
        for half, (fitted, other) in enumerate(pairs):
            place = 2 * number + half
            if place < len(found):
                continue
            if pace.is_over:
                return None if number == 0 else row_map
            pace.begin(f"noise, fit {place + 1} of {2 * N_PASSES}", 1)
            record = fit(MappedGaussian(row_map), fitted, int(seeds[place]))
            ahead = np.zeros(0)
            if number == 0:  # whose noise has seen neither half alone
                ahead = scores(record, other.X) - row_map.one_gaussian(fitted.X, fitted.weights, other.X)
            moment = residual_moment(record, other, np.random.default_rng(seeds[place]))
            found.append((float(other.counts.sum()), moment, ahead))
            keep(found)
            pace.advance()
        gain, error = _gain(found, pairs)
        if gain < -CLEARLY * error:
            return None
        note = f"covariance of rows that the decoder has not seen, {gain:.2f} nats ahead of one Gaussian in them at first"
        moments = [(n, second) for n, second, _ in found[2 * number : 2 * number + 2]]
        row_map = row_map.whitening(updated(row_map.covariance, moments, smallest), note)
    return row_map


def _gain(found: list[Found], pairs: list[tuple[Table, Table]]) -> tuple[float, float]:
    """By how much the fits of the first pass are ahead of one Gaussian in the rows held out, and the standard error."""
    values = np.concatenate([ahead for _, _, ahead in found[:2]])
    weights = np.concatenate([other.counts for _, other in pairs])
    mean, variance = float(mean_of_rows(values, weights)), float(variance_of_rows(values, weights))
    return mean, float(np.sqrt(variance / weights.sum()))


@torch.no_grad()
def scores(record: Fit, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-likelihood of rows (n, d) by draws of the prior, (n,)."""
    model = record.at(HOST)
    log_density = as_array(model.inference.density(0).log_density(model.standardised(X))[0])
    result: NDArray[np.float64] = log_density - record.family.log_volumes(X)
    return result


@torch.no_grad()
def residual_moment(record: Fit, table: Table, rng: np.random.Generator) -> NDArray[np.float64]:
    """S_B of rows, (d, d), in the units of the columns' transforms."""
    model = record.at(HOST)
    x, row_map = model.standardised(table.X), record.family.row_map
    assert row_map is not None, "rows are whitened"
    assert row_map.factor is not None, "by a covariance"
    residual = x[:, None] - model.inference.density().means(x, N_DRAWS, rng)
    weights = torch.as_tensor(table.counts)
    moment = torch.einsum("n,nsc,nsd->cd", weights / weights.sum() / N_DRAWS, residual, residual)
    factor = record.family.unit * row_map.factor
    result: NDArray[np.float64] = factor @ moment.numpy() @ factor.T
    return result
