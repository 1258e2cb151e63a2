"""What the phases share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skcvae._data import Data
from skcvae._random import seeded
from skcvae.likelihoods import Family
from skcvae.networks import Decoder, has_modes
from skcvae.priors import CategoricalPrior, Prior
from skcvae.transport import SemiDual, Sinkhorn, Solver, Source, Target, VectorSolver

#: Draws that the decoder predicts at once: the maps of a convolution are many times its outputs.
DRAWS_PER_BLOCK = 512
#: Numbers of the rows that a plan is made of, at most.
MOST_NUMBERS = 2**26
#: Rows by whose likelihood rounds of polishing are compared where each has other rows of its own.
N_JUDGES = 4096


@dataclass(frozen=True)
class Setting:
    """The numbers of a fit, as the user gave them."""

    epsilon: float
    varsigma: float
    strategy: str
    batch_size: int
    learning_rate: float
    max_iter: int
    tol: float
    patience: int
    verbose: bool

    @property
    def softness(self) -> float:
        r"""Softness of the prior's marginal, :math:`\\epsilon/(\\epsilon + \\varsigma)`, kept while the temperature falls."""
        return self.epsilon / (self.epsilon + self.varsigma)


@dataclass(frozen=True)
class Draws:
    """Points z (m, k) of the prior with their log-weights (m,)."""

    z: Tensor
    log_weights: Tensor

    def head(self, n_draws: int) -> Draws:
        """The first of equally weighted draws, or all atoms if there are no more."""
        z = self.z[:n_draws]
        return self if len(z) == len(self.z) else Draws(z, torch.full_like(self.log_weights[:n_draws], -math.log(n_draws)))


@dataclass(frozen=True)
class Varying:
    """Which statistics vary over the data: no plan depends on the others, which no product needs to run over.

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


@dataclass
class Problem:
    """The model, the data, the solver and the settings.

    Attributes
    ----------
    rows : Tensor of shape (n,) or None, places of the data that plans are made of, or all of them
    x : Tensor of shape (n, d), these rows
    varying : Varying, the statistics in which they differ
    source : Source, their side of the cost, of these statistics only
    judges : Tensor of shape (n_judges, d) or None, rows whose likelihood tells one round of polishing from another
    has_modes : bool, whether the decoder acts otherwise in training
    """

    decoder: Decoder
    family: Family
    data: Data
    prior: Prior
    solver: Solver
    setting: Setting
    rng: np.random.Generator
    x_val: Tensor | None = None
    history: History = field(default_factory=History)
    rows: Tensor | None = field(init=False)
    x: Tensor = field(init=False)
    varying: Varying = field(init=False)
    source: Source = field(init=False)
    judges: Tensor | None = field(init=False)
    has_modes: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_modes = has_modes(self.decoder)
        self.take(self.fresh_rows())
        is_sampled = self.x_val is None and self.rows is not None
        self.judges = self.data.rows(self.data.some(N_JUDGES, self.rng)) if is_sampled else self.x_val

    @property
    def held(self) -> dict[str, Any]:
        """What is a function of the data alone."""
        of_x = {"x": self.x, "statistics": self.source.statistics, "carrier": self.source.carrier} if self.rows is None else {}
        return {"data": self.data} | of_x | ({} if self.x_val is None else {"x_val": self.x_val})

    def fresh_rows(self) -> Tensor | None:
        """Places of other rows to make plans of, or None where plans are made of all."""
        return self.data.some(max(1, min(self.solver.max_rows, MOST_NUMBERS // self.data.n_features)), self.rng)

    def take(self, rows: Tensor | None) -> None:
        """Make plans of these rows."""
        self.rows, self.x = rows, self.data.rows(rows)
        statistics = self.family.statistics(self.x)
        self.varying = Varying.of(statistics)
        self.source = Source(self.varying.taken(statistics), self.family.carrier(self.x), self.x)

    @property
    def has_atoms(self) -> bool:
        """Whether the prior's draws are always the same atoms."""
        return isinstance(self.prior, CategoricalPrior)

    def draws(self, n_draws: int) -> Draws:
        """Evenly spread draws from the prior, or its atoms."""
        z, log_weights = self.prior.weighted(n_draws, self.rng)
        return Draws(self._tensor(z), self._tensor(log_weights))

    def equally_weighted(self, z: np.ndarray) -> Draws:
        """Draws of equal weight, in training precision, on the training device."""
        return Draws(self._tensor(z), self._tensor(np.full(len(z), -math.log(len(z)))))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array).to(self.data.like)

    def trained(self, z: Tensor) -> Tensor:
        """The decoder's output for its own gradient step; running statistics move."""
        if not self.has_modes:
            return self.decoder(z)
        with seeded(int(self.rng.integers(2**63))):
            return self.decoder.train()(z)

    @torch.no_grad()
    def predicted(self, z: Tensor) -> Tensor:
        """The decoder's output as a fitted model gives it: what every plan is computed with."""
        self.decoder.eval()
        return torch.cat([self.decoder(rows) for rows in z.split(DRAWS_PER_BLOCK)])

    def outputs(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What `trained` and `predicted` give, from one evaluation where they are the same."""
        predicted = self.predicted(z) if self.has_modes else None
        output = self.trained(z)
        return output, output if predicted is None else predicted

    def target(self, output: Tensor, draws: Draws) -> Target:
        """The prior's side of the cost at decoder outputs of draws; its barycentres are of the statistics that vary."""
        eta, normaliser = self.varying.split(*(part.detach() for part in self.family.natural(output.detach())))
        return Target(eta, normaliser, draws.log_weights, self.decoder.inputs(draws.z), self.setting.softness)

    def exact(self, tol: float, max_iter: int) -> VectorSolver:
        """The solver of a frozen problem: all data, a vector potential."""
        shared = {f.name: getattr(self.solver, f.name) for f in fields(Solver)}
        kind = Sinkhorn if self.has_atoms else SemiDual
        return kind(**{**shared, "tol": tol, "max_iter": max_iter})


@dataclass(frozen=True)
class Layout:
    """A decoder and family to go on from, with the potential, its rows, and the temperature at which they were found."""

    weights: tuple[dict[str, Tensor], dict[str, Tensor]]
    potential: Tensor
    rows: Tensor | None
    temperature: float

    @classmethod
    def of(cls, problem: Problem, potential: Tensor, temperature: float) -> Layout:
        """A copy of the problem's present state."""
        copies = tuple({k: v.clone() for k, v in m.state_dict().items()} for m in (problem.decoder, problem.family))
        return cls((copies[0], copies[1]), potential, problem.rows, temperature)

    def restore(self, problem: Problem) -> None:
        """Put the problem back into this state."""
        problem.decoder.load_state_dict(self.weights[0])
        problem.family.load_state_dict(self.weights[1])
        if problem.rows is not self.rows:
            problem.take(self.rows)
