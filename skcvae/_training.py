"""The loop: steps, learning rate, history and progress; it sees parameters and a step function, and nothing of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

#: Share of a cycle over which the learning rate rises.
WARM_UP = 0.05
#: Steps averaged into one point of the curve that decides when to stop.
WINDOW = 50


class Diverged(FloatingPointError):
    """A loss that is not finite."""


@dataclass
class Plateau:
    """Stops when the average of a loss over `patience` windows is not below that over the `patience` windows before by `tol`.

    `tol` is a share of the earlier average, or where the loss has no natural zero (`relative=False`) a difference.
    """

    tol: float
    patience: int
    relative: bool = True
    window: list[float] = field(default_factory=list)
    averages: list[float] = field(default_factory=list)

    def reached(self, loss: float) -> bool:
        """Take one loss into account and say whether to stop."""
        self.window.append(loss)
        if len(self.window) < WINDOW:
            return False
        self.averages, self.window = [*self.averages[1 - 2 * self.patience :], sum(self.window) / WINDOW], []
        return len(self.averages) == 2 * self.patience and not self._falls()

    def _falls(self) -> bool:
        before, now = (sum(half) / self.patience for half in (self.averages[: self.patience], self.averages[self.patience :]))
        return now < (before - self.tol * before if self.relative else before - self.tol)


def adam(modules: Iterable[nn.Module], learning_rate: float) -> torch.optim.Adam:
    """Adam over the parameters of several modules."""
    parameters = [p for module in modules for p in module.parameters()]
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    """One step down a loss; returns its value. Raises `Diverged` when it is not finite, before anything moves."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise Diverged(f"the loss became {value}")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return value


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Change the learning rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


def one_cycle(fraction: float) -> float:
    """Learning-rate factor in [0, 1]: a linear rise over `WARM_UP`, then half a cosine down to zero."""
    if fraction < WARM_UP:
        return (fraction + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP)))


def repeat(step: Callable[[int], bool], n_steps: int, description: str, verbose: bool) -> int:
    """Call `step(t)` for t = 0, 1, ... until it returns True; returns the number of calls. A bar shows progress if asked."""
    bar = tqdm(range(n_steps), desc=description, disable=not verbose, mininterval=0.5)
    for t in bar:
        if step(t):
            break
    bar.close()
    return t + 1
