r"""Rows of which some cells are missing: the density of what is observed, and draws of what is not.

All of it follows the law of samples, :math:`p(x, z) = p(z)\, p(x \mid z)` with matched noise,

.. math:: p(z \mid x_o) \propto p(z)\, p(x_o \mid z), \qquad x_m \sim p(x_m \mid x_o, z),

without the prior's potential of the coupling: that one is large between the modes, and only the cost of a whole row cancels it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skcvae._place import as_array
from skcvae.likelihoods import Family, Given
from skcvae.posteriors._coordinates import Coordinates, Gaussian
from skcvae.posteriors._encoder import Laplace, robust_gaussian
from skcvae.posteriors._local import FromPool, LocalDraws
from skcvae.posteriors._pool import Mixture, Scores

Array = NDArray[np.float64]
#: Draws of the pool that answer for rows with missing cells, at most: each pattern of these has keys of its own.
MOST_DRAWS = 2**12
#: Above this error, that of 25 effective draws, the pool's draws are too coarse for what is missing.
COARSE_ERROR = 0.2
#: Draws of z that a mean of missing cells is the average of.
DRAWS_OF_MEAN = 128
#: Numbers that draws of missing cells hold at once: 16 MiB.
NUMBERS_AT_ONCE = 2**21


@dataclass(frozen=True, eq=False)
class Partial:
    """What answers for rows of which some columns are observed, in double precision.

    Attributes
    ----------
    decoder : nn.Module
    family : Family, of samples with matched noise
    coordinates : Coordinates
    draws : Tensor of shape (m, k), of the prior
    log_weights : Tensor of shape (m,)
    is_local : bool, whether rows may have draws of their own
    """

    decoder: nn.Module
    family: Family
    coordinates: Coordinates
    draws: Tensor
    log_weights: Tensor
    is_local: bool

    @classmethod
    def of(
        cls, decoder: nn.Module, family: Family, coordinates: Coordinates, draws: Tensor, log_weights: Tensor, is_local: bool
    ) -> Partial:
        """By the first draws; by all of them where they are weighted, as atoms are."""
        if coordinates.distribution is not None:
            draws, log_weights = draws[:MOST_DRAWS], log_weights[:MOST_DRAWS]
        return cls(decoder, family, coordinates, draws, torch.log_softmax(log_weights, 0), is_local)

    @functools.cached_property
    def output(self) -> Tensor:
        """The decoder's output at the draws, (m, p)."""
        result: Tensor = self.decoder(self.draws)
        return result

    @functools.cached_property
    def prior(self) -> Gaussian:
        """Moments of the prior in the coordinates of proposals."""
        return robust_gaussian(self.coordinates.of(self.draws))

    def conditioned(self, observed: NDArray[np.bool_]) -> Conditioned:
        """What answers for rows of which these columns (d,) are observed; some are, and some are not."""
        given = self.family.given(observed)
        family, selected = given.family.to(self.draws), given.selected.to(self.draws)
        return Conditioned(given, self._density(family, nn.Sequential(self.decoder, selected), selected(self.output)), self)

    @functools.cached_property
    def whole(self) -> Mixture | LocalDraws:
        """The density of whole rows, by the same draws."""
        return self._density(self.family, self.decoder, self.output)

    def _density(self, family: Family, decoder: nn.Module, output: Tensor) -> Mixture | LocalDraws:
        """The density of rows of a family, with its decoder and the outputs (m, p) of this at the draws."""
        key, normaliser = family.natural(output)
        mixture = Mixture(Scores(key, self.log_weights - normaliser), family)
        if not self.is_local:
            return mixture
        laplace = Laplace(decoder, family, self.coordinates, self.prior)
        return LocalDraws(FromPool(laplace, mixture, self.draws), self.coordinates, decoder, self.draws, mixture)

    def completed(self, X: Array, n_draws: int, rng: np.random.Generator) -> Array:
        """Rows (n, d) with NaN where cells are missing, with draws of these given the others, (n, n_draws, d)."""
        result = np.repeat(X[:, None], n_draws, 1)
        for observed, places in patterns(X):
            if not observed.any():
                result[places] = self._sampled(len(places) * n_draws, rng).reshape(len(places), n_draws, -1)
            elif not observed.all():
                conditioned = self.conditioned(observed)
                for some in _blocks(places, n_draws * X.shape[1]):
                    result[np.ix_(some, np.arange(n_draws), ~observed)] = conditioned.drawn(X[some], n_draws, rng)
        return result

    def expected(self, X: Array, rng: np.random.Generator) -> Array:
        """The same with the means of missing cells given the others, (n, d)."""
        result = np.array(X)
        for observed, places in patterns(X):
            if not observed.any():
                cells = self.family.cells(as_array(self.family.noise(self._drawn(len(self.draws), rng), rng)))
                result[places] = self.family.closed(cells.mean(0, keepdims=True))
            elif not observed.all():
                conditioned = self.conditioned(observed)
                for some in _blocks(places, DRAWS_OF_MEAN * X.shape[1]):
                    result[np.ix_(some, ~observed)] = conditioned.expected(X[some], rng)
        return result

    def _sampled(self, n_samples: int, rng: np.random.Generator) -> Array:
        """Whole rows, (n_samples, d), by the draws of the pool."""
        rows = self.family.restore(as_array(self.family.noise(self._drawn(n_samples, rng), rng)))
        return self.family.disturbed(rows, rng)

    def _drawn(self, n_samples: int, rng: np.random.Generator) -> Tensor:
        """The decoder's outputs at draws of the prior, (n_samples, p)."""
        weights = as_array(self.log_weights.exp())
        return self.output[torch.as_tensor(rng.choice(len(weights), n_samples, p=weights / weights.sum()))]


@dataclass(frozen=True, eq=False)
class Conditioned:
    """What answers for rows that have the same columns observed.

    Attributes
    ----------
    given : Given
    density : Mixture or LocalDraws, of the observed columns
    whole : Partial
    """

    given: Given
    density: Mixture | LocalDraws
    whole: Partial

    def standardised(self, X: Array) -> Tensor:
        """The observed cells of rows (n, d) in the units of their likelihood, (n, o)."""
        return torch.as_tensor(self.given.family.standardise(X[:, self.given.observed])).to(self.whole.draws)

    def drawn(self, X: Array, n_draws: int, rng: np.random.Generator) -> Array:
        """Draws of the missing cells of rows (n, d) given those that are observed, (n, n_draws, q)."""
        rows = np.repeat(X, n_draws, 0)
        output, log_density = self._outputs(X, n_draws, rng)
        cells = self.given.drawn(output, rows, rng)
        if self.given.background is not None:
            is_broad = rng.random(len(rows)) >= np.repeat(self._kept(X, log_density), n_draws)
            cells[is_broad] = self.given.drawn_broad(rows[is_broad], rng)
        return cells.reshape(len(X), n_draws, -1)

    def expected(self, X: Array, rng: np.random.Generator) -> Array:
        """Means of the missing cells of rows (n, d) given those that are observed, (n, q)."""
        rows = np.repeat(X, DRAWS_OF_MEAN, 0)
        output, log_density = self._outputs(X, DRAWS_OF_MEAN, rng)
        means = self.given.expected(output, rows).reshape(len(X), DRAWS_OF_MEAN, -1).mean(1)
        if self.given.background is not None:
            kept = self._kept(X, log_density)[:, None]
            means = kept * means + (1 - kept) * self.given.expected_broad(X)
        return self.given.closed(means)

    def _outputs(self, X: Array, n_draws: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Decoder outputs at draws of z given the observed cells of rows (n, d), (n n_draws, p), and the density of these, (n,)."""
        x = self.standardised(X)
        if not isinstance(self.density, LocalDraws):
            output = self.whole.output[self.density.places(x, n_draws, rng).flatten()]
            return output, self.density.log_density(x)[0]
        places, poor, z, log_density = self.density.sampled(x, n_draws, rng, COARSE_ERROR)
        output = self.whole.output[places]
        if len(poor):
            output[poor] = self.whole.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return output.flatten(0, 1), log_density

    def _kept(self, X: Array, log_density: Tensor) -> Array:
        """The probability that the model explains each row, by the density of its observed cells under the model, (n,)."""
        family, cells = self.given.family, X[:, self.given.observed]
        broad = family.broad(cells)
        assert family.background is not None, "asked where some rows are broad noise"
        assert broad is not None, "which has a density"
        kept: Array = family.background.kept(as_array(log_density) - family.log_volumes(cells), broad)
        return kept


def _blocks(places: NDArray[np.intp], width: int) -> list[NDArray[np.intp]]:
    """Places of rows, in parts of so many rows as hold few numbers of a width each."""
    length = max(1, NUMBERS_AT_ONCE // width)
    return [places[begin : begin + length] for begin in range(0, len(places), length)]


def patterns(X: NDArray) -> list[tuple[NDArray[np.bool_], NDArray[np.intp]]]:
    """Which columns (d,) are observed, and the places of the rows (n, d) of which these are, for each set of columns."""
    observed, inverse = np.unique(~np.isnan(X), axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    ends = np.bincount(inverse.ravel(), minlength=len(observed)).cumsum()
    return list(zip(observed, np.split(order, ends[:-1]), strict=True))
