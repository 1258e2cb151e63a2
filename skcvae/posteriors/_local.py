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
#: The share of the pool's weight that is left out beside a row's own draws, at most.
LEFT_OUT = 1e-3
#: Draws of the pool beside them, at least and at most.
FEWEST_POOLED, MOST_POOLED = 16, 512
#: Times that a proposal is fitted to its own draws; effective draws a coordinate that a fit has, at least; and the ratio by which
#: one half of a fitted proposal is wider.
REFITS, EFFECTIVE_DRAWS, WIDER = 6, 8, 1.5
#: A fit that leaves more than this share of an error which is not large has no further one.
LEFT_SHARE = 0.8
#: Halvings of an interval of temperatures.
HALVINGS = 20
#: Numbers that the draws of a block of rows may hold.
NUMBERS_PER_BLOCK = 2**23
#: Numbers that a draw takes within a decoder, at least.
NUMBERS_PER_DRAW = 256


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
    of_prior : Tensor of shape (m, k), the prior's draws, which go beside a row's own
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
            yield self._block(rows, self.proposal(rows), shared, output, noise)

    def sampled(
        self, x: Tensor, n_draws: int, rng: np.random.Generator, largest_error: float = COARSE_ERROR
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draws of z from p(z given x) of each standardised row, where its own are taken if the pool's have a larger error.

        Returns
        -------
        places : Tensor of shape (n, n_draws), of draws of the pool
        poor : Tensor of shape (l,), places of rows for which these are too coarse
        z : Tensor of shape (l, n_draws, k), draws of these rows' own
        log_density : Tensor of shape (n,), by the same draws
        """
        places = self.mixture.places(x, n_draws, rng)
        log_density, error = self.mixture.log_density(x)
        poor = torch.nonzero(~(error <= largest_error))[:, 0]
        z = x.new_zeros(len(poor), n_draws, self.of_prior.shape[1])
        for rows, y, log_weights in self.adapted(x[poor], 1):
            index = inverted(torch.softmax(log_weights, 1), n_draws, rng)
            z[rows] = self.coordinates.latent(y.gather(1, index[:, :, None].expand(-1, -1, y.shape[2])))
            log_density[poor[rows]] = self._log_density(x[poor[rows]], log_weights)
        return places, poor, z, log_density

    def means(self, x: Tensor, n_draws: int, rng: np.random.Generator) -> Tensor:
        """The decoder's means at draws of z from p(z given x) of each standardised row, (n, n_draws, d)."""
        places, poor, z, _ = self.sampled(x, n_draws, rng)
        means = self.mixture.means_at(places)
        if len(poor):
            means[poor] = self.mixture.family.mean(self.decoder(z.flatten(0, 1))).unflatten(0, z.shape[:2]).to(means)
        return means

    def adapted(self, x: Tensor, n_refits: int = REFITS) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        r"""Places (b,) of rows (n, d), with draws y (b, s, r) and logs of their weights (b, s); every row comes once.

        The draws are s of a proposal q and the M of the pool, without those that weigh nothing; where more than 512 of them weigh
        something, they are the first 512, and M is 512:

        .. math:: w(y) = \frac{p(y)\, p(x \mid y)}{M p(y) + s\, q(y)}

        so that a mode which q does not know shows in the error as soon as one draw of the pool has met it. The next proposal is a
        Gaussian fitted to all draws so far, of the pool and of all proposals, by tempered weights (Koblents and Miguez, 2015)
        against all proposals together (Cornuet et al., 2012), until the error is below 0.05 nats, or below 0.5 and no longer
        falling. The draws of earlier proposals are not counted: where a proposal was fitted to them their weights are too low.
        """
        n_needed = self.mixture.scores.n_heavy(self.mixture.family.statistics(x), LEFT_OUT)
        n_pooled = 2 ** n_needed.clamp(min=FEWEST_POOLED).log2().ceil().long()  # of a row alone, whatever rows are beside it
        for size in n_pooled.clamp(max=2 * MOST_POOLED).unique().tolist():
            n_rows = max(1, NUMBERS_PER_BLOCK // (self._width + size * self.of_prior.shape[1]))
            is_of_size = n_pooled == size if size <= MOST_POOLED else n_pooled > MOST_POOLED
            for places in torch.nonzero(is_of_size)[:, 0].split(n_rows):
                yield from self._block_adapted(x, places, size, n_refits)

    def _pooled(self, statistics: Tensor, n_draws: int) -> tuple[Tensor, Tensor, int]:
        """Scores (b, m) and places (b, m) of the draws of the pool that go beside rows' own, and as how many they count."""
        n_all, scores = len(self.of_prior), self.mixture.scores
        if n_draws <= MOST_POOLED:
            return *scores.heaviest(statistics, min(n_draws, n_all)), n_all
        first = torch.arange(min(MOST_POOLED, n_all), device=statistics.device)
        return scores.at(statistics, first), first.expand(len(statistics), -1), len(first)

    def _block_adapted(self, X: Tensor, places: Tensor, n_draws: int, n_refits: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The same of some rows, with so many draws of the pool, or the first of them where these are too many."""
        log_pool, index, n_counted = self._pooled(self.mixture.family.statistics(X[places]), n_draws)
        y, n_pooled = self.coordinates.of(self.of_prior)[index], index.shape[1]
        log_prior = self.coordinates.log_prior(y)
        log_joint = log_pool + math.log(len(self.of_prior)) + log_prior
        fitted: list[FullRows] = []
        before = log_joint.new_full((len(places),), math.inf)
        n_refits = n_refits if self.n_draws >= EFFECTIVE_DRAWS * y.shape[2] else 0  # too few for a fit
        for seed in range(n_refits + 1):
            x, noise = X[places], normal_scores(self.n_draws, y.shape[2], seed).to(y)
            widened = (MixedRows(near, FullRows(near.location, WIDER * near.factor)) for near in fitted)
            proposals: list[Rows] = [self.proposal(x), *widened]
            own = proposals[-1].draw(noise)[0]
            of_own = self.coordinates.log_prior(own)
            y, log_prior = torch.cat([y, own], 1), torch.cat([log_prior, of_own], 1)
            log_joint = torch.cat([log_joint, of_own + self._log_fit(x, own)], 1)
            log_pooled = math.log(n_counted) + log_prior
            log_own = torch.stack([rows.log_prob(y) for rows in proposals]) + math.log(len(noise))
            near, is_fitted = _fitted_gaussians(log_joint - torch.logaddexp(log_pooled, torch.logsumexp(log_own, 0)), y)
            log_weights = log_joint - torch.logaddexp(log_pooled, log_own[-1])
            counted = torch.cat([log_weights[:, :n_pooled], log_weights[:, -len(noise) :]], 1)
            doubt = _doubt(counted)
            is_enough = (doubt <= GOOD_ERROR) | ((doubt <= COARSE_ERROR) & (doubt > LEFT_SHARE * before))
            is_poor = is_fitted & ~is_enough & (seed < n_refits)
            drawn = torch.cat([y[:, :n_pooled], own], 1)
            if not is_poor.all():
                yield places[~is_poor], drawn[~is_poor], counted[~is_poor]
            if not is_poor.any():
                return
            fitted = [rows.taken(is_poor) for rows in (*fitted, near)]
            parts = places, y, log_prior, log_joint, doubt
            places, y, log_prior, log_joint, before = (part[is_poor] for part in parts)

    def _log_density(self, x: Tensor, log_weights: Tensor) -> Tensor:
        """log p(x), (b,), of the logarithms of the weights of each row's draws, (b, s)."""
        return torch.logsumexp(log_weights, 1) - self.mixture.family.carrier(x)

    def _log_fit(self, x: Tensor, y: Tensor) -> Tensor:
        """log p(x given y) at each row's draws (b, s, r), without the part of x alone, (b, s)."""
        family = self.mixture.family
        eta, normaliser = family.natural(self.decoder(self.coordinates.latent(y).flatten(0, 1)))
        fit = torch.einsum("bp,bsp->bs", family.statistics(x), eta.unflatten(0, y.shape[:2]))
        return fit - normaliser.view(fit.shape)

    def _in_blocks(self, x: Tensor) -> Iterator[Tensor]:
        return iter(x.split(max(1, NUMBERS_PER_BLOCK // self._width)) if len(x) else ())

    @property
    def _width(self) -> int:
        """Numbers that the draws of a row take, those within the decoder included."""
        return self.n_draws * max(2 * self.mixture.scores.key.shape[1] + self.of_prior.shape[1], NUMBERS_PER_DRAW)

    def _shared(self) -> tuple[Tensor, Tensor, Tensor]:
        """The prior's draws (m, k) that go beside a row's own in `blocks`, their outputs, and the noise of these, (s, c)."""
        shared = self.of_prior[:DEFENSIVE_DRAWS]
        noise = normal_scores(self.n_draws, self.coordinates.of(shared).shape[1])
        return shared, self.decoder(shared), noise.to(shared)

    def _block(self, x: Tensor, rows: Rows, shared: Tensor, shared_output: Tensor, noise: Tensor) -> Block:
        z, log_ratio = defensive_draws(rows, self.coordinates, shared, noise)
        return Block(x, z, shared, log_ratio, self.decoder(z.flatten(0, 1)), shared_output)

    def log_density(self, x: Tensor, n_refits: int = REFITS) -> tuple[Tensor, Tensor]:
        """Log-likelihood (n,) and its standard error (n,), with own draws where the error of the pool's is large."""
        log_density, error, _, _ = self._estimates(x, n_refits)
        return log_density, error

    def log_density_with_tail(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both, and Pareto k-hat of the weights of the estimate, (n,)."""
        log_density, error, poor, tail_of_poor = self._estimates(x, REFITS)
        tail = torch.empty_like(error)
        is_pooled = torch.ones(len(x), dtype=torch.bool, device=x.device)
        is_pooled[poor] = False
        tail[poor], tail[is_pooled] = tail_of_poor, self.mixture.tail(x[is_pooled])
        return log_density, error, tail

    def _estimates(self, x: Tensor, n_refits: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Estimates and errors, (n,); places (l,) of the rows with draws of their own, and k-hat of these, (l,)."""
        log_density, error = self.mixture.log_density(x)
        poor = torch.nonzero(~(error <= GOOD_ERROR))[:, 0]
        tail = torch.empty_like(error[poor])
        for places, _, log_weights in self.adapted(x[poor], n_refits):
            log_density[poor[places]] = self._log_density(x[poor[places]], log_weights)
            error[poor[places]] = relative_error(size(log_weights), log_weights.shape[1])
            tail[places] = tail_of(log_weights)
        return log_density, error, poor, tail


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
