"""Rows that no decoder explains: a broad distribution from which a share of them comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import gammaln
from sklearn.neighbors import NearestNeighbors

from skcvae.likelihoods._family import Array, mean_of_rows, variance_of_rows
from skcvae.likelihoods._rows import gaussian_parts, shrunk_factor

#: Degrees of freedom: 3, with heavy tails and a variance, or 1, with none.
DEGREES = (3.0, 1.0)
#: Steps of expectation and maximisation, for the distribution and for its share, and the change of a row's weight that ends them.
N_STEPS, N_SHARE_STEPS, SETTLED = 30, 300, 1e-4
#: Rows that count as broad noise beside those that do, so that a share is never 0.
PSEUDO_ROWS = 0.5
#: Deviations a column beyond which a row is far off.
FARTHEST = 10.0
#: Shares of the rows below the quartiles, and the interquartile range of a standard Gaussian.
QUARTILES, GAUSSIAN_RANGE = (0.25, 0.5, 0.75), 1.349


@dataclass(frozen=True, eq=False)
class Background:
    r"""A multivariate t of few degrees of freedom, :math:`t_\nu(y; m, LL^T)`, and the share of rows that are drawn from it.

    .. math:: p(y) = (1 - \delta) \int p(z)\, p(y \mid z)\, dz + \delta\, t_\nu(y; m, LL^T)

    Rows y are columns after their transforms.

    Attributes
    ----------
    location : array of shape (d,), m
    factor : array of shape (d, d), L, lower triangular
    degrees : float, :math:`\nu`, 3 or 1
    share : float, :math:`\delta`

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.likelihoods import Background
    >>> y = np.random.default_rng(0).standard_cauchy(size=(1000, 2))
    >>> found = Background.of(y, None, smallest=np.array([1e-3, 1e-3]))
    >>> bool(np.abs(found.location).max() < 0.2), bool(np.abs(found.factor).max() < 2)
    (True, True)
    """

    location: Array
    factor: Array
    degrees: float = DEGREES[0]
    share: float = 0.0

    @classmethod
    def of(cls, y: Array, weights: Array | None, smallest: Array) -> Background:
        """The distribution of rows (n, d) by maximum likelihood, its correlations shrunk as those of the rows' covariance are.

        No column has a smaller deviation than that of its own in `smallest` (d,).
        """
        location, deviation = bulk(y, weights)
        factor = np.diag(np.maximum(deviation, smallest))
        found = [cls(location, factor, degrees)._fitted(y, weights, smallest) for degrees in DEGREES]
        return max(found, key=lambda one: float(mean_of_rows(one.log_density(y), weights)))

    def _fitted(self, y: Array, weights: Array | None, smallest: Array) -> Background:
        counts, found, before = np.ones(len(y)) if weights is None else weights, self, np.zeros(len(y))
        for _ in range(N_STEPS):
            precision = (self.degrees + y.shape[1]) / (self.degrees + found._distance(y))
            if np.abs(precision - before).max() < SETTLED:
                break
            before = precision
            location = (counts * precision) @ y / (counts @ precision)
            rows = (y - location) * np.sqrt(precision)[:, None]
            deviation = np.maximum(np.sqrt(counts @ np.square(rows) / counts.sum()), smallest)
            factor = shrunk_factor(rows, weights, deviation)
            length = np.linalg.norm(factor, axis=1)
            found = replace(found, location=location, factor=factor * np.maximum(1, deviation / length)[:, None])
        return found

    @property
    def scatter(self) -> Array:
        """L L', (d, d)."""
        return self.factor @ self.factor.T

    def log_density(self, y: Array) -> Array:
        """Log-density of rows (m, d), (m,)."""
        d = len(self.location)
        nu = self.degrees
        constant = gammaln((nu + d) / 2) - gammaln(nu / 2) - 0.5 * d * math.log(nu * math.pi)
        tail = 0.5 * (nu + d) * np.log1p(self._distance(y) / nu)
        result: Array = constant - np.log(np.diag(self.factor)).sum() - tail
        return result

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        """Draws (n_samples, d)."""
        normal = rng.standard_normal((n_samples, len(self.location))) @ self.factor.T
        result: Array = self.location + normal / np.sqrt(rng.chisquare(self.degrees, (n_samples, 1)) / self.degrees)
        return result

    def mixed(self, scores: Array, broad: Array) -> Array:
        """Log-density of rows by their log-densities (m,) under the model and under the distribution."""
        return np.logaddexp(math.log1p(-self.share) + scores, math.log(self.share) + broad)

    def kept(self, scores: Array, broad: Array) -> Array:
        """The probability of each row that the model explains it, (m,)."""
        result: Array = np.exp(math.log1p(-self.share) + scores - self.mixed(scores, broad))
        return result

    def with_share(self, scores: Array, broad: Array, weights: Array | None) -> Background:
        """With the share of maximum likelihood of rows that neither was fitted to."""
        counts, found = np.ones(len(scores)) if weights is None else weights, replace(self, share=0.1)
        for _ in range(N_SHARE_STEPS):
            is_broad = float(counts @ (1 - found.kept(scores, broad)))
            found = replace(found, share=(is_broad + PSEUDO_ROWS) / (float(counts.sum()) + 2 * PSEUDO_ROWS))
        return found

    def marginal(self, observed: NDArray[np.bool_]) -> Background:
        """The distribution of some columns (d,)."""
        factor = np.linalg.cholesky(self.scatter[np.ix_(observed, observed)]).astype(np.float64)
        return replace(self, location=self.location[observed], factor=factor)

    def given(self, observed: NDArray[np.bool_], y: Array) -> tuple[Array, Array, Array, float]:
        r"""The other columns given those that are observed, y (m, o): a t of as many degrees more as there are of these.

        .. math:: y_m \mid y_o \sim t_{\nu + o}\Big(m_m + G (y_o - m_o),\;
                  \frac{\nu + \delta_o(y_o)}{\nu + o} (S_{mm} - G S_{om})\Big), \qquad G = S_{mo} S_{oo}^{-1}

        with S = L L' and :math:`\delta_o` the squared Mahalanobis distance of the observed columns.

        Returns
        -------
        location : array of shape (m, q)
        width : array of shape (m,), by which the factor is multiplied
        factor : array of shape (q, q)
        degrees : float
        """
        _, gain, factor = gaussian_parts(self.scatter, observed)
        marginal, n_observed = self.marginal(observed), int(observed.sum())
        location = self.location[~observed] + (y - marginal.location) @ gain.T
        width = (self.degrees + marginal._distance(y)) / (self.degrees + n_observed)
        return location, np.sqrt(width), factor, self.degrees + n_observed

    def check(self, n_features: int) -> None:
        """ValueError unless the parts have the shapes of rows of this width, and finite numbers in their ranges."""
        for part, shape in ((self.location, (n_features,)), (self.factor, (n_features, n_features))):
            if getattr(part, "dtype", None) != np.float64 or part.shape != shape or not np.isfinite(part).all():
                raise ValueError("the broad noise has numbers of other shapes, or none")
        if not (np.diag(self.factor) > 0).all() or not 0 < self.share < 1 or self.degrees not in DEGREES:
            raise ValueError("the broad noise has no density, or no share")

    def _distance(self, y: Array) -> NDArray[np.float64]:
        """Squared Mahalanobis distance of rows (m, d), (m,)."""
        result: Array = np.square(self._white(y)).sum(1)
        return result

    def _white(self, y: Array) -> Array:
        """Rows (m, d) in coordinates in which the distribution is round."""
        result: Array = solve_triangular(self.factor, (y - self.location).T, lower=True).T
        return result


def bulk(y: Array, weights: Array | None) -> tuple[Array, Array]:
    """Median and deviation (d,) of the bulk of rows (n, d): by the interquartile range, where that is positive and smaller."""
    order, counts = y.argsort(axis=0), np.ones(len(y)) if weights is None else weights
    shares = counts[order].cumsum(axis=0) / counts.sum()
    low, middle, high = (np.take_along_axis(y, order, 0)[(shares < share).sum(axis=0), range(y.shape[1])] for share in QUARTILES)
    deviation = np.sqrt(variance_of_rows(y, weights))
    return middle, np.where(high > low, np.minimum((high - low) / GAUSSIAN_RANGE, deviation), deviation)


def alone_among(others: Array, weights: Array | None) -> Callable[[Array], NDArray[np.bool_]]:
    """Which of rows (m, d) are far off, with few of other rows (n, d) around them, (m,): such as no decoder can explain.

    Far is ten deviations a column of the bulk of the others, by a t whose columns do not shrink to a value that many rows have. Few
    is less than the square root of what the others count as.
    """
    deviation = bulk(others, weights)[1]
    found = Background.of(others, weights, np.where(deviation > 0, deviation, 1))
    radius, counts = FARTHEST * math.sqrt(others.shape[1]), np.ones(len(others)) if weights is None else weights
    tree = NearestNeighbors(radius=radius).fit(found._white(others))

    def alone(y: Array) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = found._distance(y) > radius**2
        if result.any():
            around = tree.radius_neighbors(found._white(y[result]), return_distance=False)
            result[result] = [counts[places].sum() < math.sqrt(counts.sum()) for places in around]
        return result

    return alone
