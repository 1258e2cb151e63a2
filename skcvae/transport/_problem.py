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

from skcvae import _kernels, _processes
from skcvae._checks import shown

#: Products of statistics and natural parameters are held between iterations where there are at most this many (256 MiB in
#: float32) and each sums over this many features: with fewer, forming one again costs less than reading it.
HELD_PAIRS, HELD_WIDTH = 2**26, 32


@dataclass(frozen=True, eq=False)
class Source:
    r"""The data's side of a bilinear cost.

    Attributes
    ----------
    statistics : Tensor of shape (n, p), t
    carrier : Tensor of shape (n,), h
    points : Tensor of shape (n, d) or None, inputs of a potential that is a network
    log_weights : Tensor of shape (n,) or None, :math:`\log n a_i` of weights a with sum 1; None where all are 1/n
    """

    statistics: Tensor
    carrier: Tensor
    points: Tensor | None = None
    log_weights: Tensor | None = None

    def rows(self, index: Tensor) -> Source:
        """Some of the data, of equal weight: all of equally weighted data, or draws by their weights."""
        points = None if self.points is None else self.points[index]
        return Source(self.statistics[index], self.carrier[index], points)

    def bias(self, potential: Tensor, epsilon: float) -> Tensor:
        r"""What the data add to every column of the scores, :math:`(f_i - h_i)/\epsilon + \log n a_i`, (n,)."""
        bias = (potential - self.carrier) / epsilon
        return bias if self.log_weights is None else bias + self.log_weights

    def mean(self, values: Tensor) -> Tensor:
        """The mean of values (n,) by the weights, a scalar."""
        return values.mean() if self.log_weights is None else (self.log_weights.exp() * values).mean()

    def log_mean(self, log_values: Tensor) -> Tensor:
        """The log of the mean of values by the weights, a scalar, from their logs (n,)."""
        log_terms = log_values if self.log_weights is None else log_values + self.log_weights
        return torch.logsumexp(log_terms, 0) - math.log(len(log_values))

    def shares(self, values: Tensor) -> Tensor:
        """Values (n,) times the weights: the terms whose sum is their mean."""
        return (values if self.log_weights is None else self.log_weights.exp() * values) / len(values)


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
    is_part : bool, whether these draws are this process's share of those of several: sums over them are made over all
    """

    natural: Tensor
    normaliser: Tensor
    log_weights: Tensor
    points: Tensor | None = None
    softness: float = 0.0
    products: Tensor | None = None
    is_part: bool = False

    def total(self, values: Tensor) -> Tensor:
        """The sum of values (m,) over all draws, a scalar."""
        return _processes.summed(values.sum()) if self.is_part else values.sum()

    def log_total(self, log_sums: Tensor) -> Tensor:
        """Logarithms of sums over all draws from those over these."""
        return _processes.log_summed(log_sums) if self.is_part else log_sums


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
    source : Source
    target : Target
    epsilon : float, the temperature
    potential : Tensor of shape (n,), f, in cost units
    prior_potential : Tensor of shape (m,), g, in cost units
    log_mass : Tensor of shape (n,), log of the plan's marginal at each datum over its weight; 0 at the solution
    log_density : Tensor of shape (m,), log w, the plan's mass in each column over the weight b; 0 where softness is 0
    dual_value : Tensor, scalar, the value of the dual, in cost units
    average : Tensor of shape (m, p) or None, `barycentre` where it came along
    shares : Tensor of shape (m, n) or None, the columns of the plan where they came along
    """

    source: Source
    target: Target
    epsilon: float
    potential: Tensor
    prior_potential: Tensor
    log_mass: Tensor
    log_density: Tensor
    dual_value: Tensor
    average: Tensor | None = None
    shares: Tensor | None = None

    @cached_property
    def barycentre(self) -> Tensor:
        """The average of t under each column of the plan, (m, p)."""
        if self.average is not None:
            return self.average
        if self.shares is not None:
            return self.shares @ self.source.statistics
        return _barycentres(self.source, self.target, self.potential, self.epsilon)

    @cached_property
    def marginal_error(self) -> float:
        """Chi-square of the data marginal on these draws."""
        return _kernels.marginal_error(self.log_mass, log_weights=self.source.log_weights)


@dataclass(frozen=True, eq=False)
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


def from_cost(cost: Tensor, weights: Tensor | None = None, row_weights: Tensor | None = None) -> tuple[Source, Target]:
    """Both sides of a problem given by its cost matrix.

    Parameters
    ----------
    cost : Tensor of shape (n, m)
    weights : Tensor of shape (m,), positive with sum 1, of the columns; equal by default
    row_weights : Tensor of shape (n,), the same of the rows

    Returns
    -------
    Source, Target

    Raises
    ------
    ValueError
        When the cost is not finite, or weights are no distribution over its columns or rows.

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
    n, m = cost.shape
    _check_weights("weights", weights, m)
    _check_weights("row_weights", row_weights, n)
    log_weights = torch.full_like(cost[0], -math.log(m)) if weights is None else weights.log()
    target = Target(torch.eye(m, dtype=cost.dtype, device=cost.device), torch.zeros_like(cost[0]), log_weights)
    tilt = None if row_weights is None else row_weights.log() + math.log(n)
    return Source(-cost, torch.zeros_like(cost[:, 0]), log_weights=tilt), target


def _check_weights(name: str, weights: Tensor | None, n: int) -> None:
    """ValueError unless weights are a distribution over n."""
    if weights is not None and not (weights.shape == (n,) and bool((weights > 0).all()) and abs(float(weights.sum()) - 1) < 1e-4):
        got = shown(weights.tolist())
        raise ValueError(f"{name} must be {n} positive numbers with sum 1, got {got}. Divide them by their sum.")


@dataclass(frozen=True, eq=False)
class PriorSide:
    """The first pass at a potential.

    Attributes
    ----------
    prior_potential : Tensor of shape (m,), g, in cost units
    c_transform : Tensor of shape (m,), which g is where softness is 0
    log_density : Tensor of shape (m,), see `State`
    dual_value : Tensor, scalar
    barycentre : Tensor of shape (m', p), of the first draws
    """

    prior_potential: Tensor
    c_transform: Tensor
    log_density: Tensor
    dual_value: Tensor
    barycentre: Tensor


def prior_side(source: Source, target: Target, potential: Tensor, epsilon: float, n_averaged: int | None = None) -> PriorSide:
    r"""Prior potential, density, value of the semi-dual and barycentres at a potential.

    .. math:: g_j = (1 - \rho)\, g^0_j, \qquad w_j = e^{-\rho g^0_j/\epsilon}, \qquad
              J = \sum_i a_i f_i + \frac\epsilon\rho \Big(1 - \sum_j b_j w_j\Big)

    with :math:`g^0` the c-transform and :math:`\rho` the softness; J tends to :math:`\sum a f + \sum b g` as it falls to 0.
    Barycentres are of the first `n_averaged` draws only, where it is given.
    """
    hard, barycentre = c_transform(source, target, potential, epsilon, n_averaged)
    return PriorSide(*_softened(source, target, potential, hard, epsilon), barycentre)


def _softened(
    source: Source, target: Target, potential: Tensor, hard: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prior potential, c-transform, log-density and value of the dual, from the c-transform."""
    rho = target.softness
    log_density, g = -rho * hard / epsilon, (1 - rho) * hard
    gain = g if rho == 0 else -epsilon / rho * log_density.expm1()
    return g, hard, log_density, source.mean(potential) + target.total(target.log_weights.exp() * gain)


def evaluate(source: Source, target: Target, potential: Tensor, epsilon: float, with_barycentres: bool = False) -> State:
    """Both passes of the semi-dual at a potential: columns (g), then rows (the data marginal).

    Barycentres are computed when they are asked for; `with_barycentres` says that they will be, and they may come along.
    """
    target = with_products(source, target)
    if target.products is None and len(potential) > _kernels.MOST_SWEPT:
        side = prior_side(source, target, potential, epsilon)
        masses = log_mass(source, target, potential, side.prior_potential, epsilon)
        parts = side.prior_potential, masses, side.log_density, side.dual_value
        return State(source, target, epsilon, potential, *parts, average=side.barycentre)
    return _at_once(source, target, potential, epsilon, with_barycentres)


def _at_once(source: Source, target: Target, potential: Tensor, epsilon: float, averaged: bool) -> State:
    """Both passes over the same exponentials; the masses that underflow are summed once more, as logarithms."""
    bias, shift = _column_sides(source, target, potential, epsilon)
    offset = target.log_weights - target.softness * shift / epsilon
    values = source.statistics.T.contiguous() if averaged and source.statistics.shape[1] < HELD_WIDTH else None
    parts = list(zip(_scores(source, target, bias, epsilon), offset.split(_part_length(source, target)), strict=True))
    log_sum, log_total, log_weight, average, shares = _kernels.both_passes(parts, target.softness, values)
    log_total, log_weight = target.log_total(torch.cat([log_total, log_weight[None]])).split([len(log_total), 1])
    g, _, log_density, value = _softened(source, target, potential, shift - epsilon * log_sum, epsilon)
    masses = log_total + math.log(len(potential))
    if source.log_weights is not None:
        masses = masses - source.log_weights
    starved = (~(log_total > log_weight + _kernels.KNOWN_ABOVE)).nonzero()[:, 0]
    if len(starved):
        products = None if target.products is None else target.products[:, starved]
        rest = source.rows(starved), dataclasses.replace(target, products=products), potential[starved]
        masses[starved] = log_mass(*rest, g, epsilon)
    shares = shares if averaged else None
    return State(source, target, epsilon, potential, g, masses, log_density, value, average, shares)


def _column_sides(source: Source, target: Target, potential: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """What is added to every column of the scores (n,), and to every c-transform (m,)."""
    return source.bias(potential, epsilon), target.normaliser + epsilon * math.log(len(potential))


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


def _barycentres(source: Source, target: Target, potential: Tensor, epsilon: float) -> Tensor:
    """The average of t under each column of the plan, (m, p)."""
    bias = source.bias(potential, epsilon)
    if target.products is None:
        return _kernels.attend(target.natural / epsilon, source.statistics, source.statistics, bias)[1]
    return _kernels.row_averages(target.products, bias, source.statistics, epsilon)


def c_transform(
    source: Source, target: Target, potential: Tensor, epsilon: float, n_averaged: int | None = None
) -> tuple[Tensor, Tensor]:
    r"""Prior potential that makes every column a distribution, (m,), and the barycentres of t (m, p).

    .. math:: g^0_j = -\epsilon \log \sum_i a_i e^{(f_i - C_{ij})/\epsilon}, \qquad O_j = \sum_i P_{ij} t_i

    Barycentres of the first `n_averaged` draws alone take less time.
    """
    bias, shift = _column_sides(source, target, potential, epsilon)
    if target.products is not None:
        log_sum = _kernels.row_log_sums(target.products, bias, epsilon)
        barycentre = _kernels.row_averages(target.products[:n_averaged], bias, source.statistics, epsilon)
        return shift - epsilon * log_sum, barycentre
    natural = target.natural / epsilon
    log_sum, barycentre = _kernels.attend(natural[:n_averaged], source.statistics, source.statistics, bias)
    if len(natural) > len(log_sum):
        rest = _kernels.log_sum_scores(natural[len(log_sum) :], source.statistics, bias)
        log_sum = torch.cat([log_sum, rest])
    return shift - epsilon * log_sum, barycentre


def log_mass(source: Source, target: Target, potential: Tensor, prior_potential: Tensor, epsilon: float) -> Tensor:
    r"""Log of the plan's data marginal over the weights, :math:`\log \sum_j b_j e^{(f_i + g_j - C_{ij})/\epsilon}`, (n,)."""
    bias = target.log_weights + (prior_potential - target.normaliser) / epsilon
    if target.products is None:
        log_sum = _kernels.log_sum_scores(source.statistics, target.natural / epsilon, bias)
    else:
        log_sum = _kernels.column_log_sums(target.products, bias, epsilon)
    return target.log_total(log_sum) + (potential - source.carrier) / epsilon


def sinkhorn_step(state: State) -> Tensor:
    r"""The next potential, :math:`f_i - \epsilon \log (q_i/a_i)` with q the plan's data marginal; starved data rise freely.

    Where the prior's side is soft the best constant is added as well, :math:`-\epsilon (1/\rho - 1) \log E[w]`.
    """
    following, rho = state.potential - state.epsilon * state.log_mass, state.target.softness
    if rho == 0:
        return following
    return following - state.epsilon * (1 / rho - 1) * state.source.log_mean(state.log_mass)


def cost_matrix(source: Source, target: Target) -> Tensor:
    r"""The costs of all pairs, :math:`A_j + h_i - t_i \cdot \eta_j`, (n, m)."""
    return target.normaliser + source.carrier[:, None] - source.statistics @ target.natural.T


def plan(state: State) -> Tensor:
    r"""The whole plan :math:`\pi_{ij} = a_i b_j e^{(f_i + g_j - C_{ij})/\epsilon}`, (n, m); for small problems."""
    source, target = state.source, state.target
    cost = cost_matrix(source, target)
    log_density = (state.potential[:, None] + state.prior_potential - cost) / state.epsilon + target.log_weights
    if source.log_weights is not None:
        log_density = log_density + source.log_weights[:, None]
    return log_density.exp() / len(cost)


def dual_columns(state: State) -> Columns:
    r"""Columns of the plan that the dual strategy uses (Algorithm 2): mass :math:`b_j w_j` and barycentre as they are."""
    return Columns(state.barycentre, (state.target.log_weights + state.log_density).exp())


def primal_columns(state: State) -> Columns:
    r"""Columns of the plan that the primal strategy uses (Algorithm 1, with every datum's own importance weights).

    .. math:: \sum_i a_i \sum_j W_{ij} C_{ij}, \qquad W_{ij} = \mathrm{softmax}_j \big(\log b_j + (g_j - C_{ij})/\epsilon\big)

    W is the plan with exact rows, that is with f replaced by :math:`f - \epsilon \log (q/a)`; it differs from the dual strategy's
    only in which marginal is exact.
    """
    exact_rows = state.potential - state.epsilon * state.log_mass
    hard, barycentre = c_transform(state.source, state.target, exact_rows, state.epsilon)
    return Columns(barycentre, (state.target.log_weights + (state.prior_potential - hard) / state.epsilon).exp())


def fresh_marginal_error(source: Source, targets: tuple[Target, Target], potential: Tensor, epsilon: float) -> float:
    """The certificate: chi-square of the data marginal from two independent sets of draws not used to solve; at least 0."""
    first, second = (evaluate(source, target, potential, epsilon).log_mass for target in targets)
    return max(0.0, _kernels.marginal_error(first, second, source.log_weights))
