"""Rows of Parquet files as arrays on disk."""

import builtins

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from skcvae import VAE
from skcvae.datasets import _parquet, load_parquet

NAMES = ["a", "b", "c"]


@pytest.fixture
def written(tmp_path):
    """A folder of three files with row groups of unlike sizes, and its rows; a column has holes, and one is text."""
    rng, whole, begin = np.random.default_rng(0), [], 0
    (tmp_path / "files").mkdir()
    for number, n in enumerate((100, 1, 57)):
        X = np.column_stack([rng.normal(size=n), rng.integers(0, 9, n), rng.random(n) < 0.5])
        X[::10, 0] = np.nan
        columns = {
            "a": pyarrow.array(X[:, 0], mask=np.isnan(X[:, 0])),
            "b": X[:, 1].astype(np.int32),
            "c": X[:, 2].astype(bool),
            "name": [f"row {begin + place}" for place in range(n)],
        }
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "files" / f"{number}.parquet", row_group_size=23)
        whole.append(X)
        begin += n
    return tmp_path, np.concatenate(whole)


@pytest.mark.parametrize("rows_at_once", [7, 65536])
@pytest.mark.parametrize("n_parts", [1, 2, 5])
def test_parts_are_the_rows_in_their_order(written, n_parts, rows_at_once, monkeypatch):
    monkeypatch.setattr(_parquet, "ROWS_AT_ONCE", rows_at_once)
    folder, X = written
    parts = [load_parquet(folder / "files", NAMES, to=folder / f"{p}.npy", part=(p, n_parts)) for p in range(n_parts)]
    np.testing.assert_array_equal(np.concatenate(parts), X.astype(np.float32))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(isinstance(part, np.memmap) and part.dtype == np.float32 for part in parts)
    assert {path.name for path in folder.iterdir()} == {"files", *(f"{p}.npy" for p in range(n_parts))}


def test_columns_and_precision(written):
    folder, X = written
    found = load_parquet(str(folder / "files"), ["c", "a"], to=str(folder / "rows.npy"), dtype="float64")
    np.testing.assert_array_equal(found, X[:, [2, 0]])
    assert found.dtype == np.float64


def test_a_part_may_be_empty_and_a_file_lack_a_column(tmp_path):
    (tmp_path / "files").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"a": [1.0, 2.0], "b": [3, 4]}), tmp_path / "files" / "0.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"a": [5.0]}), tmp_path / "files" / "1.parquet")
    assert load_parquet(tmp_path / "files", ["a"], to=tmp_path / "rows.npy", part=(0, 5)).shape == (0, 1)
    found = load_parquet(tmp_path / "files", ["a", "b"], to=tmp_path / "rows.npy")
    np.testing.assert_array_equal(found, [[1, 3], [2, 4], [5, np.nan]])


def test_a_model_is_fitted_to_it(written):
    folder, X = written
    rows = load_parquet(folder / "files", ["b", "c"], to=folder / "rows.npy", dtype=np.float64)
    fitted, alike = (VAE(1, max_iter=20, hidden_layer_sizes=(8,), random_state=0).fit(part) for part in (rows, X[:, 1:]))
    np.testing.assert_array_equal(fitted.transform(rows), alike.transform(X[:, 1:]))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"columns": ["a", "d"]}, r"columns must be some of 'a', 'b', 'c', 'name', got 'd'"),
        ({}, r"Column 'name' must hold numbers, got string\. Leave it out"),
        ({"columns": NAMES, "part": (2, 2)}, r"part must be \(which, of how many\), such as \(0, 2\), got \(2, 2\)"),
        ({"columns": NAMES, "part": 3}, r"part must be \(which, of how many\)"),
        ({"columns": NAMES, "dtype": int}, r"dtype must be float32 or float64, got"),
    ],
)
def test_bad_input(written, params, text):
    folder, _ = written
    with pytest.raises(ValueError, match=text):
        load_parquet(folder / "files", to=folder / "rows.npy", **params)
    assert {path.name for path in folder.iterdir()} == {"files"}


def test_a_file_from_before_stays_where_reading_fails(written, monkeypatch):
    folder, X = written
    before = np.array(load_parquet(folder / "files", NAMES, to=folder / "rows.npy"))

    def broken(*_):
        yield X[:10, :1].astype(np.float32)
        raise OSError("the disk is gone")

    monkeypatch.setattr(_parquet, "_blocks", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        load_parquet(folder / "files", ["a"], to=folder / "rows.npy")
    np.testing.assert_array_equal(np.load(folder / "rows.npy"), before)
    assert {path.name for path in folder.iterdir()} == {"files", "rows.npy"}


def test_without_pyarrow(written, monkeypatch):
    folder, _ = written
    given = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return given(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'skcvae\[parquet\]'"):
        load_parquet(folder / "files", NAMES, to=folder / "rows.npy")
