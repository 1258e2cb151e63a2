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

    def most_probable(self, statistics: Tensor) -> Tensor:
        """Index of each row's largest score, (n,)."""
        return torch.cat([scores.argmax(1) for scores in _kernels.score_blocks(statistics, self.key, self.bias)])

    def largest(self, statistics: Tensor) -> Tensor:
        """Largest score of each row, (n,)."""
        return torch.cat([scores.amax(1) for scores in _kernels.score_blocks(statistics, self.key, self.bias)])

    def to(self, like: Tensor) -> Scores:
        """The scores in another tensor's precision and place."""
        return _converted(self, like)

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
    log_aggregate : Tensor of shape (m,), log of b_j w_j, the aggregate posterior on the pool
    """

    draws: Tensor
    means: Tensor
    coupling: Scores
    density: Scores
    log_aggregate: Tensor

    def sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws of z from the aggregate posterior, (n_samples, k)."""
        weights = torch.softmax(self.log_aggregate.double(), 0).cpu().numpy()
        return self.draws.double().cpu().numpy()[rng.choice(len(weights), size=n_samples, p=weights / weights.sum())]

    def to(self, like: Tensor) -> Pool:
        """The pool in another tensor's precision and place."""
        return _converted(self, like)


def _converted(record, like):  # type: ignore[no-untyped-def]
    if isinstance(record, Tensor):
        return record.to(like)
    return replace(record, **{f.name: _converted(getattr(record, f.name), like) for f in fields(record)})
