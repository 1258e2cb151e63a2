"""Whether generated samples are copies of training data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors

from skcvae._random import make_rng
from skcvae.metrics._checks import check_samples


@dataclass(frozen=True)
class Memorisation:
    """A share of generated points near training data, beside what is expected without memorisation.

    Attributes
    ----------
    share : float, share of the generated points whose nearest datum is a training one
    expected : float, share of the training data in all data: 0.5 for sets of equal size
    standard_error : float, standard deviation of the share where the split into both sets is unrelated to the model
    """

    share: float
    expected: float
    standard_error: float


def memorisation(generated: ArrayLike, train: ArrayLike, held_out: ArrayLike, *, random_state: object = None) -> Memorisation:
    r"""Share of the generated points that lie nearer to training than to held-out data.

    .. math::
        \hat s = \frac1g \sum_{j=1}^g 1\left\{d(y_j, T) < d(y_j, H)\right\}, \qquad
        \mathrm{E}\,\hat s = \frac{n}{n + h}, \quad
        \mathrm{Var}\,\hat s = \frac{n h}{g^2 (n + h) (n + h - 1)} \sum_i \left(c_i - \frac{g}{n + h}\right)^2

    with n training data T and h held-out data H, and :math:`c_i` generated points nearest to datum i. The mean and the variance
    are exact for data of one law and any model, good or bad, that knows T no better than H: the split is then a random one. A
    model that copies has a share near 1; a share many standard errors above the expected one says that the model knows its
    training data. Sets of equal size leave the most room between both; the training set may be sub-sampled for it.

    Parameters
    ----------
    generated : array of shape (g, d)
        Points y, without added noise if copies of the data are looked for.
    train : array of shape (n, d)
    held_out : array of shape (h, d)
        Of the law of the training data, and unseen by the model.
    random_state : int, RandomState, Generator or None
        Breaks ties between equally near data.

    Returns
    -------
    Memorisation, with `share`, `expected` and `standard_error`, from 0 to 1

    Raises
    ------
    TypeError, ValueError
        If the three samples differ in their columns.

    References
    ----------
    M. Platzer and T. Reutterer, Holdout-based empirical assessment of mixed-type synthetic data, 2021. The comparison of three
    samples is that of C. Meehan, K. Chaudhuri and S. Dasgupta, A non-parametric test to detect data-copying in generative models,
    2020, whose statistic sets distances of generated against those of held-out points and so also moves with the model's quality.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.metrics import memorisation
    >>> train, held_out, fresh = np.random.default_rng(0).normal(size=(3, 500, 2))
    >>> memorisation(train + 1e-6, train, held_out).share
    1.0
    >>> honest = memorisation(fresh, train, held_out)
    >>> honest.expected, round(honest.standard_error, 2), abs(honest.share - 0.5) < 3 * honest.standard_error
    (0.5, 0.02, True)
    """
    points, *both = check_samples(generated=generated, train=train, held_out=held_out)
    data = np.vstack(both)
    order = make_rng(random_state).permutation(len(data))
    search = NearestNeighbors(n_neighbors=1).fit((data - data.mean(0))[order])
    nearest = order[search.kneighbors(points - data.mean(0), return_distance=False)[:, 0]]
    n_train, n_all = len(both[0]), len(data)
    variance = np.bincount(nearest, minlength=n_all).var() * n_train * (n_all - n_train) / (n_all - 1)
    return Memorisation(float((nearest < n_train).mean()), n_train / n_all, math.sqrt(variance) / len(points))
