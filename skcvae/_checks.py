"""The one room of checks: parameters and arrays, each with an error that says what was expected, what came and what to do.

scikit-learn's `check_scalar` lets NaN and booleans pass for numbers and its messages name no remedy, so that numbers are checked
here; arrays are checked by scikit-learn's `validate_data` and `check_array`.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from skcvae._memory import blocks

Array = NDArray[np.float64]
#: Precisions in which inference runs.
DTYPES = (np.float64, np.float32)
#: Characters of a received value that a message shows.
LONGEST_VALUE = 100
#: Integers above this are not exact in double precision.
LARGEST_INTEGER = 2**53


def shown(value: object) -> str:
    """A received value on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


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


def check_number(
    name: str,
    value: object,
    kind: type,
    low: float,
    *,
    open_low: bool = False,
    high: float = np.inf,
    infinite: bool = False,
    remedy: str = "",
) -> Any:
    """A parameter as Python's int or float; TypeError or ValueError unless it is a number of its kind within its bounds.

    Parameters
    ----------
    name : str
    value : object, what the user gave
    kind : numbers.Integral or numbers.Real
    low, high : float, bounds that are allowed
    open_low : bool, whether `low` itself is not allowed
    infinite : bool, whether positive infinity is allowed
    remedy : str, a sentence for the end of the message
    """
    word = "an integer" if kind is numbers.Integral else "a number" if infinite else "a finite number"
    bounds = [f"{'above' if open_low else 'of at least'} {low:g}"] * (low > -np.inf) + [f"of at most {high:g}"] * (high < np.inf)
    expected = f"{name} must be {' '.join([word, ' and '.join(bounds)]).strip()}, got {shown(value)}"
    ending = f". {remedy}" if remedy else "."
    if not isinstance(value, kind) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{expected} (type {type(value).__name__}){ending}")
    try:
        number = int(value) if kind is numbers.Integral else float(value)  # type: ignore[call-overload,arg-type]
    except OverflowError:
        raise ValueError(f"{expected}{ending}") from None
    if not (abs(number) < np.inf or (infinite and number > 0)) or not low <= number <= high or (open_low and number == low):
        raise ValueError(f"{expected}{ending}")
    if kind is numbers.Integral and number > LARGEST_INTEGER:
        raise ValueError(f"{name} must be an integer of at most 2^53, got {shown(value)}{ending}")
    return number


def check_flag(name: str, value: object) -> bool:
    """True or False; TypeError otherwise."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}.")
    return bool(value)


def check_integers(name: str, value: object, example: tuple[int, ...]) -> tuple[int, ...]:
    """A positive integer or a sequence of them, possibly empty, as a tuple; TypeError or ValueError otherwise."""
    values = (value,) if isinstance(value, numbers.Integral) else value
    if not isinstance(values, (tuple, list, np.ndarray)):
        raise TypeError(f"{name} must be a sequence of integers such as {example}, got {shown(value)}.")
    return tuple(check_number(f"each of {name}", number, numbers.Integral, 1) for number in values)


def check_finite(name: str, value: object, n_dimensions: int) -> Array:
    """A finite real float64 array of a given number of dimensions; TypeError or ValueError otherwise."""
    array = _as_numbers(name, value)
    if array.ndim != n_dimensions or not np.isfinite(array).all():
        problem = f"shape {array.shape}. Reshape it" if array.ndim != n_dimensions else "NaN or infinity. Remove what is not finite"
        raise ValueError(f"{name} must be a finite array with ndim={n_dimensions}, got {problem}.")
    return array


def check_probabilities(name: str, weights: object, expected: int | None = None) -> Array:
    """Numbers that are finite, not negative and sum to 1, as float64; TypeError or ValueError otherwise."""
    values = _as_numbers(name, weights)
    if values.ndim != 1 or len(values) < 2 or (expected is not None and len(values) != expected):
        raise ValueError(
            f"{name} must be {expected or 'at least two'} numbers, got an array of shape {values.shape}. Equal ones are "
            "np.full(n, 1 / n)."
        )
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{name} must be finite and not negative, got {values}. Remove or mend the bad ones.")
    if abs(values.sum() - 1) > 1e-6:
        raise ValueError(f"{name} must sum to 1, got a sum of {values.sum():.6g}. Divide them by their sum.")
    return values / values.sum()


def _as_numbers(name: str, value: object) -> Array:
    if np.iscomplexobj(value):  # type: ignore[arg-type]
        raise ValueError(f"{name} must be real, got complex numbers. Give their real part.")
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be an array of numbers, got {shown(value)}: {error}. Give finite numbers.") from error


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
