"""The report on synthetic rows: hand-computed tables, the laws it should keep, and SDMetrics where it is installed."""

import itertools
import math
import pickle
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest

from skcvae.display import TableReportDisplay
from skcvae.metrics import TableReport, _tables, table_report

mpl.use("agg")
import matplotlib.pyplot as plt

CATEGORIES = {"letter", "likes"}


def table(n, seed=0, missing=0.1):
    """Numbers, counts, letters, truth values, dates and durations, which depend on each other."""
    rng = np.random.default_rng(seed)
    letter = rng.choice(list("abcd"), size=n, p=[0.5, 0.3, 0.15, 0.05])
    x = rng.normal(size=n) + (letter == "a")
    frame = pd.DataFrame(
        {
            "x": x,
            "y": 0.7 * x + rng.normal(size=n),
            "letter": letter,
            "likes": rng.random(n) < 0.2 + 0.5 * (x > 0),
            "count": rng.poisson(3, size=n),
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.round(24 * rng.exponential(50, size=n)), unit="h"),
            "took": pd.to_timedelta(np.round(1000 * np.abs(x)), unit="s"),
        }
    )
    for name in ("x", "letter", "when", "took"):
        frame.loc[rng.random(n) < missing, name] = None
    return frame.assign(count=frame["count"].astype("Int64").mask(rng.random(n) < missing))


def plain(value):
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    if isinstance(value, pd.Timedelta):
        return value.to_pytimedelta()
    return value.item() if isinstance(value, np.generic) else value


def as_polars(frame):
    return pl.DataFrame({name: [plain(value) for value in frame[name]] for name in frame})


def numbers(report):
    """All numbers, whatever the order of the columns."""
    pairs = {frozenset(pair): trend for pair, trend in report.pair_trends.items()}
    others = [report.detection_auc, report.distance, report.distance_held_out, report.utility_real, report.utility_synthetic]
    return report.column_shapes, pairs, others


REAL, SYNTHETIC, HELD_OUT = table(300), table(240, seed=1), table(200, seed=2)


@pytest.fixture(scope="module")
def report():
    return table_report(REAL, SYNTHETIC, held_out=HELD_OUT, target="likes")


# By hand


def test_shapes_by_hand():
    real = pd.DataFrame({"n": [1.0, 2.0, 3.0, 4.0, np.nan], "c": ["a", "a", "b", "b", None]})
    synthetic = pd.DataFrame({"n": [3.0, 4.0, 5.0, 5.0, 5.0], "c": ["a", "b", "b", "c", "c"]})
    found = table_report(real, synthetic)
    assert found.column_shapes["n"] == pytest.approx(1 - 3 / 5)  # just before 5: all of the real, two of five synthetic cells
    assert found.column_shapes["c"] == pytest.approx(1 - (0.3 + 0.1 + 0.4) / 2)  # frequencies .5 .5 0 and .2 .4 .4
    assert found.shapes == pytest.approx((0.4 + 0.6) / 2)


def test_trends_by_hand():
    real = pd.DataFrame({"n": [0.0, 1, 2, 3], "m": [0.0, 1, 2, 3], "c": ["a", "a", "b", None], "d": [True, False, True, True]})
    synthetic = real.assign(m=[3.0, 2, 1, 0], n=[-9.0, 1, 2, 9], d=[True, True, True, False])
    found = table_report(real, synthetic)
    rho = np.corrcoef([-9, 1, 2, 9], [3, 2, 1, 0])[0, 1]
    assert found.pair_trends["n", "m"] == pytest.approx(1 - (1 - rho) / 2)
    assert found.pair_trends["c", "d"] == pytest.approx(0.5)  # (a, True) and (b, True) are in both; two quarters move
    assert found.pair_trends["n", "c"] == pytest.approx(1)  # cells beyond the real range are in the outer bins
    assert found.pair_trends["m", "c"] == pytest.approx(0)
    assert found.trends == pytest.approx(np.mean(list(found.pair_trends.values())))


def test_a_missing_cell_is_a_category_beside_others():
    real = pd.DataFrame({"n": [0.0, 1, 2, 3], "c": list("abab")})
    assert table_report(real, real.assign(n=[0.0, 1, 2, np.nan])).pair_trends["n", "c"] == pytest.approx(0.75)
    assert table_report(real, real.assign(c=["a", "b", "a", None])).pair_trends["n", "c"] == pytest.approx(0.75)


def test_distances_by_hand():
    real = pd.DataFrame({"n": [0.0, 4.0, 10.0], "k": [5, 5, 5], "c": ["a", "b", None]})
    rows = pd.DataFrame({"n": [1.0, 99.0, np.nan], "k": [5, 6, 5], "c": ["a", None, "b"]})
    # 0.1 of the range; beyond it and another number; nothing instead of a number
    expected = [0.1 / 3, 2 / 3, 1 / 3]
    for row, distance in enumerate(expected):
        thrice = rows.iloc[[row] * 3]
        assert table_report(real, thrice).distance == pytest.approx(distance)
        assert table_report(real, real, held_out=thrice).distance_held_out == pytest.approx(distance)
    assert table_report(real, rows).distance == pytest.approx(1 / 3)


def test_distances_are_a_loop_s():
    real, rows = table(40), table(30, seed=1)
    ranges = {name: real[name].max() - real[name].min() for name in real if name not in CATEGORIES}

    def gap(name, a, b):
        if pd.isna(a) or pd.isna(b):
            return float(pd.isna(a) != pd.isna(b))
        return float(a != b) if name in CATEGORIES else min(abs(a - b) / ranges[name], 1)

    def distance(a, b):
        return np.mean([gap(name, a[name], b[name]) for name in real])

    nearest = [min(distance(a, b) for _, b in real.iterrows()) for _, a in rows.iterrows()]
    assert table_report(real, rows).distance == pytest.approx(np.median(nearest), rel=1e-9)


def test_a_shuffled_target_is_of_no_use():
    rng = np.random.default_rng(0)
    real, held_out = (pd.DataFrame({"x": x, "y": 2 * x, "sign": x > 0}) for x in rng.normal(size=(2, 400)))
    for target, chance in (("y", 0.0), ("sign", 0.5)):
        shuffled = real.assign(**{name: rng.permutation(real[name]) for name in ("y", "sign")})
        found = table_report(real, shuffled[["sign", "y", "x"]], held_out=held_out, target=target)
        assert found.utility_real > 0.95
        assert found.utility_synthetic < chance + 0.2
        assert found.utility == found.utility_synthetic / found.utility_real
        assert found.utility_score == {"y": "R^2", "sign": "ROC AUC"}[target]


def test_utility_of_a_category_that_one_table_lacks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    real = pd.DataFrame({"x": x, "c": np.select([x < -0.5, x < 0.5], ["low", "mid"], "high")})
    lacking, collapsed = real[real["c"] != "mid"], real.assign(c="mid")
    found = table_report(real, lacking, held_out=real, target="c")
    assert found.utility_real > 0.98
    assert 0.6 < found.utility_synthetic < 0.9  # 0.5 for the category that it has never seen
    assert table_report(real, collapsed, held_out=real, target="c").utility_synthetic == 0.5


# Laws


def test_identical_tables_are_perfect():
    found = table_report(REAL, REAL, held_out=HELD_OUT, target="letter")
    assert set(found.column_shapes.values()) == {1.0}
    assert set(found.pair_trends.values()) == {1.0}
    assert (found.shapes, found.trends, found.utility, found.distance, found.distance_ratio) == (1, 1, 1, 0, 0)
    assert found.detection_auc == pytest.approx(0.5, abs=0.02)


def test_equal_laws_are_near_the_best(report):
    assert report.shapes > 0.9
    assert report.trends > 0.85
    assert report.detection_auc < 0.58
    assert report.utility == pytest.approx(1, abs=0.3)
    assert report.distance_ratio == pytest.approx(1, abs=0.15)


def test_shuffled_columns_keep_shapes_and_lose_trends(report):
    rng = np.random.default_rng(0)
    shuffled = SYNTHETIC.assign(**{name: rng.permutation(SYNTHETIC[name].to_numpy()) for name in ("x", "letter")})
    found = table_report(REAL, shuffled)
    assert found.column_shapes == report.column_shapes
    assert found.pair_trends["x", "y"] < report.pair_trends["x", "y"] - 0.2
    assert found.trends < report.trends - 0.01
    assert found.detection_auc > 0.7


def test_disjoint_tables_are_the_worst():
    found = table_report(pd.DataFrame({"n": range(60), "c": ["a"] * 60}), pd.DataFrame({"n": range(100, 160), "c": ["b"] * 60}))
    assert (found.shapes, found.trends, found.detection_auc, found.distance) == (0, 0, 1, 1)


def test_copies_are_near(report):
    copies = pd.concat([REAL.iloc[:200], SYNTHETIC.iloc[:40]])
    found = table_report(REAL, copies, held_out=HELD_OUT)
    assert found.distance == 0 == found.distance_ratio
    assert found.distance_held_out == report.distance_held_out


def test_order_of_rows_and_columns_does_not_matter(report):
    rng = np.random.default_rng(0)
    tables = [frame.sample(frac=1, random_state=1)[rng.permutation(frame.columns)] for frame in (REAL, SYNTHETIC, HELD_OUT)]
    found = table_report(tables[0], tables[1], held_out=tables[2], target="likes")
    shapes, pairs, others = numbers(report)
    assert numbers(found)[0] == pytest.approx(shapes, rel=1e-12)
    assert numbers(found)[1] == pytest.approx(pairs, rel=1e-12)
    assert numbers(found)[2] == pytest.approx(others, rel=1e-12)
    assert list(found.column_shapes) == list(tables[0].columns)


@pytest.mark.parametrize("kinds", list(itertools.product([True, False], repeat=2)))
def test_pandas_and_polars_say_the_same(report, kinds):
    real, synthetic = (as_polars(frame) if kind else frame for frame, kind in zip((REAL, SYNTHETIC), kinds, strict=True))
    assert table_report(real, synthetic, held_out=as_polars(HELD_OUT), target="likes") == report


def test_types_of_categories_and_numbers_do_not_matter(report):
    typed = {"letter": "category", "x": "Float64", "likes": "boolean"}
    assert table_report(REAL.astype(typed), SYNTHETIC, held_out=HELD_OUT, target="likes") == report
    assert table_report(REAL, SYNTHETIC.astype({"letter": "object"}), held_out=HELD_OUT, target="likes") == report
    enum = as_polars(SYNTHETIC).with_columns(pl.col("letter").cast(pl.Enum(list("dcbae"))), pl.col("when").cast(pl.Datetime("ms")))
    assert table_report(REAL, enum, held_out=HELD_OUT, target="likes") == report


def test_time_zones_are_one_time():
    hours = pd.to_timedelta(np.arange(20), unit="h")
    real = pd.DataFrame({"when": (pd.Timestamp("2020-03-29") + hours).tz_localize("UTC")})
    assert table_report(real, real.assign(when=real["when"].dt.tz_convert("Asia/Tokyo"))).distance == 0


def test_units_do_not_matter(report):
    scaled = [frame.assign(x=2.0**30 * frame["x"], took=64 * frame["took"]) for frame in (REAL, SYNTHETIC, HELD_OUT)]
    found = table_report(scaled[0], scaled[1], held_out=scaled[2], target="likes")
    for first, second in zip(numbers(found), numbers(report), strict=True):
        assert first == pytest.approx(second, rel=1e-9)


def test_a_seed_repeats_and_global_generators_stay(report, monkeypatch):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert table_report(REAL, SYNTHETIC, held_out=HELD_OUT, target="likes") == report
    monkeypatch.setattr(_tables, "MOST_QUERIES", 50)
    found = [table_report(REAL, SYNTHETIC, random_state=seed).distance for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert found == pytest.approx([report.distance] * 3, rel=0.25)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_constants_missing_columns_and_many_categories():
    rng = np.random.default_rng(0)
    real = pd.DataFrame({"n": rng.normal(size=400), "one": 7, "none": np.nan, "c": rng.integers(0, 300, size=400).astype(str)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = table_report(real, real.assign(one=8), held_out=real, target="n")
    assert found.column_shapes["one"] == 0
    assert math.isnan(found.column_shapes["none"])
    assert math.isnan(found.pair_trends["n", "one"])
    assert found.shapes == pytest.approx(2 / 3)
    assert found.distance == pytest.approx(1 / 4)
    assert math.isnan(found.distance_ratio)


def test_a_table_of_one_column_has_no_pairs():
    found = table_report(REAL[["x"]], SYNTHETIC[["x"]])
    assert math.isnan(found.trends)
    assert "no pair" in repr(found)
    assert found.utility is None is found.distance_ratio


# The record and its picture


def test_a_report_is_a_few_lines(report):
    lines = str(report).splitlines()
    assert [line[:14].strip() for line in lines] == [
        "column shapes",
        "pair trends",
        "detection AUC",
        "utility",
        "distance",
        "distance ratio",
    ]
    assert float(lines[0][16:21]) == pytest.approx(report.shapes, abs=1e-3)
    worst = report.worst_columns(1)[0]
    assert f"lowest: {worst} {report.column_shapes[worst]:.3f}" in lines[0]
    assert report.pair_trends[report.worst_pairs(1)[0]] == min(report.pair_trends.values())
    assert len(str(table_report(REAL, SYNTHETIC)).splitlines()) == 4
    assert pickle.loads(pickle.dumps(report)) == report
    with pytest.raises(AttributeError):
        report.distance = 0


def test_marginals_are_shares(report):
    for name, marginal in report.marginals.items():
        assert marginal.real.sum() == pytest.approx(1)
        assert marginal.synthetic.sum() == pytest.approx(1)
        assert len(marginal.values) == len(marginal.real) + (name not in CATEGORIES)
    letters = report.marginals["letter"]
    assert list(letters.values) == list("abcd")
    assert letters.real == pytest.approx(REAL["letter"].value_counts(normalize=True)[list("abcd")].to_numpy())
    assert report.marginals["when"].values[0] == min(REAL["when"].min(), SYNTHETIC["when"].min())


def test_display_shows_the_report(report):
    shown = TableReportDisplay.from_report(report, n_marginals=7, color="k")
    bars, image, *marginals = shown.artists_
    assert [bar.get_width() for bar in bars] == sorted(report.column_shapes.values())
    assert [label.get_text() for label in shown.ax_[0].get_yticklabels()] == report.worst_columns(7)
    assert bars[0].get_facecolor() == (0, 0, 0, 1)
    names = list(report.column_shapes)
    for (a, b), trend in report.pair_trends.items():
        assert image.get_array()[names.index(a), names.index(b)] == pytest.approx(1 - trend)
    assert list(shown.marginals) == report.worst_columns(7)
    assert len(marginals) == 14
    shown.figure_.canvas.draw()
    axes = plt.subplots(1, 3)[1]
    again = TableReportDisplay.from_report(report, n_marginals=1, ax=axes)
    assert list(again.ax_) == list(axes)
    plt.close("all")
    with pytest.raises(TypeError, match=r"ax must be 4 matplotlib Axes or None, got .*Give plt\.subplots\(1, 4\)\[1\]"):
        TableReportDisplay.from_report(report, ax=plt.subplots()[1])
    plt.close("all")
    with pytest.raises(TypeError, match=r"report must be a TableReport, got 3\. Give skcvae\.metrics\.table_report"):
        TableReportDisplay.from_report(3)
    with pytest.raises(ValueError, match="n_marginals must be an integer of at least 0, got -1"):
        TableReportDisplay.from_report(report, n_marginals=-1)


# Errors


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"real": np.zeros((5, 2))}, TypeError, r"real must be a pandas or polars data frame .* Make it by pandas\.DataFrame"),
        ({"synthetic": REAL.set_axis(range(7), axis=1)}, TypeError, "synthetic must be a .* different texts as names"),
        ({"held_out": REAL.to_dict("list")}, TypeError, "held_out must be a pandas or polars data frame"),
        ({"real": pd.DataFrame(index=range(9))}, ValueError, "real must have a column, got none"),
        (
            {"synthetic": REAL.drop(columns="x").assign(z=1)},
            ValueError,
            r"synthetic must have the columns of real, got \['x'\] missing, \['z'\] besides\. Select",
        ),
        ({"held_out": REAL.drop(columns="x")}, ValueError, r"held_out must have the columns of real, got \['x'\] missing"),
        ({"synthetic": REAL[:2]}, ValueError, "synthetic must have 3 rows or more, got 2. Give more rows"),
        (
            {"synthetic": REAL.assign(letter=1.0)},
            TypeError,
            "Column 'letter' must hold the same in all tables, got categories in real and numbers in synthetic. Convert",
        ),
        ({"synthetic": REAL.assign(when=1)}, TypeError, "got dates in real and numbers in synthetic"),
        (
            {"real": REAL.assign(likes=[[1]] * 300)},
            TypeError,
            r"Column 'likes' of real must have numbers.*got \[1\]\. Leave it out",
        ),
        ({"synthetic": REAL.assign(x=np.inf)}, ValueError, "Column 'x' of synthetic must have numbers of at most 1e144, got inf"),
        ({"held_out": HELD_OUT, "target": "z"}, ValueError, "target must be a column of real, got 'z'. Its columns are 'x', 'y'"),
        ({"target": "x"}, ValueError, "target needs held_out, .* got None. Keep some rows"),
        (
            {"real": REAL[["x"]], "synthetic": REAL[["x"]], "held_out": REAL[["x"]], "target": "x"},
            ValueError,
            "target needs other columns to be predicted from, got 'x' alone",
        ),
        (
            {"synthetic": SYNTHETIC.assign(x=np.nan), "held_out": HELD_OUT, "target": "x"},
            ValueError,
            "Column 'x', the target, must have cells in synthetic, got missing ones only",
        ),
        (
            {"held_out": HELD_OUT.assign(likes=True), "target": "likes"},
            ValueError,
            "Column 'likes', the target, must have two values in held_out, got one",
        ),
        ({"random_state": "a"}, ValueError, "random_state must be None, .* got 'a'"),
    ],
)
def test_wrong_arguments_say_what_is_expected(given, error, message, monkeypatch):
    def begun(*_):
        raise AssertionError("the work has begun")

    for name in ("_detection_auc", "_utility", "_median_distance", "_trend"):
        monkeypatch.setattr(_tables, name, begun)
    with pytest.raises(error, match=message):
        table_report(**{"real": REAL, "synthetic": SYNTHETIC, **given})


# SDMetrics


@pytest.mark.filterwarnings("ignore")
def test_shapes_and_trends_are_those_of_sdmetrics():
    """Of tables without a category that real rows lack: SDMetrics adds a millionth of a row to each of these."""
    pytest.importorskip("sdmetrics")
    from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity
    from sdmetrics.single_column import KSComplement, TVComplement

    real, synthetic = (frame.astype({"count": float}) for frame in (REAL, SYNTHETIC))
    found = table_report(real, synthetic)
    assert isinstance(found, TableReport)
    for frame in (real, synthetic):
        for name in ("when", "took"):
            seconds = frame[name].to_numpy().astype(frame[name].to_numpy().dtype.str[:2] + "8[s]").astype(float)
            frame[name] = np.where(frame[name].isna(), np.nan, seconds)
    for name, shape in found.column_shapes.items():
        theirs = (TVComplement if name in CATEGORIES else KSComplement).compute(real[name], synthetic[name])
        assert shape == pytest.approx(theirs, abs=1e-8)
    for pair, trend in found.pair_trends.items():
        pairs = [frame[list(pair)].copy() for frame in (real, synthetic)]
        if CATEGORIES & set(pair):
            theirs = ContingencySimilarity.compute(*pairs, continuous_column_names=sorted(set(pair) - CATEGORIES))
        else:
            theirs = CorrelationSimilarity.compute(*pairs)
        assert trend == pytest.approx(theirs, abs=1e-8)
