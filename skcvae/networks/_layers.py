"""Modules that every architecture is made of, and their initial weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
#: The hidden part starts small beside the linear part, which carries the principal axes.
OUTPUT_GAIN = 0.1
#: Standardised latent variables are cut here, so that a heavy-tailed prior asks for no extrapolation; Gaussian draws stay within.
LARGEST_INPUT = 8.0
#: Slopes of `Steep` at the start of a fit, and at most.
FIRST_SLOPE, LARGEST_SLOPE = 4.0, 1e3


class LinearPlus(nn.Module):
    r"""A linear map plus a hidden module, :math:`z \mapsto W z + b + \mathrm{hidden}(z)`.

    Parameters
    ----------
    n_inputs, n_outputs : int
    hidden : nn.Module, from (m, n_inputs) to (m, n_outputs)
    generator : torch.Generator, source of the linear map's initial weights; torch's global generator is not touched

    Examples
    --------
    >>> import torch
    >>> from skcvae.networks import LinearPlus
    >>> net = LinearPlus(2, 2, torch.nn.Tanh(), torch.Generator().manual_seed(0))
    >>> net.set_linear(torch.eye(2), torch.ones(2))
    >>> net(torch.zeros(3, 2))[0].tolist()
    [1.0, 1.0]
    """

    #: Names of the hidden module's layers that `train` leaves in evaluation mode.
    frozen: tuple[str, ...] = ()

    def __init__(self, n_inputs: int, n_outputs: int, hidden: nn.Module, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = draw(unset(nn.Linear, n_inputs, n_outputs), 1.0, generator)
        self.hidden = hidden

    def forward(self, z: Tensor) -> Tensor:
        """Evaluate at inputs of shape (m, n_inputs)."""
        return self.linear(z) + self.hidden(z)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers but the frozen ones."""
        super().train(mode)
        for name in self.frozen:
            self.hidden.get_submodule(name).training = False
        return self

    @torch.no_grad()
    def set_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Make the linear part `weight` (n_outputs, n_inputs) and `bias` (n_outputs,); one that is fixed stays as it is."""
        if self.linear.weight.requires_grad:
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)


class Steep(nn.Module):
    r"""An activation that can make borders: half of the units are :math:`\tanh(e^{s} h)` with a learned s each, half ReLU.

    A decoder that follows a transport plan is nearly constant on a datum's cell and steps to the next one at the border. A step of
    the optimiser moves a weight by the learning rate and :math:`e^s` by a factor, so that the slopes :math:`e^s` become as large as
    the borders ask in few steps. They start at 4 and are at most 1000. The ReLU half is for what is smooth.

    Parameters
    ----------
    n_units : int, width of the layer

    References
    ----------
    A. D. Jagtap, K. Kawaguchi and G. E. Karniadakis, Locally adaptive activation functions with slope recovery for deep and
    physics-informed neural networks, 2020.

    Examples
    --------
    >>> import torch
    >>> from skcvae.networks import Steep
    >>> Steep(2)(torch.tensor([[0.0, -1.0], [1e3, 2.0]])).tolist()
    [[0.0, 0.0], [1.0, 2.0]]
    """

    def __init__(self, n_units: int) -> None:
        super().__init__()
        self.n_units = n_units
        self.log_slope = nn.Parameter(torch.full((n_units - n_units // 2,), math.log(FIRST_SLOPE), dtype=torch.float32))

    def forward(self, h: Tensor) -> Tensor:
        """Evaluate at the layer's units, (m, n_units)."""
        n_steep = len(self.log_slope)
        slope = self.log_slope.clamp(max=math.log(LARGEST_SLOPE)).exp()
        return torch.cat([torch.tanh(h[:, :n_steep] * slope), torch.relu(h[:, n_steep:])], 1)


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

    def whitened(self, z: Tensor) -> Tensor:
        """Latent points (m, k) with zero mean and identity covariance under the prior, (m, r)."""
        return z if self.mean is None or self.whitening is None else (z - self.mean) @ self.whitening.T

    def inputs(self, z: Tensor) -> Tensor:
        """Whitened latent points, (m, r), with far tails cut where the prior is not a standard Gaussian."""
        return z if self.mean is None else self.whitened(z).clamp(-LARGEST_INPUT, LARGEST_INPUT)

    def forward(self, z: Tensor) -> Tensor:
        """Evaluate at latent points of shape (m, k)."""
        output: Tensor = self.network(self.inputs(z))
        return output


def unset(kind: type[Layer], *arguments: Any, **options: Any) -> Layer:
    """A layer in single precision, whatever torch's default is, whose weights are not drawn yet."""
    layer: Layer = nn.utils.skip_init(kind, *arguments, **options, dtype=torch.float32)
    return layer


def draw(layer: Layer, gain: float, generator: torch.Generator) -> Layer:
    """Give a linear layer or a convolution uniform weights of variance gain^2/(3 fan_in), from the given generator."""
    bound = gain / math.sqrt(_fan_in(layer))
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


def dense(widths: Sequence[int], after: Callable[[int], list[nn.Module]], generator: torch.Generator) -> list[nn.Module]:
    """Linear layers from each width to the next, and what comes after a layer of that many units."""
    layers: list[nn.Module] = []
    for width, next_width in itertools.pairwise(widths):
        layers += [draw(unset(nn.Linear, width, next_width), 1.0, generator), *after(next_width)]
    return layers


def small_at_first(
    n_inputs: int, n_outputs: int, layers: list[nn.Module], last: nn.Linear | nn.ConvTranspose2d, generator: torch.Generator
) -> LinearPlus:
    """A linear map plus the given layers, of which `last` starts small; its weights are drawn after the linear map's.

    Kernels of convolutions are laid out with the channels last, which is faster.
    """
    network = LinearPlus(n_inputs, n_outputs, nn.Sequential(*layers), generator)
    draw(last, OUTPUT_GAIN, generator)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Inputs of one output; a transposed convolution spreads its taps over stride x stride outputs."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / math.prod(layer.stride)
    return layer.weight[0].numel()
