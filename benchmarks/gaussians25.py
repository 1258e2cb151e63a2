"""25 Gaussians on a grid: means {-2, ..., 2}^2, standard deviation 0.05, 300 points each.

Protocol: for each seed s the data are drawn with seed s and fitted with ``random_state=s`` and networks of 256, 256, 256.
20000 samples, noise "matched", are each assigned to the closest mean. A sample counts as within its mode at a distance of at most
4 standard deviations. A mode is found when it holds at least a tenth of its share of all samples within 4 standard deviations.
`std` is the root mean square over modes and coordinates of the deviation of the samples within a mode; `kl` is the divergence of
the mode masses to uniform; `nats` is the score of 2500 fresh points.

- CoupledVAE: nothing else is set.
- The other models, in the paper's settings (WAE: penalty 1; InfoVAE: alpha 0, lambda 2; ten planar layers; batch normalisation,
  which `--plain` leaves out), make 8000 steps of 256 rows. The paper gives no scale of the decoder: of `SCALES` each model's is
  the one with the highest score of fresh points at seed 0. A scale of 0.707 makes the reconstruction term the squared error.

Run: python benchmarks/gaussians25.py [--models CoupledVAE VAE VAE-NF WAE InfoVAE] [--seeds 0 1 2] [--plain] [--scales ...]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, metrics
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP

MEANS = np.stack(np.meshgrid(np.arange(-2.0, 3), np.arange(-2.0, 3)), -1).reshape(-1, 2)
WIDTHS = (256, 256, 256)
N_SAMPLES, N_FRESH_PER_MODE = 20000, 100
SCALES = (0.03, 0.05, 0.1, 0.2, 0.707)
RIVALS: dict[str, Callable[..., Any]] = {
    "VAE": VAE,
    "VAE-NF": lambda **shared: VAE(posterior="planar", **shared),
    "WAE": lambda **shared: WAE(penalty=1.0, **shared),
    "InfoVAE": lambda **shared: InfoVAE(alpha=0.0, lambd=2.0, **shared),
}
PAPER = {
    "VAE": (71.5, 0.0778),
    "VAE-NF": (53.6, 0.0833),
    "WAE": (60.8, 0.0764),
    "InfoVAE": (86.0, 0.0673),
    "CoupledVAE": (98.5, 0.0478),
}


def make_grid(std: float, seed: int, n_per_mode: int = 300) -> NDArray[np.float64]:
    """Points of the 25 Gaussians, (25 n_per_mode, 2)."""
    rng = np.random.default_rng(seed)
    return np.repeat(MEANS, n_per_mode, axis=0) + std * rng.standard_normal((25 * n_per_mode, 2))


def grid_metrics(samples: NDArray[np.float64], std: float) -> dict[str, float]:
    """Modes found, share within 4 std in per cent, std within modes, divergence of the mode masses."""
    mixture: dict[str, Any] = {"means": MEANS, "std": std}
    return {
        "modes": metrics.modes_recovered(samples, **mixture),
        "within": 100 * metrics.high_density_ratio(samples, **mixture),
        "std": metrics.std_within_modes(samples, **mixture),
        "kl": metrics.mode_mass_kl(samples, **mixture),
    }


def built(name: str, scale: float | None, seed: int, arguments: argparse.Namespace) -> Any:
    """A model of this name, not yet fitted."""
    shared: dict[str, Any] = {"random_state": seed, "verbose": arguments.verbose}
    if name == "CoupledVAE":
        return CoupledVAE(hidden_layer_sizes=WIDTHS, **shared)
    network = MLP(WIDTHS, batch_norm=not arguments.plain)
    return RIVALS[name](likelihood=GaussianLikelihood(scale), network=network, max_iter=8000, n_iter_no_change=8000, **shared)


def fresh_score(model: Any, seed: int) -> float:
    """Mean log-likelihood of fresh points, in nats."""
    return float(model.score(make_grid(0.05, 1000 + seed, N_FRESH_PER_MODE)))


def chosen_scale(name: str, arguments: argparse.Namespace) -> float:
    """The scale with the highest score at seed 0."""
    X = make_grid(0.05, 0)
    scores = {scale: fresh_score(built(name, scale, 0, arguments).fit(X), 0) for scale in arguments.scales}
    print(f"# {name}: " + ", ".join(f"scale {scale:g} {score:.3f} nats" for scale, score in scores.items()), flush=True)
    return max(scores, key=scores.__getitem__)


def run(name: str, scale: float | None, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    X = make_grid(0.05, seed)
    begin = time.perf_counter()
    model = built(name, scale, seed, arguments).fit(X)
    seconds = time.perf_counter() - begin
    row = grid_metrics(model.sample(N_SAMPLES, random_state=1000 + seed), 0.05)
    paper = dict(zip(("paper: within", "paper: std"), PAPER[name], strict=True))
    return {
        "model": name,
        "scale": scale or "auto",
        "seed": seed,
        **row,
        "nats": fresh_score(model, seed),
        **paper,
        "s": seconds,
    } | ({"chi2": model.coupling_.marginal_error, "draws": model.coupling_.n_draws} if name == "CoupledVAE" else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["CoupledVAE"], choices=["CoupledVAE", *RIVALS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--plain", action="store_true", help="no batch normalisation")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.models:
        scale = None if name == "CoupledVAE" else chosen_scale(name, arguments)
        for index, seed in enumerate(arguments.seeds):
            row = run(name, scale, seed, arguments)
            if index == 0:
                print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
            cells = (value if isinstance(value, str) else f"{value:.4g}" for value in row.values())
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
