"""How long default fits take beside other work, over the same fits alone.

Protocol: a fresh process makes the default fit of a data set, `CoupledVAE(random_state=0).fit(X)` or
`VAE(random_state=0).fit(X)`, once to warm up with `max_iter=1` and once timed by wall-clock. It is alone with one thread of torch
(`OMP_NUM_THREADS=1`), alone with as many threads as there are cores, and so beside one and beside as many busy processes as there
are cores; each busy process counts in a loop of Python. Printed are seconds of the first and ratios of the others over it. With c
cores and b busy processes of equal right, one thread has a share of c/(b + 1) of a core: the least ratio beside two on two cores is
1.5. Each cell is the median of `--repeats` processes.

Data: two moons (1000 x 2, noise 0.1), scikit-learn's wine (standardised) and digits (dequantised).

Run on a machine with nothing else to do: python benchmarks/contention.py [--before ../before] [--repeats 3] [--data ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

from cells import shown, table

HERE = Path(__file__).parent
N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
DATA = ("moons", "wine", "digits")
MODELS = ("CoupledVAE", "VAE")
BUSY = "while True: sum(range(1000))"
#: Threads (None for all) and busy processes.
CASES = ((1, 0), (None, 0), (None, 1), (None, N_CORES))


def seconds(model: str, data: str) -> float:
    """Wall-clock of a default fit by the version that this process imports."""
    from sklearn.datasets import load_wine, make_moons
    from sklearn.preprocessing import StandardScaler

    import skcvae

    X = {
        "moons": lambda: make_moons(1000, noise=0.1, random_state=0)[0],
        "wine": lambda: StandardScaler().fit_transform(load_wine().data),
        "digits": lambda: skcvae.datasets.load_dequantised_digits()[0],
    }[data]()
    estimator = getattr(skcvae, model)(random_state=0)
    estimator.set_params(max_iter=1).fit(X)
    begin = time.perf_counter()
    estimator.set_params(max_iter=type(estimator)().max_iter).fit(X)
    return time.perf_counter() - begin


def measured(version: Path, model: str, data: str, n_threads: int | None, n_busy: int) -> float:
    """The same by a version in a folder, in a process of its own beside busy ones."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(version.resolve())} | ({} if n_threads is None else {"OMP_NUM_THREADS": str(n_threads)})
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_busy)]
    try:
        command = [sys.executable, __file__, "--one", model, data]
        done = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="checkout of an earlier version, measured as well")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.one is not None:
        print(seconds(*arguments.one))
        return
    versions = {"now": HERE.parent} | ({} if arguments.before is None else {"before": arguments.before})
    lines = []
    for model in arguments.models:
        for data in arguments.data:
            for name, version in versions.items():
                times = [
                    statistics.median(measured(version, model, data, *case) for _ in range(arguments.repeats)) for case in CASES
                ]
                lines.append([model, data, name, shown(times[0]), *(shown(t / times[0]) for t in times[1:])])
                print(" | ".join(lines[-1]), flush=True)
    threads = f"{N_CORES} threads"
    print(table(["model", "data", "version", "alone, 1 thread, s", threads, "beside 1", f"beside {N_CORES}"], lines))


if __name__ == "__main__":
    main()
