"""What all solvers share: tolerances, and potentials that go from one training step to the next."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from skcvae._checks import check_number, choose, refuse_former_names
from skcvae.transport._problem import Columns, Solution, Source, State, Target, dual_columns, primal_columns

#: Iterations at a temperature that is not the last.
HOT_ITERATIONS = 3
#: What a training step moves the decoder onto.
STRATEGIES = ("dual", "primal")


class Potentials(ABC):
    """Potentials of fixed data while draws, decoder and temperature change."""

    @abstractmethod
    def improve(self, target: Target, epsilon: float) -> Solution:
        """Bring the potentials nearer to the solution on these draws, by the solver's batch tolerance and iterations."""

    @abstractmethod
    def vector(self) -> Tensor:
        """The present data potential f at all data, (n,)."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What the next improvement depends on, as plain data and tensors."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, of potentials that were begun alike."""


@dataclass(frozen=True)
class Solver(ABC):
    """A way to solve for the potentials, of a cost of your own or in the training of a coupled model.

    Parameters
    ----------
    marginal_tol : float, default=1e-3
        Largest chi-square of the data marginal that counts as converged, in `solve`.
    max_iter : int, default=300
        Iterations of one `solve` on a fixed set of draws.
    batch_marginal_tol : float, default=0.1
        Chi-square to which the potentials are solved on a training step's draws before the decoder moves.
    batch_max_iter : int, default=10
        Iterations within one training step. When chi-square stays above 1 the decoder does not move.
    strategy : {"dual", "primal"}, default="dual"
        Decoder steps on the columns of the plan (Algorithm 2), or on every datum's importance-weighted draws (Algorithm 1). They
        differ only while the potential is not solved.

    Notes
    -----
    A fit solves the frozen coupling by the tolerance and iterations of its `skcvae.schedule.Schedule`.
    """

    marginal_tol: float = 1e-3
    max_iter: int = 300
    batch_marginal_tol: float = 0.1
    batch_max_iter: int = 10
    strategy: str = "dual"

    def __new__(cls, *args: Any, **params: Any) -> Self:
        """Refuse parameters that are elsewhere now, before `__init__` calls them unexpected."""
        refuse_former_names(cls.__name__, ["schedule", "marginal_tol", "batch_marginal_tol"], params)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in ("max_iter", "batch_max_iter"):
            check_number(f"{name} of {type(self).__name__}", getattr(self, name), numbers.Integral, 1)
        for name in ("marginal_tol", "batch_marginal_tol"):
            check_number(f"{name} of {type(self).__name__}", getattr(self, name), numbers.Real, 0)
        choose(f"strategy of {type(self).__name__}", self.strategy, dict.fromkeys(STRATEGIES))

    def columns(self, state: State) -> Columns:
        """The columns of the plan that a training step moves the decoder onto, by the strategy."""
        return (dual_columns if self.strategy == "dual" else primal_columns)(state)

    @abstractmethod
    def begin(self, source: Source, n_inputs: int | None, generator: torch.Generator) -> Potentials:
        """Potentials to start training with.

        Parameters
        ----------
        source : Source, all the data
        n_inputs : int, width of ``Target.points``; None when the draws are always the same atoms
        generator : torch.Generator, source of initial weights and of minibatches
        """

    @abstractmethod
    def solve(self, source: Source, target: Target, epsilon: float, potential: Tensor | None = None) -> Solution:
        """Solve on a fixed set of draws, from a given potential (n,) or zero."""


class VectorSolver(Solver):
    """A solver whose data potential is a vector."""

    def begin(self, source: Source, n_inputs: int | None, generator: torch.Generator) -> Potentials:
        return VectorPotential(self, source)

    @abstractmethod
    def solve_batch(self, source: Source, target: Target, epsilon: float, potential: Tensor) -> Solution:
        """Iterate on one training step's draws until `batch_marginal_tol`, at most `batch_max_iter` times."""

    @abstractmethod
    def following(self, state: State) -> Tensor:
        """The potential (n,) that the next training step starts from."""

    def anneal(self, source: Source, target: Target, temperatures: list[float], potential: Tensor) -> State:
        """Solve at each temperature in turn, hot to cold, from the previous one's potential; roughly at all but the last."""
        *hot, cold = temperatures
        rough = replace(self, max_iter=min(self.max_iter, HOT_ITERATIONS))
        for temperature in hot:
            potential = rough.solve(source, target, temperature, potential).state.potential
        return self.solve(source, target, cold, potential).state


class VectorPotential(Potentials):
    """A vector f, warm from step to step."""

    def __init__(self, solver: VectorSolver, source: Source) -> None:
        self.solver, self.source = solver, source
        self.potential = torch.zeros_like(source.carrier)

    def improve(self, target: Target, epsilon: float) -> Solution:
        solution = self.solver.solve_batch(self.source, target, epsilon, self.potential)
        self.potential = self.solver.following(solution.state)
        return solution

    def vector(self) -> Tensor:
        return self.potential

    def state_dict(self) -> dict[str, Any]:
        return {"potential": self.potential}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.potential = state["potential"].to(self.source.carrier)


def check_epsilon(epsilon: object) -> float:
    """A temperature as a float; TypeError or ValueError otherwise."""
    return float(check_number("epsilon", epsilon, numbers.Real, 0, open_low=True))


def with_zeros(source: Source, potential: Tensor | None) -> Tensor:
    """The given potential, or zero."""
    return torch.zeros_like(source.carrier) if potential is None else potential
