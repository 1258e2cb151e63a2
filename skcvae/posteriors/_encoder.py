"""Proposals for each row of data: an encoder, or Laplace approximations that start from its centres."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor, nn
from torch.func import grad, hessian, vmap

from skcvae.likelihoods import Family
from skcvae.posteriors._conditional import Conditional, ConditionalPoint, FullRows, MixedRows, Rows
from skcvae.posteriors._coordinates import Coordinates

#: Gauss-Newton steps of the Laplace approximation, and the lengths of which each takes the best.
NEWTON_STEPS = 3
STEP_LENGTHS = (0.0, 1.0, 0.5, 0.2, 0.05)


class Encoder(nn.Module):
    """An amortised posterior of y in the coordinates of a prior.

    Parameters
    ----------
    network : nn.Module, from (n, d) to (n, conditional.n_outputs)
    conditional : Conditional, what the network's output means
    """

    def __init__(self, network: nn.Module, conditional: Conditional) -> None:
        super().__init__()
        self.network = network
        self.conditional = conditional

    @property
    def n_coordinates(self) -> int:
        """Number of coordinates r."""
        return self.conditional.n_coordinates

    def n_draws(self, wanted: int) -> int:
        """Draws that stand for the posterior: `wanted`, or two where there is no spread."""
        return 2 if isinstance(self.conditional, ConditionalPoint) else wanted

    def centre(self, x: Tensor) -> Tensor:
        """Where the noise of zero goes, (n, r)."""
        return self(x).draw(x.new_zeros(1, self.n_coordinates))[0][:, 0]

    def forward(self, x: Tensor) -> Rows:
        """The posterior of each standardised row (n, d)."""
        rows: Rows = self.conditional(self.network(x))
        return rows


class Laplace(nn.Module):
    r"""Gaussians near the modes of the rows' posteriors, as wide as likelihood and prior let them be.

    .. math:: \Sigma^{-1} = \Sigma_y^{-1} + J^T F J

    with the decoder's Jacobian J, the Fisher information F of the likelihood and the prior's mean and covariance :math:`\Sigma_y`.
    Some Gauss-Newton steps, each the best of a few lengths, lead there from the encoder's centres.

    Parameters
    ----------
    encoder : Encoder
    decoder : nn.Module
    family : Family
    coordinates : Coordinates
    y : Tensor of shape (m, r), draws from the prior
    """

    mean: Tensor
    precision: Tensor

    def __init__(self, encoder: Encoder, decoder: nn.Module, family: Family, coordinates: Coordinates, y: Tensor) -> None:
        super().__init__()
        self.encoder, self.decoder, self.family = encoder, decoder, family
        self.coordinates = coordinates
        self.register_buffer("mean", y.mean(0))
        self.register_buffer("precision", torch.linalg.inv(torch.atleast_2d(torch.cov(y.T))))

    def forward(self, x: Tensor) -> FullRows:
        """The approximation for each standardised row (n, d)."""
        y, statistics = self.encoder.centre(x).detach(), self.family.statistics(x)
        for _ in range(NEWTON_STEPS):
            y = self._improved(y, statistics)
        return FullRows(y, torch.linalg.cholesky(torch.linalg.inv(self.precision + self._information(y))))

    def _improved(self, y: Tensor, statistics: Tensor) -> Tensor:
        """One Gauss-Newton step of each row, of the length at which its energy is lowest, zero included."""
        slope = vmap(grad(self._energy))(y, statistics).detach()
        step = torch.linalg.solve(self.precision + self._information(y), slope)
        candidates = y - torch.tensor(STEP_LENGTHS).to(y)[:, None, None] * step
        energies = vmap(vmap(self._energy), in_dims=(0, None))(candidates, statistics)
        best = torch.nan_to_num(energies.detach(), nan=math.inf).argmin(0)
        return candidates[best, torch.arange(len(y), device=y.device)]

    def _energy(self, point: Tensor, statistics: Tensor) -> Tensor:
        """-log p(y) - log p(x given y) of one row, but for what does not depend on y, with the prior's Gaussian."""
        centred = point - self.mean
        return self._cost(point, statistics) + 0.5 * centred @ self.precision @ centred

    def _cost(self, point: Tensor, statistics: Tensor) -> Tensor:
        eta, normaliser = self.family.natural(self.decoder(self.coordinates.latent(point)[None]))
        return normaliser[0] - eta[0] @ statistics

    def _information(self, y: Tensor) -> Tensor:
        """Fisher information of y: the curvature of the cost of the mean statistics there, (n, r, r)."""
        barycentre = self.family.mean_statistics(self.decoder(self.coordinates.latent(y))).detach()
        return vmap(hessian(self._cost))(y, barycentre).detach()


class Refined(nn.Module):
    """Mixtures of an encoder and the Laplace approximation from its centres: one knows the coupling, the other the likelihood.

    Parameters
    ----------
    encoder : Encoder
    laplace : Laplace
    """

    def __init__(self, encoder: Encoder, laplace: Laplace) -> None:
        super().__init__()
        self.encoder, self.laplace = encoder, laplace

    def forward(self, x: Tensor) -> MixedRows:
        """The mixture for each standardised row (n, d)."""
        return MixedRows(self.encoder(x), self.laplace(x))


@functools.cache
def normal_scores(n_draws: int, n_coordinates: int) -> Tensor:
    """Evenly spread standard normal draws in pairs y and -y, so that their mean is zero; always the same, (n_draws, r)."""
    sequence = qmc.Sobol(n_coordinates, rng=np.random.default_rng(0))
    half = torch.as_tensor(ndtri(sequence.random(n_draws // 2).clip(1e-10, 1 - 1e-10)))
    return torch.cat([half, -half])
