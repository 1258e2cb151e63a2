"""How sharp samples of digits are against how likely held-out images are, eight components and more, by rounds of polishing.

Protocol: data, split, network sizes and measures of `mnist.py`, with its epsilon = beta = 2 of eight components. All decoders have
the stem of steep layers. CoupledVAE has its default learning rate and `polish_rounds` of 0, 1, 2 and 4;
more rounds follow the plan more closely, and 0 is the training alone (in the results of 2026 still with the short round that
compares layouts). The VAE makes 500 or 1500 steps at 3e-3, and its mixture is that of `zoo.py`.
The classifier, precision, coverage and the memorised share are of 2440 samples, the nats of 1000 held-out and of 1000 fitted
images; seconds are those of one core for the fit alone. A killed run goes on at the next cell.

`--figure` draws decoder means of samples of the models of seed 0 that are kept, in figures/sharpness-K.png.

Run: python benchmarks/sharpness.py [--data PATH] [--seeds 0 1 2] [--components 8] [--models ...] [--table | --figure]
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import matplotlib.pyplot as plt
from cells import Cells, spread, table
from figures import save, tiles
from mnist import N_HELD_OUT, N_SCORED, images, quality
from zoo import two_stage

from skcvae import VAE, CoupledVAE
from skcvae.networks import Conv
from skcvae.schedule import Schedule

WEIGHT = 2.0
NETWORK = Conv((28, 28), channels=(16, 32), activation="steep")
ROUNDS = {f"CoupledVAE, {rounds} rounds": rounds for rounds in (0, 1, 2, 4)}
STEPS = {f"VAE, {steps} steps": steps for steps in (500, 1500)}
SHOWN, N_ROWS = ("VAE, 500 steps", "CoupledVAE, 2 rounds"), 9
COLUMNS = {
    "nats": ".1f",
    "nats_fitted": ".1f",
    "classifier": ".3f",
    "precision": ".2f",
    "coverage": ".2f",
    "memorised": ".3f",
    "marginal_error": ".1e",
    "information": ".2f",
    "s": ".0f",
}


def unfitted(name: str, k: int, seed: int) -> Any:
    """The model of this name."""
    shared: dict[str, Any] = {"likelihood": "bernoulli", "network": NETWORK, "random_state": seed}
    if name in STEPS:
        return VAE(k, beta=WEIGHT, learning_rate_init=3e-3, max_iter=STEPS[name], **shared)
    return CoupledVAE(k, epsilon=WEIGHT, proposal="encoder", schedule=Schedule(polish_rounds=ROUNDS[name]), **shared)


def measured(model: Any, seconds: float, first: Any, held_out: Any) -> dict[str, Any]:
    """One row of the table."""
    row = quality(model.sample(N_HELD_OUT, random_state=0), first, held_out) | {"s": seconds}
    row |= {"nats": model.score(held_out[:N_SCORED]), "nats_fitted": model.score(first[:N_SCORED])}
    if hasattr(model, "coupling_"):
        row |= {"marginal_error": model.coupling_.marginal_error, "information": model.coupling_.information}
    return row


def run(cells: Cells, name: str, k: int, seed: int, first: Any, held_out: Any) -> None:
    """One fit and its rows; a VAE has two."""
    key = {"model": name, "k": k, "seed": seed}

    def model() -> tuple[Any, float]:
        return cells.model(lambda: unfitted(name, k, seed).fit(first), **key)

    cells.row(lambda: measured(*model(), first, held_out), **key)
    if name in STEPS:
        mixture = {**key, "model": f"{name}, mixture"}
        cells.row(lambda: measured(two_stage(model()[0], first), model()[1], first, held_out), **mixture)


def printed(cells: Cells, k: int) -> str:
    """The table of one k."""
    lines = []
    for name in sorted({row["model"] for row in cells.rows if row["k"] == k}):
        rows = [row for row in cells.rows if (row["model"], row["k"]) == (name, k)]
        found = {column: [row[column] for row in rows if column in row] for column in COLUMNS}
        lines.append([name, str(len(rows)), *(spread(found[c], style) if found[c] else "-" for c, style in COLUMNS.items())])
    return table(["model", "seeds", *COLUMNS], lines)


def drawn(cells: Cells, k: int, first: Any, held_out: Any) -> None:
    """Held-out images beside samples of a VAE, of its mixture and of CoupledVAE."""
    vae, coupled = (cells.model(lambda name=name: unfitted(name, k, 0).fit(first), model=name, k=k, seed=0) for name in SHOWN)
    models = {SHOWN[0]: vae[0], f"{SHOWN[0]}, mixture": two_stage(vae[0], first), SHOWN[1]: coupled[0]}
    pictures = {"held-out images": held_out[: N_ROWS * N_ROWS]}
    pictures |= {name: model.sample(N_ROWS * N_ROWS, noise="mean", random_state=0) for name, model in models.items()}
    figure, axes = plt.subplots(1, len(pictures), figsize=(4 * len(pictures), 4.3), layout="constrained")
    for ax, (name, rows) in zip(axes, pictures.items(), strict=True):
        tiles(ax, rows.reshape(N_ROWS, N_ROWS, -1), name)
    save(figure, f"sharpness-{k}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--components", type=int, nargs="+", default=[8])
    parser.add_argument("--models", nargs="+", default=[*STEPS, *ROUNDS], choices=[*STEPS, *ROUNDS])
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and stop")
    parser.add_argument("--figure", action="store_true", help="draw samples, and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cells = Cells("sharpness")
    if not arguments.table:
        first, held_out, _ = images(arguments.data)
        if arguments.figure:
            for k in arguments.components:
                drawn(cells, k, first, held_out)
            return
        for seed in arguments.seeds:
            for k in arguments.components:
                for name in arguments.models:
                    run(cells, name, k, seed, first, held_out)
    for k in arguments.components:
        print(f"\nk = {k}\n\n{printed(cells, k)}")


if __name__ == "__main__":
    main()
