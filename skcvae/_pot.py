"""The only file that imports POT; it owns the change of convention.

POT's Sinkhorn returns scalings u, v of exp(-C/epsilon) with the weights inside them; here potentials are in cost units and the
plan's density with respect to the product of the marginals is exp((f_i + g_j - C_ij)/epsilon).
"""

from __future__ import annotations

import numpy as np
import ot
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sinkhorn(cost: Array, a: Array, b: Array, epsilon: float, tol: float = 1e-12) -> tuple[Array, Array]:
    r"""Potentials of entropic optimal transport between two discrete measures, in the log domain.

    Parameters
    ----------
    cost : array of shape (n, m)
    a, b : arrays of shape (n,) and (m,), the weights of rows and columns
    epsilon : float > 0, in cost units
    tol : float, POT's tolerance on the marginal

    Returns
    -------
    f, g : arrays of shape (n,) and (m,), in cost units, with :math:`\sum_j b_j g_j = 0`
    """
    result = ot.bregman.sinkhorn_log(a, b, cost, epsilon, numItermax=100_000, stopThr=tol, log=True)[1]
    f = epsilon * (result["log_u"] - np.log(a))
    g = epsilon * (result["log_v"] - np.log(b))
    shift = float(b @ g)
    return f + shift, g - shift
