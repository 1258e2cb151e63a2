"""Seconds of a default fit, of one training step beside a plain VAE's, and of transform.

Protocol: everything runs in this process, on all cores, after one warm-up. Steps of the two models alternate in blocks of 20, and
medians of the blocks are compared, so that other load on the machine meets both.

- fits: 400 x 4 and 1347 x 64 (the digits) with the defaults, 100 x 4 with max_iter=5; random_state=0.
- step: 25 Gaussians, 7500 rows, three hidden layers of 256; binary digits, convolutions of 16 and 32 channels; batch 256. Ours:
  the decoder's step with all potential iterations that the schedule makes at that point, over the second half of a training run.
  VAE: our estimator's own steps, with the same network and likelihood. Plain torch: the same decoder and a mirror-image encoder,
  Gaussian reparameterisation, closed-form KL, fused Adam, the same batch size, and nothing else. pythae: its VAE on the same
  networks, where it is installed.
- transform: 10000 rows x 64 features against a pool of 4096, float64; peak memory beyond input and output, also at 40000 rows.

Run: python benchmarks/speed.py [--data PATH] [--steps-only]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gaussians25 import make_grid
from mnist import images
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from skcvae import VAE, CoupledVAE, _training
from skcvae.networks import MLP, Conv, Network
from skcvae.schedule import Schedule

HIDDEN = (256, 256, 256)
BLOCK, BLOCKS = 20, 20


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def networks(network: Network, width: int) -> tuple[nn.Module, nn.Module]:
    """An encoder's and a decoder's network with the same seed for all."""
    generator = torch.Generator().manual_seed(0)
    network = network.bind(width)
    return network.encoder(width, 4, generator), network.decoder(2, width, generator)


def cost(likelihood: str, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Minus the log-likelihood, but for a constant."""
    if likelihood == "bernoulli":
        return binary_cross_entropy_with_logits(output, x, reduction="none").sum(1)
    return 200 * (output - x).square().sum(1)


class Caught(Exception):
    """The first step of a fit is about to be made."""


def vae_step(x: torch.Tensor, network: Network, likelihood: str) -> Callable[[], object]:
    """One step of our VAE, as its fit makes it."""
    caught: list[Callable[[int], bool]] = []

    def catch(step: Callable[[int], bool], *_: object) -> int:
        caught.append(step)
        raise Caught

    whole, _training.repeat = _training.repeat, catch
    with contextlib.suppress(Caught):
        VAE(network=network, likelihood=likelihood, random_state=0).fit(x.numpy())
    _training.repeat = whole
    return lambda: caught[0](0)


def plain_step(x: torch.Tensor, network: Network, likelihood: str) -> Callable[[], object]:
    """One step of a VAE in plain torch with our decoder and a mirror-image encoder."""
    generator, (encoder, decoder) = torch.Generator().manual_seed(0), networks(network, x.shape[1])
    optimiser = _training.adam([nn.ModuleList([decoder, encoder])], 1e-3)

    def step() -> None:
        batch = x[torch.randint(len(x), (256,), generator=generator)]
        mean, log_variance = encoder(batch).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        _training.descend(optimiser, (cost(likelihood, decoder(z), batch) + divergence).mean())

    return step


def pythae_step(x: torch.Tensor, network: Network, likelihood: str) -> Callable[[], object]:
    """The same by pythae's model and torch's default Adam, as its trainer has them, without the trainer's own bookkeeping."""
    from peers import Decoder, Encoder
    from pythae.models import VAE, VAEConfig

    encoder, decoder = networks(network, x.shape[1])
    config = VAEConfig(input_dim=(x.shape[1],), latent_dim=2)
    model = VAE(config, encoder=Encoder(encoder, False, 1.0), decoder=Decoder(decoder, 1.0))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        loss = model({"data": x[torch.randint(len(x), (256,))]}).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


class StepClock:
    """Interleaves blocks of other models' steps with the steps of a real training run and times all."""

    def __init__(self, others: list[Callable[[], object]]) -> None:
        self.others, self.taken = others, []  # type: ignore[var-annotated]

    def repeat(self, step: Callable[[int], bool], n_steps: int, *_: object) -> int:
        """In place of `_training.repeat`."""
        for begin in range(0, n_steps, BLOCK):
            ours = seconds(lambda begin=begin: [step(t) for t in range(begin, begin + BLOCK)])
            self.taken.append([ours, *(seconds(lambda other=other: [other() for _ in range(BLOCK)]) for other in self.others)])
        return n_steps


def steps(X: np.ndarray, network: Network, likelihood: str, makers: list[Callable[..., Any]]) -> np.ndarray:
    """Median seconds of our training step and of the others', over the second half of the run."""
    x = torch.as_tensor(X if likelihood == "bernoulli" else (X - X.mean(0)) / X.std(), dtype=torch.float32)
    clock = StepClock([make(x, network, likelihood) for make in makers])
    whole, _training.repeat = _training.repeat, clock.repeat
    try:
        short = Schedule(polish_rounds=0, marginal_tol=1.0)
        schedule = {"max_iter": 2 * BLOCK * BLOCKS, "random_state": 0, "schedule": short}
        CoupledVAE(network=network, likelihood=likelihood, **schedule).fit(X)
    finally:
        _training.repeat = whole
    return np.median(clock.taken[BLOCKS : 2 * BLOCKS], axis=0) / BLOCK  # what comes after is polishing


def step_rows(path: str | None) -> list[str]:
    """Lines of the table: our step beside those that are installed."""
    makers, names = [vae_step, plain_step], ["VAE", "plain torch"]
    if importlib.util.find_spec("pythae"):
        makers, names = [*makers, pythae_step], [*names, "pythae"]
    digits, name = (load_digits().data / 16 > 0.5, "8 x 8") if path is None else (images(path)[0], "28 x 28")
    cases = {
        "25 Gaussians": (make_grid(0.05, 0), MLP(HIDDEN), "gaussian"),
        f"{len(digits)} digits {name}, convolutions": (digits.astype(np.float32), Conv(channels=(16, 32)), "bernoulli"),
    }
    lines = []
    for case, arguments in cases.items():
        ours, *others = steps(*arguments, makers)
        for other, spent in zip(names, others, strict=True):
            ratio = f"{1e3 * ours:.2f} ms / {1e3 * spent:.2f} ms = {ours / spent:.2f}"
            lines.append(f"| step, {case}, ours / {other}, {torch.get_num_threads()} threads | {ratio} |")
    return lines


def peak() -> float:
    """Peak resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def transform_row(n: int) -> str:
    """Seconds and growth of the peak memory beyond input and output for transforming n x 64 rows."""
    rng = np.random.default_rng(0)
    short = Schedule(max_draws=4096, marginal_tol=1.0)
    model = CoupledVAE(max_iter=20, hidden_layer_sizes=(32,), random_state=0, schedule=short).fit(rng.normal(size=(500, 64)))
    X = rng.normal(size=(n, 64))
    model.transform(X[:100])
    before = peak()
    spent = seconds(lambda: model.transform(X))
    return f"| transform {n} x 64, pool {model.coupling_.n_draws} | {spent:.2f} s, {peak() - before - n * 16 / 2**20:.0f} MB more |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="MNIST, as in mnist.py")
    parser.add_argument("--steps-only", action="store_true")
    arguments = parser.parse_args()
    print("| what | measured |\n|---|---|")
    print("\n".join(step_rows(arguments.data)), flush=True)
    if arguments.steps_only:
        return
    rng = np.random.default_rng(0)
    small, digits = rng.normal(size=(400, 4)), load_digits().data[:1347]
    quick = CoupledVAE(max_iter=5, random_state=0)
    quick.fit(small[:100])
    print(f"| fit 100 x 4, max_iter=5 | {min(seconds(lambda: quick.fit(small[:100])) for _ in range(5)):.2f} s |")
    print(transform_row(10000))
    print(transform_row(40000))
    print(f"| fit 400 x 4 | {seconds(lambda: CoupledVAE(random_state=0).fit(small)):.1f} s |", flush=True)
    print(f"| fit 1347 x 64 digits | {seconds(lambda: CoupledVAE(random_state=0).fit(digits)):.1f} s |", flush=True)


if __name__ == "__main__":
    main()
