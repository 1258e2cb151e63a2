"""The third phase: regression of the decoder onto the barycentres of frozen plans."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skcvae import _kernels, _processes, _training, objectives
from skcvae._phases._problem import Draws, Layout, Problem
from skcvae._training import Course
from skcvae.schedule import Stage
from skcvae.transport import Target, evaluate, prior_side, with_products

#: Draws of a round on which the potential is solved, and iterations of that.
POLISH_SOLVE_DRAWS, POLISH_ITERATIONS = 16384, 12
#: Numbers that the barycentres of a polishing round may hold.
POLISH_NUMBERS = 2**25
#: Above this chi-square on its own draws a potential counts as not solved, and is given so many iterations more.
UNSOLVED, MORE_ITERATIONS = 0.1, 48
#: Steps of a regression whose draws are chosen at once.
STEPS_AT_ONCE = 64
#: Steps that several processes make apart from each other, before they average their weights.
STEPS_APART = 8
#: Share of a regression's draws that are chosen where the decoder is far off.
HARD_SHARE = 0.9
#: A regression ends early below this share of the tolerance.
REGRESSED_SHARE = 0.1
#: Nats a feature, of all rows together, by which a round must lower the value: less is what it gains of its own rows alone.
FEWEST_NATS = 1.0


@dataclass(frozen=True, eq=False)
class FrozenPlan:
    """Draws z (m, k), their columns of the plan, and the decoder's divergence from each.

    `weight` is w, the plan's mass in a column over the prior's, with the draws' own weights, of mean about 1.
    """

    z: Tensor
    barycentre: Tensor
    weight: Tensor
    divergence: Tensor

    @property
    def residual(self) -> float:
        """Mean divergence under the plan."""
        return float((self.weight * self.divergence).mean())


@dataclass(frozen=True, eq=False)
class Round:
    """What a plan was made of, and what it gave: the plan itself is large, and a function of these.

    Attributes
    ----------
    layout : Layout, weights and rows, with the potential and the temperature that the solve started from
    n_draws : int, draws of the plan
    rng : dict, the generator's state before they were drawn
    potential : Tensor of shape (n,), the solved potential
    value : float, which rounds lower: the semi-dual, or minus the score of validation rows, in nats over epsilon; infinite where
        the potential is not solved, whose value says nothing
    residual : float, mean divergence of the decoder under the plan
    """

    layout: Layout
    n_draws: int
    rng: dict[str, Any]
    potential: Tensor
    value: float
    residual: float

    def state_dict(self) -> dict[str, Any]:
        """The round as plain data and tensors."""
        return {**vars(self), "layout": self.layout.state_dict()}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Round:
        """The round that had this state."""
        return cls(**{**state, "layout": Layout(**state["layout"])})

    def plan(self, problem: Problem) -> FrozenPlan:
        """The plan once more; the problem is put back to the round, its generator stays as it is."""
        potential, present = self.layout.restore(problem), problem.rng.bit_generator.state
        problem.rng.bit_generator.state = self.rng
        plan = _frozen_plan(problem, self.n_draws, potential, self.layout.temperature)[0]
        problem.rng.bit_generator.state = present
        return plan


#: A round with its plan, where it is at hand.
Made = tuple[Round, FrozenPlan | None]


def polish(course: Course[Problem], layouts: list[Layout]) -> Polished:
    """Rounds of regression onto the barycentres of the plan, frozen on many draws, while the semi-dual falls by `tol`.

    A short round is made from every layout, and the one that then has the lowest semi-dual goes on. The problem is left at the
    best round. Rounds are compared by the negative score of validation rows where there are some, by that of a fixed sample where
    every round has other rows, and by the semi-dual otherwise. A fit that is asked to stop has no further round.
    """
    schedule = course.root.schedule
    if course.stopped or schedule.polish_rounds == 0:
        return Polished(layouts[-1].potential, False, [])
    best, settled, left = _best_layout(course, layouts), False, schedule.polish_rounds
    made: Made = best, None
    values = [best.value]
    for number, stage in enumerate(schedule.stages):
        if course.pace.is_over:
            settled = False
            break
        name, n_rounds = f"polish, stage {number + 1}", round(stage.share * left)
        rounds = course.loop(name, functools.partial(_Rounds, course.root, made, stage, name, n_rounds), n_rounds, 1, shown=False)
        made, settled, left = rounds.best(), rounds.settled, left - rounds.made
        values += rounds.values[1:]
        if course.stopped:
            break
    return Polished(made[0].potential.to(course.root.x), settled and not course.stopped, values)


@dataclass(frozen=True, eq=False)
class Polished:
    """The potential (n,), whether the last stage ended by itself, and the values of all rounds, see `Round`."""

    potential: Tensor
    settled: bool
    values: list[float]

    @property
    def n_rounds(self) -> int:
        """Rounds made, after the short one from each layout."""
        return max(0, len(self.values) - 1)


class _Rounds:
    """The rounds of one stage: the values of all, the last round, and the one of the lowest value."""

    def __init__(self, problem: Problem, made: Made, stage: Stage, name: str, n_rounds: int) -> None:
        self.problem, self.stage, self.name, self.n_rounds = problem, stage, name, n_rounds
        self.values, self.settled, self.is_still, self.last, self.lowest = [made[0].value], False, False, made, made

    @property
    def made(self) -> int:
        """Rounds made."""
        return len(self.values) - 1

    @property
    def potential(self) -> Tensor:
        """The present data potential, (n,)."""
        return self.last[0].potential.to(self.problem.x)

    def step(self, t: int) -> bool:
        """One round, unless the plan before it is as good as rounds of this stage get it: then True."""
        before, plan = self.last
        if self._is_over(before):
            return True
        plan = before.plan(self.problem) if plan is None else plan
        description = f"{self.name}, round {t + 1} of at most {self.n_rounds}"
        self.last = _next_round(self.problem, plan, self.potential, self.stage, description)
        after = self.last[0]
        self.problem.note(after.value)
        if after.value < min(self.values):
            self.lowest = self.last
        self.values.append(after.value)
        self.is_still = before.value - after.value < 2 * (before.residual - after.residual)
        return False

    def _is_over(self, last: Round) -> bool:
        """Whether the residual or the fall of the value is too small, or, in a stage that moves the plan, the plan is still."""
        problem, tol, moves = self.problem, self.problem.setting.tol, self.stage.moves
        by_chance = 0.0 if problem.judges is not None else FEWEST_NATS * problem.data.n_features / problem.n_rows
        has_stalled = len(self.values) > 1 and _training.next_fall(self.values) < max(tol, by_chance)
        self.settled = last.residual <= tol or has_stalled
        return self.settled or (moves and self.is_still)

    def best(self) -> Made:
        """The best round, with the problem back at it."""
        self.lowest[0].layout.restore(self.problem)
        return self.lowest

    def state_dict(self) -> dict[str, Any]:
        """Both rounds without their plans, and all values."""
        last, lowest = self.last[0], self.lowest[0]
        states = {"lowest": lowest.state_dict()} | ({} if last is lowest else {"last": last.state_dict()})
        return {"values": np.array(self.values), "settled": self.settled, "still": self.is_still, **states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.values, self.settled, self.is_still = state["values"].tolist(), state["settled"], state["still"]
        self.lowest = Round.of_state(state["lowest"]), None
        self.last = (Round.of_state(state["last"]), None) if "last" in state else self.lowest


def _best_layout(course: Course[Problem], layouts: list[Layout]) -> Round:
    """Try every layout by a short round while there is time, leave the problem at the best and return its round.

    The round has as many draws as the next stage's.
    """
    trials: list[Round] = []
    for number, layout in enumerate(layouts):
        if trials and course.pace.is_over:
            break
        name = f"layout {number + 1} of {len(layouts)}"
        trial = functools.partial(_trial, course.root, layout, name)
        trials.append(Round.of_state(course.stage(name, lambda make=trial: make().state_dict())))  # type: ignore[misc]
        course.root.note(trials[-1].value)
    best = min(trials, key=lambda trial: trial.value)
    best.layout.restore(course.root)
    layout = dataclasses.replace(best.layout, potential=best.potential)
    return dataclasses.replace(best, layout=layout, n_draws=_n_draws(course.root, course.root.schedule.stages[0]))


def _trial(problem: Problem, layout: Layout, name: str) -> Round:
    """The round after one short regression from a layout."""
    trial = problem.schedule.trial
    plan, potential, _ = _frozen_plan(problem, _n_draws(problem, trial), layout.restore(problem), layout.temperature)
    return _next_round(problem, plan, potential, trial, name)[0]


def _n_steps(problem: Problem, stage: Stage) -> int:
    """Steps of a round's regression: in proportion to the rows, at most `max_iter`."""
    asked = math.ceil(stage.visits * problem.data.total / (stage.batch * problem.setting.draws_per_step))
    return min(problem.setting.max_iter, max(stage.fewest, asked))


def _n_draws(problem: Problem, stage: Stage) -> int:
    """Draws of a round's plan: no more than its steps use, and than there is room for."""
    used = stage.batch * problem.setting.draws_per_step * _n_steps(problem, stage)
    return min(stage.draws, used, POLISH_NUMBERS // len(problem.varying.constants))


def _next_round(problem: Problem, plan: FrozenPlan, potential: Tensor, stage: Stage, description: str) -> Made:
    """The round after a regression onto a plan, of fresh rows where there are more than it is made of."""
    epsilon = problem.setting.epsilon
    _regress(problem, plan, stage, description)
    if problem.rows is not None:
        potential = problem.carry(potential, problem.fresh_rows())
    layout, rng, n_draws = Layout.of(problem, potential, epsilon), dict(problem.rng.bit_generator.state), _n_draws(problem, stage)
    following, solved, value = _frozen_plan(problem, n_draws, potential, epsilon)
    return Round(layout, n_draws, rng, solved, value, following.residual), following


def _regress(problem: Problem, plan: FrozenPlan, stage: Stage, description: str) -> None:
    """Robust regression from the plan's draws onto their barycentres, in one cycle.

    Of several processes each makes a share of the steps, if these are small, and after some of them weights are averaged. Otherwise
    all make every step, each for a share of its draws.
    """
    setting, rate, n_steps = problem.setting, stage.rate * problem.setting.learning_rate, _n_steps(problem, stage)
    optimiser = _training.adam([problem.decoder, problem.family], rate)
    batch = stage.batch * setting.draws_per_step
    order, share = _regression_order(problem, plan, batch), problem.step_share(batch)
    takes_turns = share is None and problem.share(len(plan.z)) is not None and not problem.has_modes
    if takes_turns:
        order = itertools.islice(order, _processes.rank(), None, _processes.size())
        n_steps = max(1, n_steps // _processes.size())

    def step(t: int) -> bool:
        _training.set_learning_rate(optimiser, rate * _training.one_cycle(t / n_steps))
        rows = next(order) if share is None else next(order)[share]
        output = problem.trained(plan.z[rows])
        loss = objectives.robust_coupled(problem.family, output, plan.barycentre[rows], plan.weight[rows], setting.epsilon)
        loss = loss if share is None else loss * (len(rows) / batch)
        residual = _training.descend(optimiser, loss, share is not None)
        if takes_turns:
            if (t + 1) % STEPS_APART:
                return False
            residual = _training.average(optimiser, residual)
        return residual <= REGRESSED_SHARE * setting.tol

    with problem.sharing(batch):
        _training.repeat(step, n_steps, problem.pace, description)
    if takes_turns:
        _training.average(optimiser, 0.0)
    if any(True for _ in problem.family.parameters()):
        problem.family.settle(problem.predicted(plan.z), plan.barycentre, plan.weight)


def _regression_order(problem: Problem, plan: FrozenPlan, batch: int) -> Iterator[Tensor]:
    """Indices (batch,) of the draws of one step after the other: some of them evenly, most where the decoder is far off."""
    divergence = plan.weight * plan.divergence
    generator = torch.Generator(plan.z.device).manual_seed(int(problem.rng.integers(2**63)))
    odds = divergence + divergence.mean() + torch.finfo(divergence.dtype).tiny
    shape = STEPS_AT_ONCE, batch
    is_even = torch.arange(batch, device=odds.device) >= round(HARD_SHARE * batch)
    while True:
        even = torch.randint(len(plan.z), shape, generator=generator, device=odds.device)
        hard = torch.multinomial(odds, even.numel(), replacement=True, generator=generator).view(shape)
        yield from torch.where(is_even, even, hard)


@torch.no_grad()
def _frozen_plan(problem: Problem, n_draws: int, potential: Tensor, hot: float) -> tuple[FrozenPlan, Tensor, float]:
    """The plan of the present decoder on many draws, cooled from a hot temperature, its potential (n,) and its value."""
    setting, draws = problem.setting, problem.draws(n_draws)
    own, head = problem.part(draws), problem.part(draws.head(POLISH_SOLVE_DRAWS))
    output = problem.predicted(own.z)
    some = with_products(problem.source, problem.target(output[: len(head.z)], head))
    solver = problem.exact(problem.schedule.marginal_tol, POLISH_ITERATIONS)
    n_halvings = math.ceil(math.log2(hot / setting.epsilon) - 1e-9)
    temperatures = [setting.epsilon * 2.0**h for h in range(n_halvings, -1, -1)]
    state = solver.anneal(problem.source, some, temperatures, _better_start(problem, some, potential, hot))
    if state.marginal_error > UNSOLVED:
        state = problem.exact(UNSOLVED, MORE_ITERATIONS).solve(problem.source, some, setting.epsilon, state.potential).state
    side = prior_side(problem.source, problem.target(output, own), state.potential, setting.epsilon)
    barycentre = problem.varying.filled(side.barycentre)
    parts = barycentre, len(draws.z) * (side.log_density + own.log_weights).exp(), problem.family.divergence(output, barycentre)
    barycentre, weight, divergence = (problem.joined(part, own, len(draws.z)) for part in parts)
    divergence = divergence / setting.epsilon
    if not torch.isfinite(weight * divergence).all():
        raise _training.Diverged("the decoder's outputs became infinite or NaN")
    value = _held_out(problem, output, own)
    if value is None:
        value = float(state.dual_value) / setting.epsilon if state.marginal_error <= UNSOLVED else math.inf
    return FrozenPlan(draws.z, barycentre, weight, divergence), state.potential, value


def _held_out(problem: Problem, output: Tensor, draws: Draws) -> float | None:
    """Minus the mean log-likelihood of the rows that judge, by the draws of a plan, in nats over epsilon."""
    if problem.judges is None:
        return None
    family = problem.family.tempered(problem.setting.epsilon)
    key, normaliser = family.natural(output)
    log_sum = _kernels.log_sum_scores(family.statistics(problem.judges.x), key, draws.log_weights - normaliser)
    log_sum = _processes.log_summed(log_sum) if draws.is_part else log_sum
    return -problem.judges.mean(log_sum - family.carrier(problem.judges.x)) / problem.setting.epsilon


def _better_start(problem: Problem, target: Target, potential: Tensor, epsilon: float) -> Tensor:
    """The given potential or zero, whichever has the larger dual value; zero is right for a decoder that carries prior to data."""
    states = [evaluate(problem.source, target, f, epsilon) for f in (potential, torch.zeros_like(potential))]
    return max(states, key=lambda state: float(state.dual_value)).potential
