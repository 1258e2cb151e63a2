"""Where a latent space has holes."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skcvae._checks import check_number
from skcvae._random import make_rng
from skcvae.display._axes import VERMILION, dots, legend, panel
from skcvae.display._checks import check_model
from skcvae.display._space import N_PRIOR, box, draw_prior, name_components

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Shades run between these percentiles of the score on the grid.
SHADED = (1, 95)


class HoleDisplay:
    """`hole_score` on a grid of a latent plane: large where a point decodes to what is no datum.

    Shades run between percentiles 1 and 95 of the score. It is recommended to use `from_estimator`.

    Parameters
    ----------
    score : array of shape (n_grid, n_grid)
        Hole score in nats; rows are values of z1, columns of z0.
    z0, z1 : arrays of shape (n_grid,)
        Coordinates of the grid.
    prior_draws : array of shape (m, 2)
        Draws of the prior, for its contour, which holds 95 % of it.
    draws : array of shape (n, 2), optional
        Draws of the aggregate posterior.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    artists_ : list of artists
        The map, the prior, then the draws of the aggregate posterior if there are any.

    Examples
    --------
    >>> from skcvae import CoupledVAE
    >>> from skcvae.datasets import make_gaussian_grid
    >>> from skcvae.display import HoleDisplay
    >>> from skcvae.schedule import Schedule
    >>> X, y = make_gaussian_grid(200, n_side=2, random_state=0)
    >>> quick = Schedule(polish_rounds=1, max_draws=4096)
    >>> model = CoupledVAE(varsigma=0.1, max_iter=20, hidden_layer_sizes=(16,), schedule=quick, random_state=0).fit(X)
    >>> display = HoleDisplay.from_estimator(model, n_grid=20, random_state=0)
    >>> display.score.shape
    (20, 20)
    """

    ax_: Axes
    figure_: Figure
    artists_: list[Artist]

    def __init__(self, *, score: NDArray, z0: NDArray, z1: NDArray, prior_draws: NDArray, draws: NDArray | None = None) -> None:
        self.score = score
        self.z0 = z0
        self.z1 = z1
        self.prior_draws = prior_draws
        self.draws = draws

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        *,
        n_grid: int = 100,
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> HoleDisplay:
        """Score a grid over the range of the prior's draws, and of X's, and show it.

        Parameters
        ----------
        estimator : a fitted CoupledVAE with two components
        X : array-like of shape (n, d), optional
            Data of which one posterior draw a row is shown.
        n_grid : int, default=100
            Points along each side of the grid.
        random_state : None, int, numpy Generator or RandomState
            For the draws of the prior, then of X's posteriors.
        ax : matplotlib Axes, optional
        **kwargs : style, as in `plot`

        Returns
        -------
        HoleDisplay

        Raises
        ------
        TypeError
            If the estimator has no `hole_score`. Of VAE, WAE and InfoVAE see `AggregatePosteriorDisplay`.
        """
        _check_scored(estimator)
        check_number("n_grid", n_grid, Integral, 2)
        rng = make_rng(random_state)
        prior = estimator.prior_.sample(N_PRIOR, rng)
        draws = None if X is None else estimator.sample_posterior(X, random_state=rng)[:, 0]
        z0, z1 = (np.linspace(*limits, n_grid) for limits in box(prior, prior if draws is None else draws))
        grid = np.stack(np.meshgrid(z0, z1), -1)
        score = estimator.hole_score(grid.reshape(-1, 2)).reshape(n_grid, n_grid)
        return cls(score=score, z0=z0, z1=z1, prior_draws=prior, draws=draws).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> HoleDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            New ones by default.
        **kwargs : style of the map, for matplotlib's `pcolormesh`

        Returns
        -------
        self
        """
        self.ax_, self.figure_ = panel(ax)
        low, high = np.percentile(self.score, SHADED)
        shades = {"cmap": "cividis", "vmin": low, "vmax": high, "shading": "nearest", "rasterized": True, "zorder": 0}
        mesh = self.ax_.pcolormesh(self.z0, self.z1, self.score, **{**shades, **kwargs})
        self.figure_.colorbar(mesh, ax=self.ax_, extend="both", label="hole score (nats)")
        limits = [(float(z.min()), float(z.max())) for z in (self.z0, self.z1)]
        self.artists_ = [mesh, draw_prior(self.ax_, self.prior_draws, limits)]
        if self.draws is not None:
            drawn = {**dots(self.draws), "color": VERMILION, "label": "aggregate posterior"}
            self.artists_.append(self.ax_.scatter(*self.draws.T, **drawn))
        self.ax_.set(xlim=limits[0], ylim=limits[1])
        name_components(self.ax_, [0, 1])
        legend(self.ax_)
        return self


def _check_scored(estimator: Any) -> None:
    check_is_fitted(estimator)
    if not hasattr(estimator, "hole_score"):
        raise TypeError(
            f"estimator must have hole_score, as a CoupledVAE has, got {type(estimator).__name__}. Use AggregatePosteriorDisplay, "
            "where a hole is a place with draws of the prior and none of the aggregate posterior."
        )
    check_model(estimator, "hole_score", "sample_posterior", "prior_")
    if estimator.prior_.n_components != 2:
        raise ValueError(
            f"estimator must have 2 components for a map, got {estimator.prior_.n_components}. Fit with n_components=2, or call "
            "hole_score at points of your own."
        )
