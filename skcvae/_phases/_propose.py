"""An optional phase: a proposal for each row, fitted by forward Kullback-Leibler divergence on joint draws."""

from __future__ import annotations

import torch
from torch import Tensor

from skcvae import _kernels, _threads, _training
from skcvae._phases._problem import Problem
from skcvae._random import make_torch_generator
from skcvae.networks import MLP
from skcvae.posteriors import SMALLEST_START, Coordinates, Encoder, FullGaussian
from skcvae.transport import prior_side

#: Joint draws on which a proposal is fitted.
JOINT_DRAWS = 65536
#: The encoder's hidden layers: smaller ones did not come near the posterior of digits at k = 8.
HIDDEN_LAYER_SIZES = (512, 512, 512)
#: Its batch size, as a multiple of the decoder's, and its learning rate, which has nothing to do with the decoder's.
BATCH_FACTOR, LEARNING_RATE = 2, 3e-3


def propose(problem: Problem, potential: Tensor) -> Encoder:
    r"""Fit a Gaussian to the coupling by :math:`\max E_\pi \log q(z \mid x)` over exact draws from the plan and from the model.

    A plan's draw is z from the prior (tilted by w) and a datum from its column; a model's is z from the prior and x from the
    decoder, which keeps the proposal wide enough beside the data that it was fitted on. Training starts from the Gaussian of the
    draws for every row: random triangular factors have inverses that grow exponentially with k.
    """
    coordinates = Coordinates(problem.prior.distribution())
    rows, z = (torch.cat(pair) for pair in zip(_from_plan(problem, potential), _from_model(problem), strict=True))
    y = coordinates.of(z.double()).to(rows)
    generator = make_torch_generator(problem.rng)
    conditional = FullGaussian().begin(y.shape[1], generator)
    network = MLP(HIDDEN_LAYER_SIZES).encoder(problem.x.shape[1], conditional.n_outputs, generator).to(problem.x)
    level, spread = y.mean(0), y.std(0).clamp(min=SMALLEST_START)
    network.set_linear(y.new_zeros(conditional.n_outputs, rows.shape[1]), conditional.constant(level, spread))
    encoder = Encoder(network, conditional)
    _fit(problem, encoder, rows, y, generator)
    return encoder


@torch.no_grad()
def _from_plan(problem: Problem, potential: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a datum (N, d) and a latent point (N, k), exact draws from the plan."""
    source, epsilon = problem.source, problem.setting.epsilon
    draws = problem.draws(JOINT_DRAWS // 2)
    generator = torch.Generator(problem.x.device).manual_seed(int(problem.rng.integers(2**63)))
    target = problem.target(problem.predicted(draws.z), draws)
    density = prior_side(source, target, potential, epsilon).log_density.exp()
    if not torch.isfinite(density).all():
        raise _training.Diverged("the decoder's outputs became infinite or NaN")
    tilted = torch.multinomial(density, len(density), replacement=True, generator=generator)
    bias = source.bias(potential, epsilon)
    blocks = _kernels.score_blocks(target.natural[tilted] / epsilon, source.statistics, bias)
    index = torch.cat([torch.multinomial(torch.softmax(block, 1), 1, generator=generator)[:, 0] for block in blocks])
    return problem.x[index], draws.z[tilted]


@torch.no_grad()
def _from_model(problem: Problem) -> tuple[Tensor, Tensor]:
    """Pairs of new data (N, d) with matched noise and their latent point (N, k)."""
    draws = problem.draws(JOINT_DRAWS // 2)
    family = problem.family.tempered(problem.setting.epsilon)
    return family.noise(problem.predicted(draws.z), problem.rng), draws.z


def _fit(problem: Problem, encoder: Encoder, x: Tensor, y: Tensor, generator: torch.Generator) -> None:
    setting, n_steps = problem.setting, problem.setting.max_iter
    optimiser = _training.adam([encoder], LEARNING_RATE)
    index = torch.randint(len(x), (n_steps, BATCH_FACTOR * setting.draws_per_step), generator=generator).to(x.device)

    def step(t: int) -> bool:
        _training.set_learning_rate(optimiser, LEARNING_RATE * _training.one_cycle(t / n_steps))
        _training.descend(optimiser, -encoder(x[index[t]]).log_prob(y[index[t], None]).mean())
        return False

    with _threads.shared(_threads.step_operations(encoder.network, x[:1], BATCH_FACTOR * setting.draws_per_step)):
        _training.repeat(step, n_steps, problem.pace, "proposal")
