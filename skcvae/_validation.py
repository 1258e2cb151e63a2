"""The only boundary: arrays to tensors and back, precision, device, seeds and parameter checks."""

from __future__ import annotations

import hashlib
import numbers
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

#: Precisions in which inference runs.
DTYPES = (np.float64, np.float32)
#: Rows that inference holds at once.
ROWS_PER_BLOCK = 8192
#: Where an object's representation says at which address it is.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def check_X(estimator: BaseEstimator, X: ArrayLike, *, fitting: bool = False) -> NDArray:
    """A finite 2-dimensional array of float64 or float32 with the fitted number of features; TypeError or ValueError otherwise."""
    return validate_data(estimator, X, reset=fitting, dtype=DTYPES, order="C", ensure_min_samples=2 if fitting else 1)


def check_latent(Z: ArrayLike, n_components: int) -> NDArray:
    """A finite array of latent points with `n_components` columns."""
    points: NDArray = check_array(Z, dtype=DTYPES, input_name="Z")
    if points.shape[1] != n_components:
        raise ValueError(f"Z must have n_components={n_components} columns, got {points.shape[1]}. Give what transform returns.")
    return points


def as_double(X: NDArray) -> NDArray[np.float64]:
    """The array in double precision."""
    return X.astype(np.float64, copy=False)


def check_batch(batch_size: int, fewest: int) -> None:
    """Raise where a batch is smaller than batch normalisation needs."""
    check_number("batch_size with batch normalisation", batch_size, numbers.Integral, fewest)


def check_varying(X: NDArray) -> None:
    """ValueError unless X varies by more than the rounding of its own values."""
    with np.errstate(over="ignore", invalid="ignore"):
        deviation, size = np.std(X, axis=0, dtype=np.float64).max(), np.abs(X).max()
    if not np.isfinite(deviation**2):
        raise ValueError(f"X has values up to {size:.3g}, whose squares overflow. Rescale X.")
    if deviation <= 1e-13 * size or deviation**2 < np.finfo(np.float64).tiny:
        raise ValueError(
            f"X has zero variance: its largest standard deviation is {deviation:.3g} at values up to {size:.3g}. "
            "Give data that vary, or rescale X."
        )


def check_number(
    name: str,
    value: object,
    kind: type,
    low: float,
    *,
    open_low: bool = False,
    high: float = np.inf,
    infinite: bool = False,
) -> None:
    """Raise unless a parameter is a finite (or infinite) real or integer number of at least (or above) `low`, at most `high`."""
    word = "an integer" if kind is numbers.Integral else "a number" if infinite else "a finite number"
    bounds = [f"{'above' if open_low else 'of at least'} {low:g}"] * (low > -np.inf) + [f"of at most {high:g}"] * (high < np.inf)
    expected = f"{name} must be {' '.join([word, ' and '.join(bounds)]).strip()}, got {value!r}."
    if not isinstance(value, kind) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{expected} (type {type(value).__name__})")
    number = float(value)  # type: ignore[arg-type]
    if not (np.isfinite(number) or (infinite and number > 0)) or not low <= number <= high or (open_low and number == low):
        raise ValueError(expected)


def check_path(name: str, value: object) -> Path | None:
    """The path of a file in a folder that is there, or None."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be the path of a file or None, got {value!r} (type {type(value).__name__}).")
    path = Path(value)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{name} must be the path of a file in a folder that exists, got {os.fspath(value)!r}.")
    return path


def fingerprint(estimator: BaseEstimator, data: Sequence[NDArray | None]) -> str:
    """What two fits have in common that must end alike: the class, the parameters but some, and the data."""
    parameters = {name: _ADDRESS.sub("", repr(value)) for name, value in estimator.get_params(deep=False).items()}
    kept = {name: value for name, value in parameters.items() if name not in ("checkpoint", "verbose")}
    hashes = [None if X is None else (X.shape, hashlib.sha256(np.ascontiguousarray(X)).hexdigest()) for X in data]
    return repr((type(estimator).__name__, kept, hashes))


def choose(name: str, value: object, registry: dict[str, Any], base: type | None = None) -> Any:
    """The registry's entry for a name, or the value itself if it is an instance of `base`."""
    if base is not None and isinstance(value, base):
        return value
    if isinstance(value, str) and value in registry:
        return registry[value]
    objects = f" or an instance of {base.__module__}.{base.__name__}" if base is not None else ""
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{name} must be one of {', '.join(map(repr, registry))}{objects}, got {value!r}.")


def make_rng(random_state: object) -> np.random.Generator:
    """The one seeding point. None draws fresh entropy from the operating system, never from a global generator."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**32, size=4, dtype=np.uint32))
    try:
        return np.random.default_rng(random_state)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(
            f"random_state must be None, a non-negative integer, a numpy RandomState or Generator, got {random_state!r}."
        ) from None


def make_torch_generator(rng: np.random.Generator) -> torch.Generator:
    """A torch generator on the CPU seeded from a numpy one."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def make_device(device: object) -> torch.device:
    """The torch device; "auto" is a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device  # type: ignore[call-overload]
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"device must be 'auto' or a torch device that is present, got {device!r}: {error}") from None


def in_blocks(X: NDArray, function: Callable[[NDArray], NDArray]) -> NDArray:
    """Apply a row-wise function to blocks of rows and write the results into one array of X's precision."""
    first = function(X[:ROWS_PER_BLOCK])
    result = np.empty((len(X), *first.shape[1:]), dtype=X.dtype)
    result[: len(first)] = first
    for begin in range(ROWS_PER_BLOCK, len(X), ROWS_PER_BLOCK):
        result[begin : begin + ROWS_PER_BLOCK] = function(X[begin : begin + ROWS_PER_BLOCK])
    return result


@contextmanager
def nothing_lost(estimator: BaseEstimator) -> Iterator[None]:
    """Put the estimator back as it was when a fit fails."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
