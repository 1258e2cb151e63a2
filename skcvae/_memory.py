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
#: Units of memory, each 1024 of the one before.
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def slices(n: int) -> Iterator[slice]:
    """Blocks of n rows."""
    return (slice(begin, begin + ROWS_AT_ONCE) for begin in range(0, n, ROWS_AT_ONCE))


def blocks(X: NDArray) -> Iterator[NDArray]:
    """The rows of X, block by block."""
    return (X[rows] for rows in slices(len(X)))


def in_blocks(X: NDArray, function: Callable[[NDArray], NDArray]) -> NDArray:
    """Apply a row-wise function to blocks of rows and write the results into one array of X's precision."""
    results = map(function, blocks(X))
    first = next(results)
    result = np.empty((len(X), *first.shape[1:]), dtype=X.dtype)
    for rows, block in zip(blocks(result), itertools.chain([first], results), strict=True):
        rows[:] = block
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
