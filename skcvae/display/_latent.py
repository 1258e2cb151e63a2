"""Where a model puts rows of data in its latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcvae._checks import choose
from skcvae.display._axes import BLUE, clouds, legend, panel
from skcvae.display._checks import check_components, check_model
from skcvae.display._space import CLASS_COLOURS, class_codes, coloured, is_continuous, name_components

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("means", "draws")


class LatentDisplay:
    """Posterior means, or one posterior draw of each row, coloured by y.

    Labels are classes, with a legend, or numbers, with a colour bar: fractions, or more than 30 different numbers. One component is
    a histogram for each class, or is drawn against numbers. It is recommended to use `from_estimator`.

    Parameters
    ----------
    Z : array of shape (n, n_components)
        Points of the latent space.
    y : array of shape (n,), optional
        Labels.
    components : one or two integers, default=(0, 1)
        Components to show. Of a latent space with one component it is that one.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    artists_ : list of artists
        One cloud of all points in the order of Z, or a histogram for each class, sorted.

    Examples
    --------
    >>> from skcvae import VAE
    >>> from skcvae.datasets import make_gaussian_grid
    >>> from skcvae.display import LatentDisplay
    >>> X, y = make_gaussian_grid(200, n_side=2, random_state=0)
    >>> model = VAE(max_iter=20, hidden_layer_sizes=(16,), random_state=0).fit(X)
    >>> display = LatentDisplay.from_estimator(model, X, y)
    >>> display.Z.shape
    (200, 2)
    """

    ax_: Axes
    figure_: Figure
    artists_: list[Artist]

    def __init__(self, *, Z: NDArray, y: NDArray | None = None, components: Sequence[int] = (0, 1)) -> None:
        self.Z = Z
        self.y = y
        self.components = components

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        kind: Literal["means", "draws"] = "means",
        components: Sequence[int] = (0, 1),
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> LatentDisplay:
        """Find the rows' places in latent space and show them.

        Parameters
        ----------
        estimator : a fitted CoupledVAE, VAE, WAE or InfoVAE
        X : array-like of shape (n, d)
        y : array-like of shape (n,), optional
            Labels: classes or numbers.
        kind : {"means", "draws"}, default="means"
            - "means": what `transform` gives. Between the modes of a posterior there may be a mean where no draw is.
            - "draws": one draw of each row's posterior, together draws of the aggregate posterior.
        components : one or two integers, default=(0, 1)
        random_state : None, int, numpy Generator or RandomState
            For draws.
        ax : matplotlib Axes, optional
        **kwargs : style, as in `plot`

        Returns
        -------
        LatentDisplay
        """
        check_model(estimator, "transform", "sample_posterior")
        choose("kind", kind, dict.fromkeys(KINDS))
        means = kind == "means"
        Z = np.asarray(estimator.transform(X)) if means else estimator.sample_posterior(X, random_state=random_state)[:, 0]
        return cls(Z=Z, y=None if y is None else np.asarray(y), components=components).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> LatentDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            New ones by default.
        **kwargs : style of the points, for matplotlib's `scatter`, or `hist` where there is one component

        Returns
        -------
        self
        """
        components = check_components(self.components, self.Z.shape[1])
        if self.y is not None and self.y.shape != (len(self.Z),):
            raise ValueError(
                f"y must have shape ({len(self.Z)},), one label for each row of X, got {self.y.shape}. Give labels of these rows."
            )
        self.ax_, self.figure_ = panel(ax)
        self.artists_ = self._drawn(self.Z[:, components], kwargs)
        name_components(self.ax_, components)
        return self

    def _drawn(self, points: NDArray, style: dict[str, Any]) -> list[Artist]:
        if self.y is None:
            return clouds(self.ax_, {"rows": points}, [BLUE], [style])
        if points.shape[1] == 2:
            return [coloured(self.ax_, points, self.y, style)]
        if is_continuous(self.y):
            self.ax_.set_ylabel("y")
            return clouds(self.ax_, {"rows": np.column_stack([points, self.y])}, [BLUE], [style])
        return self._histograms(points, style)

    def _histograms(self, points: NDArray, style: dict[str, Any]) -> list[Artist]:
        assert self.y is not None
        classes, codes = class_codes(self.y)
        named = {str(name): points[codes == code] for code, name in enumerate(classes)}
        shades = [CLASS_COLOURS[code % len(CLASS_COLOURS)] for code in range(len(classes))]
        lines = [{"linestyle": ("-", "--", ":")[code // len(CLASS_COLOURS)], **style} for code in range(len(classes))]
        artists = clouds(self.ax_, named, shades, lines)
        legend(self.ax_, above=False, title="y")
        return artists
