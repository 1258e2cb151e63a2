"""What chose the number of components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcvae.display._axes import BLUE, VERMILION, legend, panel
from skcvae.display._checks import check_model

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ComponentsDisplay:
    """The score of rows that were not fitted for each number of components, and the number that was chosen.

    A bar is one standard error of the difference to the highest score, so that the highest itself has none. It is recommended to
    use `from_estimator`.

    Parameters
    ----------
    n_components : array-like of shape (c,)
        Numbers of components.
    scores : array-like of shape (c,)
        Mean log-likelihood of rows that were not fitted, in nats.
    errors : array-like of shape (c,)
        Standard errors, in nats.
    chosen : int
        One of the numbers.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    artists_ : list of artists
        The line with its bars, then the mark of the chosen number.

    Examples
    --------
    >>> from skcvae.display import ComponentsDisplay
    >>> display = ComponentsDisplay(n_components=[1, 2, 3], scores=[-9.0, -7.0, -7.2], errors=[0.5, 0.0, 0.3], chosen=2).plot()
    >>> display.ax_.get_xlabel()
    'n_components'
    """

    ax_: Axes
    figure_: Figure
    artists_: list[Artist]

    def __init__(self, *, n_components: ArrayLike, scores: ArrayLike, errors: ArrayLike, chosen: int) -> None:
        self.n_components: NDArray[np.intp] = np.asarray(n_components)
        self.scores: NDArray[np.float64] = np.asarray(scores)
        self.errors: NDArray[np.float64] = np.asarray(errors)
        self.chosen = chosen

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> ComponentsDisplay:
        """Show `evidence_`.

        Parameters
        ----------
        estimator : a CoupledVAE, VAE, WAE or InfoVAE that was fitted with ``n_components="auto"``
        ax : matplotlib Axes, optional
        **kwargs : style, as in `plot`

        Returns
        -------
        ComponentsDisplay

        Raises
        ------
        ValueError
            Where the number of components was given.
        """
        check_model(estimator, "evidence_")
        found = estimator.evidence_
        if found is None:
            raise ValueError(
                f"estimator must have compared numbers of components, got one with n_components={estimator.n_components!r}. "
                'Fit it with n_components="auto".'
            )
        shown = cls(n_components=found.n_components, scores=found.scores, errors=found.errors, chosen=found.chosen)
        return shown.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> ComponentsDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            New ones by default.
        **kwargs : style of the line and its bars, for matplotlib's `errorbar`

        Returns
        -------
        self
        """
        self.ax_, self.figure_ = panel(ax)
        style = {"color": BLUE, "marker": "o", "capsize": 3, "label": "rows not fitted", **kwargs}
        bars: Any = self.ax_.errorbar(self.n_components, self.scores, self.errors, **style)
        score = self.scores[self.n_components == self.chosen]
        mark: Any = self.ax_.scatter([self.chosen], score, s=120, facecolors="none", edgecolors=VERMILION, label="chosen", zorder=3)
        self.ax_.set_xticks(self.n_components)
        self.ax_.set_xlabel("n_components")
        self.ax_.set_ylabel("log-likelihood (nats)")
        legend(self.ax_)
        self.artists_ = [bars, mark]
        return self
