r"""Samples against the modes of a known mixture.

Each sample belongs to its closest mean, and is within that mode at a distance of at most `n_std` standard deviations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors

from skcvae._checks import check_number
from skcvae.metrics._checks import Array, check_samples

#: A mode is found when it holds at least this part of its equal share of the samples.
SHARE_FOUND = 0.1


@dataclass(frozen=True)
class _Assigned:
    """Samples with their closest mode, and whether they are within it."""

    samples: Array
    mode: NDArray[np.intp]
    within: NDArray[np.bool_]
    n_modes: int

    @property
    def count(self) -> NDArray[np.intp]:
        """Samples within each mode, (c,)."""
        return np.bincount(self.mode[self.within], minlength=self.n_modes)


def _assign(samples: ArrayLike, means: ArrayLike, std: float, n_std: float) -> _Assigned:
    points, centres = check_samples(samples=samples, means=means)
    check_number("std", std, Real, 0, open_low=True)
    check_number("n_std", n_std, Real, 0, open_low=True)
    distance, mode = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(centres).kneighbors(points)
    return _Assigned(points, mode[:, 0], distance[:, 0] <= n_std * std, len(centres))


def high_density_ratio(samples: ArrayLike, means: ArrayLike, std: float, *, n_std: float = 4.0) -> float:
    r"""Share of the samples that lie within a mode.

    .. math:: \frac1n \#\left\{i : \min_c |x_i - \mu_c| \le k \sigma\right\}

    Parameters
    ----------
    samples : array of shape (n, d)
    means : array of shape (c, d)
        Means :math:`\mu_c` of the mixture's components.
    std : float
        Standard deviation :math:`\sigma` of each component along each coordinate, in units of the samples.
    n_std : float, default=4
        Radius k of a mode. Of a component's own draws in d = 2 dimensions, :math:`1 - e^{-k^2/2}` lie within: 0.99966 for 4.

    Returns
    -------
    float, from 0 to 1

    Raises
    ------
    TypeError, ValueError
        If the samples and the means differ in their columns, or `std` or `n_std` is not a finite number above 0.

    References
    ----------
    A. Srivastava, L. Valkov, C. Russell, M. U. Gutmann and C. Sutton, VEEGAN, 2017.

    Examples
    --------
    >>> from skcvae.metrics import high_density_ratio
    >>> high_density_ratio([[0.1], [2.1], [1.0], [-0.3]], means=[[0.0], [2.0]], std=0.1)
    0.75
    """
    return float(_assign(samples, means, std, n_std).within.mean())


def std_within_modes(samples: ArrayLike, means: ArrayLike, std: float, *, n_std: float = 4.0) -> float:
    r"""Root mean square, over modes and coordinates, of the standard deviation of the samples within each mode.

    .. math:: \sqrt{\frac1{|M|\, d} \sum_{c \in M} \sum_{k=1}^d \mathrm{Var}\{x_{ik} : i \text{ within } c\}}

    over the modes M that hold two samples or more. The variance is about the samples' own mean, divided by their number.

    Parameters
    ----------
    samples : array of shape (n, d)
    means : array of shape (c, d)
        Means of the mixture's components.
    std : float
        Standard deviation of each component along each coordinate, in units of the samples; it sets the radius of a mode.
    n_std : float, default=4
        Radius of a mode, in standard deviations.

    Returns
    -------
    float, in units of the samples; NaN where no mode holds two samples

    Raises
    ------
    TypeError, ValueError
        If the samples and the means differ in their columns, or `std` or `n_std` is not a finite number above 0.

    References
    ----------
    X. Hao and P. Shafto, Coupled Variational Autoencoder, 2023.

    Examples
    --------
    >>> from skcvae.metrics import std_within_modes
    >>> round(std_within_modes([[0.1], [-0.1], [2.2], [1.8], [9.0]], means=[[0.0], [2.0]], std=0.1), 4)
    0.1581
    """
    assigned = _assign(samples, means, std, n_std)
    order = np.argsort(assigned.mode[assigned.within], kind="stable")
    groups = np.split(assigned.samples[assigned.within][order], assigned.count.cumsum()[:-1])
    variances = [group.var(0).mean() for group in groups if len(group) > 1]
    return math.sqrt(np.mean(variances)) if variances else math.nan


def modes_recovered(samples: ArrayLike, means: ArrayLike, std: float, *, n_std: float = 4.0) -> int:
    r"""Number of modes that hold at least a tenth of their equal share of the samples.

    .. math:: \#\left\{c : n_c \ge \frac{1}{10} \frac{n}{C}\right\}

    with :math:`n_c` of the n samples within mode c of C.

    Parameters
    ----------
    samples : array of shape (n, d)
    means : array of shape (c, d)
        Means of the mixture's components.
    std : float
        Standard deviation of each component along each coordinate, in units of the samples.
    n_std : float, default=4
        Radius of a mode, in standard deviations.

    Returns
    -------
    int, in modes, from 0 to c

    Raises
    ------
    TypeError, ValueError
        If the samples and the means differ in their columns, or `std` or `n_std` is not a finite number above 0.

    References
    ----------
    A. Srivastava, L. Valkov, C. Russell, M. U. Gutmann and C. Sutton, VEEGAN, 2017, who count a mode from one sample on.

    Examples
    --------
    >>> from skcvae.metrics import modes_recovered
    >>> modes_recovered([[0.1], [0.0], [-0.1], [9.0]], means=[[0.0], [2.0]], std=0.1)
    1
    """
    assigned = _assign(samples, means, std, n_std)
    return int((assigned.count >= SHARE_FOUND * len(assigned.samples) / assigned.n_modes).sum())


def mode_mass_kl(
    samples: ArrayLike, means: ArrayLike, std: float, *, weights: ArrayLike | None = None, n_std: float = 4.0
) -> float:
    r"""Divergence of the masses of the modes from the mixture's weights.

    .. math:: \mathrm{KL}(p \,\|\, w) = \sum_c p_c \log \frac{p_c}{w_c}, \qquad p_c = \frac{n_c}{\sum_{c'} n_{c'}}

    with :math:`n_c` samples within mode c; samples within no mode do not count. For draws from the mixture itself it is about
    (C - 1)/(2n) with C modes.

    Parameters
    ----------
    samples : array of shape (n, d)
    means : array of shape (c, d)
        Means of the mixture's components.
    std : float
        Standard deviation of each component along each coordinate, in units of the samples.
    weights : array of shape (c,), optional
        Weights w of the components, of any scale. Equal by default.
    n_std : float, default=4
        Radius of a mode, in standard deviations.

    Returns
    -------
    float, in nats; infinite where a mode of weight 0 holds samples, NaN where no sample is within a mode

    Raises
    ------
    TypeError, ValueError
        If the samples and the means differ in their columns, `std` or `n_std` is not a finite number above 0, or the weights are
        not one for each mean, none negative.

    References
    ----------
    A. Srivastava, L. Valkov, C. Russell, M. U. Gutmann and C. Sutton, VEEGAN, 2017.

    Examples
    --------
    >>> from skcvae.metrics import mode_mass_kl
    >>> samples = [[0.1], [0.0], [-0.1], [2.0]]
    >>> round(mode_mass_kl(samples, means=[[0.0], [2.0]], std=0.1), 4)
    0.1308
    >>> mode_mass_kl(samples, means=[[0.0], [2.0]], std=0.1, weights=[3, 1])
    0.0
    """
    assigned = _assign(samples, means, std, n_std)
    expected, found = _expected(weights, assigned.n_modes), assigned.count
    if not found.any():
        return math.nan
    share, expected = found[found > 0] / found.sum(), expected[found > 0]
    return float(np.sum(share * np.log(share / expected))) if expected.all() else math.inf


def _expected(weights: ArrayLike | None, n_modes: int) -> Array:
    """Weights of sum 1."""
    masses = np.ones(n_modes) if weights is None else np.asarray(weights, dtype=np.float64)
    if masses.shape != (n_modes,) or not np.isfinite(masses).all() or masses.min() < 0 or masses.sum() == 0:
        raise ValueError(
            f"weights must be {n_modes} numbers of at least 0, not all 0, got {weights!r}. Give one for each row of means."
        )
    return masses / masses.sum()
