r"""The coupled posterior: the optimal coupling, drawn by importance-weighting a cached pool of prior draws.

.. math:: q(z \mid x) \propto p(z)\, e^{(g(z) - C(x, z))/\epsilon}

On the pool the weights are a softmax over draws of :math:`\log b_j + (g_j - C_{ij})/\epsilon`; f drops out, so they
exist for any x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcvae import _kernels
from skcvae._place import Place
from skcvae.likelihoods import Family
from skcvae.posteriors._pareto import pareto_k

#: Keys of at most this many numbers are converted whole to the precision of the rows: 16 MiB in float64.
FEW_NUMBERS = 2**21


@dataclass(frozen=True, eq=False)
class Scores:
    r"""Keys and biases with scores :math:`c\, t \cdot \mathrm{key}_j + \mathrm{bias}_j`: log-weights of draws, not normalised.

    The keys keep their precision wherever the scores are moved; kernels convert a block of them at a time.

    Attributes
    ----------
    key : Tensor of shape (m, p)
    bias : Tensor of shape (m,)
    factor : float, or Tensor of shape (p,), c
    """

    key: Tensor
    bias: Tensor
    factor: float | Tensor = 1.0

    def log_sum(self, statistics: Tensor) -> Tensor:
        """Log of the sum of the weights for each row, (n,)."""
        return _kernels.log_sum_scores(self._scaled(statistics), self._keys(statistics.dtype), self.bias)

    def average(self, statistics: Tensor, values: Tensor) -> Tensor:
        """Weighted average of values (m, r) for each row, (n, r)."""
        key = self._keys(statistics.dtype)
        is_plain = key.dtype == statistics.dtype and key.shape[1] < _kernels.WIDE
        return (_kernels.attend if is_plain else _kernels.attend_chunked)(self._scaled(statistics), key, values, self.bias)[1]

    def effective_size(self, statistics: Tensor, log_sum: Tensor) -> Tensor:
        """Effective sample size of each row's weights, (n,)."""
        squares = _kernels.log_sum_scores(2 * self._scaled(statistics), self._keys(statistics.dtype), 2 * self.bias)
        return _kernels.log_effective_size(log_sum, squares).exp()

    def most_probable(self, statistics: Tensor) -> Tensor:
        """Index of each row's largest score, (n,)."""
        return torch.cat([scores.argmax(1) for scores in self._blocks(statistics)])

    def n_heavy(self, statistics: Tensor, left_out: float) -> Tensor:
        """How many of the heaviest draws of each row have all of its weight but a share, (n,)."""
        if len(statistics) == 0:
            return torch.empty(0, dtype=torch.long, device=statistics.device)
        sorted_weights = (weights.sort(1, descending=True)[0] for weights in self.blocks(statistics))
        return torch.cat([(weights.cumsum(1) < 1 - left_out).sum(1) + 1 for weights in sorted_weights]).clamp(max=len(self.bias))

    def heaviest(self, statistics: Tensor, n_draws: int) -> tuple[Tensor, Tensor]:
        """Scores of the heaviest draws of n rows, n of 1 or more, and their places, both (n, n_draws)."""
        parts = [scores.topk(n_draws, 1) for scores in self._blocks(statistics)]
        return torch.cat([values for values, _ in parts]), torch.cat([places for _, places in parts])

    def at(self, statistics: Tensor, places: Tensor) -> Tensor:
        """Scores of n rows at draws of some places (m,), (n, m)."""
        return self._scaled(statistics) @ self.key[places].to(statistics).T + self.bias[places]

    def largest(self, statistics: Tensor) -> Tensor:
        """Largest score of each row, (n,)."""
        return torch.cat([scores.amax(1) for scores in self._blocks(statistics)])

    def blocks(self, statistics: Tensor) -> Iterator[Tensor]:
        """Normalised weights in blocks of rows, each (chunk, m)."""
        return (torch.softmax(scores, dim=1) for scores in self._blocks(statistics))

    def moved(self, place: Place) -> Scores:
        """The scores at another place; the keys only change their device."""
        return replace(self, key=self.key.to(place.device), bias=place.tensor(self.bias))

    def _blocks(self, statistics: Tensor) -> Iterator[Tensor]:
        return _kernels.score_blocks(self._scaled(statistics), self._keys(statistics.dtype), self.bias)

    def _scaled(self, statistics: Tensor) -> Tensor:
        return (self.factor.to(statistics) if isinstance(self.factor, Tensor) else self.factor) * statistics

    def _keys(self, dtype: torch.dtype) -> Tensor:
        return self.key.to(dtype) if self.key.numel() <= FEW_NUMBERS else self.key


@dataclass(frozen=True, eq=False)
class Pool:
    """The frozen pool of prior draws and what is needed of each.

    Attributes
    ----------
    draws : Tensor of shape (m, k), z
    key : Tensor of shape (m, p), the decoder's natural parameters in the precision of the training, which they keep
    log_coupling : Tensor of shape (m,), the part of the coupled posterior's log-weights that is the same for all rows
    log_density : Tensor of shape (m,), that of the weights b_j p(x given z_j) of the density that samples are drawn from
    log_aggregate : Tensor of shape (m,), log of b_j w_j, the aggregate posterior on the pool
    """

    draws: Tensor
    key: Tensor
    log_coupling: Tensor
    log_density: Tensor
    log_aggregate: Tensor

    def moved(self, place: Place) -> Pool:
        """The pool at another place; the keys only change their device."""
        others = (place.tensor(part) for part in (self.log_coupling, self.log_density, self.log_aggregate))
        return Pool(place.tensor(self.draws), self.key.to(place.device), *others)

    def sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws of z from the aggregate posterior, (n_samples, k)."""
        weights = torch.softmax(self.log_aggregate.double(), 0).cpu().numpy()
        return self.draws.double().cpu().numpy()[rng.choice(len(weights), size=n_samples, p=weights / weights.sum())]

    def average(self, weights: Tensor, values: Callable[[Tensor], Tensor]) -> Tensor:
        """Averages (n, r) under weights (n, m) of a function of the keys (m, p), formed a bounded block of draws at a time."""
        length = max(1, _kernels.NUMBERS_CONVERTED // self.key.shape[1])
        blocks = zip(weights.split(length, 1), self.key.split(length), strict=True)
        return torch.stack([part @ values(key.to(part.dtype)) for part, key in blocks]).sum(0)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The density that samples are drawn from, as a mixture over prior draws: weights b_j p(x given z_j)."""

    scores: Scores
    family: Family

    def with_draws(self, n_draws: int) -> Mixture:
        """Itself: no row has draws of its own."""
        return self

    def log_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood of standardised rows (n,) and its relative standard error (n,)."""
        statistics = self.family.statistics(x)
        log_sum = self.scores.log_sum(statistics)
        size = self.scores.effective_size(statistics, log_sum)
        return log_sum - self.family.carrier(x), relative_error(size, len(self.scores.bias))

    def tail(self, x: Tensor) -> Tensor:
        """Pareto k-hat of the weights of each standardised row, (n,)."""
        return torch.cat([tail_of(block.log()) for block in self.scores.blocks(self.family.statistics(x))]) if len(x) else x[:, 0]

    def places(self, x: Tensor, n_draws: int, rng: np.random.Generator) -> Tensor:
        """Places of draws of z from p(z given x) of each standardised row, (n, n_draws)."""
        return torch.cat([inverted(weights, n_draws, rng) for weights in self.scores.blocks(self.family.statistics(x))])

    def means(self, x: Tensor, n_draws: int, rng: np.random.Generator) -> Tensor:
        """The decoder's means at draws of z from p(z given x) of each standardised row, (n, n_draws, d)."""
        return self.means_at(self.places(x, n_draws, rng))

    def means_at(self, places: Tensor) -> Tensor:
        """The decoder's means at draws of these places (n, s), (n, s, d)."""
        key = self.scores.key[places.flatten()].to(self.scores.bias)
        return self.family.mean_at(self.scores._scaled(key)).unflatten(0, places.shape)

    def log_density_with_tail(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`log_density`, and `tail`."""
        return *self.log_density(x), self.tail(x)


def inverted(weights: Tensor, n_draws: int, rng: np.random.Generator) -> Tensor:
    """Places of draws by weights (n, m), which are normalised, by inverting their sums, (n, n_draws)."""
    cumulative = weights.double().cumsum(1)
    level = torch.as_tensor(rng.random((len(weights), n_draws))).to(cumulative) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, level, right=True).clamp(max=weights.shape[1] - 1)


def tail_of(log_weights: Tensor) -> Tensor:
    """Pareto k-hat of each row of log-weights (n, m), (n,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return torch.as_tensor(pareto_k(log_weights.double().cpu().numpy())).to(log_weights)


def relative_error(size: Tensor, n_draws: int) -> Tensor:
    r"""Standard error of a weighted mean over its value, :math:`\sqrt{1/\mathrm{ESS} - 1/m}`: that of its logarithm.

    One draw says nothing of its error, which is then infinite.
    """
    return (1 / size - 1 / n_draws).clamp(min=0).sqrt() if n_draws > 1 else torch.full_like(size, math.inf)
