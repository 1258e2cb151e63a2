"""Threads of a fit: torch computes in one, and large passes give their parts to as many as it was found with.

Threads that share one operation wait for each other after each, actively: beside other processes a step that takes a
millisecond alone takes many. Parts of a pass wait once, at its end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Part = TypeVar("Part")
Result = TypeVar("Result")
#: Floating-point operations of a step, forwards and backwards, from which on torch's threads share each of its operations.
SHARED_STEP = 1e9


class _Own(threading.local):
    """The number of threads that this thread was found with, and its workers; both None outside of `apart`."""

    found: int | None = None
    workers: ThreadPoolExecutor | None = None


_own = _Own()
if hasattr(os, "register_at_fork"):  # a forked child has none of the workers
    os.register_at_fork(after_in_child=lambda: _own.__dict__.clear())


@contextmanager
def apart() -> Iterator[None]:
    """Torch computes in one thread here; `mapped` and `shared` use as many as torch was found with, and no more.

    Only this thread's setting changes, and it is put back; threads that begin meanwhile get the number that was found.

    Examples
    --------
    >>> import torch
    >>> from skcvae import _threads
    >>> before = torch.get_num_threads()
    >>> with _threads.apart():
    ...     torch.get_num_threads(), _threads.mapped(abs, [-1, -2])
    (1, [1, 2])
    >>> torch.get_num_threads() == before
    True
    """
    if _own.found is not None:
        yield
        return
    found = torch.get_num_threads()
    if found == 1:
        yield
        return
    workers = ThreadPoolExecutor(found, "skcvae", _set, (1, found))
    _own.found, _own.workers = found, workers
    _set(1, found)
    try:
        yield
    finally:
        _own.found = _own.workers = None
        workers.shutdown(cancel_futures=True)
        torch.set_num_threads(found)


@contextmanager
def shared(n_operations: float) -> Iterator[None]:
    """Torch's threads share each operation here, where a step has so many floating-point operations that it is worth it."""
    if _own.found is None or n_operations < SHARED_STEP:
        yield
        return
    torch.set_num_threads(_own.found)
    try:
        yield
    finally:
        _set(1, _own.found)


def mapped(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """The results for all parts, in their order; computed by several threads inside of `apart`, by this one elsewhere."""
    workers = _own.workers
    if workers is None or len(parts) < 2:
        return [function(part) for part in parts]
    with_gradients = torch.is_grad_enabled()

    def computed(part: Part) -> Result:
        with torch.set_grad_enabled(with_gradients):
            return function(part)

    return list(workers.map(computed, parts))


@torch.no_grad()
def step_operations(module: nn.Module, rows: Tensor, n_rows: int) -> float:
    """Floating-point operations of a step of a module on so many rows, forwards and backwards, by those of some rows.

    Examples
    --------
    >>> import torch
    >>> from skcvae import _threads
    >>> _threads.step_operations(torch.nn.Linear(3, 5), torch.zeros(2, 3), 100)
    9000.0
    """
    modes = {layer: layer.training for layer in module.modules()}
    with FlopCounterMode(display=False) as counter:
        module.eval()(rows)
    for layer, mode in modes.items():
        layer.training = mode
    return 3.0 * counter.get_total_flops() * n_rows / len(rows)


def _set(n_threads: int, others: int) -> None:
    """Set torch's number of threads for this thread, and `others` for threads that begin later.

    A new thread inherits the number that any thread set last: a helper thread sets `others` after this one has set its own.
    """
    torch.get_num_threads()  # a thread that first asked later would take the others' number
    torch.set_num_threads(n_threads)
    other = threading.Thread(target=torch.set_num_threads, args=(others,))
    other.start()
    other.join()
