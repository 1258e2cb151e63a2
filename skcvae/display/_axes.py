"""What the displays draw with: matplotlib when it is needed, panels, colours, clouds of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that the colour-blind tell apart (M. Okabe and K. Ito, 2002), and a grey for what stands behind.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#A8A8A8"
#: Size in inches of a panel in a figure of our own.
PANEL = (5.6, 4.8)
#: Dots of a cloud of few and of many points.
LARGEST_DOT, SMALLEST_DOT = 24.0, 4.0
#: Bins of a histogram of one coordinate.
N_BINS = 50


def pyplot() -> Any:
    """matplotlib.pyplot, imported now; ImportError with the remedy where it is not installed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("skcvae.display needs matplotlib, which is not installed. Run pip install 'skcvae[plot]'.") from error
    return plt


def panel(ax: Any) -> tuple[Axes, Figure]:
    """The axes to draw on, those given or new ones, and their figure."""
    axes = panels(ax)[0]
    return axes, axes.figure


def panels(ax: Any, n_panels: int = 1, remedy: str = "Give plt.subplots()[1].") -> Any:
    """An array of the axes to draw on: those given, or new ones side by side."""
    plt = pyplot()
    if ax is None:
        size = (n_panels * PANEL[0], PANEL[1])
        return plt.subplots(1, n_panels, figsize=size, layout="constrained", squeeze=False)[1][0]
    given = np.ravel(np.array(ax, dtype=object))
    if len(given) != n_panels or not all(isinstance(a, plt.Axes) for a in given):
        expected = "a matplotlib Axes" if n_panels == 1 else f"{n_panels} matplotlib Axes"
        raise TypeError(f"ax must be {expected} or None, got {[type(a).__name__ for a in given]}. {remedy}")
    return given


def dots(points: NDArray) -> dict[str, Any]:
    """Style of a cloud: the more points, the smaller."""
    return {"s": float(np.clip(8000 / len(points), SMALLEST_DOT, LARGEST_DOT)), "linewidths": 0, "alpha": 0.8}


def clouds(ax: Axes, named: Mapping[str, NDArray], colours: Sequence[str], styles: Sequence[Mapping[str, Any]]) -> list[Artist]:
    """Clouds of points (n, 2), or histograms of equal bins of points (n, 1)."""
    points: list[Any] = list(named.values())
    parts = list(zip(named.items(), colours, styles, strict=True))
    if points[0].shape[1] == 2:
        return [ax.scatter(*p.T, **{**dots(p), "color": c, "label": name, **style}) for (name, p), c, style in parts]
    edges = np.histogram_bin_edges(np.concatenate(points), N_BINS)
    step: dict[str, Any] = {"bins": edges, "density": True, "histtype": "step", "linewidth": 1.5}
    ax.set_ylabel("density")
    outlines: list[Artist] = []
    for (name, p), c, style in parts:
        artists: Any = ax.hist(p[:, 0], **{**step, "color": c, "label": name, **style})[2]
        outlines.append(artists[0])
    return outlines


def legend(ax: Axes, *, above: bool = True, **kwargs: Any) -> None:
    """A legend that hides no point: above the axes, or to the right of them."""
    top = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 4}
    right = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    drawn = ax.legend(**{"frameon": False, **(top if above else right), **kwargs})
    for handle in drawn.legend_handles:
        if handle is not None and hasattr(handle, "set_sizes"):
            handle.set_sizes([LARGEST_DOT])
