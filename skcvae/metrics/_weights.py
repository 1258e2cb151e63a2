"""How unequal weights are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array

Array = NDArray[np.float64]


def effective_sample_size(weights: ArrayLike | None = None, *, log_weights: ArrayLike | None = None) -> float:
    r"""Number of equally weighted draws whose average has the variance of the weighted one (Kish).

    .. math:: \frac{\left(\sum_j w_j\right)^2}{\sum_j w_j^2}

    Parameters
    ----------
    weights : array of shape (m,), optional
        Of any scale, not negative, not all 0.
    log_weights : array of shape (m,), optional
        Their logarithms instead, of any offset; -inf is a weight of 0.

    Returns
    -------
    float, in draws, from 1 to m

    Raises
    ------
    ValueError
        Unless one of both is given, with at least one weight above 0 and none below.

    References
    ----------
    L. Kish, Survey Sampling, 1965.

    Examples
    --------
    >>> from skcvae.metrics import effective_sample_size
    >>> effective_sample_size([1, 1, 1, 1]), effective_sample_size(log_weights=[-1000, -1000, float("-inf")])
    (4.0, 2.0)
    """
    if (weights is None) == (log_weights is None):
        raise ValueError("Give either weights or log_weights, and not both.")
    scaled = _scaled(weights) if weights is not None else _exponentials(log_weights)
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def marginal_chi2(density: ArrayLike) -> float:
    r"""Chi-square divergence of a marginal from the uniform one.

    .. math:: \chi^2 = \frac1n \sum_i (\rho_i - 1)^2, \qquad \rho_i = n \bar P_i

    with the mass :math:`\bar P_i` that a transport plan, or any weighting, gives to datum i. For weights of sum 1 it is n over the
    effective sample size, less 1.

    Parameters
    ----------
    density : array of shape (n,)
        Masses times n: 1 everywhere for the uniform marginal. They are not normalised, so that missing mass counts.

    Returns
    -------
    float, without unit; 0 for the uniform marginal

    Raises
    ------
    ValueError
        If a density is negative or not finite.

    References
    ----------
    A. B. Tsybakov, Introduction to Nonparametric Estimation, 2009, section 2.4.

    Examples
    --------
    >>> from skcvae.metrics import marginal_chi2
    >>> marginal_chi2([1, 1, 1, 1]), marginal_chi2([2, 2, 0, 0])
    (0.0, 1.0)
    """
    return float(((_nonnegative("density", density) - 1) ** 2).mean())


def _nonnegative(name: str, values: ArrayLike) -> Array:
    vector: Array = check_array(values, dtype=np.float64, ensure_2d=False, input_name=name)
    if vector.ndim != 1 or vector.min() < 0:
        raise ValueError(
            f"{name} must be a vector of numbers of at least 0, got shape {vector.shape} and smallest value {vector.min():g}."
            f" Give one number for each datum{'; logarithms go to log_weights' if name == 'weights' else ''}."
        )
    return vector


def _scaled(weights: ArrayLike) -> Array:
    vector = _nonnegative("weights", weights)
    if vector.max() == 0:
        raise ValueError("weights must have one entry above 0, got zeros only. Give log_weights where the weights underflow.")
    return vector / vector.max()


def _exponentials(log_weights: ArrayLike | None) -> Array:
    """Weights with a largest one of 1."""
    vector = np.asarray(log_weights, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0 or np.isnan(vector).any() or not np.isfinite(vector.max()):
        raise ValueError(
            f"log_weights must be a vector without NaN and with a finite largest entry, got shape {vector.shape}, "
            f"{np.isnan(vector).sum()} NaN and {np.isposinf(vector).sum()} infinite. Remove draws without a weight."
        )
    return np.exp(vector - vector.max())
