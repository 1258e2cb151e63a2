"""Memory: rows in blocks, arrays that are too large, and what an allocation that fails is told as."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Rows that are read at once where all of them are needed.
ROWS_AT_ONCE = 8192
#: Numbers that these rows have at most: 32 MiB in double precision.
NUMBERS_AT_ONCE = 2**22
#: Units of memory, each 1024 of the one before.
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def slices(n: int, width: int = 1) -> Iterator[slice]:
    """Blocks of n rows; fewer rows each where a row has many numbers."""
    length = max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // max(width, 1)))
    return (slice(begin, begin + length) for begin in range(0, n, length))


def result_dtype(X: NDArray) -> type[np.floating]:
    """The precision in which X is answered: float32 for float32, float64 for all else."""
    return np.float32 if X.dtype == np.float32 else np.float64


def as_floats(rows: NDArray) -> NDArray:
    """Rows in the precision in which they are answered; float32 and float64 as they are."""
    return rows.astype(result_dtype(rows), copy=False)


def blocks(X: NDArray) -> Iterator[NDArray]:
    """The rows of X as float32 or float64, block by block; of rows that several processes have those of this one."""
    own = getattr(X, "own", X)
    return (as_floats(own[rows]) for rows in slices(len(own), X.shape[1]))


def in_blocks(X: NDArray, function: Callable[[NDArray], NDArray], dtype: Any = None) -> NDArray:
    """Apply a row-wise function to blocks of rows and write the results into one array, of X's `result_dtype` unless given."""
    results = map(function, blocks(X))
    first = next(results)
    result = np.empty((len(X), *first.shape[1:]), dtype=dtype or result_dtype(X))
    for rows, block in zip(slices(len(X), X.shape[1]), itertools.chain([first], results), strict=True):
        result[rows] = block
    return result


def check_room(what: str, shape: tuple[Any, ...], remedy: str, dtype: Any = np.float64) -> None:
    """MemoryError unless the system grants an array of this shape. Nothing is written to the array."""
    sizes = tuple(map(int, shape))
    try:
        np.empty(sizes, dtype)
    except (MemoryError, ValueError):
        size = _written(np.dtype(dtype).itemsize * math.prod(sizes))
        raise MemoryError(
            f"{what} needs an array of shape {sizes}, {size}, for which this machine has no memory. {remedy}"
        ) from None


def _written(n_bytes: int) -> str:
    power = min((n_bytes.bit_length() - 1) // 10, len(UNITS) - 1)
    return f"{n_bytes / 2 ** (10 * power):.4g} {UNITS[power]}"


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Raise a MemoryError with a remedy where numpy or torch cannot allocate, on the CPU or on a GPU."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if "allocate" not in str(error):
            raise
        raise MemoryError(f"There is not enough memory: {str(error).rstrip('.')}. {remedy}") from error
