"""Rows of data as images, and many images as one picture."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

#: The shape of the image in a row, or a function of rows (n, d) that returns images.
ImageShape = Sequence[int] | Callable[[NDArray], NDArray]
#: Rows that are shown as square images without being told have at least so many features.
FEWEST_PIXELS = 64
#: A gap between images is this part of their longer side, and a pixel at least.
GAP_SHARE = 1 / 16
BETWEEN = "#D8D8D8"


def image_shape_of(estimator: Any, image_shape: ImageShape | Literal["auto"] | None) -> ImageShape | None:
    """What `image_shape` stands for: "auto" is the shape of the estimator's convolutions, or a square of 64 pixels or more."""
    if not isinstance(image_shape, str):
        return image_shape
    if image_shape != "auto":
        raise ValueError(f"image_shape must be 'auto', None, a tuple or a function, got {image_shape!r}. Give (height, width).")
    n_features = estimator.n_features_in_
    side = math.isqrt(n_features)
    square = (side, side) if n_features >= FEWEST_PIXELS and side**2 == n_features else None
    return getattr(estimator.network, "image_shape", None) or square


def as_images(rows: NDArray, image_shape: ImageShape) -> NDArray:
    """Images (n, height, width), or (n, height, width, 3) in colour, of rows (n, d)."""
    images = np.asarray(image_shape(rows)) if callable(image_shape) else rows.reshape(-1, *_checked(image_shape, rows.shape[1]))
    if images.ndim not in (3, 4) or len(images) != len(rows) or (images.ndim == 4 and images.shape[1] not in (1, 3)):
        raise ValueError(
            f"images must be of shape ({len(rows)}, height, width) or ({len(rows)}, channels, height, width) with 1 or 3 channels, "
            f"got {images.shape}. Mend image_shape={image_shape!r}."
        )
    if images.ndim == 3:
        return images
    return images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)


def _checked(image_shape: Any, n_features: int) -> tuple[int, ...]:
    shape: tuple[Any, ...] = tuple(image_shape) if isinstance(image_shape, (Sequence, np.ndarray)) else ()
    if len(shape) not in (2, 3) or not all(isinstance(n, Integral) and int(n) > 0 for n in shape) or math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape must be (height, width) or (channels, height, width) with a product of {n_features}, the columns of "
            f"the rows, got {image_shape!r}. Give None for points."
        )
    return shape


def gap(images: NDArray) -> int:
    """Pixels between neighbours in a picture."""
    return max(1, round(GAP_SHARE * max(images.shape[1:3])))


def picture(images: NDArray, n_columns: int) -> NDArray:
    """Images line by line as one picture, (height, width) or (height, width, 3), with NaN between them and where none is left."""
    padded = np.concatenate([images, np.full((-len(images) % n_columns, *images.shape[1:]), np.nan)])
    lines = padded.reshape(-1, n_columns, *images.shape[1:])
    g, colours = gap(images), [(0, 0)] * (images.ndim - 3)
    tiles = np.pad(lines, [(0, 0), (0, 0), (0, g), (0, g), *colours], constant_values=np.nan).swapaxes(1, 2)
    return tiles.reshape(tiles.shape[0] * tiles.shape[1], -1, *images.shape[3:])[:-g, :-g]


def stacked(pictures: Sequence[NDArray], n_pixels: int) -> NDArray:
    """Pictures of equal width below each other, `n_pixels` of NaN between them."""
    blank = np.full((n_pixels, *pictures[0].shape[1:]), np.nan)
    parts = [part for piece in pictures for part in (blank, piece)]
    return np.concatenate(parts[1:])


def show(ax: Axes, drawn: NDArray, reference: NDArray, **kwargs: Any) -> AxesImage:
    """Draw a picture; its grey values run from the smallest to the largest of the reference."""
    low, high = float(np.nanmin(reference)), float(np.nanmax(reference))
    high = high if high > low else low + 1
    ax.set(xticks=[], yticks=[], facecolor=BETWEEN)
    ax.spines[:].set_visible(False)
    if drawn.ndim == 3:
        shades = np.clip((drawn - low) / (high - low), 0, 1)
        return ax.imshow(np.dstack([np.nan_to_num(shades), np.isfinite(shades[..., 0])]), **kwargs)
    return ax.imshow(drawn, **{"cmap": "gray_r", "vmin": low, "vmax": high, **kwargs})


def name_lines(ax: Axes, centres: Sequence[float], names: Sequence[str], **kwargs: Any) -> None:
    """Names to the left of a picture, at these heights in pixels."""
    ax.set_yticks(list(centres), list(names), **kwargs)
    ax.tick_params(length=0)


class PointsOrImages(ABC):
    """A display of rows as points, or as images where it has an `image_shape`."""

    image_shape: ImageShape | None
    artists_: list[Artist]

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            New ones by default.
        **kwargs : style of what the model gave, for matplotlib's `scatter`, or `plot` for lines, or `hist` with one feature, or
            `imshow` for images

        Returns
        -------
        self
        """
        self.artists_ = self._points(ax, kwargs) if self.image_shape is None else [self._images(ax, kwargs)]
        return self

    @abstractmethod
    def _points(self, ax: Any, style: dict[str, Any]) -> list[Artist]:
        """Draw rows as points."""

    @abstractmethod
    def _images(self, ax: Any, style: dict[str, Any]) -> Artist:
        """Draw rows as images."""
