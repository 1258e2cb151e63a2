"""What all metrics ask of their samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skcvae._checks import check_representable, check_rows
from skcvae._kernels import chunk_length

Array = NDArray[np.float64]


def check_samples(min_rows: int = 1, **samples: ArrayLike) -> list[Array]:
    """Finite 2-dimensional float64 arrays of equal width; TypeError or ValueError with the argument's name otherwise."""
    arrays: list[Array] = [check_rows(name, sample, np.float64) for name, sample in samples.items()]
    names, rows, widths = list(samples), [len(array) for array in arrays], [array.shape[1] for array in arrays]
    if len(set(widths)) > 1:
        raise ValueError(f"{_listed(names)} must have the same number of columns, got {_listed(widths)}. Give points of one space.")
    for name, array in zip(names, arrays, strict=True):
        check_representable(name, array, np.float64)
    if min(rows) < min_rows:
        raise ValueError(f"{_listed(names)} must have {min_rows} rows or more, got {_listed(rows)}. Draw more samples.")
    return arrays


def _listed(items: list) -> str:
    return " and ".join(map(str, items))


def row_blocks(n_rows: int, n_others: int) -> Iterator[slice]:
    """Slices of the rows that hold a bounded number of pairs with the others."""
    length = chunk_length(n_others)
    return (slice(begin, begin + length) for begin in range(0, n_rows, length))
