"""Rows of Parquet files as an array on disk, from which a fit reads those that it asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skcvae._checks import shown

#: Rows that are read at once.
ROWS_AT_ONCE = 65536


def load_parquet(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    to: str | os.PathLike[str],
    part: tuple[int, int] = (0, 1),
    dtype: Any = np.float32,
) -> np.memmap:
    """Numbers of a Parquet file or folder, as an array on disk.

    A fit asks for rows at random places, which compressed files do not give. So they are read once, a bounded number at a time,
    and written to a file in numpy's format.

    Parameters
    ----------
    path : str or path, a file or a folder of files, in the order of their names
    columns : list of str, default=None
        Columns of numbers or truth values; all by default.
    to : str or path
        The file that is written, which takes the place of one of this name. Its folder must exist.
    part : (int, int), default=(0, 1)
        Which of how many equal parts of the rows, such as (rank, number of processes). Row groups of other parts are not read.
    dtype : float32 or float64, default=float32

    Returns
    -------
    numpy.memmap of shape (n, d), read-only; NaN where a cell is missing

    Raises
    ------
    ImportError
        Without pyarrow: pip install 'skcvae[parquet]'.
    ValueError
        When a column is not there, or holds no numbers, or the part is none.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import pyarrow.parquet
    >>> from skcvae.datasets import load_parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = pyarrow.table({"age": [31.0, None, 45.0], "visits": [2, 0, 7], "name": ["a", "b", "c"]})
    ...     pyarrow.parquet.write_table(rows, f"{folder}/people.parquet")
    ...     X = load_parquet(f"{folder}/people.parquet", ["age", "visits"], to=f"{folder}/people.npy")
    ...     X.shape, X[1].tolist()
    ((3, 2), [nan, 0.0])
    """
    try:
        import pyarrow.dataset
    except ImportError as error:
        raise ImportError("Parquet files are read by pyarrow, which is not installed: pip install 'skcvae[parquet]'.") from error
    place, n_parts = _checked_part(part)
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {shown(dtype)}.")
    source = pyarrow.dataset.dataset(os.fspath(path), format="parquet")
    names = list(source.schema.names if columns is None else columns)
    _check_columns(source.schema, names)
    n_rows = source.count_rows()
    begin, end = place * n_rows // n_parts, (place + 1) * n_rows // n_parts
    target = Path(to)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        found = np.lib.format.open_memmap(unfinished, "w+", dtype=np.dtype(dtype), shape=(end - begin, len(names)))
        written = 0
        for block in _blocks(source, names, begin, end):
            found[written : written + len(block)] = block
            written += len(block)
        found.flush()
        del found
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    rows: np.memmap = np.load(target, mmap_mode="r")
    return rows


def _checked_part(part: Any) -> tuple[int, int]:
    try:
        place, n_parts = map(int, part)
    except (TypeError, ValueError):
        place, n_parts = -1, 0
    if not 0 <= place < n_parts:
        raise ValueError(f"part must be (which, of how many), such as (0, 2), got {shown(part)}.")
    return place, n_parts


def _check_columns(schema: Any, names: list[str]) -> None:
    """ValueError unless columns are there and hold numbers."""
    import pyarrow

    for name in names:
        if name not in schema.names:
            known = ", ".join(map(repr, schema.names[:20]))
            raise ValueError(f"columns must be some of {known}, got {name!r}.")
        kind = schema.field(name).type
        is_number = pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)
        if not is_number and not pyarrow.types.is_decimal(kind):
            raise ValueError(f"Column {name!r} must hold numbers, got {kind}. Leave it out: columns=[...].")


def _blocks(source: Any, names: list[str], begin: int, end: int) -> Iterator[NDArray[np.float64]]:
    """Rows from one place to another, in blocks; row groups that have none of them are not read."""
    before = 0
    for fragment in source.get_fragments():
        for group in fragment.split_by_row_group():
            n_rows = sum(info.num_rows for info in group.row_groups)  # its count_rows counts those of the file
            first, last, at = max(begin - before, 0), min(end - before, n_rows), 0
            before += n_rows
            if first >= last:
                continue
            for batch in group.to_batches(source.schema, columns=names, batch_size=ROWS_AT_ONCE):
                some = batch.slice(max(first - at, 0), max(min(last - at, batch.num_rows) - max(first - at, 0), 0))
                at += batch.num_rows
                if some.num_rows:
                    yield np.column_stack([_numbers(some.column(name)) for name in names])


def _numbers(column: Any) -> NDArray[np.float64]:
    """Numbers of a column, NaN where there is none."""
    import pyarrow

    found: NDArray[np.float64] = column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found
