"""Proposals for each row of data: an encoder, or the Laplace approximation at the centre of one that was not taught the spread."""

from __future__ import annotations

import functools

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor, nn
from torch.func import hessian, vmap

from skcvae.likelihoods import Family
from skcvae.posteriors._conditional import Conditional, ConditionalPoint, FullRows, Rows
from skcvae.posteriors._coordinates import Coordinates


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
    r"""Gaussians at the centres of an encoder that was not taught the spread, as wide as likelihood and prior let them be.

    .. math:: \Sigma^{-1} = \Sigma_y^{-1} + J^T F J

    with the decoder's Jacobian J, the Fisher information F of the likelihood and the prior's covariance :math:`\Sigma_y`.

    Parameters
    ----------
    encoder : Encoder
    decoder : nn.Module
    family : Family
    coordinates : Coordinates
    prior_precision : Tensor of shape (r, r)
    """

    prior_precision: Tensor

    def __init__(
        self, encoder: Encoder, decoder: nn.Module, family: Family, coordinates: Coordinates, prior_precision: Tensor
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.family = encoder, decoder, family
        self.coordinates = coordinates
        self.register_buffer("prior_precision", prior_precision)

    def forward(self, x: Tensor) -> FullRows:
        """The approximation for each standardised row (n, d)."""
        y = self.encoder.centre(x)
        precision = self.prior_precision + self._information(y)
        return FullRows(y, torch.linalg.cholesky(torch.linalg.inv(precision)))

    def _information(self, y: Tensor) -> Tensor:
        """Fisher information of y: the curvature of the divergence from what the decoder says there, (n, r, r)."""
        barycentre = self.family.mean_statistics(self.decoder(self.coordinates.latent(y)))

        def divergence(point: Tensor, there: Tensor) -> Tensor:
            eta, normaliser = self.family.natural(self.decoder(self.coordinates.latent(point)[None]))
            return normaliser[0] - eta[0] @ there

        return vmap(hessian(divergence))(y, barycentre.detach()).detach()


@functools.cache
def normal_scores(n_draws: int, n_coordinates: int) -> Tensor:
    """Evenly spread standard normal draws in pairs y and -y, so that their mean is zero; always the same, (n_draws, r)."""
    sequence = qmc.Sobol(n_coordinates, rng=np.random.default_rng(0))
    half = torch.as_tensor(ndtri(sequence.random(n_draws // 2).clip(1e-10, 1 - 1e-10)))
    return torch.cat([half, -half])
