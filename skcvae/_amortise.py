"""Training an encoder and a decoder together: what VAE, WAE and InfoVAE share; they differ in two weights."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skcvae import _training, objectives
from skcvae._data import MOST_ASKED, Data
from skcvae._memory import ROWS_AT_ONCE
from skcvae._random import make_torch_generator, seeded
from skcvae._training import Course
from skcvae.divergences import Measure
from skcvae.likelihoods import Family
from skcvae.networks import Decoder, has_modes
from skcvae.posteriors import AmortisedInference, Coordinates, Encoder, Laplace, LocalDraws, Mixture, Rows, Scores
from skcvae.priors import Prior

#: Draws of the prior to which the encoder's linear part is fitted before training, and whose moments Laplace approximations use.
PRIOR_DRAWS = 4096
#: Standard deviation that the encoder starts with, at least.
SMALLEST_START = 1e-3


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
    """An autoencoder in training and its data; `coordinates` are the encoder's."""

    encoder: Encoder
    decoder: Decoder
    family: Family
    coordinates: Coordinates
    prior: Prior
    data: Data
    rng: np.random.Generator
    x_val: Tensor | None = None

    @property
    def held(self) -> dict[str, Any]:
        """The data."""
        of_rows = {} if self.data.held is None else {"x": self.data.held}
        return {"data": self.data} | of_rows | ({} if self.x_val is None else {"x_val": self.x_val})

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
        gaussian = self.coordinates.gaussian(self.data.like)
        closed = None if gaussian is None else rows.divergence(gaussian)
        if closed is not None:
            return closed
        if not torch.isfinite(y).all():  # of which a distribution would complain first
            raise _training.Diverged("the encoder's draws became infinite or NaN")
        return log_q[:, 0] - self.coordinates.log_prior(y[:, 0])


@torch.no_grad()
def start(model: Model, temperature: float) -> None:
    """Lay the decoder's linear part along the principal axes, and regress the encoder's onto where its noisy images came from."""
    z = torch.as_tensor(model.prior.quasi_sample(PRIOR_DRAWS, model.rng)).to(model.data.like)
    some = model.data.rows(model.data.some(MOST_ASKED, model.rng))
    weight, bias = model.family.linear_start(some, model.decoder.inputs(z[:1]).shape[1], temperature)
    model.decoder.network.set_linear(weight, bias)  # type: ignore[operator]
    images = model.family.tempered(max(temperature, 1e-6)).noise(model.decoder(z), model.rng)
    axes = weight[: images.shape[1]]  # (d, r)
    slope, level, spread = _regression(images @ axes, model.coordinates.of(z.double()))
    outputs = model.encoder.conditional.constant(level, spread.clamp(min=SMALLEST_START)).to(model.data.like)
    weights = torch.zeros(len(outputs), images.shape[1]).to(model.data.like)
    weights[: len(level)] = (slope.T @ axes.T.double()).to(model.data.like)
    model.encoder.network.set_linear(weights, outputs)  # type: ignore[operator]


def _regression(features: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least squares of y (m, r) on features: slopes, levels (r,) and the residuals' deviations (r,)."""
    design = torch.cat([features.double(), torch.ones_like(y[:, :1])], 1).cpu()
    solution = torch.linalg.lstsq(design, y.cpu(), driver="gelsd").solution.to(y)
    residual = y - design.to(y) @ solution
    return solution[:-1], solution[-1], residual.square().mean(0).sqrt()


@dataclass(frozen=True)
class Trained:
    """The curves of the loss and of the validation rows' score, in standardised nats, and what a part to come goes on with."""

    losses: list[float]
    scores: list[float] | None
    measure: Measure | None
    moments: dict[str, Any]


def train(course: Course[Model], measure: Measure | None, setting: Setting, moments: dict[str, Any] | None = None) -> Trained:
    """Descend on minibatches, from the moments of an optimiser where they are given."""
    model = course.root
    steps = course.loop("train", lambda: _Steps(model, measure, setting, moments), setting.max_iter)
    model.train(False)
    if steps.held_out is not None:
        steps.held_out.restore()
    _check_finite(model)
    scores = None if steps.held_out is None else steps.held_out.scores
    return Trained(steps.losses, scores, measure, steps.optimiser.state_dict())


@torch.no_grad()
def _check_finite(model: Model) -> None:
    """Raise `Diverged` where the last step, after which no loss was computed, went too far."""
    some = model.data.rows(torch.arange(min(len(model.data), ROWS_AT_ONCE)))
    log_likelihood = model.terms(some, some.new_zeros(len(some), 1, model.encoder.n_coordinates), False)[1]
    if not torch.isfinite(log_likelihood).all():
        raise _training.Diverged("the last step made the loss infinite or NaN")


class _Steps:
    """The state that goes from one training step to the next."""

    def __init__(self, model: Model, measure: Measure | None, setting: Setting, moments: dict[str, Any] | None) -> None:
        self.model, self.setting, self.losses = model, setting, list[float]()
        self.generator = make_torch_generator(model.rng)
        self.batches = _Batches(model.data, setting.batch_size, self.generator)
        self.optimiser = _training.adam([model.encoder, model.decoder, model.family], setting.learning_rate)
        if moments is not None:
            self.optimiser.load_state_dict(moments)
        self.plateau = _training.Plateau(setting.tol, setting.patience, relative=False)
        self.penalty = None if measure is None else _Penalty(model, measure, setting)
        self.has_modes = has_modes(model.encoder) or has_modes(model.decoder)
        self.rng = np.random.default_rng(int(model.rng.integers(2**63)))
        self.held_out = None if model.x_val is None else _HeldOut(model, model.x_val, setting)
        model.train()

    def step(self, t: int) -> bool:
        """One step; True when training may end."""
        setting = self.setting
        cycle = _training.one_cycle(t / setting.max_iter) if setting.has_cycle else 1.0
        _training.set_learning_rate(self.optimiser, setting.learning_rate * cycle)
        with seeded(int(self.rng.integers(2**63))) if self.has_modes else nullcontext():  # for layers that draw
            self.losses.append(_training.descend(self.optimiser, self._loss(self.batches.following(), self._kl_weight(t))))
        if t < setting.rising:
            return False
        return self.plateau.reached(self.losses[-1]) if self.held_out is None else self.held_out.stop(t)

    def _kl_weight(self, t: int) -> float:
        rising = self.setting.rising
        return self.setting.kl_weight * min(1.0, (t + 1) / rising if rising else 1.0)

    def _loss(self, x: Tensor, kl_weight: float) -> Tensor:
        noise = torch.randn(len(x), 1, self.model.encoder.n_coordinates, generator=self.generator).to(x)
        z, log_likelihood, kl = self.model.terms(x, noise, kl_weight > 0)
        penalty = 0.0 if self.penalty is None else self.penalty(z)
        return objectives.autoencoding(log_likelihood, kl, penalty, kl_weight, self.setting.divergence_weight)


class _HeldOut:
    """Scores of rows that are not trained on, and the weights with the highest; they leave the aggregate's divergence out."""

    def __init__(self, model: Model, x: Tensor, setting: Setting) -> None:
        self.model, self.x, self.setting, self.scores = model, x, setting, list[float]()
        noise = torch.randn(len(x), 1, model.encoder.n_coordinates, generator=torch.Generator().manual_seed(0))
        self.noise = noise.to(x)

    def stop(self, t: int) -> bool:
        """Note the score after every window; True when it has not risen by `tol` over `patience` of them."""
        if (t + 1) % _training.WINDOW:
            return False
        self.scores.append(self._score())
        if self.scores[-1] == max(self.scores):
            self.weights = [copy.deepcopy(module.state_dict()) for module in self._modules()]
        return _training.has_stalled([-score for score in self.scores], self.setting.tol, self.setting.patience)

    def restore(self) -> None:
        """Put the weights with the highest score back."""
        for module, weights in zip(self._modules(), self.weights if self.scores else (), strict=bool(self.scores)):
            module.load_state_dict(weights)

    def _modules(self) -> tuple[nn.Module, ...]:
        return self.model.encoder, self.model.decoder, self.model.family

    @torch.no_grad()
    def _score(self) -> float:
        self.model.train(False)
        weight, total = self.setting.kl_weight, 0.0
        for x, noise in zip(self.x.split(ROWS_AT_ONCE), self.noise.split(ROWS_AT_ONCE), strict=True):
            _, log_likelihood, kl = self.model.terms(x, noise, weight > 0)
            total -= len(x) * float(objectives.autoencoding(log_likelihood, kl, 0.0, weight, 0.0))
        self.model.train()
        return total / len(self.x)


class _Penalty:
    """A divergence in use, on standardised codes and fresh draws from the prior."""

    def __init__(self, model: Model, measure: Measure, setting: Setting) -> None:
        self.measure, self.decoder = measure, model.decoder
        self.draws = model.prior.stream(min(setting.batch_size, len(model.data)), model.rng)
        has_critic = next(measure.parameters(), None) is not None
        self.optimiser = _training.adam([measure], setting.learning_rate) if has_critic else None

    def __call__(self, z: Tensor) -> Tensor:
        """The divergence, after one step of the critic where there is one."""
        codes, draws = (self.decoder.whitened(points) for points in (z, torch.as_tensor(self.draws()).to(z)))
        critic_loss = self.measure.critic_loss(codes.detach(), draws)
        if self.optimiser is not None and critic_loss is not None:
            _training.descend(self.optimiser, critic_loss)
        value: Tensor = self.measure(codes, draws)
        return value


class _Batches:
    """Rows in a random order, epoch by epoch; an incomplete batch is left out where there is a complete one."""

    def __init__(self, data: Data, size: int, generator: torch.Generator) -> None:
        self.data, self.size, self.generator = data, min(size, len(data)), generator
        self.left: list[Tensor] = []

    def following(self) -> Tensor:
        """The next batch."""
        if not self.left:
            order = torch.randperm(len(self.data), generator=self.generator).to(self.data.index_device)
            self.left = [index for index in order.split(self.size) if len(index) == self.size][::-1]
        return self.data.rows(self.left.pop())


@torch.no_grad()
def residual(model: Model) -> Tensor:
    """Root mean square (d,) of what the decoder leaves of each feature at one draw of every row's posterior.

    The rows are those of validation where there are some: what is left of fitted ones may be next to nothing.
    """
    generator = make_torch_generator(model.rng)
    total = torch.zeros(model.data.n_features, dtype=torch.float64, device=model.data.like.device)
    n_rows = len(model.data) if model.x_val is None else len(model.x_val)
    for x in model.data.blocks() if model.x_val is None else model.x_val.split(ROWS_AT_ONCE):
        noise = torch.randn(len(x), 1, model.encoder.n_coordinates, generator=generator).to(x)
        mean = model.family.mean(model.decoder(model.latent(x, noise)))
        total += (x - mean).double().square().sum(0)
    return (total / n_rows).sqrt()


@torch.no_grad()
def aggregate(model: Model, n_draws: int) -> Tensor:
    """Draws of the aggregate posterior, (n_draws, k): one of each of that many randomly chosen rows' posteriors."""
    index = torch.as_tensor(model.rng.integers(len(model.data), size=n_draws))
    noise = torch.as_tensor(model.rng.standard_normal((n_draws, 1, model.encoder.n_coordinates))).to(model.data.like)
    draws = zip(index.split(ROWS_AT_ONCE), noise.split(ROWS_AT_ONCE), strict=True)
    return torch.cat([model.latent(model.data.rows(places), eps) for places, eps in draws])


@torch.no_grad()
def inference(model: Model, family: Family, n_draws: int, is_taught: bool) -> AmortisedInference:
    """What answers for rows of data, in double precision on the CPU.

    `family` is the one that samples are drawn from. An encoder that the loss has not taught the posterior's spread is no proposal:
    the Laplace approximation from its centre is.
    """
    encoder, decoder, family = model.encoder.double().cpu(), model.decoder.double().cpu(), family.double().cpu()
    z, log_weights = (torch.as_tensor(array) for array in model.prior.weighted(n_draws, model.rng))
    key, normaliser = family.natural(decoder(z))
    mixture, coordinates = Mixture(Scores(key, log_weights - normaliser), family), model.coordinates
    if coordinates.distribution is None:
        return AmortisedInference(encoder, coordinates, decoder, mixture, None)
    y = coordinates.of(torch.as_tensor(model.prior.quasi_sample(PRIOR_DRAWS, model.rng)))
    proposal = encoder if is_taught else Laplace(encoder, decoder, family, coordinates, y)
    return AmortisedInference(encoder, coordinates, decoder, mixture, LocalDraws(proposal, coordinates, decoder, z, mixture))
