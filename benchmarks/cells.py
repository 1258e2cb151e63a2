"""Cells of a benchmark that are computed once: a killed run goes on at the next one that is not there."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: Where results are kept; what is there is not computed again.
RESULTS = Path(os.environ.get("BENCH_RESULTS", Path(__file__).parent / "results"))


class Cells:
    """Rows of numbers in results/NAME.jsonl, a line each, and fitted models in results/models/, which git does not keep.

    Another folder than benchmarks/results/ is taken from the environment variable BENCH_RESULTS.

    A key is a few words and numbers; what it stands for is the protocol's: where that changes, remove the file.
    """

    def __init__(self, name: str) -> None:
        self.name, self.path = name, RESULTS / f"{name}.jsonl"
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in _whole_lines(self.path)]

    def row(self, compute: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """The row of this key, computed and appended unless it is there."""
        for row in self.rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        row = json.loads(json.dumps({**key, **compute()}, default=float))
        self.rows.append(row)
        with _made(self.path).open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{name}={shown(value)}" for name, value in row.items()), flush=True)
        return row

    def model(self, fit: Callable[[], Any], **key: Any) -> tuple[Any, float]:
        """The fitted model of this key and the processor's seconds that its fit took, whatever else was running."""
        path = RESULTS / "models" / self.name / ("-".join(str(value) for value in key.values()).replace(" ", "_") + ".pkl")
        if path.exists():
            return pickle.loads(path.read_bytes())  # type: ignore[no-any-return]
        begin = time.process_time()
        fitted = fit(), time.process_time() - begin
        part = _made(path).with_suffix(f".{os.getpid()}")
        part.write_bytes(pickle.dumps(fitted))
        part.replace(path)
        return fitted


def asked(description: str, methods: Sequence[str], **more: dict[str, Any]) -> argparse.Namespace:
    """Arguments of a benchmark on tables, of which `files` are the folder's; it runs in one thread, without warnings."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--methods", nargs="+", default=list(methods))
    for name, options in more.items():
        parser.add_argument(f"--{name}", **options)
    arguments = parser.parse_args()
    arguments.files = [] if arguments.folder is None else sorted(path.stem for path in arguments.folder.glob("*.csv"))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.simplefilter("ignore")
    return arguments


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file, of which a last one that a kill cut off is removed."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return whole.splitlines()


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def shown(value: Any) -> str:
    """A number with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def spread(values: list[float], digits: str = ".1f") -> str:
    """Mean and standard deviation over seeds."""
    mean = f"{np.mean(values):{digits}}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):{digits}}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Rows as Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows])
