"""The one room that seeds.

All randomness comes from numpy generators that `make_rng` makes of a random state, and from torch generators on the CPU that are
seeded from these. The global generators of torch and numpy serve only code of the user's, a module's own layers or a prior's
sampler, which knows no other: `seeded` lends them out under a lock and leaves them as it found them.
"""

from __future__ import annotations

import numbers
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from skcvae._checks import check_number, shown
from skcvae._memory import check_room

#: Held while a global generator is seeded; a child process made by fork gets a lock of its own.
_lock = threading.RLock()


def lock() -> Any:
    """The lock under which a setting that all threads share is changed, a global generator's state above all."""
    return _lock


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def make_rng(random_state: object, stream: int = 0) -> np.random.Generator:
    """A numpy generator of a random state; None draws fresh entropy from the operating system, never from a global generator.

    Streams of one random state are independent.

    Examples
    --------
    >>> from skcvae._random import make_rng
    >>> bool(make_rng(0).random() == make_rng(0).random()), bool(make_rng(0).random() == make_rng(0, stream=1).random())
    (True, False)
    """
    rng = _made(random_state)
    return rng if stream == 0 else np.random.default_rng([int(rng.integers(2**63)), stream])


def as_seed(random_state: object) -> int:
    """The random state as an integer, which is drawn from a generator."""
    rng = make_rng(random_state)
    return int(random_state) if isinstance(random_state, numbers.Integral) else int(rng.integers(2**31))


def _made(random_state: object) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**32, size=4, dtype=np.uint32))
    if random_state is np.random:
        return np.random.default_rng(np.random.randint(2**32, size=4, dtype=np.uint32))  # noqa: NPY002
    try:
        return np.random.default_rng(random_state)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(
            f"random_state must be None, a non-negative integer, a numpy RandomState or Generator, got {shown(random_state)}."
        ) from None


def make_torch_generator(rng: np.random.Generator) -> torch.Generator:
    """A torch generator on the CPU seeded from a numpy one."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def draws_rng(n_samples: object, random_state: object, shape: tuple[Any, ...], dtype: Any = np.float64) -> np.random.Generator:
    """The generator of `n_samples` draws that a user asks for, in an array of `shape`, once their number and size are checked."""
    check_number("n_samples", n_samples, numbers.Integral, 1)
    rng = make_rng(random_state)
    check_room(f"n_samples={n_samples}", shape, "Ask for fewer at a time.", dtype)
    return rng


@contextmanager
def unmoved_on_failure(random_state: object) -> Iterator[None]:
    """Put a generator that the user gave as random state back where it was when the block raises."""
    if isinstance(random_state, np.random.Generator):
        before = random_state.bit_generator.state
    elif isinstance(random_state, np.random.RandomState):
        before = random_state.get_state(legacy=False)
    try:
        yield
    except BaseException:
        if isinstance(random_state, np.random.Generator):
            random_state.bit_generator.state = before
        elif isinstance(random_state, np.random.RandomState):
            random_state.set_state(before)  # type: ignore[arg-type]
        raise


@contextmanager
def seeded(seed: int, *, device: torch.device | None = None, with_numpy: bool = False) -> Iterator[None]:
    """Seed torch's global generator on the CPU, hold a lock, and leave the generator as it was.

    Parameters
    ----------
    seed : int, below 2^63; numpy takes its lowest 32 bits
    device : torch.device, where the code of the user's runs; the generator of that one GPU is seeded and restored too
    with_numpy : bool, whether numpy's global generator is seeded and restored too

    Examples
    --------
    >>> import torch
    >>> from skcvae._random import seeded
    >>> before = torch.get_rng_state()
    >>> with seeded(0):
    ...     layer = torch.nn.Linear(2, 2)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    gpu = device if device is not None and device.type == "cuda" and torch.cuda.is_available() else None
    with lock():
        torch_state = torch.default_generator.get_state()
        gpu_state = None if gpu is None else torch.cuda.get_rng_state(gpu)
        numpy_state = np.random.get_state() if with_numpy else None  # noqa: NPY002
        try:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would leave a seed to a GPU that is started later
            if gpu is not None:
                torch.cuda.default_generators[torch.cuda.current_device() if gpu.index is None else gpu.index].manual_seed(seed)
            if with_numpy:
                np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
        finally:
            torch.default_generator.set_state(torch_state)
            if gpu is not None and gpu_state is not None:
                torch.cuda.set_rng_state(gpu_state, gpu)
            if numpy_state is not None:
                np.random.set_state(numpy_state)  # noqa: NPY002
