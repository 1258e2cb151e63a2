"""Quality against seconds: every model at several lengths of its schedule, on the 25 Gaussians and on digits.

Protocol: CoupledVAE has its defaults and `polish_rounds` of 0 (the training alone) to 30 (the default). The
models with an encoder make 500, 2000 and 8000 steps, the whole of their learning rate's cycle in each, with ReLU layers at their
default rate of 1e-3 and with steep layers at 3e-3; `VAE + mixture` is that of `zoo.py`, of either. Seconds are those of the
processor for the fit alone, one thread; a table shows the best of a model's fits within so many seconds, and which it was.

- gaussians: data, networks, decoder scale or penalty as in `gaussians25.py`; `quality` is the share of 20000 samples within 4
  standard deviations, in per cent.
- digits: half of them fitted and half held out as in `defaults.py`, two components, defaults; `quality` is the held-out score in
  nats.

A killed run goes on at the next cell. Run: python benchmarks/budgets.py [--seeds 0] [--data ...] [--models ...] [--table]
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

from cells import Cells, shown, table
from defaults import halves, mean_score
from gaussians25 import MIXTURE, N_SAMPLES, STD, WIDTHS, make_grid, within
from zoo import MODELS, two_stage

from skcvae import CoupledVAE
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP
from skcvae.schedule import Schedule

ROUNDS, STEPS = (0, 1, 2, 4, 8, 30), (500, 2000, 8000)
RATES = {"relu": 1e-3, "steep": 3e-3}
RIVALS = ("VAE", "InfoVAE", "WAE")
ON_GAUSSIANS: dict[str, dict[str, Any]] = {
    "VAE": {"likelihood": GaussianLikelihood(0.05)},
    "InfoVAE": {"likelihood": GaussianLikelihood(0.05), "lambd": 2.0},
    "WAE": {"likelihood": GaussianLikelihood(0.707), "penalty": 100.0},
}
BUDGETS = (5, 10, 20, 40, 80, 160, 320)


def unfitted(name: str, data: str, seed: int, length: int, activation: str) -> Any:
    """The model of this name with a schedule of this length."""
    if name == "CoupledVAE":
        widths = {"hidden_layer_sizes": WIDTHS} if data == "gaussians" else {}
        return CoupledVAE(schedule=Schedule(polish_rounds=length), random_state=seed, **widths)
    params: dict[str, Any] = {"learning_rate_init": RATES[activation], "max_iter": length, "random_state": seed}
    if data == "gaussians":
        network = MLP(WIDTHS, activation=activation, batch_norm=name == "WAE")
        return MODELS[name][0](network=network, n_iter_no_change=length, **params, **ON_GAUSSIANS[name])
    return MODELS[name][0](activation=activation, **params)


def rows(data: str, seed: int) -> tuple[Any, Any]:
    """Rows to fit and others."""
    return (make_grid(STD, seed), None) if data == "gaussians" else halves("digits")


def quality(model: Any, second: Any, seed: int) -> float:
    """Share within 4 standard deviations, or held-out score."""
    return within(model.sample(N_SAMPLES, random_state=1000 + seed)) if second is None else mean_score(model, second)


def run(cells: Cells, name: str, data: str, seed: int, length: int, activation: str) -> None:
    """One fit and its row; a VAE has two."""
    key = {"model": name, "data": data, "seed": seed, "length": length, "activation": activation}
    fitted: list[Any] = []

    def compute() -> dict[str, Any]:
        (first, second), begin = rows(data, seed), time.process_time()
        model = unfitted(name, data, seed, length, activation).fit(first)
        seconds = time.process_time() - begin
        fitted[:] = [two_stage(model, first), time.process_time() - begin] if name == "VAE" else []
        return {"quality": quality(model, second, seed), "s": seconds}

    cells.row(compute, **key)
    if fitted:
        mixture, seconds = fitted
        cells.row(lambda: {"quality": quality(mixture, rows(data, seed)[1], seed), "s": seconds}, **{**key, "model": MIXTURE})


def printed(cells: Cells, data: str, seed: int) -> str:
    """The best of each model within so many seconds."""
    lines = []
    for name in ("CoupledVAE", "VAE", MIXTURE, *RIVALS[1:]):
        found, line = [r for r in cells.rows if (r["model"], r["data"], r["seed"]) == (name, data, seed)], [name]
        for budget in BUDGETS:
            best = max((r for r in found if r["s"] <= budget), key=lambda r: r["quality"], default=None)
            line.append("-" if best is None else f"{shown(best['quality'])} ({_setting(best)})")
        lines.append(line)
    return table([data, *(f"{budget} s" for budget in BUDGETS)], lines)


def _setting(row: dict[str, Any]) -> str:
    return f"{row['length']} rounds" if row["model"] == "CoupledVAE" else f"{row['activation']}, {row['length']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", nargs="+", default=["gaussians", "digits"], choices=["gaussians", "digits"])
    parser.add_argument("--models", nargs="+", default=["CoupledVAE", *RIVALS], choices=["CoupledVAE", *RIVALS])
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cells = Cells("budgets")
    for seed in [] if arguments.table else arguments.seeds:
        for data in arguments.data:
            for name in arguments.models:
                cases = [(r, "steep") for r in ROUNDS] if name == "CoupledVAE" else [(n, a) for n in STEPS for a in RATES]
                for length, activation in cases:
                    run(cells, name, data, seed, length, activation)
    for seed in arguments.seeds:
        for data in arguments.data:
            print(f"\nseed {seed}\n\n{printed(cells, data, seed)}")


if __name__ == "__main__":
    main()
