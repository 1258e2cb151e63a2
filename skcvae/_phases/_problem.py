"""What the phases share."""

from __future__ import annotations

import copy
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skcvae import _processes, _threads
from skcvae._data import Data, Judges
from skcvae._random import seeded
from skcvae._training import Pace
from skcvae.likelihoods import Family
from skcvae.networks import Decoder, has_modes
from skcvae.priors import Prior
from skcvae.schedule import Schedule
from skcvae.transport import SemiDual, Sinkhorn, Solver, Source, Target, VectorSolver, log_mass, prior_side

#: Draws that the decoder predicts at once: the maps of a convolution are many times its outputs.
DRAWS_PER_BLOCK = 512
#: Numbers of the rows that a plan is made of, at most.
MOST_NUMBERS = 2**26
#: Draws by which a potential is carried to other rows.
CARRYING_DRAWS = 16384
#: Draws that are shared between processes, at least for each.
FEWEST_SHARED = 64
#: Rows by whose likelihood rounds of polishing are compared where each has other rows of its own.
N_JUDGES = 4096


@dataclass(frozen=True)
class Setting:
    """The numbers of a fit, as the user gave them."""

    epsilon: float
    varsigma: float
    draws_per_step: int
    learning_rate: float
    max_iter: int
    tol: float
    patience: int

    @property
    def softness(self) -> float:
        r"""Softness of the prior's marginal, :math:`\epsilon/(\epsilon + \varsigma)`, kept while the temperature falls."""
        return self.epsilon / (self.epsilon + self.varsigma)


@dataclass(frozen=True, eq=False)
class Draws:
    """Points z (m, k) of the prior with their log-weights (m,); they may be this process's share of those of several."""

    z: Tensor
    log_weights: Tensor
    is_part: bool = False

    def head(self, n_draws: int) -> Draws:
        """The first draws, with their weights over the sum of these; all if there are no more."""
        if n_draws >= len(self.z):
            return self
        first = self.log_weights[:n_draws].double()
        return Draws(self.z[:n_draws], (first - first.logsumexp(0)).to(self.log_weights))


@dataclass(frozen=True, eq=False)
class Varying:
    """The statistics that differ between rows. A constant one adds the same to the cost of every row, and changes no plan.

    Attributes
    ----------
    places : Tensor of shape (p',) or None where all vary
    constants : Tensor of shape (p,), the statistics that do not vary, and 0 in the places of those that do
    """

    places: Tensor | None
    constants: Tensor

    @classmethod
    def of(cls, statistics: Tensor) -> Varying:
        """Those of statistics (n, p)."""
        varies = (statistics != statistics[0]).any(0)
        places = None if varies.all() or not varies.any() else varies.nonzero()[:, 0]
        return cls(places, torch.where(varies, 0, statistics[0]))

    def taken(self, statistics: Tensor) -> Tensor:
        """Only those that vary, (n, p) to (n, p')."""
        return statistics if self.places is None else statistics[:, self.places]

    def split(self, natural: Tensor, normaliser: Tensor) -> tuple[Tensor, Tensor]:
        """Natural parameters (m, p') and log-normaliser (m,) of the same cost without the constants."""
        if self.places is None:
            return natural, normaliser
        return natural[:, self.places], torch.addmv(normaliser, natural, self.constants, alpha=-1)

    def filled(self, barycentre: Tensor) -> Tensor:
        """Barycentres of all statistics from those of the ones that vary, (m, p') to (m, p)."""
        if self.places is None:
            return barycentre
        return self.constants.repeat(len(barycentre), 1).index_copy_(1, self.places, barycentre)


@dataclass
class History:
    """Curves over the training steps: the dual in nats, and chi-square of the data marginal on the step's draws."""

    loss: list[float] = field(default_factory=list)
    marginal_error: list[float] = field(default_factory=list)

    def record(self, value: float, marginal_error: float) -> None:
        """Add one training step."""
        self.loss.append(value)
        self.marginal_error.append(marginal_error)

    def state_dict(self) -> dict[str, Any]:
        """Both curves."""
        return {"loss": np.array(self.loss), "marginal_error": np.array(self.marginal_error)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.loss, self.marginal_error = state["loss"].tolist(), state["marginal_error"].tolist()


@dataclass(eq=False)
class Problem:
    """The model, the data, the solver, the schedule and the settings.

    Attributes
    ----------
    kind : str, name of the likelihood's class
    pace : Pace, of the course that the problem is the root of
    rows : Tensor of shape (n,) or None, places of the data that plans are made of, or all of them
    x : Tensor of shape (n, d), these rows
    varying : Varying, the statistics in which they differ
    source : Source, their side of the cost, of these statistics only
    n_rows : float, how many rows these count as
    held_out : Judges or None, rows that are not fitted
    judges : Judges or None, rows whose likelihood tells one round of polishing from another
    has_modes : bool, whether the decoder acts otherwise in training
    mode_rng : np.random.Generator, seeds the layers that then draw, so that `rng` does not move by their number
    """

    decoder: Decoder
    family: Family
    data: Data
    prior: Prior
    solver: Solver
    schedule: Schedule
    setting: Setting
    rng: np.random.Generator
    held_out: Judges | None = None
    history: History = field(default_factory=History)
    kind: str = ""
    pace: Pace = field(default_factory=Pace)
    rows: Tensor | None = field(init=False)
    x: Tensor = field(init=False)
    varying: Varying = field(init=False)
    source: Source = field(init=False)
    n_rows: float = field(init=False)
    judges: Judges | None = field(init=False)
    has_modes: bool = field(init=False)
    mode_rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.has_modes = has_modes(self.decoder)
        self.mode_rng = np.random.default_rng(int(self.rng.integers(2**63)))
        self.take(self.fresh_rows())
        self.judges = self.held_out
        if self.held_out is None and self.rows is not None:
            some = self.data.some(N_JUDGES, self.rng)
            self.judges = Judges(self.data.rows(some), self.data.counts(some))

    def state_dict(self) -> dict[str, Any]:
        """Weights, the rows' places, the curves and the generator's state."""
        return {
            "decoder": dict(self.decoder.state_dict()),
            "family": dict(self.family.state_dict()),
            "rows": self.rows,
            "history": self.history.state_dict(),
            "rng": self.rng.bit_generator.state,
            "mode_rng": self.mode_rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.decoder.load_state_dict(state["decoder"])
        self.family.load_state_dict(state["family"])
        self.take_again(state["rows"])
        self.history.load_state_dict(state["history"])
        self.rng.bit_generator.state = state["rng"]
        self.mode_rng.bit_generator.state = state["mode_rng"]

    def snapshot(self) -> Problem:
        """A copy of the modules, the generator and the curves on the same data, which this one's training does not move."""
        other = copy.copy(self)
        for name in ("decoder", "family", "rng", "mode_rng", "history"):
            setattr(other, name, copy.deepcopy(getattr(self, name)))
        return other

    def fresh_rows(self) -> Tensor | None:
        """Places of other rows to make plans of, or None where plans are made of all."""
        return self.data.some(max(1, min(self.schedule.max_rows, MOST_NUMBERS // self.data.n_features)), self.rng)

    def take(self, rows: Tensor | None) -> None:
        """Make plans of these rows."""
        self.rows, self.x = rows, self.data.rows(rows)
        statistics = self.family.statistics(self.x)
        self.varying = Varying.of(statistics)
        parts = self.varying.taken(statistics), self.family.carrier(self.x), self.x
        self.source = Source(*parts, self.data.log_weights(rows))
        counts = self.data.counts(rows)
        self.n_rows = len(self.x) if counts is None else float(counts.double().sum())

    def take_again(self, rows: Tensor | None) -> None:
        """Make plans of these rows, which may be those that it is of now."""
        is_same = rows is self.rows or (rows is not None and self.rows is not None and torch.equal(rows, self.rows))
        if not is_same:
            self.take(rows)

    @torch.no_grad()
    def carry(self, potential: Tensor, rows: Tensor | None) -> Tensor:
        r"""Make plans of other rows; their potential (n,).

        .. math:: f(x) = -\epsilon \log \sum_j b_j e^{(g_j - C(x, z_j))/\epsilon}
        """
        epsilon, draws = self.setting.epsilon, self.part(self.draws(CARRYING_DRAWS))
        output = self.predicted(draws.z)
        prior_potential = prior_side(self.source, self.target(output, draws), potential, epsilon).prior_potential
        self.take(rows)
        target, nothing = self.target(output, draws), torch.zeros_like(self.source.carrier)
        return -epsilon * log_mass(self.source, target, nothing, prior_potential, epsilon)

    @property
    def has_atoms(self) -> bool:
        """Whether the prior's draws are always the same atoms."""
        return self.prior.is_atomic

    def draws(self, n_draws: int) -> Draws:
        """Evenly spread draws from the prior, or its atoms."""
        z, log_weights = self.prior.weighted(n_draws, self.rng)
        return Draws(self.data.place.tensor(z), self.data.place.tensor(log_weights))

    def part(self, draws: Draws) -> Draws:
        """Of draws the share of this process, or all where every process computes with all."""
        share = self.share(len(draws.z))
        return draws if share is None else Draws(draws.z[share], draws.log_weights[share], True)

    def share(self, n_draws: int) -> slice | None:
        """Places of this process's share of so many draws, or None where every process computes with all.

        Plans over atoms are solved whole, and a potential that is a network is trained by one.
        """
        is_whole = _processes.size() == 1 or self.has_atoms or not isinstance(self.solver, VectorSolver)
        return None if is_whole or n_draws < FEWEST_SHARED * _processes.size() else _processes.part(n_draws)

    def step_share(self, n_draws: int) -> slice | None:
        """The same of the draws of a decoder's step, where it is large enough that a share of it is worth the exchange."""
        share = None if self.has_modes else self.share(n_draws)
        return share if share is not None and _processes.is_worth(self._operations(n_draws)) else None

    def joined(self, own: Tensor, part: Draws, n_draws: int) -> Tensor:
        """What all processes have found for their shares of so many draws."""
        return _processes.joined(own, n_draws) if part.is_part else own

    def equally_weighted(self, z: np.ndarray) -> Draws:
        """Draws of equal weight, in training precision, on the training device."""
        place = self.data.place
        return Draws(place.tensor(z), place.tensor(np.full(len(z), -math.log(len(z)))))

    def trained(self, z: Tensor) -> Tensor:
        """The decoder's output for its own gradient step; running statistics move."""
        if not self.has_modes:
            return self.decoder(z)
        with seeded(int(self.mode_rng.integers(2**63)), device=z.device):
            return self.decoder.train()(z)

    @torch.no_grad()
    def predicted(self, z: Tensor) -> Tensor:
        """The decoder's output as a fitted model gives it: what every plan is computed with."""
        self.decoder.eval()
        return torch.cat([self.decoder(rows) for rows in z.split(DRAWS_PER_BLOCK)])

    def note(self, value: float) -> None:
        """Show a value of the semi-dual, given in nats over epsilon."""
        self.pace.note(self.setting.epsilon * value + self.family.log_volume)

    def sharing(self, n_draws: int) -> AbstractContextManager[None]:
        """Threads that share each operation of decoder steps on so many draws, where these are large."""
        share = self.step_share(n_draws)
        return _threads.shared(self._operations(n_draws if share is None else len(range(n_draws)[share])))

    def _operations(self, n_draws: int) -> float:
        """Floating-point operations of a decoder's step on so many draws."""
        return _threads.step_operations(self.decoder, torch.zeros(1, self.prior.n_components).to(self.x), n_draws)

    def outputs(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What `trained` and `predicted` give, from one evaluation where they are the same."""
        predicted = self.predicted(z) if self.has_modes else None
        output = self.trained(z)
        return output, output if predicted is None else predicted

    def target(self, output: Tensor, draws: Draws) -> Target:
        """The prior's side of the cost at decoder outputs of draws; its barycentres are of the statistics that vary."""
        eta, normaliser = self.varying.split(*(part.detach() for part in self.family.natural(output.detach())))
        inputs, softness = self.decoder.inputs(draws.z), self.setting.softness
        return Target(eta, normaliser, draws.log_weights, inputs, softness, is_part=draws.is_part)

    def exact(self, tol: float, max_iter: int) -> VectorSolver:
        """The solver of a frozen problem: all data, a vector potential."""
        return (Sinkhorn if self.has_atoms else SemiDual)(marginal_tol=tol, max_iter=max_iter)


@dataclass(frozen=True, eq=False)
class Layout:
    """Weights of a decoder and a family to go on from, with a potential, its rows, and the temperature that it was found at."""

    decoder: dict[str, Tensor]
    family: dict[str, Tensor]
    potential: Tensor
    rows: Tensor | None
    temperature: float

    @classmethod
    def of(cls, problem: Problem, potential: Tensor, temperature: float) -> Layout:
        """A copy of the problem's present state."""
        decoder, family = (copy.deepcopy(dict(module.state_dict())) for module in (problem.decoder, problem.family))
        return cls(decoder, family, potential, problem.rows, temperature)

    def state_dict(self) -> dict[str, Any]:
        """The layout as plain data and tensors, from which ``Layout(**state)`` makes it again."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def restore(self, problem: Problem) -> Tensor:
        """Put the problem back into this state; returns the potential, where the problem computes."""
        problem.decoder.load_state_dict(self.decoder)
        problem.family.load_state_dict(self.family)
        problem.take_again(self.rows)
        return self.potential.to(problem.source.carrier)
