"""The third phase: regression of the decoder onto the barycentres of frozen plans."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skcvae import _kernels, _training, objectives
from skcvae._phases._problem import Draws, Layout, Problem
from skcvae._training import Course
from skcvae.transport import Target, evaluate, log_mass, prior_side, with_products

#: Draws of a round on which the potential is solved, and iterations of that.
POLISH_SOLVE_DRAWS, POLISH_ITERATIONS = 16384, 12
#: Rounds of polishing without a fall of the semi-dual after which a stage ends.
POLISH_PATIENCE = 3
#: Numbers that the barycentres of a polishing round may hold.
POLISH_NUMBERS = 2**25
#: Above this chi-square on its own draws a potential counts as not solved.
UNSOLVED = 0.1
#: A regression ends early below this share of the tolerance.
REGRESSED_SHARE = 0.1


@dataclass(frozen=True)
class Stage:
    """Rounds of one kind: their share of those left, draws of a round at most, batch and learning rate over those of training."""

    share: float
    draws: int
    batch: int
    rate: float


#: Small batches find the layout; large ones at a lower rate, on more draws, sharpen the borders between cells.
STAGES = Stage(2 / 3, 65536, 1, 1.0), Stage(1.0, 262144, 4, 0.15)


@dataclass(frozen=True)
class FrozenPlan:
    """Draws, their columns of the plan, the decoder's divergence from each, the potential and the value that rounds lower: the
    semi-dual, or minus the score of validation rows, in nats over epsilon.

    `weight` is w, the plan's mass in a column over the prior's, with the draws' own weights, of mean about 1. The value of a
    potential that is not solved says nothing, and is infinite.
    """

    z: Tensor
    barycentre: Tensor
    weight: Tensor
    potential: Tensor
    divergence: Tensor
    value: float

    @property
    def residual(self) -> float:
        """Mean divergence under the plan."""
        return float((self.weight * self.divergence).mean())


def polish(course: Course[Problem], layouts: list[Layout]) -> Polished:
    """Rounds of regression onto the barycentres of the plan, frozen on many draws, while the semi-dual falls by `tol`.

    The first round is made from every layout, and the one that then has the lowest semi-dual goes on. The problem is left at the
    best round. Minus the score of validation rows takes the place of the semi-dual where there are some, and that of a sample
    where every round has other rows. A fit that is asked to stop has no further round.
    """
    if course.stopped:
        return Polished(layouts[-1].potential, False, [])
    plan, settled, left = _best_after_one_round(course, layouts), False, course.root.solver.polish_rounds - 1
    values = [plan.value]
    for number, stage in enumerate(STAGES):
        name, n_rounds = f"polish, stage {number + 1}", round(stage.share * left)
        make = functools.partial(_Rounds, course.root, plan, stage, name, n_rounds)
        rounds = course.loop(name, make, n_rounds, every=1, shown=False)
        plan, settled, left = course.stage(f"{name}, best", rounds.best), rounds.settled, left - rounds.made
        values += rounds.values[1:]
        if course.stopped:
            break
    return Polished(plan.potential, settled, values)


@dataclass(frozen=True)
class Polished:
    """The potential (n,), whether the last stage ended by itself, and the values of all rounds, see `FrozenPlan`."""

    potential: Tensor
    settled: bool
    values: list[float]


class _Rounds:
    """The rounds of one stage: the values of all, the last plan, and the plan and the layout of the lowest value."""

    def __init__(self, problem: Problem, plan: FrozenPlan, stage: Stage, name: str, n_rounds: int) -> None:
        self.problem, self.stage, self.name, self.n_rounds = problem, stage, name, n_rounds
        self.values, self.settled = list[float](), False
        self._take(plan)

    @property
    def made(self) -> int:
        """Rounds made."""
        return len(self.values) - 1

    def step(self, t: int) -> bool:
        """One round, unless the plan before it is as good as it gets: then True."""
        tol = self.problem.setting.tol
        self.settled = self.plan.residual <= tol or _training.has_stalled(self.values, tol, POLISH_PATIENCE)
        if not self.settled:
            self._take(_next_plan(self.problem, self.plan, self.stage, f"{self.name}, {t + 1}/{self.n_rounds}"))
        return self.settled

    @property
    def potential(self) -> Tensor:
        """The present data potential, (n,)."""
        return self.plan.potential

    def _take(self, plan: FrozenPlan) -> None:
        if plan.value < min(self.values, default=math.inf) or not self.values:
            self.lowest = plan, Layout.of(self.problem, plan.potential, self.problem.setting.epsilon)
        self.values.append(plan.value)
        self.plan = plan

    def best(self) -> FrozenPlan:
        """The best plan, with the problem back at it."""
        plan, layout = self.lowest
        layout.restore(self.problem)
        return plan


def _best_after_one_round(course: Course[Problem], layouts: list[Layout]) -> FrozenPlan:
    """Polish every layout once, leave the problem at the best of them and return its plan."""
    names = [f"layout {number + 1}/{len(layouts)}" for number in range(len(layouts))]
    makes = (functools.partial(_one_round, course.root, *item) for item in zip(layouts, names, strict=True))
    ends = [course.stage(name, make) for name, make in zip(names, makes, strict=True)]
    plan, layout = min(ends, key=lambda end: end[0].value)
    course.stage("best layout", lambda: layout.restore(course.root))
    return plan


def _one_round(problem: Problem, layout: Layout, name: str) -> tuple[FrozenPlan, Layout]:
    """The plan and the layout after one round from a given one."""
    layout.restore(problem)
    plan = _next_plan(problem, _frozen_plan(problem, STAGES[0], layout.potential, layout.temperature), STAGES[0], name)
    return plan, Layout.of(problem, plan.potential, problem.setting.epsilon)


def _next_plan(problem: Problem, plan: FrozenPlan, stage: Stage, description: str) -> FrozenPlan:
    """The plan after a regression onto one, of fresh rows where there are more than it is made of."""
    _regress(problem, plan, stage, description)
    potential = plan.potential if problem.rows is None else _on_fresh_rows(problem, plan.potential)
    return _frozen_plan(problem, stage, potential, problem.setting.epsilon)


@torch.no_grad()
def _on_fresh_rows(problem: Problem, potential: Tensor) -> Tensor:
    r"""Exchange the rows; their potential, :math:`f(x) = -\epsilon \log \sum_j b_j e^{(g_j - C(x, z_j))/\epsilon}`, (n,)."""
    epsilon, draws = problem.setting.epsilon, problem.draws(POLISH_SOLVE_DRAWS)
    output = problem.predicted(draws.z)
    prior_potential = prior_side(problem.source, problem.target(output, draws), potential, epsilon).prior_potential
    problem.take(problem.fresh_rows())
    target, nothing = problem.target(output, draws), torch.zeros_like(problem.source.carrier)
    return -epsilon * log_mass(problem.source, target, nothing, prior_potential, epsilon)


def _regress(problem: Problem, plan: FrozenPlan, stage: Stage, description: str) -> None:
    """Robust regression from the plan's draws onto their barycentres, in one cycle."""
    setting, rate = problem.setting, stage.rate * problem.setting.learning_rate
    optimiser = _training.adam([problem.decoder, problem.family], rate)
    index = _regression_order(problem, plan, stage.batch * setting.batch_size)

    def step(t: int) -> bool:
        _training.set_learning_rate(optimiser, rate * _training.one_cycle(t / setting.max_iter))
        rows = index[t]
        output = problem.trained(plan.z[rows])
        loss = objectives.robust_coupled(problem.family, output, plan.barycentre[rows], plan.weight[rows], setting.epsilon)
        return _training.descend(optimiser, loss) <= REGRESSED_SHARE * setting.tol

    _training.repeat(step, setting.max_iter, description, setting.verbose)


def _regression_order(problem: Problem, plan: FrozenPlan, batch: int) -> Tensor:
    """Indices of each step's draws, (steps, batch): half of them evenly, half where the decoder is far off."""
    divergence = plan.weight * plan.divergence
    generator = torch.Generator(plan.z.device).manual_seed(int(problem.rng.integers(2**63)))
    shape = problem.setting.max_iter, batch
    even = torch.randint(len(plan.z), shape, generator=generator, device=plan.z.device)
    odds = divergence + divergence.mean() + torch.finfo(divergence.dtype).tiny
    hard = torch.multinomial(odds, even.numel(), replacement=True, generator=generator).view(shape)
    return torch.where(torch.arange(batch, device=even.device) < batch // 2, hard, even)


@torch.no_grad()
def _frozen_plan(problem: Problem, stage: Stage, potential: Tensor, hot: float) -> FrozenPlan:
    """The plan of the present decoder, cooled from a hot temperature, on many draws."""
    setting, width = problem.setting, len(problem.varying.constants)
    draws = problem.draws(min(stage.draws, stage.batch * setting.batch_size * setting.max_iter, POLISH_NUMBERS // width))
    output = problem.predicted(draws.z)
    some = with_products(problem.source, problem.target(output[:POLISH_SOLVE_DRAWS], draws.head(POLISH_SOLVE_DRAWS)))
    solver = problem.exact(problem.solver.tol, POLISH_ITERATIONS)
    state = solver.anneal(problem.source, some, _halvings(hot, setting.epsilon), _better_start(problem, some, potential, hot))
    side = prior_side(problem.source, problem.target(output, draws), state.potential, setting.epsilon)
    weight = len(draws.z) * (side.log_density + draws.log_weights).exp()
    barycentre = problem.varying.filled(side.barycentre)
    divergence = problem.family.divergence(output, barycentre) / setting.epsilon
    value = _held_out(problem, output, draws)
    if value is None:
        value = float(state.dual_value) / setting.epsilon if state.marginal_error <= UNSOLVED else math.inf
    return FrozenPlan(draws.z, barycentre, weight, state.potential, divergence, value)


def _held_out(problem: Problem, output: Tensor, draws: Draws) -> float | None:
    """Minus the mean log-likelihood of the rows that judge, by the draws of a plan, in nats over epsilon."""
    if problem.judges is None:
        return None
    family = problem.family.tempered(problem.setting.epsilon).to(output)
    key, normaliser = family.natural(output)
    log_sum = _kernels.log_sum_scores(family.statistics(problem.judges), key, draws.log_weights - normaliser)
    return -float((log_sum - family.carrier(problem.judges)).mean()) / problem.setting.epsilon


def _better_start(problem: Problem, target: Target, potential: Tensor, epsilon: float) -> Tensor:
    """The given potential or zero, whichever has the larger dual value; zero is right for a decoder that carries prior to data."""
    states = [evaluate(problem.source, target, f, epsilon) for f in (potential, torch.zeros_like(potential))]
    return max(states, key=lambda state: float(state.dual_value)).potential


def _halvings(hot: float, cold: float) -> list[float]:
    """Temperatures that halve from hot to cold."""
    return [cold * 2.0**h for h in range(math.ceil(math.log2(hot / cold) - 1e-9), -1, -1)]
