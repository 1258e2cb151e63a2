"""Size, latency and memory of a fitted model with a large pool: 32768 draws of 784 features, one row at a time, on one core.

Each figure stands beside a budget; the script fails where one is above it. Memory is what the first `transform` of one row adds at
most to the resident size of a process that has loaded the model, over the size of the pool's numbers. A calibration loop, one
product of a row with a matrix of the pool's size, says what the machine can do.

Run: OMP_NUM_THREADS=1 python benchmarks/fitted.py [--draws 32768] [--features 784] [--repeats 20]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import table

import skcvae
from skcvae import CoupledVAE
from skcvae.schedule import Schedule

#: What a row may take, in ms, the memory beside the pool over the pool, and the file over the pool and the weights.
BUDGETS = {"transform, float32": 60.0, "transform, float64": 150.0, "memory": 0.5, "file": 1.1}


def fitted(n_draws: int, n_features: int) -> CoupledVAE:
    """A barely fitted model: only sizes count here."""
    X = np.random.default_rng(0).random((200, n_features), dtype=np.float32)
    short = Schedule(polish_rounds=1, max_draws=n_draws, solve_max_iter=3)
    return CoupledVAE(pool_size=n_draws, schedule=short, max_iter=20, hidden_layer_sizes=(64,), random_state=0).fit(X)


def milliseconds(run: Callable[[], Any], repeats: int) -> float:
    """Median of repeated runs, after one that is not counted."""
    run()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(taken))


def peak(path: str, dtype: str) -> float:
    """Bytes that `transform` of one row adds at most to a process that has loaded the model."""
    model = skcvae.load(path)
    row = np.zeros((1, model.n_features_in_), dtype)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the largest resident size is from now on that of now
    before = _status("VmRSS")
    model.transform(row)
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """A size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(float(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=32768)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--peak", nargs=2, metavar=("PATH", "DTYPE"))
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(*arguments.peak))
        return
    warnings.simplefilter("ignore")
    model = fitted(arguments.draws, arguments.features)
    pool = model._fitted.pool
    held = sum(
        t.numel() * t.element_size() for t in (pool.draws, pool.key, pool.log_coupling, pool.log_density, pool.log_aggregate)
    )
    weights = sum(t.numel() * t.element_size() for t in model.module_.state_dict().values())
    found = {}
    for dtype in ("float32", "float64"):
        row = np.zeros((1, arguments.features), dtype)
        found[f"transform, {dtype}"] = milliseconds(lambda row=row: model.transform(row), arguments.repeats)
    key = torch.zeros(arguments.draws, arguments.features)
    loop = milliseconds(lambda: key @ torch.zeros(arguments.features), arguments.repeats)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model"
        model.save(path)
        found["file"] = Path(path).stat().st_size / (held + weights)
        command = [sys.executable, __file__, "--peak", path]
        peaks = [float(subprocess.run([*command, d], capture_output=True, text=True, check=True).stdout) for d in ("f4", "f8")]
        found["memory"] = max(peaks) / held
    print(f"pool {held / 2**20:.0f} MiB, calibration loop {loop:.1f} ms")
    print(table(["what", "found", "budget"], [[name, f"{found[name]:.2f}", f"{limit:g}"] for name, limit in BUDGETS.items()]))
    sys.exit(any(found[name] > limit for name, limit in BUDGETS.items()))


if __name__ == "__main__":
    main()
