"""Solvers of the semi-dual with a vector potential: accelerated Sinkhorn, the printed gradient ascent, and POT's over atoms."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from skcvae import _pot
from skcvae._checks import check_number
from skcvae.transport._problem import Solution, Source, State, Target, cost_matrix, evaluate, sinkhorn_step, with_products
from skcvae.transport._solver import VectorSolver, check_epsilon, with_zeros

#: Past iterates that the accelerated fixed point mixes.
MEMORY = 8
#: Relative ridge of the least squares problem that mixes them.
RIDGE = 1e-8
#: Mixing starts below this marginal error, and afresh when it grew by more than this factor.
LARGEST_MIXED, GROWTH_ALLOWED = 0.1, 2.0


@dataclass(frozen=True)
class SemiDual(VectorSolver):
    """The semi-dual solved by Sinkhorn steps, accelerated on fixed draws; see `Solver` for the parameters.

    Examples
    --------
    A plan between four points on a line and three atoms, from its cost matrix:

    >>> import torch
    >>> from skcvae.transport import SemiDual, from_cost, plan
    >>> x, z = torch.arange(4.0).double(), torch.tensor([0.0, 1.5, 3.0]).double()
    >>> source, target = from_cost((x[:, None] - z).square())
    >>> solution = SemiDual(marginal_tol=1e-12).solve(source, target, epsilon=0.5)
    >>> [round(float(mass), 6) for mass in plan(solution.state).sum(1)]
    [0.25, 0.25, 0.25, 0.25]
    """

    def following(self, state: State) -> Tensor:
        return sinkhorn_step(state)

    def solve_batch(self, source: Source, target: Target, epsilon: float, potential: Tensor) -> Solution:
        target = with_products(source, target)
        state = evaluate(source, target, potential, epsilon, with_barycentres=True)
        for iteration in range(1, self.batch_max_iter):
            if state.marginal_error <= self.batch_marginal_tol:
                return Solution(state, iteration, True)
            state = evaluate(source, target, self.following(state), epsilon, with_barycentres=True)
        return Solution(state, self.batch_max_iter, state.marginal_error <= self.batch_marginal_tol)

    def solve(self, source: Source, target: Target, epsilon: float, potential: Tensor | None = None) -> Solution:
        """Accelerated Sinkhorn iterations on a fixed set of draws, from a given potential (n,) or zero, until `marginal_tol`."""
        epsilon = check_epsilon(epsilon)
        target = with_products(source, target)
        iteration = _Accelerated(source, target, epsilon)
        state, n_iter = iteration.run(with_zeros(source, potential), self.marginal_tol, self.max_iter)
        return Solution(state, n_iter, state.marginal_error <= self.marginal_tol)


@dataclass(frozen=True)
class GradientAscent(SemiDual):
    r"""Algorithm 2's update of the potential as printed: plain gradient ascent, K steps on each training step's draws.

    .. math:: f_i \leftarrow f_i + \lambda_1 \Big(\frac1n - \sum_j b_j w_j P_{ij}\Big)

    For the ablation: a starved datum rises by at most `step_size` epsilon a step, so that modes die. The other phases of a fit use
    `SemiDual`.

    Parameters
    ----------
    marginal_tol, max_iter, batch_marginal_tol, batch_max_iter, strategy : see `Solver`; `batch_max_iter` is the printed K
    step_size : float, default=1.0
        The printed :math:`\lambda_1` in its natural unit, :math:`n \epsilon`.

    Examples
    --------
    >>> import torch
    >>> from skcvae.transport import GradientAscent, from_cost
    >>> source, target = from_cost(torch.eye(3).double())
    >>> GradientAscent(marginal_tol=1e-6, max_iter=1000).solve(source, target, epsilon=0.5).converged
    True
    """

    step_size: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("step_size of GradientAscent", self.step_size, numbers.Real, 0, open_low=True)

    def following(self, state: State) -> Tensor:
        return state.potential - self.step_size * state.epsilon * state.log_mass.expm1()

    def solve(self, source: Source, target: Target, epsilon: float, potential: Tensor | None = None) -> Solution:
        """The same steps on a fixed set of draws until `marginal_tol`, at most `max_iter`."""
        epsilon = check_epsilon(epsilon)
        target = with_products(source, target)
        state = evaluate(source, target, with_zeros(source, potential), epsilon)
        for iteration in range(1, self.max_iter):
            if state.marginal_error <= self.marginal_tol:
                return Solution(state, iteration, True)
            state = evaluate(source, target, self.following(state), epsilon)
        return Solution(state, self.max_iter, state.marginal_error <= self.marginal_tol)


@dataclass(frozen=True)
class Sinkhorn(VectorSolver):
    """POT's Sinkhorn between the data and atoms; both marginals exact. See `Solver` for the parameters.

    The cost matrix is held whole, in double precision. Where POT's result is not finite or misses the tolerance, as it can at a
    large cost over epsilon, `SemiDual` solves the same problem from there.

    Examples
    --------
    >>> import torch
    >>> from skcvae.transport import Sinkhorn, from_cost, plan
    >>> source, target = from_cost(torch.eye(3).double(), torch.tensor([0.5, 0.25, 0.25]).double())
    >>> solution = Sinkhorn(marginal_tol=1e-12).solve(source, target, epsilon=0.5)
    >>> [round(float(mass), 6) for mass in plan(solution.state).sum(0)]
    [0.5, 0.25, 0.25]
    """

    def following(self, state: State) -> Tensor:
        return state.potential

    def solve_batch(self, source: Source, target: Target, epsilon: float, potential: Tensor) -> Solution:
        solution = self.solve(source, target, epsilon, potential)
        return Solution(solution.state, solution.n_iter, solution.state.marginal_error <= self.batch_marginal_tol)

    def solve(self, source: Source, target: Target, epsilon: float, potential: Tensor | None = None) -> Solution:
        """POT's iterations from a given potential (n,) or zero, until `marginal_tol`."""
        epsilon = check_epsilon(epsilon)
        start = with_zeros(source, potential)
        found = self._by_pot(source, target, epsilon, start)
        if found is not None:
            start = found[0]
            state = evaluate(source, target, start, epsilon)
            if state.marginal_error <= self.marginal_tol:
                return Solution(state, found[1], True)
        shared = {f.name: getattr(self, f.name) for f in fields(self)}
        return SemiDual(**shared).solve(source, target, epsilon, start)

    def _by_pot(self, source: Source, target: Target, epsilon: float, start: Tensor) -> tuple[Tensor, int] | None:
        if target.softness == 1:
            return None  # one Sinkhorn step is the solution
        varsigma = math.inf if target.softness == 0 else epsilon * (1 / target.softness - 1)
        tilt = torch.zeros_like(start) if source.log_weights is None else source.log_weights
        sides = torch.log_softmax(tilt.double(), 0).exp(), target.log_weights.exp()
        costs, rows, columns, warm = (part.double().cpu().numpy() for part in (cost_matrix(source, target), *sides, start))
        tol = math.sqrt(self.marginal_tol) / 10
        found = _pot.semi_relaxed(costs, rows, columns, warm, epsilon, varsigma, tol=tol, max_iter=self.max_iter)
        return None if found is None else (torch.as_tensor(found[0]).to(start), found[1])


class _Accelerated:
    """Anderson's mixing of the last Sinkhorn steps, near the solution; plain steps elsewhere."""

    def __init__(self, source: Source, target: Target, epsilon: float) -> None:
        self.source, self.target, self.epsilon = source, target, epsilon
        self.history: list[State] = []

    def run(self, start: Tensor, tol: float, max_iter: int) -> tuple[State, int]:
        state = evaluate(self.source, self.target, start, self.epsilon)
        for iteration in range(1, max_iter):
            if state.marginal_error <= tol:
                return state, iteration
            following = evaluate(self.source, self.target, self._next(state), self.epsilon)
            if not following.marginal_error <= GROWTH_ALLOWED * state.marginal_error:
                self.history = []
            state = following
        return state, max_iter

    def _next(self, state: State) -> Tensor:
        if not state.marginal_error <= LARGEST_MIXED:
            self.history = []
            return sinkhorn_step(state)
        self.history = [*self.history, state][-MEMORY:]
        return self._mixed()

    def _mixed(self) -> Tensor:
        stepped = torch.stack([sinkhorn_step(s) for s in self.history], 1)  # (n, h)
        residual = (stepped - torch.stack([s.potential for s in self.history], 1)) / self.epsilon
        if self.source.log_weights is not None:
            residual = residual * (0.5 * self.source.log_weights).exp()[:, None]
        return stepped @ _affine_least_squares(residual.double()).to(stepped)


def _affine_least_squares(residual: Tensor) -> Tensor:
    """Weights that sum to 1 and minimise the norm of the weighted residuals, (n, h) -> (h,)."""
    gram = residual.T @ residual
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram + ridge, torch.ones_like(gram[0]))
    return weights / weights.sum()
