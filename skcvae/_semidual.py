"""A coupled fit in its four phases: start, train (Algorithm 2), polish and freeze.

- *Start*: with a linear decoder along the principal axes the coupling is a convex problem. Its barycentres, solved from hot to
  cold, are an entropic Brenier map from prior to data; the network is regressed onto it, so that the layout is untangled.
- *Train*: on fresh prior draws the potential is solved, all data at once, then the decoder makes one step on the semi-dual.
- *Polish*: the plan is frozen on many draws and the decoder regressed onto its barycentres; repeated.
- *Freeze*: the decoder stays, the potential is solved on a pool that grows until fresh draws certify the data marginal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

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
    log_mass,
    sinkhorn_step,
)

#: Draws on which the linear start is solved, and the tolerance and iterations of each temperature.
START_DRAWS, START_TOL, START_ITERATIONS = 4096, 1e-3, 20
#: Draws of a polishing round, at most, and those of them on which the potential is solved.
POLISH_DRAWS, POLISH_SOLVE_DRAWS, POLISH_ITERATIONS = 65536, 16384, 20
#: Numbers that the barycentres of a polishing round may hold.
POLISH_NUMBERS = 2**25
#: The frozen solve goes this much below the tolerance on its own draws.
FROZEN_TOL_SHARE = 0.25
#: The pool grows at most this much at once.
LARGEST_GROWTH = 8
#: A batch that stays above this chi-square moves no decoder; a pool that does is no coupling.
LOST = 1.0


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
    """Curves over the training steps, and how the training ended."""

    loss: list[float] = field(default_factory=list)
    marginal_error: list[float] = field(default_factory=list)
    plateau_reached: bool = False


def start(problem: Problem) -> Tensor:
    """Fit the decoder to the barycentres of the linear decoder's coupling; returns the potential."""
    weight, bias = problem.family.linear_start(problem.x, problem.prior.n_components, problem.epsilon)
    problem.decoder.set_linear(weight, bias)
    z = problem.draws(min(START_DRAWS, problem.batch_size * problem.max_iter))
    target = problem.target(z @ weight.T + bias)
    temperatures = _temperatures(problem.source, target, problem.epsilon)
    state = problem.solver.anneal(problem.source, target, temperatures, START_TOL, START_ITERATIONS)
    optimiser = _training.adam([problem.decoder], problem.learning_rate)
    _regress(problem, optimiser, z, state.barycentre, _cycle(problem), "start")
    return state.potential


def _temperatures(source: Source, target: Target, epsilon: float) -> list[float]:
    """Halving temperatures from the spread of the cost over draws down to epsilon."""
    scores = source.statistics[:: max(1, len(source.carrier) // 256)] @ target.natural[:256].T - target.normaliser[:256]
    halvings = max(0, math.ceil(math.log2(float(scores.std()) / epsilon)))
    return [epsilon * 2.0**h for h in range(halvings, -1, -1)]


def _cycle(problem: Problem) -> Callable[[int], float]:
    return lambda t: problem.learning_rate * _training.one_cycle(t / problem.max_iter)


def _regress(
    problem: Problem,
    optimiser: torch.optim.Optimizer,
    z: Tensor,
    barycentre: Tensor,
    learning_rate: Callable[[int], float],
    description: str,
) -> None:
    """`max_iter` steps of robust regression from draws z onto their barycentres."""
    order = torch.Generator(z.device).manual_seed(int(problem.rng.integers(2**63)))

    def step(t: int) -> bool:
        index = torch.randint(len(z), (problem.batch_size,), generator=order, device=z.device)
        _training.set_learning_rate(optimiser, learning_rate(t))
        output = problem.decoder(z[index])
        loss = objectives.robust_coupled(problem.family, output, barycentre[index], problem.epsilon)
        _training.descend(optimiser, loss)
        return False

    _training.repeat(step, problem.max_iter, description, problem.verbose)


def train(problem: Problem, potential: Tensor) -> tuple[Tensor, History]:
    """Algorithm 2: solve the potential on fresh draws, then one decoder step, until a plateau or `max_iter` steps."""
    history, plateau = History(), _training.Plateau(problem.tol, problem.patience)
    draw = problem.prior.stream(problem.batch_size, problem.rng)
    optimiser = _training.adam([problem.decoder, problem.family], problem.learning_rate)

    def step(t: int) -> bool:
        nonlocal potential
        output = problem.decoder(problem.tensor(draw()))
        solution = problem.solver.solve_batch(problem.source, problem.target(output), problem.epsilon, potential)
        potential = sinkhorn_step(solution.state, problem.epsilon)
        residual = _decoder_step(problem, optimiser, output, solution, history)
        history.plateau_reached = residual is not None and plateau.reached(residual)
        return history.plateau_reached

    _training.repeat(step, problem.max_iter, "train", problem.verbose)
    return potential, history


def _decoder_step(
    problem: Problem, optimiser: torch.optim.Optimizer, output: Tensor, solution: Solution, history: History
) -> float | None:
    """One step on the semi-dual; None, and no step, where the potential could not be solved."""
    state = solution.state
    history.marginal_error.append(state.marginal_error)
    history.loss.append(float(dual_value(state, problem.target(output))))
    if not state.marginal_error <= LOST:
        return None
    return _training.descend(
        optimiser, objectives.coupled(problem.family, output, state.barycentre, problem.epsilon)
    )


def polish(problem: Problem, potential: Tensor) -> Tensor:
    """Rounds of regression onto the barycentres of the plan, frozen on many draws, until the residual is within `tol`."""
    optimiser = _training.adam([problem.decoder, problem.family], problem.learning_rate)
    rounds = problem.solver.polish_rounds
    for r in range(rounds):
        z, barycentre, potential, residual = _frozen_plan(problem, potential)
        if residual <= problem.tol:
            break
        rate = lambda t, r=r: problem.learning_rate * _training.one_cycle((r + t / problem.max_iter) / rounds)  # noqa: E731
        _regress(problem, optimiser, z, barycentre, rate, f"polish {r + 1}/{rounds}")
    return potential


@torch.no_grad()
def _frozen_plan(problem: Problem, potential: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Draws, their barycentres under the solved plan, its potential, and the decoder's residual."""
    width = problem.source.statistics.shape[1]
    z = problem.draws(min(POLISH_DRAWS, problem.batch_size * problem.max_iter, POLISH_NUMBERS // width))
    output = problem.decoder(z)
    some = problem.target(output[:POLISH_SOLVE_DRAWS])
    potential = _solve(problem, some, potential, POLISH_ITERATIONS).state.potential
    barycentre = c_transform(problem.source, problem.target(output), potential, problem.epsilon)[1]
    residual = float(objectives.coupled(problem.family, output, barycentre, problem.epsilon))
    return z, barycentre, potential, residual


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


def _frozen(
    problem: Problem, z: Tensor, output: Tensor, potential: Tensor, error: float, n_iter: int
) -> tuple[Pool, Coupling]:
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
