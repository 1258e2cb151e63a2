"""Posteriors before the prior: of all rows together, and of one."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcvae._checks import check_number, choose
from skcvae._random import make_rng
from skcvae.display._axes import BLUE, GREY, VERMILION, clouds, legend, panel, panels, pyplot
from skcvae.display._checks import check_components, check_model, check_row, rows_of
from skcvae.display._space import N_PRIOR, box, draw_prior, name_components

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("overlaid", "beside")


class AggregatePosteriorDisplay:
    """Draws of the aggregate posterior, one of each row's posterior, and as many of the prior.

    Where they differ, samples come from places that no datum belongs to, or data lie where no sample comes from. It is recommended
    to use `from_estimator`.

    Parameters
    ----------
    draws : array of shape (n, n_components)
        Draws of the aggregate posterior.
    prior_draws : array of shape (m, n_components)
        Draws of the prior.
    components : one or two integers, default=(0, 1)
        Components to show. Of a latent space with one component it is that one, as a histogram.

    Attributes
    ----------
    ax_ : matplotlib Axes, or an array of two if they are beside each other
    figure_ : matplotlib Figure
    artists_ : list of two artists
        The aggregate posterior, then the prior.

    Examples
    --------
    >>> from skcvae import VAE
    >>> from skcvae.datasets import make_gaussian_grid
    >>> from skcvae.display import AggregatePosteriorDisplay
    >>> X, y = make_gaussian_grid(200, random_state=0)
    >>> model = VAE(max_iter=20, hidden_layer_sizes=(16,), random_state=0).fit(X)
    >>> display = AggregatePosteriorDisplay.from_estimator(model, X, random_state=0)
    >>> display.draws.shape, display.prior_draws.shape
    ((200, 2), (200, 2))
    """

    ax_: Any
    figure_: Figure
    artists_: list[Artist]

    def __init__(self, *, draws: NDArray, prior_draws: NDArray, components: Sequence[int] = (0, 1)) -> None:
        self.draws = draws
        self.prior_draws = prior_draws
        self.components = components

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        components: Sequence[int] = (0, 1),
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> AggregatePosteriorDisplay:
        """Draw from the posterior of every row, then from the prior, and show both.

        Parameters
        ----------
        estimator : a fitted CoupledVAE, VAE, WAE or InfoVAE
        X : array-like of shape (n, d)
        components : one or two integers, default=(0, 1)
        random_state : None, int, numpy Generator or RandomState
        ax : matplotlib Axes, optional
            Two of them for ``kind="beside"``.
        **kwargs : `kind` and style, as in `plot`

        Returns
        -------
        AggregatePosteriorDisplay
        """
        check_model(estimator, "sample_posterior", "prior_")
        rng = make_rng(random_state)
        draws = estimator.sample_posterior(X, random_state=rng)[:, 0]
        display = cls(draws=draws, prior_draws=estimator.prior_.sample(len(draws), rng), components=components)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, kind: Literal["overlaid", "beside"] = "overlaid", **kwargs: Any) -> AggregatePosteriorDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, or two of them for ``kind="beside"``, optional
            New ones by default.
        kind : {"overlaid", "beside"}, default="overlaid"
            Whether both are on the same axes, or each on its own, with equal limits.
        **kwargs : style of both, for matplotlib's `scatter`, or `hist` where there is one component

        Returns
        -------
        self
        """
        choose("kind", kind, dict.fromkeys(KINDS))
        components = check_components(self.components, self.draws.shape[1])
        named = {"aggregate posterior": self.draws[:, components], "prior": self.prior_draws[:, components]}
        if kind == "overlaid":
            self._overlaid(ax, named, kwargs)
        else:
            self._beside(panels(ax, 2, "Give plt.subplots(1, 2)[1], or kind='overlaid'."), named, kwargs)
        for drawn in np.ravel(self.ax_):
            name_components(drawn, components)
        return self

    def _overlaid(self, ax: Any, named: dict[str, NDArray], style: dict[str, Any]) -> None:
        self.ax_, self.figure_ = panel(ax)
        behind = {"zorder": 0, **style}
        self.artists_ = clouds(self.ax_, named, [BLUE, GREY], [style, behind])
        legend(self.ax_)

    def _beside(self, axes: Any, named: dict[str, NDArray], style: dict[str, Any]) -> None:
        self.ax_, self.figure_, self.artists_ = axes, axes[0].figure, []
        limits = box(*named.values())
        for ax, (name, points), colour in zip(axes, named.items(), (BLUE, GREY), strict=True):
            self.artists_ += clouds(ax, {name: points}, [colour], [style])
            ax.set(title=name, xlim=limits[0])
            if len(limits) == 2:
                ax.set_ylim(limits[1])


class PosteriorDisplay:
    """The posterior of one row as a histogram of its draws, with its mean, and the prior's contour behind.

    The contour holds 95 % of the prior; of a prior on atoms the atoms are shown. Shades are for the square root of the density, so
    that small modes show beside large ones. It is recommended to use `from_estimator`.

    Parameters
    ----------
    draws : array of shape (n, n_components)
        Draws of the row's posterior.
    prior_draws : array of shape (m, n_components)
        Draws of the prior.
    components : one or two integers, default=(0, 1)
        Components to show. Of a latent space with one component it is that one.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    artists_ : list of artists
        Two components: the histogram, the mean of the draws, the prior. One: the histograms of posterior and prior.

    Examples
    --------
    >>> from skcvae import VAE
    >>> from skcvae.datasets import make_gaussian_grid
    >>> from skcvae.display import PosteriorDisplay
    >>> X, y = make_gaussian_grid(200, random_state=0)
    >>> model = VAE(max_iter=20, hidden_layer_sizes=(16,), random_state=0).fit(X)
    >>> display = PosteriorDisplay.from_estimator(model, X, row=3, n_samples=1000, random_state=0)
    >>> display.draws.shape
    (1000, 2)
    """

    ax_: Axes
    figure_: Figure
    artists_: list[Artist]

    def __init__(self, *, draws: NDArray, prior_draws: NDArray, components: Sequence[int] = (0, 1)) -> None:
        self.draws = draws
        self.prior_draws = prior_draws
        self.components = components

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        row: int = 0,
        n_samples: int = 10_000,
        components: Sequence[int] = (0, 1),
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> PosteriorDisplay:
        """Draw from one row's posterior, then from the prior, and show both.

        Parameters
        ----------
        estimator : a fitted CoupledVAE, VAE, WAE or InfoVAE
        X : array-like of shape (n, d)
        row : int, default=0
            Which row of X.
        n_samples : int, default=10000
            Draws of the posterior.
        components : one or two integers, default=(0, 1)
        random_state : None, int, numpy Generator or RandomState
        ax : matplotlib Axes, optional
        **kwargs : `bins` and style, as in `plot`

        Returns
        -------
        PosteriorDisplay
        """
        check_model(estimator, "sample_posterior", "prior_")
        check_row("row", row, X)
        rng = make_rng(random_state)
        draws = estimator.sample_posterior(rows_of(X, [row]), n_samples, random_state=rng)[0]
        return cls(draws=draws, prior_draws=estimator.prior_.sample(N_PRIOR, rng), components=components).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, bins: int = 80, **kwargs: Any) -> PosteriorDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            New ones by default.
        bins : int, default=80
            Bins of each component, over the range of posterior and prior.
        **kwargs : style of the posterior, for matplotlib's `pcolormesh`, or `hist` where there is one component

        Returns
        -------
        self
        """
        check_number("bins", bins, Integral, 1)
        components = check_components(self.components, self.draws.shape[1])
        draws, prior = self.draws[:, components], self.prior_draws[:, components]
        self.ax_, self.figure_ = panel(ax)
        self.artists_ = self._plane(draws, prior, bins, kwargs) if len(components) == 2 else self._line(draws, prior, bins, kwargs)
        name_components(self.ax_, components)
        legend(self.ax_)
        return self

    def _line(self, draws: NDArray, prior: NDArray, bins: int, style: dict[str, Any]) -> list[Artist]:
        edges = np.linspace(*box(draws, prior)[0], bins + 1)
        named = {"posterior": draws, "prior": prior}
        return clouds(
            self.ax_, named, [BLUE, GREY], [{"bins": edges, **style}, {"bins": edges, "histtype": "stepfilled", "alpha": 0.5}]
        )

    def _plane(self, draws: NDArray, prior: NDArray, bins: int, style: dict[str, Any]) -> list[Artist]:
        limits = box(draws, prior)
        density, x, y = np.histogram2d(draws[:, 0], draws[:, 1], bins=bins, range=limits, density=True)
        shades = {"cmap": "viridis_r", "norm": pyplot().matplotlib.colors.PowerNorm(0.5, 0, density.max()), "zorder": 1}
        mesh = self.ax_.pcolormesh(x, y, np.ma.masked_equal(density.T, 0), **{**shades, **style})
        self.figure_.colorbar(mesh, ax=self.ax_, label="posterior density")
        x_mean, y_mean = draws.mean(0)
        mean = self.ax_.scatter(x_mean, y_mean, marker="+", s=80, color=VERMILION, zorder=2, label="mean")
        return [mesh, mean, draw_prior(self.ax_, prior, limits)]
