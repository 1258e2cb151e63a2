"""How long a fit of the 25 Gaussians takes to 97 %, beside an earlier version of this library.

Protocol: `CoupledVAE(hidden_layer_sizes=(256, 256, 256), random_state=s).fit(X)` as in gaussians25.py, by the present version and
by the one in `--before`, a checkout of it, at the same time, each in a process with one thread. After every round of polishing
the clock is stopped and 20000 samples are taken from the decoder as it is, with matched noise. `reached` is when 97 % of them are
first within 4 standard deviations, `fit` when the whole fit ends, and `within` that share of the fitted model's samples.

Run: git worktree add ../before d63e19f && python benchmarks/progress.py --before ../before [--seeds 0 1]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from cells import shown, table

HERE = Path(__file__).parent
ENOUGH, N_SAMPLES = 97.0, 20000
COLUMNS = ("reached", "fit", "within")


class Clock:
    """Seconds of the fit, without what is measured of it."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self.begin

    def stopped_since(self, moment: float) -> None:
        self.begin += self.now() - moment


def measured(seed: int) -> dict[str, float]:
    """The fit by the version that this process imports."""
    import numpy as np
    from gaussians25 import WIDTHS, make_grid, within

    from skcvae import CoupledVAE
    from skcvae._phases import _polish

    reached, clock, plan_of = list[float](), Clock(), _polish._frozen_plan

    def watched(problem: Any, *args: Any) -> Any:
        made, moment = plan_of(problem, *args), clock.now()
        plan = made[0] if isinstance(made, tuple) else made
        family = problem.family.tempered(problem.setting.epsilon)
        noisy = family.noise(problem.predicted(plan.z[:N_SAMPLES]), np.random.default_rng(seed))
        reached.extend([moment] if within(family.restore(noisy.detach().numpy())) >= ENOUGH else [])
        clock.stopped_since(moment)
        return made

    _polish._frozen_plan = watched
    model = CoupledVAE(hidden_layer_sizes=WIDTHS, random_state=seed).fit(make_grid(0.05, seed))
    share = within(model.sample(N_SAMPLES, random_state=1000 + seed))
    return {"reached": min(reached, default=float("nan")), "fit": clock.now(), "within": share}


def begun(version: Path, seed: int) -> subprocess.Popen[str]:
    """A process that measures the version in a folder, with this folder's scripts."""
    environment = {**os.environ, "PYTHONPATH": str(version.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", str(seed)]
    return subprocess.Popen(command, env=environment, cwd=HERE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, default=HERE.parent, help="checkout of the earlier version")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.one is not None:
        print(json.dumps(measured(arguments.one)))
        return
    lines = []
    for seed in arguments.seeds:
        processes = {"before": begun(arguments.before, seed), "now": begun(HERE.parent, seed)}
        rows = {name: json.loads(process.communicate()[0].splitlines()[-1]) for name, process in processes.items()}
        lines += [[str(seed), name, *(shown(row[column]) for column in COLUMNS)] for name, row in rows.items()]
    print(table(["seed", "version", "to 97 %, s", "fit, s", "within 4 std, %"], lines))


if __name__ == "__main__":
    main()
