"""Seconds of a default fit, of one training step beside a plain VAE's, and of transform.

Protocol: everything runs in this process, on all cores, after one warm-up. Steps of the two models alternate in blocks of 20, and
medians of the blocks are compared, so that other load on the machine meets both.

- fits: 400 x 4 and 1347 x 64 (the digits) with the defaults, 100 x 4 with max_iter=5; random_state=0.
- step: 25 Gaussians, 7500 rows, batch 256, three hidden layers of 256. Ours: the decoder's step with all potential iterations that
  the schedule makes at that point, over the second half of a training run. VAE: the same decoder and a mirror-image encoder in
  plain torch, Gaussian reparameterisation, closed-form KL, fused Adam, the same batch size.
- transform: 10000 rows x 64 features against a pool of 4096, float64; peak memory beyond input and output, also at 40000 rows.

Run: python benchmarks/speed.py
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from gaussians25 import make_grid
from sklearn.datasets import load_digits
from torch import nn

from skcvae import CoupledVAE, _training
from skcvae.networks import MLP
from skcvae.transport import SemiDual

HIDDEN = (256, 256, 256)
BLOCK, BLOCKS = 20, 20


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def vae_step(x: torch.Tensor) -> Callable[[], object]:
    """One step of a plain VAE with our decoder and a mirror-image encoder."""
    generator = torch.Generator().manual_seed(0)
    decoder = MLP(HIDDEN).decoder(2, 2, generator)
    encoder = MLP(HIDDEN).encoder(2, 4, generator)
    optimiser = _training.adam([nn.ModuleList([decoder, encoder])], 1e-3)

    def step() -> None:
        batch = x[torch.randint(len(x), (256,), generator=generator)]
        mean, log_variance = encoder(batch).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        loss = (200 * (decoder(z) - batch).square().sum(1) + divergence).mean()
        _training.descend(optimiser, loss)

    return step


class StepClock:
    """Interleaves blocks of VAE steps with the steps of a real training run and times both."""

    def __init__(self, other: Callable[[], object]) -> None:
        self.other, self.ours, self.theirs = other, [], []  # type: ignore[var-annotated]

    def repeat(self, step: Callable[[int], bool], n_steps: int, *_: object) -> int:
        """In place of `_training.repeat`."""
        for begin in range(0, n_steps, BLOCK):
            self.ours.append(seconds(lambda begin=begin: [step(t) for t in range(begin, begin + BLOCK)]) / BLOCK)
            self.theirs.append(seconds(lambda: [self.other() for _ in range(BLOCK)]) / BLOCK)
        return n_steps


def steps() -> tuple[float, float]:
    """Median seconds of our training step and of the VAE's, over the second half of the run."""
    X = make_grid(0.05, 0)
    clock = StepClock(vae_step(torch.as_tensor((X - X.mean(0)) / X.std(), dtype=torch.float32)))
    whole, _training.repeat = _training.repeat, clock.repeat
    try:
        solver = SemiDual(polish_rounds=0, tol=1.0)
        CoupledVAE(hidden_layer_sizes=HIDDEN, max_iter=2 * BLOCK * BLOCKS, random_state=0, formulation=solver).fit(X)
    finally:
        _training.repeat = whole
    trained = slice(BLOCKS, 2 * BLOCKS)  # what comes after is polishing
    return float(np.median(clock.ours[trained])), float(np.median(clock.theirs[trained]))


def peak() -> float:
    """Peak resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def transform_row(n: int) -> str:
    """Seconds and growth of the peak memory beyond input and output for transforming n x 64 rows."""
    rng = np.random.default_rng(0)
    solver = SemiDual(max_draws=4096, tol=1.0)
    model = CoupledVAE(max_iter=20, hidden_layer_sizes=(32,), random_state=0, formulation=solver).fit(rng.normal(size=(500, 64)))
    X = rng.normal(size=(n, 64))
    model.transform(X[:100])
    before = peak()
    spent = seconds(lambda: model.transform(X))
    return f"| transform {n} x 64, pool {model.coupling_.n_draws} | {spent:.2f} s, {peak() - before - n * 16 / 2**20:.0f} MB more |"


def main() -> None:
    rng = np.random.default_rng(0)
    small, digits = rng.normal(size=(400, 4)), load_digits().data[:1347]
    quick = CoupledVAE(max_iter=5, random_state=0)
    quick.fit(small[:100])
    print("| what | measured |\n|---|---|")
    print(f"| fit 100 x 4, max_iter=5 | {min(seconds(lambda: quick.fit(small[:100])) for _ in range(5)):.2f} s |")
    print(transform_row(10000))
    print(transform_row(40000))
    ours, theirs = steps()
    print(f"| step, 25 Gaussians, ours / VAE | {1e3 * ours:.2f} ms / {1e3 * theirs:.2f} ms = {ours / theirs:.2f} |", flush=True)
    print(f"| fit 400 x 4 | {seconds(lambda: CoupledVAE(random_state=0).fit(small)):.1f} s |", flush=True)
    print(f"| fit 1347 x 64 digits | {seconds(lambda: CoupledVAE(random_state=0).fit(digits)):.1f} s |", flush=True)


if __name__ == "__main__":
    main()
