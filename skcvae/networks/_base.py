"""The abstract architecture, and the checks that the architectures share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from skcvae.networks._layers import LinearPlus, Steep

#: Activations that have a name, in scikit-learn's words where it has one. "steep" has weights of its own, see `Steep`.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "steep": Steep,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


class Network(ABC):
    """An architecture, what the user chooses: parameters only.

    All initial weights come from the generator; torch's global generator is left as it was.
    """

    def bind(self, n_features: int) -> Network:
        """The architecture for data with `n_features` columns; ValueError with the remedy where it does not fit them."""
        return self

    @abstractmethod
    def decoder(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """A module from latent inputs (m, n_inputs) to a likelihood's parameters (m, n_outputs)."""

    @abstractmethod
    def encoder(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """A module from data (n, n_inputs) to a posterior's parameters (n, n_outputs)."""


def check_activation(value: object) -> None:
    """TypeError or ValueError unless an activation has this name."""
    if isinstance(value, str) and value in ACTIVATIONS:
        return
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, got {value!r}.")


def activation_of(name: str, width: int) -> nn.Module:
    """The activation of a layer of `width` units."""
    return Steep(width) if name == "steep" else ACTIVATIONS[name]()
