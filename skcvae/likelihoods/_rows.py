"""What rows of data go through before a likelihood sees them: a monotone transform of each column, then a linear map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize_scalar
from scipy.special import boxcox, inv_boxcox

from skcvae.likelihoods._family import Array, mean_of_rows, variance_of_rows

#: Powers that a column may have: those with which every number is the transform of one. Others pile samples up at a bound.
POWERS = (0.0, 2.0)
#: Folds by which a power is compared with the column as it is.
N_FOLDS = 5
#: Different values that a column must have: others are counts and codes.
FEWEST_VALUES = 20
#: Nats of all rows together that a power must bring: what it brings to a normal column by chance is below that.
FEWEST_NATS = 1.0
#: The unit of a column that is never negative: this share of its smallest value, so that 0 is far off, or a quantile if that is 0.
SMALL_SHARE, LOW_SHARE = 0.1, 0.25
#: What stands for the power of a column that is never negative and else as it is; its unit over its deviation; the share of the
#: unit below which it is linear; and by how many deviations the mean of such a column is above 0, at most.
SOFT, SOFT_SHARE, LINEAR_BELOW, FARTHEST_MEAN = -1.0, 0.05, 1e-6, 4.0
#: How many ranges beyond the fitted values a sample may lie.
REACH = 10.0
#: Of correlations, over their mean: below it a matrix has no factor that rounding leaves.
SMALLEST_EIGENVALUE = 1e-6
#: Of the variance of a principal axis that a decoder is to explain, the share that is noise at first.
ENCODED_SHARE = 0.09
#: What stands for no bound.
UNBOUNDED = 1e300


@dataclass(frozen=True, eq=False)
class RowMap:
    r"""From rows X to rows x that the likelihood standardises, :math:`x = R^{-1} y`, with y column by column

    .. math:: y = \psi_\lambda\big((X - c)/s\big) \text{ where there is a power } \lambda, \qquad y = X \text{ elsewhere}

    and :math:`\psi_\lambda` the transform of Yeo and Johnson (2000), which is the identity at 1. At -1 it stands for
    :math:`\psi(u) = \log(e^u - 1)`: u itself well above 0, and no number below 0 is the transform of another one.

    Attributes
    ----------
    centre, spread, powers : arrays of shape (d,), c, s and :math:`\lambda`; 0, 1 and 1 where a column stays as it is
    low, high : arrays of shape (d,), bounds of y beyond which the inverse is that of the bound
    mean_log_slope : float, mean over the fitted rows of :math:`\sum_c \log dy_c/dX_c`
    factor : array of shape (d, d), R, lower triangular; or None, the identity
    note : str, where R comes from, in one line

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.likelihoods import RowMap
    >>> X = np.random.default_rng(0).lognormal(size=(200, 2))
    >>> found = RowMap.of(X, None, marginals=True, covariance=True)
    >>> bool(np.allclose(found.backward(found.forward(X)), X)), bool(np.abs(np.corrcoef(found.forward(X).T)[0, 1]) < 0.2)
    (True, True)
    """

    centre: Array
    spread: Array
    powers: Array
    low: Array
    high: Array
    mean_log_slope: float = 0.0
    factor: Array | None = None
    note: str = ""

    @classmethod
    def of(cls, X: Array, weights: Array | None, marginals: bool, covariance: bool) -> RowMap:
        """The map of rows (n, d) that count by weights (n,): powers of columns, and the factor of their shrunk covariance."""
        found = cls.identity(X.shape[1])
        if marginals:
            found = found._with_powers(X, weights)
        return found.of_covariance(X, weights) if covariance else found

    def of_covariance(self, X: Array, weights: Array | None) -> RowMap:
        """The map with the factor of the shrunk covariance of rows (n, d) that count by weights (n,)."""
        y = self.columns(X)
        return replace(self, factor=shrunk_factor(y - mean_of_rows(y, weights), weights))

    @classmethod
    def identity(cls, n_features: int) -> RowMap:
        """The map that leaves rows (n, d) as they are."""
        d = n_features
        return cls(np.zeros(d), np.ones(d), np.ones(d), np.full(d, -UNBOUNDED), np.full(d, UNBOUNDED))

    def of_columns(self, chosen: NDArray[np.bool_]) -> RowMap:
        """The transforms of some columns (d,) alone."""
        centre, spread, powers, low, high = (part[chosen] for part in (self.centre, self.spread, self.powers, self.low, self.high))
        return RowMap(centre, spread, powers, low, high)

    @property
    def covariance(self) -> Array:
        """R R', (d, d)."""
        assert self.factor is not None, "asked only of maps that whiten"
        return self.factor @ self.factor.T

    def whitening(self, covariance: Array, note: str = "") -> RowMap:
        """The map with R R' another covariance (d, d)."""
        deviation = np.sqrt(np.diag(covariance))
        correlation = covariance / deviation / deviation[:, None]
        return replace(self, factor=deviation[:, None] * np.linalg.cholesky(_lifted(correlation)), note=note)

    def one_gaussian(self, X: Array, weights: Array | None, others: Array) -> Array:
        """Log-density of other rows (m, d) under one Gaussian of the columns' transforms of rows (n, d), (m,)."""
        y = self.columns(X)
        mean = mean_of_rows(y, weights)
        factor = shrunk_factor(y - mean, weights)
        white = solve_triangular(factor, (self.columns(others) - mean).T, lower=True)
        log_volume = float(np.log(np.diag(factor)).sum()) + 0.5 * len(factor) * math.log(2 * math.pi)
        result: Array = self.log_slope(others) - 0.5 * np.square(white).sum(0) - log_volume
        return result

    def forward(self, X: Array) -> Array:
        """x of X, (n, d)."""
        y = self.columns(X)
        return y if self.factor is None else np.ascontiguousarray(solve_triangular(self.factor, y.T, lower=True).T)

    def backward(self, x: Array) -> Array:
        """X of x, (n, d)."""
        return self.restored_columns(x if self.factor is None else x @ self.factor.T)

    def restored_columns(self, y: Array) -> Array:
        """X of y, (n, d)."""
        rows, moved = np.array(y), self.powers != 1
        y, powers = np.clip(rows[:, moved], self.low[moved], self.high[moved]), self.powers[moved]
        restored = self.centre[moved] + self.spread[moved] * untransformed(y, powers)
        rows[:, moved] = np.where(powers == SOFT, np.maximum(restored, 0), restored)
        return rows

    def columns(self, X: Array) -> Array:
        """y of X, (n, d)."""
        y, moved = np.array(X), self.powers != 1
        y[:, moved] = transformed(self._units(X, moved), self.powers[moved])
        return y

    def log_slope(self, X: Array) -> Array:
        r"""Log-determinant of the columns' transforms, :math:`\sum_c \log dy_c/dX_c`, (n,)."""
        moved = self.powers != 1
        return (log_slope(self._units(X, moved), self.powers[moved]) - np.log(self.spread[moved])).sum(1)

    def _units(self, X: Array, moved: NDArray[np.bool_]) -> Array:
        """(X - c)/s of some columns."""
        return (X[:, moved] - self.centre[moved]) / self.spread[moved]

    @property
    def log_volume(self) -> float:
        """Log-determinant of R."""
        return 0.0 if self.factor is None else float(np.log(np.diag(self.factor)).sum())

    def check(self, n_features: int) -> None:
        """ValueError unless the parts have the shapes of rows of this width, and finite numbers in their ranges."""
        parts = (self.centre, self.spread, self.powers, self.low, self.high)
        shapes = [(n_features,)] * 5 + [(n_features, n_features)] * (self.factor is not None)
        for part, shape in zip((*parts, *([] if self.factor is None else [self.factor])), shapes, strict=True):
            if getattr(part, "dtype", None) != np.float64 or part.shape != shape or not np.isfinite(part).all():
                raise ValueError("the map of rows has numbers of other shapes, or none")
        has_powers = ((self.powers == SOFT) | ((self.powers >= POWERS[0]) & (self.powers <= POWERS[1]))).all()
        is_whole = has_powers and (self.spread > 0).all() and math.isfinite(self.mean_log_slope)
        if not is_whole or (self.factor is not None and not (np.diag(self.factor) > 0).all()):
            raise ValueError("the map of rows has no inverse")

    def _with_powers(self, X: Array, weights: Array | None) -> RowMap:
        """With the powers of the columns that are the better for one."""
        parts = np.array([_power_of(column, weights) for column in X.T]).T
        found = replace(self, centre=parts[0], spread=parts[1], powers=parts[2], low=parts[3], high=parts[4])
        return replace(found, mean_log_slope=float(mean_of_rows(found.log_slope(X), weights)))


def _power_of(column: Array, weights: Array | None) -> tuple[float, float, float, float, float]:
    """Centre, spread, power and bounds of a column (n,); those of a column that stays as it is where folds say so.

    A column that is never negative has its centre at 0, below which no value comes back. It is soft there where no power brings
    something, unless 0 is far off.
    """
    kept = 0.0, 1.0, 1.0, -UNBOUNDED, UNBOUNDED
    values, places = np.unique(column, return_inverse=True)
    counts = np.bincount(places, weights, len(values)).astype(np.float64)
    if len(values) < FEWEST_VALUES:
        return kept
    mean, spread = float(mean_of_rows(values, counts)), math.sqrt(float(variance_of_rows(values, counts)))
    is_positive = bool(values[0] >= 0)
    centre, lower = 0.0 if is_positive else mean, values[np.searchsorted(counts.cumsum(), LOW_SHARE * counts.sum())]
    unit = spread
    if is_positive and lower > 0:
        unit = float(lower) if values[0] == 0 else SMALL_SHARE * float(values[0])
    if _gain((values - centre) / unit, counts, _fitted_power) > FEWEST_NATS:
        return _bounded(values, centre, unit, _fitted_power((values - centre) / unit, counts), is_positive)
    if is_positive and mean < FARTHEST_MEAN * spread:
        edge, unit = 0.0 if values[0] > 0 else -0.5 * float(values[1]), max(SOFT_SHARE * spread, 0.5 * float(values[0]))
        if _gain((values - edge) / unit, counts, lambda *_: SOFT) > -FEWEST_NATS:
            return _bounded(values, edge, unit, SOFT, is_positive)
    return kept


def _bounded(
    values: Array, centre: float, unit: float, power: float, is_positive: bool
) -> tuple[float, float, float, float, float]:
    """The parts of a map of different values, with bounds some ranges beyond them, and at 0 where none is negative."""
    u = (values - centre) / unit
    reach = REACH * (u[-1] - u[0])
    low, high = transformed(np.array([-centre / unit if is_positive else u[0] - reach, u[-1] + reach]), power)
    return centre, unit, power, float(low), float(high)


def _gain(u: Array, counts: Array, find: Callable[[Array, Array], float]) -> float:
    """Nats that the power which is found brings to one Gaussian of different values u with counts, by folds."""
    fold, total = np.random.default_rng(0).permutation(len(u)) % N_FOLDS, 0.0
    for number in range(N_FOLDS):
        rest, held_out = fold != number, fold == number
        scores = []
        for candidate in (find(u[rest], counts[rest]), 1.0):
            y, others = transformed(u[rest], candidate), transformed(u[held_out], candidate)
            mean, variance = mean_of_rows(y, counts[rest]), float(variance_of_rows(y, counts[rest]))
            log_density = -0.5 * np.square(others - mean) / variance - 0.5 * math.log(variance)
            scores.append(counts[held_out] @ (log_density + log_slope(u[held_out], candidate)))
        total += float(scores[0] - scores[1])
    return total


def _fitted_power(u: Array, counts: Array) -> float:
    """The power of maximum likelihood under one Gaussian."""

    def loss(power: float) -> float:
        variance = float(variance_of_rows(transformed(u, power), counts))
        return 0.5 * math.log(max(variance, 1e-300)) - float(mean_of_rows(log_slope(u, power), counts))

    return float(minimize_scalar(loss, bounds=POWERS, method="bounded", options={"xatol": 1e-4}).x)


def transformed(u: Array, power: Array | float) -> Array:
    r"""The transform :math:`\psi_\lambda(u)` of Yeo and Johnson, or at -1 :math:`\log(e^u - 1)`, linear where u is tiny."""
    powers = np.maximum(power, 0.0)
    powered = np.where(u >= 0, boxcox(1 + np.maximum(u, 0), powers), -boxcox(1 + np.maximum(-u, 0), 2 - powers))
    inside = np.maximum(u, LINEAR_BELOW)
    soft = inside + np.log(-np.expm1(-inside)) + np.minimum(u - LINEAR_BELOW, 0) / -np.expm1(-LINEAR_BELOW)
    return np.where(np.less(power, 0), soft, powered)


def untransformed(y: Array, power: Array | float) -> Array:
    """u of the transform."""
    powers = np.maximum(power, 0.0)
    powered = np.where(y >= 0, inv_boxcox(np.maximum(y, 0), powers) - 1, 1 - inv_boxcox(np.maximum(-y, 0), 2 - powers))
    edge = LINEAR_BELOW + math.log(-math.expm1(-LINEAR_BELOW))
    soft = np.logaddexp(0, np.maximum(y, edge)) + np.minimum(y - edge, 0) * -math.expm1(-LINEAR_BELOW)
    return np.where(np.less(power, 0), soft, powered)


def log_slope(u: Array, power: Array | float) -> Array:
    r"""Logarithm of its derivative, :math:`\log \psi_\lambda'(u)`."""
    soft = -np.log(-np.expm1(-np.maximum(u, LINEAR_BELOW)))
    return np.where(np.less(power, 0), soft, np.sign(u) * (power - 1) * np.log1p(np.abs(u)))


def shrunk_factor(y: Array, weights: Array | None, deviation: Array | None = None) -> Array:
    r"""Cholesky factor of the covariance of centred rows y (n, d), with correlations shrunk as Ledoit and Wolf (2004) do.

    Columns are scaled first, by their deviations (d,) where these are not given, so that their units say nothing. Rows that count
    more than once enter as often.
    """
    if deviation is None:
        deviation = np.sqrt(variance_of_rows(y, weights))
        deviation[~(np.ptp(y, axis=0) > 0)] = deviation[np.ptp(y, axis=0) > 0].min()
    rows, counts = y / deviation, np.ones(len(y)) if weights is None else weights
    total, d = float(counts.sum()), y.shape[1]
    covariance = (rows.T * counts) @ rows / total
    level = float(np.trace(covariance)) / d
    distance = float(np.square(covariance - level * np.eye(d)).sum())
    noise = (float(counts @ np.square(np.square(rows).sum(1))) / total - float(np.square(covariance).sum())) / total
    share = min(1.0, noise / distance) if distance > 0 else 1.0
    shrunk = (1 - share) * covariance + share * level * np.eye(d)
    return deviation[:, None] * np.linalg.cholesky(_lifted(shrunk))


def _lifted(correlation: Array) -> Array:
    """A matrix (d, d) with a smallest eigenvalue that has a factor: where columns are sums of others it has none."""
    smallest = float(np.linalg.eigvalsh(correlation)[0])
    ridge = max(0.0, SMALLEST_EIGENVALUE * float(np.trace(correlation)) / len(correlation) - smallest)
    return correlation + ridge * np.eye(len(correlation))


def encoded(covariance: Array, n_components: int) -> Array:
    """A covariance (d, d) in which a share of the first principal axes is noise: a decoder has the rest of them to explain.

    The axes are those of the correlations, so that the units of the columns say nothing.
    """
    deviation = np.sqrt(np.diag(covariance))
    values, axes = np.linalg.eigh(covariance / deviation / deviation[:, None])
    values[-n_components:] *= ENCODED_SHARE
    result: Array = (axes * values) @ axes.T * deviation * deviation[:, None]
    return result


def updated(before: Array, found: Sequence[tuple[float, Array]], smallest: Array) -> Array:
    r"""A noise's covariance from residuals of rows that were not fitted.

    .. math:: N = \frac12 \sum_B \frac{n_B S_B + d\, N_0}{n_B + d}

    with the one before as d rows more, and no variance below a smallest.

    Parameters
    ----------
    before : array of shape (d, d), N_0
    found : numbers of rows n_B, and second moments S_B of shape (d, d)
    smallest : array of shape (d,), deviations

    Returns
    -------
    array of shape (d, d)
    """
    d = len(before)
    covariance: Array = np.mean([(n * moment + d * before) / (n + d) for n, moment in found], axis=0)
    return covariance + np.diag(np.maximum(np.square(smallest) - np.diag(covariance), 0))


def gaussian_parts(covariance: Array, observed: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    r"""Of a covariance (d, d) the factor of :math:`N_{oo}`, the gain G, and the factor of :math:`N_{mm} - G N_{om}`."""
    of_observed, missing = covariance[np.ix_(observed, observed)], ~observed
    beside = covariance[np.ix_(missing, observed)]
    gain: Array = cho_solve(cho_factor(of_observed, lower=True), beside.T).T
    rest = covariance[np.ix_(missing, missing)] - gain @ beside.T
    level = np.finfo(np.float64).eps * np.diag(covariance)[missing]
    factor: Array = np.linalg.cholesky(of_observed).astype(np.float64)
    of_rest: Array = np.linalg.cholesky((rest + rest.T) / 2 + np.diag(level * len(rest))).astype(np.float64)
    return factor, gain, of_rest


def halves(X: Array) -> NDArray[np.bool_]:
    """Which of two halves each row (n, d) is in, (n,): equal rows in the same.

    The order of rows and of columns, and the units of columns, say nothing: a row is told by the ranks of its values.
    """
    numbers = np.random.default_rng(0).integers(2**63, size=len(X), dtype=np.uint64)
    keys = np.zeros(len(X), dtype=np.uint64)
    for column in X.T:
        keys += numbers[np.unique(column, return_inverse=True)[1]]
    result: NDArray[np.bool_] = np.unique(keys, return_inverse=True)[1] % 2 == 0
    return result
