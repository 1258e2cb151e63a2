"""The loop: steps, learning rate, progress and resuming; it sees parameters and a step function, and nothing of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from skcvae._checkpoint import Checkpoint

#: Share of a cycle over which the learning rate rises.
WARM_UP = 0.05
#: Steps averaged into one point of the curve that decides when to stop.
WINDOW = 50
#: Steps between two checkpoints.
CHECKPOINT_STEPS = 200


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


def has_stalled(values: list[float], tol: float, patience: int) -> bool:
    """Whether the last `patience` values have brought no fall of `tol` below the ones before."""
    earlier, later = values[:-patience], values[-patience:]
    return bool(earlier) and min(later) > min(earlier) - tol


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


def repeat(step: Callable[[int], bool], n_steps: int, description: str, verbose: bool, first: int = 0) -> int:
    """Call `step(t)` for t = first, first + 1, ... below `n_steps` until it returns True; returns the next t.

    A bar shows progress if asked.
    """
    steps: Iterable[int] = range(first, n_steps)
    with _bar(steps, description, n_steps, first) if verbose else nullcontext(steps) as shown:
        following = first
        for t in shown:
            following = t + 1
            if step(t):
                break
    return following


def _bar(steps: Iterable[int], description: str, n_steps: int, first: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(steps, desc=description, mininterval=0.5, initial=first, total=n_steps)


class Steps(Protocol):
    """The state of a loop, which goes from one step to the next."""

    def step(self, t: int) -> bool:
        """One step; True when the loop may end."""


class Holder(Protocol):
    """What the stages of a fit change."""

    @property
    def held(self) -> dict[str, Tensor]:
        """What is a function of the data alone."""


class Watcher(Protocol):
    """Who is told of the tasks of a fit."""

    def begin(self, name: str) -> None:
        """A task begins."""

    def end(self, owner: Any) -> bool:
        """It has ended; True to stop the fit."""


Root = TypeVar("Root", bound=Holder)
Owner = TypeVar("Owner", bound=Steps)
Result = TypeVar("Result")


@dataclass
class _State(Generic[Root]):
    """What has been done: results by the names of stages, and the loop that is under way, by its name, with its next step."""

    root: Root
    done: dict[str, Any] = field(default_factory=dict)
    loop: tuple[str, Steps, int] | None = None
    stopped: bool = False


class Course(Generic[Root]):
    """A fit as a course of stages and loops, each with a name of its own; where there is a checkpoint it goes on from there.

    Parameters
    ----------
    root : what the stages change; all of them must use `Course.root`
    verbose : bool, whether loops show their progress
    checkpoint : Checkpoint or None
    watch : Watcher or None, told of every 50 steps, or of every step of a loop with a checkpoint after each

    Everything that a stage or loop depends on must be in `root`, in the results of earlier ones, or the same in every run; and
    nothing but a stage or a loop may change `root`.
    """

    def __init__(
        self, root: Root, verbose: bool = False, checkpoint: Checkpoint | None = None, watch: Watcher | None = None
    ) -> None:
        found: _State[Root] | None = None if checkpoint is None else checkpoint.read()
        self.state = _State(root) if found is None else found
        self.verbose, self.checkpoint, self.watch = verbose, checkpoint, watch

    @property
    def root(self) -> Root:
        """What the stages change, as it is by now."""
        return self.state.root

    @property
    def stopped(self) -> bool:
        """Whether who watches has asked to stop."""
        return self.state.stopped

    def stage(self, name: str, make: Callable[[], Result]) -> Result:
        """The result of a stage, made unless it is there."""
        if name in self.state.done:
            return self.state.done[name]
        return self._finished(name, make())

    def loop(self, name: str, make: Callable[[], Owner], n_steps: int, every: int = CHECKPOINT_STEPS, shown: bool = True) -> Owner:
        """The owner of a loop after its last step; a checkpoint is written after every so many, a multiple of 50 or fewer."""
        if name in self.state.done:
            return self.state.done[name]
        if self.state.loop is None or self.state.loop[0] != name:
            self.state.loop = name, make(), 0
        owner: Any
        _, owner, first = self.state.loop

        def step(t: int) -> bool:
            if t > first and t % every == 0:
                self.state.loop = name, owner, t
                self._write()
            return self._watched(name, owner, t, min(every, WINDOW), n_steps - 1)

        repeat(step, n_steps, name, self.verbose and shown, first)
        self.state.loop = None
        return self._finished(name, owner)

    def _watched(self, name: str, owner: Steps, t: int, window: int, last: int) -> bool:
        """One step, in a task of `window` of them."""
        if self.watch is None:
            return owner.step(t)
        if t % window == 0:
            self.watch.begin(name)
        may_end = owner.step(t)
        if may_end or (t + 1) % window == 0 or t == last:
            self.state.stopped = self.watch.end(owner)
        return may_end or self.stopped

    def end(self) -> None:
        """Forget the checkpoint."""
        if self.checkpoint is not None:
            self.checkpoint.remove()

    def _finished(self, name: str, result: Result) -> Result:
        if self.checkpoint is not None:
            self.state.done[name] = result
            self._write()
        return result

    def _write(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.write(self.state)
