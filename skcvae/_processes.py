"""Several processes that fit one model together: all take the same steps, and each does a part of the work.

Everything here is what one process would do where there is no group. Inside of `entered` all processes of the group must call the
same functions in the same order; what they return is the same in all of them, bit for bit.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

Value = TypeVar("Value")
#: Floating-point operations of a step of training of which each process does a share, at least: of less the exchange takes longer.
SHARED_STEP = 2e9
#: How numbers of all processes become one.
REDUCTIONS = {"sum": np.add, "max": np.maximum, "min": np.minimum}


class _Own(threading.local):
    """The group that this thread has entered, and whether it is there; None is torch's default group."""

    group: Any = None
    is_entered: bool = False


_own = _Own()


class ProcessLostError(RuntimeError):
    """Another process of the group has ended, or has not answered in time."""


@contextmanager
def entered(group: Any) -> Iterator[None]:
    """Work together with the other processes of a group here."""
    if _own.is_entered:
        raise RuntimeError("A fit by several processes cannot begin inside of another one.")
    _own.group, _own.is_entered = group, True
    try:
        yield
    finally:
        _own.group, _own.is_entered = None, False


def is_entered() -> bool:
    """Whether this process works together with others."""
    return _own.is_entered


def size() -> int:
    """How many processes work together, 1 where there is no group."""
    return dist.get_world_size(_own.group) if _own.is_entered else 1


def rank() -> int:
    """The place of this process among them."""
    return dist.get_rank(_own.group) if _own.is_entered else 0


@contextmanager
def _told_of_loss() -> Iterator[None]:
    """Say what a communication that fails means."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(
            f"Process {rank()} of {size()} has lost another one, which has ended, failed or not answered within the group's "
            "timeout. Look at the first error that any process printed. Nothing was changed by this fit; with checkpoint= the next "
            f"one goes on from where it was. ({str(error).splitlines()[0]})"
        ) from error


def gathered(value: Value) -> list[Value]:
    """The values of all processes, of any kind that can be pickled, in their order."""
    if not _own.is_entered:
        return [value]
    found: list[Any] = [None] * size()
    with _told_of_loss():
        dist.all_gather_object(found, value, group=_own.group)
    return found


def agreed(value: Value) -> Value:
    """The value of the first process."""
    if not _own.is_entered:
        return value
    found = [value]
    with _told_of_loss():
        dist.broadcast_object_list(found, src=dist.get_global_rank(_group(), 0), group=_own.group)
    return found[0]


def _group() -> Any:
    return dist.group.WORLD if _own.group is None else _own.group


@contextmanager
def together() -> Iterator[None]:
    """Raise the error of one process in all of them, where nothing may be exchanged.

    A process that has an error raises it, and the others raise a ValueError that quotes the first one.
    """
    if not _own.is_entered:
        yield
        return
    error = None
    try:
        yield
    except Exception as own:
        error = own
    found = gathered(None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    for place, text in enumerate(found):
        if text is not None:
            raise ValueError(f"Process {place} of {size()} refused its part. {text}")


def reduced(values: Any, how: str = "sum") -> NDArray[np.float64]:
    """Sums, or the largest or smallest of numbers in all processes, of the same shape in each."""
    parts = gathered(np.asarray(values, dtype=np.float64))
    return np.asarray(functools.reduce(REDUCTIONS[how], parts))


def is_any(value: bool) -> bool:
    """Whether it is so in one of the processes."""
    return any(gathered(bool(value)))


def is_worth(n_operations: float) -> bool:
    """Whether a step of training of so many floating-point operations is shared."""
    return size() > 1 and n_operations >= SHARED_STEP


def part(n: int) -> slice:
    """Which of n things are this process's: every so many-th, so that of the first m it has its part of m."""
    return slice(rank(), n, size())


def n_own(n: int) -> int:
    """How many of n things are this process's."""
    return len(range(rank(), n, size()))


def joined(own: Tensor, n: int) -> Tensor:
    """The n rows of which each process has its `part`."""
    if not _own.is_entered:
        return own
    padded = own.new_zeros(-(-n // size()), *own.shape[1:])
    padded[: len(own)] = own
    return torch.stack(_all(padded), 1).flatten(0, 1)[:n]


def log_summed(log_values: Tensor) -> Tensor:
    """Logarithms of sums over the processes, in the same order in all of them."""
    if not _own.is_entered:
        return log_values
    return functools.reduce(torch.logaddexp, _all(log_values))


def summed(values: Tensor) -> Tensor:
    """Sums over the processes, in the same order in all of them."""
    if not _own.is_entered:
        return values
    return functools.reduce(torch.add, _all(values))


def _all(values: Tensor) -> list[Tensor]:
    found = [torch.empty_like(values) for _ in range(size())]
    with _told_of_loss():
        dist.all_gather(found, values.contiguous(), group=_own.group)
    return found


def mean_in_place(tensors: Sequence[Tensor]) -> None:
    """Put the means over the processes in the place of tensors of one precision."""
    sum_in_place(tensors)
    for tensor in tensors:
        tensor /= size()


def sum_in_place(tensors: Sequence[Tensor]) -> None:
    """Put the sums over the processes in the place of tensors of one precision."""
    if not _own.is_entered or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _told_of_loss():
        dist.all_reduce(flat, group=_own.group)
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))
