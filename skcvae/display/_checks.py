"""What the displays ask of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_is_fitted

from skcvae._checks import check_number
from skcvae.display._axes import pyplot

Array = NDArray[np.float64]


def check_model(estimator: Any, *methods: str) -> None:
    """Raise unless matplotlib is there and the estimator is fitted and has these methods or attributes."""
    pyplot()
    check_is_fitted(estimator)
    if missing := [method for method in methods if not hasattr(estimator, method)]:
        raise TypeError(
            f"estimator must have {' and '.join(methods)}, got {type(estimator).__name__} without {' and '.join(missing)}. "
            "Give a fitted CoupledVAE, VAE, WAE or InfoVAE, out of its pipeline."
        )


def check_components(components: Sequence[int], n_components: int) -> list[int]:
    """One or two components of the latent space; the only one where there is no other."""
    chosen = list(components) if isinstance(components, (Sequence, np.ndarray)) else []
    if n_components == 1 and chosen == [0, 1]:
        return [0]
    if not 1 <= len(set(chosen)) == len(chosen) <= 2 or not all(isinstance(c, Integral) and 0 <= c < n_components for c in chosen):
        raise ValueError(
            f"components must be one or two different integers from 0 to {n_components - 1}, got {components!r}. "
            "Give for example (0, 1), or (0,) for a histogram."
        )
    return chosen


def check_row(name: str, row: int, X: ArrayLike) -> None:
    """Raise unless `row` is the index of a row of X."""
    check_number(name, row, Integral, 0, high=_num_samples(X) - 1)


def rows_of(X: Any, rows: Sequence[int]) -> Any:
    """Rows of an array or of a data frame, as what it is."""
    return _safe_indexing(X, np.asarray(rows))


def as_rows(X: ArrayLike) -> NDArray:
    """An array of the numbers of what an estimator has taken, or has given."""
    rows = np.asarray(X)
    if rows.dtype.kind not in "biuf":
        raise ValueError(
            f"Pictures of rows are of numbers, got a table with cells of type {rows.dtype}. Draw its columns by the frames that "
            "sample and reconstruct return, or see skcvae.metrics.table_report."
        )
    return rows


def rows_like(X: ArrayLike | None, estimator: Any) -> NDArray | None:
    """X as an array with the estimator's number of features."""
    if X is None:
        return None
    rows = as_rows(X)
    if rows.ndim != 2 or rows.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X must have {estimator.n_features_in_} columns, as the estimator was fitted, got an array of shape {rows.shape}. "
            "Give data like those of fit."
        )
    return rows


def feature_names(estimator: Any) -> list[str] | None:
    """Names of the features, if the estimator was fitted to a data frame."""
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]
