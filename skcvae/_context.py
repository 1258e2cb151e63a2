"""The state of torch in which this package computes, whatever the caller's: modes, autocast and device, of this thread alone.

torch's default precision belongs to all threads, so it is never changed while anything is computed: each tensor says its own.
Only `float32_by_default`, for layers of other libraries that cannot be told, sets it, and only where it is another.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from skcvae._random import lock

Module = TypeVar("Module", bound=nn.Module)

#: Whether this process was made by fork from one that had imported this package.
_is_forked = False
#: Threads that are in `without_warnings`, and what puts back the filters that the first of them found.
_n_muting, _muting = 0, ExitStack()


def _note_fork() -> None:
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@contextmanager
def computing(*, with_gradients: bool) -> Iterator[None]:
    """Compute outside of inference mode and autocast and on the CPU unless told otherwise, with gradients or without.

    A fit under `torch.no_grad()` or `torch.inference_mode()` is the fit outside of them. In a process made by fork torch computes
    in one thread from here on: its OpenMP threads stayed behind in the parent, and waiting for them would never end.

    Examples
    --------
    >>> import torch
    >>> from skcvae._context import computing
    >>> with torch.inference_mode(), computing(with_gradients=True):
    ...     torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    (True, False)
    """
    if _is_forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(with_gradients))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Layers and tensors that say no precision are float32; where that is the default already, nothing is touched."""
    with lock():
        before = torch.get_default_dtype()
        if before == torch.float32:
            yield
            return
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextmanager
def without_warnings(module: str) -> Iterator[None]:
    """Ignore warnings from modules whose names a regular expression matches.

    The filters belong to all threads. Those that the first thread found are put back by the last; with `warnings.catch_warnings`
    each would put back what it found, and the last would leave another's behind for good.

    Examples
    --------
    >>> import warnings
    >>> from skcvae._context import without_warnings
    >>> before = warnings.filters[:]
    >>> with without_warnings("ot"):
    ...     warnings.filters == before
    False
    >>> warnings.filters == before
    True
    """
    global _n_muting
    with lock():
        if _n_muting == 0:
            _muting.enter_context(warnings.catch_warnings())
        _n_muting += 1
        warnings.filterwarnings("ignore", module=module)
    try:
        yield
    finally:
        with lock():
            _n_muting -= 1
            if _n_muting == 0:
                _muting.close()


def differentiable(module: Module) -> Module:
    """A module, or its copy where some of its tensors were made in inference mode, which autograd refuses."""
    is_refused = any(tensor.is_inference() for tensor in (*module.parameters(), *module.buffers()))
    return copy.deepcopy(module) if is_refused else module


def plain(tensor: Tensor) -> Tensor:
    """A tensor without its history, or its copy where it was made in inference mode."""
    return tensor.clone().detach() if tensor.is_inference() else tensor.detach()
