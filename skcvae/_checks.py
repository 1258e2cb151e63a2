"""The one room of checks: parameters and arrays, each with an error that says what was expected, what came and what to do.

scikit-learn's `check_scalar` lets NaN and booleans pass for numbers and its messages name no remedy, so that numbers are checked
here; arrays are checked by scikit-learn's `validate_data` and `check_array`.
"""

from __future__ import annotations

import datetime
import math
import numbers
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from skcvae import _processes
from skcvae._memory import as_floats, blocks, slices

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
#: Robust deviations from the median beyond which a value is told, and a standard normal's interquartile range.
FARTHEST, INTERQUARTILE_RANGE = 30.0, 1.349
#: Precisions in which inference runs.
DTYPES = (np.float64, np.float32)
#: Characters of a received value that a message shows.
LONGEST_VALUE = 100
#: Integers above this are not exact in double precision.
LARGEST_INTEGER = 2**53
#: Values up to this have squares whose sums are finite: over 2^16 columns in float32, over any number of rows in float64.
LARGEST_VALUE = {"float32": 2.0**52, "float64": 2.0**480}
#: Weights of a loss and temperatures are at most this.
LARGEST_WEIGHT = 1e12
#: Kinds of numpy's dtypes that are numbers: truth values, integers and floats.
NUMERIC = "biuf"
#: How the names of pandas' and polars' dtypes of categories begin.
CATEGORIES = ("categor", "enum")
ENCODE = "Give a data frame with likelihood='auto', encode text and categories as numbers (OneHotEncoder), or leave them out."
FILL = "Fill what is missing (SimpleImputer), or leave these rows out."
CLIP = "Clip it, or leave these rows out."
#: Names that parameters had in version 0.1, each with a parameter of its successor and what to write; for version 0.2 only.
FORMER_NAMES = {
    "batch_size": ("draws_per_step", "It is draws_per_step now: write draws_per_step={value}."),
    "tol": ("marginal_tol", "It is marginal_tol now: write marginal_tol={value}, or Schedule(marginal_tol={value}) for a fit's."),
    "batch_tol": ("batch_marginal_tol", "It is batch_marginal_tol now: write batch_marginal_tol={value}."),
    "posterior": ("encoder", "It is encoder now: write encoder={value}."),
    **dict.fromkeys(
        ("formulation", "strategy", "potential"),
        ("solver", "It is part of solver now: write solver='dual-network', or another of skcvae.transport.SOLVERS."),
    ),
    **{
        former: ("schedule", f"It is part of the schedule now: write CoupledVAE(schedule=Schedule({former}={{value}})).")
        for former in ("polish_rounds", "max_draws", "max_rows")
    },
}


def shown(value: object) -> str:
    """A received value on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a repr of the user's, or an integer of more digits than Python writes
        text = f"an object of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


_is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Let `warn` be silent in this thread: for fits that the user did not ask for."""
    token = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(token)


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called this package, by itself or through scikit-learn and joblib."""
    if _is_quiet.get():
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("skcvae", "sklearn", "joblib"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def choose(name: str, value: object, registry: dict[str, Any], base: type | None = None) -> Any:
    """The registry's entry for a name, or the value itself if it is an instance of `base`."""
    if base is not None and isinstance(value, base):
        return value
    if isinstance(value, str) and value in registry:
        return registry[value]
    # A class of this package is imported from its public room.
    rooms = [] if base is None else [part for part in base.__module__.split(".") if not part.startswith("_")]
    objects = "" if base is None else f" or an instance of {'.'.join([*rooms, base.__name__])}"
    error = ValueError if isinstance(value, str) else TypeError
    remedy = f" Give an object: {value.__name__}()." if isinstance(value, type) and base and issubclass(value, base) else ""
    raise error(f"{name} must be one of {', '.join(map(repr, registry))}{objects}, got {shown(value)}.{remedy}")


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
    expected, ending = f"{name} must be {_expected(value, kind, low, open_low, high, infinite)}", f". {remedy}" if remedy else "."
    if not isinstance(value, kind) or isinstance(value, (bool, np.timedelta64)):  # numpy's durations count as integers
        raise TypeError(f"{expected}, got {shown(value)} (type {type(value).__name__}){ending}")
    try:
        number = int(value) if kind is numbers.Integral else float(value)  # type: ignore[call-overload,arg-type]
    except OverflowError:
        number = np.nan
    is_allowed = low <= number <= high and not (open_low and number == low) and (abs(number) < np.inf or (infinite and number > 0))
    if not is_allowed:
        raise ValueError(f"{expected}, got {shown(value)}{ending}")
    if kind is numbers.Integral and abs(number) > LARGEST_INTEGER:
        raise ValueError(f"{name} must be an integer of at most 2^53, got {shown(value)}{ending}")
    return number


def _expected(value: object, kind: type, low: float, open_low: bool, high: float, infinite: bool) -> str:
    """What a number must be; bounds that are there for the sake of arithmetic are told where they are exceeded."""
    word = "an integer" if kind is numbers.Integral else "a number" if infinite else "a finite number"
    try:
        given = float(value) if isinstance(value, numbers.Real) else 0.0
    except OverflowError:  # an integer beyond all floats
        given = np.inf
    has_low = low > -LARGEST_WEIGHT or (given < low and low > -np.inf)
    has_high = high < LARGEST_WEIGHT or (given > high and high < np.inf)
    bounds = [f"{'above' if open_low else 'of at least'} {low:g}"] * has_low + [f"of at most {high:g}"] * has_high
    return " ".join([word, " and ".join(bounds)]).strip()


def check_flag(name: str, value: object) -> bool:
    """True or False; TypeError otherwise."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}.")
    return bool(value)


def check_integers(name: str, value: object, example: tuple[int, ...]) -> tuple[int, ...]:
    """A positive integer or a sequence of them, possibly empty, as a tuple; TypeError or ValueError otherwise."""
    values = (value,) if isinstance(value, numbers.Integral) else value
    if not isinstance(values, (tuple, list, np.ndarray)) or (isinstance(values, np.ndarray) and values.ndim == 0):
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
    with np.errstate(over="ignore"):
        total = values.sum()
    if not abs(total - 1) <= 1e-6:
        raise ValueError(f"{name} must sum to 1, got a sum of {total:.6g}. Divide them by their sum.")
    return values / total


def _as_numbers(name: str, value: object) -> Array:
    """A float64 array; TypeError or ValueError where the value is none."""
    _refuse_other_than_numbers(name, value)
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be an array of numbers, got {shown(value)}: {error}. Give finite numbers.") from error


def check_X(
    estimator: BaseEstimator, X: ArrayLike, *, fitting: bool = False, training: bool = False, allow_missing: bool = False
) -> NDArray:
    """A finite 2-dimensional array of numbers with the fitted number of features; TypeError or ValueError otherwise.

    Missing cells, if they are allowed, are NaN in the result.

    An array of numbers is returned as it is, of any dtype and order and never copied: `_memory.blocks` converts its rows. Anything
    else becomes float64, or float32 where it is that. The first fit sets the number of features; training on X, as all fits do,
    needs two rows.
    """
    if allow_missing:
        X = _with_nan(X)
    with _names_first(estimator, X, fitting):
        _refuse_other_than_numbers("X", X, allow_missing)
    is_array = isinstance(X, np.ndarray) and X.dtype.kind in NUMERIC
    least = fewest_rows(fitting or training)
    with _conversion("X"):
        rows: NDArray = validate_data(
            estimator,
            X,
            reset=fitting,
            dtype=None if is_array else DTYPES,
            ensure_all_finite=False,
            ensure_min_samples=least,
        )
    _check_size("X", _largest_value("X", rows, _column_names(X), allow_missing), np.float64)
    return rows


def fewest_rows(training: bool) -> int:
    """Rows that X must have: two where it is fitted, and of several processes one may have none."""
    return 1 if not training else 0 if _processes.is_entered() else 2


def check_table(
    estimator: BaseEstimator, X: Any, encoded: Callable[[Any], Array], *, fitting: bool = False, training: bool = False
) -> Array:
    """Rows (n, d') of numbers that stand for a frame X, which has the columns of the fit; NaN where a cell is missing."""
    if is_frame(X) or fitting:
        validate_data(estimator, X, reset=fitting, skip_check_array=True)
    rows = encoded(X)
    least = fewest_rows(fitting or training)
    if len(rows) < least:
        raise ValueError(f"X must have at least {least} rows, got {len(rows)}. Give more rows.")
    _check_size("X", _largest_value("X", rows, None, allow_missing=True), np.float64)
    return rows


def _with_nan(X: Any) -> Any:
    """X with NaN for masked entries and for pandas' NA among objects, which numpy does not take for a number."""
    if isinstance(X, np.ma.MaskedArray) and X.dtype.kind in NUMERIC:
        return np.ma.filled(X.astype(np.float64), np.nan)
    if isinstance(X, np.ndarray) and X.dtype.kind == "O":
        return np.frompyfunc(lambda entry: np.nan if type(entry).__name__ == "NAType" else entry, 1, 1)(X)
    if hasattr(X, "notna") and hasattr(X, "columns") and any(dtype.kind == "O" for dtype in X.dtypes):
        return X.where(X.notna(), np.nan)
    return X


def check_columns(name: str, value: Any, n_features: int, names: Iterable[str] | None) -> NDArray[np.bool_]:
    """Which of the columns are meant by names, places or d bools, (n_features,); some are, or a TypeError or ValueError."""
    entries = np.atleast_1d(np.asarray(value)).ravel().tolist()
    known = [] if names is None else list(names)
    chosen = np.zeros(n_features, bool)
    if len(entries) == n_features and all(isinstance(entry, bool) for entry in entries):
        chosen[:] = entries
    else:
        for entry in entries:
            place = known.index(entry) if isinstance(entry, str) and entry in known else entry
            if isinstance(place, bool) or not isinstance(place, int) or not -n_features <= place < n_features:
                have = f"places from 0 to {n_features - 1}" if not known else f"names of the fit, {', '.join(map(repr, known))}"
                raise ValueError(f"{name} must be columns of X, got {shown(entry)}. Give {have}.")
            chosen[place] = True
    if not chosen.any():
        raise ValueError(f"{name} must have at least one column, got {shown(value)}. Give names or places of columns.")
    return chosen


def check_condition(value: Any, n: int) -> NDArray[np.bool_]:
    """Whether a condition holds for each of n rows, (n,); TypeError or ValueError where that is not said."""
    holds = np.asarray(value)
    if holds.shape != (n,) or holds.dtype != bool:
        raise ValueError(
            f"condition must say True or False of each of {n} rows, got {holds.dtype} of shape {holds.shape}. Compare a column of "
            "rows with a value."
        )
    return holds


def check_rows(name: str, value: ArrayLike, dtype: Any = DTYPES) -> NDArray:
    """A finite 2-dimensional array of a dtype; TypeError or ValueError otherwise."""
    _refuse_other_than_numbers(name, value)
    with _conversion(name):
        rows: NDArray = check_array(value, dtype=dtype, input_name=name, ensure_all_finite=False)
    _largest_value(name, rows, _column_names(value))
    return rows


def check_latent(Z: ArrayLike, n_components: int) -> NDArray:
    """A finite array of latent points with `n_components` columns."""
    points = check_rows("Z", Z)
    if points.shape[1] != n_components:
        raise ValueError(f"Z must have n_components={n_components} columns, got {points.shape[1]}. Give what transform returns.")
    check_representable("Z", points, points.dtype)
    return points


def check_representable(name: str, x: NDArray | Tensor, dtype: Any, scale: float = 1.0) -> None:
    """ValueError where the squares of x / scale may overflow in a precision.

    Parameters
    ----------
    name : str, what the user gave
    x : array or Tensor, in the units in which it is computed with
    dtype : numpy's or torch's float32 or float64, in which it is computed with
    scale : float, the smallest noise scale that x is divided by
    """
    _check_size(name, _largest(x) / scale, dtype)


def _check_size(name: str, largest: float, dtype: Any) -> None:
    """ValueError unless values of this size have finite squares, with room for their sum over rows and columns."""
    precision = str(dtype).removeprefix("torch.") if "torch" in str(dtype) else np.dtype(dtype).name
    if not largest <= LARGEST_VALUE[precision]:
        remedy = f"Rescale {name}, or give float64." if precision == "float32" else f"Rescale {name}."
        raise ValueError(f"{name} has values up to {largest:.3g}, whose squares overflow. {remedy}")


def _largest(x: NDArray | Tensor) -> float:
    """The largest absolute value; NaN or infinity where there is one."""
    return max(float(x.max()), -float(x.min()))


def _largest_value(name: str, rows: NDArray, columns: list[Any] | None, allow_missing: bool = False) -> float:
    """The largest absolute value of finite rows, which are read block by block; ValueError where one is not finite."""
    largest = 0.0
    for place in slices(*rows.shape):
        block = as_floats(rows[place])
        size = _largest(block)
        if allow_missing and math.isnan(size):
            block = np.nan_to_num(block, nan=0.0, posinf=np.inf, neginf=-np.inf)
            size = _largest(block)
        if not math.isfinite(size):
            row, column = map(int, np.argwhere(~np.isfinite(block))[0])
            is_missing = np.isnan(block[row, column])
            raise ValueError(
                f"{name} must be finite, got {'NaN' if is_missing else 'infinity'}"
                f"{_placed((place.start + row, column), columns)}. {FILL if is_missing else CLIP}"
            )
        largest = max(largest, size)
    return largest


@contextmanager
def _names_first(estimator: BaseEstimator, X: object, fitting: bool) -> Iterator[None]:
    """Where a table has other columns than the fitted one, say this and not what else is wrong with it."""
    try:
        yield
    except (TypeError, ValueError):
        if not fitting and _column_names(X) is not None:
            validate_data(estimator, X, reset=False, skip_check_array=True)
        raise


@contextmanager
def _conversion(name: str) -> Iterator[None]:
    """A ValueError where an integer is too large for a float."""
    try:
        with np.errstate(over="ignore"):
            yield
    except OverflowError as error:
        raise ValueError(f"{name} must be finite numbers, got one above 1e308: {error}. Rescale {name}.") from error


def is_frame(value: Any) -> bool:
    """Whether it is a data frame of pandas or polars."""
    return (hasattr(value, "iloc") and hasattr(value, "columns")) or hasattr(value, "get_column")


def _column_names(value: Any) -> list[Any] | None:
    """Names of the columns of a pandas or polars data frame, or None."""
    return list(value.columns) if is_frame(value) else None


def _refuse_other_than_numbers(name: str, value: Any, allow_missing: bool = False) -> None:
    """TypeError or ValueError where there are dates, durations, text, categories, missing or masked entries among the numbers.

    numpy would take dates and durations for integers, None for NaN, and a masked entry for what its mask hides.
    """
    if value is None:
        raise TypeError(f"{name} must be an array of numbers of shape (rows, columns), got None. Give the data.")
    if scipy.sparse.issparse(value):
        return  # scikit-learn says more
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        if mask.any():
            place = tuple(map(int, np.unravel_index(mask.argmax(), mask.shape)))
            raise ValueError(
                f"{name} must have a number in every entry, got {mask.sum()} masked, the first{_placed(place)}. {FILL}"
            )
    names = _column_names(value)
    if names is None:
        _refuse_in_array(name, value, None, allow_missing)
        return
    for i, label in enumerate(names):
        column = value.iloc[:, i] if hasattr(value, "iloc") else value.get_column(label)
        if str(column.dtype).lower().startswith(CATEGORIES):
            raise ValueError(f"{name} must be an array of numbers, got categories in column {label!r}. {ENCODE}")
        _refuse_in_array(name, column, label, allow_missing)


def _refuse_in_array(name: str, value: Any, label: Any, allow_missing: bool) -> None:
    """Refuse what is no number in an array, or in one column of a data frame, which has a label."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return  # scikit-learn says more
    except RuntimeError as error:  # torch, where a tensor needs its gradient
        raise TypeError(f"{name} must be an array of numbers, got what numpy cannot read: {error}") from error
    if array.dtype.kind in NUMERIC or array.size == 0:
        return
    if array.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} must be real, got dtype {array.dtype}. Give the real part, for example."
        )
    if array.dtype.names is not None:
        raise ValueError(
            f"{name} must be an array of numbers, got records with the fields {', '.join(array.dtype.names)}. Give "
            "numpy.lib.recfunctions.structured_to_unstructured of it."
        )
    for place, entry in np.ndenumerate(array):
        if (told := _what_is_wrong(entry, allow_missing)) is not None:
            kind, remedy = told
            where = _placed(place) if label is None else f" in row {place[0]} of column {label!r}"
            raise kind(f"{name} must be an array of numbers, got {shown(entry)}{where}. {remedy}")


def _what_is_wrong(entry: Any, allow_missing: bool) -> tuple[type[Exception], str] | None:
    """The error and the remedy for an entry that is no number, or None."""
    if isinstance(entry, (datetime.timedelta, np.timedelta64)):
        return ValueError, "Divide durations by a unit of time, such as np.timedelta64(1, 's')."
    kind = type(entry).__name__
    if entry is None or kind in ("NAType", "NaTType"):
        return None if allow_missing and kind != "NaTType" else (ValueError, FILL)
    if isinstance(entry, (datetime.date, datetime.time, np.datetime64)) or kind == "Period":
        return ValueError, "Give dates as numbers, such as days since one of them, or leave them out."
    try:
        float(entry)
    except TypeError as error:
        return TypeError, f"It cannot be converted: {error}."
    except ValueError:
        return ValueError, ENCODE
    except OverflowError:
        return None  # found where it is converted
    return None


def _placed(place: tuple[int, ...], columns: list[Any] | None = None) -> str:
    """Where an entry is."""
    if len(place) == 2:
        return f" in row {place[0]} of column {place[1] if columns is None else repr(columns[place[1]])}"
    return f" at position {place[0]}" if len(place) == 1 else ""


def check_sample_weight(sample_weight: object, n: int, of_all: bool = True) -> Array:
    """How many rows each of n rows counts as, (n,) with a whole sum; TypeError or ValueError where weights are none.

    Weights whose sum is below the number of positive ones are scaled to it, as a row would count as less than one. Those of some
    rows alone (`of_all=False`) stay as they are.
    """
    weights = _as_numbers("sample_weight", sample_weight)
    if weights.shape != (n,):
        raise ValueError(
            f"sample_weight must have one number for each of the {n} rows of X, shape ({n},), got shape {weights.shape}. Give "
            "np.ones(len(X)) where all count alike."
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        place = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise ValueError(
            f"sample_weight must be finite and not negative, got {weights[place]:g} at position {place}. Mend it, or give 0 to "
            "leave a row out."
        )
    if not of_all:
        return weights
    n_used = int(np.count_nonzero(weights))
    if n_used < 2:
        raise ValueError(
            f"sample_weight is zero but for {n_used} of {n} rows, and a fit needs two. Give more of them a positive weight."
        )
    largest = weights.max()
    if largest <= 1 and weights[weights > 0].min() == largest:
        return (weights > 0).astype(np.float64)
    weights = weights if 1 <= largest <= LARGEST_INTEGER / n else weights / largest
    total = weights.sum()
    return weights * (max(n_used, round(total)) / total)


def check_varying(X: NDArray) -> None:
    """ValueError unless X varies by more than the rounding of its own values."""
    nothing, deviation = np.zeros(X.shape[1]), 0.0
    size = float(_processes.reduced(max(map(_largest, blocks(X)), default=0.0), "max"))
    if size > 0:  # without a copy of X, and in units of its size, so that no square overflows
        mean = _processes.reduced(sum((block.sum(0, dtype=np.float64) for block in blocks(X)), nothing)) / len(X)
        total = _processes.reduced(sum((np.square((block - mean) / size).sum(0) for block in blocks(X)), nothing))
        deviation = size * float(np.sqrt(total / len(X)).max())
    if deviation <= 1e-13 * size or deviation**2 < np.finfo(np.float64).tiny:
        raise ValueError(
            f"X has zero variance: its largest standard deviation is {deviation:.3g} at values up to {size:.3g}. "
            "Give data that vary, or rescale X."
        )


def has_missing(X: NDArray) -> bool:
    """Whether a cell of rows (n, d) is missing."""
    return X.dtype.kind == "f" and _processes.is_any(any(bool(np.isnan(block).any()) for block in blocks(X)))


def check_observed(X: NDArray, names: Iterable[str] | None) -> None:
    """ValueError where a column has no observed cell, which a fit could say nothing of."""
    is_empty = np.ones(X.shape[1], bool)
    for block in blocks(X):
        is_empty &= np.isnan(block).all(0)
    if is_empty.any():
        column = int(is_empty.argmax())
        name = column if names is None else repr(list(names)[column])
        raise ValueError(f"Column {name} of X has no observed cell. Leave it out, or give rows in which it is known.")


def warn_where_far(X: NDArray, X_val: NDArray, names: Iterable[str] | None) -> None:
    """Warn of the first column of validation rows whose median is outside the range of X: most likely in other units."""
    infinity = np.full(X.shape[1], np.inf)
    low = _processes.reduced(np.min([infinity, *(block.min(0) for block in blocks(X))], axis=0), "min")
    high = _processes.reduced(np.max([-infinity, *(block.max(0) for block in blocks(X))], axis=0), "max")
    median = np.median(as_floats(X_val), axis=0)
    far = np.flatnonzero((median < low) | (median > high))
    if len(far):
        column = far[0]
        name = column if names is None else repr(list(names)[column])
        warn(
            f"The median of X_val is {median[column]:.3g} in column {name}, and X is from {low[column]:.3g} to "
            f"{high[column]:.3g} there. Give X_val in X's units: a pipeline transforms it only with transform_input=['X_val'].",
        )


def warn_where_outlying(y: NDArray, X: NDArray, names: Iterable[str] | None) -> None:
    """Warn of the column with the value that is farthest off, in robust deviations of what the noise sees of it.

    Parameters
    ----------
    y : array of shape (n, d), the columns as the likelihood has transformed them
    X : array of shape (n, d), as they came
    names : names of the columns, or None
    """
    low, middle, high = np.quantile(y, [0.25, 0.5, 0.75], axis=0)
    deviation = np.where(high > low, (high - low) / INTERQUARTILE_RANGE, np.inf)
    distance = np.abs(y - middle) / deviation
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    if distance[row, column] > FARTHEST:
        name = column if names is None else repr(list(names)[column])
        warn(
            f"Column {name} has a value, {X[row, column]:.4g}, that is {distance[row, column]:.0f} robust deviations from the "
            "median. Noise, scores and samples may follow it. Remove it where it is an error; clip or transform the column where "
            "it is none."
        )


def refuse_former_names(model: str, names: Iterable[str], given: Mapping[str, Any]) -> None:
    """Raise a TypeError that says the present name of a parameter that is given by a former one."""
    for former, (present, remedy) in FORMER_NAMES.items():
        if former in given and present in names:
            raise TypeError(f"{model} has no parameter {former} any more. {remedy.format(value=shown(given[former]))}")
