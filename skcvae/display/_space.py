"""The latent plane: its axes, the prior in it, and the colours of labelled points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from skcvae.display._axes import GREY, dots, legend, pyplot

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

#: Part of the prior within its contour, draws that say where it is, and points along each side of the contour's grid.
MASS, N_PRIOR, N_GRID = 0.95, 2000, 80
#: Room around the prior's draws, as a part of their range.
MARGIN = 0.05
#: Ten colours that the colour-blind tell apart (M. A. Petroff, Accessible color sequences for data visualization, 2021).
CLASS_COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadb")
#: Markers of the first ten classes, of the next ten, and so on.
CLASS_MARKERS = ("o", "^", "s")
MOST_CLASSES = len(CLASS_COLOURS) * len(CLASS_MARKERS)
#: Lines of a legend before it takes another column.
LEGEND_LINES = 15


def name_components(ax: Axes, components: Sequence[int]) -> None:
    """Label a latent plane and give it equal units, or the axis of one component."""
    ax.set_xlabel(f"$z_{{{components[0]}}}$")
    if len(components) == 2:
        ax.set_ylabel(f"$z_{{{components[1]}}}$")
        ax.set_aspect("equal", adjustable="box")


def box(*clouds: NDArray) -> list[tuple[float, float]]:
    """Limits of each coordinate that hold all points, with a margin."""
    points = np.concatenate(clouds)
    low, high = points.min(0), points.max(0)
    room = MARGIN * np.maximum(high - low, np.finfo(np.float32).eps)
    return list(zip((low - room).tolist(), (high + room).tolist(), strict=True))


def draw_prior(ax: Axes, draws: NDArray, limits: Sequence[tuple[float, float]]) -> Artist:
    """The contour that holds 95 % of the prior, from its draws (m, 2); the draws themselves where they are atoms or on a line."""
    if len(np.unique(draws, axis=0)) < len(draws) / 2 or np.linalg.matrix_rank(np.cov(draws.T), tol=1e-10) < 2:
        return ax.scatter(*draws.T, **{**dots(draws), "color": GREY, "zorder": 0, "label": "prior"})
    density = gaussian_kde(draws.T)
    x, y = (np.linspace(low, high, N_GRID) for low, high in limits)
    heights = density(np.stack(np.meshgrid(x, y)).reshape(2, -1)).reshape(N_GRID, N_GRID)
    level = np.quantile(density(draws.T), 1 - MASS)
    ax.plot([], [], color=GREY, linestyle="--", label=f"{MASS:.0%} of the prior")
    return ax.contour(x, y, heights, levels=[level], colors=GREY, linestyles="--", linewidths=1.5, zorder=0.5)


def is_continuous(y: NDArray) -> bool:
    """Whether labels are better shown by a colour bar: fractions, or more numbers than a legend can tell apart."""
    if y.dtype.kind == "f" and not (y == np.round(y)).all():
        return True
    return y.dtype.kind in "iuf" and len(np.unique(y)) > MOST_CLASSES


def class_codes(y: NDArray) -> tuple[NDArray, NDArray]:
    """The classes, and the place of each label among them; ValueError where they are too many for a legend."""
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) > MOST_CLASSES:
        raise ValueError(f"y must have {MOST_CLASSES} classes or fewer, got {len(classes)}. Group them, or give numbers.")
    return classes, codes


def coloured(ax: Axes, points: NDArray, y: NDArray, style: Mapping[str, Any]) -> PathCollection:
    """Points (n, 2) coloured by their labels, with a colour bar or a legend beside the axes."""
    if not is_continuous(y):
        return _by_class(ax, points, *class_codes(y), style)
    cloud = ax.scatter(*points.T, **{**dots(points), "c": y, "cmap": "viridis", **style})
    ax.figure.colorbar(cloud, ax=ax, label="y")
    return cloud


def _by_class(ax: Axes, points: NDArray, classes: NDArray, codes: NDArray, style: Mapping[str, Any]) -> PathCollection:
    plt, n = pyplot(), len(CLASS_COLOURS)
    mpl = plt.matplotlib
    shades = mpl.colors.to_rgba_array(CLASS_COLOURS)[codes % n]
    cloud = ax.scatter(*points.T, **{**dots(points), "color": shades, **style})
    if len(classes) > n:
        markers = [mpl.markers.MarkerStyle(marker) for marker in CLASS_MARKERS]
        outlines = [marker.get_path().transformed(marker.get_transform()) for marker in markers]
        cloud.set_paths([outlines[code // n] for code in codes])
    looks = [(str(name), CLASS_COLOURS[code % n], CLASS_MARKERS[code // n]) for code, name in enumerate(classes)]
    handles = [plt.Line2D([], [], ls="", color=c, marker=m, label=name) for name, c, m in looks]
    legend(ax, above=False, handles=handles, title="y", ncols=-(-len(classes) // LEGEND_LINES))
    return cloud
