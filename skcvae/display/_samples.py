"""New samples of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike, NDArray

from skcvae.display._axes import BLUE, GREY, clouds, legend, panel
from skcvae.display._checks import as_rows, check_model, feature_names, rows_like
from skcvae.display._images import ImageShape, PointsOrImages, as_images, gap, image_shape_of, name_lines, picture, show, stacked
from skcvae.display._plane import Plane

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Samples that are drawn unless told otherwise.
N_POINTS, N_IMAGES = 1000, 64


class SamplesDisplay(PointsOrImages):
    """New samples of a model: points of the plane or images, over or above real data.

    Points are the two features, or the places along the first two principal axes of the real data, of the samples where there are
    none; one feature is a histogram. It is recommended to use `from_estimator`.

    Parameters
    ----------
    samples : array of shape (n, d)
    X : array of shape (m, d), optional
        Real data: all of them under points, the first n below images.
    image_shape : tuple or function, optional
        Shape of the image in a row, (height, width) or (channels, height, width) as in `skcvae.networks.Conv`, or a function of
        rows (n, d) that returns images of such shapes, as `skcvae.datasets.digit_images`. None shows points.
    feature_names : list of d str, optional
        Names of the axes where there are two features or one.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    artists_ : list of artists
        Points: the samples, then the real data if there are any. Images: one picture.

    Examples
    --------
    >>> from skcvae import VAE
    >>> from skcvae.datasets import make_gaussian_grid
    >>> from skcvae.display import SamplesDisplay
    >>> X, y = make_gaussian_grid(200, random_state=0)
    >>> model = VAE(max_iter=20, hidden_layer_sizes=(16,), random_state=0).fit(X)
    >>> display = SamplesDisplay.from_estimator(model, X, n_samples=100, random_state=0)
    >>> display.samples.shape
    (100, 2)
    """

    ax_: Axes
    figure_: Figure
    artists_: list[Artist]

    def __init__(
        self,
        *,
        samples: NDArray,
        X: NDArray | None = None,
        image_shape: ImageShape | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.samples = samples
        self.X = X
        self.image_shape = image_shape
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        *,
        n_samples: int | None = None,
        noise: str = "matched",
        source: str = "prior",
        image_shape: ImageShape | Literal["auto"] | None = "auto",
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> SamplesDisplay:
        """Draw samples and show them.

        Parameters
        ----------
        estimator : a fitted CoupledVAE, VAE, WAE or InfoVAE
        X : array-like of shape (m, d), optional
            Real data to compare with.
        n_samples : int, optional
            1000 points or 64 images by default.
        noise, source : str
            As in the estimator's `sample`; ``noise="mean"`` gives the decoder's means, which is usual for images.
        image_shape : "auto", tuple, function or None, default="auto"
            See above. "auto" is the shape of the estimator's convolutions, or a square where there are 64 pixels or more.
        random_state : None, int, numpy Generator or RandomState
        ax : matplotlib Axes, optional
        **kwargs : style of the samples, as in `plot`

        Returns
        -------
        SamplesDisplay
        """
        check_model(estimator, "sample")
        shape, real = image_shape_of(estimator, image_shape), rows_like(X, estimator)
        n = n_samples if n_samples is not None else N_POINTS if shape is None else N_IMAGES
        samples = as_rows(estimator.sample(n, noise=noise, source=source, random_state=random_state))
        display = cls(samples=samples, X=real, image_shape=shape, feature_names=feature_names(estimator))
        return display.plot(ax=ax, **kwargs)

    def _points(self, ax: Any, style: dict[str, Any]) -> list[Artist]:
        reference = self.samples if self.X is None else self.X
        plane = Plane.of(reference, self.feature_names)
        named = {"samples": plane.points(self.samples)}
        if self.X is not None:
            named["data"] = plane.points(self.X)
        behind = {"zorder": 0}
        self.ax_, self.figure_ = panel(ax)
        artists = clouds(self.ax_, named, [BLUE, GREY][: len(named)], [style, behind][: len(named)])
        plane.name(self.ax_)
        legend(self.ax_)
        return artists

    def _images(self, ax: Any, style: dict[str, Any]) -> Artist:
        assert self.image_shape is not None
        groups = [rows for rows in (self.samples, self.X) if rows is not None]
        images = [as_images(rows[: len(self.samples)], self.image_shape) for rows in groups]
        pictures = [picture(group, math.ceil(math.sqrt(len(images[0])))) for group in images]
        between = 4 * gap(images[0])
        self.ax_, self.figure_ = panel(ax)
        artist = show(self.ax_, stacked(pictures, between), images[-1], **style)
        ends = [sum(len(p) + between for p in pictures[:i]) for i in range(len(pictures))]
        centres = [end + len(p) / 2 for end, p in zip(ends, pictures, strict=True)]
        name_lines(self.ax_, centres, ["samples", "data"][: len(pictures)], rotation=90, va="center")
        return artist
