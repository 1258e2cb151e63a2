"""A third candidate for the layout where the latent space is wide: the decoder of a short variational autoencoder."""

from __future__ import annotations

import math

import torch

from skcvae import _amortise, _training
from skcvae._phases._problem import Layout, Problem
from skcvae._random import make_torch_generator
from skcvae._training import Course
from skcvae.networks import MLP
from skcvae.posteriors import Coordinates, DiagonalGaussian, Encoder

#: Components up to which plans find a layout by themselves.
FEW_COMPONENTS = 4
#: Passes over the rows, and the fewest and most steps: longer training learns the rows by heart.
EPOCHS, FEWEST_STEPS, MOST_STEPS = 50, 200, 1000
#: Learning rate over that of the decoder's other steps.
RATE = 0.6
#: Units of the encoder, which is left behind.
HIDDEN_LAYER_SIZES = (256, 256)
#: The temperature over the target's from which the first plan is cooled.
HOT = 8.0


def is_wide(problem: Problem) -> bool:
    """Whether there are many components, and a prior with a density, that an encoder needs."""
    return problem.prior.n_components > FEW_COMPONENTS and not problem.has_atoms and problem.prior.distribution() is not None


def encode(problem: Problem, linear: Layout) -> Layout:
    r"""The layout that an encoder finds with the decoder, by the bound with :math:`\epsilon` as the weight of the divergence.

    In many dimensions a pool has few draws in a row's cell, so that a plan moves a cell little; the gradient of an encoder moves it
    anywhere. The encoder is left behind, and the problem put back to the linear layout: that is also the answer where the training
    diverges.
    """
    linear.restore(problem)
    setting, prior, generator = problem.setting, problem.prior, make_torch_generator(problem.rng)
    coordinates = Coordinates(prior.distribution())
    conditional = DiagonalGaussian().begin(coordinates.width(prior.n_components), generator)
    network = MLP(HIDDEN_LAYER_SIZES).encoder(problem.x.shape[1], conditional.n_outputs, generator)
    encoder = problem.data.place.module(Encoder(network, conditional))
    parts = encoder, problem.decoder, problem.family, coordinates, prior, problem.data, problem.rng
    model, steps = _amortise.Model(*parts, kind=problem.kind), _n_steps(problem)
    rate = RATE * setting.learning_rate
    training = _amortise.Setting(setting.epsilon, 0.0, 0.0, setting.draws_per_step, rate, steps, setting.tol, setting.patience)
    try:
        _amortise.start(model, setting.epsilon)
        _amortise.train(Course(model, problem.pace), None, training)
        layout = Layout.of(problem, torch.zeros_like(problem.source.carrier), HOT * setting.epsilon)
    except _training.Diverged:
        layout = linear
    linear.restore(problem)
    return layout


def _n_steps(problem: Problem) -> int:
    """Steps in proportion to the rows, at most `max_iter`."""
    asked = math.ceil(EPOCHS * problem.data.total / problem.setting.draws_per_step)
    return min(problem.setting.max_iter, MOST_STEPS, max(FEWEST_STEPS, asked))
