"""The amortised posterior: what the encoder says, with importance weights that tell how near it is to the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from skcvae.posteriors import _local
from skcvae.posteriors._coordinates import Coordinates
from skcvae.posteriors._encoder import Encoder, normal_scores
from skcvae.posteriors._inference import Inference, Moments
from skcvae.posteriors._local import LOCAL_DRAWS, NUMBERS_PER_BLOCK, LocalDraws
from skcvae.posteriors._pool import Mixture


@dataclass(frozen=True, eq=False)
class AmortisedInference(Inference):
    """By draws of the encoder, equally weighted; densities and diagnostics by importance weights.

    Attributes
    ----------
    encoder : Encoder
    coordinates : Coordinates, of the encoder
    decoder : nn.Module
    mixture : Mixture, the density by prior draws
    local : LocalDraws or None, where the prior has no density
    """

    encoder: Encoder
    coordinates: Coordinates
    decoder: nn.Module
    mixture: Mixture
    local: LocalDraws | None
    is_weighted = False

    def _drawn(self, x: Tensor, noise: Tensor) -> Tensor:
        """z (n, s, k) for noise (s, r) or (n, s, r)."""
        return self.coordinates.latent(self.encoder(x).draw(noise)[0])

    def _blocks(self, x: Tensor) -> Iterator[Tensor]:
        """The encoder's draws, always from the same noise, in blocks of rows."""
        noise = normal_scores(self.encoder.n_draws(LOCAL_DRAWS), self.encoder.n_coordinates).to(x)
        for rows in x.split(max(1, NUMBERS_PER_BLOCK // (LOCAL_DRAWS * (noise.shape[1] + 2 * x.shape[1])))):
            yield self._drawn(rows, noise)

    def mean(self, x: Tensor) -> Tensor:
        mean = self.encoder(x).mean if self.coordinates.are_latent else None
        return torch.cat([z.mean(1) for z in self._blocks(x)]) if mean is None else mean

    def reconstruction(self, x: Tensor) -> Tensor:
        family = self.mixture.family
        return torch.cat([family.mean(self.decoder(z.flatten(0, 1))).unflatten(0, z.shape[:2]).mean(1) for z in self._blocks(x)])

    def moments(self, x: Tensor) -> Moments:
        equal = [_local.moments(torch.zeros_like(z[:, :, 0]), z) for z in self._blocks(x)]
        mean, covariance = (torch.cat(part) for part in zip(*equal, strict=True))
        return Moments(mean, covariance, self.effective_size(x), self.density().log_density(x)[0])

    def effective_size(self, x: Tensor) -> Tensor:
        return torch.cat([1 / weights.square().sum(1) for weights in self.importance(x)])

    def importance(self, x: Tensor) -> Iterator[Tensor]:
        """Weights of the posterior that the decoder and the prior imply, over draws of encoder and prior."""
        if self.local is None:
            yield from self.mixture.scores.blocks(self.mixture.family.statistics(x))
        else:
            for block in self.local.blocks(x):
                yield torch.softmax(block.log_weights(self.mixture.family, 1.0), 1)

    def weights(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for z in self._blocks(x):
            yield torch.full_like(z[:, :, 0], 1 / z.shape[1]), z

    def resample(self, x: Tensor, n_samples: int, rng: np.random.Generator) -> Tensor:
        """Fresh draws of the encoder for each row, (n, n_samples, k)."""
        noise = torch.as_tensor(rng.standard_normal((len(x), n_samples, self.encoder.n_coordinates))).to(x)
        return self._drawn(x, noise)

    def density(self, n_draws: int = LOCAL_DRAWS) -> Mixture | LocalDraws:
        return self.mixture if self.local is None else self.local.with_draws(n_draws)
