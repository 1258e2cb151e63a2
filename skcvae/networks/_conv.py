"""Convolutions of images that come as flat rows."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from skcvae._checks import check_flag, check_integers
from skcvae.networks._base import Network, activation_of, check_activation
from skcvae.networks._layers import LinearPlus, dense, draw, small_at_first, unset

#: Kernel, stride and padding that halve every size, rounded up, so that no image is too small.
KERNEL, STRIDE, PADDING = 3, 2, 1

#: The stem of an activation that the convolutions do not have.
STEEP_STEM = (256, 256, 256)

#: Channels, height and width.
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Conv(Network):
    """Convolutions of stride 2 down and transposed ones up, beside a linear map, for images as flat rows.

    A decoder with several outputs a pixel gives them as blocks, each an image: a mean for all pixels, then a scale for all.

    Parameters
    ----------
    image_shape : tuple of (height, width) or (channels, height, width), default=None
        Shape of the image in a row of X, of any size; None is a square grey image.
    channels : sequence of int, default=(32, 64)
        Maps after each convolution, from the image down.
    stem : sequence of int, default=None
        Widths of dense layers between z and the decoder's convolutions, which give it depth in z. None is (256, 256, 256) where the
        activation is "steep", and otherwise none.
    activation : {"steep", "relu", "tanh", "elu", "silu", "gelu", "softplus"}, default="relu"
        "steep" is the stem's alone, see `Steep`: the convolutions are then ReLU, in the encoder too.
    batch_norm : bool, default=False
        Batch normalisation between the convolutions and their activations.

    Examples
    --------
    >>> import torch
    >>> from skcvae.networks import Conv
    >>> network, generator = Conv((7, 5), channels=(4, 8)), torch.Generator().manual_seed(0)
    >>> network.decoder(2, 35, generator)(torch.zeros(3, 2)).shape, network.encoder(35, 4, generator)(torch.zeros(3, 35)).shape
    (torch.Size([3, 35]), torch.Size([3, 4]))
    """

    image_shape: Sequence[int] | None = None
    channels: Sequence[int] = (32, 64)
    stem: Sequence[int] | None = None
    activation: str = "relu"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.image_shape is not None:
            _as_shape(self.image_shape)
        if not self._channels():
            raise ValueError(f"channels must have at least one entry, got {self.channels!r}. Use Conv(channels=(32, 64)).")
        self._stem()
        check_activation(self.activation)
        check_flag("batch_norm", self.batch_norm)

    def bind(self, n_features: int) -> Conv:
        """The architecture with the shape of its images; ValueError where they have another number of values."""
        shape = self._shape(n_features)
        if math.prod(shape) != n_features:
            raise ValueError(
                f"image_shape={self.image_shape!r} has {math.prod(shape)} values and the data have {n_features} features. "
                "Make them agree: Conv(image_shape=...)."
            )
        return dataclasses.replace(self, image_shape=shape)

    def decoder(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """Transposed convolutions; `n_outputs` is a multiple of the image's size, its own where `image_shape` is None."""
        image, *below = self._stages(self._shape(n_outputs))
        n_blocks, smallest = self._blocks(n_outputs, image), below[-1]
        widths = [n_inputs, *self._stem()]
        layers = dense(widths, lambda width: [activation_of(self.activation, width)], generator)
        to_maps = draw(unset(nn.Linear, widths[-1], math.prod(smallest)), 1.0, generator)
        layers += [to_maps, nn.Unflatten(1, smallest), *self._after(smallest[0])]
        for small, large in itertools.pairwise(below[::-1]):
            layers += [draw(_up(small, large), 1.0, generator), *self._after(large[0])]
        last = _up(below[0], (n_blocks * image[0], *image[1:]))
        return small_at_first(n_inputs, n_outputs, [*layers, last, nn.Flatten()], last, generator)

    def encoder(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """Convolutions of images with `n_inputs` values, then a linear layer."""
        stages = self._stages(self.bind(n_inputs)._shape(n_inputs))
        layers: list[nn.Module] = [nn.Unflatten(1, stages[0])]
        for large, small in itertools.pairwise(stages):
            layers += [draw(_down(large[0], small[0]), 1.0, generator), *self._after(small[0])]
        last = unset(nn.Linear, math.prod(stages[-1]), n_outputs)
        return small_at_first(n_inputs, n_outputs, [*layers, nn.Flatten(), last], last, generator)

    def _shape(self, n_features: int) -> Shape:
        """The given shape, or that of a square grey image."""
        if self.image_shape is not None:
            return _as_shape(self.image_shape)
        side = math.isqrt(n_features)
        if side**2 != n_features:
            raise ValueError(
                f"Conv expects a square grey image unless it is told its shape, and {n_features} features are no square. "
                "Give Conv(image_shape=(height, width)) or Conv(image_shape=(channels, height, width))."
            )
        return 1, side, side

    def _blocks(self, n_outputs: int, image: Shape) -> int:
        """Images in a decoder's output."""
        n_blocks, rest = divmod(n_outputs, math.prod(image))
        if rest:
            raise ValueError(
                f"image_shape={self.image_shape!r} has {math.prod(image)} values, of which {n_outputs} outputs are no multiple. "
                "Make them agree: Conv(image_shape=...)."
            )
        return n_blocks

    def _stages(self, image: Shape) -> list[Shape]:
        """Shapes from the image down to the smallest maps."""
        stages = [image]
        for n_maps in self._channels():
            height, width = (math.ceil(size / STRIDE) for size in stages[-1][1:])
            stages.append((n_maps, height, width))
        return stages

    def _stem(self) -> tuple[int, ...]:
        if self.stem is None:
            return STEEP_STEM if self.activation == "steep" else ()
        return check_integers("stem", self.stem, STEEP_STEM)

    def _channels(self) -> tuple[int, ...]:
        return check_integers("channels", self.channels, (32, 64))

    def _after(self, n_maps: int) -> list[nn.Module]:
        activation = activation_of("relu" if self.activation == "steep" else self.activation, n_maps)
        return [nn.BatchNorm2d(n_maps, dtype=torch.float32), activation] if self.batch_norm else [activation]


def _as_shape(image_shape: Sequence[int]) -> Shape:
    sizes = check_integers("image_shape", image_shape, (28, 28))
    if len(sizes) not in (2, 3):
        raise ValueError(f"image_shape must be (height, width) or (channels, height, width), got {image_shape!r}.")
    channels, height, width = (1, *sizes)[-3:]
    return channels, height, width


def _down(n_inputs: int, n_outputs: int) -> nn.Conv2d:
    return unset(nn.Conv2d, n_inputs, n_outputs, KERNEL, stride=STRIDE, padding=PADDING)


def _up(small: Shape, large: Shape) -> nn.ConvTranspose2d:
    """The transposed convolution that undoes `_down`, whose rounding hides whether a size was odd."""
    extra = tuple(above - (STRIDE * (below - 1) + KERNEL - 2 * PADDING) for below, above in zip(small[1:], large[1:], strict=True))
    shared = {"stride": STRIDE, "padding": PADDING, "output_padding": extra}
    return unset(nn.ConvTranspose2d, small[0], large[0], KERNEL, **shared)
