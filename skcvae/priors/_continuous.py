"""Priors with a density: Gaussian, uniform, Dirichlet and Gaussian mixture."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import betaincinv, ndtri
from torch import distributions

from skcvae._checks import check_finite, check_number, check_probabilities
from skcvae.priors._base import Array, QuantilePrior, check_resolved, checked_array, moments, scaling, whitening


@dataclass(frozen=True, eq=False)
class GaussianPrior(QuantilePrior):
    r"""A Gaussian, :math:`p(z) = N(z; m, \Sigma)`, the standard one by default.

    Parameters
    ----------
    n_components : int, the dimension k
    mean : array-like of shape (k,), default zero
    covariance : array-like of shape (k, k), positive definite, default identity

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.priors import GaussianPrior
    >>> GaussianPrior(3).sample(5, np.random.default_rng(0)).shape
    (5, 3)
    """

    n_components: int
    mean: ArrayLike | None = None
    covariance: ArrayLike | None = None

    def __post_init__(self) -> None:
        check_number("n_components", self.n_components, numbers.Integral, 1)
        _factor("covariance", self._covariance(), self.n_components)
        _checked_size("mean", self._mean(), self.n_components)

    def transport(self, uniform: Array) -> Array:
        """Apply the Gaussian quantile function to every coordinate, then mean and covariance."""
        normal: Array = ndtri(uniform)
        return normal if self._is_standard() else self._mean() + normal @ np.linalg.cholesky(self._covariance()).T

    def distribution(self) -> distributions.Distribution:
        return distributions.MultivariateNormal(torch.as_tensor(self._mean()), torch.as_tensor(self._covariance()))

    def standardisation(self) -> tuple[Array, Array] | None:
        if self._is_standard():
            return None
        mean, covariance = self._mean(), self._covariance()
        check_resolved(mean, np.sqrt(np.diagonal(covariance)))
        return mean, np.linalg.inv(np.linalg.cholesky(covariance))

    def _is_standard(self) -> bool:
        return self.mean is None and self.covariance is None

    def _mean(self) -> Array:
        return np.zeros(self.n_components) if self.mean is None else checked_array("mean", self.mean, 1)

    def _covariance(self) -> Array:
        return np.eye(self.n_components) if self.covariance is None else check_finite("covariance", self.covariance, 2)


@dataclass(frozen=True, eq=False)
class UniformPrior(QuantilePrior):
    r"""The uniform distribution on a box, :math:`p(z) = \prod_l 1/(b_l - a_l)` for :math:`a \le z \le b`.

    Parameters
    ----------
    n_components : int, the dimension k
    low, high : float or array-like of shape (k,), default 0 and 1

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.priors import UniformPrior
    >>> draws = UniformPrior(2, low=-1).sample(100, np.random.default_rng(0))
    >>> bool((abs(draws) <= 1).all())
    True
    """

    n_components: int
    low: ArrayLike = 0.0
    high: ArrayLike = 1.0

    def __post_init__(self) -> None:
        check_number("n_components", self.n_components, numbers.Integral, 1)
        low, high = self._box()
        if not (high > low).all():
            raise ValueError(f"high must be above low in every component, got low={low} and high={high}. Swap or widen them.")

    def transport(self, uniform: Array) -> Array:
        """Stretch the unit cube to the box."""
        low, high = self._box()
        return np.clip(low + (high - low) * uniform, low, high)

    def distribution(self) -> distributions.Distribution:
        low, high = map(torch.as_tensor, self._box())
        return distributions.Independent(distributions.Uniform(low, high), 1)

    def standardisation(self) -> tuple[Array, Array]:
        low, high = self._box()
        return scaling((low + high) / 2, (high - low) / np.sqrt(12))

    def _box(self) -> tuple[Array, Array]:
        return self._end("low", self.low), self._end("high", self.high)

    def _end(self, name: str, value: ArrayLike) -> Array:
        end = checked_array(name, value, 0 if np.ndim(value) == 0 else 1)
        if end.ndim:
            _checked_size(name, end, self.n_components)
        return np.broadcast_to(end, self.n_components).copy()


@dataclass(frozen=True, eq=False)
class DirichletPrior(QuantilePrior):
    r"""The Dirichlet distribution on the simplex :math:`z \ge 0, \sum_l z_l = 1`, :math:`p(z) \propto \prod_l z_l^{a_l - 1}`.

    Parameters
    ----------
    concentration : array-like of shape (k,), positive; k is at least 2

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.priors import DirichletPrior
    >>> draws = DirichletPrior([1.0, 1.0, 2.0]).sample(100, np.random.default_rng(0))
    >>> bool(np.allclose(draws.sum(1), 1))
    True
    """

    concentration: ArrayLike

    def __post_init__(self) -> None:
        values = self._values()
        if len(values) < 2 or not (values > 0).all():
            raise ValueError(f"concentration must be at least two positive numbers, got {values}.")

    @property
    def n_components(self) -> int:  # type: ignore[override]
        """Coordinates k; the simplex has k - 1 dimensions."""
        return len(self._values())

    @property
    def n_uniforms(self) -> int:
        return self.n_components - 1

    def transport(self, uniform: Array) -> Array:
        r"""Break a stick: :math:`v_l \sim \mathrm{Beta}(a_l, \sum_{h > l} a_h)` of what is left goes to coordinate l."""
        a = self._values()
        share = betaincinv(a[:-1], a[::-1].cumsum()[::-1][1:], uniform)
        left = np.cumprod(np.hstack([np.ones((len(share), 1)), 1 - share]), axis=1)
        z = np.hstack([share, np.ones((len(share), 1))]) * left
        z = np.maximum(z, np.finfo(np.float64).tiny)
        return z / z.sum(1, keepdims=True)

    def distribution(self) -> distributions.Distribution:
        return distributions.Dirichlet(torch.as_tensor(self._values()))

    def standardisation(self) -> tuple[Array, Array]:
        total = self._values().sum()
        mean = self._values() / total
        return whitening(mean, (np.diag(mean) - np.outer(mean, mean)) / (total + 1))

    def _values(self) -> Array:
        return check_finite("concentration", self.concentration, 1)


@dataclass(frozen=True, eq=False)
class MixturePrior(QuantilePrior):
    r"""A mixture of Gaussians, :math:`p(z) = \sum_c w_c N(z; m_c, \Sigma_c)`.

    Parameters
    ----------
    means : array-like of shape (K, k)
    covariances : float or array-like of shape (K, k, k), default=1.0; a number is the variance of all coordinates
    weights : array-like of shape (K,), default equal

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.priors import MixturePrior
    >>> MixturePrior([[-2.0], [2.0]], covariances=0.1).sample(5, np.random.default_rng(0)).shape
    (5, 1)
    """

    means: ArrayLike
    covariances: ArrayLike = 1.0
    weights: ArrayLike | None = None

    def __post_init__(self) -> None:
        for covariance in self._covariances()[: 1 if np.ndim(self.covariances) == 0 else None]:
            _factor("each of covariances", covariance, self.n_components)
        self._weights()

    @property
    def n_components(self) -> int:  # type: ignore[override]
        """Dimension k of the latent variable, not the number of Gaussians."""
        return self._means().shape[1]

    @property
    def n_uniforms(self) -> int:
        return self.n_components + 1

    def transport(self, uniform: Array) -> Array:
        """The first coordinate chooses the Gaussian, the others its quantiles."""
        means, draws = self._means(), ndtri(uniform[:, 1:])
        chosen = np.searchsorted(np.cumsum(self._weights()), uniform[:, 0], side="right").clip(max=len(means) - 1)
        if np.ndim(self.covariances) == 0:
            return means[chosen] + np.sqrt(self._covariances()[0, 0, 0]) * draws
        for c, factor in enumerate(np.linalg.cholesky(self._covariances())):
            draws[chosen == c] @= factor.T
        return means[chosen] + draws

    def distribution(self) -> distributions.Distribution:
        means, chosen = torch.as_tensor(self._means()), distributions.Categorical(torch.as_tensor(self._weights()))
        if np.ndim(self.covariances) == 0:
            scale = float(np.sqrt(self._covariances()[0, 0, 0]))
            return distributions.MixtureSameFamily(chosen, distributions.Independent(distributions.Normal(means, scale), 1))
        components = distributions.MultivariateNormal(means, torch.as_tensor(self._covariances()))
        return distributions.MixtureSameFamily(chosen, components)

    def standardisation(self) -> tuple[Array, Array]:
        mean, between = moments(self._means(), self._weights())
        return whitening(mean, between + np.einsum("c,ckl->kl", self._weights(), self._covariances()))

    def _means(self) -> Array:
        return checked_array("means", self.means, 2)

    def _covariances(self) -> Array:
        """One covariance for each Gaussian, (K, k, k), a view of one where they are a number."""
        n, k = self._means().shape
        if np.ndim(self.covariances) == 0:
            return np.broadcast_to(check_finite("covariances", self.covariances, 0) * np.eye(k), (n, k, k))
        covariances = check_finite("covariances", self.covariances, 3)
        if covariances.shape != (n, k, k):
            raise ValueError(
                f"covariances must be a number or an array of shape {(n, k, k)}, one matrix for each of the means, got shape "
                f"{covariances.shape}. Give as many as means."
            )
        return covariances

    def _weights(self) -> Array:
        n = len(self._means())
        return np.full(n, 1 / n) if self.weights is None else check_probabilities("weights", self.weights, n)


def axes_mixture(n_components: int) -> MixturePrior:
    r"""2k equal Gaussians of variance 1/4 on the axes, :math:`\pm \sqrt{3k/4}\, e_l`; their mixture has identity covariance.

    Examples
    --------
    >>> from skcvae.priors import axes_mixture
    >>> axes_mixture(2).means.shape
    (4, 2)
    """
    centres = np.sqrt(0.75 * n_components) * np.eye(n_components)
    return MixturePrior(np.vstack([centres, -centres]), covariances=0.25)


def _checked_size(name: str, value: Array, size: int) -> None:
    if len(value) != size:
        raise ValueError(f"{name} must have {size} entries, one each component, got {len(value)}.")


def _factor(name: str, covariance: Array, size: int) -> None:
    expected = f"{name} must be a symmetric positive definite array of shape ({size}, {size})"
    if covariance.shape != (size, size) or not np.allclose(covariance, covariance.T):
        raise ValueError(f"{expected}, got shape {covariance.shape}.")
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        raise ValueError(f"{expected}, got eigenvalues {np.linalg.eigvalsh(covariance)}.") from None
