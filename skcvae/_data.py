"""The rows of a fit: standardised and held, or read from the caller's array as they are asked for where they are too many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcvae._memory import slices
from skcvae._place import Place
from skcvae.likelihoods import Family

#: Numbers that are held standardised, 128 MiB in float32; more are read when they are needed.
MOST_HELD = 2**25
#: Rows that stand for all where location, scale or principal axes are estimated, and their numbers, 128 MiB in double precision.
MOST_ASKED, MOST_NUMBERS = 65536, 2**24


class Data:
    """The data of a fit as a likelihood standardises them, in training precision where the fit computes.

    Parameters
    ----------
    X : array of shape (n, d), in memory or on disk (`numpy.memmap`)
    family : Family, whose units count
    temperature : float, to which the precision must be enough
    device : torch.device
    dtype : torch.dtype or None, a precision that is chosen already, such as that of the parts before

    Attributes
    ----------
    place : Place, precision and device of the rows
    held : Tensor of shape (n, d) or None where the rows are too many to hold
    """

    def __init__(
        self, X: NDArray, family: Family, temperature: float, device: torch.device, dtype: torch.dtype | None = None
    ) -> None:
        self._X, self._family = X, family
        self.place = Place(self.precision(family, temperature) if dtype is None else dtype, device)
        self.held = None if X.size > MOST_HELD else torch.cat(list(self.blocks()))

    def __len__(self) -> int:
        return len(self._X)

    @property
    def n_features(self) -> int:
        """Width d of a row."""
        return self._X.shape[1]

    def precision(self, family: Family, temperature: float) -> torch.dtype:
        """The precision that the costs of all rows need under a family in these units."""
        places = slices(len(self), self.n_features)
        found = (family.training_dtype(torch.as_tensor(self._standardised(rows)), temperature) for rows in places)
        return torch.float64 if torch.float64 in found else torch.float32

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

    def some(self, n_rows: int, rng: np.random.Generator) -> Tensor | None:
        """Places (n_rows,) of different random rows, in order, or None where there are no more than that."""
        return some(len(self), n_rows, rng)

    def representative(self, rng: np.random.Generator) -> Tensor:
        """Standardised rows that stand for all."""
        return self.rows(representative(len(self), self.n_features, rng))

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
