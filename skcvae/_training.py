"""The loop: steps, learning rate, progress and resuming; it sees parameters and a step function, and nothing of models."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from skcvae import _processes
from skcvae._checkpoint import Checkpoint

#: Share of a cycle over which the learning rate rises.
WARM_UP = 0.05
#: Steps of the cooling after a plateau, as a share of those before.
COOLING_SHARE = 0.5
#: Steps averaged into one point of the curve that decides when to stop.
WINDOW = 50
#: Steps between two checkpoints.
CHECKPOINT_STEPS = 200


class Diverged(FloatingPointError):
    """A loss that is not finite."""


@dataclass
class Plateau:
    """Reached when the mean loss of the last `patience` windows is less than `tol` below that of the `patience` windows before.

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
        if len(self.averages) < 2 * self.patience:
            return False
        before, now = (sum(half) / self.patience for half in (self.averages[: self.patience], self.averages[self.patience :]))
        falls = now < (before - self.tol * before if self.relative else before - self.tol)
        return not falls

    def state_dict(self) -> dict[str, Any]:
        """The losses that it compares."""
        return {"window": list(self.window), "averages": list(self.averages)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.window, self.averages = list(state["window"]), list(state["averages"])


def has_stalled(values: list[float], tol: float, patience: int) -> bool:
    """Whether the last `patience` values have brought no fall of `tol` below the ones before."""
    earlier, later = values[:-patience], values[-patience:]
    return bool(earlier) and min(later) > min(earlier) - tol


def next_fall(values: list[float]) -> float:
    """The fall to expect of the next value: the last fall, times its ratio to the one before where that is below 1; 0 after a rise.

    Examples
    --------
    >>> from skcvae._training import next_fall
    >>> next_fall([8.0, 4.0]), next_fall([8.0, 4.0, 2.0]), next_fall([8.0, 9.0])
    (4.0, 1.0, 0.0)
    """
    falls = [before - after for before, after in itertools.pairwise(values[-3:])]
    last = max(0.0, falls[-1])
    return last * min(1.0, last / falls[0]) if len(falls) == 2 and falls[0] > 0 else last


def adam(modules: Iterable[nn.Module], learning_rate: float) -> torch.optim.Adam:
    """Adam over the parameters of several modules."""
    parameters = [p for module in modules for p in module.parameters()]
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, is_part: bool = False) -> float:
    """One step down a loss; returns its value. Raises `Diverged` when it is not finite, before anything moves.

    Where it is a part of it the loss is the sum of what all processes have.
    """
    optimiser.zero_grad()
    loss.backward()
    total = loss.detach().clone()
    if is_part:
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        _processes.sum_in_place([total, *gradients])
    value = float(total)
    if not math.isfinite(value):
        raise Diverged(f"the loss became {value}")
    optimiser.step()
    return value


@torch.no_grad()
def average(optimiser: torch.optim.Optimizer, value: float) -> float:
    """Put the means over the processes in the place of weights and moments, each after steps of its own; the mean of a value."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    moments = [optimiser.state[p][name] for p in parameters if optimiser.state[p] for name in ("exp_avg", "exp_avg_sq")]
    mean = parameters[0].new_tensor(value)
    _processes.mean_in_place([mean, *(p.data for p in parameters), *moments])
    return float(mean)


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Change the learning rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


class Cycle:
    """The learning rate's factor over a training of at most `n_steps`: `one_cycle`, and after a plateau a cosine to zero.

    The loss falls most while the learning rate falls, so that a training does not end at the plateau itself.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.cooling: tuple[int, int] | None = None

    @property
    def is_cooling(self) -> bool:
        """Whether a plateau was reached."""
        return self.cooling is not None

    def factor(self, t: int) -> float:
        """The factor of step t."""
        if self.cooling is None or t < self.cooling[0]:
            return one_cycle(t / self.n_steps)
        begin, end = self.cooling
        return one_cycle(begin / self.n_steps) * 0.5 * (1 + math.cos(math.pi * (t - begin) / (end - begin)))

    def cool(self, t: int) -> None:
        """Bring the end forward: from step t on the rate falls, for a share of the steps made."""
        if self.cooling is None:
            self.cooling = t, min(self.n_steps, t + max(WINDOW, math.ceil(COOLING_SHARE * t)))

    def is_over(self, t: int) -> bool:
        """Whether step t was the last one of the cooling."""
        return self.cooling is not None and t + 1 >= self.cooling[1]

    def state_dict(self) -> dict[str, Any]:
        """When the cooling began and when it ends."""
        return {"cooling": self.cooling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.cooling = state["cooling"]


def one_cycle(fraction: float) -> float:
    """Learning-rate factor in [0, 1]: a linear rise over `WARM_UP`, then half a cosine down to zero."""
    if fraction < WARM_UP:
        return (fraction + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP)))


class Pace:
    """How far a fit is, shown by one bar if asked, and whether its time is over.

    Parameters
    ----------
    verbose : bool, whether to show it: the stage and its round, the steps made and to come, and the last value that was noted
    max_time : float or None, seconds from now
    """

    def __init__(self, verbose: bool = False, max_time: float | None = None) -> None:
        self.verbose = verbose and _processes.rank() == 0
        self.bar: Any = None
        self.deadline = None if max_time is None else time.monotonic() + max_time

    @property
    def is_over(self) -> bool:
        """Whether there is no time left."""
        return self.deadline is not None and _processes.agreed(time.monotonic() >= self.deadline)

    def share_left(self, share: float) -> float | None:
        """A share of the seconds that are left, or None where there is no limit."""
        return None if self.deadline is None else max(share * (self.deadline - time.monotonic()), 1e-9)

    def begin(self, description: str, n_steps: int, first: int = 0) -> None:
        """Steps of another stage or round begin."""
        if not self.verbose:
            return
        if self.bar is None:
            from tqdm.auto import tqdm

            self.bar = tqdm(mininterval=0.5)
        self.bar.reset(total=n_steps)
        self.bar.set_description_str(description)
        self.bar.update(first)

    def advance(self) -> None:
        """One step was made."""
        if self.bar is not None:
            self.bar.update()

    def note(self, value: float) -> None:
        """Show a value, in nats, with the next step."""
        if self.bar is not None:
            self.bar.set_postfix_str(f"value {value:.4g}", refresh=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()


def repeat(step: Callable[[int], bool], n_steps: int, pace: Pace, description: str | None = None, first: int = 0) -> int:
    """Call `step(t)` for t = first, first + 1, ... below `n_steps` until it returns True or the time is over; returns the next t.

    The bar shows steps that have a description. The time is looked at after a step, so that one is made where there is one.
    """
    if description is not None:
        pace.begin(description, n_steps, first)
    following = first
    try:
        for t in range(first, n_steps):
            following = t + 1
            may_end = step(t)
            if description is not None:
                pace.advance()
            if may_end or pace.is_over:
                break
    except BaseException:
        pace.close()
        raise
    return following


class Stateful(Protocol):
    """What goes from one step of a fit to the next: its state is plain data and tensors, see `_checkpoint`."""

    def state_dict(self) -> dict[str, Any]:
        """The state by now."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class Steps(Stateful, Protocol):
    """The state of a loop."""

    def step(self, t: int) -> bool:
        """One step; True when the loop may end."""


class Watcher(Protocol):
    """Who is told of the tasks of a fit."""

    def begin(self, name: str) -> None:
        """A task begins."""

    def end(self, owner: Any) -> bool:
        """It has ended; True to stop the fit."""


Root = TypeVar("Root", bound=Stateful)
Owner = TypeVar("Owner", bound=Steps)


class Course(Generic[Root]):
    """A fit as a course of stages and loops, each with a name of its own; where there is a checkpoint it goes on from there.

    Parameters
    ----------
    root : what the stages and loops change; it must be as it was at the beginning of the fit
    pace : Pace, shows the loops' progress and says when the time is over, which stops the fit
    checkpoint : Checkpoint or None
    found : dict or None, the state that the checkpoint holds
    begin : dict, what the checkpoint is to hold of the beginning of the fit
    watch : Watcher or None, told of every 50 steps, or of every step of a loop with a checkpoint after each

    Everything that a stage or loop depends on must be in `root`, in the results of earlier ones, or the same in every run; and
    nothing but a stage or a loop may change `root`.
    """

    def __init__(
        self,
        root: Root,
        pace: Pace | None = None,
        checkpoint: Checkpoint | None = None,
        found: dict[str, Any] | None = None,
        begin: dict[str, Any] | None = None,
        watch: Watcher | None = None,
    ) -> None:
        self.root, self.checkpoint, self.watch, self.begin = root, checkpoint, watch, begin
        self.pace = Pace() if pace is None else pace
        self.done: dict[str, Any] = {}
        self.found, self.stopped = found, False
        if found is not None:
            with self._told_of_misfit():
                self.done, self.stopped = dict(found["done"]), bool(found["stopped"])
                root.load_state_dict(found["root"])

    def stage(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a stage, plain data and tensors, made unless it is there."""
        if name in self.done:
            return self.done[name]
        self.found, result = None, make()
        if self.checkpoint is not None:
            self.done[name] = result
            self._write(None)
        return result

    def loop(self, name: str, make: Callable[[], Owner], n_steps: int, every: int = CHECKPOINT_STEPS, shown: bool = True) -> Owner:
        """The owner of a loop after its last step; a checkpoint is written after every so many, a multiple of 50 or fewer."""
        owner, first = make(), 0
        if self.found is not None:
            with self._told_of_misfit():
                loop = self.found["loop"]
                if name in self.done or (loop is not None and loop[0] == name):
                    _, state, first = (name, self.done[name], n_steps) if name in self.done else loop
                    owner.load_state_dict(state)
                    self.root.load_state_dict(self.found["root"])  # making the owner may have drawn from its generator
            if name in self.done:
                return owner
            self.found = None

        def step(t: int) -> bool:
            if t > first and t % every == 0 and self.checkpoint is not None:
                self._write((name, owner.state_dict(), t))
            return self._watched(name, owner, t, min(every, WINDOW), n_steps - 1)

        repeat(step, n_steps, self.pace, name if shown else None, first)
        if self.checkpoint is not None:
            self.done[name] = owner.state_dict()
            self._write(None)
        return owner

    def _watched(self, name: str, owner: Steps, t: int, window: int, last: int) -> bool:
        """One step, in a task of `window` of them."""
        if self.watch is not None and t % window == 0:
            self.watch.begin(name)
        may_end = owner.step(t)
        self.stopped = self.stopped or self.pace.is_over
        if self.watch is not None and (may_end or self.stopped or (t + 1) % window == 0 or t == last):
            self.stopped = self.watch.end(owner) or self.stopped
        return may_end or self.stopped

    def end(self) -> None:
        """Close the bar and forget the checkpoint."""
        self.pace.close()
        if self.checkpoint is not None:
            self.checkpoint.remove()

    def _write(self, loop: tuple[str, dict[str, Any], int] | None) -> None:
        if self.checkpoint is not None:
            state = {"begin": self.begin, "root": self.root.state_dict(), "done": self.done, "loop": loop, "stopped": self.stopped}
            self.checkpoint.write(state)

    @contextmanager
    def _told_of_misfit(self) -> Iterator[None]:
        """Say which file it is where a state does not fit what it is the state of."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            if self.checkpoint is None:
                raise
            raise self.checkpoint.foreign(f"its state does not fit ({str(error).splitlines()[0]})") from error
