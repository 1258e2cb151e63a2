"""How a fit went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skcvae.display._axes import BLUE, VERMILION, panel
from skcvae.display._checks import check_model

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class TrainingDisplay:
    """The loss of each training step and, of a coupled model, the marginal error on a logarithmic axis to the right.

    A coupled model's loss is the semi-dual at that step's temperature, so that it may rise while the temperature falls. It is
    recommended to use `from_estimator`.

    Parameters
    ----------
    loss : sequence of n_iter float
        Loss in nats.
    marginal_error : sequence of n_iter float, optional
        Chi-square of the data marginal.

    Attributes
    ----------
    ax_ : matplotlib Axes
    twin_ax_ : matplotlib Axes, or None without a marginal error
    figure_ : matplotlib Figure
    artists_ : list of artists
        The line of the loss, then that of the marginal error if there is one.

    Examples
    --------
    >>> from skcvae import VAE
    >>> from skcvae.datasets import make_gaussian_grid
    >>> from skcvae.display import TrainingDisplay
    >>> X, y = make_gaussian_grid(200, random_state=0)
    >>> model = VAE(max_iter=20, hidden_layer_sizes=(16,), random_state=0).fit(X)
    >>> display = TrainingDisplay.from_estimator(model)
    >>> len(display.loss), display.marginal_error
    (20, None)
    """

    ax_: Axes
    twin_ax_: Axes | None
    figure_: Figure
    artists_: list[Artist]

    def __init__(self, *, loss: Sequence[float], marginal_error: Sequence[float] | None = None) -> None:
        self.loss = loss
        self.marginal_error = marginal_error

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> TrainingDisplay:
        """Show `loss_curve_` and, where there is one, `marginal_error_curve_`.

        Parameters
        ----------
        estimator : a fitted CoupledVAE, VAE, WAE or InfoVAE
        ax : matplotlib Axes, optional
        **kwargs : style, as in `plot`

        Returns
        -------
        TrainingDisplay
        """
        check_model(estimator, "loss_curve_")
        error = getattr(estimator, "marginal_error_curve_", None)
        return cls(loss=estimator.loss_curve_, marginal_error=error).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> TrainingDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            New ones by default.
        **kwargs : style of both lines, for matplotlib's `plot`

        Returns
        -------
        self
        """
        (self.ax_, self.figure_), self.twin_ax_ = panel(ax), None
        self.artists_ = [_curve(self.ax_, self.loss, BLUE, "loss (nats)", kwargs)]
        self.ax_.set_xlabel("step")
        if self.marginal_error is not None:
            self.twin_ax_ = self.ax_.twinx()
            self.twin_ax_.set_yscale("log")
            self.artists_.append(_curve(self.twin_ax_, self.marginal_error, VERMILION, "marginal error", kwargs))
        return self


def _curve(ax: Axes, values: Sequence[float], colour: str, name: str, style: dict[str, Any]) -> Artist:
    """A line whose axis has its colour."""
    line = ax.plot(np.arange(1, len(values) + 1), values, **{"color": colour, "linewidth": 1, "label": name, **style})[0]
    ax.set_ylabel(name, color=colour)
    ax.tick_params(axis="y", colors=colour)
    return line
