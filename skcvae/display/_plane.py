"""Rows of any width as points of the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Plane:
    """Two coordinates of a row: its two features, or its place along the two principal axes of a reference; one of one feature."""

    axes: PCA | None
    labels: list[str]

    @classmethod
    def of(cls, reference: NDArray, feature_names: Sequence[str] | None) -> Plane:
        """The plane for rows like those of the reference, (n, d)."""
        n_features = reference.shape[1]
        if n_features <= 2:
            return cls(None, list(feature_names or [f"feature {j}" for j in range(n_features)]))
        if len(reference) < 2:
            raise ValueError(f"Principal axes need 2 rows or more, got {len(reference)}. Give more rows, or image_shape.")
        return cls(PCA(2, random_state=0).fit(reference), ["principal axis 1", "principal axis 2"])

    def points(self, rows: NDArray) -> NDArray:
        """Coordinates (n, 2) of rows, or (n, 1) of one feature."""
        return rows if self.axes is None else self.axes.transform(rows)

    def beside(self, rows: NDArray, level: float | NDArray) -> NDArray:
        """Coordinates (n, 2), of which the second is a level where there is one feature."""
        points = self.points(rows)
        return points if points.shape[1] == 2 else np.column_stack([points, np.broadcast_to(level, len(points))])

    def name(self, ax: Axes, missing: str = "") -> None:
        """Label the axes; the second is `missing` where there is one feature."""
        ax.set(xlabel=self.labels[0], ylabel=[*self.labels, missing or ax.get_ylabel()][1])
