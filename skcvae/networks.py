"""Networks: sizes and activations, and nothing of what their output means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

#: Activations that have a name, in scikit-learn's words where it has one.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}
#: The hidden part starts small beside the linear part, which carries the principal axes.
OUTPUT_GAIN = 0.1
#: Standardised latent variables are cut here, so that a heavy-tailed prior asks for no extrapolation; Gaussian draws stay within.
LARGEST_INPUT = 8.0


class LinearPlusMLP(nn.Module):
    r"""A linear map plus a multilayer perceptron, :math:`z \mapsto W z + b + \mathrm{MLP}(z)`.

    Parameters
    ----------
    n_inputs, n_outputs : int
    hidden_layer_sizes : sequence of int, width of each hidden layer
    activation : str, a key of `ACTIVATIONS`
    generator : torch.Generator, source of the initial weights; torch's global generator is not touched

    Examples
    --------
    >>> import torch
    >>> from skcvae.networks import LinearPlusMLP
    >>> net = LinearPlusMLP(2, 5, (16, 16), "relu", torch.Generator().manual_seed(0))
    >>> net(torch.zeros(3, 2)).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [n_inputs, *hidden_layer_sizes]
        layers: list[nn.Module] = []
        for width, next_width in itertools.pairwise(widths):
            layers += [_linear(width, next_width, 1.0, generator), ACTIVATIONS[activation]()]
        self.linear = _linear(n_inputs, n_outputs, 1.0, generator)
        self.hidden = nn.Sequential(*layers, _linear(widths[-1], n_outputs, OUTPUT_GAIN, generator))

    def forward(self, z: Tensor) -> Tensor:
        """Evaluate at inputs of shape (m, n_inputs)."""
        return self.linear(z) + self.hidden(z)

    @torch.no_grad()
    def set_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Make the linear part `weight` (n_outputs, n_inputs) and `bias` (n_outputs,)."""
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(bias)


class Decoder(nn.Module):
    """A network of standardised latent variables.

    Parameters
    ----------
    network : nn.Module
    standardisation : tuple of mean (k,) and whitening (r, k), or None where z is standardised as it is

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skcvae.networks import Decoder
    >>> Decoder(torch.nn.Identity(), (np.array([0.5]), np.array([[12**0.5]])))(torch.ones(1, 1).double()).item()
    1.7320508075688772
    """

    mean: Tensor | None
    whitening: Tensor | None

    def __init__(self, network: nn.Module, standardisation: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> None:
        super().__init__()
        self.network = network
        mean, whitening = (None, None) if standardisation is None else map(torch.as_tensor, standardisation)
        self.register_buffer("mean", mean)
        self.register_buffer("whitening", whitening)

    def inputs(self, z: Tensor) -> Tensor:
        """Latent points (m, k) with zero mean and identity covariance under the prior, (m, r); far tails are cut."""
        if self.mean is None or self.whitening is None:
            return z
        return ((z - self.mean) @ self.whitening.T).clamp(-LARGEST_INPUT, LARGEST_INPUT)

    def forward(self, z: Tensor) -> Tensor:
        """Evaluate at latent points of shape (m, k)."""
        output: Tensor = self.network(self.inputs(z))
        return output


def _linear(n_inputs: int, n_outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """A linear layer with uniform weights of variance gain^2/(3 n_inputs), drawn from the given generator."""
    layer = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)
    bound = gain / math.sqrt(n_inputs)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer
