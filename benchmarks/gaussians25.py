"""25 Gaussians on a grid, Table 1 and 2 of the paper: means {-2, ..., 2}^2, standard deviation 0.05, 300 points each.

Protocol: for each seed s the data are drawn with seed s and fitted with ``random_state=s`` and networks of 256, 256, 256.

- CoupledVAE: nothing else is set.
- The other models make 8000 steps of 256 rows. Of `GRID`, the setting with the highest score of fresh points at seed 0 is taken:
  the paper gives no scale of the decoder. 0.707 makes the reconstruction term the squared error. `VAE + mixture` is the VAE with a
  Gaussian mixture on its latent means as prior, of 5 to 40 components by BIC. pythae's models (0.1.2; `--models pythae`) have the
  same networks and settings as ours.

Measured, each in the units of its column:

- Of 20000 samples, noise "matched", each is assigned to the closest mean. `within` is the share at a distance of at most 4
  standard deviations, in per cent (binomial error at most 0.35). A mode is found when it holds at least a tenth of its share of all
  samples within 4 standard deviations. `std` is the root mean square over modes and coordinates of the deviation of the samples
  within a mode; `kl` the divergence of the mode masses to uniform.
- On 2500 fresh points: `nats` the score, `rms` the error per coordinate of `reconstruct`, `classifier` the accuracy of telling
  2500 samples from them (0.5 is perfect).
- `mmd` is the squared discrepancy, times 1e3, between 5000 draws of the prior and of the aggregate posterior, by a row each;
  `null95` the 95 per cent quantile of its permutations. `aggregate` is `within` of samples with `source="aggregate"`.
- For CoupledVAE, `holes` is `within` of the tenth of the samples with the worst hole scores, `kept` that of the others.

A killed run goes on at the next cell. Run: python benchmarks/gaussians25.py [--models ...] [--seeds 0 1 2 3 4] [--table]
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
from cells import Cells, spread, table
from numpy.typing import NDArray
from zoo import MODELS, two_stage

from skcvae import CoupledVAE, metrics
from skcvae._place import HOST
from skcvae.datasets import gaussian_grid_means
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP

MEANS, STD = gaussian_grid_means(), 0.05
WIDTHS, N_STEPS = (256, 256, 256), 8000
N_SAMPLES, N_FRESH_PER_MODE, N_CODES = 20000, 100, 5000
SCALES: list[dict[str, Any]] = [{"scale": scale} for scale in (0.03, 0.05, 0.1)]
GRID: dict[str, list[dict[str, Any]]] = {
    "CoupledVAE": [{}],
    "VAE": SCALES,
    "VAE-NF": SCALES,
    "WAE": [{"scale": 0.707, "penalty": penalty, "batch_norm": True} for penalty in (1.0, 10.0, 100.0, 1000.0)],
    "InfoVAE": SCALES,
}
MIXTURE = "VAE + mixture"
PAPER = {"CoupledVAE": "98.5, .0478", "VAE": "71.5, .0778", "VAE-NF": "53.6, .0833", "WAE": "60.8, .0764", "InfoVAE": "86.0, .0673"}
COLUMNS = {
    "modes": (1, ".0f"),
    "within": (1, ".1f"),
    "std": (1, ".4f"),
    "kl": (1, ".4f"),
    "nats": (1, ".2f"),
    "rms": (1, ".3f"),
    "classifier": (1, ".3f"),
    "mmd": (1e3, ".2f"),
    "null95": (1e3, ".2f"),
    "aggregate": (1, ".1f"),
}


def make_grid(std: float, seed: int, n_per_mode: int = 300) -> NDArray[np.float64]:
    """Points of the 25 Gaussians, (25 n_per_mode, 2), in the order of the modes."""
    rng = np.random.default_rng(seed)
    return np.repeat(MEANS, n_per_mode, axis=0) + std * rng.standard_normal((25 * n_per_mode, 2))


def grid_metrics(samples: NDArray[np.float64], std: float) -> dict[str, float]:
    """Modes found, share within 4 std in per cent, std within modes, divergence of the mode masses."""
    mixture: dict[str, Any] = {"means": MEANS, "std": std}
    return {
        "modes": metrics.modes_recovered(samples, **mixture),
        "within": within(samples, std),
        "std": metrics.std_within_modes(samples, **mixture),
        "kl": metrics.mode_mass_kl(samples, **mixture),
    }


def within(samples: NDArray[np.float64], std: float = STD) -> float:
    """Share within 4 std in per cent."""
    return 100 * metrics.high_density_ratio(samples, MEANS, std)


def fitted(name: str, seed: int, scale: float = 0.0, batch_norm: bool = False, **params: Any) -> Any:
    """A model of this name."""
    X = make_grid(STD, seed)
    if name == "CoupledVAE":
        return CoupledVAE(hidden_layer_sizes=WIDTHS, random_state=seed).fit(X)
    shared = {"network": MLP(WIDTHS, batch_norm=batch_norm), "max_iter": N_STEPS, "n_iter_no_change": N_STEPS, "random_state": seed}
    defaults = {"WAE": {"penalty": 1.0}, "InfoVAE": {"lambd": 2.0}}.get(name, {})
    return MODELS[name][0](likelihood=GaussianLikelihood(scale), **(shared | defaults | params)).fit(X)


def data_space(samples: NDArray[np.float64], seed: int) -> dict[str, float]:
    """What can be said of samples alone."""
    fresh = make_grid(STD, 1000 + seed, N_FRESH_PER_MODE)
    accuracy = metrics.classifier_two_sample(fresh, samples[: len(fresh)], random_state=0)
    return grid_metrics(samples, STD) | {"classifier": accuracy}


def measured(model: Any, seconds: float, seed: int) -> dict[str, Any]:
    """One row of the table."""
    fresh, rng = make_grid(STD, 1000 + seed, N_FRESH_PER_MODE), np.random.default_rng(seed)
    row = data_space(model.sample(N_SAMPLES, random_state=1000 + seed), seed)
    row |= {"nats": model.score(fresh), "rms": float(np.sqrt(np.mean((model.reconstruct(fresh) - fresh) ** 2)))}
    codes = model.sample_posterior(rng.permutation(make_grid(STD, seed))[:N_CODES], random_state=1)[:, 0]
    test = metrics.mmd_test(model.prior_.sample(N_CODES, rng), codes, random_state=2)
    aggregate = within(model.sample(N_SAMPLES, source="aggregate", random_state=3))
    row |= {"mmd": test.value, "null95": test.null_quantile95, "aggregate": aggregate, "s": seconds}
    return row | (coupled(model, seed) if isinstance(model, CoupledVAE) else {})


def coupled(model: CoupledVAE, seed: int) -> dict[str, Any]:
    """What only a coupled model has: its certificate, and samples by their hole score."""
    Z = model.prior_.sample(N_SAMPLES, np.random.default_rng(2000 + seed))
    samples, score = model._fitted.at(HOST).sample(Z, "matched", np.random.default_rng(3000 + seed)), model.hole_score(Z)
    bad = score > np.quantile(score, 0.9)
    record = {"chi2": model.coupling_.marginal_error, "draws": model.coupling_.n_draws}
    return record | {"holes": within(samples[bad]), "kept": within(samples[~bad])}


def chosen(cells: Cells, name: str) -> dict[str, Any]:
    """The setting with the highest score of fresh points at seed 0."""
    if len(GRID[name]) == 1:
        return GRID[name][0]
    rows = [run(cells, name, 0, setting) for setting in GRID[name]]
    return max(zip(rows, GRID[name], strict=True), key=lambda pair: pair[0]["nats"])[1]


def run(cells: Cells, name: str, seed: int, setting: dict[str, Any]) -> dict[str, Any]:
    """The row of one fit."""
    key = {"model": name, **setting, "seed": seed}

    def model() -> tuple[Any, float]:
        return cells.model(lambda: fitted(name, seed, **setting), **key)

    if name == "VAE":
        cells.row(lambda: measured(two_stage(model()[0], make_grid(STD, seed)), model()[1], seed), **{**key, "model": MIXTURE})
    return cells.row(lambda: measured(*model(), seed), **key)


def run_pythae(cells: Cells, seed: int) -> None:
    """The rows of pythae's models, in our settings."""
    from peers import theirs

    for name in ("VAE", "WAE"):
        setting = chosen(cells, name)
        key = {"model": f"pythae {name}", **setting, "seed": seed}

        def compute(name: str = name, setting: dict[str, Any] = setting) -> dict[str, Any]:
            step, samples = theirs(name, make_grid(STD, seed), N_STEPS, seed, **setting)
            return data_space(samples, seed) | {"s": step * N_STEPS}

        cells.row(compute, **key)


def printed(cells: Cells) -> str:
    """The table: for each model the setting that was chosen."""
    lines = []
    for name in [*MODELS, MIXTURE, "pythae VAE", "pythae WAE"]:
        rows = [row for row in cells.rows if row["model"] == name]
        settings = [{k: v for k, v in row.items() if k in ("scale", "penalty", "batch_norm")} for row in rows]
        best = max(settings, key=lambda s: sum(r == s for r in settings), default={})
        chosen_rows = [row for row, setting in zip(rows, settings, strict=True) if setting == best]
        if chosen_rows:
            lines.append(line(name, best, chosen_rows))
    return table(["model", "setting", "seeds", *COLUMNS, "s", "the paper"], lines)


def line(name: str, setting: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """One line of the table."""
    cells = [spread([f * row[c] for row in rows], style) if c in rows[0] else "-" for c, (f, style) in COLUMNS.items()]
    label = ", ".join(f"{k} {v:g}" for k, v in setting.items() if k != "batch_norm") or "default"
    return [name, label, str(len(rows)), *cells, spread([row["s"] for row in rows], ".0f"), PAPER.get(name, "-")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=[*MODELS, "pythae"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cells = Cells("gaussians25")
    for seed in [] if arguments.table else arguments.seeds:
        for name in arguments.models:
            if name == "pythae":
                run_pythae(cells, seed)
            else:
                run(cells, name, seed, chosen(cells, name))
    print(printed(cells))


if __name__ == "__main__":
    main()
