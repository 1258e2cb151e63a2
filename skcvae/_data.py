"""The rows of a fit: standardised and held, or read from the caller's array as they are asked for where they are too many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcvae import _memory, _processes
from skcvae._checks import check_sample_weight
from skcvae._memory import slices
from skcvae._place import Place
from skcvae.likelihoods import Family, mean_of_rows

#: Numbers that are held standardised, 128 MiB in float32; more are read when they are needed.
MOST_HELD = 2**25
#: Rows of a pass over weighted data in minibatches, unless they are more themselves: weights may count a row a million times.
MOST_VISITS = 2**20
#: Rows that stand for all where location, scale or principal axes are estimated, and their numbers, 128 MiB in double precision.
MOST_ASKED, MOST_NUMBERS = 65536, 2**24


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of data as the user gave them.

    Attributes
    ----------
    X : array of shape (n, d), in memory or on disk (`numpy.memmap`)
    weights : array of shape (n,) with a whole sum, how many rows each counts as; or None where each counts once
    """

    X: NDArray
    weights: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, X: NDArray, sample_weight: object) -> Table:
        """Checked rows with the user's weights; those of weight 0 are left out."""
        if sample_weight is None:
            return cls(X)
        weights = check_sample_weight(sample_weight, len(X))
        if not weights.all():
            X, weights = X[weights > 0], weights[weights > 0]
        return cls(X, None if (weights == 1).all() else weights)

    @property
    def counts(self) -> NDArray[np.float64]:
        """How many rows each row counts as, (n,)."""
        return np.ones(len(self.X)) if self.weights is None else self.weights

    def taken(self, index: NDArray) -> Table:
        """Some of the rows."""
        return Table(self.X[index], None if self.weights is None else self.weights[index])


@dataclass(frozen=True, eq=False)
class Judges:
    """Rows by whose likelihood fits are compared: x (n, d), standardised, with weights (n,) or None.

    `log_volume` is the mean log-determinant of the map from standardised units to the data's at these rows. If some rows are broad
    noise, `log_kept` is the logarithm of the share of those that are none, and `broad` (n,) the log-density of the noise's share.
    """

    x: Tensor
    weights: Tensor | None = None
    log_volume: float = 0.0
    log_kept: float = 0.0
    broad: Tensor | None = None

    def blocks(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The rows and their weights, in blocks."""
        return ((self.x[rows], None if self.weights is None else self.weights[rows]) for rows in slices(*self.x.shape))

    def mean(self, values: Tensor) -> float:
        """The mean by the weights of log-densities (n,) under the model."""
        if self.broad is not None:
            values = torch.logaddexp(self.log_kept + values, self.broad.to(values))
        return float(values.mean() if self.weights is None else mean_of_rows(values, self.weights.to(values)))


class Data:
    """The data of a fit as a likelihood standardises them, in training precision where the fit computes.

    Parameters
    ----------
    table : Table, the rows and what they count
    family : Family, whose units count
    temperature : float, to which the precision must be enough
    device : torch.device
    dtype : torch.dtype or None, a precision that is chosen already, such as that of the parts before

    Attributes
    ----------
    place : Place, precision and device of the rows
    held : Tensor of shape (n, d) or None where the rows are too many to hold
    total : int, how many rows they count as
    n_visits : int, rows of one pass over the data in minibatches
    """

    def __init__(
        self, table: Table, family: Family, temperature: float, device: torch.device, dtype: torch.dtype | None = None
    ) -> None:
        self._X, self._weights, self._family = table.X, table.weights, family
        self.place = Place(self.precision(family, temperature) if dtype is None else dtype, device)
        self.held = None if self._X.size > MOST_HELD else torch.cat(list(self.blocks()))
        self.total = len(self) if self._weights is None else round(self._weights.sum())
        self.n_visits = len(self) if self._weights is None else min(self.total, max(len(self), MOST_VISITS))
        self._is_whole = self._weights is None or (self.n_visits == self.total and not (self._weights % 1).any())

    def __len__(self) -> int:
        return len(self._X)

    @property
    def n_features(self) -> int:
        """Width of a standardised row."""
        return self._family.n_features

    def precision(self, family: Family, temperature: float) -> torch.dtype:
        """The precision that the costs of all rows need under a family in these units."""
        blocks = (torch.as_tensor(self._family.standardise(block)) for block in _memory.blocks(self._X))
        is_double = torch.float64 in (family.training_dtype(block, temperature) for block in blocks)
        return torch.float64 if _processes.is_any(is_double) else torch.float32

    @property
    def index_device(self) -> torch.device:
        """Where places of rows are looked up."""
        return torch.device("cpu") if self.held is None else self.held.device

    def rows(self, index: Tensor | None) -> Tensor:
        """Rows (m, d) of given places, or all for None."""
        if self.held is not None:
            return self.held if index is None else self.held[index.to(self.index_device)]
        return torch.cat(list(self.blocks())) if index is None else self._read(index.numpy())

    def blocks(self) -> Iterator[Tensor]:
        """All rows, in blocks."""
        return (self._read(rows) for rows in slices(len(self), self.n_features))

    def weighted_blocks(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """All rows and how many each counts as, in blocks."""
        return ((self._read(rows), self.counts(rows)) for rows in slices(len(self), self.n_features))

    def counts(self, index: Tensor | slice | None) -> Tensor | None:
        """How many rows those of given places, or all for None, count as, (m,); None where each counts once."""
        if self._weights is None:
            return None
        return self.place.tensor(self._weights if index is None else self._weights[index])

    def log_weights(self, index: Tensor | None) -> Tensor | None:
        """Logs of the weights of rows of given places, or all for None, over their mean, (m,); None where each counts once."""
        if self._weights is None:
            return None
        weights = self._weights if index is None else self._weights[index]
        return self.place.tensor(np.log(weights / weights.mean()))

    def order(self, generator: torch.Generator) -> Tensor:
        """Places (n_visits,) of the rows of one pass, in random order: as often as a row counts, to one visit more or less."""
        positions = torch.randperm(self.n_visits, generator=generator)
        if self._is_whole:
            return self._visited(positions)
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        return self._visited((positions + offset) * (self.total / self.n_visits))

    def random(self, n_draws: int, rng: np.random.Generator) -> Tensor:
        """Places (n_draws,) of rows drawn by how many they count as."""
        at = rng.integers(self.total, size=n_draws) if self._is_whole else self.total * rng.random(n_draws)
        return self._visited(torch.as_tensor(at))

    def _visited(self, at: Tensor) -> Tensor:
        """Places of the rows at points (m,) in [0, total), of which each has an interval as long as its weight."""
        if self._weights is None:
            return at
        return torch.searchsorted(torch.as_tensor(self._weights).cumsum(0), at, right=True).clamp(max=len(self) - 1)

    def some(self, n_rows: int, rng: np.random.Generator) -> Tensor | None:
        """Places (n_rows,) of different random rows, in order, or None where there are no more than that."""
        return some(len(self), n_rows, rng)

    def representative(self, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """Standardised rows that stand for all, and how many each counts as."""
        index = representative(len(self), self.n_features, rng)
        return self.rows(index), self.counts(index)

    def _read(self, index: NDArray[np.intp] | slice) -> Tensor:
        return self.place.tensor(self._standardised(index))

    def _standardised(self, index: NDArray[np.intp] | slice) -> NDArray[np.float64]:
        return self._family.standardise(self._X[index])


def some(n: int, n_asked: int, rng: np.random.Generator) -> Tensor | None:
    """Places (n_asked,) of different random ones of n rows, in order, or None where there are no more than that."""
    return None if n <= n_asked else torch.as_tensor(np.sort(rng.choice(n, n_asked, replace=False)))


def representative(n: int, width: int, rng: np.random.Generator) -> Tensor | None:
    """Places of rows of this width that stand for n where moments and axes are estimated, or None for all."""
    return some(n, max(2, min(MOST_ASKED, MOST_NUMBERS // width)), rng)
