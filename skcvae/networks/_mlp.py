"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from skcvae._checks import check_flag, check_integers
from skcvae.networks._base import Network, activation_of, check_activation
from skcvae.networks._layers import LinearPlus, dense, small_at_first, unset


@dataclass(frozen=True, eq=False)
class MLP(Network):
    r"""A multilayer perceptron beside a linear map, :math:`z \mapsto W z + b + \mathrm{MLP}(z)`; encoder and decoder alike.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Width of each hidden layer; empty for the linear maps alone.
    activation : {"steep", "relu", "tanh", "elu", "silu", "gelu", "softplus"}, default="relu"
    batch_norm : bool, default=False
        Batch normalisation between the hidden layers and their activations.

    Examples
    --------
    >>> import torch
    >>> from skcvae.networks import MLP
    >>> MLP((16, 16)).decoder(2, 5, torch.Generator().manual_seed(0))(torch.zeros(3, 2)).shape
    torch.Size([3, 5])
    """

    hidden_layer_sizes: Sequence[int] = (256, 256)
    activation: str = "relu"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        self._sizes()
        check_activation(self.activation)
        check_flag("batch_norm", self.batch_norm)

    def decoder(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """The same as `build`."""
        return self.build(n_inputs, n_outputs, generator)

    def encoder(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """The same as `build`."""
        return self.build(n_inputs, n_outputs, generator)

    def build(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """A module from (m, n_inputs) to (m, n_outputs)."""
        widths = [n_inputs, *self._sizes()]
        layers = dense(widths, self._after, generator)
        last = unset(nn.Linear, widths[-1], n_outputs)
        return small_at_first(n_inputs, n_outputs, [*layers, last], last, generator)

    def _sizes(self) -> tuple[int, ...]:
        return check_integers("hidden_layer_sizes", self.hidden_layer_sizes, (256, 256))

    def _after(self, width: int) -> list[nn.Module]:
        activation = activation_of(self.activation, width)
        return [nn.BatchNorm1d(width, dtype=torch.float32), activation] if self.batch_norm else [activation]
