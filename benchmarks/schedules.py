"""Which learning rate and how many steps the models with an encoder want, on the data of `defaults.py`.

Protocol: a fit with everything else at its default, two components, of three quarters of the fitted half, `random_state=0`; its
score of the last quarter, in nats a row: what `defaults.py` holds out is not looked at. Seconds are those of one core.

A killed run goes on at the next cell. Run: python benchmarks/schedules.py [--data ...] [--models ...] [--table]
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

from cells import Cells, table
from defaults import DATA, halves, mean_score
from sklearn.base import clone

from skcvae import VAE, WAE

MODELS = {"VAE": VAE(random_state=0), "WAE": WAE(random_state=0)}
SCHEDULES = [(1e-3, 2000), (3e-3, 2000), (1e-2, 2000), (1e-3, 8000)]


def row(name: str, data: str, rate: float, n_steps: int) -> dict[str, Any]:
    """Nats of the rows that are not fitted, and seconds."""
    X, _ = halves(data)
    first, last, begin = X[: 3 * len(X) // 4], X[3 * len(X) // 4 :], time.process_time()
    fitted = clone(MODELS[name]).set_params(learning_rate_init=rate, max_iter=n_steps).fit(first)
    return {"s": time.process_time() - begin, "nats": mean_score(fitted, last)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[name for name in DATA if name != "covtype"], choices=list(DATA))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cells = Cells("schedules")
    for schedule in [] if arguments.table else SCHEDULES:
        for data in arguments.data:
            for name in arguments.models:
                key = {"model": name, "data": data, "rate": schedule[0], "steps": schedule[1]}
                cells.row(lambda name=name, data=data, schedule=schedule: row(name, data, *schedule), **key)
    found = {(r["model"], r["data"], r["rate"], r["steps"]): f"{r['nats']:.2f} ({r['s']:.0f} s)" for r in cells.rows}
    lines = [
        [name, data, *(found.get((name, data, *schedule), "not run") for schedule in SCHEDULES)]
        for name in MODELS
        for data in arguments.data
    ]
    print(table(["model", "data", *(f"{rate:g}, {steps} steps" for rate, steps in SCHEDULES)], lines))


if __name__ == "__main__":
    main()
