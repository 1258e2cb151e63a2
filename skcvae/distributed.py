"""One fit by several processes, each with rows of its own.

Start the processes as you start others (torchrun, SLURM, Ray Train, Lightning), let each begin a process group of
``torch.distributed``, and give ``fit`` the rows of each as `Shards`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import ArrayLike, NDArray

from skcvae import _processes
from skcvae._checks import quiet
from skcvae._memory import ROWS_AT_ONCE, as_floats

__all__ = ["Shards"]

#: Multipliers of the sums that stand for rows, odd, in 64 bits.
FIRST_MULTIPLIER, SECOND_MULTIPLIER = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F


class Shards:
    """The rows of all processes of a group, of which this process has some.

    Give it to ``fit`` in the place of X, in every process of the group. All take the same steps at the same time, share the work,
    and end with the same model, bit for bit. ``sample_weight`` is that of the rows of this process. Parameters must be the same in
    all; a ``random_state`` of None, or a generator, is the first process's. Validation rows ``X_val`` are an array that all have,
    or Shards too; of an array the first process's counts.

    Parameters
    ----------
    X : array-like of shape (n_r, d), in memory or a ``numpy.memmap``; numbers without missing cells; n_r may be 0
    group : process group of ``torch.distributed``, default=None
        None is the default group. It must be able to send tensors of the CPU: "gloo", or "cpu:gloo,cuda:nccl" with GPUs.

    Notes
    -----
    A plan is made of at most 16384 rows, which every process receives. Its draws from the prior are divided among the processes.
    What is sent depends on the size of a plan, and not on the number of rows.

    Examples
    --------
    In a program that is started by ``torchrun --nproc-per-node 2 program.py``; here there is one process:

    >>> import numpy as np
    >>> import tempfile
    >>> import torch.distributed as dist
    >>> from skcvae import CoupledVAE
    >>> from skcvae.distributed import Shards
    >>> folder = tempfile.TemporaryDirectory()
    >>> dist.init_process_group("gloo", init_method=f"file://{folder.name}/group", rank=0, world_size=1)
    >>> X = np.random.default_rng(0).normal(size=(200, 2)) @ [[1.0, 0.5], [0.0, 0.1]]
    >>> CoupledVAE(max_iter=20, random_state=0).fit(Shards(X)).transform(X).shape
    (200, 2)
    >>> dist.destroy_process_group()
    >>> folder.cleanup()
    """

    def __init__(self, X: ArrayLike, group: Any = None) -> None:
        self.X, self.group = X, group

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work together with the other processes here; warnings are the first one's."""
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "Shards needs a process group, and there is none. Call torch.distributed.init_process_group('gloo') in every "
                "process first; torchrun sets what it asks for."
            )
        if self.group is not None and dist.get_rank(self.group) < 0:
            raise ValueError("This process is not in the group that Shards was given. Fit in the processes of the group alone.")
        with _processes.entered(self.group):
            if _processes.rank() == 0:
                yield
            else:
                with quiet():
                    yield


class ShardedRows:
    """Rows (n, d) of all processes as one array that is read by places; all processes must read the same ones.

    Parameters
    ----------
    own : array of shape (n_r, d), this process's; the rows of the first process come first

    Attributes
    ----------
    own : array of shape (n_r, d)
    shape : (n, d)
    dtype : float32 where all are that, float64 otherwise
    """

    ndim = 2

    def __init__(self, own: NDArray) -> None:
        self.own = own
        found = _processes.gathered((len(own), own.shape[1], own.dtype == np.float32))
        lengths, widths, are_single = zip(*found, strict=True)
        if len(set(widths)) > 1:
            raise ValueError(f"All processes must have the same columns, got {', '.join(map(str, widths))} of them.")
        self.begin = sum(lengths[: _processes.rank()])
        self.shape = sum(lengths), own.shape[1]
        self.dtype = np.dtype(np.float32 if all(single for single, n in zip(are_single, lengths, strict=True) if n) else np.float64)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.shape[0] * self.shape[1]

    @property
    def own_places(self) -> slice:
        """Places of the rows of this process."""
        return slice(self.begin, self.begin + len(self.own))

    def __getitem__(self, index: Any) -> Any:
        """Rows of these places, as an array that all processes have; of a mask (n,) the rows stay where they are."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.asarray(index)
        if index.dtype == bool:
            return ShardedRows(self.own[index[self.own_places]])
        if index.ndim == 0:
            return self[index[None]][0]
        places = index - self.begin
        is_own = (places >= 0) & (places < len(self.own))
        rows = np.zeros((len(index), self.shape[1]), self.dtype)
        rows[is_own] = as_floats(self.own[places[is_own]])
        _processes.sum_in_place([torch.from_numpy(rows)])
        return rows

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        """All rows, as an array that every process has."""
        return self[:].astype(dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def digest(self) -> tuple[int, int]:
        """Two numbers that rows in this order have, whichever process has them."""
        rng, totals = np.random.default_rng(0), np.zeros(2, np.uint64)
        factors = rng.integers(1, 2**63, (self.shape[1], 2), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        for start in range(0, len(self.own), ROWS_AT_ONCE):
            bits = np.ascontiguousarray(self.own[start : start + ROWS_AT_ONCE], dtype=np.float64).view(np.uint64)
            sums = np.stack([(_mixed(bits) * factor).sum(1) for factor in factors.T], 1)  # (b, 2), modulo 2^64
            places = np.arange(self.begin + start + 1, self.begin + start + 1 + len(bits), dtype=np.uint64)
            totals += (_mixed(sums) * _mixed(places)[:, None]).sum(0)
        found = [sum(parts) % 2**64 for parts in zip(*_processes.gathered(tuple(map(int, totals))), strict=True)]
        return found[0], found[1]


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers of 64 bits of which each says something of all bits of the given one."""
    bits = (bits ^ (bits >> np.uint64(32))) * np.uint64(FIRST_MULTIPLIER)
    bits = (bits ^ (bits >> np.uint64(29))) * np.uint64(SECOND_MULTIPLIER)
    return bits ^ (bits >> np.uint64(32))
