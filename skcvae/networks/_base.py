"""The abstract architecture, and the checks that the architectures share."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import nn

from skcvae.networks._layers import LinearPlus

#: Activations that have a name, in scikit-learn's words where it has one.
ACTIVATIONS: dict[str, type[nn.Module]] = {
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


def positive_integers(name: str, value: object, example: tuple[int, ...]) -> tuple[int, ...]:
    """A positive integer or a sequence of them, possibly empty, as a tuple; TypeError or ValueError otherwise."""
    values = (value,) if isinstance(value, numbers.Integral) else value
    if not isinstance(values, (tuple, list, np.ndarray)):
        raise TypeError(f"{name} must be a sequence of integers such as {example}, got {value!r}.")
    for number in values:
        if not isinstance(number, numbers.Integral) or isinstance(number, (bool, np.bool_)):
            raise TypeError(f"each of {name} must be an integer, got {number!r} (type {type(number).__name__}).")
        if number < 1:
            raise ValueError(f"each of {name} must be at least 1, got {number!r} in {value!r}.")
    return tuple(int(number) for number in values)


def checked_activation(value: object) -> type[nn.Module]:
    """The activation's class; TypeError or ValueError when it has no such name."""
    if isinstance(value, str) and value in ACTIVATIONS:
        return ACTIVATIONS[value]
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, got {value!r}.")


def check_flag(name: str, value: object) -> None:
    """TypeError unless a parameter is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")
