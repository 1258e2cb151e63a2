"""The abstract likelihood and its bound form, the exponential family."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from skcvae.likelihoods._background import Background
    from skcvae.likelihoods._given import Given
    from skcvae.likelihoods._rows import RowMap

Array = NDArray[np.float64]
Rows = TypeVar("Rows", Array, Tensor)
#: Share of a principal axis that the linear start keeps where the temperature would collapse it.
COLLAPSED_SHARE = 0.05
#: Float32 rounds a score of this size by 1e-2, a hundredth part of a weight.
LARGEST_FLOAT32_SCORE = 1e5
#: And float64 a score of this size.
LARGEST_SCORE = 1e14


class Likelihood(ABC):
    """A likelihood as the user chooses it: parameters only."""

    #: Whether its noise is that of rows which a decoder has not seen, so that it is fitted by halves of the data.
    is_cross_fitted = False

    @property
    def numbers(self) -> Likelihood | None:
        """The part whose noise may be cross-fitted, if there is one."""
        return None

    @property
    def mapped(self) -> Likelihood | None:
        """The part whose noise was found by cross-fitting, if there is one."""
        return None

    def number_columns(self, n_columns: int) -> NDArray[np.intp]:
        """Places of the columns of this part among those of rows."""
        return np.arange(n_columns)

    def with_numbers(self, noise: Likelihood) -> Likelihood:
        """The likelihood with another noise of this part."""
        return noise

    def without_folds(self) -> Likelihood:
        """The same with noise that needs no halves of the rows."""
        return self

    def log_marginal(self, X: Array, weights: Array | None, others: Array) -> Array:
        """Log-probability of the other columns of other rows (m, d) if nothing depended on anything, by rows (n, d), (m,)."""
        return np.zeros(len(others))

    def settled(self, n_features: int, n_components: int, is_image: bool) -> Likelihood:
        """What it is for rows of so many features and a latent variable of so many components; itself where nothing is open."""
        return self

    @abstractmethod
    def bind(self, X: Array, weights: Array | None = None) -> Family:
        """The family fitted to the location and scale of data; errors are ValueError with the remedy.

        Parameters
        ----------
        X : array of shape (n, d)
        weights : array of shape (n,), how many rows each row counts as; None where each counts once
        """


class Family(nn.Module, ABC):
    """A bound likelihood: an exponential family in standardised units.

    `row_map` is what rows go through before they are standardised, or None; `background` is what some of them come from instead, or
    None.
    """

    #: What the noise is, in one line.
    note: str = "that of the likelihood"

    def __init__(self, offset: Array, unit: float, row_map: RowMap | None = None, background: Background | None = None) -> None:
        super().__init__()
        self.offset = offset
        self.unit = unit
        self.row_map = row_map
        self.background = background

    @property
    def n_features(self) -> int:
        """Width of standardised rows; that of rows of data but where columns are categories."""
        return len(self.offset)

    @property
    def numbers(self) -> Family | None:
        """The part with fixed Gaussian noise, if there is one; its columns are the first of standardised rows."""
        return None

    @property
    def n_columns(self) -> int:
        """Width d of rows of data. Standardised rows may be wider: a category is a block of indicators."""
        return self.n_features

    @property
    def n_outputs(self) -> int:
        """Width of the decoder's output."""
        return self.n_features

    @property
    def n_statistics(self) -> int:
        """Number p of sufficient statistics."""
        return self.n_features

    @property
    def smallest_scale(self) -> float:
        """The smallest number that standardised rows are divided by."""
        return 1.0

    @property
    def log_volume(self) -> float:
        """Log-determinant of the map from standardised units to the data's, its mean over the fitted rows where it varies."""
        constant = self.n_features * math.log(self.unit)
        return constant if self.row_map is None else constant + self.row_map.log_volume - self.row_map.mean_log_slope

    def log_volumes(self, X: Array) -> Array:
        """The same at each row of data X (n, d), (n,)."""
        if self.row_map is None:
            return np.full(len(X), self.log_volume)
        return self.log_volume + self.row_map.mean_log_slope - self.row_map.log_slope(np.asarray(X, dtype=np.float64))

    def standardise(self, X: Array) -> Array:
        """(X - offset)/unit in float64, whatever the precision of X, after the rows' map; (n, d)."""
        rows = X if self.row_map is None else self.row_map.forward(np.asarray(X, dtype=np.float64))
        return (rows - self.offset) / self.unit

    def restore(self, x: Array) -> Array:
        """The inverse of `standardise`."""
        rows = self.offset + self.unit * x
        return rows if self.row_map is None else self.row_map.backward(rows)

    def cells(self, x: Array) -> Array:
        """Standardised rows in the units of the data, in which their averages are means, (n, c): a category is c indicators."""
        return self.restore(x)

    def closed(self, cells: Array) -> Array:
        """Rows of data (n, d) of averages of `cells` (n, c): the most probable category, and means of what is a number."""
        return cells

    def expected_cells(self, output: Tensor) -> Array:
        """Means of `cells` given z, (m, c)."""
        return self.cells(self.mean(output).double().cpu().numpy())

    def broad(self, X: Array) -> Array | None:
        """Log-density of rows of data X (n, d) under the broad noise that some come from, (n,); None where none do."""
        if self.background is None or self.row_map is None:
            return None
        rows = np.asarray(X, dtype=np.float64)
        return self.background.log_density(self.row_map.columns(rows)) + self.row_map.log_slope(rows)

    def in_units(self, X: Array, log_density: Array, error: Array) -> tuple[Array, Array]:
        """Log-likelihood of rows of data X (n, d), in their units, from that of the standardised rows, (n,); and its error."""
        scores, broad = log_density - self.log_volumes(X), self.broad(X)
        if self.background is None or broad is None:
            return scores, error
        kept = self.background.kept(scores, broad)
        return self.background.mixed(scores, broad), np.where(kept > 0, kept * error, 0.0)

    def disturbed(self, X: Array, rng: np.random.Generator) -> Array:
        """Samples of the model (m, d), in the units of the data, of which a share is replaced by broad noise."""
        if self.background is None or self.row_map is None:
            return X
        is_broad = rng.random(len(X)) < self.background.share
        X[is_broad] = self.row_map.restored_columns(self.background.sample(int(is_broad.sum()), rng))
        return X

    def check_support(self, X: Array) -> None:
        """ValueError with the remedy where data X (n, d), which may have missing cells, are outside of the likelihood's support."""
        return

    def given(self, observed: NDArray[np.bool_]) -> Given:
        """The likelihood of the columns that are observed (d,), bool, and of the others given these; some are, and some are not."""
        raise ValueError(
            f"{type(self).__name__} does not say how columns depend on others given z. Give rows without missing cells."
        )

    @abstractmethod
    def statistics(self, x: Tensor) -> Tensor:
        """Sufficient statistics t(x): (n, d) -> (n, p)."""

    @abstractmethod
    def carrier(self, x: Tensor) -> Tensor:
        """The part h(x) of the cost that the decoder does not see: (n, d) -> (n,)."""

    @abstractmethod
    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Natural parameter eta (m, p) and log-normaliser A (m,) of decoder outputs (m, n_outputs)."""

    @abstractmethod
    def log_normaliser(self, eta: Tensor) -> Tensor:
        """Log-normaliser A of natural parameters eta (m, p), (m,)."""

    @abstractmethod
    def mean_at(self, eta: Tensor) -> Tensor:
        """E[x given z] at natural parameters eta (m, p), (m, d)."""

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """E[x given z], (m, d)."""

    def mean_statistics(self, output: Tensor) -> Tensor:
        """E[t(x) given z], (m, p)."""
        return self.mean(output)

    @abstractmethod
    def entropy_term(self, barycentre: Tensor) -> Tensor:
        r"""Convex conjugate :math:`A^*(O) = \sup_\eta O \cdot \eta - A(\eta)` of the log-normaliser: (m, p) -> (m,)."""

    @abstractmethod
    def tempered(self, epsilon: float) -> Family:
        """The family whose dispersion is the plan's at temperature epsilon, with the same mean."""

    def tempering(self, epsilon: float) -> float | Tensor:
        """Factor c, or one for each statistic (p,), for which `tempered` has the natural parameter c eta where this has eta."""
        return 1.0

    @abstractmethod
    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        """One draw of x for each row of `output`, (m, d)."""

    @abstractmethod
    def linear_start(self, x: Tensor, n_components: int, epsilon: float, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weight (n_outputs, k) and bias (n_outputs,) of a linear decoder along the principal axes of rows x with weights (n,)."""

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log p(x given z) in nats of standardised rows x (n, d), each at its own decoder output, (n,)."""
        eta, normaliser = self.natural(output)
        return (self.statistics(x) * eta).sum(1) - normaliser - self.carrier(x)

    def refitted(self, residual: Tensor) -> Family:
        """The family with its fixed scale, if it has one, put to the root mean square residual (d,) of the features."""
        return self

    def at_least(self, residual: Tensor) -> Family:
        """The family with its fixed scale, if it has one, raised where the residual (d,) of the features is clearly above it."""
        return self

    def settle(self, output: Tensor, barycentre: Tensor, weight: Tensor) -> None:
        """Put parameters that all draws share to their optimum under a plan; most families have none.

        Parameters
        ----------
        output : Tensor of shape (m, n_outputs), the decoder's at the plan's draws
        barycentre : Tensor of shape (m, p), mean statistics of the plan's columns
        weight : Tensor of shape (m,), mass of the columns, up to a factor
        """

    def cost(self, x: Tensor, output: Tensor) -> Tensor:
        """-log p(x given z) in nats of standardised x for every pair, (n, m); for small problems."""
        eta, normaliser = self.natural(output)
        return normaliser + self.carrier(x)[:, None] - self.statistics(x) @ eta.T

    def training_dtype(self, x: Tensor, epsilon: float) -> torch.dtype:
        """float32 unless the scores t . eta/epsilon are so large that its rounding would show in the plan.

        ValueError where float64 rounds them to nothing as well.
        """
        with torch.no_grad():
            eta = self.natural(self.exact_output(x))[0]
            largest = float((self.statistics(x) * eta).abs().sum(1).max()) / epsilon
        if not largest <= LARGEST_SCORE:
            raise ValueError(
                f"The likelihood's scale, or epsilon, is too small for X: scores reach {largest:.2g}, whose rounding in double "
                f"precision is above a hundredth. Expected at most {LARGEST_SCORE:.0e}. Give a larger scale or epsilon, rescale X, "
                "or remove its outliers."
            )
        return torch.float32 if largest < LARGEST_FLOAT32_SCORE else torch.float64

    @abstractmethod
    def exact_output(self, x: Tensor) -> Tensor:
        """Decoder outputs whose mean is x itself (as far as it can be), (n, n_outputs)."""

    def divergence(self, output: Tensor, barycentre: Tensor) -> Tensor:
        r"""Kullback-Leibler divergence :math:`A(\eta) + A^*(O) - O \cdot \eta` from barycentre to decoder, in nats, (m,)."""
        eta, normaliser = self.natural(output)
        return (normaliser + self.entropy_term(barycentre) - (barycentre * eta).sum(1)).clamp(min=0)


class Part(Family):
    """A family that may stand beside others, as it says how wide its noise is in each feature."""

    @abstractmethod
    def scaled_start(self, x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Rows x (n, w) in units in which their noise is 1, and slope (w,) and bias (n_outputs,) from their axes to outputs."""

    def linear_start(self, x: Tensor, n_components: int, epsilon: float, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scaled, slope, bias = self.scaled_start(x, weights)
        weight = slope[:, None] * shrunk_axes(scaled, n_components, epsilon, weights)
        return padded(weight, self.n_outputs), bias


def padded(weight: Tensor, n_outputs: int) -> Tensor:
    """A weight (w, k) with zeros for outputs beyond the first w, such as scales, (n_outputs, k)."""
    return torch.cat([weight, weight.new_zeros(n_outputs - len(weight), weight.shape[1])])


def mean_of_rows(x: Rows, weights: Rows | None = None) -> Rows:
    """The mean of rows by how many each counts as.

    Parameters
    ----------
    x : array or Tensor of shape (n, d) or (n,)
    weights : the same of shape (n,), or None where each row counts once

    Returns
    -------
    array or Tensor of shape (d,), or a scalar

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.likelihoods import mean_of_rows
    >>> mean_of_rows(np.array([[0.0], [1.0]]), np.array([1.0, 3.0])).tolist()
    [0.75]
    """
    return x.mean(0) if weights is None else (weights @ x) / weights.sum()


def variance_of_rows(x: Rows, weights: Rows | None = None) -> Rows:
    """Their variance, the mean of squared differences from the mean."""
    return mean_of_rows((x - mean_of_rows(x, weights)) ** 2, weights)


def shrunk_axes(x: Tensor, n_components: int, epsilon: float, weights: Tensor | None = None) -> Tensor:
    r"""Principal axes :math:`V \sqrt{\max(\lambda - \epsilon, \lambda/20)}`, the optimum of a linear decoder; (d, k).

    Parameters
    ----------
    x : Tensor of shape (n, d), with noise of variance epsilon in every feature
    n_components : int, columns k; those beyond the rank of x are zero
    epsilon : float
    weights : Tensor of shape (n,), how many rows each row counts as; None where each counts once

    Returns
    -------
    Tensor of shape (d, k)

    Examples
    --------
    >>> import torch
    >>> from skcvae.likelihoods import shrunk_axes
    >>> shrunk_axes(torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), 1, epsilon=0.0)[:, 0].round(decimals=4).tolist()
    [2.0, 0.0]
    """
    centred = x - mean_of_rows(x, weights)
    total = len(x) if weights is None else weights.sum()
    rows = centred if weights is None else weights.sqrt()[:, None] * centred
    _, singular, axes = torch.linalg.svd(rows, full_matrices=False)
    variance = singular.square() / total
    length = torch.maximum(variance - epsilon, COLLAPSED_SHARE * variance).sqrt()
    used = min(n_components, len(length))
    weight = torch.zeros(x.shape[1], n_components, dtype=x.dtype, device=x.device)
    # The largest entry of each axis is made positive, so that the start does not depend on the SVD's choice.
    largest = axes.abs().argmax(1, keepdim=True)
    signs = axes.gather(1, largest).sign()
    weight[:, :used] = (axes * signs * length[:, None])[:used].T
    return weight


def x_log_x(x: Tensor) -> Tensor:
    """x log x, 0 at 0; `torch.xlogy` takes twice as long on a CPU."""
    return x * x.clamp(min=torch.finfo(x.dtype).tiny).log()
