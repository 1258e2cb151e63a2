"""A Gaussian proposal for each row, in coordinates without bounds."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, biject_to
from torch.distributions.constraints import MixtureSameFamilyConstraint

#: Diagonal of the proposal's factor, at least.
SMALLEST_SCALE = 1e-4


class GaussianProposal(nn.Module):
    r"""An amortised Gaussian, :math:`q(y \mid x) = N(y; m(x), L(x) L(x)^T)`, with z = T(y) and T onto the prior's support.

    Parameters
    ----------
    network : nn.Module, from (n, d) to (n, `n_outputs(r)`)
    distribution : torch.distributions.Distribution, the prior
    """

    def __init__(self, network: nn.Module, distribution: Distribution) -> None:
        super().__init__()
        self.network = network
        self.distribution = distribution

    @staticmethod
    def n_outputs(n_coordinates: int) -> int:
        """Numbers in a mean and a triangular factor."""
        return n_coordinates + n_coordinates * (n_coordinates + 1) // 2

    @functools.cached_property
    def bijection(self) -> Transform:
        """T, from coordinates without bounds onto the prior's support."""
        support = self.distribution.support
        return biject_to(support.base_constraint if isinstance(support, MixtureSameFamilyConstraint) else support)

    def coordinates(self, z: Tensor) -> Tensor:
        """y, with r coordinates, of latent points."""
        y: Tensor = self.bijection.inv(z)
        return y

    def log_prior(self, y: Tensor) -> Tensor:
        """Log-density of the prior in the coordinates y, without the last axis."""
        z = self.bijection(y)
        volume = self.bijection.log_abs_det_jacobian(y, z)
        log_prob = self.distribution.log_prob(z.to(torch.float64)).to(y)
        return log_prob + (volume if volume.ndim == log_prob.ndim else volume.sum(-1))

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, r) and triangular factor (n, r, r) for each row."""
        output = self.network(x)
        r = (math.isqrt(9 + 8 * output.shape[1]) - 3) // 2
        mean, free = output[:, :r], output[:, r:]
        factor = torch.zeros(len(x), r, r, dtype=x.dtype, device=x.device)
        rows, columns = torch.tril_indices(r, r)
        factor[:, rows, columns] = free
        diagonal = nn.functional.softplus(factor.diagonal(dim1=1, dim2=2)) + SMALLEST_SCALE
        return mean, factor.tril(-1) + torch.diag_embed(diagonal)

    def log_prob(self, moments: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        """Log q(y given x) of draws (n, s, r), (n, s)."""
        mean, factor = moments
        white = torch.linalg.solve_triangular(factor, (y - mean[:, None]).mT, upper=False)  # (n, r, s)
        log_volume = factor.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)
        return -0.5 * white.square().sum(1) - log_volume - 0.5 * mean.shape[1] * math.log(2 * math.pi)


def defensive_draws(proposal: GaussianProposal, x: Tensor, of_prior: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""Draws of each row's proposal followed by draws of the prior, with the logs of their weights.

    .. math:: w(z) = \frac{p(z)}{m_q\, q(z \mid x) + m_p\, p(z)}

    so that :math:`\sum_s w(z_s) h(z_s)` estimates :math:`E_p[h]`, and no weight exceeds :math:`1/m_p`.

    Parameters
    ----------
    proposal : GaussianProposal
    x : Tensor of shape (n, d)
    of_prior : Tensor of shape (m_p, k)
    noise : Tensor of shape (m_q, r), standard normal

    Returns
    -------
    z : Tensor of shape (n, m_q + m_p, k)
    log_weights : Tensor of shape (n, m_q + m_p)
    """
    moments = proposal.moments(x)
    own = moments[0][:, None] + noise @ moments[1].mT
    y = torch.cat([own, proposal.coordinates(of_prior).expand(len(x), -1, -1)], 1)
    log_p, log_q = proposal.log_prior(y), proposal.log_prob(moments, y)
    log_mixture = torch.logaddexp(math.log(len(noise)) + log_q, math.log(len(of_prior)) + log_p)
    return proposal.bijection(y), log_p - log_mixture


@functools.cache
def normal_scores(n_draws: int, n_coordinates: int) -> Tensor:
    """Evenly spread standard normal draws, always the same, (n_draws, n_coordinates)."""
    sequence = qmc.Sobol(n_coordinates, rng=np.random.default_rng(0))
    return torch.as_tensor(ndtri(sequence.random(n_draws).clip(1e-10, 1 - 1e-10)))
