"""Real-valued data with Gaussian noise, of a scale that is fixed, learned, or an output of the decoder."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn.functional import softplus

from skcvae._checks import choose, warn
from skcvae._memory import blocks
from skcvae.likelihoods._background import Background, alone_among, bulk
from skcvae.likelihoods._family import Array, Family, Likelihood, Part, mean_of_rows, variance_of_rows
from skcvae.likelihoods._given import GaussianGiven, IndependentGiven, columns_at, expected_columns, selection
from skcvae.likelihoods._rows import RowMap, encoded, gaussian_parts

LOG_2PI = math.log(2 * math.pi)
#: Rows whose neighbours are looked up for the default noise scale.
NEIGHBOUR_QUERIES = 1000
#: The default noise scale is at least this fraction of the data's own.
SMALLEST_SCALE = 1e-3
#: Columns of a table, at most: a covariance of more of them asks for more rows than tables have.
LARGEST_TABLE = 200
#: Different rows that are halved, at least.
FEWEST_FOLDED = 16
#: A residual this many times the scale says that the scale is too small for the decoder.
CLEARLY_ABOVE = 1.1
#: What a category is that the fitted rows had not.
UNKNOWN = ("error", "missing")
#: Scales that are functions of X.
AUTOMATIC = ("auto", "per_feature", "learned", "learned_per_feature", "network")


class _GaussianFamily(Part):
    def mean(self, output: Tensor) -> Tensor:
        return output[:, : self.n_features]

    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        mean = self.mean(output)
        return mean + self.deviation(output) * torch.as_tensor(rng.standard_normal(mean.shape)).to(mean)

    def exact_output(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x)], 1)[:, : self.n_outputs]

    @abstractmethod
    def deviation(self, output: Tensor) -> Tensor:
        """Standard deviation of x given z, broadcastable to (m, d)."""

    @abstractmethod
    def typical_deviation(self) -> Tensor:
        """The deviation that the linear start counts with, (d,) or scalar."""

    def scaled_start(self, x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        scale = self.typical_deviation().expand(x.shape[1])
        return x / scale, scale, mean_of_rows(x, weights)

    def expected_cells(self, output: Tensor) -> Array:
        mean, deviation = (part.double().cpu().numpy() for part in (self.mean(output), self.deviation(output)))
        if self.row_map is None:
            return self.restore(mean)
        location, root = self.offset + self.unit * mean, self.unit * np.broadcast_to(deviation, mean.shape)
        if self.row_map.factor is not None:
            location, root = location @ self.row_map.factor.T, np.sqrt(np.square(root) @ np.square(self.row_map.factor).T)
        return expected_columns(self.row_map, location, root)


def _given_of_one_covariance(family: FixedGaussian | LearnedGaussian, observed: NDArray[np.bool_]) -> GaussianGiven:
    """Some columns (d,) of noise with the same covariance for all z.

    The observed ones are whitened by the factor of their own covariance, so that a decoder's output for them is a linear map of
    its output for all.
    """
    row_map = RowMap.identity(family.n_features) if family.row_map is None else family.row_map
    R = np.eye(family.n_features) if row_map.factor is None else row_map.factor
    root = R * (family.unit * family.typical_deviation().double().cpu().numpy())
    factor, gain, rest = gaussian_parts(root @ root.T, observed)
    white = solve_triangular(factor, R[observed], lower=True)
    broad = None if family.background is None else family.background.marginal(observed)
    own = replace(row_map.of_columns(observed), factor=factor)
    part = FixedGaussian(white @ family.offset, 1.0, torch.ones(1, dtype=torch.float64), own, broad)
    return GaussianGiven(
        observed=observed,
        family=part,
        selected=columns_at(torch.as_tensor(family.unit * white)),
        row_map=row_map.of_columns(~observed),
        background=family.background,
        offset=R @ family.offset,
        slope=family.unit * R,
        gain=gain,
        factor=rest,
    )


class FixedGaussian(_GaussianFamily):
    r"""Gaussian with a scale that is not trained, :math:`N(x; \mu(z), \mathrm{diag}(\sigma^2))`, t = x.

    Parameters
    ----------
    offset : array of shape (d,)
    unit : float
    scale : Tensor, scalar or (d,), in standardised units
    """

    scale: Tensor

    def __init__(
        self, offset: Array, unit: float, scale: Tensor, row_map: RowMap | None = None, background: Background | None = None
    ) -> None:
        super().__init__(offset, unit, row_map, background)
        self.register_buffer("scale", scale)

    @property
    def numbers(self) -> FixedGaussian:
        return self

    def with_scale(self, scale: Tensor) -> FixedGaussian:
        """The same with another scale."""
        return FixedGaussian(self.offset, self.unit, scale, self.row_map, self.background)

    def given(self, observed: NDArray[np.bool_]) -> GaussianGiven:
        return _given_of_one_covariance(self, observed)

    def statistics(self, x: Tensor) -> Tensor:
        return x

    def carrier(self, x: Tensor) -> Tensor:
        log_scale = self.scale.log().expand(x.shape[1]).sum()
        return 0.5 * (x / self.scale).square().sum(1) + log_scale + 0.5 * x.shape[1] * LOG_2PI

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return output / self.scale.square(), 0.5 * (output / self.scale).square().sum(1)

    def log_normaliser(self, eta: Tensor) -> Tensor:
        return 0.5 * (self.scale * eta).square().sum(1)

    def mean_at(self, eta: Tensor) -> Tensor:
        return self.scale.square() * eta

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        return 0.5 * (barycentre / self.scale).square().sum(1)

    def divergence(self, output: Tensor, barycentre: Tensor) -> Tensor:
        """Half the squared distance in units of the scale: the same number as the general formula, without its rounding."""
        return 0.5 * ((output - barycentre) / self.scale).square().sum(1)

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """By the squared distance: the same number as the general formula, without its rounding."""
        log_scale = self.scale.log().expand(self.n_features).sum()
        return -0.5 * ((x - output) / self.scale).square().sum(1) - log_scale - 0.5 * self.n_features * LOG_2PI

    def refitted(self, residual: Tensor) -> FixedGaussian:
        """One scale for all features stays one, their root mean square; where there is no residual the scale stays."""
        common = residual.square().mean().sqrt().expand(self.scale.shape)
        scale = (common if len(self.scale) == 1 else residual).to(self.scale)
        return self.with_scale(torch.where(scale > 0, scale, self.scale))

    def at_least(self, residual: Tensor) -> FixedGaussian:
        fitted = self.refitted(residual).scale
        return self.with_scale(torch.where(fitted > CLEARLY_ABOVE * self.scale, fitted, self.scale))

    def tempered(self, epsilon: float) -> FixedGaussian:
        return self.with_scale(self.scale * math.sqrt(epsilon))

    def tempering(self, epsilon: float) -> float:
        return 1 / epsilon

    def deviation(self, output: Tensor) -> Tensor:
        return self.scale

    def typical_deviation(self) -> Tensor:
        return self.scale

    @property
    def smallest_scale(self) -> float:
        return float(self.scale.min())

    @property
    def note(self) -> str:  # type: ignore[override]
        """What the noise is, in one line."""
        if self.row_map is None or self.row_map.factor is None:
            scales = self.unit * self.scale.double().numpy()
            return f"one fixed scale, {scales[0]:.3g}" if len(scales) == 1 else "a fixed scale for each feature"
        changed = int((self.row_map.powers != 1).sum())
        columns = f"; {changed} of {self.n_features} columns transformed" if changed else ""
        share = "" if self.background is None else f"; {self.background.share:.2%} of rows are broad noise"
        return (self.row_map.note or "the covariance of the rows, scaled") + share + columns


class _MomentGaussian(_GaussianFamily):
    """A Gaussian whose scale is trained, with statistics t = (x, x^2)."""

    floor: Tensor
    note = "scales that are trained"

    @property
    def n_statistics(self) -> int:
        return 2 * self.n_features

    @property
    def smallest_scale(self) -> float:
        return float(self.floor.min())

    def tempered(self, epsilon: float) -> Self:
        """Itself: a trained scale is the dispersion of the plan, whatever the temperature, as x^2 is among the statistics."""
        return self

    def statistics(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.square()], 1)

    def carrier(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, 0])

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean(output)
        deviation = self.deviation(output).expand(mean.shape)
        precision = deviation.square().reciprocal()
        normaliser = (0.5 * mean.square() * precision + deviation.log()).sum(1) + 0.5 * self.n_features * LOG_2PI
        return torch.cat([mean * precision, -0.5 * precision], 1), normaliser

    def log_normaliser(self, eta: Tensor) -> Tensor:
        first, second = eta.chunk(2, dim=1)
        return (-0.25 * first.square() / second - 0.5 * (-2 * second).log() + 0.5 * LOG_2PI).sum(1)

    def mean_at(self, eta: Tensor) -> Tensor:
        first, second = eta.chunk(2, dim=1)
        return -0.5 * first / second

    def mean_statistics(self, output: Tensor) -> Tensor:
        mean = self.mean(output)
        return torch.cat([mean, mean.square() + self.deviation(output).square().expand(mean.shape)], 1)

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        first, second = barycentre.chunk(2, dim=1)
        variance = torch.maximum(second - first.square(), (SMALLEST_SCALE * self.floor).square())
        return -0.5 * (variance.log() + 1 + LOG_2PI).sum(1)


class LearnedGaussian(_MomentGaussian):
    r"""Gaussian with a trained scale that does not depend on z.

    Parameters
    ----------
    offset : array of shape (d,)
    unit : float
    start : Tensor of shape (s,), the scale that training starts from: s = 1 for one scale, d for one each feature
    floor : Tensor of shape (s,), the smallest scale
    """

    def __init__(self, offset: Array, unit: float, start: Tensor, floor: Tensor, row_map: RowMap | None = None) -> None:
        super().__init__(offset, unit, row_map)
        self.register_buffer("floor", floor)
        self.free = nn.Parameter(_inverse_softplus(start / floor - 1))

    def given(self, observed: NDArray[np.bool_]) -> GaussianGiven:
        return _given_of_one_covariance(self, observed)

    @property
    def scale(self) -> Tensor:
        """The scale, floor (1 + softplus(free)), of shape (s,)."""
        return self.floor * (1 + softplus(self.free))

    @torch.no_grad()
    def settle(self, output: Tensor, barycentre: Tensor, weight: Tensor) -> None:
        r"""The scale of the plan, :math:`\sigma_c^2 = \sum_j w_j (O^{(2)}_{jc} - 2 O_{jc} \mu_{jc} + \mu_{jc}^2) / \sum_j w_j`."""
        first, second = barycentre.chunk(2, dim=1)
        distance = second - 2 * first * output + output.square()
        variance = (weight @ distance / weight.sum()).clamp(min=0)
        variance = variance.mean().expand(self.floor.shape) if len(self.floor) == 1 else variance
        self.free.copy_(_inverse_softplus(variance.sqrt() / self.floor - 1))

    def deviation(self, output: Tensor) -> Tensor:
        return self.scale

    def typical_deviation(self) -> Tensor:
        return self.scale.detach()


class NetworkGaussian(_MomentGaussian):
    r"""Gaussian whose mean and scale are both outputs of the decoder: Proposition 3.1 with a floor.

    Parameters
    ----------
    offset : array of shape (d,)
    unit : float
    start : Tensor of shape (1,), the scale at a decoder output of zero
    floor : Tensor of shape (1,), the smallest scale
    """

    start: Tensor

    def __init__(self, offset: Array, unit: float, start: Tensor, floor: Tensor, row_map: RowMap | None = None) -> None:
        super().__init__(offset, unit, row_map)
        self.register_buffer("start", start)
        self.register_buffer("floor", floor)

    def given(self, observed: NDArray[np.bool_]) -> IndependentGiven:
        if self.row_map is not None and self.row_map.factor is not None:
            raise ValueError(
                "A scale that is an output of the decoder, of rows that are whitened first, says nothing of some columns alone. "
                "Give rows without missing cells, or covariance='diagonal'."
            )
        own, others = (None if self.row_map is None else self.row_map.of_columns(part) for part in (observed, ~observed))
        family = NetworkGaussian(self.offset[observed], self.unit, self.start, self.floor, own)
        chosen = selection(observed)
        return IndependentGiven(observed, family, columns_at(torch.block_diag(chosen, chosen)), others, None, self)

    @property
    def n_outputs(self) -> int:
        return 2 * self.n_features

    def deviation(self, output: Tensor) -> Tensor:
        free = output[:, self.n_features :] + _inverse_softplus(self.start / self.floor - 1)
        return self.floor * (1 + softplus(free))

    def typical_deviation(self) -> Tensor:
        return self.start

    def scaled_start(self, x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        scaled, slope, bias = super().scaled_start(x, weights)
        return scaled, slope, torch.cat([bias, torch.zeros_like(bias)])


@dataclass(frozen=True, eq=False)
class GaussianLikelihood(Likelihood):
    r"""Gaussian noise around the decoder's mean, :math:`p(x \mid z) = N(x; \mu(z), \sigma^2 I)`.

    Only the temperature :math:`T = \epsilon \sigma^2` matters to the coupling: directions in which the data vary by less
    than T are left to the noise.

    Parameters
    ----------
    scale : {"auto", "per_feature", "learned", "learned_per_feature", "network"}, float or array of shape (d,)
        - "auto": one fixed scale, a function of X alone: :math:`\sigma^2` is the median over rows of the squared distance to
          the :math:`\lceil\sqrt n\rceil`-th nearest neighbour, divided by the number of features that vary.
        - "per_feature": fixed, the same after dividing every feature by its standard deviation.
        - float or array: fixed, in the units of X, one for all features or one each.
        - "learned", "learned_per_feature": trained with the decoder from "auto" or "per_feature". It then is the dispersion of the
          plan at any temperature, so that "matched" and "model" noise agree.
        - "network": :math:`\sigma(z)`, one each feature, a second output of the decoder.
    floor : float, default=0.3
        Smallest scale that is learned, as a multiple of the one that it starts from. With as many components as features a
        learned scale has no interior optimum, so it needs one.
    covariance : {"diagonal", "full", "residual"}, default="diagonal"
        - "full": rows are whitened first by their covariance, whose correlations are shrunk as Ledoit and Wolf do. The noise then
          has this shape, :math:`\sigma^2 N`, and the units of the columns say nothing. `scale` must be one that is a function of X.
        - "residual": the noise is N itself, the covariance of what a decoder leaves of rows that it has not seen. It is found by
          short fits to each half of the rows, at a temperature of 1, so that a fit takes two to three times as long. A share of the
          rows is broad noise instead, a multivariate t: rows that are far from all others are not fitted, and count as such.
          `scale` must be "auto". Where rows are few, or repeat few cells, and in `partial_fit`, it is "full".
    marginals : {"identity", "power"}, default="identity"
        "power": each column that takes many values first goes through the monotone transform of Yeo and Johnson, where folds say
        that one Gaussian of the column is the better for it. A column that is never negative, and whose mean is less than four
        deviations above 0, goes through :math:`\log(e^u - 1)` where this transform brings nothing, so that its samples are never
        negative either. Give columns as they come. Scores count the Jacobian and samples come back through the inverse.
        `inverse_transform` and `reconstruct` then give a centre, and no mean.

    Examples
    --------
    >>> from skcvae import CoupledVAE
    >>> from skcvae.likelihoods import GaussianLikelihood
    >>> CoupledVAE(likelihood=GaussianLikelihood(covariance="full")).likelihood.covariance
    'full'
    """

    scale: str | float | ArrayLike = "auto"
    floor: float = 0.3
    covariance: str = "diagonal"
    marginals: str = "identity"

    @property
    def is_cross_fitted(self) -> bool:  # type: ignore[override]
        """Whether the noise is that of rows which a decoder has not seen."""
        return self.covariance == "residual"

    @property
    def numbers(self) -> GaussianLikelihood:
        return self

    def without_folds(self) -> GaussianLikelihood:
        """The same with the covariance of the rows themselves; ValueError where the scale is not that of the noise itself."""
        if not (isinstance(self.scale, str) and self.scale == "auto"):
            raise ValueError(f"scale must be 'auto' with covariance='residual', which is the noise itself, got {self.scale!r}.")
        return replace(self, covariance="full")

    def bind(self, X: Array, weights: Array | None = None) -> Family:
        if self.is_cross_fitted:
            return self.without_folds().bind(X, weights)
        row_map = self._row_map(X, weights)
        rows = X if row_map is None else row_map.forward(X)
        offset, unit = mean_of_rows(rows, weights), float(np.sqrt(variance_of_rows(rows, weights).mean()))
        if not unit > 0:
            raise ValueError("X has zero variance: every row is the same. Give data that vary.")
        start = torch.as_tensor(self._start(rows, weights) / unit)
        if not isinstance(self.scale, str) or self.scale in ("auto", "per_feature"):
            return FixedGaussian(offset, unit, start, row_map)
        if not isinstance(self.floor, Real) or not 0 < self.floor <= 1:
            raise ValueError(f"floor must be a multiple of the starting scale in (0, 1], got {self.floor!r}. Use 0.3.")
        family = NetworkGaussian if self.scale == "network" else LearnedGaussian
        return family(offset, unit, start, self.floor * start, row_map)

    def _row_map(self, X: Array, weights: Array | None) -> RowMap | None:
        """What rows go through first, or None for nothing."""
        covariance = choose("covariance", self.covariance, {"diagonal": False, "full": True, "residual": True})
        marginals = choose("marginals", self.marginals, {"identity": False, "power": True})
        if not (covariance or marginals):
            return None
        if not isinstance(self.scale, str):
            raise ValueError(
                f"scale must be a name where rows are whitened or transformed, got {self.scale!r}: a number in the units of X says "
                f"nothing then. Use one of {', '.join(map(repr, AUTOMATIC))}."
            )
        if covariance and _are_few_cells(*_distinct(X, weights)):  # whose rounding is that of the columns
            return RowMap.of(X, weights, marginals, False) if marginals else None
        return RowMap.of(X, weights, marginals, covariance)

    def _start(self, X: Array, weights: Array | None) -> Array:
        if isinstance(self.scale, str) and self.scale in AUTOMATIC:
            deviation = _deviation(X, weights)
            deviation[deviation == 0] = deviation[deviation > 0].min()
            per_feature = "per_feature" in str(self.scale)
            return deviation * noise_scale(X / deviation, weights) if per_feature else np.atleast_1d(noise_scale(X, weights))
        return _checked_scale(self.scale, X.shape[1])


@dataclass(frozen=True, eq=False)
class MappedGaussian(Likelihood):
    """Gaussian noise whose covariance is that of a map of the rows.

    Parameters
    ----------
    row_map : RowMap
    background : Background or None, what some rows come from instead
    """

    row_map: RowMap
    background: Background | None = None

    @property
    def mapped(self) -> MappedGaussian:
        return self

    def bind(self, X: Array, weights: Array | None = None) -> FixedGaussian:
        rows = self.row_map.forward(X)
        unit = float(np.sqrt(variance_of_rows(rows, weights).mean()))
        scale = torch.tensor([1 / unit], dtype=torch.float64)
        return FixedGaussian(mean_of_rows(rows, weights), unit, scale, self.row_map, self.background)


@dataclass(frozen=True, eq=False)
class AutoLikelihood(Likelihood):
    """A likelihood of a kind that the data say: `likelihood="auto"`.

    Columns of a data frame have each a kind by their type and values; those of an array are numbers. Where all are numbers it is
    "table" where there are at least two features more than components, no more than 200 of them, and the network has no images;
    "gaussian" elsewhere.

    Parameters
    ----------
    columns : mapping of str to {"gaussian", "categorical", "poisson", "hurdle"}, default=None
        The kind of some columns of a frame, by their names. A dict as `likelihood` is the same.
    unknown : {"error", "missing"}, default="error"
        What a category is that the fitted rows had not: an error, or a missing cell.

    Examples
    --------
    >>> from skcvae import CoupledVAE
    >>> from skcvae.likelihoods import AutoLikelihood
    >>> CoupledVAE(likelihood=AutoLikelihood({"visits": "poisson"}, unknown="missing")).likelihood.unknown
    'missing'
    """

    columns: Mapping[str, str] | None = None
    unknown: str = "error"

    def __post_init__(self) -> None:
        choose("unknown", self.unknown, dict.fromkeys(UNKNOWN))

    def settled(self, n_features: int, n_components: int, is_image: bool) -> Likelihood:
        is_table = n_components + 2 <= n_features <= LARGEST_TABLE and not is_image
        return GaussianLikelihood(covariance="residual", marginals="power") if is_table else GaussianLikelihood()

    def bind(self, X: Array, weights: Array | None = None) -> Family:
        return GaussianLikelihood().bind(X, weights)


def begun(
    likelihood: GaussianLikelihood, X: Array, weights: Array | None, n_components: int
) -> tuple[RowMap, Array, Background, NDArray[np.bool_]] | None:
    """What folds begin with: the map of rows (n, d) with the noise, its smallest deviations (d,), broad noise, and rows alone (n,).

    The smallest deviations are those of rounding where a column has few values, and for a constant column what it has at first.
    Rows that are far from all others have no say in the noise. None where rows repeat few cells, or are so few that a half has
    no covariance.
    """
    rows, counts = _distinct(X, weights)
    if len(rows) < FEWEST_FOLDED or _are_few_cells(rows, counts):
        return None
    row_map = RowMap.of(X, weights, likelihood.marginals == "power", covariance=True)
    y, y_distinct = row_map.columns(X), row_map.columns(rows)
    varies = np.ptp(y, axis=0) > 0
    smallest = np.sqrt(np.diag(encoded(row_map.covariance, n_components)))
    smallest[varies] = np.maximum(_roundings(y_distinct), SMALLEST_SCALE * bulk(y_distinct[:, varies], None)[1])
    background = Background.of(y, weights, smallest)
    is_alone = alone_among(y, weights)(y)
    if is_alone.any():
        row_map = row_map.of_covariance(X[~is_alone], None if weights is None else weights[~is_alone])
    return row_map.whitening(encoded(row_map.covariance, n_components)), smallest, background, is_alone


def noise_scale(X: Array, weights: Array | None = None) -> float:
    r"""Distance per feature below which neighbours are taken for noise; a function of X alone, equivariant to its scale.

    .. math:: \sigma^2 = \mathrm{median}_i \; r_i^2 / d', \qquad r_i = \text{distance of } x_i \text{ to its }
              \lceil\sqrt n\rceil\text{-th nearest neighbour}

    among the n different rows, with d' the number of features that vary. It is at least the root mean square over these features of
    :math:`s/\sqrt{12}`, the deviation of rounding to a spacing s, where a feature has at most :math:`\sqrt n` values, and is that
    where the rows repeat a few cells; and at least 1e-3 of the root mean square deviation. The order of the rows says nothing.

    Parameters
    ----------
    X : array of shape (n, d)
    weights : array of shape (n,), how often each row counts in the median; None where each counts once

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.likelihoods import noise_scale
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> bool(np.isclose(noise_scale(10 * X), 10 * noise_scale(X)))
    True
    """
    deviation = _deviation(X, weights)
    smallest = SMALLEST_SCALE * float(np.sqrt(np.square(deviation).mean()))
    rows, counts = _distinct(X, weights)
    roundings = _roundings(rows)
    spacing = math.sqrt(np.square(roundings).mean()) if roundings else 0.0
    if _are_few_cells(rows, counts):
        warn(
            f"X has {len(rows)} different rows among {counts.sum():.0f}, so that its density is that of the noise, which is put "
            "to the rounding of the columns. Give a scale, or likelihood='bernoulli' for columns of 0 and 1."
        )
        return max(spacing, smallest)
    distance = float(np.median(_neighbour_distances(rows - mean_of_rows(X, weights), counts)))
    return max(distance / math.sqrt(max(1, len(roundings))), spacing, smallest)


def _are_few_cells(rows: Array, counts: Array) -> bool:
    """Whether different rows (m, d) with counts are the cells of columns of few values, each many times."""
    return len(rows) ** 2 <= counts.sum() and min(_roundings(rows), default=0.0) > 0


def _roundings(rows: Array) -> list[float]:
    """For each column that varies the deviation of rounding to its values, where they are few; else 0."""
    values = [np.unique(column) for column in rows.T]
    return [float(np.median(np.diff(few))) / math.sqrt(12) if len(few) ** 2 <= len(rows) else 0.0 for few in values if len(few) > 1]


def _neighbour_distances(rows: Array, counts: Array) -> Array:
    """Distances of different rows to the neighbour that the default noise asks for, each as often as it counts.

    Of many rows some answer, spread evenly over the distances from the mean, so that the order of the rows says nothing.
    """
    order = np.argsort(np.square(rows).sum(1), kind="stable")
    n, ends = len(rows), counts[order].cumsum()
    places = np.searchsorted(ends, np.linspace(0, ends[-1], min(n, NEIGHBOUR_QUERIES), endpoint=False), side="right")
    queries, repeats = np.unique(order[places.clip(max=n - 1)], return_counts=True)
    n_neighbours = min(n - 1, math.ceil(math.sqrt(n)))
    distances = NearestNeighbors(n_neighbors=n_neighbours + 1).fit(rows).kneighbors(rows[queries])[0]
    return distances[:, -1].repeat(repeats)


def _distinct(X: Array, weights: Array | None) -> tuple[Array, Array]:
    """Different rows, and how many rows each of them stands for; X itself where all are."""
    counts = np.ones(len(X)) if weights is None else weights
    hashes = np.concatenate([_hashes(block) for block in blocks(X)])
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return (X, counts) if len(first) == len(X) else (X[first], np.bincount(inverse, counts, len(first)).astype(np.float64))


def _hashes(rows: Array) -> NDArray[np.uint64]:
    """A number of 64 bits for each row, the same for the same numbers."""
    bits = np.ascontiguousarray(rows + 0.0).view(np.uint64)  # -0 is 0
    for shift in (32, 16, 8):  # a round number has its bits at one end, which products would lose
        bits ^= bits >> np.uint64(shift)
    factors = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], dtype=np.uint64) | np.uint64(1)
    return bits @ factors


def _deviation(X: Array, weights: Array | None) -> Array:
    """Standard deviation of each feature, (d,); exactly 0 for a constant, whose mean may be rounded."""
    return np.where(np.ptp(X, axis=0) > 0, np.sqrt(variance_of_rows(X, weights)), 0.0)


def _checked_scale(scale: object, n_features: int) -> Array:
    expected = f"scale must be one of {', '.join(map(repr, AUTOMATIC))}, a positive number or {n_features} of them"
    try:
        values = np.atleast_1d(np.asarray(scale, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(f"{expected}, got {scale!r}.") from None
    if values.shape not in ((1,), (n_features,)) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"{expected}, got {scale!r}.")
    return values


def _inverse_softplus(y: Tensor) -> Tensor:
    y = y.clamp(min=1e-3)
    return y + torch.log(-torch.expm1(-y))
