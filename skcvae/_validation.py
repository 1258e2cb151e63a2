"""The only boundary: arrays to tensors and back, precision, device, seeds and parameter checks."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import math
import numbers
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from skcvae._data import slices

#: Precisions in which inference runs.
DTYPES = (np.float64, np.float32)
#: Where an object's representation says at which address it is.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
#: Characters of a received value that a message shows.
LONGEST_VALUE = 100
#: A weight this near to 0 is 0.
ROUNDING = 1e-12
#: What inference of a coupled model weighs.
PROPOSALS = ("prior", "encoder")
#: Units of memory, each 1024 of the one before.
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def check_X(estimator: BaseEstimator, X: ArrayLike, *, fitting: bool = False, training: bool = False) -> NDArray:
    """A finite 2-dimensional array of float64 or float32 with the fitted number of features; TypeError or ValueError otherwise.

    The first fit sets the number of features; training on X, as all fits do, needs two rows.
    """
    with _reading("X", X):
        least = 2 if fitting or training else 1
        return validate_data(estimator, X, reset=fitting, dtype=DTYPES, order="C", ensure_min_samples=least)


def check_rows(name: str, value: ArrayLike, dtype: Any = DTYPES) -> NDArray:
    """A finite 2-dimensional array; TypeError or ValueError otherwise."""
    with _reading(name, value):
        rows: NDArray = check_array(value, dtype=dtype, input_name=name)
        return rows


@contextmanager
def _reading(name: str, value: object) -> Iterator[None]:
    """Say more than scikit-learn does where None, complex numbers, text or dates are given for rows."""
    if value is None:
        raise TypeError(f"{name} must be an array of shape (rows, columns), got None. Give the data.")
    if isinstance(value, np.ndarray) and np.iscomplexobj(value):
        raise ValueError(
            f"Complex data not supported: {name} must be real, got dtype {value.dtype}. Give {name}.real, for example."
        )
    try:
        yield
    except (TypeError, ValueError) as error:
        if str(error).startswith("The feature names") or (found := _first_text(value)) is None:
            raise
        raise ValueError(
            f"{name} must be an array of numbers, got {found}. Encode text and dates as numbers (OneHotEncoder), or leave them out."
        ) from error


def _first_text(value: object) -> str | None:
    """The first entry that is text or a date, and where it is."""
    try:
        entries = np.asarray(value, dtype=object)
    except (TypeError, ValueError):
        return None
    for place, entry in np.ndenumerate(entries):
        if isinstance(entry, (str, datetime.date)) and not _is_written_number(entry):
            return f"{shown(entry)}{_placed(place, getattr(value, 'columns', None))}"
    return None


def _placed(place: tuple[int, ...], names: Any) -> str:
    if len(place) != 2:
        return ""
    return f" in row {place[0]} of column {place[1] if names is None else repr(names[place[1]])}"


def _is_written_number(entry: object) -> bool:
    try:
        float(entry)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def check_latent(Z: ArrayLike, n_components: int) -> NDArray:
    """A finite array of latent points with `n_components` columns."""
    points = check_rows("Z", Z)
    if points.shape[1] != n_components:
        raise ValueError(f"Z must have n_components={n_components} columns, got {points.shape[1]}. Give what transform returns.")
    return points


def check_batch(batch_size: int, fewest: int) -> None:
    """Raise where a batch is smaller than batch normalisation needs."""
    check_number("batch_size with batch normalisation", batch_size, numbers.Integral, fewest)


def check_varying(X: NDArray) -> None:
    """ValueError unless X varies by more than the rounding of its own values."""
    with np.errstate(over="ignore", invalid="ignore"):
        deviation, size = _deviations(X).max(), max(float(X.max()), -float(X.min()))
    if not np.isfinite(deviation**2):
        raise ValueError(f"X has values up to {size:.3g}, whose squares overflow. Rescale X.")
    if deviation <= 1e-13 * size or deviation**2 < np.finfo(np.float64).tiny:
        raise ValueError(
            f"X has zero variance: its largest standard deviation is {deviation:.3g} at values up to {size:.3g}. "
            "Give data that vary, or rescale X."
        )


def _deviations(X: NDArray) -> NDArray[np.float64]:
    """Standard deviations of the columns, without a copy of X."""
    mean = X.mean(0, dtype=np.float64)
    total = sum(np.square(block - mean).sum(0) for block in blocks(X))
    deviations: NDArray[np.float64] = np.sqrt(total / len(X))
    return deviations


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
    expected = f"{name} must be {' '.join([word, ' and '.join(bounds)]).strip()}, got {shown(value)}"
    if not isinstance(value, kind) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{expected} (type {type(value).__name__}).")
    number = float(value)  # type: ignore[arg-type]
    if not (np.isfinite(number) or (infinite and number > 0)) or not low <= number <= high or (open_low and number == low):
        raise ValueError(f"{expected}.")


def infovae_weights(alpha: Any, lambd: Any, infinite: bool = False) -> tuple[float, float]:
    """The weights 1 - alpha and alpha + lambd - 1 of an InfoVAE; ValueError where one is negative by more than rounding."""
    check_number("alpha", alpha, numbers.Real, -np.inf, high=1)
    check_number("lambd", lambd, numbers.Real, -np.inf, infinite=infinite)
    excess = alpha + lambd - 1.0
    if excess < -ROUNDING:
        raise ValueError(
            f"alpha + lambd must be at least 1, got {alpha:g} + {lambd:g}: their sum less 1 weighs the divergence of the aggregate "
            "posterior. Raise lambd."
        )
    return 1.0 - alpha, excess if excess > ROUNDING else 0.0


def check_proposal(proposal: Any, prior: Any) -> None:
    """Raise unless a proposal is known and the prior has the density that it needs."""
    choose("proposal", proposal, dict.fromkeys(PROPOSALS))
    if proposal == "encoder" and prior.distribution() is None:
        raise ValueError(
            f"proposal='encoder' weighs draws against the prior's density, and {type(prior).__name__} has none. Use "
            "proposal='prior', or give the prior as a torch distribution."
        )


def check_solver(solver: Any) -> None:
    """Raise unless the schedule of a `skcvae.transport.Solver` is of numbers that a fit can follow."""
    for name, low in (("max_iter", 1), ("batch_max_iter", 1), ("polish_rounds", 0), ("max_draws", 1), ("max_rows", 1)):
        check_number(f"{name} of formulation", getattr(solver, name), numbers.Integral, low)
    for name in ("tol", "batch_tol"):
        check_number(f"{name} of formulation", getattr(solver, name), numbers.Real, 0)


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
    with np.printoptions(threshold=sys.maxsize):
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
    objects = f" or an instance of {_public(base)}" if base is not None else ""
    error = ValueError if isinstance(value, str) else TypeError
    remedy = f" Give an object: {value.__name__}()." if isinstance(value, type) and base and issubclass(value, base) else ""
    raise error(f"{name} must be one of {', '.join(map(repr, registry))}{objects}, got {shown(value)}.{remedy}")


def _public(kind: type) -> str:
    """The name by which a class of this package is imported."""
    rooms = [part for part in kind.__module__.split(".") if not part.startswith("_")]
    return ".".join([*rooms, kind.__name__])


def shown(value: object) -> str:
    """A received value on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def make_rng(random_state: object, stream: int = 0) -> np.random.Generator:
    """The one seeding point. None draws fresh entropy from the operating system, never from a global generator.

    Streams of one random state are independent.
    """
    rng = _made_rng(random_state)
    return rng if stream == 0 else np.random.default_rng([int(rng.integers(2**63)), stream])


def _made_rng(random_state: object) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**32, size=4, dtype=np.uint32))
    try:
        return np.random.default_rng(random_state)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(
            f"random_state must be None, a non-negative integer, a numpy RandomState or Generator, got {shown(random_state)}."
        ) from None


def make_torch_generator(rng: np.random.Generator) -> torch.Generator:
    """A torch generator on the CPU seeded from a numpy one."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def make_device(device: object) -> torch.device:
    """The torch device; "auto" is a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.zeros(1, device=device)  # type: ignore[call-overload]
        found.item()  # which a meta tensor cannot give
        return found.device
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"device must be 'auto' or a device that torch finds here ({', '.join(map(repr, _devices()))}), got {shown(device)}. "
            "Use device='auto', or install a torch and a driver that see the device."
        ) from error


def _devices() -> list[str]:
    """Names of the devices that are present."""
    metal = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *metal]


def check_room(what: str, shape: tuple[Any, ...], remedy: str, dtype: Any = np.float64) -> None:
    """MemoryError unless the system grants an array of this shape, which nothing is written to."""
    sizes = tuple(map(int, shape))
    try:
        np.empty(sizes, dtype)
    except (MemoryError, ValueError):
        size = _memory(np.dtype(dtype).itemsize * math.prod(sizes))
        raise MemoryError(
            f"{what} needs an array of shape {sizes}, {size}, for which this machine has no memory. {remedy}"
        ) from None


def _memory(n_bytes: int) -> str:
    power = min((n_bytes.bit_length() - 1) // 10, len(UNITS) - 1)
    return f"{n_bytes / 2 ** (10 * power):.4g} {UNITS[power]}"


def draws_rng(n_samples: object, random_state: object, shape: tuple[Any, ...], dtype: Any = np.float64) -> np.random.Generator:
    """The generator of draws that are asked for, in an array of `shape`, once their number and its size are checked."""
    check_number("n_samples", n_samples, numbers.Integral, 1)
    rng = make_rng(random_state)
    check_room(f"n_samples={n_samples}", shape, "Ask for fewer at a time.", dtype)
    return rng


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Say what to do where numpy or torch cannot allocate, on the CPU or on a GPU."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if "allocate" not in str(error):
            raise
        raise MemoryError(f"There is not enough memory: {str(error).rstrip('.')}. {remedy}") from error


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


@contextmanager
def nothing_lost(estimator: BaseEstimator) -> Iterator[None]:
    """Put the estimator back as it was when a fit fails; for want of memory, say what to lower."""
    before = dict(vars(estimator))
    try:
        with enough_memory("Lower batch_size, pool_size, hidden_layer_sizes or n_components. Nothing was changed by this fit."):
            yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
