"""The Sinkhorn divergence beside POT's and GeomLoss's: what a training step pays for the value and its gradient.

Codes are standard normal, scaled by 1.2 and shifted by 0.3, against as many standard normal draws; float32, one thread. All methods
of a shape take turns in one process; medians of the repetitions, and ratios to ours. `error` and `gradient` are the relative
differences of value and gradient from those of our divergence in double precision, converged to 1e-8, which
`tests/test_divergences.py` holds against POT's solver. Epsilon is 0.1 in squared deviations.

- POT: `ot.bregman.empirical_sinkhorn_divergence` in the log domain, to 1e-3 and at most 200 iterations, as ours.
- GeomLoss: `SamplesLoss` with blur = sqrt(epsilon/2), as its cost is half the squared distance, and the value doubled; with its
  default scaling of 0.5, and with 0.9.

The sliced distance is POT's own.

Run: python benchmarks/divergences.py [--shapes 256x2 256x16 256x64] [--repeats 30]
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import time
import warnings
from collections.abc import Callable

import ot
import torch
from cells import table
from torch import Tensor

from skcvae.divergences import SinkhornDivergence

EPSILON = 0.1
Method = Callable[[Tensor, Tensor], Tensor]


def points(n: int, k: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes, draws = torch.randn(2, n, k, generator=generator, dtype=torch.float64)
    return (1.2 * codes + 0.3).to(dtype), draws.to(dtype)


def sinkhorn(codes: Tensor, draws: Tensor) -> Tensor:
    return SinkhornDivergence(EPSILON).begin(codes.shape[1], torch.Generator())(codes, draws)


def sinkhorn_of_pot(codes: Tensor, draws: Tensor) -> Tensor:
    return ot.bregman.empirical_sinkhorn_divergence(
        codes, draws, EPSILON, stopThr=1e-3, numIterMax=200, warn=False, method="sinkhorn_log"
    )


def sinkhorn_of_geomloss(codes: Tensor, draws: Tensor, scaling: float) -> Tensor:
    from geomloss import SamplesLoss

    loss = SamplesLoss("sinkhorn", p=2, blur=math.sqrt(EPSILON / 2), scaling=scaling, backend="tensorized")
    return 2 * loss(codes, draws)


METHODS: dict[str, Method] = {
    "skcvae": sinkhorn,
    "POT": sinkhorn_of_pot,
    "GeomLoss": functools.partial(sinkhorn_of_geomloss, scaling=0.5),
    "GeomLoss, scaling 0.9": functools.partial(sinkhorn_of_geomloss, scaling=0.9),
}


def step(method: Method, codes: Tensor, draws: Tensor) -> tuple[float, Tensor]:
    """Value and gradient."""
    leaf = codes.clone().requires_grad_()
    value = method(leaf, draws)
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient


def rows(shape: str, repeats: int) -> list[list[object]]:
    n, k = map(int, shape.split("x"))
    converged = SinkhornDivergence(EPSILON, tol=1e-8, max_iter=20_000).begin(k, torch.Generator())
    value, gradient = step(converged, *points(n, k))
    codes, draws = points(n, k, torch.float32)
    seconds: dict[str, list[float]] = {}
    found: dict[str, tuple[float, Tensor] | str] = {}
    for _ in range(repeats):
        for name, method in METHODS.items():
            begin = time.perf_counter()
            try:
                found[name] = step(method, codes, draws)
            except ImportError as error:
                found[name] = type(error).__name__
            seconds.setdefault(name, []).append(time.perf_counter() - begin)
    result, ours = [], statistics.median(seconds["skcvae"])
    for name, outcome in found.items():
        if isinstance(outcome, str):
            result.append([shape, name, outcome, "", "", ""])
            continue
        took, slope = statistics.median(seconds[name]), outcome[1].double()
        errors = abs(outcome[0] / value - 1), float((slope - gradient).norm() / gradient.norm())
        result.append([shape, name, f"{1e3 * took:.1f}", f"{took / ours:.2f}", *(f"{error:.1e}" for error in errors)])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["256x2", "256x16", "256x64"])
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = [row for shape in arguments.shapes for row in rows(shape, arguments.repeats)]
    print(table(["n x k", "method", "ms", "of ours", "error", "gradient"], found))


if __name__ == "__main__":
    main()
