"""The last phase: the decoder stays, and the coupling is solved and certified."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from skcvae import _processes, _training
from skcvae._phases._problem import Draws, Problem
from skcvae._place import HOST, Place, moved
from skcvae.posteriors import MOST_PLANES, Pool, PoolInference, Scores
from skcvae.transport import Coupling, PriorSide, Solution, Source, Target, fresh_marginal_error, prior_side

#: The frozen solve goes this much below the tolerance on its own draws; over atoms, which are all there is, further.
FROZEN_TOL_SHARE, ATOMS_TOL_SHARE = 0.25, 1e-6
#: Below this share of the certificate the error on a pool's own draws says that the rest is the noise of the pool; and below this
#: one where it is within the tolerance.
NOISY_SHARE, SOLVED_NOISY_SHARE = 0.5, 0.75
#: Iterations on a pool before its certificate; and where a certificate near the solution, where they are accelerated, has said that
#: they are what is missing.
ITERATIONS, MORE_ITERATIONS = 5, 40
#: These end at this share of the certificate before, unless the tolerance asks for less.
GAINED_SHARE = 0.1
#: Draws of each half of a certificate: as many as the pool has up to the first number, and a share of a larger one. It is unbiased
#: with any number, and its own error falls with the number of rows as well.
CERTIFYING_DRAWS, CERTIFYING_SHARE = 16384, 0.25
#: Draws of a pool, the first ones, over which the information is averaged.
AVERAGED_DRAWS = 32768
#: The pool grows at most this much at once.
LARGEST_GROWTH = 8
#: A pool at this chi-square is good enough when the time is over. It is too small above it, where the error is above this share of
#: the one before and rows over draws, the most that the noise of a pool makes, are above it too.
LATE, FALLING_SHARE = 0.1, 0.9
#: A pool that stays above this chi-square is no coupling.
LOST = 1.0
#: Planes of the data without their potential hold this many numbers, 4 MiB in float32, or this share of the pool's.
HOLE_NUMBERS, HOLE_SHARE = 2**20, 0.05


@dataclass(frozen=True, eq=False)
class Frozen:
    """The result of a fit.

    Attributes
    ----------
    pool : Pool, what inference uses
    coupling : Coupling, the record
    planes : Scores, see `supporting_planes`; of the first draws of the pool, for the potential at draws of a proposal
    holes : Scores, the same for the data without their potential
    level : float, mean of the latter's c-transform at their draws, in nats
    potential : Tensor of shape (n,), f in training precision
    """

    pool: Pool
    coupling: Coupling
    planes: Scores
    holes: Scores
    level: float
    potential: Tensor


@torch.no_grad()
def freeze(problem: Problem, potential: Tensor, n_draws: int) -> Frozen:
    """Solve the potential of the frozen decoder on a pool that grows until fresh draws certify the data marginal.

    Five iterations are followed by a certificate. The pool grows in two cases: the error on its own draws is far below that on
    fresh ones, as a potential takes in the noise of its draws; or both errors are large and no longer fall, and the pool has few
    draws a row. Otherwise more iterations follow on a fresh pool of the same size, near the solution up to forty, as their
    acceleration needs. The solve ends where the pool would have to grow and no pool is larger.
    """
    schedule, n_iter, before = problem.schedule, 0, math.inf
    tol = schedule.marginal_tol
    while True:
        problem.pace.begin(f"freeze, {n_draws} draws", 1)
        draws = problem.draws(n_draws)
        solution = _solve(problem, draws, potential, schedule.solve_max_iter - n_iter, before)
        potential, n_iter = solution.state.potential, n_iter + solution.n_iter
        error = _certificate(problem, potential, n_draws)
        problem.pace.advance()
        if error <= tol or problem.has_atoms or n_iter >= schedule.solve_max_iter or (problem.pace.is_over and error <= LATE):
            break
        own = solution.state.marginal_error
        is_noise = own < max(NOISY_SHARE * error, min(tol, SOLVED_NOISY_SHARE * error))
        is_coarse = error > max(LATE, FALLING_SHARE * before) and len(problem.x) > LATE * n_draws
        before = error
        if is_noise or is_coarse:
            if 2 * n_draws > schedule.max_draws:
                break
            ratio = error / tol if tol > 0 else math.inf
            growth = int(2 ** math.ceil(math.log2(min(LARGEST_GROWTH, max(2.0, ratio)))))  # a power of two
            n_draws, before = min(n_draws * growth, schedule.max_draws), math.inf
    if not error <= LOST:
        raise _training.Diverged(f"the data marginal of the coupling is off by a chi-square of {error:.3g}")
    return _frozen(problem, draws, potential, error, n_iter)


def _target(problem: Problem, draws: Draws) -> Target:
    own = problem.part(draws)
    return problem.target(problem.predicted(own.z), own)


def _solve(problem: Problem, draws: Draws, potential: Tensor, most: int, before: float) -> Solution:
    """The potential on a pool, by at most so many iterations; the certificate before is infinite on the first pool of a size."""
    share = ATOMS_TOL_SHARE if problem.has_atoms else FROZEN_TOL_SHARE
    goal = share * problem.schedule.marginal_tol
    if before <= LATE:
        goal, most = max(goal, GAINED_SHARE * before), min(most, MORE_ITERATIONS)
    elif not problem.has_atoms:
        most = min(most, ITERATIONS)
    return problem.exact(goal, most).solve(problem.source, _target(problem, draws), problem.setting.epsilon, potential)


def _certificate(problem: Problem, potential: Tensor, n_draws: int) -> float:
    n_fresh = min(n_draws, max(CERTIFYING_DRAWS, round(CERTIFYING_SHARE * n_draws)))
    targets = [_target(problem, problem.draws(n_fresh)) for _ in range(2)]
    return fresh_marginal_error(problem.source, (targets[0], targets[1]), potential, problem.setting.epsilon)


def _frozen(problem: Problem, draws: Draws, potential: Tensor, error: float, n_iter: int) -> Frozen:
    """The pool and its record, on the CPU; at a hard marginal with the gauge in which g averages to zero on the pool.

    All sums are made in double precision. The natural parameters, which are as large as the decoder's outputs, are kept in theirs,
    and all else is that of the rounded ones.
    """
    own, n_draws, place = problem.part(draws), len(draws.z), Place(torch.float64, draws.z.device)
    predicted = problem.joined(problem.predicted(own.z), own, n_draws)
    family, epsilon, softness = moved(problem.family, place), problem.setting.epsilon, problem.setting.softness
    log_weights, f, x = draws.log_weights.double(), potential.double(), problem.x.double()
    statistics, carrier = family.statistics(x), family.carrier(x)
    key = family.natural(predicted.double())[0].to(predicted.dtype)
    eta = key.double()
    normaliser = family.log_normaliser(eta)
    # The average of f - h in a column is that of one more statistic, which the cost does not have.
    tilt = None if problem.source.log_weights is None else problem.source.log_weights.double()
    extended = Source(torch.cat([statistics, (f - carrier)[:, None]], 1), carrier, log_weights=tilt)
    side = _prior_side(problem, extended, Target(F.pad(eta, (0, 1)), normaliser, log_weights, softness=softness), f)
    barycentre, offset = side.barycentre[:, :-1], side.barycentre[:, -1]
    gauge = float((log_weights.exp() * side.prior_potential).sum()) if softness == 0 else 0.0
    log_coupling = log_weights + (side.prior_potential - gauge - normaliser) / epsilon
    log_density = log_weights - family.tempered(epsilon).log_normaliser(family.tempering(epsilon) * eta)
    pool = Pool(draws.z.double(), key, log_coupling, log_density, log_weights + side.log_density).moved(HOST)
    value, first = float(side.dual_value) + family.log_volume, slice(len(barycentre))
    divergence = ((barycentre * eta[first]).sum(1) + offset - normaliser[first] + side.c_transform[first]) / epsilon
    information = _average(divergence, (log_weights + side.log_density)[first])
    record = Coupling(epsilon, error, n_iter, error <= problem.schedule.marginal_tol, value, len(eta), information)
    planes = supporting_planes(eta, normaliser, side.c_transform, barycentre[:MOST_PLANES], epsilon, key.dtype)
    n_holes = max(HOLE_NUMBERS // eta.shape[1], math.ceil(HOLE_SHARE * len(eta)))
    some = Target(eta[:n_holes], normaliser[:n_holes], log_weights[:n_holes])
    free = _prior_side(problem, Source(statistics, carrier, log_weights=tilt), some, torch.zeros_like(f))
    hard, average = free.c_transform, free.barycentre
    holes = supporting_planes(eta, normaliser, hard, average, epsilon, key.dtype)
    return Frozen(pool, record, planes, holes, _average(hard, some.log_weights), potential)


def _prior_side(problem: Problem, source: Source, target: Target, potential: Tensor) -> PriorSide:
    """The first pass over all draws, of which each process makes its share; barycentres of the first ones alone."""
    n_draws, n_averaged = len(target.log_weights), min(len(target.log_weights), AVERAGED_DRAWS)
    share = problem.share(n_draws)
    if share is None:
        return prior_side(source, target, potential, problem.setting.epsilon, n_averaged)
    parts = target.natural[share], target.normaliser[share], target.log_weights[share]
    own = Target(*parts, softness=target.softness, is_part=True)
    side = prior_side(source, own, potential, problem.setting.epsilon, _processes.n_own(n_averaged))
    g, hard, log_density = (_processes.joined(v, n_draws) for v in (side.prior_potential, side.c_transform, side.log_density))
    return PriorSide(g, hard, log_density, side.dual_value, _processes.joined(side.barycentre, n_averaged))


def _average(values: Tensor, log_weights: Tensor) -> float:
    """The mean of values (m,) by weights whose sum need not be 1."""
    return float((torch.softmax(log_weights, 0) * values).sum())


@torch.no_grad()
def held_out(problem: Problem, pool: Pool) -> float:
    """Minus the mean log-likelihood of validation rows by a pool, in nats over epsilon: where no round of polishing had one."""
    assert problem.held_out is not None, "asked only where there are rows of validation"
    inference = PoolInference(pool, moved(problem.family, HOST), problem.setting.epsilon)
    score = problem.held_out.mean(inference.mixture.log_density(HOST.tensor(problem.held_out.x))[0])
    return -score / problem.setting.epsilon


def supporting_planes(
    eta: Tensor, normaliser: Tensor, hard: Tensor, barycentre: Tensor, epsilon: float, dtype: torch.dtype
) -> Scores:
    r"""What extends the c-transform from the first draws of the pool to any latent point without the data.

    .. math:: g^0(z) = A(z) - \epsilon L(\eta(z)), \qquad
              L(\eta) = \log \frac1n \sum_i e^{(f_i - h_i + t_i \cdot \eta)/\epsilon} \ge
              \max_j \big( L(\eta_j) + O_j \cdot (\eta - \eta_j)/\epsilon \big)

    L is convex and its gradient at a draw is the barycentre there: the planes touch it at their draws, also where the gradient is
    rounded to the precision in which it is kept, and to zero where it would be denormal, which slows products down sixtyfold.
    """
    eta, normaliser, hard = (part[: len(barycentre)] for part in (eta, normaliser, hard))
    key = (barycentre / epsilon).to(dtype)
    key = key.masked_fill_(key.abs() < torch.finfo(dtype).tiny, 0)
    return Scores(key.cpu(), ((normaliser - hard) / epsilon - (key * eta).sum(1)).cpu())
