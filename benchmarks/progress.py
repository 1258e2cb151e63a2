"""How long default fits take beside an earlier version of this library, and when the 25 Gaussians reach 97 %.

Protocol: the present version and the one in `--before`, a checkout of it, make the same fit at the same time, each in a process
with one thread. Seconds are those of the processor. A calibration loop of plain torch steps, a decoder 2-256-256-64 on batches of
256, runs in each process before and after the fit: `unit` is what 1000 of its steps take. What counts is the ratio of the fits.

- gaussians: `CoupledVAE(hidden_layer_sizes=(256, 256, 256), random_state=s).fit(X)` as in gaussians25.py. After every round of
  polishing the clock is stopped and 20000 samples are taken from the decoder as it is, with matched noise: `reached` is when 97 %
  of them are first within 4 standard deviations, `within` that share of the fitted model's samples.
- digits: README's first example. wine: every second row, standardised, two components. table: 400 x 4 normal numbers.

`score` is the fit's own rows' mean score in nats, fresh rows' for the Gaussians.

Run: git worktree add ../before d611268 && python benchmarks/progress.py --before ../before [--seeds 0 1] [--fits gaussians ...]
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
COLUMNS = ("reached", "fit", "within", "score", "unit")
FITS, N_STEPS = ("gaussians", "digits", "wine", "table"), 2000


class Clock:
    """Seconds of the processor that a fit takes, without what is measured of it."""

    def __init__(self) -> None:
        self.begin = time.process_time()

    def now(self) -> float:
        return time.process_time() - self.begin

    def stopped_since(self, moment: float) -> None:
        self.begin += self.now() - moment


def calibration() -> float:
    """Seconds of the processor that 1000 steps of a plain decoder take."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 64))
    optimiser = torch.optim.Adam(decoder.parameters(), lr=1e-3)
    z, x = torch.randn(256, 2, generator=generator), torch.randn(256, 64, generator=generator)
    begin = time.process_time()
    for _ in range(N_STEPS):
        loss = (decoder(z) - x).square().sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.process_time() - begin) * 1000 / N_STEPS


def measured(name: str, seed: int) -> dict[str, float]:
    """The fit by the version that this process imports."""
    unit = calibration()
    row = on_gaussians(seed) if name == "gaussians" else on_table(name, seed)
    return {"reached": float("nan"), "within": float("nan"), **row, "unit": (unit + calibration()) / 2}


def on_table(name: str, seed: int) -> dict[str, float]:
    """Seconds and score of a default fit."""
    import numpy as np
    from sklearn.datasets import load_digits, load_wine
    from sklearn.preprocessing import StandardScaler

    from skcvae import CoupledVAE

    X = {
        "digits": lambda: load_digits().data / 16,
        "wine": lambda: StandardScaler().fit_transform(load_wine().data)[::2],
        "table": lambda: np.random.default_rng(0).normal(size=(400, 4)),
    }[name]()
    clock = Clock()
    model = CoupledVAE(n_components=2, random_state=seed).fit(X)
    return {"fit": clock.now(), "score": float(model.score(X))}


def on_gaussians(seed: int) -> dict[str, float]:
    """Seconds to 97 % and of the whole fit, its share and its score."""
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
    spent, share = clock.now(), within(model.sample(N_SAMPLES, random_state=1000 + seed))
    score = float(model.score(make_grid(0.05, 1000 + seed)))
    return {"reached": min(reached, default=float("nan")), "fit": spent, "within": share, "score": score}


def begun(version: Path, name: str, seed: int) -> subprocess.Popen[str]:
    """A process that measures the version in a folder, with this folder's scripts."""
    environment = {**os.environ, "PYTHONPATH": str(version.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", name, str(seed)]
    return subprocess.Popen(command, env=environment, cwd=HERE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, default=HERE.parent, help="checkout of the earlier version")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--fits", nargs="+", default=list(FITS), choices=FITS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.one is not None:
        print(json.dumps(measured(arguments.one[0], int(arguments.one[1]))))
        return
    lines = []
    for name in arguments.fits:
        for seed in arguments.seeds:
            processes = {version: begun(path, name, seed) for version, path in (("before", arguments.before), ("now", HERE.parent))}
            rows = {version: json.loads(process.communicate()[0].splitlines()[-1]) for version, process in processes.items()}
            for version, row in rows.items():
                ratio = shown(row["fit"] / rows["before"]["fit"])
                lines.append([name, str(seed), version, *(shown(row[column]) for column in COLUMNS), ratio])
                print(" | ".join(lines[-1]), flush=True)
    print(table(["fit", "seed", "version", "to 97 %, s", "fit, s", "within 4 std, %", "score", "unit, s", "ratio"], lines))


if __name__ == "__main__":
    main()
