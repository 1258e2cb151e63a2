"""The only file that imports POT; it owns the change of convention.

POT's Sinkhorn returns scalings of exp(-C/epsilon), with the weights inside them or not, by function; here potentials are in cost
units and the plan's density with respect to the product of the marginals is exp((f_i + g_j - C_ij)/epsilon).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skcvae._context import without_warnings

Array = NDArray[np.float64]


def semi_relaxed(
    cost: Array,
    row_weights: Array,
    weights: Array,
    start: Array,
    epsilon: float,
    varsigma: float = math.inf,
    *,
    tol: float = 1e-12,
    max_iter: int = 100_000,
) -> tuple[Array, int] | None:
    r"""Data potential of entropic transport from weighted rows, held exactly, to weighted columns.

    Parameters
    ----------
    cost : array of shape (n, m)
    row_weights : array of shape (n,), positive with sum 1
    weights : array of shape (m,), of the columns
    start : array of shape (n,), a potential to start from, in cost units
    epsilon : float > 0, in cost units
    varsigma : float > 0 or inf, weight of the columns' Kullback-Leibler divergence; inf holds the columns exactly
    tol : float, POT's tolerance: on the columns' marginal, or on the relative change where varsigma is finite
    max_iter : int

    Returns
    -------
    potential : array of shape (n,), f in cost units
    n_iter : int
        None in place of both where POT's result is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae._pot import semi_relaxed
    >>> abs(semi_relaxed(np.zeros((3, 2)), np.full(3, 1 / 3), np.array([0.5, 0.5]), np.zeros(3), 1.0)[0]).round(12)
    array([0., 0., 0.])
    """
    nearest = cost.min(1)  # so that the kernel's largest entry in each row is 1
    units = (cost - nearest[:, None]) / epsilon, row_weights, weights, (start - nearest) / epsilon, varsigma / epsilon
    problem = _Problem(*units, tol, max_iter)
    with without_warnings(r"ot\."), np.errstate(all="ignore"):
        scaled, n_iter = problem.balanced() if varsigma == math.inf else problem.unbalanced()
    found = nearest + epsilon * scaled
    return (found, n_iter) if np.isfinite(found).all() else None


def squared_wasserstein_1d(a: Tensor, b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distances of columns (n, L) and (m, L) of points on the line, (L,); differentiable.

    Examples
    --------
    >>> import torch
    >>> from skcvae._pot import squared_wasserstein_1d
    >>> squared_wasserstein_1d(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0]])).tolist()
    [1.0]
    """
    import ot

    with without_warnings(r"ot\."):
        return ot.wasserstein_1d(a, b, p=2)


@dataclass(frozen=True)
class _Problem:
    """The same problem in units of epsilon."""

    cost: Array
    a: Array
    b: Array
    start: Array
    varsigma: float
    tol: float
    max_iter: int

    def balanced(self) -> tuple[Array, int]:
        """In the log domain: POT's scalings hold the weights."""
        import ot

        log_a = np.log(self.a)
        warm = self.start + log_a, np.zeros_like(self.b)
        log = ot.bregman.sinkhorn_log(self.a, self.b, self.cost, 1.0, self.max_iter, self.tol, log=True, warmstart=warm)[1]
        return log["log_u"] - log_a, log["niter"] + 1

    def unbalanced(self) -> tuple[Array, int]:
        """With absorption of large scalings: POT's are with respect to the product of the weights."""
        import ot

        log_sum = np.logaddexp.reduce((self.start + np.log(self.a))[:, None] - self.cost, axis=0)
        warm = (self.start, -log_sum * self.varsigma / (1 + self.varsigma))
        log = ot.unbalanced.sinkhorn_unbalanced(
            self.a, self.b, self.cost, 1.0, (math.inf, self.varsigma), method="sinkhorn_stabilized", reg_type="kl",
            warmstart=warm, numItermax=self.max_iter, stopThr=self.tol, log=True,
        )[1]  # fmt: skip
        return log["logu"], 10 * len(log["err"])
