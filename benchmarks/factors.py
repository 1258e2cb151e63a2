"""Each factor varied alone from the default: prior, solver, weight of the marginal, proposal.

Protocol: `CoupledVAE(hidden_layer_sizes=(128, 128), max_iter=1000, random_state=0)` with at most ten rounds of polishing and pools
of at most 32768 draws, on

- the grid of 25 Gaussians thinned to 60 points a mode: modes found and share of 5000 matched samples within 4 std;
- scikit-learn's digits, dequantised as (X + U[0, 1))/17, constant columns dropped, a quarter held out (seed 0): held-out nats.

With each: marginal error, median effective sample size of the posteriors, seconds. Atoms: 25 on the grid, 30 on the digits,
one-hot.

Run: python benchmarks/factors.py [--only NAME]
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from gaussians25 import grid_metrics, make_grid
from sklearn.model_selection import train_test_split

from skcvae import CoupledVAE
from skcvae.datasets import load_dequantised_digits
from skcvae.schedule import Schedule
from skcvae.transport import GradientAscent

DEFAULT: dict[str, Any] = {
    "hidden_layer_sizes": (128, 128),
    "max_iter": 1000,
    "random_state": 0,
    "schedule": Schedule(polish_rounds=10, max_draws=32768),
}
CELLS: dict[str, dict[str, Any]] = {
    "default": {},
    "prior: uniform": {"prior": "uniform"},
    "prior: Dirichlet, 3 coordinates": {"prior": "dirichlet", "n_components": 3},
    "prior: mixture": {"prior": "mixture"},
    "prior: Laplace, from torch": {"prior": torch.distributions.Laplace(torch.zeros(2), torch.ones(2))},
    "prior: a function": {"prior": lambda n, seed: np.random.default_rng(seed).normal(size=(n, 2))},
    "prior: atoms": {"prior": "categorical"},
    "strategy: primal": {"solver": "semi-dual-primal"},
    "potential: network": {"solver": "semi-dual-network"},
    "formulation: dual": {"solver": "dual"},
    "dual, networks": {"solver": "dual-network"},
    "printed gradient ascent": {"solver": GradientAscent()},
    "varsigma: 0": {"varsigma": 0.0},
    "varsigma: 1": {"varsigma": 1.0},
    "varsigma: 10": {"varsigma": 10.0},
    "proposal: encoder": {"proposal": "encoder"},
}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Dequantised digits without constant columns, fitted and held out."""
    first, second = train_test_split(load_dequantised_digits()[0], test_size=0.25, random_state=0)
    return first, second


def fitted(params: dict[str, Any], X: np.ndarray, n_atoms: int) -> tuple[CoupledVAE, str]:
    """A model, and its diagnostics as cells of a table."""
    if params.get("prior") == "categorical":
        params = {**params, "n_components": n_atoms}
    start = time.perf_counter()
    model = CoupledVAE(**{**DEFAULT, **params}).fit(X)
    seconds = time.perf_counter() - start
    size = np.median(model.posterior(X[:300]).importance_ess)
    return model, f"{model.coupling_.marginal_error:.1e} | {size:.0f} of {model.coupling_.n_draws} | {seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="run only the cells whose name holds this")
    only = parser.parse_args().only or ""
    warnings.simplefilter("ignore")
    grid, (first, second) = make_grid(0.05, 0)[::5], digits()
    print("| factor | modes | within 4 std, % | error | ESS | s | held-out nats, digits | error | ESS | s |\n|" + "---|" * 10)
    for name, params in CELLS.items():
        if only in name:
            on_grid, grid_cells = fitted(params, grid, 25)
            got = grid_metrics(on_grid.sample(5000, random_state=1), 0.05)
            on_digits, digit_cells = fitted(params, first, 30)
            print(
                f"| {name} | {got['modes']} | {got['within']:.1f} | {grid_cells} | {on_digits.score(second):.2f} | {digit_cells} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
