"""What each part of a coupled fit is worth: one part changed at a time, on the 25 Gaussians and on digits.

Protocol: `CoupledVAE(hidden_layer_sizes=(128, 128), max_iter=1000, random_state=s)` for s = 0, 1 with at most ten rounds of
polishing and pools of at most 32768 draws, on 60 points a mode of the grid of `gaussians25.py` and on three quarters of
scikit-learn's digits (see `factors.py`). `within` is the share of 5000 matched samples within 4 standard deviations, `nats` the
held-out score, `error` the marginal error that the fit certifies. Parts:

- *Sobol*: independent draws in place of evenly spread ones, in training, polishing and the pool.
- *annealing*: training at the target's temperature from the first step.
- *layouts*: only the trained one, or only the linear one, is polished.
- *potential*: a network, and the gradient ascent of the paper's Algorithm 2.
- *inner iterations*: at most 1, 3, 30 in a training step (10 by default).
- *pool*: at least 1024 and at least 16384 draws (4096 by default).
- *initialisation*: decoders that start at random in place of on the principal axes.
- *polishing*: all rounds of the first kind; the last ones on four times the draws, with four times the batch; only one round from
  each layout.
- *layers*: ReLU in place of steep ones, at their former learning rate of 2e-3 and at the same.
- *draws of a step*: half of them, in place of nine of ten, where the decoder is far off.
- *last rate*: three times as high, as it was.
- *training*: 500 steps on 2048 rows in place of 100 on 1024; and all of these four at once, which is the former way.

A killed run goes on at the next cell. Run: python benchmarks/ablation.py [--seeds 0 1] [--parts ...] [--table]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np
import torch
from cells import Cells, spread, table
from factors import DEFAULT, digits
from gaussians25 import make_grid, within

from skcvae import CoupledVAE, _phases
from skcvae._phases import _polish, _train
from skcvae._training import Course
from skcvae.priors import Prior, QuantilePrior
from skcvae.schedule import Schedule
from skcvae.transport import GradientAscent, SemiDual

Patch = tuple[Any, str, Any]


def _random_start(problem: _phases.Problem) -> _phases.Layout:
    """The start without its linear part: weights as the network draws them."""
    before = {k: v.clone() for k, v in problem.decoder.state_dict().items()}
    layout = _train.start(problem)
    problem.decoder.load_state_dict(before)
    return _phases.Layout.of(problem, torch.zeros_like(problem.source.carrier), layout.temperature)


def _cold(course: Course[_phases.Problem], hot: float) -> _phases.Layout:
    return _train.train(course, course.root.setting.epsilon)


def _only(index: int) -> Callable[..., Any]:
    return lambda course, layouts: _polish.polish(course, [layouts[index]])


SCHEDULE: Schedule = DEFAULT["schedule"]
STAGES = SCHEDULE.stages
FIRST_STAGE_ONLY = (dataclasses.replace(STAGES[0], share=1.0),)
THIRD_STAGE = (
    *STAGES[:1],
    dataclasses.replace(STAGES[1], share=1 / 2),
    dataclasses.replace(STAGES[1], draws=524288, batch=8),
)
LAST_RATE = (*STAGES[:1], dataclasses.replace(STAGES[1], rate=3 * STAGES[1].rate))
CELLS: dict[str, tuple[dict[str, Any], list[Patch]]] = {
    "default": ({}, []),
    "plain draws": ({}, [(QuantilePrior, "_sampler", Prior._sampler)]),
    "no annealing": ({}, [(_phases, "train", _cold)]),
    "only the linear layout": ({}, [(_phases, "polish", _only(0))]),
    "only the trained layout": ({}, [(_phases, "polish", _only(1))]),
    "potential: network": ({"solver": "semi-dual-network"}, []),
    "potential: printed ascent": ({"solver": GradientAscent()}, []),
    "1 inner iteration": ({"solver": SemiDual(batch_max_iter=1)}, []),
    "3 inner iterations": ({"solver": SemiDual(batch_max_iter=3)}, []),
    "30 inner iterations": ({"solver": SemiDual(batch_max_iter=30)}, []),
    "pool of 1024": ({"pool_size": 1024}, []),
    "pool of 16384": ({"pool_size": 16384}, []),
    "random initialisation": ({}, [(_phases, "start", _random_start)]),
    "no second stage": ({"schedule": dataclasses.replace(SCHEDULE, stages=FIRST_STAGE_ONLY)}, []),
    "a third stage": ({"schedule": dataclasses.replace(SCHEDULE, stages=THIRD_STAGE)}, []),
    "relu, rate 2e-3": ({"activation": "relu", "learning_rate_init": 2e-3}, []),
    "relu": ({"activation": "relu"}, []),
    "half of the draws where it is far off": ({}, [(_polish, "HARD_SHARE", 0.5)]),
    "three times the last rate": ({"schedule": dataclasses.replace(SCHEDULE, stages=LAST_RATE)}, []),
    "500 training steps": ({"schedule": dataclasses.replace(SCHEDULE, training_steps=500, training_rows=2048)}, []),
    "these four at once": (
        {
            "activation": "relu",
            "learning_rate_init": 2e-3,
            "schedule": dataclasses.replace(SCHEDULE, stages=LAST_RATE, training_steps=500, training_rows=2048),
        },
        [(_polish, "HARD_SHARE", 0.5)],
    ),
    "one round of polishing": ({"schedule": dataclasses.replace(SCHEDULE, polish_rounds=1)}, []),
}


def fitted(name: str, X: np.ndarray, seed: int) -> tuple[CoupledVAE, dict[str, float]]:
    """A model with this part changed, and its certificate."""
    (params, patches), begin = CELLS[name], time.perf_counter()
    with ExitStack() as exchanged:
        for patch in patches:
            exchanged.enter_context(mock.patch.object(*patch))
        model = CoupledVAE(**{**DEFAULT, "random_state": seed, **params}).fit(X)
    return model, {"error": model.coupling_.marginal_error, "draws": model.coupling_.n_draws, "s": time.perf_counter() - begin}


def row(name: str, data: str, seed: int) -> dict[str, float]:
    """One fit."""
    if data == "grid":
        model, record = fitted(name, make_grid(0.05, seed)[::5], seed)
        return {"within": within(model.sample(5000, random_state=1)), **record}
    first, second = digits()
    model, record = fitted(name, first, seed)
    return {"nats": model.score(second), **record}


def printed(cells: Cells) -> str:
    """The table."""
    lines = []
    for name in (name for name in CELLS if any(r["part"] == name for r in cells.rows)):
        line = [name]
        for data, column, style in (("grid", "within", ".1f"), ("digits", "nats", ".2f")):
            rows = [r for r in cells.rows if (r["part"], r["data"]) == (name, data)]
            if rows:
                line += [spread([r[column] for r in rows], style), f"{max(r['error'] for r in rows):.1e}"]
                line += [f"{max(r['draws'] for r in rows)}", spread([r["s"] for r in rows], ".0f")]
        lines.append(line)
    return table(["part", "within, %", "error", "draws", "s", "nats, digits", "error", "draws", "s"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--parts", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cells = Cells("ablation")
    for seed in [] if arguments.table else arguments.seeds:
        for name in arguments.parts:
            for data in ("grid", "digits"):
                cells.row(lambda name=name, data=data, seed=seed: row(name, data, seed), part=name, data=data, seed=seed)
    print(printed(cells))


if __name__ == "__main__":
    main()
