"""What a fitted model says of each row's posterior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcvae.posteriors._pool import Pool

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    r"""Posterior of each row of X on the cached pool.

    Attributes
    ----------
    mean : array of shape (n, k)
    covariance : array of shape (n, k, k)
    effective_sample_size : array of shape (n,), :math:`1/\sum_j w_{ij}^2`
    log_normaliser : array of shape (n,), :math:`\log \sum_j b_j e^{(g_j - C_{ij})/\epsilon} = -f(x_i)/\epsilon`
    """

    mean: Array
    covariance: Array
    effective_sample_size: Array
    log_normaliser: Array
    _pool: Pool
    _statistics: Tensor

    def weights(self) -> Iterator[Array]:
        """Normalised weights over the pool in blocks of rows, each (chunk, m); ``np.concatenate(list(p.weights()))`` has all."""
        for block in self._pool.coupling.blocks(self._statistics):
            yield block.cpu().numpy()

    def sample(self, n_samples: int = 1, *, random_state: int | np.random.Generator | None = None) -> Array:
        """Draws of z for each row, (n, n_samples, k)."""
        draws = resample(self._pool, self._statistics, n_samples, np.random.default_rng(random_state))
        return draws.cpu().numpy()


def posterior(pool: Pool, statistics: Tensor, carrier: Tensor) -> Posterior:
    """The `Posterior` of rows with statistics t (n, p) and carrier h/epsilon (n,)."""
    k = pool.draws.shape[1]
    products = (pool.draws[:, :, None] * pool.draws[:, None, :]).flatten(1)  # (m, k^2)
    log_sum = pool.coupling.log_sum(statistics)
    moments = pool.coupling.average(statistics, torch.cat([pool.draws, products], 1))
    mean, second = moments[:, :k], moments[:, k:].unflatten(1, (k, k))
    covariance = second - mean[:, :, None] * mean[:, None, :]
    size = pool.coupling.effective_size(statistics, log_sum)
    arrays = [tensor.cpu().numpy() for tensor in (mean, covariance, size, log_sum - carrier)]
    return Posterior(arrays[0], arrays[1], arrays[2], arrays[3], pool, statistics)


def resample(pool: Pool, statistics: Tensor, n_samples: int, rng: np.random.Generator) -> Tensor:
    """Draws from the posterior of each row by inverting its cumulative weights, (n, n_samples, k)."""
    drawn = []
    for weights in pool.coupling.blocks(statistics):
        cumulative = weights.double().cumsum(1)
        level = torch.as_tensor(rng.random((len(weights), n_samples))).to(cumulative) * cumulative[:, -1:]
        index = torch.searchsorted(cumulative, level, right=True).clamp(max=len(pool.draws) - 1)
        drawn.append(pool.draws[index])
    return torch.cat(drawn)
