"""A coupled fit in its four phases: start, train (Algorithm 2), polish and freeze.

- *Start*: the decoder's linear part is laid along the principal axes. With a linear decoder the coupling is a convex problem, and
  its barycentres, solved from hot to cold, are an entropic Brenier map from prior to data: one candidate for the layout.
- *Train*: on fresh prior draws the potential is solved, all data at once, then the decoder makes one step on the semi-dual, while
  the temperature falls. This finds layouts off the principal axes: the other candidate.
- *Polish*: the plan is frozen on many draws and the decoder regressed onto its barycentres. Both candidates get one round; the one
  with the lower semi-dual goes on, round by round.
- *Freeze*: the decoder stays, the potential is solved on a pool that grows until fresh draws certify the data marginal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from skcvae import _training, objectives
from skcvae.likelihoods import Family
from skcvae.networks import LinearPlusMLP
from skcvae.posteriors import Pool, Scores
from skcvae.priors import Prior
from skcvae.transport import (
    Coupling,
    SemiDual,
    Solution,
    Source,
    Target,
    c_transform,
    dual_value,
    evaluate,
    fresh_marginal_error,
    sinkhorn_step,
)

#: Training starts at this share of the smallest encoded variance, above which that axis would collapse.
HOT_SHARE = 0.5
#: Share of the steps over which the temperature would fall to its target if nothing held it.
COOLING_SHARE = 0.5
#: The temperature is held while the decoder is further than this from the barycentres, in nats over epsilon.
LARGEST_RESIDUAL = 1.0
#: Draws of a polishing round, at most, and those of them on which the potential is solved.
POLISH_DRAWS, POLISH_SOLVE_DRAWS, POLISH_ITERATIONS = 65536, 16384, 12
#: Rounds of polishing without a fall of the semi-dual after which it ends.
POLISH_PATIENCE = 3
#: Numbers that the barycentres of a polishing round may hold.
POLISH_NUMBERS = 2**25
#: The frozen solve goes this much below the tolerance on its own draws.
FROZEN_TOL_SHARE = 0.25
#: The pool grows at most this much at once.
LARGEST_GROWTH = 8
#: A batch that stays above this chi-square moves no decoder; a pool that does is no coupling.
LOST = 1.0
#: Above this chi-square on its own draws a potential counts as not solved.
UNSOLVED = 0.1


@dataclass
class Problem:
    """What the phases share: the model, the data in training precision, and the settings."""

    decoder: LinearPlusMLP
    family: Family
    x: Tensor
    prior: Prior
    epsilon: float
    solver: SemiDual
    rng: np.random.Generator
    batch_size: int
    learning_rate: float
    max_iter: int
    tol: float
    patience: int
    verbose: bool
    source: Source = field(init=False)

    def __post_init__(self) -> None:
        self.source = Source(self.family.statistics(self.x), self.family.carrier(self.x))

    def tensor(self, draws: np.ndarray) -> Tensor:
        """Prior draws in training precision, on the training device."""
        return torch.as_tensor(draws).to(self.x)

    def draws(self, n_draws: int) -> Tensor:
        """Evenly spread draws from the prior."""
        return self.tensor(self.prior.quasi_sample(n_draws, self.rng))

    def target(self, output: Tensor) -> Target:
        """The prior's side of the cost at decoder outputs of equally weighted draws."""
        eta, normaliser = self.family.natural(output.detach())
        return Target(eta.detach(), normaliser.detach(), torch.full_like(normaliser, -math.log(len(output))).detach())


@dataclass
class History:
    """Curves over the training steps: semi-dual in nats, and chi-square of the data marginal on the step's draws."""

    loss: list[float] = field(default_factory=list)
    marginal_error: list[float] = field(default_factory=list)

    def record(self, value: float, marginal_error: float) -> None:
        """Add one training step."""
        self.loss.append(value)
        self.marginal_error.append(marginal_error)


@dataclass(frozen=True)
class Layout:
    """A decoder and family to go on from, with the potential and the temperature at which they were found."""

    weights: tuple[dict[str, Tensor], dict[str, Tensor]]
    potential: Tensor
    temperature: float

    @classmethod
    def of(cls, problem: Problem, potential: Tensor, temperature: float) -> Layout:
        """A copy of the problem's present state."""
        copies = tuple({k: v.clone() for k, v in m.state_dict().items()} for m in (problem.decoder, problem.family))
        return cls((copies[0], copies[1]), potential, temperature)

    def restore(self, problem: Problem) -> None:
        """Put the problem back into this state."""
        problem.decoder.load_state_dict(self.weights[0])
        problem.family.load_state_dict(self.weights[1])


@dataclass(frozen=True)
class FrozenPlan:
    """Draws, their barycentres, the decoder's divergence from each, the potential and the semi-dual, in nats over epsilon.

    The value of a potential that is not solved says nothing, and is infinite.
    """

    z: Tensor
    barycentre: Tensor
    potential: Tensor
    divergence: Tensor
    value: float


def start(problem: Problem) -> Layout:
    """The layout of a linear decoder along the principal axes, at the temperature that training starts from."""
    axes = problem.family.linear_start(problem.x, problem.prior.n_components, 0.0)
    hot = max(problem.epsilon, HOT_SHARE * _smallest_variance(problem, *axes))
    problem.decoder.set_linear(*problem.family.linear_start(problem.x, problem.prior.n_components, hot))
    return Layout.of(problem, torch.zeros_like(problem.source.carrier), hot)


def _smallest_variance(problem: Problem, weight: Tensor, bias: Tensor) -> float:
    """Variance of the cost's scores along the last encoded axis, in nats: above it as temperature the axis would collapse."""
    eta = problem.target(torch.cat([bias[None], bias + weight.T])).natural
    scores = problem.source.statistics @ (eta[1:] - eta[0]).T  # (n, k)
    spread = scores.std(0)
    return float(spread[spread > 0].min()) if (spread > 0).any() else problem.epsilon


def train(problem: Problem, hot: float) -> tuple[Layout, History]:
    """Algorithm 2: solve the potential on fresh draws, then one decoder step; cool while the decoder keeps up."""
    training = _DualSteps(problem, hot)
    _training.repeat(training.step, problem.max_iter, "train", problem.verbose)
    return Layout.of(problem, training.potential, training.epsilon), training.history


class _DualSteps:
    """The state that goes from one training step to the next."""

    def __init__(self, problem: Problem, hot: float) -> None:
        self.problem, self.epsilon = problem, hot
        self.potential = torch.zeros_like(problem.source.carrier)
        self.history, self.plateau = History(), _training.Plateau(problem.tol, problem.patience)
        self.draw = problem.prior.stream(problem.batch_size, problem.rng)
        self.optimiser = _training.adam([problem.decoder, problem.family], problem.learning_rate)
        self.cooling = (problem.epsilon / hot) ** (1 / max(1.0, COOLING_SHARE * problem.max_iter))

    def step(self, t: int) -> bool:
        """One step; True when training may end."""
        problem = self.problem
        _training.set_learning_rate(self.optimiser, problem.learning_rate * _training.one_cycle(t / problem.max_iter))
        output = problem.decoder(problem.tensor(self.draw()))
        solution = self._solve(problem.target(output))
        if not solution.state.marginal_error <= LOST:
            return False
        loss = objectives.coupled(problem.family, output, solution.state.barycentre, self.epsilon)
        residual = _training.descend(self.optimiser, loss)
        if solution.converged and residual <= LARGEST_RESIDUAL:
            self.epsilon = max(problem.epsilon, self.epsilon * self.cooling)
        return self.epsilon == problem.epsilon and self.plateau.reached(residual)

    def _solve(self, target: Target) -> Solution:
        solution = self.problem.solver.solve_batch(self.problem.source, target, self.epsilon, self.potential)
        self.potential = sinkhorn_step(solution.state, self.epsilon)
        value = float(dual_value(solution.state, target)) + self.problem.family.log_volume
        self.history.record(value, solution.state.marginal_error)
        return solution


def polish(problem: Problem, layouts: list[Layout]) -> tuple[Tensor, bool]:
    """Rounds of regression onto the barycentres of the plan, frozen on many draws, while the semi-dual falls by `tol`.

    The first round is made from every layout, and the one that then has the lowest semi-dual goes on. Returns its potential,
    and whether the rounds ended by themselves.
    """
    plan = _best_after_one_round(problem, layouts)
    values = [plan.value]
    for r in range(1, problem.solver.polish_rounds):
        if float(plan.divergence.mean()) <= problem.tol or _stalled(values, problem.tol):
            return plan.potential, True
        _regress(problem, plan, f"polish {r + 1}/{problem.solver.polish_rounds}")
        plan = _frozen_plan(problem, plan.potential, problem.epsilon)
        values.append(plan.value)
    return plan.potential, False


def _best_after_one_round(problem: Problem, layouts: list[Layout]) -> FrozenPlan:
    """Polish every layout once, leave the problem at the best of them and return its plan."""
    plans, ends = [], []
    for number, layout in enumerate(layouts):
        layout.restore(problem)
        plan = _frozen_plan(problem, layout.potential, layout.temperature)
        _regress(problem, plan, f"layout {number + 1}/{len(layouts)}")
        plans.append(_frozen_plan(problem, plan.potential, problem.epsilon))
        ends.append(Layout.of(problem, plans[-1].potential, problem.epsilon))
    best = min(range(len(plans)), key=lambda i: plans[i].value)
    ends[best].restore(problem)
    return plans[best]


def _stalled(values: list[float], tol: float) -> bool:
    """Whether the last `POLISH_PATIENCE` values have brought no fall of `tol` below the ones before."""
    earlier, later = values[:-POLISH_PATIENCE], values[-POLISH_PATIENCE:]
    return bool(earlier) and min(later) > min(earlier) - tol


def _regress(problem: Problem, plan: FrozenPlan, description: str) -> None:
    """`max_iter` steps of robust regression from the plan's draws onto their barycentres, in one cycle of the learning rate."""
    optimiser = _training.adam([problem.decoder, problem.family], problem.learning_rate)
    index = _regression_order(problem, plan)

    def step(t: int) -> bool:
        _training.set_learning_rate(optimiser, problem.learning_rate * _training.one_cycle(t / problem.max_iter))
        output = problem.decoder(plan.z[index[t]])
        loss = objectives.robust_coupled(problem.family, output, plan.barycentre[index[t]], problem.epsilon)
        _training.descend(optimiser, loss)
        return False

    _training.repeat(step, problem.max_iter, description, problem.verbose)


def _regression_order(problem: Problem, plan: FrozenPlan) -> Tensor:
    """Indices of each step's draws, (max_iter, batch_size): half of them evenly, half where the decoder is far off."""
    generator = torch.Generator(plan.z.device).manual_seed(int(problem.rng.integers(2**63)))
    shape = problem.max_iter, problem.batch_size
    even = torch.randint(len(plan.z), shape, generator=generator, device=plan.z.device)
    weight = plan.divergence + plan.divergence.mean() + torch.finfo(plan.divergence.dtype).tiny
    hard = torch.multinomial(weight, even.numel(), replacement=True, generator=generator).view(shape)
    return torch.where(torch.arange(problem.batch_size, device=even.device) < problem.batch_size // 2, hard, even)


@torch.no_grad()
def _frozen_plan(problem: Problem, potential: Tensor, hot: float) -> FrozenPlan:
    """The plan of the present decoder, cooled from a hot temperature, on many draws."""
    width = problem.source.statistics.shape[1]
    z = problem.draws(min(POLISH_DRAWS, problem.batch_size * problem.max_iter, POLISH_NUMBERS // width))
    output = problem.decoder(z)
    some = problem.target(output[:POLISH_SOLVE_DRAWS])
    potential = _better_start(problem, some, potential, hot)
    state = problem.solver.anneal(problem.source, some, _halvings(hot, problem.epsilon), potential, POLISH_ITERATIONS)
    barycentre = c_transform(problem.source, problem.target(output), state.potential, problem.epsilon)[1]
    divergence = problem.family.divergence(output, barycentre) / problem.epsilon
    value = float(dual_value(state, some)) / problem.epsilon if state.marginal_error <= UNSOLVED else math.inf
    return FrozenPlan(z, barycentre, state.potential, divergence, value)


def _better_start(problem: Problem, target: Target, potential: Tensor, epsilon: float) -> Tensor:
    """The given potential or zero, whichever has the larger dual value; zero is right for a decoder that carries prior to data."""
    candidates = potential, torch.zeros_like(potential)
    states = [evaluate(problem.source, target, f, epsilon) for f in candidates]
    return max(states, key=lambda state: float(dual_value(state, target))).potential


def _halvings(hot: float, cold: float) -> list[float]:
    """Temperatures that halve from hot to cold."""
    return [cold * 2.0**h for h in range(math.ceil(math.log2(hot / cold) - 1e-9), -1, -1)]


def _solve(problem: Problem, target: Target, potential: Tensor, max_iter: int) -> Solution:
    solver = SemiDual(tol=FROZEN_TOL_SHARE * problem.solver.tol, max_iter=max_iter)
    return solver.solve(problem.source, target, problem.epsilon, potential)


@torch.no_grad()
def freeze(problem: Problem, potential: Tensor, n_draws: int) -> tuple[Pool, Coupling]:
    """Solve the potential of the frozen decoder on a pool that grows until fresh draws certify the data marginal."""
    n_iter = 0
    while True:
        z = problem.draws(n_draws)
        output = problem.decoder(z)
        solution = _solve(problem, problem.target(output), potential, problem.solver.max_iter)
        potential, n_iter = solution.state.potential, n_iter + solution.n_iter
        error = _certificate(problem, potential, n_draws)
        if error <= problem.solver.tol or 2 * n_draws > problem.solver.max_draws:
            break
        growth = 2 ** math.ceil(math.log2(min(LARGEST_GROWTH, max(2.0, error / problem.solver.tol))))
        n_draws = min(n_draws * growth, problem.solver.max_draws)
    if not error <= LOST:
        raise _training.Diverged(f"the data marginal of the coupling is off by a chi-square of {error:.3g}")
    return _frozen(problem, z, output, potential, error, n_iter)


def _certificate(problem: Problem, potential: Tensor, n_draws: int) -> float:
    targets = [problem.target(problem.decoder(problem.draws(n_draws))) for _ in range(2)]
    return fresh_marginal_error(problem.source, (targets[0], targets[1]), potential, problem.epsilon)


def _frozen(problem: Problem, z: Tensor, output: Tensor, potential: Tensor, error: float, n_iter: int) -> tuple[Pool, Coupling]:
    """The pool and its record, in double precision, with the gauge in which g averages to zero on the pool."""
    family, z, output = problem.family.double(), z.double(), output.double()
    x, f = problem.x.double(), potential.double()
    source, epsilon = Source(family.statistics(x), family.carrier(x)), problem.epsilon
    eta, normaliser = family.natural(output)
    target = Target(eta, normaliser, torch.full_like(normaliser, -math.log(len(z))))
    g = c_transform(source, target, f, epsilon)[0]
    value = float(f.mean() + g.mean()) + family.log_volume
    coupling = Scores(eta / epsilon, target.log_weights + (g - g.mean() - normaliser) / epsilon)
    key, tempered_normaliser = family.tempered(epsilon).double().natural(output)
    density = Scores(key, target.log_weights - tempered_normaliser)
    record = Coupling(epsilon, error, n_iter, error <= problem.solver.tol, value, len(z))
    return Pool(z, family.mean(output), coupling, density), record
