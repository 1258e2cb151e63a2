r"""The coupled posterior: the optimal coupling, drawn by importance-weighting a cached pool of prior draws.

.. math:: q(z \mid x) \propto p(z)\, e^{(g(z) - C(x, z))/\epsilon}

On the pool the weights are a softmax over draws of :math:`\log b_j + (g_j - C_{ij})/\epsilon`; f drops out, so they
exist for any x.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skcvae import _kernels
from skcvae.likelihoods import Family


@dataclass(frozen=True)
class Scores:
    r"""Keys and biases with scores :math:`t \cdot \mathrm{key}_j + \mathrm{bias}_j`: log-weights of draws, not normalised."""

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
        return converted(self, like)

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
    output : Tensor of shape (m, r), the decoder's outputs, in the precision of the training
    log_coupling : Tensor of shape (m,), the part of the coupled posterior's log-weights that is the same for all rows
    log_density : Tensor of shape (m,), that of the weights b_j p(x given z_j) of the density that samples are drawn from
    log_aggregate : Tensor of shape (m,), log of b_j w_j, the aggregate posterior on the pool
    """

    draws: Tensor
    output: Tensor
    log_coupling: Tensor
    log_density: Tensor
    log_aggregate: Tensor

    def sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws of z from the aggregate posterior, (n_samples, k)."""
        weights = torch.softmax(self.log_aggregate.double(), 0).cpu().numpy()
        return self.draws.double().cpu().numpy()[rng.choice(len(weights), size=n_samples, p=weights / weights.sum())]


@dataclass(frozen=True)
class Mixture:
    """The density that samples are drawn from, as a mixture over prior draws: weights b_j p(x given z_j)."""

    scores: Scores
    family: Family

    def log_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood of standardised rows (n,) and its relative standard error (n,)."""
        statistics = self.family.statistics(x)
        log_sum = self.scores.log_sum(statistics)
        size = self.scores.effective_size(statistics, log_sum)
        return log_sum - self.family.carrier(x), relative_error(size, len(self.scores.bias))


def relative_error(size: Tensor, n_draws: int) -> Tensor:
    r"""Standard error of a weighted mean over its value, :math:`\sqrt{1/\mathrm{ESS} - 1/m}`: that of its logarithm.

    One draw says nothing of its error, which is then infinite.
    """
    return (1 / size - 1 / n_draws).clamp(min=0).sqrt() if n_draws > 1 else torch.full_like(size, math.inf)


def converted(record: Any, like: Tensor) -> Any:
    """A copy of a tensor, a module or a record of them in another tensor's precision and place; anything else as it is."""
    if isinstance(record, Tensor):
        return record.to(like)
    if isinstance(record, nn.Module):
        return copy.deepcopy(record).to(like)
    if not is_dataclass(record) or isinstance(record, type):
        return record
    return replace(record, **{f.name: converted(getattr(record, f.name), like) for f in fields(record)})
