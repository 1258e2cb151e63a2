"""Rows a second of a fitted model's answers, beside GaussianMixture's.

Protocol: 5000 rows of three Gaussian clusters with correlated columns are fitted with the defaults, 100000 further ones answered,
one thread, in this process, after a warm-up of 1000 rows; float32 and float64. `score_samples` by the pool alone (`n_draws=0`) and
by default, where rows have draws of their own whose error by the pool is above 0.05 nats; their share is beside it, and a tenth of
the rows is asked. A calibration loop, rows times a matrix of the pool's size and their exponentials, says what the machine can do.

Run: OMP_NUM_THREADS=1 python benchmarks/throughput.py [--components 2 8] [--features 10] [--rows 100000]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cells import table
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from skcvae import CoupledVAE

FITTED, WARM = 5000, 1000
FEWER = 10  # a share of the rows is answered where rows have draws of their own


def clusters(n: int, d: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    shapes = np.random.default_rng(0)
    centres, factors = 3 * shapes.normal(size=(3, d)), shapes.normal(size=(3, d, d)) / np.sqrt(d)
    which = rng.integers(3, size=n)
    return centres[which] + np.einsum("nd,nde->ne", rng.normal(size=(n, d)), factors[which])


def rate(answer: Callable[[Any], Any], rows: Any) -> str:
    answer(rows[:WARM])
    begin = time.perf_counter()
    answer(rows)
    return f"{len(rows) / (time.perf_counter() - begin):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--components", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, rows = clusters(FITTED, arguments.features, 1), clusters(arguments.rows, arguments.features, 2)
    mixture, lines = GaussianMixture(3, random_state=0).fit(X), []
    for name, answer in (("score_samples", mixture.score_samples), ("predict_proba", mixture.predict_proba)):
        lines.append([f"GaussianMixture, {name}", "", rate(answer, rows), ""])
    for k in arguments.components:
        model = CoupledVAE(k, random_state=0).fit(X)
        _, error = model.score_samples(rows[:WARM], return_std=True, n_draws=0)
        asked: list[tuple[str, Callable[[Any], Any], int]] = [
            ("transform", model.transform, 1),
            ("sample_posterior", model.sample_posterior, 1),
            ("score_samples, n_draws=0", lambda part, model=model: model.score_samples(part, n_draws=0), 1),
            ("score_samples", model.score_samples, FEWER),
        ]
        for name, answer, share in asked:
            found = [rate(answer, rows[: len(rows) // share].astype(kind)) for kind in (np.float32, np.float64)]
            own = f"{100 * (error > 0.05).mean():.0f} % own" if name == "score_samples" else ""
            lines.append([f"CoupledVAE({k}), {name}", *found, own])
        draws = torch.zeros(model.coupling_.n_draws, arguments.features)
        loop = rate(lambda part, draws=draws: torch.exp(torch.as_tensor(part) @ draws.T), rows[: 4 * WARM].astype(np.float32))
        lines.append([f"calibration loop, {len(draws)} draws", loop, "", ""])
    print(table(["what", "rows/s, float32", "float64", "rows with draws of their own"], lines))


if __name__ == "__main__":
    main()
