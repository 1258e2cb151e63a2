"""Figures 1, 3 and 4 of the paper from the models that gaussians25.py and mnist.py have fitted, seed 0.

- overview.png: aggregate posterior and samples of a VAE and of a coupled one.
- gaussians25.png, a row a model: samples, reconstructions, latent means, aggregate posterior, the posterior of one datum.
- latent-K.png: the aggregate posterior of the fitted digits by label, for K latent dimensions the first two, beside the prior.
- digits-K.png, a row a model: samples (decoder means), reconstructions under held-out digits, and straight lines between the latent
  means of two held-out digits.

Run: python benchmarks/figures.py [--data PATH] [--components 2 8]     (--data as in mnist.py; models that are missing are left out)
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import gaussians25
import matplotlib.pyplot as plt
import mnist
import numpy as np
from cells import Cells
from matplotlib.axes import Axes
from sklearn.neighbors import KNeighborsClassifier
from zoo import MODELS, two_stage

FOLDER = Path(__file__).parent / "figures"
COLOURS, DOTS = plt.get_cmap("turbo"), {"s": 1.0, "linewidths": 0, "rasterized": True}
SHADES = plt.get_cmap("tab10")
KEY = ("kind", "model", "k", "value", "rate", "scale", "penalty", "batch_norm", "seed")
N_SHOWN, N_STEPS, PAIRS = 12, 9, ((0, 1), (2, 3), (4, 5))


def preference(cells: Cells, row: dict[str, Any]) -> float:
    """Which of a model's fits is shown: of digits the one with the setting that was chosen, else that with the best score."""
    if "k" not in row:
        return float(row["nats"])
    return float((row["value"], row["rate"]) == mnist.setting(cells, row["model"], row["k"]))


def models(cells: Cells, n_components: int | None, X: np.ndarray) -> dict[str, Any]:
    """The fitted models of seed 0 by name, and the two-stage one."""
    found: dict[str, Any] = {}
    for name in MODELS:
        tested = [r for r in cells.rows if r.get("model") == name and r.get("kind", "test") == "test"]
        if rows := [r for r in tested if (r.get("k"), r["seed"]) == (n_components, 0)]:
            best = max(rows, key=lambda r: preference(cells, r))
            key = {k: best[k] for k in KEY if k in best}
            found[name] = cells.model(lambda: None, **key)[0]
    if "VAE" in found:
        found["VAE + mixture"] = two_stage(found["VAE"], X)
    return found


def panel(ax: Axes, points: np.ndarray, colour: np.ndarray, limit: float, title: str) -> None:
    """A square cloud of points."""
    ax.scatter(*points[:, :2].T, c=colour, **DOTS)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[], title=title)


def mode_colour(X: np.ndarray) -> np.ndarray:
    """A colour for each point's closest mode."""
    mode = KNeighborsClassifier(1).fit(gaussians25.MEANS, np.arange(25)).predict(X)
    return COLOURS((7 * mode % 25) / 24)


def gaussians_row(axes: np.ndarray, name: str, model: Any, X: np.ndarray) -> None:
    """Five panels of one model; the column titles are the first row's."""
    samples, datum = model.sample(5000, random_state=0), X[3750:3751]
    ancestral = model.sample_posterior(X, random_state=1)[:, 0]
    draws = model.sample_posterior(datum, 20000, random_state=2)[0]
    panel(axes[0], samples, mode_colour(samples), 2.6, "samples")
    panel(axes[1], model.reconstruct(X), mode_colour(X), 2.6, "reconstructions")
    panel(axes[2], model.transform(X), mode_colour(X), 3.6, "latent means")
    panel(axes[3], ancestral, mode_colour(X), 3.6, "aggregate posterior")
    panel(axes[4], draws, np.full(len(draws), 0.5), 3.6, "posterior of one datum")
    axes[0].set_ylabel(name)


def gaussians_figure() -> None:
    X = gaussians25.make_grid(0.05, 0)
    if not (fitted := models(Cells("gaussians25"), None, X)):
        return
    figure, axes = plt.subplots(len(fitted), 5, figsize=(10, 2.1 * len(fitted)), squeeze=False, layout="constrained")
    for index, (name, model) in enumerate(fitted.items()):
        gaussians_row(axes[index], name, model, X)
        for ax in axes[index] if index else ():
            ax.set_title("")
    save(figure, "gaussians25")


def overview_figure() -> None:
    """What the holes are: aggregate posterior and samples of a VAE and of a coupled one."""
    X, fitted = gaussians25.make_grid(0.05, 0), models(Cells("gaussians25"), None, gaussians25.make_grid(0.05, 0))
    if not {"VAE", "CoupledVAE"} <= fitted.keys():
        return
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
    for (left, right), name in zip(axes.reshape(2, 2), ("VAE", "CoupledVAE"), strict=True):
        samples = fitted[name].sample(5000, random_state=0)
        panel(left, fitted[name].sample_posterior(X, random_state=1)[:, 0], mode_colour(X), 3.6, f"{name}: aggregate posterior")
        panel(right, samples, mode_colour(samples), 2.6, f"{name}: samples")
    save(figure, "overview")


def latent_figure(fitted: dict[str, Any], X: np.ndarray, y: np.ndarray, k: int) -> None:
    """Draws of every fitted row's posterior, coloured by its label, and of the prior."""
    figure, axes = plt.subplots(1, len(fitted) + 1, figsize=(2.4 * (len(fitted) + 1), 2.7), layout="constrained")
    for ax, (name, model) in zip(axes, fitted.items(), strict=False):
        panel(ax, model.sample_posterior(X, random_state=0)[:, 0], SHADES(y), 3.6, name)
    panel(axes[-1], np.random.default_rng(0).normal(size=(len(X), 2)), np.full(len(X), 0.5), 3.6, "prior")
    figure.legend(
        handles=[plt.Line2D([], [], marker="o", ls="", color=SHADES(d), label=str(d)) for d in range(10)], loc="outside right"
    )
    save(figure, f"latent-{k}")


def tiles(ax: Axes, rows: np.ndarray, title: str) -> None:
    """Images (r, c, 784) as one picture."""
    r, c = rows.shape[:2]
    picture = rows.reshape(r, c, 28, 28).transpose(0, 2, 1, 3).reshape(28 * r, 28 * c)
    ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], title=title)


def digits_row(axes: np.ndarray, name: str, model: Any, held_out: np.ndarray) -> None:
    """Samples, reconstructions and interpolations of one model."""
    means = model.sample(4 * N_SHOWN, noise="mean", random_state=0).reshape(4, N_SHOWN, -1)
    shown = held_out[: 2 * N_SHOWN]
    pairs = np.stack([shown, model.reconstruct(shown)]).reshape(2, 2, N_SHOWN, -1).transpose(1, 0, 2, 3).reshape(4, N_SHOWN, -1)
    ends, share = model.transform(shown), np.linspace(0, 1, N_STEPS)[:, None]
    lines = np.stack([model.inverse_transform((1 - share) * ends[i] + share * ends[j]) for i, j in PAIRS])
    for ax, rows, title in zip(axes, (means, pairs, lines), ("samples", "digits, reconstructions", "interpolations"), strict=True):
        tiles(ax, rows, title)
    axes[0].set_ylabel(name)


def digits_figure(fitted: dict[str, Any], held_out: np.ndarray, k: int) -> None:
    figure, axes = plt.subplots(len(fitted), 3, figsize=(12, 1.5 * len(fitted)), squeeze=False, layout="constrained")
    for index, (name, model) in enumerate(fitted.items()):
        digits_row(axes[index], name, model, held_out)
        for ax in axes[index] if index else ():
            ax.set_title("")
    save(figure, f"digits-{k}")


def save(figure: plt.Figure, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.png", dpi=80)
    print(FOLDER / f"{name}.png", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--components", type=int, nargs="*", default=[2, 8])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    gaussians_figure()
    overview_figure()
    for k in arguments.components:
        first, held_out, labels = mnist.images(arguments.data)
        if fitted := models(Cells("mnist"), k, first):
            latent_figure(fitted, first, labels, k)
            digits_figure(fitted, held_out, k)


if __name__ == "__main__":
    main()
