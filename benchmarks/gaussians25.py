"""25 Gaussians on a grid: means {-2, ..., 2}^2, standard deviation 0.05, 300 points each.

Protocol: for each seed s the data are drawn with seed s and fitted by
``CoupledVAE(hidden_layer_sizes=(256, 256, 256), random_state=s).fit(X)`` with nothing else set. 20000 samples, noise "matched",
are each assigned to the closest mean. A sample counts as within its mode at a distance of at most 4 standard deviations. A mode is
found when it holds at least a tenth of its share of all samples within 4 standard deviations. `std` is the root mean square
over modes and coordinates of the deviation of the samples within a mode; `kl` is the divergence of the mode masses to uniform.

Run: python benchmarks/gaussians25.py [--seeds 0 1 2] [--verbose]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from skcvae import CoupledVAE

MEANS = np.stack(np.meshgrid(np.arange(-2.0, 3), np.arange(-2.0, 3)), -1).reshape(-1, 2)
N_SAMPLES = 20000


def make_grid(std: float, seed: int, n_per_mode: int = 300) -> NDArray[np.float64]:
    """Points of the 25 Gaussians, (25 n_per_mode, 2)."""
    rng = np.random.default_rng(seed)
    return np.repeat(MEANS, n_per_mode, axis=0) + std * rng.standard_normal((25 * n_per_mode, 2))


def grid_metrics(samples: NDArray[np.float64], std: float) -> dict[str, float]:
    """Modes found, share within 4 std in per cent, std within modes, divergence of the mode masses."""
    distance = np.linalg.norm(samples[:, None] - MEANS, axis=2)
    mode, within = distance.argmin(1), distance.min(1) <= 4 * std
    count = np.bincount(mode[within], minlength=25)
    share = count / count.sum()
    variances = [samples[within & (mode == c)].var(0).mean() for c in np.flatnonzero(count > 1)]
    divergence = np.sum(share[share > 0] * np.log(25 * share[share > 0]))
    found = int((count >= 0.1 * len(samples) / 25).sum())
    return {"modes": found, "within": 100 * within.mean(), "std": np.sqrt(np.mean(variances)), "kl": float(divergence)}


def run(seed: int, verbose: bool) -> dict[str, float]:
    """One row of the table."""
    X = make_grid(0.05, seed)
    begin = time.perf_counter()
    model = CoupledVAE(hidden_layer_sizes=(256, 256, 256), random_state=seed, verbose=verbose).fit(X)
    seconds = time.perf_counter() - begin
    row = grid_metrics(model.sample(N_SAMPLES, random_state=1000 + seed), 0.05)
    coupling = model.coupling_
    return {"seed": seed, **row, "chi2": coupling.marginal_error, "draws": coupling.n_draws, "steps": model.n_iter_, "s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    for index, seed in enumerate(arguments.seeds):
        row = run(seed, arguments.verbose)
        if index == 0:
            print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
        print("| " + " | ".join(f"{value:.4g}" for value in row.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
