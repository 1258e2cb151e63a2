r"""Entropic optimal transport between data and draws from a prior, by the semi-dual.

The cost is bilinear, :math:`C_{ij} = A_j + h_i - t_i \cdot \eta_j`, as every exponential family's is (a given cost matrix is the
case t = -C, eta = I). With data potential f, prior weights b and temperature epsilon,

.. math::
    J(f) = \frac1n \sum_i f_i + \sum_j b_j g_j, \qquad
    g_j = -\epsilon \log \frac1n \sum_i e^{(f_i - C_{ij})/\epsilon}

is maximised; :math:`P_{ij} = \mathrm{softmax}_i (f_i - C_{ij})/\epsilon` is the plan's column of draw j, and the density of
the plan with respect to the product of the marginals is :math:`e^{(f_i + g_j - C_{ij})/\epsilon}`. Potentials are in cost units.

`SemiDual` is the configuration, `State` what an iteration hands to the next, `Solution` the result and `Coupling` the frozen
record of a fitted model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from skcvae import _kernels

#: Past iterates that the accelerated fixed point mixes.
MEMORY = 8
#: Relative ridge of the least squares problem that mixes them.
RIDGE = 1e-8
#: Mixing starts below this marginal error, and afresh when it grew by more than this factor.
LARGEST_MIXED, GROWTH_ALLOWED = 0.1, 2.0


@dataclass(frozen=True)
class Source:
    """The data's side of a bilinear cost: statistics t (n, p) and carrier h (n,)."""

    statistics: Tensor
    carrier: Tensor


@dataclass(frozen=True)
class Target:
    """The prior's side: natural parameters eta (m, p), log-normalisers A (m,) and log-weights log b (m,)."""

    natural: Tensor
    normaliser: Tensor
    log_weights: Tensor


@dataclass(frozen=True)
class State:
    """One evaluation of the semi-dual at a potential.

    Attributes
    ----------
    potential : Tensor of shape (n,), f, in cost units
    prior_potential : Tensor of shape (m,), g, in cost units
    barycentre : Tensor of shape (m, p), the average of t under each column of the plan
    log_mass : Tensor of shape (n,), log of n times the plan's marginal at each datum; 0 at the solution
    """

    potential: Tensor
    prior_potential: Tensor
    barycentre: Tensor
    log_mass: Tensor

    @cached_property
    def marginal_error(self) -> float:
        """Chi-square of the data marginal on these draws."""
        return _kernels.marginal_error(self.log_mass)


@dataclass(frozen=True)
class Solution:
    """Result of a solve: the last state, the number of iterations, and whether the tolerance was met."""

    state: State
    n_iter: int
    converged: bool


@dataclass(frozen=True)
class Coupling:
    """What a fitted model reports of its coupling.

    Attributes
    ----------
    epsilon : float, the temperature
    marginal_error : float, chi-square of the data marginal on two independent sets of fresh prior draws, at least 0
    n_iter : int, iterations of the frozen solve
    converged : bool, whether `marginal_error` is within the tolerance
    dual_value : float, J in nats, minus the log-likelihood that the coupling bounds when epsilon = 1
    n_draws : int, draws from the prior in the cached pool
    """

    epsilon: float
    marginal_error: float
    n_iter: int
    converged: bool
    dual_value: float
    n_draws: int


@dataclass(frozen=True)
class SemiDual:
    """The semi-dual solver and the schedule of a fit that uses it.

    Parameters
    ----------
    tol : float, default=1e-3
        Largest chi-square of the data marginal on fresh draws that counts as converged.
    max_iter : int, default=300
        Iterations of one solve on a fixed set of draws.
    batch_tol : float, default=0.1
        Chi-square to which the potential is solved on a training step's draws before the decoder moves.
    batch_max_iter : int, default=10
        Iterations within one training step. When chi-square stays above 1 the decoder does not move.
    polish_rounds : int, default=30
        Most rounds of regression onto the frozen plan's barycentres after training.
    max_draws : int, default=131072
        Largest pool that is tried for `tol`.

    Examples
    --------
    A plan between four points on a line and three atoms, from its cost matrix:

    >>> import torch
    >>> from skcvae.transport import SemiDual, Source, Target, plan
    >>> x, z = torch.arange(4.0).double(), torch.tensor([0.0, 1.5, 3.0]).double()
    >>> cost = (x[:, None] - z).square()
    >>> source = Source(-cost, torch.zeros(4).double())
    >>> target = Target(torch.eye(3).double(), torch.zeros(3).double(), torch.full((3,), 1 / 3).double().log())
    >>> solution = SemiDual(tol=1e-12).solve(source, target, epsilon=0.5)
    >>> [round(float(mass), 6) for mass in plan(source, target, solution.state, 0.5).sum(1)]
    [0.25, 0.25, 0.25, 0.25]
    """

    tol: float = 1e-3
    max_iter: int = 300
    batch_tol: float = 0.1
    batch_max_iter: int = 10
    polish_rounds: int = 30
    max_draws: int = 131072

    def solve_batch(self, source: Source, target: Target, epsilon: float, potential: Tensor) -> Solution:
        """Sinkhorn steps on one training step's draws until `batch_tol`."""
        state = evaluate(source, target, potential, epsilon)
        for iteration in range(1, self.batch_max_iter):
            if state.marginal_error <= self.batch_tol:
                return Solution(state, iteration, True)
            state = evaluate(source, target, sinkhorn_step(state, epsilon), epsilon)
        return Solution(state, self.batch_max_iter, state.marginal_error <= self.batch_tol)

    def solve(
        self, source: Source, target: Target, epsilon: float, potential: Tensor | None = None, tol: float | None = None
    ) -> Solution:
        """Accelerated Sinkhorn iterations on a fixed set of draws, from a given potential or zero, until `tol`."""
        start = torch.zeros_like(source.carrier) if potential is None else potential
        iteration = _Accelerated(lambda f: evaluate(source, target, f, epsilon), epsilon)
        return iteration.run(start, self.tol if tol is None else tol, self.max_iter)

    def anneal(self, source: Source, target: Target, temperatures: list[float], potential: Tensor, max_iter: int) -> State:
        """Solve at each temperature in turn, hot to cold, from the previous one's potential; at most `max_iter` each."""
        solver = replace(self, max_iter=max_iter)
        for temperature in temperatures:
            state = solver.solve(source, target, temperature, potential).state
            potential = state.potential
        return state


def evaluate(source: Source, target: Target, potential: Tensor, epsilon: float) -> State:
    """Both passes of the semi-dual at a potential: columns (g, barycentres), then rows (the data marginal)."""
    g, barycentre = c_transform(source, target, potential, epsilon)
    return State(potential, g, barycentre, log_mass(source, target, potential, g, epsilon))


def c_transform(source: Source, target: Target, potential: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    r"""Prior potential g (m,) and the barycentres of t (m, p).

    .. math:: g_j = -\epsilon \log \frac1n \sum_i e^{(f_i - C_{ij})/\epsilon}, \qquad O_j = \sum_i P_{ij} t_i
    """
    bias = (potential - source.carrier) / epsilon
    log_sum, barycentre = _kernels.attend(target.natural / epsilon, source.statistics, source.statistics, bias)
    return target.normaliser - epsilon * (log_sum - math.log(len(bias))), barycentre


def log_mass(source: Source, target: Target, potential: Tensor, prior_potential: Tensor, epsilon: float) -> Tensor:
    r"""Log of n times the plan's data marginal, :math:`\log \sum_j b_j e^{(f_i + g_j - C_{ij})/\epsilon}`, of shape (n,)."""
    bias = target.log_weights + (prior_potential - target.normaliser) / epsilon
    log_sum = _kernels.log_sum_scores(source.statistics, target.natural / epsilon, bias)
    return log_sum + (potential - source.carrier) / epsilon


def sinkhorn_step(state: State, epsilon: float) -> Tensor:
    r"""The next potential, :math:`f_i - \epsilon \log (n \bar P_i)`: a starved datum may rise by any amount at once."""
    return state.potential - epsilon * state.log_mass


def dual_value(state: State, target: Target) -> Tensor:
    r"""The semi-dual :math:`J = \frac1n \sum_i f_i + \sum_j b_j g_j`, a scalar."""
    return state.potential.mean() + (target.log_weights.exp() * state.prior_potential).sum()


def plan(source: Source, target: Target, state: State, epsilon: float) -> Tensor:
    r"""The whole plan :math:`\pi_{ij} = \frac{b_j}{n} e^{(f_i + g_j - C_{ij})/\epsilon}`, (n, m); for small problems."""
    cost = target.normaliser + source.carrier[:, None] - source.statistics @ target.natural.T
    log_density = (state.potential[:, None] + state.prior_potential - cost) / epsilon
    return (log_density + target.log_weights).exp() / len(cost)


def fresh_marginal_error(source: Source, targets: tuple[Target, Target], potential: Tensor, epsilon: float) -> float:
    """The certificate: chi-square of the data marginal from two independent sets of draws not used to solve; at least 0."""
    first, second = (evaluate(source, target, potential, epsilon).log_mass for target in targets)
    return max(0.0, _kernels.marginal_error(first, second))


class _Accelerated:
    """Anderson's mixing of the last Sinkhorn steps, near the solution; plain steps elsewhere."""

    def __init__(self, evaluate: Callable[[Tensor], State], epsilon: float) -> None:
        self.evaluate = evaluate
        self.epsilon = epsilon
        self.history: list[State] = []

    def run(self, start: Tensor, tol: float, max_iter: int) -> Solution:
        state = self.evaluate(start)
        for iteration in range(1, max_iter):
            if state.marginal_error <= tol:
                return Solution(state, iteration, True)
            following = self.evaluate(self._next(state))
            if not following.marginal_error <= GROWTH_ALLOWED * state.marginal_error:
                self.history = []
            state = following
        return Solution(state, max_iter, state.marginal_error <= tol)

    def _next(self, state: State) -> Tensor:
        if not state.marginal_error <= LARGEST_MIXED:
            self.history = []
            return sinkhorn_step(state, self.epsilon)
        self.history = [*self.history, state][-MEMORY:]
        return self._mixed()

    def _mixed(self) -> Tensor:
        residual = torch.stack([s.log_mass for s in self.history], 1)  # (n, h)
        stepped = torch.stack([sinkhorn_step(s, self.epsilon) for s in self.history], 1)
        return stepped @ _affine_least_squares(residual.double()).to(stepped)


def _affine_least_squares(residual: Tensor) -> Tensor:
    """Weights that sum to 1 and minimise the norm of the weighted residuals, (n, h) -> (h,)."""
    gram = residual.T @ residual
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram + ridge, torch.ones_like(gram[0]))
    return weights / weights.sum()
