r"""Weighted draws that answer for each row of data: from the cached pool, or from a proposal of the row's own.

.. math:: q(z \mid x) \propto p(z)\, e^{(g(z) - C(x, z))/\epsilon}

f drops out, so that the posterior exists for any x.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from skcvae import _kernels
from skcvae.likelihoods import Family
from skcvae.posteriors._pool import Pool, Scores
from skcvae.posteriors._proposal import GaussianProposal, defensive_draws, normal_scores

#: Draws of a row's own proposal, and of the prior beside them.
LOCAL_DRAWS, DEFENSIVE_DRAWS = 256, 256
#: Supporting planes that give the prior potential at a row's own draws.
MOST_PLANES = 4096
#: Numbers that the draws of a block of rows may hold.
NUMBERS_PER_BLOCK = 2**23
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Moments:
    """Mean (n, k), covariance (n, k, k), effective sample size (n,) and log normaliser (n,) of each row's posterior."""

    mean: Tensor
    covariance: Tensor
    size: Tensor
    log_normaliser: Tensor


class Inference(ABC):
    """What a fitted model can say of standardised rows x (n, d)."""

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
        """Effective sample size of each row's posterior, (n,)."""

    @abstractmethod
    def weights(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised weights (b, m) and their draws, (b, m, k) or (m, k), in blocks of b rows."""

    @abstractmethod
    def log_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood in standardised units, (n,), and its relative standard error, (n,)."""

    def resample(self, x: Tensor, n_samples: int, rng: np.random.Generator) -> Tensor:
        """Draws from the posterior of each row by inverting its cumulative weights, (n, n_samples, k)."""
        return torch.cat([_inverted(weights, draws, n_samples, rng) for weights, draws in self.weights(x)])


def _inverted(weights: Tensor, draws: Tensor, n_samples: int, rng: np.random.Generator) -> Tensor:
    cumulative = weights.double().cumsum(1)
    level = torch.as_tensor(rng.random((len(weights), n_samples))).to(cumulative) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, level, right=True).clamp(max=weights.shape[1] - 1)
    return draws[index] if draws.ndim == 2 else draws.gather(1, index[:, :, None].expand(-1, -1, draws.shape[2]))


def relative_error(size: Tensor, n_draws: int) -> Tensor:
    r"""Standard error of a weighted mean over its value, :math:`\sqrt{1/\mathrm{ESS} - 1/m}`: that of its logarithm."""
    return (1 / size - 1 / n_draws).clamp(min=0).sqrt()


@dataclass(frozen=True)
class PoolInference(Inference):
    """By importance-weighting the pool of prior draws."""

    pool: Pool
    family: Family
    epsilon: float

    def mean(self, x: Tensor) -> Tensor:
        return self.pool.coupling.average(self.family.statistics(x), self.pool.draws)

    def reconstruction(self, x: Tensor) -> Tensor:
        return self.pool.coupling.average(self.family.statistics(x), self.pool.means)

    def moments(self, x: Tensor) -> Moments:
        statistics, draws, scores = self.family.statistics(x), self.pool.draws, self.pool.coupling
        products = (draws[:, :, None] * draws[:, None, :]).flatten(1)  # (m, k^2)
        log_sum = scores.log_sum(statistics)
        both = scores.average(statistics, torch.cat([draws, products], 1))
        mean, second = both.split([draws.shape[1], products.shape[1]], 1)
        covariance = second.unflatten(1, 2 * draws.shape[1:]) - mean[:, :, None] * mean[:, None, :]
        size = scores.effective_size(statistics, log_sum)
        return Moments(mean, covariance, size, log_sum - self.family.carrier(x) / self.epsilon)

    def effective_size(self, x: Tensor) -> Tensor:
        statistics = self.family.statistics(x)
        return self.pool.coupling.effective_size(statistics, self.pool.coupling.log_sum(statistics))

    def weights(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for block in self.pool.coupling.blocks(self.family.statistics(x)):
            yield block, self.pool.draws

    def most_probable(self, x: Tensor) -> Tensor:
        """Index of the draw with the largest weight, (n,)."""
        return self.pool.coupling.most_probable(self.family.statistics(x))

    def log_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        family = self.family.tempered(self.epsilon)
        statistics = family.statistics(x)
        log_sum = self.pool.density.log_sum(statistics)
        size = self.pool.density.effective_size(statistics, log_sum)
        return log_sum - family.carrier(x), relative_error(size, len(self.pool.draws))


@dataclass(frozen=True)
class _Block:
    """Some rows x (b, d), their draws z (b, s, k), the logs of p(z) over the proposal (b, s), and decoder outputs (b s, .)."""

    x: Tensor
    z: Tensor
    log_ratio: Tensor
    output: Tensor

    def log_weights(self, family: Family, epsilon: float, potential: Tensor | float) -> Tensor:
        """Of draws under p(z) exp((potential - C)/epsilon), without the part of x alone, (b, s)."""
        eta, normaliser = family.natural(self.output)
        paired = torch.einsum("bp,bsp->bs", family.statistics(self.x), eta.unflatten(0, self.log_ratio.shape))
        return self.log_ratio + ((potential - normaliser).view(self.log_ratio.shape) + paired) / epsilon


@dataclass(frozen=True)
class LocalInference(Inference):
    """By draws from every row's own proposal, mixed with draws from the prior and weighted against the mixture.

    The prior potential at new draws is that of the supporting planes: exact on the pool, and from above elsewhere.
    """

    prior: PoolInference
    proposal: GaussianProposal
    decoder: nn.Module
    planes: Scores
    softness: float

    def _blocks(self, x: Tensor) -> Iterator[_Block]:
        of_prior = self.prior.pool.draws[:DEFENSIVE_DRAWS]
        noise = normal_scores(LOCAL_DRAWS, self.proposal.coordinates(of_prior).shape[1]).to(x)
        width = max(self.prior.pool.means.shape[1], self.prior.pool.coupling.key.shape[1])
        for rows in x.split(max(1, NUMBERS_PER_BLOCK // ((LOCAL_DRAWS + len(of_prior)) * width))):
            z, log_ratio = defensive_draws(self.proposal, rows, of_prior, noise)
            yield _Block(rows, z, log_ratio, self.decoder(z.flatten(0, 1)))

    def _coupling(self, block: _Block) -> Tensor:
        """Log-weights of the coupling, (b, s)."""
        family, epsilon = self.prior.family, self.prior.epsilon
        eta, normaliser = family.natural(block.output)
        nearest = Scores(self.planes.key[:MOST_PLANES], self.planes.bias[:MOST_PLANES]).largest(eta)
        return block.log_weights(family, epsilon, (1 - self.softness) * (normaliser - epsilon * nearest))

    def mean(self, x: Tensor) -> Tensor:
        return torch.cat([_average(self._coupling(block), block.z) for block in self._blocks(x)])

    def reconstruction(self, x: Tensor) -> Tensor:
        return torch.cat([_average(self._coupling(block), self._means(block)) for block in self._blocks(x)])

    def _means(self, block: _Block) -> Tensor:
        return self.prior.family.mean(block.output).unflatten(0, block.log_ratio.shape)

    def moments(self, x: Tensor) -> Moments:
        parts = [_moments(self._coupling(block), block.z) for block in self._blocks(x)]
        mean, covariance, size, log_sum = (torch.cat(part) for part in zip(*parts, strict=True))
        return Moments(mean, covariance, size, log_sum - self.prior.family.carrier(x) / self.prior.epsilon)

    def effective_size(self, x: Tensor) -> Tensor:
        return torch.cat([_size(self._coupling(block)) for block in self._blocks(x)])

    def weights(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for block in self._blocks(x):
            yield torch.softmax(self._coupling(block), 1), block.z

    def log_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The better of both estimates for each row: the one with the smaller standard error."""
        family = self.prior.family.tempered(self.prior.epsilon)
        log_weights = torch.cat([block.log_weights(family, 1.0, 0.0) for block in self._blocks(x)])
        local = torch.logsumexp(log_weights, 1) - family.carrier(x)
        local_error = relative_error(_size(log_weights), log_weights.shape[1])
        pooled, pooled_error = self.prior.log_density(x)
        better = local_error < pooled_error
        return torch.where(better, local, pooled), torch.where(better, local_error, pooled_error)


def _moments(log_weights: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, covariance, effective sample size and log of the sum of the weights of draws z (b, s, k)."""
    weights, mean = torch.softmax(log_weights, 1), _average(log_weights, z)
    centred = z - mean[:, None]
    covariance = torch.einsum("bs,bsk,bsl->bkl", weights, centred, centred)
    return mean, covariance, _size(log_weights), torch.logsumexp(log_weights, 1)


def _average(log_weights: Tensor, values: Tensor) -> Tensor:
    return torch.einsum("bs,bsr->br", torch.softmax(log_weights, 1), values)


def _size(log_weights: Tensor) -> Tensor:
    sums = torch.logsumexp(log_weights, 1), torch.logsumexp(2 * log_weights, 1)
    return _kernels.log_effective_size(*sums).exp()


def in_precision(inference: Inference, like: Tensor) -> Inference:
    """A copy that computes in another tensor's precision and place."""
    if isinstance(inference, PoolInference):
        return PoolInference(inference.pool.to(like), _module_to(inference.family, like), inference.epsilon)
    assert isinstance(inference, LocalInference)
    prior = in_precision(inference.prior, like)
    proposal, decoder = (_module_to(module, like) for module in (inference.proposal, inference.decoder))
    return LocalInference(prior, proposal, decoder, inference.planes.to(like), inference.softness)  # type: ignore[arg-type]


def _module_to(module: Module, like: Tensor) -> Module:
    return copy.deepcopy(module).to(like)
