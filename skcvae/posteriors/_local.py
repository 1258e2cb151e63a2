"""Draws from every row's own proposal, mixed with draws from the prior and weighted against the mixture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from skcvae import _kernels
from skcvae.likelihoods import Family
from skcvae.posteriors._conditional import FullRows, MixedRows, Rows
from skcvae.posteriors._coordinates import Coordinates
from skcvae.posteriors._encoder import Laplace, normal_scores
from skcvae.posteriors._pool import Mixture, inverted, relative_error, tail_of

#: Draws of a row's own proposal, and of the prior beside them.
LOCAL_DRAWS, DEFENSIVE_DRAWS = 256, 256
#: A standard error in nats at which the prior's draws do: their bias is about half its square.
GOOD_ERROR = 0.05
#: Above this error, that of four effective draws, the prior's draws are too coarse for means.
COARSE_ERROR = 0.5
#: Above this Pareto k-hat a sum of weights has no error that its draws could tell, and what is added to it then.
LARGEST_TAIL, UNTOLD = 0.7, 1e3
#: How many times the pool's error a row's own may have.
CLEARLY_ABOVE = 2.0
#: Times that a proposal is fitted to its own draws; effective draws a coordinate that a fit has, at least; and the ratio by which
#: one half of a fitted proposal is wider.
REFITS, EFFECTIVE_DRAWS, WIDER = 3, 8, 1.5
#: Halvings of an interval of temperatures.
HALVINGS = 20
#: Numbers that the draws of a block of rows may hold.
NUMBERS_PER_BLOCK = 2**23


def defensive_draws(rows: Rows, coordinates: Coordinates, of_prior: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""Draws of each row's proposal, and the logs of the weights of these and the prior's draws after them.

    .. math:: w(z) = \frac{p(z)}{m_q\, q(z \mid x) + m_p\, p(z)}

    so that :math:`\sum_s w(z_s) h(z_s)` estimates :math:`E_p[h]`, and no weight exceeds :math:`1/m_p`.

    Parameters
    ----------
    rows : Rows, n proposals
    coordinates : Coordinates
    of_prior : Tensor of shape (m_p, k)
    noise : Tensor of shape (m_q, r), standard normal

    Returns
    -------
    z : Tensor of shape (n, m_q, k)
    log_weights : Tensor of shape (n, m_q + m_p)
    """
    y_prior = coordinates.of(of_prior)
    y, log_own = rows.draw(noise)
    log_q = torch.cat([log_own, rows.log_prob(y_prior)], 1)
    log_p = torch.cat([coordinates.log_prior(y), coordinates.log_prior(y_prior).expand(len(y), -1)], 1)
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
class FromPool:
    """The Laplace approximation from each row's most probable draw of the pool.

    Attributes
    ----------
    laplace : Laplace
    mixture : Mixture, over the pool's draws
    draws : Tensor of shape (m, k)
    """

    laplace: Laplace
    mixture: Mixture
    draws: Tensor

    def __call__(self, x: Tensor) -> FullRows:
        """The approximation for each standardised row (n, d)."""
        best = self.mixture.scores.most_probable(self.mixture.family.statistics(x))
        rows: FullRows = self.laplace(x, self.laplace.coordinates.of(self.draws[best]))
        return rows


@dataclass(frozen=True, eq=False)
class LocalDraws:
    """What makes the draws of blocks of rows.

    Attributes
    ----------
    proposal : callable, from rows to `Rows`
    coordinates : Coordinates
    decoder : nn.Module
    of_prior : Tensor of shape (m, k), the prior's draws; some of them go beside a row's own
    mixture : Mixture, the density by the prior's draws alone
    n_draws : int, of a row's own
    """

    proposal: Callable[[Tensor], Rows]
    coordinates: Coordinates
    decoder: nn.Module
    of_prior: Tensor
    mixture: Mixture
    n_draws: int = LOCAL_DRAWS

    def with_draws(self, n_draws: int) -> Mixture | LocalDraws:
        """The estimate with so many draws of a row's own; with none, the mixture's."""
        return replace(self, n_draws=n_draws) if n_draws else self.mixture

    def blocks(self, x: Tensor) -> Iterator[Block]:
        """The draws of rows x (n, d), in blocks of bounded memory."""
        shared, output, noise = self._shared()
        for rows in self._in_blocks(x):
            yield self._block(rows, self.proposal(rows), shared, output, noise[0])

    def own_weights(self, x: Tensor) -> Tensor:
        """Log of p(z) p(x given z) over a mixture of proposals, without the part of x alone, (n, s + m).

        Where the error of a row's proposal is above 0.05 nats, Gaussians are fitted to its weighted draws, which are not used
        again, and of all of these the best is taken: adaptive importance sampling (Cappe et al., 2004), with tempered weights as of
        Koblents and Miguez (2015).
        """
        parts = [self._best_weights(rows) for rows in self._in_blocks(x)]
        return torch.cat(parts) if parts else x.new_zeros(0, self.n_draws + DEFENSIVE_DRAWS)

    def _best_weights(self, x: Tensor) -> Tensor:
        shared, output, noise = self._shared()
        places, rows = torch.arange(len(x), device=x.device), self.proposal(x)
        best = doubt = x.new_zeros(0)
        for number, scores in enumerate(noise):
            log_weights = self._block(x[places], rows, shared, output, scores).log_weights(self.mixture.family, 1.0)
            found = _doubt(log_weights)
            if number == 0:
                best, doubt = log_weights, found
            is_better = found < doubt[places]
            best[places[is_better]], doubt[places[is_better]] = log_weights[is_better], found[is_better]
            y = torch.cat([rows.draw(scores)[0], self.coordinates.of(shared).expand(len(places), -1, -1)], 1)
            fitted, is_fitted = _fitted_gaussians(log_weights, y)
            is_poor = is_fitted & ~(found <= GOOD_ERROR)
            if not is_poor.any():
                break
            places, near = places[is_poor], FullRows(fitted.location[is_poor], fitted.factor[is_poor])
            rows = MixedRows(near, FullRows(near.location, WIDER * near.factor))
        return best

    def _in_blocks(self, x: Tensor) -> Iterator[Tensor]:
        width = self.n_draws * (2 * self.mixture.scores.key.shape[1] + self.of_prior.shape[1])
        return iter(x.split(max(1, NUMBERS_PER_BLOCK // width)) if len(x) else ())

    def _shared(self) -> tuple[Tensor, Tensor, Tensor]:
        """The prior's draws (m, k) that go beside a row's own, their outputs, and noise of successive proposals, (r, s, c)."""
        shared = self.of_prior[:DEFENSIVE_DRAWS]
        n_coordinates = self.coordinates.of(shared).shape[1]
        noise = torch.stack([normal_scores(self.n_draws, n_coordinates, seed) for seed in range(REFITS + 1)])
        return shared, self.decoder(shared), noise.to(shared)

    def _block(self, x: Tensor, rows: Rows, shared: Tensor, shared_output: Tensor, noise: Tensor) -> Block:
        z, log_ratio = defensive_draws(rows, self.coordinates, shared, noise)
        return Block(x, z, shared, log_ratio, self.decoder(z.flatten(0, 1)), shared_output)

    def log_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood (n,) and its standard error (n,)."""
        log_density, error, _, _ = self._estimates(x)
        return log_density, error

    def log_density_with_tail(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both, and Pareto k-hat of the weights of the estimate that is chosen, (n,)."""
        log_density, error, local, log_weights = self._estimates(x)
        tail = torch.empty_like(error)
        is_pooled = torch.ones(len(x), dtype=torch.bool, device=x.device)
        is_pooled[local] = False
        tail[local], tail[is_pooled] = tail_of(log_weights), self.mixture.tail(x[is_pooled])
        return log_density, error, tail

    def means(self, x: Tensor, n_draws: int, rng: np.random.Generator) -> Tensor:
        """The decoder's means at draws of z from p(z given x) of each standardised row, (n, n_draws, d)."""
        means, family = self.mixture.means(x, n_draws, rng), self.mixture.family
        poor = torch.nonzero(~(self.mixture.log_density(x)[1] <= COARSE_ERROR))[:, 0]
        parts = []
        for block in self.blocks(x[poor]):
            index = inverted(torch.softmax(block.log_weights(family, 1.0), 1), n_draws, rng)
            own = family.mean(block.own_output).unflatten(0, block.own.shape[:2])
            shared = family.mean(block.shared_output).expand(len(own), -1, -1)
            parts.append(torch.cat([own, shared], 1).gather(1, index[:, :, None].expand(-1, -1, own.shape[2])))
        if parts:
            means[poor] = torch.cat(parts)
        return means

    def _estimates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Estimates and errors, (n,); places (l,) of the rows whose own draws give them, and the weights of these (l, s + m).

        The prior's draws alone give the estimate where their error is small, and where that of a row's own is more than twice as
        large, or cannot be told: the prior's are more, and do not tell of a mode that none of them has met.
        """
        log_density, error = self.mixture.log_density(x)
        poor = torch.nonzero(~(error <= GOOD_ERROR))[:, 0]
        log_weights = self.own_weights(x[poor])
        own_error, pool_error = _doubt(log_weights), error[poor]
        untold = own_error >= UNTOLD
        pool_error[untold] += UNTOLD * (self.mixture.tail(x[poor[untold]]) > LARGEST_TAIL)
        is_better = own_error < CLEARLY_ABOVE * pool_error
        local, log_weights = poor[is_better], log_weights[is_better]
        log_density[local] = torch.logsumexp(log_weights, 1) - self.mixture.family.carrier(x[local])
        error[local] = relative_error(size(log_weights), log_weights.shape[1])
        return log_density, error, local, log_weights


def _doubt(log_weights: Tensor) -> Tensor:
    """The error of each row's weights (n, s), which is beyond all others where their tail says that it cannot be told, (n,)."""
    error = relative_error(size(log_weights), log_weights.shape[1])
    return torch.where(tail_of(log_weights) > LARGEST_TAIL, error + UNTOLD, error)


def _fitted_gaussians(log_weights: Tensor, y: Tensor) -> tuple[FullRows, Tensor]:
    """Gaussians with the moments of weighted draws y (b, s, r), and whether these have a factor, (b,)."""
    enough = min(EFFECTIVE_DRAWS * y.shape[2], y.shape[1] // 2)
    mean, covariance = moments(_tempered(log_weights, enough), y)
    level = covariance.diagonal(dim1=1, dim2=2).mean(1)
    ridge = torch.finfo(y.dtype).eps * y.shape[2] * level[:, None, None] * torch.eye(y.shape[2], dtype=y.dtype, device=y.device)
    factor, info = torch.linalg.cholesky_ex(covariance + ridge)
    return FullRows(mean, factor), (info == 0) & torch.isfinite(factor).all(2).all(1)


def _tempered(log_weights: Tensor, enough: int) -> Tensor:
    """Log-weights (b, s) times the largest share of 1 that leaves so many effective draws."""
    low, high = torch.zeros_like(log_weights[:, :1]), torch.ones_like(log_weights[:, :1])
    low = torch.where(size(log_weights)[:, None] >= enough, high, low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_enough = size(middle * log_weights)[:, None] >= enough
        low, high = torch.where(is_enough, middle, low), torch.where(is_enough, high, middle)
    return low * log_weights


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
