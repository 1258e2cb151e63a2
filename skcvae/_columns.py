"""Columns of a data frame: what they hold, as numbers for a model, and back as a frame of the same kind."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from skcvae._checks import is_frame, shown, warn
from skcvae.likelihoods import (
    MOST_CATEGORIES,
    CategoricalLikelihood,
    GaussianLikelihood,
    Likelihood,
    MixedLikelihood,
    PoissonLikelihood,
)

Array = NDArray[np.float64]
#: What a column may be.
KINDS = ("gaussian", "categorical", "poisson", "hurdle")
#: Kinds of frames.
BACKENDS = ("pandas", "polars")
#: Numbers of at most so many values, each of which many rows have, are taken for codes.
MOST_CODES = 12
#: A value of numbers that this share of the rows has, and so many times as many as the next, has a mass of its own.
ATOM_SHARE, ATOM_LEAD = 0.1, 3.0
#: Categories of a column that are told.
MANY_CATEGORIES = 100
#: Rows in which a text that is another one in each is told.
FEWEST_TOLD = 20
#: Categories that a line shows.
MOST_SHOWN = 4
MICROSECONDS = 1e6
#: Decimals of numbers that are multiples of a step, at most; what their rounding is, over the largest; the largest that are exact.
MOST_DECIMALS, ROUNDING, LARGEST_INTEGER = 6, 1e-12, 2.0**53
#: Steps of a number with decimals from the smallest to the largest value, at most: more are no rounding.
MOST_STEPS = 1e5


@dataclass(frozen=True)
class Column:
    """What one column holds.

    Attributes
    ----------
    name : str
    kind : {"gaussian", "categorical", "poisson", "hurdle"}
        A "hurdle" is one value with a mass of its own, and numbers elsewhere.
    dtype : str, of the frame
    categories : tuple, in order; empty for numbers
    is_ordered : bool, whether pandas holds them as ordered
    step : float or None, of which all numbers were multiples, as those from the frame are then
    atom : float or None, the value with a mass of its own
    time_zone : str or None, of dates
    note : str, for the eye
    """

    name: str
    kind: str
    dtype: str
    categories: tuple[Any, ...] = ()
    is_ordered: bool = False
    step: float | None = None
    atom: float | None = None
    time_zone: str | None = None
    note: str = ""

    @property
    def width(self) -> int:
        """Columns of numbers that stand for it: a hurdle has a code and a number."""
        return 2 if self.kind == "hurdle" else 1

    @property
    def is_temporal(self) -> bool:
        """Whether it holds dates or durations."""
        return self.dtype.lower().startswith(("date", "duration", "timedelta"))

    def encoded(self, values: Any, unknown: str) -> Array:
        """Numbers (n, width) for the values of a column; NaN where a cell is missing, and for the number beside an atom."""
        if self.kind == "categorical":
            return self._codes(values, unknown)[:, None]
        numbers = _numbers(self.name, values)
        if self.kind == "hurdle":
            is_atom = numbers == self.atom
            code = np.where(np.isnan(numbers), np.nan, (~is_atom).astype(np.float64))
            return np.column_stack([code, np.where(is_atom, np.nan, numbers)])
        return numbers[:, None]

    def decoded(self, rows: Array) -> Array | list[Any]:
        """Values of a column for numbers (n, width)."""
        if self.kind == "categorical":
            return [self.categories[int(code)] for code in rows[:, 0]]
        numbers = rows[:, -1]
        if self.kind == "hurdle":
            numbers = np.where(rows[:, 0] < 0.5, np.float64(self.atom or 0.0), numbers)
        return numbers if self.step is None else np.round(np.rint(numbers / self.step) * self.step, MOST_DECIMALS)

    def _codes(self, values: Any, unknown: str) -> Array:
        places = {category: float(place) for place, category in enumerate(self.categories)}
        found = np.full(len(values), np.nan)
        for row, value in enumerate(entries_of(values)):
            if value is None:
                continue
            try:
                code = places.get(value)
            except TypeError:  # what has no hash is no category
                code = None
            if code is not None:
                found[row] = code
            elif unknown == "error":
                known = f"{len(self.categories)} categories ({_first_of(self.categories)})"
                raise ValueError(
                    f"Column {self.name!r} must have one of its {known}, got {shown(value)} in row {row}. Leave the cell empty, or "
                    "fit with likelihood=AutoLikelihood(unknown='missing')."
                )
        return found


@dataclass(frozen=True)
class Columns:
    """All columns of the frame that a model was fitted to.

    Attributes
    ----------
    columns : tuple of d Column
    backend : {"pandas", "polars"}
    unknown : {"error", "missing"}, what a category that the fit had not is

    Examples
    --------
    >>> import pandas as pd
    >>> from skcvae._columns import Columns
    >>> frame = pd.DataFrame({"age": [31.5, 22.0, 45.1], "sex": ["f", "m", "f"]})
    >>> found = Columns.of(frame)
    >>> found
    age  gaussian     float64  multiples of 0.1
    sex  categorical  str      2 categories: 'f', 'm'
    >>> found.encoded(frame).tolist()
    [[31.5, 0.0], [22.0, 1.0], [45.1, 0.0]]
    """

    columns: tuple[Column, ...]
    backend: str
    unknown: str = "error"

    @classmethod
    def of(cls, X: Any, kinds: Mapping[str, str] | None = None, unknown: str = "error") -> Columns:
        """What the types and values of a frame say, but for columns whose kind is given."""
        frame = nw.from_native(X, eager_only=True)
        given = {} if kinds is None else dict(kinds)
        for name, kind in given.items():
            if name not in frame.columns:
                raise ValueError(f"likelihood names column {name!r}, which X has not. Its columns are {_listed(frame.columns)}.")
            if kind not in KINDS:
                raise ValueError(f"The likelihood of column {name!r} must be one of {_listed(KINDS)}, got {shown(kind)}.")
        found = tuple(_column(name, frame[name], given.get(name)) for name in frame.columns)
        return cls(found, frame.implementation.value, unknown)

    @classmethod
    def plain(cls, X: Any) -> Columns:
        """Numbers alone, for a likelihood that is told."""
        frame = nw.from_native(X, eager_only=True)
        is_pandas, columns = frame.implementation.is_pandas(), []
        for name in frame.columns:
            dtype = _type_of(frame[name])
            is_float = "float" in dtype.lower()
            columns.append(Column(name, "gaussian", dtype if is_float else "float64" if is_pandas else "Float64"))
        return cls(tuple(columns), frame.implementation.value)

    @property
    def is_plain(self) -> bool:
        """Whether all are numbers as they come."""
        return all(column.kind == "gaussian" and not column.is_temporal for column in self.columns)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    @property
    def first(self) -> NDArray[np.intp]:
        """The first column of numbers of each column, (d,)."""
        return np.cumsum([0, *(column.width for column in self.columns[:-1])])

    @property
    def places(self) -> NDArray[np.intp]:
        """For each column of numbers which column it stands for, (d',)."""
        return np.repeat(np.arange(len(self.columns)), [column.width for column in self.columns])

    def likelihood(self) -> MixedLikelihood:
        """The likelihood of the columns of numbers."""
        parts: list[tuple[Likelihood, tuple[int, ...]]] = []
        kinds, sizes = self._kinds()
        for kind in ("gaussian", "categorical", "poisson"):
            group = tuple(int(place) for place in np.flatnonzero(np.array(kinds) == kind))
            made: dict[str, Likelihood] = {
                "gaussian": GaussianLikelihood(covariance="residual", marginals="power"),
                "categorical": CategoricalLikelihood(tuple(sizes[place] for place in group)),
                "poisson": PoissonLikelihood(),
            }
            if group:
                parts.append((made[kind], group))
        return MixedLikelihood(tuple(part for part, _ in parts), tuple(group for _, group in parts))

    def aligned(self, X: Any) -> Any:
        """A frame with some of the columns, in any order, as one with all of them in theirs: what is absent is missing."""
        if not has_names(X):
            return X
        frame = nw.from_native(X, eager_only=True)
        unknown = [name for name in frame.columns if name not in self.names]
        if unknown:
            raise ValueError(f"X has column {unknown[0]!r}, which the fit had not. Its columns are {_listed(self.names)}.")
        absent = [nw.lit(None).alias(name) for name in self.names if name not in frame.columns]
        return frame.with_columns(*absent).select(self.names).to_native()

    def encoded(self, X: Any) -> Array:
        """Numbers (n, d') for a frame, or for an array of values in the same order."""
        cells = _cells(X, len(self.columns))
        return np.concatenate([column.encoded(values, self.unknown) for column, values in zip(self.columns, cells, strict=True)], 1)

    def decoded(self, rows: NDArray, index: Any = None) -> Any:
        """A frame of rows (n, d'), of the kind that was fitted; index is that of a pandas frame."""
        blocks = np.split(np.asarray(rows, dtype=np.float64), self.first[1:], axis=1)
        values = [column.decoded(block) for column, block in zip(self.columns, blocks, strict=True)]
        pairs = list(zip(self.columns, values, strict=True))
        if self.backend == "pandas":
            return _pandas_frame(pairs, index)
        return _polars_frame(pairs)

    def has_open_hurdle(self, rows: Array) -> bool:
        """Whether it is not known of a cell of rows (n, d') if it is an atom."""
        return any(np.isnan(rows[:, place]).any() for place, _ in self._hurdles())

    def with_hurdle_means(self, rows: Array, means: Array, drawn: Array) -> Array:
        """Means (n, d') of rows where those of an atom and of numbers together are of their draws (n, s, d')."""
        for place, column in self._hurdles():
            is_open = np.isnan(rows[:, place])
            values = np.where(drawn[is_open, :, place] < 0.5, np.float64(column.atom or 0.0), drawn[is_open, :, place + 1])
            means[is_open, place], means[is_open, place + 1] = 1.0, values.mean(1)
        return means

    def _hurdles(self) -> list[tuple[int, Column]]:
        """Places of the codes of hurdles, and their columns."""
        return [(int(place), column) for place, column in zip(self.first, self.columns, strict=True) if column.kind == "hurdle"]

    def filled(self, X: Any, rows: NDArray) -> Any:
        """X, a frame or an array like it, with its missing cells from rows (n, d'), and all others as they were."""
        if not is_frame(X) or nw.from_native(X, eager_only=True).implementation.value != self.backend:
            return self.decoded(rows)
        given = nw.from_native(X, eager_only=True)
        found = nw.from_native(self.decoded(rows, getattr(X, "index", None)), eager_only=True)
        columns = []
        for name, is_missing in zip(given.columns, np.isnan(self.encoded(X)[:, self.first]).T, strict=True):
            cells, known = found[name], given[name]
            columns.append(known if not is_missing.any() else cells if is_missing.all() else _merged(known, cells, is_missing))
        return given.with_columns(*columns).to_native()

    def _kinds(self) -> tuple[list[str], list[int]]:
        """Of each column of numbers its kind, and how many categories it has."""
        kinds, sizes = [], []
        for column in self.columns:
            is_hurdle = column.kind == "hurdle"
            kinds += ["categorical", "gaussian"] if is_hurdle else [column.kind]
            sizes += [2, 0] if is_hurdle else [len(column.categories)]
        return kinds, sizes

    def __repr__(self) -> str:
        lines = [(column.name, column.kind, column.dtype, column.note) for column in self.columns]
        widths = [max(len(line[place]) for line in lines) for place in range(3)]
        return "\n".join(
            "  ".join([*(part.ljust(width) for part, width in zip(line, widths, strict=False)), line[3]]).rstrip() for line in lines
        )


def has_names(X: Any) -> bool:
    """Whether X is a frame of pandas or polars with different texts as names of its columns."""
    if not is_frame(X):
        return False
    names = list(X.columns)
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _column(name: str, series: Any, asked: str | None) -> Column:
    """What a column's type and values say that it holds."""
    dtype, native = series.dtype, _type_of(series)
    is_text = dtype in (nw.Boolean, nw.String, nw.Categorical) or isinstance(dtype, nw.Enum)
    if dtype.is_temporal() and dtype != nw.Time:
        time_zone = getattr(dtype, "time_zone", None)
        _refuse_kind(name, asked, ("gaussian",), "dates and durations")
        step = _step(np.unique(_observed(name, series)))
        return Column(name, "gaussian", native, step=step, time_zone=time_zone, note="seconds" if dtype == nw.Duration else "date")
    if not is_text and not dtype.is_numeric():
        entries = [entry for entry in entries_of(series) if entry is not None]
        is_text = any(isinstance(entry, (str, bool)) for entry in entries)
        if is_text and len({type(entry) for entry in entries}) > 1:
            kinds = sorted({type(entry).__name__ for entry in entries})
            raise TypeError(f"Column {name!r} must be of one type, got {' and '.join(kinds)}. Make it text, or numbers.")
    if is_text or asked == "categorical":
        _refuse_kind(name, asked, ("categorical",), "text, truth values and categories")
        return _category(name, series, native)
    known = _observed(name, series)
    values, counts = np.unique(known, return_counts=True)
    is_few = len(values) == 1 or (len(values) <= MOST_CODES and len(values) ** 2 <= len(known))
    if asked is None and is_few:
        return _category(name, series, native)
    step = _step(values)
    order = counts.argsort()[::-1]
    has_atom = len(values) > 2 and counts[order[0]] >= max(ATOM_SHARE * len(known), ATOM_LEAD * counts[order[1]])
    if asked == "hurdle" or (asked is None and has_atom):
        atom = float(values[order[0]])
        share = counts[order[0]] / len(known)
        return Column(name, "hurdle", native, step=step, atom=atom, note=f"{atom:g} in {share:.0%} of rows")
    if asked == "poisson":
        return Column(name, "poisson", native, step=1.0, note="counts")
    return Column(name, "gaussian", native, step=step, note="" if step is None else f"multiples of {step:g}")


def _observed(name: str, series: Any) -> Array:
    """The numbers of a column; ValueError where there are none."""
    numbers = _numbers(name, series)
    if np.isnan(numbers).all():
        raise ValueError(f"Column {name!r} of X has no observed cell. Leave it out, or give rows in which it is known.")
    return numbers[~np.isnan(numbers)]


def _step(values: Array) -> float | None:
    """The largest number of which all values are multiples, if it has few decimals."""
    for decimals in range(MOST_DECIMALS + 1):
        scaled = values * 10.0**decimals
        whole = np.rint(scaled)
        if np.abs(whole).max() > LARGEST_INTEGER:
            return None
        if np.abs(scaled - whole).max() <= ROUNDING * np.abs(whole).max():
            step = float(np.gcd.reduce(whole.astype(np.int64))) / 10.0**decimals
            is_rounding = decimals == 0 or np.ptp(values) <= MOST_STEPS * step
            return step if step > 0 and is_rounding else None
    return None


def _category(name: str, series: Any, native: str) -> Column:
    """A column of categories: those of its type, or those that it has, in order."""
    declared = _declared(series)
    entries = [entry for entry in entries_of(series) if entry is not None]
    found = sorted(set(entries)) if declared is None else declared
    categories = tuple(value.item() if isinstance(value, np.generic) else value for value in found)
    is_text = any(isinstance(entry, str) for entry in entries[:1])
    if len(categories) > MOST_CATEGORIES:
        raise ValueError(
            f"Column {name!r} has {len(categories)} categories, and {MOST_CATEGORIES} is the most. Leave it out, or group the "
            "rare ones."
        )
    if is_text and len(entries) >= FEWEST_TOLD and len(set(entries)) == len(entries):
        warn(f"Column {name!r} has another text in each row, such as a name or a number of a record. Leave it out.")
    elif len(categories) > MANY_CATEGORIES:
        warn(f"Column {name!r} has {len(categories)} categories, each of few rows. Leave it out, or group the rare ones.")
    if not categories:
        raise ValueError(f"Column {name!r} of X has no observed cell. Leave it out, or give rows in which it is known.")
    is_ordered = bool(getattr(getattr(series.to_native(), "cat", None), "ordered", False)) if _is_pandas(series) else False
    note = f"{len(categories)} categories: {_first_of(categories)}"
    return Column(name, "categorical", native, categories, is_ordered, note=note)


def _declared(series: Any) -> Sequence[Any] | None:
    """Categories that a type has, in their order."""
    if isinstance(series.dtype, nw.Enum):
        return list(series.dtype.categories)
    if _is_pandas(series) and str(series.to_native().dtype) == "category":
        return list(series.to_native().cat.categories)
    return None


def _refuse_kind(name: str, asked: str | None, known: tuple[str, ...], what: str) -> None:
    if asked is not None and asked not in known:
        raise ValueError(
            f"Column {name!r} has {what}, whose likelihood is {known[0]!r}, got {asked!r}. Leave it to likelihood='auto'."
        )


def _cells(X: Any, n_columns: int) -> list[Any]:
    """The columns of a frame, or of an array of objects."""
    if is_frame(X):
        frame = nw.from_native(X, eager_only=True)
        return [frame[name] for name in frame.columns]
    rows = np.array([list(row) for row in X], dtype=object)
    if rows.ndim != 2 or rows.shape[1] != n_columns:
        raise ValueError(f"X must have {n_columns} columns, as the frame of the fit, got shape {rows.shape}. Give a frame like it.")
    return list(rows.T)


def entries_of(values: Any) -> list[Any]:
    """Plain values of a column, None where a cell is missing."""
    entries = values.to_list() if isinstance(values, nw.Series) else list(values)
    return [None if _is_missing(entry) else entry for entry in entries]


def _is_missing(entry: Any) -> bool:
    return entry is None or type(entry).__name__ in ("NAType", "NaTType") or (isinstance(entry, float) and math.isnan(entry))


def _numbers(name: str, values: Any) -> Array:
    """A column as `_floats`; ValueError where one is infinite."""
    numbers = _floats(name, values)
    if np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        raise ValueError(f"X must be finite, got infinity in row {row} of column {name!r}. Clip it, or leave these rows out.")
    return numbers


def _floats(name: str, values: Any) -> Array:
    """A column as numbers, of a series of any type or an array of values; NaN where a cell is missing."""
    if isinstance(values, nw.Series) and (values.dtype.is_numeric() or values.dtype in (nw.Duration, nw.Datetime, nw.Date)):
        return typed_numbers(values)
    result = np.full(len(values), np.nan)
    for row, entry in enumerate(entries_of(values)):
        if entry is not None:
            try:
                result[row] = _number(entry)
            except (TypeError, ValueError) as error:
                raise ValueError(f"Column {name!r} must have numbers, got {shown(entry)} in row {row}. Mend the cell.") from error
    return result


def typed_numbers(series: nw.Series) -> Array:
    """A series of numbers, dates or durations: dates as seconds since 1970, durations as seconds; NaN where a cell is missing."""
    unit = 1.0
    if series.dtype == nw.Duration:
        series, unit = series.dt.total_microseconds(), MICROSECONDS
    elif not series.dtype.is_numeric():
        if getattr(series.dtype, "time_zone", None) is not None:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        series, unit = series.cast(nw.Datetime("us")).dt.timestamp("us"), MICROSECONDS
    is_missing = series.is_null().to_numpy()
    numbers = np.full(len(series), np.nan)
    numbers[~is_missing] = np.asarray(series.drop_nulls().to_numpy(), dtype=np.float64) / unit
    return numbers


def _number(entry: Any) -> float:
    if isinstance(entry, (datetime.datetime, datetime.date, np.datetime64)):
        return float(np.array(entry, dtype="datetime64[us]").astype(np.int64)) / MICROSECONDS
    if isinstance(entry, (datetime.timedelta, np.timedelta64)):
        return float(np.array(entry, dtype="timedelta64[us]").astype(np.int64)) / MICROSECONDS
    return float(entry)


def _merged(known: Any, cells: Any, is_missing: NDArray[np.bool_]) -> Any:
    """A column with some cells of another one, in the type of the first."""
    if _is_pandas(known):
        return nw.from_native(known.to_native().mask(is_missing, cells.to_native()), series_only=True)
    return cells.zip_with(nw.new_series(known.name, is_missing.tolist(), nw.Boolean, backend=known.implementation), known)


def _is_pandas(series: Any) -> bool:
    return bool(series.implementation.is_pandas())


def _type_of(series: Any) -> str:
    """The name of a series' type in its own library; of polars' without what is in brackets."""
    return str(series.to_native().dtype) if _is_pandas(series) else str(series.dtype).split("(")[0]


def _first_of(categories: Sequence[Any]) -> str:
    """The first categories, for a line."""
    return _listed(categories[:MOST_SHOWN]) + ", ..." * (len(categories) > MOST_SHOWN)


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names))


def _pandas_frame(pairs: list[tuple[Column, Any]], index: Any) -> Any:
    pd: Any = nw.Implementation.PANDAS.to_native_namespace()
    series = {}
    for column, values in pairs:
        dtype: Any = column.dtype
        if column.kind == "categorical":
            if dtype == "category":
                dtype = pd.CategoricalDtype(list(column.categories), ordered=column.is_ordered)
            made = pd.Series(values, dtype=dtype)
        elif column.is_temporal:
            unit = "timedelta64[us]" if dtype.startswith("timedelta") else "datetime64[us]"
            made = pd.Series(np.rint(values * MICROSECONDS).astype(np.int64).astype(unit))
            made = made.astype(dtype) if column.time_zone is None else made.dt.tz_localize("UTC").dt.tz_convert(column.time_zone)
        else:
            made = pd.Series(values) if dtype == "object" else pd.Series(_within(values, dtype)).astype(dtype)
        series[column.name] = made
    frame = pd.DataFrame(series)
    return frame if index is None else frame.set_axis(index)


def _polars_frame(pairs: list[tuple[Column, Any]]) -> Any:
    pl: Any = nw.Implementation.POLARS.to_native_namespace()
    series = []
    for column, values in pairs:
        if column.kind == "categorical":
            dtype = pl.Enum(list(column.categories)) if column.dtype == "Enum" else getattr(pl, column.dtype)
            made = pl.Series(column.name, values, dtype=dtype)
        elif column.is_temporal:
            whole = pl.Series(column.name, np.rint(values * MICROSECONDS).astype(np.int64))
            made = whole.cast(pl.Duration("us")) if column.dtype == "Duration" else whole.cast(pl.Datetime("us"))
            if column.dtype == "Date":
                made = made.dt.date()
            if column.time_zone is not None:
                made = made.dt.replace_time_zone("UTC").dt.convert_time_zone(column.time_zone)
        else:
            made = pl.Series(column.name, _within(values, column.dtype)).cast(getattr(pl, column.dtype))
        series.append(made)
    return pl.DataFrame(series)


def _within(values: Array, dtype: str) -> Array:
    """Numbers that a type of integers can hold, as integers; others as they are."""
    kind = dtype.lower()
    if "int" not in kind:
        return values
    limits = np.iinfo(kind)
    inside = np.clip(np.rint(values), max(limits.min, -(2.0**53)), min(limits.max, 2.0**53))
    return inside.astype(np.uint64 if kind.startswith("u") else np.int64)
