"""What halves of the rows say before a fit: the noise of a table, and the number of components."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skcvae import _memory, _processes
from skcvae._data import Table, some
from skcvae._fitted import Evidence, Fit
from skcvae._place import HOST, as_array
from skcvae._training import Pace
from skcvae.likelihoods import (
    Background,
    GaussianLikelihood,
    Likelihood,
    MappedGaussian,
    RowMap,
    alone_among,
    begun,
    halves,
    mean_of_rows,
    updated,
    variance_of_rows,
)

Array = NDArray[np.float64]
#: How often the covariance is found anew.
N_PASSES = 2
#: Rows of which it is found, at most.
MOST_ROWS = 8192
#: Draws from a row's posterior that its residuals are averaged over, and of a row's own proposal that its score takes.
N_DRAWS, SCORE_DRAWS = 16, 64
#: Standard errors by which one must be ahead of the other in the rows held out to be clearly better.
CLEARLY = 2.0
#: The share of broad noise by which rows have no say in the noise, at most: a model that is not right yet explains few of them.
MOST_BROAD = 0.01
#: And that of the rows of a mixed table: its columns are independent in broad noise, so that more of it would hide dependence.
MOST_BROAD_MIXED = 0.002
#: Numbers of components that are compared.
CANDIDATES = (1, 2, 3, 5, 8, 13)

Fitting = Callable[[Likelihood, Table, int], Fit]


@dataclass(eq=False)
class Trials:
    """Short fits, one after the other; what an interrupted fit has found by some of them is not sought again.

    Attributes
    ----------
    pace : Pace, told of the fits
    found : list, what earlier fits have found, plain data and arrays
    keep : callable, told of this list after every fit
    """

    pace: Pace
    found: list[Any] = field(default_factory=list)
    keep: Callable[[list[Any]], None] = lambda found: None
    n_asked: int = 0

    @property
    def is_over(self) -> bool:
        """Whether what comes next is not known, and there is no time to seek it."""
        return self.n_asked == len(self.found) and self.pace.is_over

    def next(self, description: str, seek: Callable[[], Any]) -> Any:
        """What the next fit has found."""
        if self.n_asked == len(self.found):
            self.pace.begin(description, 1)
            self.found.append(seek())
            self.keep(self.found)
            self.pace.advance()
        self.n_asked += 1
        return self.found[self.n_asked - 1]


@dataclass(frozen=True, eq=False)
class Halved:
    """Rows of which each half is asked of what a fit to the other has found.

    Attributes
    ----------
    whole : Table, in double precision
    first : array of shape (n,), whether each of its rows is in the first half
    pairs : list of (Table, Table), which is fitted and which is asked
    """

    whole: Table
    first: NDArray[np.bool_]
    pairs: list[tuple[Table, Table]]

    @classmethod
    def of(cls, table: Table, rng: np.random.Generator) -> Halved:
        """Halves of a table, or of some of its rows where they are many."""
        index = some(len(table.X), MOST_ROWS, rng)
        taken = table if index is None else table.taken(index.numpy())
        whole = Table(taken.X.astype(np.float64, copy=False), taken.weights)
        first = halves(whole.X)
        one, two = whole.taken(first), whole.taken(~first)
        return cls(whole, first, [(one, two), (two, one)])

    @property
    def counts(self) -> Array:
        """How many rows each row counts as, in the order in which they are asked, (n,)."""
        return np.concatenate([asked.counts for _, asked in self.pairs])

    def compared(self, values: Array) -> tuple[float, float]:
        """Mean of values (n,) of the rows in this order, and its standard error."""
        mean, variance = float(mean_of_rows(values, self.counts)), float(variance_of_rows(values, self.counts))
        return mean, float(np.sqrt(variance / self.counts.sum()))


def cross_fitted(
    likelihood: Likelihood, halved: Halved, n_components: int, fit: Fitting, trials: Trials, rng: np.random.Generator
) -> tuple[MappedGaussian | None, Array | None]:
    r"""Gaussian noise whose covariance is found by fits to each half of the rows, each asked of the other half.

    Of rows B that were not fitted the residuals' second moment is

    .. math:: S_B = \frac{\sum_{i \in B} w_i\, E_{p(z \mid x_i)} (x_i - \mu(z)) (x_i - \mu(z))^T}{\sum_{i \in B} w_i}

    with :math:`w_i` the probability that the model explains row i and broad noise does not, and the noise is put to the average of
    the halves. It begins with the rows' covariance, in which the first axes are small.

    Parameters
    ----------
    likelihood : Likelihood, whose Gaussian part has covariance="residual"
    halved : Halved
    n_components : int
    fit : callable, a short fit of a likelihood to some rows by a seed
    trials : Trials; when the time is over the noise stays as it is by then
    rng : np.random.Generator

    Returns
    -------
    MappedGaussian, or None where there are too few rows, or where one Gaussian is clearly ahead in the rows held out
    array of shape (n,), scores of the rows by the last fits that have not seen them; None where there were none
    """
    seeds = rng.integers(2**31, size=2 * N_PASSES)
    columns = likelihood.number_columns(halved.whole.X.shape[1])
    assert isinstance(likelihood.numbers, GaussianLikelihood), "no other noise is cross-fitted"
    begin = begun(likelihood.numbers, halved.whole.X[:, columns], halved.whole.weights, n_components)
    if begin is None:
        return None, None
    row_map, smallest, background, is_alone = begin
    explicable = [~is_alone[halved.first], ~is_alone[~halved.first]]
    found, scores = None, None
    for number in range(N_PASSES):
        results = []
        for half, (fitted, asked) in enumerate(halved.pairs):
            if trials.is_over:
                return found, scores
            what = f"{n_components} components, noise, fit {2 * number + half + 1} of {2 * N_PASSES}"
            seed, taken = int(seeds[2 * number + half]), fitted.taken(explicable[half])
            seek = functools.partial(_residuals, likelihood, row_map, smallest, fit, fitted, taken, asked, seed)
            results.append(trials.next(what, seek))
        model, broad = (np.concatenate([result[place] for result in results]) for place in (2, 3))
        background = background.with_share(model, broad, halved.counts)
        if len(columns) < halved.whole.X.shape[1]:
            background = replace(background, share=min(background.share, MOST_BROAD_MIXED))
        scores = background.mixed(model, broad)
        if number == 0:  # whose noise has seen neither half alone
            gaussian = [_one_gaussian(likelihood, row_map, fitted, asked) for fitted, asked in halved.pairs]
            gain, error = halved.compared(scores - np.concatenate(gaussian))
            if gain < -CLEARLY * error:
                return None, scores
        note = f"covariance of rows that the decoder has not seen, {gain:.2f} nats ahead of one Gaussian in them at first"
        row_map = row_map.whitening(updated(row_map.covariance, [result[:2] for result in results], smallest), note)
        found = MappedGaussian(row_map, background)
    return found, scores


def _one_gaussian(likelihood: Likelihood, row_map: RowMap, fitted: Table, asked: Table) -> Array:
    """Log-density of rows that are asked under one Gaussian of their numbers, (m,), with the other columns apart."""
    columns = likelihood.number_columns(fitted.X.shape[1])
    of_numbers = row_map.one_gaussian(fitted.X[:, columns], fitted.weights, asked.X[:, columns])
    return of_numbers + likelihood.log_marginal(fitted.X, fitted.weights, asked.X)


def rows_alone(noise: MappedGaussian, X: NDArray, some_rows: Table) -> NDArray[np.bool_]:
    """Which rows of numbers (n, d) are far from all others, of which some rows tell, (n,): no decoder explains them."""
    are_alone = alone_among(noise.row_map.columns(some_rows.X), some_rows.weights)
    blocks = _memory.blocks(X)
    found = [are_alone(noise.row_map.columns(block.astype(np.float64, copy=False))) for block in blocks]
    return np.concatenate(_processes.gathered(np.concatenate([np.zeros(0, bool), *found])))


def farthest_column(noise: MappedGaussian, row: Array) -> int:
    """The column in which a row (d,) is farthest off."""
    assert noise.background is not None, "asked of a row that is far off"
    y, spread = noise.row_map.columns(row[None])[0], np.sqrt(np.diag(noise.background.scatter))
    return int((np.abs(y - noise.background.location) / spread).argmax())


def scored(
    likelihood: Likelihood, halved: Halved, n_components: int, fit: Fitting, trials: Trials, rng: np.random.Generator
) -> Array | None:
    """Scores of the rows by fits that have not seen them, (n,), or None when the time is over."""
    results = []
    for half, (fitted, asked) in enumerate(halved.pairs):
        seed = int(rng.integers(2**31))
        if trials.is_over:
            return None

        def seek(fitted: Table = fitted, asked: Table = asked, seed: int = seed) -> Array:
            return held_out_scores(fit(likelihood, fitted, seed), asked.X)

        results.append(trials.next(f"{n_components} components, fit {half + 1} of 2", seek))
    return np.concatenate(results)


def _residuals(
    likelihood: Likelihood,
    row_map: RowMap,
    smallest: Array,
    fit: Fitting,
    fitted: Table,
    taken: Table,
    asked: Table,
    seed: int,
) -> tuple[float, Array, Array, Array]:
    """Of rows that are asked how many the model explains, S_B, and scores (m,) under the model and under broad noise."""
    record = fit(likelihood.with_numbers(MappedGaussian(row_map)), taken, seed)
    columns = likelihood.number_columns(fitted.X.shape[1])
    numbers = asked.X[:, columns]
    background = Background.of(row_map.columns(fitted.X[:, columns]), fitted.weights, smallest)
    broad = background.log_density(row_map.columns(numbers)) + row_map.log_slope(numbers)
    broad = broad + likelihood.log_marginal(fitted.X, fitted.weights, asked.X)
    scores = held_out_scores(record, asked.X)
    share = background.with_share(scores, broad, asked.weights).share
    kept = replace(background, share=min(share, MOST_BROAD)).kept(scores, broad)
    is_off = kept @ asked.counts < 0.5 * asked.counts.sum()  # it is the model then that is wrong, and not the rows
    explained = asked if is_off else Table(asked.X, kept * asked.counts)
    moment = residual_moment(record, explained, np.random.default_rng(seed))
    return float(explained.counts.sum()), moment, scores, broad


@dataclass(eq=False)
class Comparison:
    """Numbers of components in the order in which they are tried, with the scores (n,) of rows that their fits have not seen."""

    halved: Halved
    scores: dict[int, Array] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The number with the highest mean score."""
        return max(self.scores, key=lambda k: self.halved.compared(self.scores[k])[0])

    def behind(self, k: int) -> tuple[float, float]:
        """By how much a number is behind the best in the rows held out, and the standard error."""
        return self.halved.compared(self.scores[self.best] - self.scores[k])

    @property
    def is_decided(self) -> bool:
        """Whether the last number is clearly behind."""
        gap, error = self.behind(list(self.scores)[-1])
        return gap > CLEARLY * error

    def evidence(self) -> Evidence:
        """What is kept of it: the smallest number within one standard error of the best is chosen."""
        gaps = [self.behind(k) for k in self.scores]
        chosen = next(k for k, (gap, error) in zip(self.scores, gaps, strict=True) if gap <= error)
        means = [self.halved.compared(values)[0] for values in self.scores.values()]
        return Evidence(tuple(self.scores), np.array(means), np.array([error for _, error in gaps]), chosen)


@torch.no_grad()
def held_out_scores(record: Fit, X: Array) -> Array:
    """Log-likelihood of rows (n, d), (n,), without broad noise."""
    model = record.at(HOST)
    own = model.inference.density(SCORE_DRAWS).log_density(model.standardised(X[_processes.part(len(X))]))[0]
    result: Array = as_array(_processes.joined(own, len(X))) - record.family.log_volumes(X)
    return result


@torch.no_grad()
def residual_moment(record: Fit, table: Table, rng: np.random.Generator) -> Array:
    """S_B of the numbers of rows, (d, d), in the units of the columns' transforms."""
    model, numbers = record.at(HOST), record.family.numbers
    assert numbers is not None, "rows have them"
    assert numbers.row_map is not None, "and they are whitened"
    assert numbers.row_map.factor is not None, "by a covariance"
    own = _processes.part(len(table.X))
    x, weights = model.standardised(table.X[own]), torch.as_tensor(table.counts)
    residual = (x[:, None] - model.inference.density().means(x, N_DRAWS, rng))[:, :, : numbers.n_features]
    moment = torch.einsum("n,nsc,nsd->cd", (weights / weights.sum() / N_DRAWS)[own], residual, residual)
    moment = _processes.summed(moment)
    factor = numbers.unit * numbers.row_map.factor
    result: Array = factor @ moment.numpy() @ factor.T
    return result
