"""MNIST digits, as in the paper: 2560 images to fit, the rest held out, binarised at 0.5, convolutions, Bernoulli, k = 2 and 8.

Protocol:

- The split is the same for all: of the images in a random order (seed 0) the first 2560 are fitted, the next 2440 held out.
- Networks of all models: `Conv(channels=(16, 32))`. CoupledVAE trains for 1000 steps of 256 and polishes for at most 5 rounds; at
  k = 8 its inference draws from `proposal="encoder"`, as the pool's draws of the prior are too few in eight dimensions. The others
  make at most 8000 steps, 2000 where something is chosen.
- The model's one hyperparameter (epsilon, beta, penalty, lambda) is chosen once for each model and k, at seed 0, from `GRID`: the
  highest `score` of the last 512 of the fitted images, of a fit on the first 2048. Then, in the same way, the learning rate from
  `RATES_OF_OTHERS`, of which the first is what the grid is tried with; CoupledVAE's is that of `RATES`.
- Then three fits (seeds 0, 1, 2) on all 2560, and of each: `score` of 1000 held-out images in nats; 2440 binary samples
  (`noise="matched"`) against the 2440 held-out ones: accuracy of a classifier between 1000 of each (0.5 is perfect), precision and
  recall, density and coverage (pixels, 5 neighbours), and the share of samples whose nearest image is a fitted one (expected
  without memorisation: 0.512). The floor is the first 2440 fitted images in the place of samples.
- Holes: squared MMD (times 1e3) between 2440 draws of the prior and of the aggregate posterior, one for each fitted or each
  held-out row, with the 95 per cent quantile of its permutations; samples from the aggregate posterior (`source="aggregate"`)
  against held-out images by the same classifier.
- `VAE + mixture` is the fitted VAE with a mixture of Gaussians on its latent means as prior, of 5 to 40 components by BIC.
- pythae's models (0.1.2; `--models pythae`) have the networks, steps, value and learning rate of ours and are measured by samples
  alone. Its WAE knows no Bernoulli likelihood (see peers.py).

A killed run goes on at the next cell. Several processes may each take some models.

Run: python benchmarks/mnist.py [--data PATH] [--models ...] [--components 2 8] [--seeds 0 1 2] [--table]
PATH is an .npz with `images` (n, 28, 28) of at least 5000 digits in 0..255 and their `labels`; without it they are fetched and kept
by scikit-learn.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from typing import Any

import numpy as np
from cells import Cells, spread, table
from zoo import MODELS, build, two_stage

from skcvae import metrics
from skcvae.datasets import fetch_mnist
from skcvae.networks import Conv
from skcvae.schedule import Schedule

NETWORK, N_STEPS = Conv((28, 28), channels=(16, 32)), 8000
N_FIT, N_HELD_OUT, N_CHOSEN_ON, N_SCORED, N_TOLD = 2560, 2440, 512, 1000, 1000
#: Components above which the pool's draws are too few.
WIDE = 4
EXPECTED = N_FIT / (N_FIT + N_HELD_OUT)
GRID = {
    "CoupledVAE": (2.0, 4.0, 8.0),
    "VAE": (0.5, 1.0, 2.0, 4.0),
    "VAE-NF": (0.5, 1.0, 2.0, 4.0),
    "WAE": (1.0, 10.0, 100.0, 1000.0),
    "InfoVAE": (2.0, 100.0, 1000.0),
}
RATES = {"CoupledVAE": (1e-2,)}
RATES_OF_OTHERS = (1e-3, 3e-3, 1e-2)
MIXTURE, PYTHAE = "VAE + mixture", ("pythae VAE", "pythae WAE")
COLUMNS = {
    "nats": (1, ".1f"),
    "classifier": (1, ".3f"),
    "precision": (1, ".2f"),
    "recall": (1, ".2f"),
    "density": (1, ".2f"),
    "coverage": (1, ".2f"),
    "memorised": (1, ".3f"),
    "mmd_fitted": (1e3, ".2f"),
    "mmd_held_out": (1e3, ".2f"),
    "null95": (1e3, ".2f"),
    "classifier_aggregate": (1, ".3f"),
}


def images(path: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Binary images to fit and held out, (2560, 784) and (2440, 784), and the labels of those to fit."""
    if path is None:
        X, y = fetch_mnist(N_FIT + N_HELD_OUT, threshold=0.5, random_state=0)
    else:
        stored = np.load(path)
        order = np.random.default_rng(0).permutation(len(stored["images"]))[: N_FIT + N_HELD_OUT]
        X, y = (stored["images"][order].reshape(-1, 784) >= 127.5).astype(np.float32), stored["labels"][order]
    return X[:N_FIT], X[N_FIT:], y[:N_FIT]


def fitted(name: str, k: int, value: float, rate: float, seed: int, X: np.ndarray, n_steps: int) -> Any:
    """A model of this name; `n_steps` are those of the models with an encoder."""
    params: dict[str, Any] = {"likelihood": "bernoulli", "network": NETWORK, "random_state": seed}
    if name == "CoupledVAE":
        proposal = "encoder" if k > WIDE else "prior"
        params |= {"max_iter": 1000, "schedule": Schedule(polish_rounds=5), "proposal": proposal}
    else:
        params |= {"max_iter": n_steps}
    return build(name, k, value, learning_rate_init=rate, **params).fit(X)


def chosen(cells: Cells, name: str, k: int, X: np.ndarray) -> tuple[float, float]:
    """The value with the highest score of the last of the fitted images, then the learning rate."""
    first, last = X[:-N_CHOSEN_ON], X[-N_CHOSEN_ON:]

    def score(value: float, rate: float) -> float:
        def compute() -> dict[str, Any]:
            begin = time.process_time()
            try:
                nats = fitted(name, k, value, rate, 0, first, 2000).score(last)
            except FloatingPointError:  # the fit diverged
                nats = -math.inf
            return {"nats": nats, "s": time.process_time() - begin}

        return float(cells.row(compute, kind="choice", model=name, k=k, value=value, rate=rate)["nats"])

    rates = RATES.get(name, RATES_OF_OTHERS)
    value = max(GRID[name], key=lambda value: score(value, rates[0]))
    return value, max(rates, key=lambda rate: score(value, rate))


def setting(cells: Cells, name: str, k: int) -> tuple[float, float]:
    """The value and learning rate that were chosen, by what is there."""
    name = "VAE" if name == MIXTURE else name.removeprefix("pythae ")
    tried = [row for row in cells.rows if (row["kind"], row.get("model"), row.get("k")) == ("choice", name, k)]
    best = max(tried, key=lambda row: float(row["nats"]))
    return best["value"], best["rate"]


def told_apart(samples: np.ndarray, held_out: np.ndarray) -> float:
    """Accuracy of a classifier between samples and held-out images."""
    return metrics.classifier_two_sample(held_out[:N_TOLD], samples[:N_TOLD], random_state=0)


def quality(samples: np.ndarray, first: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """Data-space measures of samples against held-out images."""
    near, dense = metrics.precision_recall(held_out, samples), metrics.density_coverage(held_out, samples)
    return {
        "classifier": told_apart(samples, held_out),
        "precision": near.precision,
        "recall": near.recall,
        "density": dense.density,
        "coverage": dense.coverage,
        "memorised": metrics.memorisation(samples, first, held_out, random_state=0).share,
    }


def holes(model: Any, first: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """How far the aggregate posterior is from the prior, and what its samples are worth."""
    prior = model.prior_.sample(N_HELD_OUT, np.random.default_rng(1))
    tests = [metrics.mmd_test(prior, model.sample_posterior(X, random_state=2)[:, 0], random_state=3) for X in (first, held_out)]
    aggregate = model.sample(N_TOLD, source="aggregate", random_state=4)
    return {
        "mmd_fitted": tests[0].value,
        "mmd_held_out": tests[1].value,
        "null95": tests[1].null_quantile95,
        "classifier_aggregate": told_apart(aggregate, held_out),
    }


def measured(model: Any, seconds: float, first: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """One row of the table."""
    samples = model.sample(N_HELD_OUT, random_state=0)
    row = {"nats": model.score(held_out[:N_SCORED]), "nats_fitted": model.score(first[:N_SCORED]), "s": seconds}
    row |= quality(samples, first, held_out) | holes(model, first[:N_HELD_OUT], held_out)
    if hasattr(model, "coupling_"):
        row |= {"chi2": model.coupling_.marginal_error, "draws": model.coupling_.n_draws}
    return row


def run(cells: Cells, name: str, k: int, seed: int, first: np.ndarray, held_out: np.ndarray) -> None:
    """One fit and its rows; a VAE has two."""
    value, rate = chosen(cells, name, k, first)
    key = {"kind": "test", "model": name, "k": k, "value": value, "rate": rate, "seed": seed}

    def model() -> tuple[Any, float]:
        return cells.model(lambda: fitted(name, k, value, rate, seed, first, N_STEPS), **key)

    cells.row(lambda: measured(*model(), first, held_out), **key)
    if name == "VAE":
        cells.row(lambda: measured(two_stage(model()[0], first), model()[1], first, held_out), **{**key, "model": MIXTURE})


def run_pythae(cells: Cells, k: int, seed: int, first: np.ndarray, held_out: np.ndarray) -> None:
    """The rows of pythae's models, in our settings."""
    from peers import theirs_of_images

    for name in ("VAE", "WAE"):
        value, rate = setting(cells, name, k)
        key = {"kind": "test", "model": f"pythae {name}", "k": k, "value": value, "rate": rate, "seed": seed}

        def compute(name: str = name, value: float = value, rate: float = rate) -> dict[str, Any]:
            step, samples = theirs_of_images(name, first, k, value, NETWORK, N_STEPS, rate, seed, N_HELD_OUT)
            return quality(samples, first, held_out) | {"s": step * N_STEPS}

        cells.row(compute, **key)


def printed(cells: Cells, k: int) -> str:
    """The table of one k: each model with the value and the learning rate that were chosen."""
    styles = {column: style for column, (_, style) in COLUMNS.items()}
    floors = [row for row in cells.rows if row["kind"] == "floor"]
    lines = [
        ["real", "-", "-", "-", *(f"{row[c]:{style}}" if c in row else "-" for c, style in styles.items()), "-"] for row in floors
    ]
    tests = [row for row in cells.rows if row["kind"] == "test" and row["k"] == k]
    for name in sorted({row["model"] for row in tests}, key=[*MODELS, MIXTURE, *PYTHAE].index):
        value, rate = setting(cells, name, k)
        lines.append(line(name, value, rate, [r for r in tests if (r["model"], r["value"], r["rate"]) == (name, value, rate)]))
    return table(["model", "value", "rate", "seeds", *COLUMNS, "s"], lines)


def line(name: str, value: float, rate: float, rows: list[dict[str, Any]]) -> list[str]:
    """One line of the table."""
    found = {column: [factor * row[column] for row in rows if column in row] for column, (factor, _) in COLUMNS.items()}
    cells = [spread(found[column], style) if found[column] else "-" for column, (_, style) in COLUMNS.items()]
    return [name, f"{value:g}", f"{rate:g}", str(len(rows)), *cells, spread([row["s"] for row in rows], ".0f")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=[*MODELS, "pythae"])
    parser.add_argument("--components", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cells = Cells("mnist")
    if not arguments.table:
        first, held_out, _ = images(arguments.data)
        cells.row(lambda: quality(first[:N_HELD_OUT], first, held_out) | {"memorised": EXPECTED}, kind="floor")
        for seed in arguments.seeds:
            for k in arguments.components:
                for name in arguments.models:
                    if name == "pythae":
                        run_pythae(cells, k, seed, first, held_out)
                    else:
                        run(cells, name, k, seed, first, held_out)
    for k in arguments.components:
        print(f"\nk = {k}\n\n{printed(cells, k)}")


if __name__ == "__main__":
    main()
