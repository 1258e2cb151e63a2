"""Supports of two samples, each taken as the union of balls around its points that reach to the k-th neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors

from skcvae._checks import check_number
from skcvae.metrics._checks import Array, check_samples, row_blocks

#: Rounding of a squared distance, in units of the squared distances of both points from the common mean.
ROUNDING = 1e-12


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of each sample inside the other's support.

    Attributes
    ----------
    precision : float, share of the generated points inside the support of the real ones
    recall : float, share of the real points inside the support of the generated ones
    """

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """How densely and how completely generated points fill the balls of real ones.

    Attributes
    ----------
    density : float, real balls that hold a generated point, over the number of neighbours; about 1 for equal laws, unbounded
    coverage : float, share of the real balls with a generated point inside
    """

    density: float
    coverage: float


def precision_recall(real: ArrayLike, generated: ArrayLike, *, n_neighbors: int = 5) -> PrecisionRecall:
    r"""Improved precision and recall.

    .. math::
        \mathrm{precision} = \frac1m \#\left\{j : \exists i\; |y_j - x_i| \le r_k(x_i)\right\}, \qquad
        \mathrm{recall} = \frac1n \#\left\{i : \exists j\; |x_i - y_j| \le r_k(y_j)\right\}

    with the distance :math:`r_k` of a point to the k-th nearest other one of its own sample. Low precision says that generated
    points lie where no data are, low recall that parts of the data are missing. Equal laws give values below 1, the same for
    both at equal sizes; compare with those of two real samples. One far outlier has a large ball: `density_coverage` bears it.

    Parameters
    ----------
    real : array of shape (n, d)
        Points x.
    generated : array of shape (m, d)
        Points y. A number near n makes precision and recall comparable.
    n_neighbors : int, default=5
        k. The paper takes 3.

    Returns
    -------
    PrecisionRecall, with `precision` and `recall` from 0 to 1

    Raises
    ------
    TypeError, ValueError
        If the samples differ in their columns, or `n_neighbors` is not an integer from 1 to the rows of each less 1.

    References
    ----------
    T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen and T. Aila, Improved precision and recall metric for assessing generative
    models, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.metrics import precision_recall
    >>> rng = np.random.default_rng(0)
    >>> real, narrow = rng.normal(size=(500, 2)), rng.normal(scale=0.3, size=(500, 2))
    >>> found = precision_recall(real, narrow)
    >>> found.precision > 0.95, found.recall < 0.7
    (True, True)
    """
    check_number("n_neighbors", n_neighbors, Integral, 1)
    x, y = _centred(real, generated, n_neighbors + 1, n_neighbors + 1)
    return PrecisionRecall(_inside_any(x, y, n_neighbors), _inside_any(y, x, n_neighbors))


def density_coverage(real: ArrayLike, generated: ArrayLike, *, n_neighbors: int = 5) -> DensityCoverage:
    r"""Density and coverage.

    .. math::
        \mathrm{density} = \frac1{k m} \sum_{ij} 1\left\{|y_j - x_i| \le r_k(x_i)\right\}, \qquad
        \mathrm{coverage} = \frac1n \#\left\{i : \exists j\; |y_j - x_i| \le r_k(x_i)\right\}

    with the distance :math:`r_k` of a real point to the k-th nearest other one. Equal laws give a density of 1 in the mean and
    a coverage of :math:`1 - \frac{(n-1) \cdots (n-k)}{(n+m-1) \cdots (n+m-k)}`, which is about :math:`1 - 2^{-k}` at equal sizes.

    Parameters
    ----------
    real : array of shape (n, d)
        Points x.
    generated : array of shape (m, d)
        Points y.
    n_neighbors : int, default=5
        k.

    Returns
    -------
    DensityCoverage, with `density` of at least 0 and `coverage` from 0 to 1

    Raises
    ------
    TypeError, ValueError
        If the samples differ in their columns, or `n_neighbors` is not an integer from 1 to the number of real rows less 1.

    References
    ----------
    M. F. Naeem, S. J. Oh, Y. Uh, Y. Choi and J. Yoo, Reliable fidelity and diversity metrics for generative models, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.metrics import density_coverage
    >>> rng = np.random.default_rng(0)
    >>> found = density_coverage(rng.normal(size=(500, 2)), rng.normal(size=(500, 2)))
    >>> abs(found.density - 1) < 0.2, abs(found.coverage - (1 - 2**-5)) < 0.03
    (True, True)
    """
    check_number("n_neighbors", n_neighbors, Integral, 1)
    x, y = _centred(real, generated, n_neighbors + 1, 1)
    held = np.concatenate([inside.sum(1) for inside in _inside(x, y, n_neighbors)])
    return DensityCoverage(float(held.sum() / (n_neighbors * len(y))), float((held > 0).mean()))


def _centred(real: ArrayLike, generated: ArrayLike, *min_rows: int) -> tuple[Array, Array]:
    """Both samples about their common mean, where rounding is least."""
    x, y = check_samples(real=real, generated=generated)
    for name, sample, least in zip(("real", "generated"), (x, y), min_rows, strict=True):
        if len(sample) < least:
            raise ValueError(f"{name} must have more rows than n_neighbors={least - 1}, got {len(sample)}. Lower n_neighbors.")
    mean = np.vstack([x, y]).mean(0)
    return x - mean, y - mean


def _inside_any(centres: Array, points: Array, n_neighbors: int) -> float:
    """Share of the points that are inside a ball."""
    found = np.zeros(len(points), dtype=bool)
    for inside in _inside(centres, points, n_neighbors):
        found |= inside.any(0)
    return float(found.mean())


def _inside(centres: Array, points: Array, n_neighbors: int) -> Iterator[NDArray[np.bool_]]:
    """Which points are inside the closed ball of each centre, in blocks of centres; rounding counts as inside."""
    neighbour = NearestNeighbors(n_neighbors=n_neighbors).fit(centres).kneighbors(return_distance=False)[:, -1]
    reach = ((centres - centres[neighbour]) ** 2).sum(1)
    size, other = ((sample**2).sum(1) for sample in (centres, points))
    for rows in row_blocks(len(centres), len(points)):
        squared = (1 - ROUNDING) * (size[rows, None] + other) - 2 * centres[rows] @ points.T
        yield squared <= reach[rows, None]
