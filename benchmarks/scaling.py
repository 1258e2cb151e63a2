"""How time and memory grow with the number of rows, and what plans of a sample of them cost in quality.

Protocol: data of 16 features, a curved two-dimensional surface with noise: x = tanh(3 A u) + 0.05 e with u ~ N(0, I_2) and A fixed.

- *steps*: median seconds of a training step of `CoupledVAE` and of `VAE` (their defaults, batch 256) at n = 1e3 to 1e6, all of
  them in one process, blocks of 20 steps of the sizes in turn; slope of log seconds on log n.
- *disk*: float32 rows in a `numpy.memmap`, larger than the memory that the process may allocate (`RLIMIT_DATA`, which does not
  count pages of a mapped file), fitted and transformed; peak of what was allocated.
- *inference*: `transform` and `score_samples` of 1e6 float32 rows by a pool of 4096, and the floor of kernels.py for as many pairs.
- *rows*: `CoupledVAE(max_iter=1000, schedule=Schedule(polish_rounds=10, max_rows=r))` on 1e5 rows of this surface and of the 25
  Gaussians: held-out score of 4096 rows, share of samples within 4 standard deviations, marginal error, seconds.

A killed run goes on at the next cell.

Run: python benchmarks/scaling.py [--parts steps disk inference rows] [--rows 4096 16384 65536] [--table]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kernels
import numpy as np
import torch
from cells import Cells, shown, table
from gaussians25 import make_grid, within

from skcvae import VAE, CoupledVAE, _training
from skcvae.schedule import Schedule

PARTS = ("steps", "disk", "inference", "rows")
SIZES = (1000, 10_000, 100_000, 1_000_000)
BLOCK, BLOCKS = 20, 5
ROWS = (4096, 16384, 65536)
N_ROWS, N_HELD_OUT = 100_000, 4096
#: Rows on disk, and what the process may allocate: the rows are 1.5 GB, and Python with torch takes about 0.6 GB of it.
ON_DISK, ALLOWED = 24_000_000, 1.2e9


def surface(n: int, seed: int) -> np.ndarray:
    """Rows (n, 16) of the surface, float32."""
    rng = np.random.default_rng(seed)
    slopes = np.random.default_rng(0).standard_normal((2, 16))
    return (np.tanh(1.5 * rng.standard_normal((n, 2)) @ slopes) + 0.05 * rng.standard_normal((n, 16))).astype(np.float32)


class Paused(Exception):
    """The loop is where it was wanted."""


def stepper(model: Any, X: np.ndarray) -> Callable[[], object]:
    """A training step of a fit that was stopped in the middle of its training."""
    kept: list[Callable[[int], bool]] = []

    def repeat(step: Callable[[int], bool], n_steps: int, *_: Any) -> int:
        for t in range(n_steps // 2):
            step(t)
        kept.append(step)
        raise Paused

    original, _training.repeat = _training.repeat, repeat
    try:
        model.fit(X)
    except Paused:
        pass
    finally:
        _training.repeat = original
    return lambda: kept[0](model.max_iter // 2)


def step_seconds(name: str) -> dict[str, float]:
    """Median seconds of a step at each size."""
    kind = {"CoupledVAE": CoupledVAE, "VAE": VAE}[name]
    steps = {n: stepper(kind(max_iter=40, random_state=0), surface(n, 1)) for n in SIZES}
    taken: dict[int, list[float]] = {n: [] for n in SIZES}
    for _ in range(BLOCKS):
        for n, step in steps.items():
            begin = time.perf_counter()
            for _ in range(BLOCK):
                step()
            taken[n].append((time.perf_counter() - begin) / BLOCK)
    medians = {n: float(np.median(values)) for n, values in taken.items()}
    slope = np.polyfit(np.log(list(medians)), np.log(list(medians.values())), 1)[0]
    return {**{f"ms_{n}": 1e3 * value for n, value in medians.items()}, "slope": float(slope)}


def allocated() -> float:
    """Bytes that the process has allocated and not mapped from a file, now."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024.0 * float(fields["VmData"].split()[0])


def on_disk(path: str, n_rows: int) -> None:
    """Fit and transform rows on disk under the cap; run by `capped` in a process of its own."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(ALLOWED), int(ALLOWED)))
    X = np.memmap(path, np.float32, "r", shape=(n_rows, 16))
    for model in (CoupledVAE(max_iter=200, schedule=Schedule(polish_rounds=3)), VAE(max_iter=200)):
        begin = time.perf_counter()
        model.set_params(random_state=0).fit(X)
        fitted = time.perf_counter() - begin
        scores = model.score_samples(X[:4096])
        print(f"{type(model).__name__} {fitted} {float(np.mean(scores))} {allocated()}", flush=True)


def capped() -> dict[str, Any]:
    """Seconds and bytes of fits of rows that the memory allowed does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        rows = np.memmap(path, np.float32, "w+", shape=(ON_DISK, 16))
        for begin in range(0, ON_DISK, 10**6):
            rows[begin : begin + 10**6] = surface(min(10**6, ON_DISK - begin), begin)
        rows.flush()
        del rows
        code = f"import scaling; scaling.on_disk({str(path)!r}, {ON_DISK})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    lines = [line.split() for line in done.stdout.splitlines()]
    return {f"{name}_{key}": float(v) for name, *vs in lines for key, v in zip(("s", "nats", "bytes"), vs, strict=True)}


def inference() -> dict[str, float]:
    """Seconds for a million rows, and the least that as many pairs can take."""
    X = surface(10**6, 2)
    short = Schedule(polish_rounds=1, max_draws=4096, marginal_tol=1.0)
    model = CoupledVAE(max_iter=100, random_state=0, schedule=short).fit(X[:5000])
    least = kernels.floor(kernels.Case("4096x1000000x16", "float32"))
    work = {"floor_s": least, "transform_s": lambda: model.transform(X), "score_samples_s": lambda: model.score_samples(X)}
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(3):
        for name, function in work.items():
            begin = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values)) for name, values in taken.items()}


def sampled(data: str, max_rows: int) -> dict[str, Any]:
    """Quality of a fit whose plans are made of at most this many rows."""
    n = N_ROWS + N_HELD_OUT
    X = surface(n, 1) if data == "surface" else make_grid(0.05, 0, n // 25 + 1)[:n].astype(np.float32)
    X = X[np.random.default_rng(0).permutation(n)]
    schedule = Schedule(polish_rounds=10, max_rows=max_rows)
    begin = time.perf_counter()
    model = CoupledVAE(max_iter=1000, random_state=0, schedule=schedule).fit(X[:N_ROWS])
    row = {"s": time.perf_counter() - begin, "nats": model.score(X[N_ROWS:]), "error": model.coupling_.marginal_error}
    return row | ({"within": within(model.sample(5000, random_state=1))} if data != "surface" else {})


def printed(rows: list[dict[str, Any]]) -> str:
    """The table of one part."""
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "part"]
    return table(columns, [[shown(row.get(name, "-")) for name in columns] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--table", action="store_true", help="print what is there, and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cells, parts = Cells("scaling"), [] if arguments.table else arguments.parts
    for name in ("CoupledVAE", "VAE") if "steps" in parts else ():
        cells.row(lambda name=name: step_seconds(name), part="steps", model=name, threads=torch.get_num_threads())
    if "disk" in parts:
        cells.row(capped, part="disk")
    if "inference" in parts:
        cells.row(inference, part="inference", threads=torch.get_num_threads())
    for data in ("25 Gaussians", "surface") if "rows" in parts else ():
        for max_rows in arguments.rows:
            cells.row(lambda data=data, r=max_rows: sampled(data, r), part="rows", data=data, max_rows=max_rows)
    for part in PARTS:
        print(f"\n{printed([row for row in cells.rows if row['part'] == part])}")


if __name__ == "__main__":
    main()
