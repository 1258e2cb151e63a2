"""Rows of data beside what a model makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcvae.display._axes import BLUE, GREY, VERMILION, dots, legend, panel, pyplot
from skcvae.display._checks import as_rows, check_model, feature_names
from skcvae.display._images import ImageShape, PointsOrImages, as_images, gap, image_shape_of, name_lines, picture, show, stacked
from skcvae.display._plane import Plane

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Pairs of images in a line.
N_COLUMNS = 12


class ReconstructionDisplay(PointsOrImages):
    """Rows of X beside their reconstructions: images below each other, or points joined by segments.

    Points are the two features, or the places along the first two principal axes of X; of one feature the data are drawn at height
    0 and the reconstructions at height 1. It is recommended to use `from_estimator`.

    Parameters
    ----------
    X, reconstructions : arrays of shape (n, d)
    image_shape : tuple or function, optional
        Shape of the image in a row, (height, width) or (channels, height, width), or a function of rows (n, d) that returns images
        of such shapes. None shows points.
    feature_names : list of d str, optional
        Names of the axes where there are two features or one.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    artists_ : list of artists
        Points: the data, the reconstructions and the segments. Images: one picture.

    Examples
    --------
    >>> from skcvae import VAE
    >>> from skcvae.datasets import make_gaussian_grid
    >>> from skcvae.display import ReconstructionDisplay
    >>> X, y = make_gaussian_grid(200, random_state=0)
    >>> model = VAE(max_iter=20, hidden_layer_sizes=(16,), random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(model, X[:50])
    >>> display.reconstructions.shape
    (50, 2)
    """

    ax_: Axes
    figure_: Figure
    artists_: list[Artist]

    def __init__(
        self,
        *,
        X: NDArray,
        reconstructions: NDArray,
        image_shape: ImageShape | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.X = X
        self.reconstructions = reconstructions
        self.image_shape = image_shape
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        image_shape: ImageShape | Literal["auto"] | None = "auto",
        ax: Any = None,
        **kwargs: Any,
    ) -> ReconstructionDisplay:
        """Reconstruct rows and show them; nothing is random.

        Parameters
        ----------
        estimator : a fitted CoupledVAE, VAE, WAE or InfoVAE
        X : array-like of shape (n, d)
            All rows are shown; a few dozen images are enough.
        image_shape : "auto", tuple, function or None, default="auto"
            See above. "auto" is the shape of the estimator's convolutions, or a square where there are 64 pixels or more.
        ax : matplotlib Axes, optional
        **kwargs : style, as in `plot`

        Returns
        -------
        ReconstructionDisplay
        """
        check_model(estimator, "reconstruct")
        shape, reconstructions = image_shape_of(estimator, image_shape), as_rows(estimator.reconstruct(X))
        display = cls(X=as_rows(X), reconstructions=reconstructions, image_shape=shape, feature_names=feature_names(estimator))
        return display.plot(ax=ax, **kwargs)

    def _points(self, ax: Any, style: dict[str, Any]) -> list[Artist]:
        plane = Plane.of(self.X, self.feature_names)
        ends = [plane.beside(self.X, 0), plane.beside(self.reconstructions, 1)]
        self.ax_, self.figure_ = ax, _ = panel(ax)
        data = ax.scatter(*ends[0].T, **dots(self.X), color=BLUE, label="data")
        found = ax.scatter(*ends[1].T, **{**dots(self.X), "color": VERMILION, "label": "reconstructions", **style})
        lines = pyplot().matplotlib.collections.LineCollection(np.stack(ends, 1), colors=GREY, linewidths=0.8, zorder=0)
        ax.add_collection(lines)
        plane.name(ax, "data (0), reconstructions (1)")
        legend(ax)
        return [data, found, lines]

    def _images(self, ax: Any, style: dict[str, Any]) -> Artist:
        assert self.image_shape is not None
        images = [as_images(rows, self.image_shape) for rows in (self.X, self.reconstructions)]
        n_columns = min(N_COLUMNS, len(self.X))
        lines = [picture(group[i : i + n_columns], n_columns) for i in range(0, len(self.X), n_columns) for group in images]
        space, height = gap(images[0]), len(lines[0])
        self.ax_, self.figure_ = panel(ax)
        artist = show(self.ax_, stacked(lines, space), images[0], **style)
        centres = [i * (height + space) + height / 2 for i in range(len(lines))]
        name_lines(self.ax_, centres, [("data", "model")[i % 2] for i in range(len(lines))])
        return artist
