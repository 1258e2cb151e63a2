"""The two sides of a problem, what one evaluation of a potential gives, and the records of a solve."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from skcvae import _kernels
from skcvae._checks import shown

#: Products of statistics and natural parameters are held between iterations where there are at most this many (256 MiB in
#: float32) and each sums over this many features: with fewer, forming one again costs less than reading it.
HELD_PAIRS, HELD_WIDTH = 2**26, 32


@dataclass(frozen=True, eq=False)
class Source:
    """The data's side of a bilinear cost.

    Attributes
    ----------
    statistics : Tensor of shape (n, p), t
    carrier : Tensor of shape (n,), h
    points : Tensor of shape (n, d) or None, inputs of a potential that is a network
    """

    statistics: Tensor
    carrier: Tensor
    points: Tensor | None = None

    def rows(self, index: Tensor) -> Source:
        """Some of the data."""
        points = None if self.points is None else self.points[index]
        return Source(self.statistics[index], self.carrier[index], points)


@dataclass(frozen=True, eq=False)
class Target:
    r"""The prior's side of a bilinear cost.

    Attributes
    ----------
    natural : Tensor of shape (m, p), eta
    normaliser : Tensor of shape (m,), A
    log_weights : Tensor of shape (m,), log b
    points : Tensor of shape (m, k) or None, inputs of a potential that is a network
    softness : float in [0, 1], :math:`\epsilon/(\epsilon + \varsigma)`: 0 holds the plan to the weights b, 1 leaves it free
    products : Tensor of shape (m, n) or None, :math:`\eta_j \cdot t_i` with one source; see `with_products`
    """

    natural: Tensor
    normaliser: Tensor
    log_weights: Tensor
    points: Tensor | None = None
    softness: float = 0.0
    products: Tensor | None = None


def with_products(source: Source, target: Target) -> Target:
    """The target with its products with this source, where they are worth holding while potentials and temperature change."""
    m, width = target.natural.shape
    if target.products is not None or width < HELD_WIDTH or m * len(source.carrier) > HELD_PAIRS:
        return target
    return dataclasses.replace(target, products=target.natural @ source.statistics.T)


@dataclass(frozen=True, eq=False)
class State:
    """One evaluation of the potentials.

    Attributes
    ----------
    potential : Tensor of shape (n,), f, in cost units
    prior_potential : Tensor of shape (m,), g, in cost units
    average : function that gives `barycentre`
    barycentre : Tensor of shape (m, p), the average of t under each column of the plan, computed when it is asked for
    log_mass : Tensor of shape (n,), log of n times the plan's marginal at each datum; 0 at the solution
    log_density : Tensor of shape (m,), log w, the plan's mass in each column over the weight b; 0 where softness is 0
    dual_value : Tensor, scalar, the value of the dual, in cost units
    softness : float, the target's
    """

    potential: Tensor
    prior_potential: Tensor
    average: Callable[[], Tensor]
    log_mass: Tensor
    log_density: Tensor
    dual_value: Tensor
    softness: float = 0.0

    @cached_property
    def barycentre(self) -> Tensor:
        return self.average()

    @cached_property
    def marginal_error(self) -> float:
        """Chi-square of the data marginal on these draws."""
        return _kernels.marginal_error(self.log_mass)


@dataclass(frozen=True, eq=False)
class Solution:
    """Result of a solve: the last state, the number of iterations, whether the tolerance was met, and the data it was made on."""

    state: State
    n_iter: int
    converged: bool
    source: Source


@dataclass(frozen=True)
class Coupling:
    """What a fitted model reports of its coupling.

    Attributes
    ----------
    epsilon : float, the temperature
    marginal_error : float, chi-square of the data marginal on two independent sets of fresh prior draws, or exactly over atoms
    n_iter : int, iterations of the frozen solve
    converged : bool, whether `marginal_error` is within the tolerance
    dual_value : float, J in nats, minus the log-likelihood that the coupling bounds when epsilon = 1
    n_draws : int, draws from the prior in the cached pool, or atoms
    information : float, mutual information I(x; z) of the coupling in nats, by at most 32768 draws of the pool; at most the
        logarithm of the number of rows; None in a file of before it was recorded
    """

    epsilon: float
    marginal_error: float
    n_iter: int
    converged: bool
    dual_value: float
    n_draws: int
    information: float | None = None


@dataclass(frozen=True, eq=False)
class Columns:
    """What the decoder is regressed onto: the average of t under each column of a plan, (m, p), and the column's mass, (m,)."""

    barycentre: Tensor
    mass: Tensor


def from_cost(cost: Tensor, weights: Tensor | None = None) -> tuple[Source, Target]:
    """Both sides of a problem given by its cost matrix.

    Parameters
    ----------
    cost : Tensor of shape (n, m)
    weights : Tensor of shape (m,), positive with sum 1; equal by default

    Returns
    -------
    Source, Target

    Raises
    ------
    ValueError
        When the cost is not finite, or the weights are no distribution over its columns.

    Examples
    --------
    >>> import torch
    >>> from skcvae.transport import from_cost
    >>> source, target = from_cost(torch.rand(5, 3, generator=torch.Generator().manual_seed(0)))
    >>> source.statistics.shape, target.natural.shape
    (torch.Size([5, 3]), torch.Size([3, 3]))
    """
    if cost.ndim != 2 or not bool(torch.isfinite(cost).all()):
        found = f"shape {tuple(cost.shape)}" if cost.ndim != 2 else "NaN or infinity"
        raise ValueError(f"cost must be a finite matrix of shape (n, m), got {found}. Mend it.")
    m = cost.shape[1]
    if weights is not None and not (weights.shape == (m,) and bool((weights > 0).all()) and abs(float(weights.sum()) - 1) < 1e-4):
        raise ValueError(
            f"weights must be {m} positive numbers with sum 1, got {shown(weights.tolist())}. Divide them by their sum."
        )
    log_weights = torch.full_like(cost[0], -math.log(m)) if weights is None else weights.log()
    target = Target(torch.eye(m, dtype=cost.dtype, device=cost.device), torch.zeros_like(cost[0]), log_weights)
    return Source(-cost, torch.zeros_like(cost[:, 0])), target


@dataclass(frozen=True, eq=False)
class PriorSide:
    """The first pass at a potential: `State` without the data marginal, and the c-transform, which g is where softness is 0."""

    prior_potential: Tensor
    c_transform: Tensor
    average: Callable[[], Tensor]
    log_density: Tensor
    dual_value: Tensor

    @cached_property
    def barycentre(self) -> Tensor:
        return self.average()


def prior_side(source: Source, target: Target, potential: Tensor, epsilon: float, n_averaged: int | None = None) -> PriorSide:
    r"""Prior potential, barycentres, density and value of the semi-dual at a potential.

    .. math:: g_j = (1 - \rho)\, g^0_j, \qquad w_j = e^{-\rho g^0_j/\epsilon}, \qquad
              J = \frac1n \sum_i f_i + \frac\epsilon\rho \Big(1 - \sum_j b_j w_j\Big)

    with :math:`g^0` the c-transform and :math:`\rho` the softness; J tends to :math:`\frac1n \sum f + \sum b g` as it falls to 0.
    Barycentres are of the first `n_averaged` draws only, where it is given.
    """
    return _side(target, potential, *columns(source, target, potential, epsilon, n_averaged), epsilon)


def _side(target: Target, potential: Tensor, hard: Tensor, average: Callable[[], Tensor], epsilon: float) -> PriorSide:
    rho = target.softness
    log_density, g = -rho * hard / epsilon, (1 - rho) * hard
    gain = g if rho == 0 else -epsilon / rho * log_density.expm1()
    return PriorSide(g, hard, average, log_density, potential.mean() + (target.log_weights.exp() * gain).sum())


def evaluate(source: Source, target: Target, potential: Tensor, epsilon: float, with_barycentres: bool = False) -> State:
    """Both passes of the semi-dual at a potential: columns (g), then rows (the data marginal).

    Barycentres are computed when they are asked for; `with_barycentres` says that they will be, and they may come along.
    """
    target = with_products(source, target)
    in_turn = target.products is None and len(potential) > _kernels.MOST_SWEPT
    side, masses = (_in_turn if in_turn else _at_once)(source, target, potential, epsilon, with_barycentres)
    return State(potential, side.prior_potential, side.average, masses, side.log_density, side.dual_value, target.softness)


def _in_turn(source: Source, target: Target, potential: Tensor, epsilon: float, _: bool) -> tuple[PriorSide, Tensor]:
    """Both passes, one after the other."""
    side = prior_side(source, target, potential, epsilon)
    return side, log_mass(source, target, potential, side.prior_potential, epsilon)


def _at_once(source: Source, target: Target, potential: Tensor, epsilon: float, averaged: bool) -> tuple[PriorSide, Tensor]:
    """Both passes over the same exponentials; the masses that underflow are summed once more, as logarithms."""
    bias, shift = _column_sides(source, target, potential, epsilon)
    offset = target.log_weights - target.softness * shift / epsilon
    values = source.statistics.T.contiguous() if averaged and source.statistics.shape[1] < HELD_WIDTH else None
    parts = list(zip(_scores(source, target, bias, epsilon), offset.split(_part_length(source, target)), strict=True))
    log_sum, log_total, known, found, shares = _kernels.both_passes(parts, target.softness, values)
    average = functools.partial(_barycentres, source, target, bias, epsilon, found, shares if averaged else None)
    side = _side(target, potential, shift - epsilon * log_sum, average, epsilon)
    masses = log_total + math.log(len(potential))
    starved = (~known).nonzero()[:, 0]
    if len(starved):
        products = None if target.products is None else target.products[:, starved]
        rest = source.rows(starved), dataclasses.replace(target, products=products), potential[starved]
        masses[starved] = log_mass(*rest, side.prior_potential, epsilon)
    return side, masses


def _column_sides(source: Source, target: Target, potential: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """What is added to every column of the scores (n,), and to every c-transform (m,)."""
    return (potential - source.carrier) / epsilon, target.normaliser + epsilon * math.log(len(potential))


def _part_length(source: Source, target: Target) -> int:
    """Rows of the prior's side in a part of a pass."""
    return _kernels.part_length(target.natural, len(source.carrier))


def _scores(source: Source, target: Target, bias: Tensor, epsilon: float) -> list[Callable[[], Iterator[Tensor]]]:
    r"""Parts of the scores :math:`(f_i - C_{ij} + A_j)/\epsilon`, (m, n), each a function that gives blocks of rows."""
    length = _part_length(source, target)
    if target.products is None:
        natural = target.natural / epsilon
        return [functools.partial(_kernels.swept, rows, source.statistics, bias) for rows in natural.split(length)]
    return [functools.partial(_kernels.swept_products, rows, bias, epsilon) for rows in target.products.split(length)]


def _barycentres(
    source: Source, target: Target, bias: Tensor, epsilon: float, found: Tensor | None = None, shares: Tensor | None = None
) -> Tensor:
    """The averages, unless they are found; by the shares of every column, where they are held."""
    if found is not None:
        return found
    if shares is not None:
        return shares @ source.statistics
    if target.products is None:
        return _kernels.attend(target.natural / epsilon, source.statistics, source.statistics, bias)[1]
    return _kernels.row_averages(target.products, bias, source.statistics, epsilon)


def c_transform(source: Source, target: Target, potential: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    r"""Prior potential that makes every column a distribution, (m,), and the barycentres of t (m, p).

    .. math:: g^0_j = -\epsilon \log \frac1n \sum_i e^{(f_i - C_{ij})/\epsilon}, \qquad O_j = \sum_i P_{ij} t_i
    """
    hard, average = columns(source, target, potential, epsilon)
    return hard, average()


def columns(
    source: Source, target: Target, potential: Tensor, epsilon: float, n_averaged: int | None = None
) -> tuple[Tensor, Callable[[], Tensor]]:
    """`c_transform` with the barycentres as a function, which costs nothing before it is called where products are held.

    Elsewhere barycentres of the first `n_averaged` draws alone take less time.
    """
    bias, shift = _column_sides(source, target, potential, epsilon)
    if target.products is None:
        natural = target.natural / epsilon
        log_sum, barycentre = _kernels.attend(natural[:n_averaged], source.statistics, source.statistics, bias)
        if len(natural) > len(log_sum):
            rest = _kernels.log_sum_scores(natural[len(log_sum) :], source.statistics, bias)
            log_sum = torch.cat([log_sum, rest])
        return shift - epsilon * log_sum, lambda: barycentre
    log_sum = _kernels.row_log_sums(target.products, bias, epsilon)
    return shift - epsilon * log_sum, functools.partial(_barycentres, source, target, bias, epsilon)


def log_mass(source: Source, target: Target, potential: Tensor, prior_potential: Tensor, epsilon: float) -> Tensor:
    r"""Log of n times the plan's data marginal, :math:`\log \sum_j b_j e^{(f_i + g_j - C_{ij})/\epsilon}`, of shape (n,)."""
    bias = target.log_weights + (prior_potential - target.normaliser) / epsilon
    if target.products is None:
        log_sum = _kernels.log_sum_scores(source.statistics, target.natural / epsilon, bias)
    else:
        log_sum = _kernels.column_log_sums(target.products, bias, epsilon)
    return log_sum + (potential - source.carrier) / epsilon


def sinkhorn_step(state: State, epsilon: float) -> Tensor:
    r"""The next potential, :math:`f_i - \epsilon \log (n q_i)` with q the plan's data marginal; starved data rise freely.

    Where the prior's side is soft the best constant is added as well, :math:`-\epsilon (1/\rho - 1) \log E[w]`.
    """
    following = state.potential - epsilon * state.log_mass
    if state.softness == 0:
        return following
    log_total = torch.logsumexp(state.log_mass, 0) - math.log(len(following))
    return following - epsilon * (1 / state.softness - 1) * log_total


def plan(source: Source, target: Target, state: State, epsilon: float) -> Tensor:
    r"""The whole plan :math:`\pi_{ij} = \frac{b_j}{n} e^{(f_i + g_j - C_{ij})/\epsilon}`, (n, m); for small problems."""
    cost = target.normaliser + source.carrier[:, None] - source.statistics @ target.natural.T
    log_density = (state.potential[:, None] + state.prior_potential - cost) / epsilon
    return (log_density + target.log_weights).exp() / len(cost)


def dual_columns(target: Target, state: State) -> Columns:
    r"""Columns of the plan that the dual strategy uses (Algorithm 2): mass :math:`b_j w_j` and barycentre as they are."""
    return Columns(state.barycentre, (target.log_weights + state.log_density).exp())


def primal_columns(source: Source, target: Target, state: State, epsilon: float) -> Columns:
    r"""Columns of the plan that the primal strategy uses (Algorithm 1, with every datum's own importance weights).

    .. math:: \frac1n \sum_i \sum_j W_{ij} C_{ij}, \qquad W_{ij} = \mathrm{softmax}_j \big(\log b_j + (g_j - C_{ij})/\epsilon\big)

    W is the plan with exact rows, that is with f replaced by :math:`f - \epsilon \log (n q)`; it differs from the dual strategy's
    only in which marginal is exact.
    """
    exact_rows = state.potential - epsilon * state.log_mass
    hard, barycentre = c_transform(source, target, exact_rows, epsilon)
    return Columns(barycentre, (target.log_weights + (state.prior_potential - hard) / epsilon).exp())


def fresh_marginal_error(source: Source, targets: tuple[Target, Target], potential: Tensor, epsilon: float) -> float:
    """The certificate: chi-square of the data marginal from two independent sets of draws not used to solve; at least 0."""
    first, second = (evaluate(source, target, potential, epsilon).log_mass for target in targets)
    return max(0.0, _kernels.marginal_error(first, second))
