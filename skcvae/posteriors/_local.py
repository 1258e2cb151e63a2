"""Draws from every row's own proposal, mixed with draws from the prior and weighted against the mixture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skcvae import _kernels
from skcvae.likelihoods import Family
from skcvae.posteriors._coordinates import Coordinates
from skcvae.posteriors._encoder import normal_scores
from skcvae.posteriors._pool import Mixture, relative_error, tail_of

#: Draws of a row's own proposal, and of the prior beside them.
LOCAL_DRAWS, DEFENSIVE_DRAWS = 256, 256
#: Numbers that the draws of a block of rows may hold.
NUMBERS_PER_BLOCK = 2**23


def defensive_draws(
    proposal: nn.Module, coordinates: Coordinates, x: Tensor, of_prior: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Draws of each row's proposal, and the logs of the weights of these and the prior's draws after them.

    .. math:: w(z) = \frac{p(z)}{m_q\, q(z \mid x) + m_p\, p(z)}

    so that :math:`\sum_s w(z_s) h(z_s)` estimates :math:`E_p[h]`, and no weight exceeds :math:`1/m_p`.

    Parameters
    ----------
    proposal : nn.Module, from rows to `Rows`
    coordinates : Coordinates
    x : Tensor of shape (n, d)
    of_prior : Tensor of shape (m_p, k)
    noise : Tensor of shape (m_q, r), standard normal

    Returns
    -------
    z : Tensor of shape (n, m_q, k)
    log_weights : Tensor of shape (n, m_q + m_p)
    """
    rows, y_prior = proposal(x), coordinates.of(of_prior)
    y, log_own = rows.draw(noise)
    log_q = torch.cat([log_own, rows.log_prob(y_prior)], 1)
    log_p = torch.cat([coordinates.log_prior(y), coordinates.log_prior(y_prior).expand(len(x), -1)], 1)
    log_mixture = torch.logaddexp(math.log(len(noise)) + log_q, math.log(len(of_prior)) + log_p)
    return coordinates.latent(y), log_p - log_mixture


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows x (b, d), their draws z (b, s, k), the prior's (m, k), log-weights (b, s + m), and decoder outputs of both."""

    x: Tensor
    own: Tensor
    shared: Tensor
    log_ratio: Tensor
    own_output: Tensor
    shared_output: Tensor

    @property
    def z(self) -> Tensor:
        """All draws of every row, (b, s + m, k)."""
        return torch.cat([self.own, self.shared.expand(len(self.x), -1, -1)], 1)

    def log_weights(self, family: Family, epsilon: float, potential: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        r"""Log of p(z) exp((potential - C)/epsilon) over the mixture, without the part of x alone, (b, s + m)."""
        statistics = family.statistics(self.x)

        def bias(eta: Tensor, normaliser: Tensor) -> Tensor:
            return -normaliser if potential is None else potential(eta, normaliser) - normaliser

        eta, normaliser = family.natural(self.own_output)
        own = torch.einsum("bp,bsp->bs", statistics, eta.unflatten(0, self.own.shape[:2]))
        own = own + bias(eta, normaliser).view(own.shape)
        eta, normaliser = family.natural(self.shared_output)
        shared = statistics @ eta.T + bias(eta, normaliser)
        return self.log_ratio + torch.cat([own, shared], 1) / epsilon

    def average_mean(self, family: Family, log_weights: Tensor) -> Tensor:
        """Weighted average of the decoder's means, (b, d)."""
        weights = torch.softmax(log_weights, 1)
        own, shared = weights.split([self.own.shape[1], len(self.shared)], 1)
        means = family.mean(self.own_output).unflatten(0, own.shape)
        return torch.einsum("bs,bsd->bd", own, means) + shared @ family.mean(self.shared_output)


@dataclass(frozen=True, eq=False)
class LocalDraws:
    """What makes the draws of blocks of rows.

    Attributes
    ----------
    proposal : nn.Module, from rows to `Rows`
    coordinates : Coordinates
    decoder : nn.Module
    of_prior : Tensor of shape (m, k), the prior's draws; some of them go beside a row's own
    mixture : Mixture, the density by the prior's draws alone
    """

    proposal: nn.Module
    coordinates: Coordinates
    decoder: nn.Module
    of_prior: Tensor
    mixture: Mixture

    def blocks(self, x: Tensor) -> Iterator[Block]:
        """The draws of rows x (n, d), in blocks of bounded memory."""
        shared = self.of_prior[:DEFENSIVE_DRAWS]
        shared_output = self.decoder(shared)
        noise = normal_scores(LOCAL_DRAWS, self.coordinates.of(shared).shape[1]).to(x)
        width = LOCAL_DRAWS * (2 * shared_output.shape[1] + shared.shape[1])
        for rows in x.split(max(1, NUMBERS_PER_BLOCK // width)):
            z, log_ratio = defensive_draws(self.proposal, self.coordinates, rows, shared, noise)
            yield Block(rows, z, shared, log_ratio, self.decoder(z.flatten(0, 1)), shared_output)

    def log_weights(self, x: Tensor) -> Tensor:
        """Log of p(z) p(x given z) over the mixture of proposals, without the part of x alone, (n, s + m)."""
        return torch.cat([block.log_weights(self.mixture.family, 1.0) for block in self.blocks(x)])

    def log_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood (n,) and its standard error (n,), of this and the mixture's estimate whichever has the smaller error."""
        return self._chosen(x)[:2]

    def log_density_with_tail(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both, and Pareto k-hat of the weights of the estimate that is chosen, (n,)."""
        log_density, error, log_weights, is_local = self._chosen(x)
        tail = torch.empty_like(error)
        tail[is_local], tail[~is_local] = tail_of(log_weights[is_local]), self.mixture.tail(x[~is_local])
        return log_density, error, tail

    def _chosen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The better estimate and its error, the log-weights of these draws (n, s + m), and where their estimate is the better."""
        log_weights = self.log_weights(x)
        local = torch.logsumexp(log_weights, 1) - self.mixture.family.carrier(x)
        local_error = relative_error(size(log_weights), log_weights.shape[1])
        pooled, pooled_error = self.mixture.log_density(x)
        better = local_error < pooled_error
        return torch.where(better, local, pooled), torch.where(better, local_error, pooled_error), log_weights, better


def moments(log_weights: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (b, k) and covariance (b, k, k) of weighted draws z (b, s, k)."""
    weights, mean = torch.softmax(log_weights, 1), average(log_weights, z)
    centred = z - mean[:, None]
    return mean, torch.einsum("bs,bsk,bsl->bkl", weights, centred, centred)


def average(log_weights: Tensor, values: Tensor) -> Tensor:
    """Weighted average of values (b, s, r), (b, r)."""
    return torch.einsum("bs,bsr->br", torch.softmax(log_weights, 1), values)


def size(log_weights: Tensor) -> Tensor:
    """Effective sample size of weights (b, s), (b,)."""
    sums = torch.logsumexp(log_weights, 1), torch.logsumexp(2 * log_weights, 1)
    return _kernels.log_effective_size(*sums).exp()
