r"""The coupled posterior: the optimal coupling, drawn by importance-weighting a cached pool of prior draws.

.. math:: q(z \mid x) \propto p(z)\, e^{(g(z) - C(x, z))/\epsilon}

On the pool the weights are a softmax over draws of :math:`\log b_j + (g_j - C_{ij})/\epsilon`; f drops out, so they
exist for any x.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcvae import _kernels

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Keys and biases whose scores t . key_j + bias_j are unnormalised log-weights of the pool's draws."""

    key: Tensor
    bias: Tensor

    def log_sum(self, statistics: Tensor) -> Tensor:
        """Log of the sum of the weights for each row, (n,)."""
        return _kernels.log_sum_scores(statistics, self.key, self.bias)

    def average(self, statistics: Tensor, values: Tensor) -> Tensor:
        """Weighted average of values (m, r) for each row, (n, r)."""
        return _kernels.attend(statistics, self.key, values, self.bias)[1]

    def effective_size(self, statistics: Tensor, log_sum: Tensor) -> Tensor:
        """Effective sample size of each row's weights, (n,)."""
        squares = _kernels.log_sum_scores(statistics, 2 * self.key, 2 * self.bias)
        return _kernels.log_effective_size(log_sum, squares).exp()

    def blocks(self, statistics: Tensor) -> Iterator[Tensor]:
        """Normalised weights in blocks of rows, each (chunk, m)."""
        for scores in _kernels.score_blocks(statistics, self.key, self.bias):
            yield torch.softmax(scores, dim=1)


@dataclass(frozen=True)
class Pool:
    """The frozen pool of prior draws and what is needed of each.

    Attributes
    ----------
    draws : Tensor of shape (m, k), z
    means : Tensor of shape (m, d), the decoder's means, standardised
    coupling : Scores, the coupled posterior's weights
    density : Scores, the weights b_j p(x given z_j) of the density that samples are drawn from
    """

    draws: Tensor
    means: Tensor
    coupling: Scores
    density: Scores

    def to(self, like: Tensor) -> Pool:
        """The pool in another tensor's precision and place."""
        return _converted(self, like)


def _converted(record, like):  # type: ignore[no-untyped-def]
    if isinstance(record, Tensor):
        return record.to(like)
    return replace(record, **{f.name: _converted(getattr(record, f.name), like) for f in fields(record)})


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
