"""The sliced Wasserstein distance of two samples."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from numpy.typing import ArrayLike

from skcvae._checks import check_number
from skcvae._kernels import chunk_length
from skcvae._random import make_rng, make_torch_generator
from skcvae.divergences import SlicedWasserstein
from skcvae.metrics._checks import check_samples


def sliced_wasserstein(x: ArrayLike, y: ArrayLike, *, n_projections: int = 500, random_state: object = None) -> float:
    r"""Sliced 2-Wasserstein distance.

    .. math:: \left(\frac1L \sum_{l=1}^L \int_0^1 \left(F_l^{-1}(t) - G_l^{-1}(t)\right)^2 dt\right)^{1/2}

    with F and G the distribution functions of both samples along direction l, uniform on the unit sphere. The integral is exact
    for samples of any sizes. It is the root of what `skcvae.divergences.SlicedWasserstein` trains on. Two samples of n rows of
    one law lie some :math:`n^{-1/2}` standard deviations apart. Columns count in their units: put them on one scale first.

    Parameters
    ----------
    x : array of shape (n, d)
    y : array of shape (m, d)
    n_projections : int, default=500
        Directions L. The relative error of the square falls with their root.
    random_state : int, RandomState, Generator or None
        Source of the directions.

    Returns
    -------
    float, in units of the samples

    Raises
    ------
    TypeError, ValueError
        If the samples differ in their columns, or `n_projections` is not an integer of at least 1.

    References
    ----------
    N. Bonneel, J. Rabin, G. Peyré and H. Pfister, Sliced and Radon Wasserstein barycenters of measures, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.metrics import sliced_wasserstein
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> sliced_wasserstein(x, x, random_state=0), round(sliced_wasserstein(x, x + 1, random_state=0), 1)
    (0.0, 1.0)
    """
    first, second = map(torch.from_numpy, check_samples(x=x, y=y))
    check_number("n_projections", n_projections, Integral, 1)
    generator = make_torch_generator(make_rng(random_state))
    most, total = chunk_length(len(first) + len(second)), 0.0
    for begin in range(0, n_projections, most):
        chosen = SlicedWasserstein(min(most, n_projections - begin))
        total += chosen.n_projections * float(chosen.begin(first.shape[1], generator)(first, second))
    return math.sqrt(total / n_projections)
