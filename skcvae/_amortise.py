"""Training an encoder and a decoder together: what VAE, WAE and InfoVAE share; they differ in two weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skcvae import _processes, _threads, _training, objectives
from skcvae._data import Data, Judges
from skcvae._memory import slices
from skcvae._place import Place, moved
from skcvae._random import make_torch_generator, seeded
from skcvae._training import Course
from skcvae.divergences import Divergence, Measure
from skcvae.likelihoods import Family
from skcvae.networks import Decoder, has_modes
from skcvae.posteriors import SMALLEST_START, Coordinates, Encoder, Rows
from skcvae.priors import Prior

#: Draws of the prior to which the encoder's linear part is fitted before training.
PRIOR_DRAWS = 4096


@dataclass(frozen=True)
class Setting:
    """The numbers of a fit, as the user gave them, and the two weights that make the model.

    `has_cycle` says whether the learning rate rises and falls; otherwise it stays.
    """

    kl_weight: float
    divergence_weight: float
    annealing: float
    batch_size: int
    learning_rate: float
    max_iter: int
    tol: float
    patience: int
    has_cycle: bool = True

    @property
    def rising(self) -> float:
        """Steps over which the weight of the rows' divergence rises."""
        return self.annealing * self.max_iter


@dataclass
class Model:
    """An autoencoder in training and its data; `coordinates` are the encoder's, `kind` is the name of the likelihood's class."""

    encoder: Encoder
    decoder: Decoder
    family: Family
    coordinates: Coordinates
    prior: Prior
    data: Data
    rng: np.random.Generator
    held_out: Judges | None = None
    kind: str = ""

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What is trained."""
        return {"encoder": self.encoder, "decoder": self.decoder, "family": self.family}

    def state_dict(self) -> dict[str, Any]:
        """Weights and the generator's state."""
        weights = {name: dict(module.state_dict()) for name, module in self.modules.items()}
        return {"weights": weights, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, module in self.modules.items():
            module.load_state_dict(state["weights"][name])
        self.rng.bit_generator.state = state["rng"]

    def snapshot(self) -> Model:
        """A copy on the same data, with modules in prediction mode, that this one's training does not move."""
        encoder, decoder, family, rng = copy.deepcopy((self.encoder, self.decoder, self.family, self.rng))
        return replace(self, encoder=encoder.eval(), decoder=decoder.eval(), family=family.eval(), rng=rng)

    def train(self, mode: bool = True) -> None:
        """Let layers that act otherwise in training act so, or not."""
        for module in (self.encoder, self.decoder):
            module.train(mode)

    def latent(self, x: Tensor, noise: Tensor) -> Tensor:
        """One draw of z for each row, (n, k)."""
        return self.coordinates.latent(self.encoder(x).draw(noise)[0])[:, 0]

    def terms(self, x: Tensor, noise: Tensor, with_divergence: bool) -> tuple[Tensor, Tensor, Tensor]:
        """One draw of z for each row (n, k), its log-likelihood (n,), and the divergence of the row's posterior (n,)."""
        rows = self.encoder(x)
        y, log_q = rows.draw(noise)
        z = self.coordinates.latent(y[:, 0])
        log_likelihood = self.family.log_prob(x, self.decoder(z))
        return z, log_likelihood, self._divergence(rows, y, log_q) if with_divergence else torch.zeros_like(log_likelihood)

    def _divergence(self, rows: Rows, y: Tensor, log_q: Tensor) -> Tensor:
        """Kullback-Leibler divergence of each row's posterior to the prior, (n,): in closed form, or from its draw."""
        gaussian = self.coordinates.gaussian(y)
        closed = None if gaussian is None else rows.divergence(gaussian)
        if closed is not None:
            return closed
        if not torch.isfinite(y).all():  # of which a distribution would complain first
            raise _training.Diverged("the encoder's draws became infinite or NaN")
        return log_q[:, 0] - self.coordinates.log_prior(y[:, 0])


@torch.no_grad()
def start(model: Model, temperature: float) -> None:
    """Set the decoder's linear part to the principal axes, and fit the encoder's to undo it.

    Draws of the prior are decoded, noise is added, and least squares predict each draw from its noisy output.
    """
    z = model.data.place.tensor(model.prior.quasi_sample(PRIOR_DRAWS, model.rng))
    some, counts = model.data.representative(model.rng)
    weight, bias = model.family.linear_start(some, model.decoder.inputs(z[:1]).shape[1], temperature, counts)
    model.decoder.network.set_linear(weight, bias)  # type: ignore[operator]
    with seeded(0, device=model.data.place.device):  # for layers that draw
        output = model.decoder(z)
    images = model.family.tempered(max(temperature, 1e-6)).noise(output, model.rng)
    axes = weight[: images.shape[1]]  # (d, r)
    slope, level, spread = _regression(images @ axes, model.coordinates.of(z.double()))
    outputs = model.encoder.conditional.constant(level, spread.clamp(min=SMALLEST_START)).to(images)
    weights = images.new_zeros(len(outputs), images.shape[1])
    weights[: len(level)] = (slope.T @ axes.T.double()).to(images)
    model.encoder.network.set_linear(weights, outputs)  # type: ignore[operator]


def _regression(features: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least squares of y (m, r) on features: slopes, levels (r,) and the residuals' deviations (r,)."""
    design = torch.cat([features.double(), torch.ones_like(y[:, :1])], 1).cpu()
    solution = torch.linalg.lstsq(design, y.cpu(), driver="gelsd").solution.to(y)
    residual = y - design.to(y) @ solution
    return solution[:-1], solution[-1], residual.square().mean(0).sqrt()


@dataclass(frozen=True, eq=False)
class Streaming:
    """What a part of `partial_fit` goes on with, on the CPU: Adam's moments, the divergence's own state and the precision."""

    optimiser: dict[str, Any]
    penalty: dict[str, Any] | None
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Trained:
    """Losses and scores of validation rows, in standardised nats, whether training ended by itself, and what goes on to a part."""

    losses: list[float]
    scores: list[float] | None
    converged: bool
    streaming: Streaming


def train(course: Course[Model], divergence: Divergence | None, setting: Setting, last: Streaming | None = None) -> Trained:
    """Descend on minibatches, from the state of the part before where it is given."""
    model = course.root
    some = next(model.data.blocks())[:1]
    n_operations = _threads.step_operations(model.encoder.network, some, setting.batch_size)
    n_operations += _threads.step_operations(model.decoder, some.new_zeros(1, model.prior.n_components), setting.batch_size)
    is_shared = _processes.is_worth(n_operations)
    with _threads.shared(n_operations / (_processes.size() if is_shared else 1)):
        steps = course.loop("train", lambda: Steps(model, divergence, setting, last, course.pace, is_shared), setting.max_iter)
    model.train(False)
    if steps.held_out is not None:
        steps.held_out.finish(course.stopped)
    _check_finite(model)
    penalty = None if steps.penalty is None else steps.penalty.carried()
    streaming = Streaming(moved(steps.optimiser.state_dict(), Place(model.data.place.dtype)), penalty, model.data.place.dtype)
    scores = None if steps.held_out is None else steps.held_out.scores
    return Trained(steps.losses, scores, steps.converged and not course.stopped, streaming)


@torch.no_grad()
def _check_finite(model: Model) -> None:
    """Raise `Diverged` where the last step, after which no loss was computed, went too far."""
    some = next(model.data.blocks())
    log_likelihood = model.terms(some, some.new_zeros(len(some), 1, model.encoder.n_coordinates), False)[1]
    if not torch.isfinite(log_likelihood).all():
        raise _training.Diverged("the last step made the loss infinite or NaN")


class Steps:
    """The state that goes from one training step to the next."""

    def __init__(
        self,
        model: Model,
        divergence: Divergence | None,
        setting: Setting,
        last: Streaming | None,
        pace: _training.Pace,
        is_shared: bool = False,
    ) -> None:
        self.pace = pace
        self.model, self.setting, self.losses, self.converged = model, setting, list[float](), False
        self.generator = make_torch_generator(model.rng)
        self.batches = _Batches(model.data, setting.batch_size, self.generator)
        self.optimiser = _training.adam(model.modules.values(), setting.learning_rate)
        self.cycle = _training.Cycle(setting.max_iter)
        self.plateau = _training.Plateau(setting.tol, setting.patience, relative=False)
        self.penalty = None if divergence is None else _Penalty(model, divergence, setting)
        self.has_modes = has_modes(model.encoder.network) or has_modes(model.decoder)
        self.is_shared = is_shared and not self.has_modes and self.batches.size >= _processes.size()
        self.rng = np.random.default_rng(int(model.rng.integers(2**63)))
        self.held_out = None if model.held_out is None else _HeldOut(model, model.held_out, setting)
        if last is not None:
            self.optimiser.load_state_dict(copy.deepcopy(last.optimiser))  # torch would go on in the same tensors
            if self.penalty is not None and last.penalty is not None:
                self.penalty.carry_on(last.penalty)
        model.train()

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on, but for the model's own state."""
        return {
            "losses": np.array(self.losses),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "parts": {name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.losses = state["losses"].tolist()
        for name, part in self._parts().items():
            part.load_state_dict(state["parts"][name])
        self.generator.set_state(state["generator"])
        self.rng.bit_generator.state = state["rng"]

    def _parts(self) -> dict[str, Any]:
        parts = {"batches": self.batches, "optimiser": self.optimiser, "cycle": self.cycle, "plateau": self.plateau}
        return parts | {name: getattr(self, name) for name in ("penalty", "held_out") if getattr(self, name) is not None}

    def step(self, t: int) -> bool:
        """One step; True when training may end: at the end of the cooling that a plateau began."""
        setting = self.setting
        _training.set_learning_rate(self.optimiser, setting.learning_rate * (self.cycle.factor(t) if setting.has_cycle else 1.0))
        device = self.model.data.place.device
        with seeded(int(self.rng.integers(2**63)), device=device) if self.has_modes else nullcontext():  # for layers that draw
            loss = self._loss(self.batches.following(), self._kl_weight(t))
            self.losses.append(_training.descend(self.optimiser, loss, self.is_shared))
        self.pace.note(self.losses[-1] + self.model.family.log_volume)
        risen = t >= setting.rising
        stalled = self.held_out.stalled(t, risen) if self.held_out is not None else risen and self.plateau.reached(self.losses[-1])
        if stalled:
            self.cycle.cool(t + 1)
        self.converged = self.cycle.is_over(t)
        return self.converged

    def _kl_weight(self, t: int) -> float:
        rising = self.setting.rising
        return self.setting.kl_weight * min(1.0, (t + 1) / rising if rising else 1.0)

    def _loss(self, x: Tensor, kl_weight: float) -> Tensor:
        noise = _normal((len(x), 1, self.model.encoder.n_coordinates), self.generator).to(x)
        if self.is_shared:
            return self._own_loss(x, noise, kl_weight)
        z, log_likelihood, kl = self.model.terms(x, noise, kl_weight > 0)
        penalty = 0.0 if self.penalty is None else self.penalty(z)
        return objectives.autoencoding(log_likelihood, kl, penalty, kl_weight, self.setting.divergence_weight)

    def _own_loss(self, x: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
        """The part of the loss that this process's rows of a batch have.

        The divergence is that of the codes of all rows. Each process has the gradient of its own codes.
        """
        own = _processes.part(len(x))
        z, log_likelihood, kl = self.model.terms(x[own], noise[own], kl_weight > 0)
        loss = objectives.autoencoding(log_likelihood, kl, 0.0, kl_weight, 0.0) * (len(z) / len(x))
        if self.penalty is None:
            return loss
        codes = _processes.joined(z.detach(), len(x))
        codes[own] = z
        penalty = self.penalty(codes)
        return loss + self.setting.divergence_weight * (penalty - (1 - 1 / _processes.size()) * penalty.detach())


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal numbers in single precision, the same under every default type of torch."""
    return torch.randn(shape, generator=generator, dtype=torch.float32)


class _HeldOut:
    """Scores of rows that are not trained on, and the weights with the highest; they leave the aggregate's divergence out."""

    def __init__(self, model: Model, judges: Judges, setting: Setting) -> None:
        self.model, self.judges, self.setting, self.scores = model, judges, setting, list[float]()
        shape = len(judges.x), 1, model.encoder.n_coordinates
        self.noise = _normal(shape, torch.Generator().manual_seed(0)).to(judges.x)
        self.highest, self.weights = -math.inf, dict[str, Any]()
        self.first = 0

    def stalled(self, t: int, risen: bool) -> bool:
        """Note the score after every window; True when it has not risen by `tol` over `patience` of them.

        Scores of the steps over which a weight still rises are noted, and choose no weights.
        """
        if (t + 1) % _training.WINDOW:
            return False
        self._note(risen)
        return risen and _training.has_stalled(
            [-score for score in self.scores[self.first :]], self.setting.tol, self.setting.patience
        )

    def finish(self, was_stopped: bool) -> None:
        """Put the weights with the highest score back; where no window was whole, note the score at the end."""
        if not self.scores:
            self._note(True)
            self.model.train(False)
        if self.weights:
            for name, module in self.model.modules.items():
                module.load_state_dict(self.weights[name])

    def state_dict(self) -> dict[str, Any]:
        """Scores and the weights with the highest."""
        return {"scores": self.scores, "highest": self.highest, "weights": self.weights, "first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.scores, self.highest = list(state["scores"]), state["highest"]
        self.weights, self.first = state["weights"], state["first"]

    def _note(self, counts: bool) -> None:
        self.scores.append(self._score())
        if not counts:
            self.first = len(self.scores)
        elif self.scores[-1] > self.highest:
            self.highest = self.scores[-1]
            self.weights = {name: copy.deepcopy(dict(module.state_dict())) for name, module in self.model.modules.items()}

    @torch.no_grad()
    def _score(self) -> float:
        self.model.train(False)
        weight, total, begin, n_rows = self.setting.kl_weight, 0.0, 0, 0.0
        for x, counts in self.judges.blocks():
            _, log_likelihood, kl = self.model.terms(x, self.noise[begin : begin + len(x)], weight > 0)
            begin += len(x)
            if counts is not None:
                log_likelihood, kl = counts * log_likelihood, counts * kl
            total -= len(x) * float(objectives.autoencoding(log_likelihood, kl, 0.0, weight, 0.0))
            n_rows += len(x) if counts is None else float(counts.sum())
        self.model.train()
        return total / n_rows


class _Penalty:
    """A divergence in use, on standardised codes and fresh draws from the prior."""

    draws: Callable[[], NDArray[np.float64]]

    def __init__(self, model: Model, divergence: Divergence, setting: Setting) -> None:
        self.model, place = model, model.data.place
        n_coordinates = model.decoder.inputs(place.tensor(model.prior.sample(1, np.random.default_rng(0)))).shape[1]
        measure = divergence.begin(n_coordinates, make_torch_generator(model.rng))
        self.measure: Measure = measure.to(place.device, place.dtype)
        self.size = min(setting.batch_size, model.data.n_visits)
        self._begin_stream(int(model.rng.integers(2**63)))
        has_critic = next(measure.parameters(), None) is not None
        self.optimiser = _training.adam([measure], setting.learning_rate) if has_critic else None

    def __call__(self, z: Tensor) -> Tensor:
        """The divergence, after one step of the critic where there is one."""
        self.taken += 1
        codes, draws = (self.model.decoder.whitened(points) for points in (z, self.model.data.place.tensor(self.draws())))
        critic_loss = self.measure.critic_loss(codes.detach(), draws)
        if self.optimiser is not None and critic_loss is not None:
            _training.descend(self.optimiser, critic_loss)
        value: Tensor = self.measure(codes, draws)
        return value

    def state_dict(self) -> dict[str, Any]:
        """The measure's state, its optimiser's, and how many draws were taken from which seed."""
        return {**self._carried(), "seed": self.seed, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.carry_on(state)
        self._begin_stream(state["seed"])
        for _ in range(state["taken"]):
            self.draws()
        self.taken = state["taken"]

    def carried(self) -> dict[str, Any]:
        """What a part to come goes on with, on the CPU."""
        return moved(self._carried(), Place(self.model.data.place.dtype))

    def carry_on(self, state: dict[str, Any]) -> None:
        """Go on with the measure and its optimiser as they were."""
        self.measure.load_state_dict(state["measure"])
        if state["generator"] is not None and self.measure.generator is not None:
            self.measure.generator.set_state(state["generator"])
        if self.optimiser is not None:
            self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))

    def _carried(self) -> dict[str, Any]:
        generator = self.measure.generator
        return {
            "measure": {name: value.clone() for name, value in self.measure.state_dict().items()},
            "generator": None if generator is None else generator.get_state(),
            "optimiser": None if self.optimiser is None else copy.deepcopy(self.optimiser.state_dict()),
        }

    def _begin_stream(self, seed: int) -> None:
        self.seed, self.taken = seed, 0
        self.draws = self.model.prior.stream(self.size, np.random.default_rng(seed))


class _Batches:
    """Rows in a random order, epoch by epoch, each as often as it counts.

    An incomplete batch is left out where there is a complete one.
    """

    def __init__(self, data: Data, size: int, generator: torch.Generator) -> None:
        self.data, self.size, self.generator = data, min(size, data.n_visits), generator
        self.left: list[Tensor] = []
        self.epoch = generator.get_state()

    def following(self) -> Tensor:
        """The next batch."""
        if not self.left:
            self.epoch = self.generator.get_state()
            self.left = self._order(self.generator)
        return self.data.rows(self.left.pop())

    def state_dict(self) -> dict[str, Any]:
        """The generator's state before the present order, and how many batches of it are left."""
        return {"epoch": self.epoch, "left": len(self.left)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.epoch = state["epoch"]
        generator = torch.Generator()
        generator.set_state(self.epoch)
        self.left = self._order(generator)[: state["left"]]

    def _order(self, generator: torch.Generator) -> list[Tensor]:
        order = self.data.order(generator).to(self.data.index_device)
        return [index for index in order.split(self.size) if len(index) == self.size][::-1]


@torch.no_grad()
def residual(model: Model) -> Tensor:
    """Root mean square (d,) of what the decoder leaves of each feature at one draw of every row's posterior.

    The rows are those of validation where there are some: what is left of fitted ones may be next to nothing.
    """
    generator = make_torch_generator(model.rng)
    total, n_rows = torch.zeros(model.data.n_features, dtype=torch.float64, device=model.data.place.device), 0.0
    for x, counts in model.data.weighted_blocks() if model.held_out is None else model.held_out.blocks():
        n_rows += len(x) if counts is None else float(counts.sum())
        noise = _normal((len(x), 1, model.encoder.n_coordinates), generator).to(x)
        mean = model.family.mean(model.decoder(model.latent(x, noise)))
        squares = (x - mean).double().square()
        total += squares.sum(0) if counts is None else counts.double() @ squares
    return (total / n_rows).sqrt()


@torch.no_grad()
def aggregate(model: Model, n_draws: int) -> Tensor:
    """Draws of the aggregate posterior, (n_draws, k): one of each of that many randomly chosen rows' posteriors."""
    index = model.data.random(n_draws, model.rng)
    noise = model.data.place.tensor(model.rng.standard_normal((n_draws, 1, model.encoder.n_coordinates)))
    blocks = slices(n_draws, model.data.n_features)
    return torch.cat([model.latent(model.data.rows(index[block]), noise[block]) for block in blocks])
