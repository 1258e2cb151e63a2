"""Layers that act otherwise in training than in prediction, and layers that draw random numbers."""

from __future__ import annotations

from torch import nn

from skcvae.networks._base import ACTIVATIONS
from skcvae.networks._layers import Decoder, LinearPlus

#: Classes known to act alike in training and in prediction; of any other, a user's own included, nothing is known.
ALIKE: frozenset[type[nn.Module]] = frozenset(
    {Decoder, LinearPlus, nn.Sequential, nn.Identity, nn.Flatten, nn.Unflatten, nn.Linear, nn.Conv2d, nn.ConvTranspose2d}
    | {nn.LayerNorm, nn.GroupNorm, nn.Sigmoid, nn.LeakyReLU, *ACTIVATIONS.values()}
)


def has_modes(module: nn.Module) -> bool:
    """Whether outputs in training may differ from those in prediction, as with batch normalisation and dropout.

    Examples
    --------
    >>> import torch
    >>> from skcvae.networks import MLP, has_modes
    >>> [has_modes(MLP(batch_norm=flag).decoder(2, 5, torch.Generator())) for flag in (False, True)]
    [False, True]
    """
    return any(type(part) not in ALIKE for part in module.modules())


def fewest_rows(module: nn.Module) -> int:
    """Rows that a batch of training must have: two where the batch is normalised.

    Examples
    --------
    >>> import torch
    >>> from skcvae.networks import fewest_rows
    >>> fewest_rows(torch.nn.Linear(2, 2)), fewest_rows(torch.nn.BatchNorm1d(2))
    (1, 2)
    """
    return 2 if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()) else 1
