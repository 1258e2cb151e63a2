"""Solvers whose potentials may be networks, by gradient steps of Adam on minibatches of the data."""

from __future__ import annotations

import copy
import numbers
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skcvae._checks import check_integers, check_number
from skcvae.networks import MLP
from skcvae.transport._problem import Solution, Source, State, Target, c_transform, evaluate, log_mass, with_products
from skcvae.transport._solver import Potentials, Solver, check_epsilon

#: Exponents of the dual's plan are cut here: beyond, its gradient says no more than "far too large".
LARGEST_EXPONENT = 20.0
#: Data whose potential is evaluated at once.
ROWS_PER_BLOCK = 65536


@dataclass(frozen=True)
class NetworkSolver(Solver):
    """What the solvers by gradient steps share.

    Parameters
    ----------
    marginal_tol, max_iter, batch_marginal_tol, batch_max_iter, strategy : see `Solver`
    data_batch_size : int, default=1024
        Data of one gradient step.
    learning_rate : float, default=1e-2
        Learning rate of Adam, in units of epsilon.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of a potential network's hidden layers.
    """

    data_batch_size: int = 1024
    learning_rate: float = 1e-2
    hidden_layer_sizes: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(f"data_batch_size of {type(self).__name__}", self.data_batch_size, numbers.Integral, 1)
        check_number(f"learning_rate of {type(self).__name__}", self.learning_rate, numbers.Real, 0, open_low=True)
        check_integers(f"hidden_layer_sizes of {type(self).__name__}", self.hidden_layer_sizes, (128, 128))

    def solve(self, source: Source, target: Target, epsilon: float, potential: Tensor | None = None) -> Solution:
        """Gradient steps on fixed draws until `marginal_tol`, at most `max_iter`; the state is the semi-dual's at all data."""
        epsilon = check_epsilon(epsilon)
        n_inputs = None if target.points is None else target.points.shape[1]
        running = self.begin(source, n_inputs, torch.Generator(source.carrier.device).manual_seed(0))
        n_iter, converged = 0, False
        while not converged and n_iter < self.max_iter:
            running.improve(target, epsilon)
            state = evaluate(source, target, running.vector(), epsilon)
            n_iter, converged = n_iter + 1, state.marginal_error <= self.marginal_tol
        return Solution(state, n_iter, converged)


class _Gradient(Potentials):
    """A data potential, vector or network, and the optimiser that moves it."""

    def __init__(
        self, config: NetworkSolver, source: Source, of_data: nn.Module, others: list[nn.Module], generator: torch.Generator
    ):
        self.config, self.source, self.generator, self.of_data = config, source, generator, of_data
        self.unit = 0.0
        parameters = [p for module in (of_data, *others) for p in module.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, betas=(0.5, 0.99))

    def improve(self, target: Target, epsilon: float) -> Solution:
        self._begin(target, epsilon)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * epsilon / self.unit
        n_iter, converged = 0, False
        while not converged and n_iter < self.config.batch_max_iter:
            state = self._step(self._minibatch(), target, epsilon)
            n_iter, converged = n_iter + 1, state.marginal_error <= self.config.batch_marginal_tol
        return Solution(state, n_iter, converged)

    def _begin(self, target: Target, epsilon: float) -> None:
        """Potentials are learned in units of the first temperature."""
        self.unit = self.unit or epsilon

    def _minibatch(self) -> Tensor | None:
        """Places of rows drawn by their weights, or None for all rows."""
        n, size, weights = len(self.source.carrier), self.config.data_batch_size, self.source.log_weights
        if size >= n:
            return None
        device = self.generator.device
        if weights is None:
            index = torch.randint(n, (size,), generator=self.generator, device=device)
        else:
            index = torch.multinomial(weights.exp().to(device), size, replacement=True, generator=self.generator)
        return index.to(self.source.carrier.device)

    def _rows(self, index: Tensor | None) -> Source:
        """The data of a minibatch."""
        return self.source if index is None else self.source.rows(index)

    def _step(self, index: Tensor | None, target: Target, epsilon: float) -> State:
        raise NotImplementedError

    def _descend(self, values: list[Tensor], gradients: list[Tensor]) -> None:
        """One step of Adam, given the gradients of the loss with respect to the potentials' values."""
        self.optimiser.zero_grad()
        torch.autograd.backward(values, gradients)
        self.optimiser.step()

    @torch.no_grad()
    def vector(self) -> Tensor:
        rows = torch.arange(len(self.source.carrier), device=self.source.carrier.device)
        return self.unit * torch.cat([self._values_at(index) for index in rows.split(ROWS_PER_BLOCK)])

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy(
            {
                "unit": self.unit,
                "generator": self.generator.get_state(),
                "of_data": dict(self.of_data.state_dict()),
                "optimiser": self.optimiser.state_dict(),
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.unit = state["unit"]
        self.generator.set_state(state["generator"].cpu())
        self.of_data.load_state_dict(state["of_data"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _values_at(self, index: Tensor | None) -> Tensor:
        return _values(self.of_data, self.source.points, index)


class _Vector(nn.Module):
    """A potential that is a number for each point."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros_like(like))


def _values(module: nn.Module, points: Tensor | None, index: Tensor | None = None) -> Tensor:
    """Values (m,) of a vector or a network potential."""
    if isinstance(module, _Vector):
        return module.values if index is None else module.values[index]
    if points is None:
        raise ValueError(
            "A potential that is a network needs the points it is a function of: give Source and Target their `points`."
        )
    values: Tensor = module(points if index is None else points[index])[:, 0]
    return values


def _network(n_inputs: int, config: NetworkSolver, generator: torch.Generator, like: Tensor) -> nn.Module:
    cpu = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
    network = MLP(config.hidden_layer_sizes, "silu").build(n_inputs, 1, cpu)
    network.set_linear(torch.zeros(1, n_inputs), torch.zeros(1))
    return network.to(like)


def _of_data(source: Source, config: NetworkSolver, generator: torch.Generator) -> nn.Module:
    if source.points is None:
        raise ValueError("A potential that is a network needs the points it is a function of: give Source its `points`.")
    return _network(source.points.shape[1], config, generator, source.points)


@dataclass(frozen=True)
class SemiDualNetwork(NetworkSolver):
    r"""The semi-dual with a network potential :math:`u_\phi(x)`, of constant memory in n; see `NetworkSolver` for the parameters.

    Every step moves the network towards the Sinkhorn step on a minibatch, :math:`u_i - \epsilon \log (n q_i)`: it has the
    semi-dual's stationary points and its ascent direction, and a starved datum pulls in proportion to how starved it is.
    The data inside the logarithm of the c-transform are the minibatch, which biases it by about :math:`\epsilon (n/K - 1)/2` over
    the minibatch's size, with K the data that share a column; a fit ends with the frozen solve on all data, which has no bias.

    Examples
    --------
    >>> import torch
    >>> from skcvae.transport import SemiDualNetwork, Source, Target
    >>> x = torch.linspace(-1, 1, 50)[:, None]
    >>> cost = (x - x.T).square()
    >>> source = Source(-cost, torch.zeros(50), points=x)
    >>> target = Target(torch.eye(50), torch.zeros(50), torch.full((50,), 0.02).log(), points=x)
    >>> SemiDualNetwork(marginal_tol=1e-3).solve(source, target, epsilon=0.5).converged
    True
    """

    def begin(self, source: Source, n_inputs: int | None, generator: torch.Generator) -> Potentials:
        return _RunningSemiDual(self, source, _of_data(source, self, generator), [], generator)


class _RunningSemiDual(_Gradient):
    def _step(self, index: Tensor | None, target: Target, epsilon: float) -> State:
        source, values = self._rows(index), self._values_at(index)
        state = evaluate(source, target, self.unit * values.detach(), epsilon, with_barycentres=True)
        self._descend([values], [source.shares(state.log_mass)])
        return state


@dataclass(frozen=True)
class Dual(NetworkSolver):
    r"""The dual with two potentials (equation 16), unbiased when data and draws are both minibatches.

    .. math:: \max_{u, v} \; E_x[u] + E_z[\varphi(v)] - \epsilon\, E_{x,z}\big[e^{(u + v - C)/\epsilon}\big] + \epsilon, \qquad
              \varphi(v) = \varsigma (1 - e^{-v/\varsigma}),\; \varphi(v) = v \text{ at } \varsigma = \infty

    u is a vector, v a network of z, or a vector where the draws are always the same atoms. See `NetworkSolver` for the parameters.

    Examples
    --------
    >>> import torch
    >>> from skcvae.transport import Dual, from_cost
    >>> source, target = from_cost(torch.eye(4))
    >>> Dual(marginal_tol=1e-2).solve(source, target, epsilon=1.0).converged
    True
    """

    def begin(self, source: Source, n_inputs: int | None, generator: torch.Generator) -> Potentials:
        return _RunningDual(self, source, self._of_data(source, generator), n_inputs, generator)

    def _of_data(self, source: Source, generator: torch.Generator) -> nn.Module:
        return _Vector(source.carrier)


@dataclass(frozen=True)
class DualNetwork(Dual):
    r"""The dual with two network potentials, :math:`u_\phi(x)` and :math:`v_\psi(z)`; see `Dual`.

    Examples
    --------
    >>> from skcvae import CoupledVAE
    >>> from skcvae.transport import DualNetwork
    >>> CoupledVAE(solver=DualNetwork(data_batch_size=512)).solver.data_batch_size
    512
    """

    def _of_data(self, source: Source, generator: torch.Generator) -> nn.Module:
        return _of_data(source, self, generator)


class _RunningDual(_Gradient):
    def __init__(self, config: Dual, source: Source, of_data: nn.Module, n_inputs: int | None, generator: torch.Generator) -> None:
        like = source.carrier
        self.of_draws = None if n_inputs is None else _network(n_inputs, config, generator, like)
        self.level = 0.0
        super().__init__(config, source, of_data, [] if self.of_draws is None else [self.of_draws], generator)

    def _begin(self, target: Target, epsilon: float) -> None:
        super()._begin(target, epsilon)
        if self.of_draws is None:
            self._begin_draws(target.normaliser)
        if self.level == 0.0 and target.softness < 1:
            # The constant that gives the plan of u = v = 0 mass 1.
            source = self._rows(self._minibatch())
            log_masses = log_mass(source, target, torch.zeros_like(source.carrier), torch.zeros_like(target.normaliser), epsilon)
            self.level = -epsilon * float(source.log_mean(log_masses))

    def _begin_draws(self, like: Tensor) -> None:
        """The potential of draws that are always the same atoms, of which there are as many as `like` has numbers."""
        self.of_draws = _Vector(like)
        self.optimiser.add_param_group({"params": list(self.of_draws.parameters())})

    def state_dict(self) -> dict[str, Any]:
        of_draws = None if self.of_draws is None else copy.deepcopy(dict(self.of_draws.state_dict()))
        return {**super().state_dict(), "level": self.level, "of_draws": of_draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["of_draws"] is not None:
            if self.of_draws is None:
                self._begin_draws(state["of_draws"]["values"].to(self.source.carrier))
            self.of_draws.load_state_dict(state["of_draws"])  # type: ignore[union-attr]
        self.level = state["level"]
        super().load_state_dict(state)

    def _step(self, index: Tensor | None, target: Target, epsilon: float) -> State:
        source, u = self._rows(index), self._values_at(index)
        v = _values(self.of_draws, target.points) * (target.softness < 1)  # type: ignore[arg-type]
        state = two_potentials(source, target, self.unit * u.detach(), self.level + self.unit * v.detach(), epsilon)
        gradients = dual_gradients(state)
        self._descend([u, v], [-gradients[0], -gradients[1]])
        return state


def two_potentials(source: Source, target: Target, u: Tensor, v: Tensor, epsilon: float) -> State:
    """The state of two free potentials: neither marginal is exact, and log w is the log of the columns' mass over their weight."""
    target = with_products(source, target)
    hard, average = c_transform(source, target, u, epsilon)
    log_density = (v - hard) / epsilon
    rho, weights = target.softness, target.log_weights.exp()
    gain = v if rho == 0 else -_varsigma(rho, epsilon) * torch.expm1(-v / _varsigma(rho, epsilon)) if rho < 1 else 0 * v
    value = source.mean(u) + (weights * gain).sum() - epsilon * (weights * log_density.expm1()).sum()
    masses = log_mass(source, target, u, v, epsilon)
    return State(source, target, epsilon, u, v, masses, log_density, value, average)


def _varsigma(softness: float, epsilon: float) -> float:
    return epsilon * (1 / softness - 1)


def dual_gradients(state: State) -> tuple[Tensor, Tensor]:
    r"""Gradients of the dual with respect to u (n,) and v (m,), in cost units.

    .. math:: a_i - q_i, \qquad b_j \big(\varphi'(v_j) - w_j\big)
    """
    rho, weights = state.target.softness, state.target.log_weights.exp()
    slope = (-state.prior_potential / _varsigma(rho, state.epsilon)).clamp(max=LARGEST_EXPONENT).exp() if 0 < rho < 1 else 1.0
    for_u = -state.source.shares(state.log_mass.clamp(max=LARGEST_EXPONENT).expm1())
    return for_u, weights * (slope - state.log_density.clamp(max=LARGEST_EXPONENT).exp())
