"""The first two phases: start on the principal axes, and train while the temperature falls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcvae import _training, objectives
from skcvae._data import some
from skcvae._phases._problem import Draws, Layout, Problem
from skcvae._random import make_torch_generator
from skcvae._training import Course
from skcvae.likelihoods._family import variance_of_rows
from skcvae.transport import Solution, Target

#: The temperature is held while the decoder is further than this from the barycentres, in nats over epsilon.
LARGEST_RESIDUAL = 1.0
#: A batch that stays above this chi-square moves no decoder.
LOST = 1.0


def start(problem: Problem) -> Layout:
    """The layout of a linear decoder along the principal axes, at the temperature that training starts from."""
    n_axes = problem.decoder.inputs(problem.draws(1).z).shape[1]
    counts = problem.data.counts(problem.rows)
    axes = problem.family.linear_start(problem.x, n_axes, 0.0, counts)
    hot = max(problem.setting.epsilon, problem.schedule.hot_share * _smallest_variance(problem, *axes))
    problem.decoder.network.set_linear(*problem.family.linear_start(problem.x, n_axes, hot, counts))  # type: ignore[operator]
    return Layout.of(problem, torch.zeros_like(problem.source.carrier), hot)


def present(problem: Problem) -> Layout:
    """The layout of the decoder as it is, at the target's temperature."""
    return Layout.of(problem, torch.zeros_like(problem.source.carrier), problem.setting.epsilon)


def _smallest_variance(problem: Problem, weight: Tensor, bias: Tensor) -> float:
    """Variance of the cost's scores along the last encoded axis, in nats: above it as temperature the axis would collapse."""
    eta = problem.family.natural(torch.cat([bias[None], bias + weight.T]))[0].detach()
    scores = problem.family.statistics(problem.x) @ (eta[1:] - eta[0]).T  # (n, k)
    counts = problem.data.counts(problem.rows)
    unbiased = problem.n_rows / (problem.n_rows - 1)
    spread = scores.std(0) if counts is None else (unbiased * variance_of_rows(scores, counts)).sqrt()
    return float(spread[spread > 0].min()) if (spread > 0).any() else problem.setting.epsilon


def train(course: Course[Problem], hot: float) -> Layout:
    """Improve the potentials on fresh draws, then one decoder step; cool while the decoder keeps up.

    Of many rows some are trained on: every step runs over all of them, and polishing sees the others.
    """
    problem = course.root
    rows = course.stage("rows", lambda: {"all": problem.rows, "some": _some_rows(problem)})
    if rows["some"] is not None and "trained" not in course.done:
        problem.take_again(rows["some"])
    n_steps = min(problem.setting.max_iter, problem.schedule.training_steps)
    with problem.sharing(problem.setting.draws_per_step):
        training = course.loop("train", lambda: _Steps(problem, hot, n_steps), n_steps)
    return Layout(**course.stage("trained", lambda: _trained(problem, training, rows).state_dict()))


def _some_rows(problem: Problem) -> Tensor | None:
    """Places of the rows to train on, some of those that plans are made of, or None for all of them."""
    places = some(len(problem.x), problem.schedule.training_rows, problem.rng)
    return places if places is None or problem.rows is None else problem.rows[places]


def _trained(problem: Problem, training: _Steps, rows: dict[str, Tensor | None]) -> Layout:
    """The layout after the training, with the potential of all rows."""
    potential = training.potential
    if rows["some"] is not None:
        potential = problem.carry(potential, rows["all"])
    return Layout.of(problem, potential, training.epsilon)


class _Steps:
    """The state that goes from one training step to the next."""

    stream: Callable[[], NDArray[np.float64]]

    def __init__(self, problem: Problem, hot: float, n_steps: int) -> None:
        setting, self.problem, self.epsilon, self.n_steps = problem.setting, problem, hot, n_steps
        generator = make_torch_generator(problem.rng)
        n_inputs = None if problem.has_atoms else problem.decoder.inputs(problem.draws(1).z).shape[1]
        self.potentials = problem.solver.begin(problem.source, n_inputs, generator)
        self.plateau = _training.Plateau(setting.tol, setting.patience)
        self.atoms = problem.draws(0) if problem.has_atoms else None
        self._begin_stream(int(problem.rng.integers(2**63)))
        self.optimiser = _training.adam([problem.decoder, problem.family], setting.learning_rate)
        self.cooling = (setting.epsilon / hot) ** (1 / max(1.0, problem.schedule.cooling_share * n_steps))

    @property
    def potential(self) -> Tensor:
        """The present data potential, (n,)."""
        return self.potentials.vector()

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on, but for the problem's own state."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {"epsilon": self.epsilon, "seed": self.seed, "taken": self.taken, "parts": parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.epsilon = state["epsilon"]
        for name, part in self._parts().items():
            part.load_state_dict(state["parts"][name])
        self._begin_stream(state["seed"])
        if self.atoms is None:
            for _ in range(state["taken"]):
                self.stream()
        self.taken = state["taken"]

    def _parts(self) -> dict[str, Any]:
        return {"potentials": self.potentials, "plateau": self.plateau, "optimiser": self.optimiser}

    def _begin_stream(self, seed: int) -> None:
        self.seed, self.taken = seed, 0
        self.stream = self.problem.prior.stream(self.problem.setting.draws_per_step, np.random.default_rng(seed))

    def _draws(self) -> Draws:
        if self.atoms is not None:
            return self.atoms
        self.taken += 1
        return self.problem.equally_weighted(self.stream())

    def step(self, t: int) -> bool:
        """One step; True when training may end."""
        problem, setting = self.problem, self.problem.setting
        _training.set_learning_rate(self.optimiser, setting.learning_rate * _training.one_cycle(t / self.n_steps))
        draws = self._draws()
        share = problem.step_share(len(draws.z))
        draws = draws if share is None else problem.part(draws)
        output, predicted = problem.outputs(draws.z)
        target = problem.target(predicted, draws)
        solution = self._improve(target)
        if not solution.state.marginal_error <= LOST:
            return False
        columns = problem.solver.columns(solution.state)
        barycentre = problem.varying.filled(columns.barycentre)
        loss = objectives.coupled(problem.family, output, barycentre, columns.mass, self.epsilon)
        residual = _training.descend(self.optimiser, loss, draws.is_part)
        if solution.converged and residual <= LARGEST_RESIDUAL:
            self.epsilon = max(setting.epsilon, self.epsilon * self.cooling)
        return self.epsilon == setting.epsilon and self.plateau.reached(residual)

    def _improve(self, target: Target) -> Solution:
        solution = self.potentials.improve(target, self.epsilon)
        value = float(solution.state.dual_value) + self.problem.family.log_volume
        self.problem.history.record(value, solution.state.marginal_error)
        self.problem.pace.note(value)
        return solution
