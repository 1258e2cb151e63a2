"""Pareto k-hat: how heavy the tail of a row's importance weights is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: The tail is the largest of this share of the weights and this multiple of the square root of their number.
TAIL_SHARE, TAIL_ROOTS = 0.2, 3.0
#: Fewer tail weights than this say nothing.
FEWEST_TAIL_WEIGHTS = 5
#: Weak priors of the generalised Pareto fit: on its scale, and on its shape towards 1/2 as if by so many weights.
PRIOR_SCALE, PRIOR_SHAPE_WEIGHTS = 3.0, 10.0


def pareto_k(log_weights: Array) -> Array:
    r"""Shape of the generalised Pareto distribution fitted to the largest weights of each row.

    Below 0.5 the weights have a variance, below 0.7 their averages can be trusted; above 1 not even their mean exists.

    Parameters
    ----------
    log_weights : array of shape (n, m)

    Returns
    -------
    array of shape (n,); infinite where too few weights are in the tail

    References
    ----------
    A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry, Pareto smoothed importance sampling, 2024. J. Zhang and M. Stephens,
    A new and efficient estimation method for the generalized Pareto distribution, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.posteriors import pareto_k
    >>> bool(abs(pareto_k(np.random.default_rng(0).exponential(0.3, size=(1, 100000)))[0] - 0.3) < 0.1)
    True
    """
    n_draws = log_weights.shape[1]
    n_tail = math.ceil(min(TAIL_SHARE * n_draws, TAIL_ROOTS * math.sqrt(n_draws)))
    largest = np.sort(np.partition(log_weights, -n_tail - 1, axis=1)[:, -n_tail - 1 :], axis=1)
    weights = np.exp(largest - largest[:, -1:])
    cutoff = np.maximum(weights[:, :1], np.finfo(np.float64).tiny)
    return np.array([_shape((row - cut)[row > cut]) for row, cut in zip(weights, cutoff, strict=True)])


def _shape(excess: Array) -> float:
    """Posterior mean of the generalised Pareto shape, by quadrature over a grid of b = -shape/scale; excesses ascend."""
    n = len(excess)
    if n < FEWEST_TAIL_WEIGHTS:
        return math.inf
    n_nodes = 30 + math.isqrt(n)
    nodes = 1 - np.sqrt(n_nodes / (np.arange(1, n_nodes + 1) - 0.5))
    b = nodes / (PRIOR_SCALE * excess[int(n / 4 + 0.5) - 1]) + 1 / excess[-1]
    shapes = np.log1p(-b[:, None] * excess).mean(1)
    log_profile = n * (np.log(-b / shapes) - shapes - 1)
    weights = np.exp(log_profile - log_profile.max())
    shape = float(np.log1p(-(b @ weights) / weights.sum() * excess).mean())
    return (n * shape + PRIOR_SHAPE_WEIGHTS * 0.5) / (n + PRIOR_SHAPE_WEIGHTS)
