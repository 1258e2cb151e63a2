"""What a decoder makes of the way from one row to another."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcvae._checks import check_number, choose
from skcvae.display._axes import GREY, VERMILION, dots, legend, panel
from skcvae.display._checks import as_rows, check_model, check_row, feature_names, rows_of
from skcvae.display._images import ImageShape, PointsOrImages, as_images, gap, image_shape_of, picture, show
from skcvae.display._plane import Plane
from skcvae.priors import GaussianPrior

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Directions nearer than this to each other or to opposites have no arc between them.
SMALLEST_SINE = 1e-6


class InterpolationDisplay(PointsOrImages):
    """Decoder means along a line in latent space between two rows: a strip of images, or a line among the data.

    The strip has the two rows at its ends. Points are the two features, or the places along the first two principal axes of X; one
    feature is drawn against the share of the way. It is recommended to use `from_estimator`.

    Parameters
    ----------
    means : array of shape (n_steps, d)
        Decoder means along the line.
    Z : array of shape (n_steps, n_components)
        The line, from one row's posterior mean to the other's.
    X : array of shape (n, d)
        The data among which the line is shown.
    rows : tuple of two int
        Which rows of X are at the ends.
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
        Points: the line, the two rows and the data. Images: one picture.

    Examples
    --------
    >>> from skcvae import VAE
    >>> from skcvae.datasets import make_gaussian_grid
    >>> from skcvae.display import InterpolationDisplay
    >>> X, y = make_gaussian_grid(200, random_state=0)
    >>> model = VAE(max_iter=20, hidden_layer_sizes=(16,), random_state=0).fit(X)
    >>> display = InterpolationDisplay.from_estimator(model, X, rows=(0, 7), n_steps=5)
    >>> display.means.shape
    (5, 2)
    """

    ax_: Axes
    figure_: Figure
    artists_: list[Artist]

    def __init__(
        self,
        *,
        means: NDArray,
        Z: NDArray,
        X: NDArray,
        rows: Sequence[int] = (0, 1),
        image_shape: ImageShape | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.means = means
        self.Z = Z
        self.X = X
        self.rows = rows
        self.image_shape = image_shape
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        rows: Sequence[int] = (0, 1),
        n_steps: int = 9,
        path: Literal["linear", "spherical"] = "linear",
        image_shape: ImageShape | Literal["auto"] | None = "auto",
        ax: Any = None,
        **kwargs: Any,
    ) -> InterpolationDisplay:
        """Decode the way between two rows and show it; nothing is random.

        Parameters
        ----------
        estimator : a fitted CoupledVAE, VAE, WAE or InfoVAE
        X : array-like of shape (n, d)
        rows : tuple of two int, default=(0, 1)
            Which rows of X are at the ends.
        n_steps : int, default=9
            Points of the line, with its ends.
        path : {"linear", "spherical"}, default="linear"
            - "linear": a straight line, which is best with few components or a prior that is not Gaussian.
            - "spherical": an arc, along which direction and length change evenly, for the standard Gaussian prior. With many
              components its draws are all at a distance of about the root of their number from the origin, and a straight line
              between two of them leaves that shell.
        image_shape : "auto", tuple, function or None, default="auto"
            See above. "auto" is the shape of the estimator's convolutions, or a square where there are 64 pixels or more.
        ax : matplotlib Axes, optional
        **kwargs : style, as in `plot`

        Returns
        -------
        InterpolationDisplay
        """
        check_model(estimator, "transform", "inverse_transform", "prior_")
        _check_rows(rows, X)
        check_number("n_steps", n_steps, Integral, 2)
        along = choose("path", path, {"linear": _straight, "spherical": _arc})
        prior = estimator.prior_
        if path == "spherical" and not (isinstance(prior, GaussianPrior) and prior.standardisation() is None):
            raise ValueError(f"path='spherical' needs the standard Gaussian prior, got {prior!r}. Use path='linear'.")
        shape = image_shape_of(estimator, image_shape)
        Z = along(np.asarray(estimator.transform(rows_of(X, rows))), np.linspace(0, 1, n_steps)[:, None])
        means, names = as_rows(estimator.inverse_transform(Z)), feature_names(estimator)
        return cls(means=means, Z=Z, X=as_rows(X), rows=rows, image_shape=shape, feature_names=names).plot(ax=ax, **kwargs)

    def _points(self, ax: Any, style: dict[str, Any]) -> list[Artist]:
        plane, share = Plane.of(self.X, self.feature_names), np.linspace(0, 1, len(self.means))
        line, ends = plane.beside(self.means, share), plane.beside(self.X[list(self.rows)], np.array([0, 1]))
        self.ax_, self.figure_ = ax, _ = panel(ax)
        data = plane.beside(self.X, 0)
        cloud = ax.scatter(*data.T, **dots(data), color=GREY, label="data")
        drawn = ax.plot(*line.T, **{"color": VERMILION, "marker": "o", "markersize": 4, "label": "decoder means", **style})[0]
        name = f"rows {self.rows[0]} and {self.rows[1]}"
        corners = ax.scatter(*ends.T, s=60, marker="s", facecolors="none", edgecolors="black", zorder=3, label=name)
        plane.name(ax, "share of the way")
        legend(ax)
        return [drawn, corners, cloud]

    def _images(self, ax: Any, style: dict[str, Any]) -> Artist:
        assert self.image_shape is not None
        ends = self.X[list(self.rows)]
        strip = as_images(np.concatenate([ends[:1], self.means, ends[1:]]), self.image_shape)
        self.ax_, self.figure_ = panel(ax)
        artist = show(self.ax_, picture(strip, len(strip)), strip[[0, -1]], **style)
        width, n = strip.shape[2], len(self.means)
        centres = np.arange(n + 2) * (width + gap(strip)) + (width - 1) / 2
        shares = [f"{share:.2g}" for share in np.linspace(0, 1, n)]
        self.ax_.set_xticks(centres, [f"row {self.rows[0]}", *shares, f"row {self.rows[1]}"])
        self.ax_.tick_params(length=0)
        self.ax_.set_xlabel("share of the way")
        return artist


def _straight(ends: NDArray, share: NDArray) -> NDArray:
    """Points (n_steps, k) on the line between two ends (2, k)."""
    return (1 - share) * ends[0] + share * ends[1]


def _arc(ends: NDArray, share: NDArray) -> NDArray:
    """Points whose direction turns evenly from the first end to the second and whose length changes evenly."""
    length = np.linalg.norm(ends, axis=1, keepdims=True)
    first, last = ends / np.maximum(length, np.finfo(ends.dtype).tiny)
    angle = np.arccos(np.clip(first @ last, -1, 1))
    if np.sin(angle) < SMALLEST_SINE or not length.all():
        return _straight(ends, share)
    direction = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * last) / np.sin(angle)
    return direction * _straight(length, share)


def _check_rows(rows: Sequence[int], X: ArrayLike) -> None:
    if not isinstance(rows, (Sequence, np.ndarray)) or len(rows) != 2:
        raise ValueError(f"rows must be two indices of rows of X, got {rows!r}. Give for example (0, 1).")
    for row in rows:
        check_row("rows", row, X)
