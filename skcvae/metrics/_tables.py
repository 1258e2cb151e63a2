"""How good synthetic rows of a table of numbers, dates and categories are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score

from skcvae._checks import LARGEST_VALUE, shown
from skcvae._columns import MICROSECONDS, entries_of, has_names, typed_numbers
from skcvae._random import make_rng
from skcvae.metrics._checks import Array, row_blocks

#: Bins of a number beside a category, and bins of a marginal.
TREND_BINS, MARGINAL_BINS = 10, 30
#: Folds of the classifier that tells real from synthetic rows.
FOLDS = 3
#: Categories that the trees tell apart beside a missing one; the rarest are one category to them.
MOST_CATEGORIES = 254
#: Rows whose nearest real row is looked for.
MOST_QUERIES = 2000
#: Stands for a missing cell in distances and trees, which fail on a column without cells: far from every number.
FAR = -1e300
#: Lowest columns and pairs that the text names.
NAMED = 3


@dataclass(frozen=True)
class Marginal:
    """How the cells of one column are distributed; missing cells are left out.

    Attributes
    ----------
    values : array, the k + 1 edges of k bins of numbers, dates or seconds; or k categories, from the most frequent one
    is_category : bool
    real, synthetic : arrays of shape (k,), shares of the cells
    """

    values: NDArray
    is_category: bool
    real: Array
    synthetic: Array


@dataclass(frozen=True, repr=False)
class TableReport:
    """How good synthetic rows are; printed, it is a line for each measure.

    Attributes
    ----------
    column_shapes : dict from a name to a float from 0 to 1, or NaN where a table has no cell of the column
    pair_trends : dict from two names to a float from 0 to 1, or NaN where a correlation is undefined
    detection_auc : float from 0.5, the best, to 1
    distance : float from 0 to 1, median distance of a synthetic row to the nearest real one
    distance_held_out : float or None, the same of held-out rows
    utility_score : {"ROC AUC", "R^2"} or None, what the next two are
    utility_real, utility_synthetic : float or None, score on held-out rows after a fit to real and to synthetic rows
    marginals : dict from a name to a Marginal
    """

    column_shapes: dict[str, float]
    pair_trends: dict[tuple[str, str], float]
    detection_auc: float
    distance: float
    distance_held_out: float | None = None
    utility_score: str | None = None
    utility_real: float | None = None
    utility_synthetic: float | None = None
    marginals: dict[str, Marginal] = field(default_factory=dict, compare=False)

    @property
    def shapes(self) -> float:
        """Mean over the columns whose shape is known."""
        return _mean(self.column_shapes)

    @property
    def trends(self) -> float:
        """Mean over the pairs whose trend is known; NaN where there is none."""
        return _mean(self.pair_trends)

    @property
    def utility(self) -> float | None:
        """Score after a fit to synthetic rows over that after a fit to real ones; NaN where the latter is not above 0."""
        return _ratio(self.utility_synthetic, self.utility_real)

    @property
    def distance_ratio(self) -> float | None:
        """Distance of synthetic over that of held-out rows: clearly below 1 where rows are copied; NaN where the latter is 0."""
        return _ratio(self.distance, self.distance_held_out)

    def worst_columns(self, n_columns: int = NAMED) -> list[str]:
        """Names of the columns with the lowest shapes, from the lowest."""
        return _lowest(self.column_shapes, n_columns)

    def worst_pairs(self, n_pairs: int = NAMED) -> list[tuple[str, str]]:
        """Names of the pairs with the lowest trends, from the lowest."""
        return _lowest(self.pair_trends, n_pairs)

    def __repr__(self) -> str:
        columns = ", ".join(f"{name} {self.column_shapes[name]:.3f}" for name in self.worst_columns())
        pairs = ", ".join(f"{' x '.join(pair)} {self.pair_trends[pair]:.3f}" for pair in self.worst_pairs())
        lines = [
            ("column shapes", self.shapes, f"lowest: {columns}" if columns else "no column with cells"),
            ("pair trends", self.trends, f"lowest: {pairs}" if pairs else "no pair with a trend"),
            ("detection AUC", self.detection_auc, "0.5 is the best, 1 the worst"),
        ]
        if self.utility is not None:
            scores = f"{self.utility_score} {self.utility_synthetic:.3f} after synthetic rows, {self.utility_real:.3f} after real"
            lines.append(("utility", self.utility, scores))
        lines.append(("distance", self.distance, "median to the nearest real row"))
        if self.distance_ratio is not None:
            lines.append(("distance ratio", self.distance_ratio, f"over {self.distance_held_out:.3f} of held-out rows"))
        return "\n".join(f"{name:<14}  {value:.3f}  {note}" for name, value, note in lines)


def table_report(
    real: Any, synthetic: Any, *, held_out: Any = None, target: str | None = None, random_state: object = 0
) -> TableReport:
    r"""Shapes of columns, trends of pairs, detection, utility and distance of synthetic rows of a mixed table.

    Numbers, dates and durations are numbers; truth values, text and all else are categories.

    *Column shapes.* A number has 1 less the Kolmogorov-Smirnov statistic, a category 1 less the total variation of its
    frequencies. Missing cells are left out.

    .. math:: 1 - \max_x \left|F(x) - G(x)\right|, \qquad 1 - \frac12 \sum_c \left|p_c - q_c\right|

    *Pair trends.* Two numbers have :math:`1 - |\rho - \rho'| / 2` with Pearson's correlations of the rows in which both are
    known. Two categories have 1 less the total variation of their contingency tables. A number beside a category is cut into
    ten equal bins over its range in `real`; the outer ones have no end. A missing cell is then a category of its own. The
    correlation of a constant is undefined, and its pair is left out of the mean.

    *Detection.* Gradient-boosted trees tell real from synthetic rows; the ROC AUC is the mean over three folds. The trees take a
    copy for what its original in another fold is, so that copies lower the AUC: see the distance. An AUC below 0.5 is given as
    0.5.

    *Utility.* Gradient-boosted trees predict `target` from the other columns, after a fit to real and to synthetic rows. A number
    is scored by :math:`R^2`, a category by the ROC AUC of each of its values against the others, averaged with equal weights.

    *Distance.* That of Gower: the mean over the columns of :math:`\min(|x - y| / r, 1)` for numbers, with the range r in `real`,
    and of 0 or 1 for categories. It is 1 where one of both cells is missing, and 0 where both are. The median is over at most
    2000 rows, drawn at random.

    The order of rows and columns has no effect.

    Parameters
    ----------
    real : pandas or polars data frame of n rows
        The rows to which the model was fitted.
    synthetic : data frame of m rows, with the columns of `real`
        About n make distances and detection comparable.
    held_out : data frame, with the columns of `real`, optional
        Real rows unseen by the model.
    target : str, optional
        Name of the column to predict; it needs `held_out`.
    random_state : int, RandomState, Generator or None, default=0
        Source of the folds and of the rows whose distances are measured.

    Returns
    -------
    TableReport

    Raises
    ------
    TypeError, ValueError
        If a table is no data frame with names, has other columns or other types of cells than `real`, has fewer than three
        rows, or an infinite cell; if `target` is no column, or comes without `held_out` or known cells.

    References
    ----------
    Shapes and trends are those of the library SDMetrics: KSComplement, TVComplement, CorrelationSimilarity and
    ContingencySimilarity. Its QualityReport, as of version 0.32, differs in two ways: it cuts numbers beside categories over the
    range of each table, and its mean is over pairs with a strong trend only.
    J. C. Gower, A general coefficient of similarity and some of its properties, 1971.
    C. Esteban, S. L. Hyland and G. Rätsch, Real-valued (medical) time series generation with recurrent conditional GANs, 2017, for
    the fit to synthetic and the score on real rows.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skcvae.metrics import table_report
    >>> rng = np.random.default_rng(0)
    >>> def table(n):
    ...     sex = rng.choice(["f", "m"], size=n)
    ...     return pd.DataFrame({"sex": sex, "height": rng.normal(165 + 13 * (sex == "m"), 7)})
    >>> real, fresh, held_out = table(500), table(500), table(500)
    >>> report = table_report(real, fresh, held_out=held_out, target="sex")
    >>> report.shapes > 0.9, report.trends > 0.9, report.detection_auc < 0.6, 0.9 < report.utility < 1.1
    (True, True, True, True)
    >>> shuffled = fresh.assign(height=rng.permutation(fresh["height"]))
    >>> table_report(real, shuffled).trends < 0.8
    True
    """
    given = {"real": real, "synthetic": synthetic, **({} if held_out is None else {"held_out": held_out})}
    frames = _checked_frames(given)
    columns = [_Column.of(name, frames) for name in frames["real"].columns]
    _check_target(target, columns, "held_out" in frames)
    rng = make_rng(random_state)
    seed = int(rng.integers(2**31))
    ordered = sorted(columns, key=lambda column: column.name)
    tables = {name: _sorted_rows(ordered, name) for name in frames}
    is_category = np.array([column.is_category for column in ordered])
    capped = {name: np.where(is_category, np.minimum(rows, MOST_CATEGORIES - 1), rows) for name, rows in tables.items()}
    utilities: dict[str, Any] = {}
    if target is not None:
        place = [column.name for column in ordered].index(target)
        utilities = {
            "utility_score": "ROC AUC" if is_category[place] else "R^2",
            "utility_real": _utility(capped["real"], capped["held_out"], place, is_category, seed),
            "utility_synthetic": _utility(capped["synthetic"], capped["held_out"], place, is_category, seed),
        }
    distances = {name: _median_distance(rows, tables["real"], is_category, rng) for name, rows in tables.items() if name != "real"}
    return TableReport(
        column_shapes={column.name: column.shape() for column in columns},
        pair_trends={(a.name, b.name): _trend(a, b) for a, b in combinations(columns, 2)},
        detection_auc=_detection_auc(capped["real"], capped["synthetic"], is_category, seed),
        distance=distances["synthetic"],
        distance_held_out=distances.get("held_out"),
        marginals={column.name: column.marginal() for column in columns},
        **utilities,
    )


@dataclass(frozen=True)
class _Column:
    """One column of all tables as numbers: codes of categories from the most frequent one, seconds, NaN where a cell is missing."""

    name: str
    kind: str
    cells: dict[str, Array]
    categories: tuple[Any, ...] = ()

    @classmethod
    def of(cls, name: str, frames: dict[str, nw.DataFrame]) -> _Column:
        """A column of the frames, once it is of one kind in all of them."""
        series = {table: frame[name] for table, frame in frames.items()}
        kinds = {table: _kind(one) for table, one in series.items() if not one.is_null().all()}
        kind = next(iter(kinds.values()), "numbers")
        for table, other in kinds.items():
            if other != kind:
                raise TypeError(
                    f"Column {name!r} must hold the same in all tables, got {kind} in {next(iter(kinds))} and {other} in {table}. "
                    "Convert one of them."
                )
        if kind != "categories":
            return cls(name, kind, {table: _numbers(f"Column {name!r} of {table}", one) for table, one in series.items()})
        entries = {table: _entries(f"Column {name!r} of {table}", one) for table, one in series.items()}
        categories = _by_frequency(entries)
        codes = {category: float(code) for code, category in enumerate(categories)}
        cells = {table: np.array([codes.get(entry, np.nan) for entry in some]) for table, some in entries.items()}
        return cls(name, kind, cells, categories)

    @property
    def is_category(self) -> bool:
        """Whether it holds no numbers, dates or durations."""
        return self.kind == "categories"

    def known(self, table: str) -> Array:
        """Cells of a table that are not missing."""
        cells = self.cells[table]
        return cells[~np.isnan(cells)]

    def shape(self) -> float:
        """Similarity of the marginals, from 0 to 1; NaN where a table has no cell."""
        real, synthetic = self.known("real"), self.known("synthetic")
        if not (len(real) and len(synthetic)):
            return math.nan
        if self.is_category:
            return 1 - _total_variation(real.astype(np.intp), synthetic.astype(np.intp))
        return 1 - _kolmogorov_smirnov(real, synthetic)

    @cached_property
    def classes(self) -> dict[str, NDArray[np.intp]]:
        """For each table its cells as codes from 0, of categories or of bins of numbers; missing cells have the last one."""
        if self.is_category:
            return {name: np.nan_to_num(cells, nan=len(self.categories)).astype(np.intp) for name, cells in self.cells.items()}
        inner = _edges(self.known("real"), TREND_BINS)[1:-1]
        return {name: np.where(np.isnan(cells), TREND_BINS, np.digitize(cells, inner)) for name, cells in self.cells.items()}

    def marginal(self) -> Marginal:
        """Shares of categories, or of equal bins over the range of both tables."""
        real, synthetic = self.known("real"), self.known("synthetic")
        if self.is_category:
            edges = np.arange(len(self.categories) + 1) - 0.5
            values = np.empty(len(self.categories), dtype=object)
            values[:] = self.categories
        else:
            edges = _edges(np.concatenate([real, synthetic]), MARGINAL_BINS)
            values = np.rint(edges * MICROSECONDS).astype("datetime64[us]") if self.kind == "dates" else edges
        shares = (np.histogram(cells, edges)[0] / max(len(cells), 1) for cells in (real, synthetic))
        return Marginal(values, self.is_category, *shares)


# Checks, and cells as numbers


def _checked_frames(given: dict[str, Any]) -> dict[str, nw.DataFrame]:
    """Frames with the columns of the first, in its order."""
    frames = {}
    for name, value in given.items():
        if not has_names(value):
            raise TypeError(
                f"{name} must be a pandas or polars data frame whose columns have different texts as names, got {shown(value)}. "
                "Make it by pandas.DataFrame(rows, columns=names)."
            )
        frames[name] = nw.from_native(value, eager_only=True)
    names = frames["real"].columns
    if not names:
        raise ValueError("real must have a column, got none. Give the rows that the model was fitted to.")
    for name, frame in frames.items():
        missing, others = sorted(set(names) - set(frame.columns)), sorted(set(frame.columns) - set(names))
        if missing or others:
            raise ValueError(
                f"{name} must have the columns of real, got {missing} missing, {others} besides. Select the same ones."
            )
        if len(frame) < FOLDS:
            raise ValueError(f"{name} must have {FOLDS} rows or more, got {len(frame)}. Give more rows.")
    return frames


def _check_target(target: str | None, columns: list[_Column], has_held_out: bool) -> None:
    """ValueError where the utility has nothing to predict, or nothing to score on."""
    if target is None:
        return
    found = next((column for column in columns if column.name == target), None)
    if found is None:
        names = ", ".join(repr(column.name) for column in columns)
        raise ValueError(f"target must be a column of real, got {shown(target)}. Its columns are {names}.")
    if not has_held_out:
        raise ValueError("target needs held_out, real rows to score predictions on, got None. Keep some rows from the fit.")
    if len(columns) < 2:
        raise ValueError(f"target needs other columns to be predicted from, got {target!r} alone. Leave target out.")
    for table in found.cells:
        if not len(found.known(table)):
            raise ValueError(f"Column {target!r}, the target, must have cells in {table}, got missing ones only. Leave target out.")
    if len(np.unique(found.known("held_out"))) < 2:
        raise ValueError(f"Column {target!r}, the target, must have two values in held_out, got one. Give more held-out rows.")


def _kind(series: nw.Series) -> str:
    """What the type of a column says that it holds."""
    if series.dtype.is_numeric():
        return "numbers"
    if series.dtype in (nw.Datetime, nw.Date):
        return "dates"
    return "durations" if series.dtype == nw.Duration else "categories"


def _numbers(name: str, series: nw.Series) -> Array:
    """Cells as float64: dates as seconds since 1970, durations as seconds, NaN where a cell is missing."""
    if series.is_null().all():
        return np.full(len(series), np.nan)
    numbers = typed_numbers(series)
    if np.nanmax(np.abs(numbers), initial=0.0) > LARGEST_VALUE["float64"]:
        raise ValueError(f"{name} must have numbers of at most 1e144, got {numbers[np.nanargmax(np.abs(numbers))]}. Clip them.")
    return numbers


def _entries(name: str, series: nw.Series) -> list[Any]:
    """Cells as plain values, None where a cell is missing."""
    entries = entries_of(series)
    for entry in entries:
        try:
            hash(entry)
        except TypeError as error:
            raise TypeError(f"{name} must have numbers, dates or categories, got {shown(entry)}. Leave it out.") from error
    return entries


def _by_frequency(entries: dict[str, list[Any]]) -> tuple[Any, ...]:
    """All categories: those that are frequent in the real, then in the synthetic rows first; ties in alphabetical order."""
    counts: dict[Any, list[int]] = {}
    for place, some in enumerate(entries.values()):
        for entry in some:
            if entry is not None:
                counts.setdefault(entry, [0] * len(entries))[place] -= 1
    return tuple(sorted(counts, key=lambda entry: (counts[entry], type(entry).__name__, repr(entry))))


def _sorted_rows(columns: list[_Column], table: str) -> Array:
    """Rows (n, d) of a table in an order that depends on the cells alone."""
    rows = np.column_stack([column.cells[table] for column in columns])
    return rows[np.lexsort(rows.T)]


# Shapes and trends


def _edges(numbers: Array, n_bins: int) -> Array:
    """Edges of equal bins over the range of numbers; a bin of a constant is 1 / n_bins wide."""
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 1.0)
    return np.linspace(low - 0.5, high + 0.5, n_bins + 1) if low == high else np.linspace(low, high, n_bins + 1)


def _kolmogorov_smirnov(x: Array, y: Array) -> float:
    """Largest difference of two empirical distribution functions."""
    at = np.concatenate([x, y])
    first, second = (np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (x, y))
    return float(np.abs(first - second).max())


def _total_variation(x: NDArray[np.intp], y: NDArray[np.intp]) -> float:
    """Half the sum of the differences of frequencies of two samples of codes from 0."""
    n_codes = max(x.max(), y.max()) + 1
    first, second = (np.bincount(sample, minlength=n_codes) / len(sample) for sample in (x, y))
    return float(np.abs(first - second).sum() / 2)


def _trend(a: _Column, b: _Column) -> float:
    """Similarity of two columns' relation, from 0 to 1; NaN where a correlation is undefined."""
    if not (a.is_category or b.is_category):
        real, synthetic = (_correlation(a.cells[table], b.cells[table]) for table in ("real", "synthetic"))
        return 1 - abs(real - synthetic) / 2
    n_codes = 1 + max(int(codes.max()) for codes in b.classes.values())
    pairs = [a.classes[table] * n_codes + b.classes[table] for table in ("real", "synthetic")]
    codes = np.unique(np.concatenate(pairs), return_inverse=True)[1]
    return 1 - _total_variation(codes[: len(pairs[0])], codes[len(pairs[0]) :])


def _correlation(x: Array, y: Array) -> float:
    """Pearson's correlation over the rows in which both are known; NaN where one of them is constant."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


# Detection and utility


def _detection_auc(real: Array, synthetic: Array, is_category: NDArray[np.bool_], seed: int) -> float:
    """Cross-validated ROC AUC of trees that tell real from synthetic rows, and 0.5 at least."""
    rows = np.nan_to_num(np.vstack([real, synthetic]), nan=FAR)
    labels = np.repeat([0, 1], [len(real), len(synthetic)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    trees = HistGradientBoostingClassifier(categorical_features=is_category, early_stopping=False, random_state=seed)
    return max(0.5, float(cross_val_score(trees, rows, labels, cv=folds, scoring="roc_auc", error_score="raise").mean()))


def _utility(fitted: Array, held_out: Array, place: int, is_category: NDArray[np.bool_], seed: int) -> float:
    """Score on held-out rows of trees that were fitted to other rows: R^2 of a number, mean ROC AUC of a category."""
    (x, y), (x_new, y_new) = (_split(rows, place) for rows in (fitted, held_out))
    options: dict[str, Any] = {"categorical_features": np.delete(is_category, place), "early_stopping": False, "random_state": seed}
    if not is_category[place]:
        return float(r2_score(y_new, HistGradientBoostingRegressor(**options).fit(x, y).predict(x_new)))
    if len(np.unique(y)) == 1:  # nothing to learn: all predictions are equal
        return 0.5
    trees = HistGradientBoostingClassifier(**options).fit(x, y)
    probabilities = np.zeros((len(x_new), int(max(y.max(), y_new.max())) + 1))
    probabilities[:, trees.classes_.astype(np.intp)] = trees.predict_proba(x_new)
    return float(np.mean([roc_auc_score(y_new == code, probabilities[:, int(code)]) for code in np.unique(y_new)]))


def _split(rows: Array, place: int) -> tuple[Array, Array]:
    """Features and target of the rows in which the target is known."""
    known = rows[~np.isnan(rows[:, place])]
    return np.nan_to_num(np.delete(known, place, axis=1), nan=FAR), known[:, place]


# Distance


def _median_distance(rows: Array, real: Array, is_category: NDArray[np.bool_], rng: np.random.Generator) -> float:
    """Median over rows, or over some of them, of Gower's distance to the nearest real one."""
    chosen = rows if len(rows) <= MOST_QUERIES else rng.permutation(rows)[:MOST_QUERIES]
    low, high = np.nanmin(real, axis=0, initial=np.inf), np.nanmax(real, axis=0, initial=-np.inf)
    points, others = (_in_ranges(some, low, high, is_category) for some in (chosen, real))
    nearest = [_distances(points[block], others).min(1) for block in row_blocks(len(points), len(others))]
    return float(np.median(np.concatenate(nearest)))


def _in_ranges(rows: Array, low: Array, high: Array, is_category: NDArray[np.bool_]) -> Array:
    """Rows in which cells that are 1 or more apart are as different as can be: numbers over their range, codes as they are."""
    varies = (high > low) & ~is_category
    scaled = np.where(is_category, rows, np.sign(rows - np.where(np.isfinite(low), low, 0.0)))
    scaled[:, varies] = (rows[:, varies] - low[varies]) / (high - low)[varies]
    return np.nan_to_num(scaled, nan=FAR)


def _distances(points: Array, others: Array) -> Array:
    """Mean over columns of differences of at most 1, between all pairs."""
    total = np.zeros((len(points), len(others)))
    for x, y in zip(points.T, others.T, strict=True):
        gap = np.abs(x[:, None] - y)
        total += np.minimum(gap, 1, out=gap)
    return total / points.shape[1]


# Numbers of a report


def _mean(scores: dict[Any, float]) -> float:
    known = [score for score in scores.values() if not math.isnan(score)]
    return float(np.mean(known)) if known else math.nan


def _lowest(scores: dict[Any, float], n: int) -> list[Any]:
    return sorted((key for key, score in scores.items() if not math.isnan(score)), key=lambda key: (scores[key], key))[:n]


def _ratio(above: float | None, below: float | None) -> float | None:
    if above is None or below is None:
        return None
    return above / below if below > 0 else math.nan
