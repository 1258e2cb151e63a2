r"""Weighted draws that answer for each row of data: the coupled posterior from the cached pool or from a proposal of the row's own.

.. math:: q(z \mid x) \propto p(z)\, e^{(g(z) - C(x, z))/\epsilon}

f drops out, so that the posterior exists for any x.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skcvae.likelihoods import Family
from skcvae.posteriors import _local
from skcvae.posteriors._local import LOCAL_DRAWS, Block, LocalDraws
from skcvae.posteriors._pool import Mixture, Pool, Scores, inverted

#: Supporting planes that give the prior potential at a row's own draws.
MOST_PLANES = 4096
#: Numbers that the products of draws hold at once: 16 MiB.
PRODUCTS_AT_ONCE = 2**21


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean (n, k), covariance (n, k, k), effective sample size (n,) and log normaliser (n,) of each row's posterior."""

    mean: Tensor
    covariance: Tensor
    size: Tensor
    log_normaliser: Tensor


class Inference(ABC):
    """What a fitted model can say of standardised rows x (n, d)."""

    #: Whether posteriors are draws with importance weights, which may be few.
    is_weighted = True

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Posterior means, (n, k)."""

    @abstractmethod
    def reconstruction(self, x: Tensor) -> Tensor:
        """Posterior means of the decoder's mean, standardised, (n, d)."""

    @abstractmethod
    def moments(self, x: Tensor) -> Moments:
        """Moments of each row's posterior."""

    @abstractmethod
    def effective_size(self, x: Tensor) -> Tensor:
        """Effective sample size of each row's importance weights, (n,)."""

    @abstractmethod
    def weights(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised weights (b, m) and their draws, (b, m, k) or (m, k), in blocks of b rows."""

    @abstractmethod
    def density(self, n_draws: int = LOCAL_DRAWS) -> Mixture | LocalDraws:
        """What estimates densities: by so many draws of a row's own where the prior's do not do, or by the prior's alone."""

    def importance(self, x: Tensor) -> Iterator[Tensor]:
        """Normalised importance weights in blocks of rows, (b, m): those of the posterior's draws."""
        for weights, _ in self.weights(x):
            yield weights

    def resample(self, x: Tensor, n_samples: int, rng: np.random.Generator) -> Tensor:
        """Draws from the posterior of each row by inverting its cumulative weights, (n, n_samples, k)."""
        return torch.cat([_taken(draws, inverted(weights, n_samples, rng)) for weights, draws in self.weights(x)])


def _taken(draws: Tensor, index: Tensor) -> Tensor:
    """Draws (m, k), or each row's own (n, m, k), at places (n, s), (n, s, k)."""
    return draws[index] if draws.ndim == 2 else draws.gather(1, index[:, :, None].expand(-1, -1, draws.shape[2]))


@dataclass(frozen=True, eq=False)
class PoolInference(Inference):
    """By importance-weighting the pool of prior draws."""

    pool: Pool
    family: Family
    epsilon: float
    local: LocalDraws | None = None

    @property
    def coupling(self) -> Scores:
        """The coupled posterior's weights."""
        return Scores(self.pool.key, self.pool.log_coupling, 1 / self.epsilon)

    @property
    def mixture(self) -> Mixture:
        """The density that samples are drawn from."""
        scores = Scores(self.pool.key, self.pool.log_density, self.family.tempering(self.epsilon))
        return Mixture(scores, self.family.tempered(self.epsilon))

    def density(self, n_draws: int = LOCAL_DRAWS) -> Mixture | LocalDraws:
        return self.mixture if self.local is None else self.local.with_draws(n_draws)

    def mean(self, x: Tensor) -> Tensor:
        return self.coupling.average(self.family.statistics(x), self.pool.draws)

    def reconstruction(self, x: Tensor) -> Tensor:
        weights = self.coupling.blocks(self.family.statistics(x))
        return torch.cat([self.pool.average(block, self.family.mean_at) for block in weights])

    def moments(self, x: Tensor) -> Moments:
        statistics, scores = self.family.statistics(x), self.coupling
        log_sum = scores.log_sum(statistics)
        parts = [weighted_moments(weights, self.pool.draws) for weights in scores.blocks(statistics)]
        mean, covariance = (torch.cat(part) for part in zip(*parts, strict=True))
        size = scores.effective_size(statistics, log_sum)
        return Moments(mean, covariance, size, log_sum - self.family.carrier(x) / self.epsilon)

    def effective_size(self, x: Tensor) -> Tensor:
        statistics = self.family.statistics(x)
        return self.coupling.effective_size(statistics, self.coupling.log_sum(statistics))

    def weights(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for block in self.coupling.blocks(self.family.statistics(x)):
            yield block, self.pool.draws

    def probabilities(self, x: Tensor) -> Tensor:
        """Weights of the draws, (n, m)."""
        return torch.cat(list(self.coupling.blocks(self.family.statistics(x))))

    def most_probable(self, x: Tensor) -> Tensor:
        """Index of the draw with the largest weight, (n,)."""
        return self.coupling.most_probable(self.family.statistics(x))


def weighted_moments(weights: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Means (n, k) and covariances (n, k, k) of draws (m, k) under each row's weights (n, m).

    Sums of products are made in double precision about the draws' own mean, a bounded block of draws at a time.
    """
    weights, centre, k = weights.double(), draws.double().mean(0), draws.shape[1]
    length = max(1, PRODUCTS_AT_ONCE // (k + k**2))
    total = weights.new_zeros(len(weights), k + k**2)
    for part, block in zip(weights.split(length, 1), draws.split(length), strict=True):
        centred = block.double() - centre
        total += part @ torch.cat([centred, (centred[:, :, None] * centred[:, None, :]).flatten(1)], 1)
    first, second = total.split([k, k**2], 1)
    covariance = second.unflatten(1, (k, k)) - first[:, :, None] * first[:, None, :]
    return (centre + first).to(draws), covariance.to(draws)


@dataclass(frozen=True, eq=False)
class LocalInference(Inference):
    """By draws from every row's own proposal, mixed with draws from the prior and weighted against the mixture.

    The prior potential at new draws is that of the supporting planes: exact on the pool, and from above elsewhere.
    """

    local: LocalDraws
    family: Family
    epsilon: float
    planes: Scores
    softness: float

    def density(self, n_draws: int = LOCAL_DRAWS) -> Mixture | LocalDraws:
        return self.local.with_draws(n_draws)

    def _coupling(self, block: Block) -> Tensor:
        """Log-weights of the coupling, (b, s)."""

        def potential(eta: Tensor, normaliser: Tensor) -> Tensor:
            return (1 - self.softness) * (normaliser - self.epsilon * self.planes.largest(eta))

        return block.log_weights(self.family, self.epsilon, potential)

    def mean(self, x: Tensor) -> Tensor:
        return torch.cat([_local.average(self._coupling(block), block.z) for block in self.local.blocks(x)])

    def reconstruction(self, x: Tensor) -> Tensor:
        return torch.cat([block.average_mean(self.family, self._coupling(block)) for block in self.local.blocks(x)])

    def moments(self, x: Tensor) -> Moments:
        parts = []
        for block in self.local.blocks(x):
            log_weights = self._coupling(block)
            found = _local.moments(log_weights, block.z)
            parts.append((*found, _local.size(log_weights), torch.logsumexp(log_weights, 1)))
        mean, covariance, size, log_sum = (torch.cat(part) for part in zip(*parts, strict=True))
        return Moments(mean, covariance, size, log_sum - self.family.carrier(x) / self.epsilon)

    def effective_size(self, x: Tensor) -> Tensor:
        return torch.cat([_local.size(self._coupling(block)) for block in self.local.blocks(x)])

    def weights(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for block in self.local.blocks(x):
            yield torch.softmax(self._coupling(block), 1), block.z
