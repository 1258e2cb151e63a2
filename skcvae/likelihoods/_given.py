"""Some columns given others: the likelihood of those that are observed, and of the missing ones given these and z."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor, nn

from skcvae.likelihoods._background import Background
from skcvae.likelihoods._family import Array, Family
from skcvae.likelihoods._rows import RowMap

if TYPE_CHECKING:
    from skcvae.likelihoods._discrete import Discrete
    from skcvae.likelihoods._gaussian import NetworkGaussian

#: Nodes of Gauss-Hermite quadrature by which a mean goes through the inverse of a column's transform.
N_NODES = 9
#: Deviations from the centre of a column at which the mean of a cell of a row that is broad noise is, at most.
FARTHEST_MEAN = 2.0
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(N_NODES)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
#: Quantiles of broad noise whose average stands for its mean, which it need not have.
_QUANTILES = (np.arange(N_NODES) + 0.5) / N_NODES


class Selected(nn.Module):
    """A decoder's output (m, p) times a matrix (q, p): the output for some of the columns."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, output: Tensor) -> Tensor:
        """(m, q)."""
        return output @ self.matrix.T


@dataclass(frozen=True, eq=False)
class Given(ABC):
    """A bound likelihood of which some columns are observed.

    Attributes
    ----------
    observed : array of shape (d,), bool; some are, and some are not
    family : Family, the likelihood of the observed columns, o of them, with broad noise where the whole has a share of it
    selected : Selected, from a decoder's output to that for `family`
    row_map : RowMap or None, what the missing columns, q of them, go through
    background : Background or None, broad noise of all columns
    """

    observed: NDArray[np.bool_]
    family: Family
    selected: Selected
    row_map: RowMap | None
    background: Background | None

    @property
    def n_cells(self) -> int:
        """Width c of `expected`."""
        return int((~self.observed).sum())

    @abstractmethod
    def drawn(self, output: Tensor, X: Array, rng: np.random.Generator) -> Array:
        """Missing cells (m, q) in the units of the data, drawn given the observed cells of X (m, d) and outputs (m, p)."""

    @abstractmethod
    def expected(self, output: Tensor, X: Array) -> Array:
        """Means of their `cells` (m, c), given the same."""

    def closed(self, cells: Array) -> Array:
        """Missing cells (m, q) of averages of `expected`."""
        return cells

    def drawn_broad(self, X: Array, rng: np.random.Generator) -> Array:
        """Missing cells (m, q) of rows that are broad noise, given their observed cells."""
        location, width, factor, degrees = self._broad(X)
        width = width / np.sqrt(rng.chisquare(degrees, len(X)) / degrees)
        return self._restored(location + width[:, None] * (rng.standard_normal(location.shape) @ factor.T))

    def expected_broad(self, X: Array) -> Array:
        """The average of their quantiles, (m, c), near the columns' centres.

        A typing error contradicts the other cells, and a regression on all of them would put the missing ones far off. So the
        location is at most two deviations from the centre, and the width does not grow with the distance of the row.
        """
        location, width, factor, degrees = self._broad(X)
        assert self.row_map is not None, "columns with broad noise go through one"
        assert self.background is not None, "as these are"
        missing = ~self.observed
        centre, reach = self.background.location[missing], FARTHEST_MEAN * np.sqrt(np.diag(self.background.scatter))[missing]
        deviation = np.minimum(width, 1.0)[:, None] * np.linalg.norm(factor, axis=1)
        return expected_tail(self.row_map, np.clip(location, centre - reach, centre + reach), deviation, degrees)

    def _broad(self, X: Array) -> tuple[Array, Array, Array, float]:
        assert self.background is not None, "asked where some rows are broad noise"
        row_map = self.family.row_map
        y = X[:, self.observed] if row_map is None else row_map.columns(X[:, self.observed])
        return self.background.given(self.observed, y)

    def _restored(self, y: Array) -> Array:
        return y if self.row_map is None else self.row_map.restored_columns(y)


@dataclass(frozen=True, eq=False)
class GaussianGiven(Given):
    r"""Gaussian noise of one covariance N for all z.

    .. math:: y_m \mid y_o, z \sim N\big(\mu_m + G (y_o - \mu_o),\; N_{mm} - G N_{om}\big), \qquad G = N_{mo} N_{oo}^{-1}

    Attributes
    ----------
    offset : array of shape (d,), and
    slope : array of shape (d, d): means of the columns' transforms are offset + slope output
    gain : array of shape (q, o), G
    factor : array of shape (q, q), of the covariance given the observed columns
    """

    offset: Array
    slope: Array
    gain: Array
    factor: Array

    def drawn(self, output: Tensor, X: Array, rng: np.random.Generator) -> Array:
        location = self._location(output, X)
        return self._restored(location + rng.standard_normal(location.shape) @ self.factor.T)

    def expected(self, output: Tensor, X: Array) -> Array:
        location, deviation = self._location(output, X), np.linalg.norm(self.factor, axis=1)
        return expected_columns(self.row_map, location, deviation)

    def _location(self, output: Tensor, X: Array) -> Array:
        row_map = self.family.row_map
        assert row_map is not None, "rows of a Gaussian go through one"
        mean = self.offset + output.double().cpu().numpy() @ self.slope.T
        residual = row_map.columns(X[:, self.observed]) - mean[:, self.observed]
        result: Array = mean[:, ~self.observed] + residual @ self.gain.T
        return result


@dataclass(frozen=True, eq=False)
class IndependentGiven(Given):
    """Columns that are independent given z, each with a scale that is an output of the decoder."""

    whole: NetworkGaussian

    def drawn(self, output: Tensor, X: Array, rng: np.random.Generator) -> Array:
        location, deviation = self._parts(output)
        return self._restored(location + deviation * rng.standard_normal(location.shape))

    def expected(self, output: Tensor, X: Array) -> Array:
        return expected_columns(self.row_map, *self._parts(output))

    def _parts(self, output: Tensor) -> tuple[Array, Array]:
        missing, whole = ~self.observed, self.whole
        mean, deviation = (part.double().cpu().numpy()[:, missing] for part in (whole.mean(output), whole.deviation(output)))
        return whole.offset[missing] + whole.unit * mean, whole.unit * deviation


@dataclass(frozen=True, eq=False)
class BinaryGiven(Given):
    """Binary columns, independent given z."""

    def drawn(self, output: Tensor, X: Array, rng: np.random.Generator) -> Array:
        mean = self.expected(output, X)
        return (rng.random(mean.shape) < mean).astype(np.float64)

    def expected(self, output: Tensor, X: Array) -> Array:
        result: Array = output.double().sigmoid().cpu().numpy()[:, ~self.observed]
        return result


@dataclass(frozen=True, eq=False)
class DiscreteGiven(Given):
    """Categories or counts, independent given z.

    Attributes
    ----------
    others : Discrete, the likelihood of the missing columns
    places : Tensor of shape (p,), bool, which of a decoder's outputs are theirs
    """

    others: Discrete
    places: Tensor

    @property
    def n_cells(self) -> int:
        return self.others.n_features

    def drawn(self, output: Tensor, X: Array, rng: np.random.Generator) -> Array:
        return self.others.restore(self.others.noise(self._of_others(output), rng).double().cpu().numpy())

    def expected(self, output: Tensor, X: Array) -> Array:
        return self.others.expected_cells(self._of_others(output))

    def closed(self, cells: Array) -> Array:
        return self.others.closed(cells)

    def drawn_broad(self, X: Array, rng: np.random.Generator) -> Array:
        return self.others.independent(len(X), rng)

    def expected_broad(self, X: Array) -> Array:
        return np.tile(self.others.marginal_cells(), (len(X), 1))

    def _of_others(self, output: Tensor) -> Tensor:
        return output[:, self.places.to(output.device)]


def expected_columns(row_map: RowMap | None, location: Array, deviation: Array) -> Array:
    """Means of Gaussian columns (m, q) after the inverses of their transforms."""
    if row_map is None:
        return location
    if not (row_map.powers != 1).any():
        return row_map.restored_columns(location)
    parts = zip(_WEIGHTS, _NODES, strict=True)
    return np.sum([weight * row_map.restored_columns(location + node * deviation) for weight, node in parts], axis=0)


def expected_tail(row_map: RowMap, location: Array, deviation: Array, degrees: float) -> Array:
    """The average of the quantiles of columns that have a t distribution, after the inverses of their transforms, (m, q)."""
    nodes = student(degrees).ppf(_QUANTILES)
    return np.mean([row_map.restored_columns(location + node * deviation) for node in nodes], axis=0)


def columns_at(matrix: Tensor) -> Selected:
    """A module in evaluation, without gradients."""
    return Selected(matrix).eval().requires_grad_(False)


def selection(observed: NDArray[np.bool_]) -> Tensor:
    """The matrix (o, d) that takes the observed of d numbers."""
    return torch.eye(len(observed), dtype=torch.float64)[torch.as_tensor(observed)]
