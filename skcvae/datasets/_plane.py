"""Points of the plane: a grid of Gaussians, rings and a pinwheel."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from skcvae._checks import check_number
from skcvae._random import make_rng

#: The bend of an arm is exponential in the radius, which stays finite up to this.
LARGEST_RADIAL_STD = 50.0
Array = NDArray[np.float64]
Classes = NDArray[np.intp]


def gaussian_grid_means(n_side: int = 5, spacing: float = 1.0) -> Array:
    r"""Means of the components of `make_gaussian_grid`, in the order of its classes.

    .. math:: \mu_{kn + j} = s \left(j - \tfrac{n - 1}2,\; k - \tfrac{n - 1}2\right), \qquad j, k = 0, \dots, n - 1

    Parameters
    ----------
    n_side : int, default=5
        Components n along each side.
    spacing : float, default=1.0
        Distance s between neighbours.

    Returns
    -------
    array of shape (n_side ** 2, 2)

    Raises
    ------
    TypeError, ValueError
        If `n_side` is not an integer of at least 1, or `spacing` not a finite number above 0.

    Examples
    --------
    >>> from skcvae.datasets import gaussian_grid_means
    >>> gaussian_grid_means(n_side=2)
    array([[-0.5, -0.5],
           [ 0.5, -0.5],
           [-0.5,  0.5],
           [ 0.5,  0.5]])
    """
    check_number("n_side", n_side, Integral, 1)
    check_number("spacing", spacing, Real, 0, open_low=True)
    side = spacing * (np.arange(n_side) - (n_side - 1) / 2)
    return np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def make_gaussian_grid(
    n_samples: int = 7500,
    *,
    n_side: int = 5,
    spacing: float = 1.0,
    std: float = 0.05,
    shuffle: bool = True,
    random_state: object = None,
) -> tuple[Array, Classes]:
    r"""Gaussians on a square grid about the origin.

    .. math:: x_i \sim \mathcal N(\mu_{y_i}, \sigma^2 I)

    with the means of `gaussian_grid_means`. Every component has as many points as the others; where `n_samples` leaves a rest, the
    components that get one point more are drawn without replacement.

    Parameters
    ----------
    n_samples : int, default=7500
        Points in all. The default is 300 for each of 25 components.
    n_side : int, default=5
        Components along each side.
    spacing : float, default=1.0
        Distance between neighbouring means.
    std : float, default=0.05
        Standard deviation :math:`\sigma` of each component along each coordinate.
    shuffle : bool, default=True
        Whether the rows come in random order. Otherwise they are grouped by component.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    X : array of shape (n_samples, 2)
    y : array of shape (n_samples,)
        Component of each point, from 0 to n_side ** 2 - 1: a row of ``gaussian_grid_means(n_side, spacing)``.

    Raises
    ------
    TypeError, ValueError
        If a count is not an integer of at least 1, `spacing` not a finite number above 0, or `std` not one of at least 0.

    References
    ----------
    A. Srivastava, L. Valkov, C. Russell, M. U. Gutmann and C. Sutton, VEEGAN, 2017.

    Examples
    --------
    >>> from skcvae.datasets import gaussian_grid_means, make_gaussian_grid
    >>> from skcvae.metrics import modes_recovered
    >>> X, y = make_gaussian_grid(random_state=0)
    >>> modes_recovered(X, gaussian_grid_means(), std=0.05)
    25
    """
    check_number("n_samples", n_samples, Integral, 1)
    check_number("std", std, Real, 0)
    means, rng = gaussian_grid_means(n_side, spacing), make_rng(random_state)
    y = _classes(n_samples, np.ones(len(means), dtype=np.int64), shuffle, rng)
    return means[y] + std * rng.standard_normal((len(y), 2)), y


def make_rings(
    n_samples: int = 2000,
    *,
    n_rings: int = 4,
    spacing: float = 1.0,
    std: float = 0.1,
    shuffle: bool = True,
    random_state: object = None,
) -> tuple[Array, Classes]:
    r"""Concentric rings about the origin, with noise along the radius.

    .. math:: x_i = r_i (\cos \phi_i, \sin \phi_i), \qquad r_i \sim \mathcal N\big(s (y_i + 1), \sigma^2\big), \qquad
        \phi_i \sim \mathcal U[0, 2 \pi)

    All rings are equally dense along their circumference: the numbers of points are proportional to the radii, to within one.

    Parameters
    ----------
    n_samples : int, default=2000
        Points in all.
    n_rings : int, default=4
    spacing : float, default=1.0
        Distance s between neighbouring rings, and radius of the first.
    std : float, default=0.1
        Standard deviation :math:`\sigma` of the radius. From about a third of `spacing` on, the rings overlap.
    shuffle : bool, default=True
        Whether the rows come in random order. Otherwise they are grouped by ring.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    X : array of shape (n_samples, 2)
    y : array of shape (n_samples,)
        Ring of each point, from 0, the innermost, to n_rings - 1.

    Raises
    ------
    TypeError, ValueError
        If a count is not an integer of at least 1, `spacing` not a finite number above 0, or `std` not one of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.datasets import make_rings
    >>> X, y = make_rings(1000, random_state=0)
    >>> np.bincount(y).tolist()
    [100, 200, 300, 400]
    """
    check_number("n_samples", n_samples, Integral, 1)
    check_number("n_rings", n_rings, Integral, 1)
    check_number("spacing", spacing, Real, 0, open_low=True)
    check_number("std", std, Real, 0)
    rng = make_rng(random_state)
    y = _classes(n_samples, np.arange(1, n_rings + 1), shuffle, rng)
    radius = spacing * (y + 1) + std * rng.standard_normal(len(y))
    return _plane(radius * np.exp(2j * np.pi * rng.random(len(y)))), y


def make_pinwheel(
    n_samples: int = 2000,
    *,
    n_arms: int = 5,
    radial_std: float = 0.3,
    tangential_std: float = 0.1,
    rate: float = 0.25,
    shuffle: bool = True,
    random_state: object = None,
) -> tuple[Array, Classes]:
    r"""Spiral arms: a Gaussian beside the origin, sheared and turned to each arm's direction.

    .. math:: x_i = R\left(\frac{2 \pi y_i}{K} + \rho\, e^{r_i}\right) \binom{r_i}{t_i}, \qquad
        r_i \sim \mathcal N(1, \sigma_r^2), \qquad t_i \sim \mathcal N(0, \sigma_t^2)

    with R the rotation by an angle, counter-clockwise. Every arm has as many points as the others; where `n_samples` leaves a rest,
    the arms that get one point more are drawn without replacement.

    Parameters
    ----------
    n_samples : int, default=2000
        Points in all.
    n_arms : int, default=5
        Arms K.
    radial_std, tangential_std : float, default=0.3 and 0.1
        Standard deviations :math:`\sigma_r` along an arm and :math:`\sigma_t` across it.
    rate : float, default=0.25
        How much an arm bends, :math:`\rho`, in radians. 0 gives straight arms, a negative number bends them clockwise.
    shuffle : bool, default=True
        Whether the rows come in random order. Otherwise they are grouped by arm.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    X : array of shape (n_samples, 2)
    y : array of shape (n_samples,)
        Arm of each point, from 0 to n_arms - 1.

    Raises
    ------
    TypeError, ValueError
        If a count is not an integer of at least 1, a standard deviation not a finite number of at least 0, or `rate` not finite.

    References
    ----------
    M. J. Johnson, D. Duvenaud, A. B. Wiltschko, S. R. Datta and R. P. Adams, Composing graphical models with neural networks for
    structured representations and fast inference, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.datasets import make_pinwheel
    >>> X, y = make_pinwheel(1000, random_state=0)
    >>> np.bincount(y).tolist()
    [200, 200, 200, 200, 200]
    """
    check_number("n_samples", n_samples, Integral, 1)
    check_number("n_arms", n_arms, Integral, 1)
    check_number("radial_std", radial_std, Real, 0, high=LARGEST_RADIAL_STD)
    check_number("tangential_std", tangential_std, Real, 0)
    check_number("rate", rate, Real, -np.inf)
    rng = make_rng(random_state)
    y = _classes(n_samples, np.ones(n_arms, dtype=np.int64), shuffle, rng)
    radial, across = 1 + radial_std * rng.standard_normal(len(y)), tangential_std * rng.standard_normal(len(y))
    return _plane((radial + 1j * across) * np.exp(1j * (2 * np.pi * y / n_arms + rate * np.exp(radial)))), y


def _classes(n_samples: int, shares: NDArray[np.int64], shuffle: bool, rng: np.random.Generator) -> Classes:
    """A class for each row, in proportion to whole shares; what the division leaves goes to classes by chance, at most one each."""
    total = int(n_samples)
    counts, parts = np.divmod(total * shares, shares.sum())
    if parts.any():
        counts[rng.choice(len(shares), total - counts.sum(), replace=False, p=parts / parts.sum())] += 1
    y = np.repeat(np.arange(len(shares)), counts)
    return rng.permutation(y) if shuffle else y


def _plane(points: NDArray[np.complex128]) -> Array:
    """Points of the complex plane as rows of two coordinates."""
    return np.column_stack([points.real, points.imag])
