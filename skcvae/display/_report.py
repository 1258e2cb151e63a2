"""How good synthetic rows of a table are."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from skcvae._checks import check_number, shown
from skcvae.display._axes import BLUE, GREY, VERMILION, legend, panels
from skcvae.metrics import Marginal, TableReport

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Columns whose bars are shown, categories of a marginal, and names beside the map.
MOST_BARS, MOST_CATEGORIES, MOST_NAMES = 12, 12, 24
#: Letters of a category or a name that are shown.
LONGEST_NAME = 20


class TableReportDisplay:
    """The columns with the lowest shapes, the trends of all pairs, and marginals of real beside those of synthetic rows.

    The first axes have a bar for each of the twelve lowest columns, the second a map of 1 less the trend, the others a marginal
    each. It is recommended to use `from_report`.

    Parameters
    ----------
    column_shapes : dict from a name to a float
        As in `skcvae.metrics.TableReport`.
    pair_trends : dict from two names to a float
    marginals : dict from a name to a Marginal
        Those that are shown.

    Attributes
    ----------
    ax_ : array of 2 matplotlib Axes and one for each marginal
    figure_ : matplotlib Figure
    artists_ : list of artists
        The bars, the map, then two for each marginal: of real, and of synthetic rows.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skcvae.display import TableReportDisplay
    >>> from skcvae.metrics import table_report
    >>> rows = np.random.default_rng(0).normal(size=(2, 100, 3))
    >>> real, synthetic = (pd.DataFrame(some, columns=["a", "b", "c"]) for some in rows)
    >>> display = TableReportDisplay.from_report(table_report(real, synthetic), n_marginals=1)
    >>> len(display.ax_)
    3
    """

    ax_: Any
    figure_: Figure
    artists_: list[Artist]

    def __init__(
        self,
        *,
        column_shapes: Mapping[str, float],
        pair_trends: Mapping[tuple[str, str], float],
        marginals: Mapping[str, Marginal],
    ) -> None:
        self.column_shapes = dict(column_shapes)
        self.pair_trends = dict(pair_trends)
        self.marginals = dict(marginals)

    @classmethod
    def from_report(cls, report: TableReport, *, n_marginals: int = 2, ax: Any = None, **kwargs: Any) -> TableReportDisplay:
        """Show a report.

        Parameters
        ----------
        report : TableReport, from `skcvae.metrics.table_report`
        n_marginals : int, default=2
            Marginals that are shown, of the columns with the lowest shapes.
        ax : 2 + n_marginals matplotlib Axes, optional
        **kwargs : style of the bars of columns, as in `plot`

        Returns
        -------
        TableReportDisplay

        Raises
        ------
        TypeError
            If `report` is something else.
        """
        if not isinstance(report, TableReport):
            raise TypeError(
                f"report must be a TableReport, got {shown(report)}. Give skcvae.metrics.table_report(real, synthetic)."
            )
        check_number("n_marginals", n_marginals, Integral, 0)
        marginals = {name: report.marginals[name] for name in report.worst_columns(n_marginals)}
        display = cls(column_shapes=report.column_shapes, pair_trends=report.pair_trends, marginals=marginals)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> TableReportDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : 2 matplotlib Axes and one for each marginal, optional
            New ones by default.
        **kwargs : style of the bars of columns, for matplotlib's `barh`

        Returns
        -------
        self
        """
        n_panels = 2 + len(self.marginals)
        self.ax_ = panels(ax, n_panels, f"Give plt.subplots(1, {n_panels})[1].")
        self.figure_ = self.ax_[0].figure
        self.artists_ = [self._bars(self.ax_[0], kwargs), self._map(self.ax_[1])]
        for axes, (name, marginal) in zip(self.ax_[2:], self.marginals.items(), strict=True):
            self.artists_ += _marginal(axes, name, marginal)
        return self

    def _bars(self, ax: Axes, style: dict[str, Any]) -> Any:
        """The lowest columns by name, the lowest on top."""
        known = [name for name, shape in self.column_shapes.items() if not np.isnan(shape)]
        names = sorted(known, key=lambda name: self.column_shapes[name])[:MOST_BARS]
        places = np.arange(len(names))
        bars = ax.barh(places, [self.column_shapes[name] for name in names], **{"color": BLUE, **style})
        ax.set_yticks(places, [_cut(name) for name in names])
        ax.set(xlim=(0, 1), xlabel="column shape (1 is the best)")
        ax.invert_yaxis()
        return bars

    def _map(self, ax: Axes) -> Any:
        """What the trend of each pair lacks; blank where it is undefined."""
        names = list(self.column_shapes)
        places = {name: place for place, name in enumerate(names)}
        lacks = np.full((len(names), len(names)), np.nan)
        for (a, b), trend in self.pair_trends.items():
            lacks[places[a], places[b]] = lacks[places[b], places[a]] = 1 - trend
        image = ax.imshow(lacks, cmap="cividis", vmin=0)
        if len(names) <= MOST_NAMES:
            ax.set_xticks(range(len(names)), [_cut(name) for name in names], rotation=90)
            ax.set_yticks(range(len(names)), [_cut(name) for name in names])
        ax.figure.colorbar(image, ax=ax, label="1 - pair trend (0 is the best)")
        return image


def _marginal(ax: Axes, name: str, marginal: Marginal) -> list[Any]:
    """Outlines of binned numbers, or bars of the most frequent categories."""
    ax.set(xlabel=_cut(name), ylabel="share of cells")
    if marginal.is_category:
        most = slice(MOST_CATEGORIES)
        places = np.arange(len(marginal.values[most]))
        drawn: list[Any] = [
            ax.bar(places - 0.2, marginal.real[most], 0.4, color=GREY, label="real"),
            ax.bar(places + 0.2, marginal.synthetic[most], 0.4, color=VERMILION, label="synthetic"),
        ]
        ax.set_xticks(places, [_cut(str(value)) for value in marginal.values[most]])
    else:
        drawn = [
            ax.stairs(marginal.real, marginal.values, color=GREY, fill=True, label="real"),
            ax.stairs(marginal.synthetic, marginal.values, color=VERMILION, linewidth=1.5, label="synthetic"),
        ]
    if marginal.values.dtype.kind in "OM":  # words and dates are long
        ax.tick_params("x", rotation=90)
    legend(ax)
    return drawn


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
