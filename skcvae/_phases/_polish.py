"""The third phase: regression of the decoder onto the barycentres of frozen plans."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skcvae import _training, objectives
from skcvae._phases._problem import Layout, Problem
from skcvae.transport import Target, evaluate, prior_side, with_products

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
STAGES = Stage(2 / 3, 65536, 1, 1.0), Stage(1.0, 262144, 4, 0.3)


@dataclass(frozen=True)
class FrozenPlan:
    """Draws, their columns of the plan, the decoder's divergence from each, the potential and the semi-dual, in nats over epsilon.

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


def polish(problem: Problem, layouts: list[Layout]) -> tuple[Tensor, bool]:
    """Rounds of regression onto the barycentres of the plan, frozen on many draws, while the semi-dual falls by `tol`.

    The first round is made from every layout, and the one that then has the lowest semi-dual goes on. The problem is left at the
    best round. Returns its potential, and whether the last stage ended by itself.
    """
    plan, settled, left = _best_after_one_round(problem, layouts), False, problem.solver.polish_rounds - 1
    for number, stage in enumerate(STAGES):
        plan, used, settled = _rounds(problem, plan, stage, round(stage.share * left), f"polish, stage {number + 1}")
        left -= used
    return plan.potential, settled


def _rounds(problem: Problem, plan: FrozenPlan, stage: Stage, rounds: int, description: str) -> tuple[FrozenPlan, int, bool]:
    """The rounds of one stage: the plan of the best, the rounds made, and whether they ended by themselves."""
    best, tol = _Best(problem, plan), problem.setting.tol
    while len(best.values) <= rounds:
        if plan.residual <= tol or _stalled(best.values, tol):
            return best.restored(problem), len(best.values) - 1, True
        _regress(problem, plan, stage, f"{description}, {len(best.values)}/{rounds}")
        plan = _frozen_plan(problem, stage, plan.potential, problem.setting.epsilon)
        best.take(problem, plan)
    return best.restored(problem), rounds, False


class _Best:
    """The values of all rounds, and the plan and the layout of the one with the lowest."""

    def __init__(self, problem: Problem, plan: FrozenPlan) -> None:
        self.values: list[float] = []
        self.take(problem, plan)

    def take(self, problem: Problem, plan: FrozenPlan) -> None:
        """Note a round."""
        if plan.value < min(self.values, default=math.inf) or not self.values:
            self.plan, self.layout = plan, Layout.of(problem, plan.potential, problem.setting.epsilon)
        self.values.append(plan.value)

    def restored(self, problem: Problem) -> FrozenPlan:
        """The best plan, with the problem back at it."""
        self.layout.restore(problem)
        return self.plan


def _best_after_one_round(problem: Problem, layouts: list[Layout]) -> FrozenPlan:
    """Polish every layout once, leave the problem at the best of them and return its plan."""
    plans, ends = [], []
    for number, layout in enumerate(layouts):
        layout.restore(problem)
        plan = _frozen_plan(problem, STAGES[0], layout.potential, layout.temperature)
        _regress(problem, plan, STAGES[0], f"layout {number + 1}/{len(layouts)}")
        plans.append(_frozen_plan(problem, STAGES[0], plan.potential, problem.setting.epsilon))
        ends.append(Layout.of(problem, plans[-1].potential, problem.setting.epsilon))
    best = min(range(len(plans)), key=lambda i: plans[i].value)
    ends[best].restore(problem)
    return plans[best]


def _stalled(values: list[float], tol: float) -> bool:
    """Whether the last `POLISH_PATIENCE` values have brought no fall of `tol` below the ones before."""
    earlier, later = values[:-POLISH_PATIENCE], values[-POLISH_PATIENCE:]
    return bool(earlier) and min(later) > min(earlier) - tol


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
    setting, width = problem.setting, problem.source.statistics.shape[1]
    draws = problem.draws(min(stage.draws, stage.batch * setting.batch_size * setting.max_iter, POLISH_NUMBERS // width))
    output = problem.predicted(draws.z)
    some = with_products(problem.source, problem.target(output[:POLISH_SOLVE_DRAWS], draws.head(POLISH_SOLVE_DRAWS)))
    solver = problem.exact(problem.solver.tol, POLISH_ITERATIONS)
    state = solver.anneal(problem.source, some, _halvings(hot, setting.epsilon), _better_start(problem, some, potential, hot))
    side = prior_side(problem.source, problem.target(output, draws), state.potential, setting.epsilon)
    weight = len(draws.z) * (side.log_density + draws.log_weights).exp()
    divergence = problem.family.divergence(output, side.barycentre) / setting.epsilon
    value = float(state.dual_value) / setting.epsilon if state.marginal_error <= UNSOLVED else math.inf
    return FrozenPlan(draws.z, side.barycentre, weight, state.potential, divergence, value)


def _better_start(problem: Problem, target: Target, potential: Tensor, epsilon: float) -> Tensor:
    """The given potential or zero, whichever has the larger dual value; zero is right for a decoder that carries prior to data."""
    states = [evaluate(problem.source, target, f, epsilon) for f in (potential, torch.zeros_like(potential))]
    return max(states, key=lambda state: float(state.dual_value)).potential


def _halvings(hot: float, cold: float) -> list[float]:
    """Temperatures that halve from hot to cold."""
    return [cold * 2.0**h for h in range(math.ceil(math.log2(hot / cold) - 1e-9), -1, -1)]
