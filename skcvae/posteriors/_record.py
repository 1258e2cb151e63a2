"""What a fitted model says of each row's posterior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcvae._random import draws_rng
from skcvae.posteriors._inference import Inference
from skcvae.posteriors._pareto import pareto_k

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Posterior:
    r"""Posterior of each row of X, as weighted draws.

    Attributes
    ----------
    mean : array of shape (n, k)
    covariance : array of shape (n, k, k)
    importance_ess : array of shape (n,), effective sample size :math:`1/\sum_j w_{ij}^2` of the importance weights, those of
        `pareto_k`: a coupled model's posterior is these weights, and one with an encoder is scored by them
    log_normaliser : array of shape (n,), :math:`\log \sum_j b_j e^{(g_j - C_{ij})/\epsilon} = -f(x_i)/\epsilon` of a coupled
        model; of one with an encoder, the log-likelihood in standardised units
    """

    mean: Array
    covariance: Array
    importance_ess: Array
    log_normaliser: Array
    _inference: Inference
    _x: Tensor

    def __getattr__(self, name: str) -> Any:
        """Say the new name of what had another one."""
        remedy = " It is importance_ess now." if name == "effective_sample_size" else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}.{remedy}")

    @torch.no_grad()
    def weights(self) -> Iterator[Array]:
        """Normalised weights in blocks of rows, each (chunk, m); ``np.concatenate(list(p.weights()))`` has all."""
        for weights, _ in self._inference.weights(self._x):
            yield weights.cpu().numpy()

    @torch.no_grad()
    def draws(self) -> Iterator[Array]:
        """The draws of z that `weights` belong to, block by block: (m, k) for the pool, (chunk, m, k) for proposals of each row."""
        for _, draws in self._inference.weights(self._x):
            yield draws.cpu().numpy()

    @torch.no_grad()
    def pareto_k(self) -> Array:
        """Pareto k-hat of each row's importance weights, (n,): what they average can be trusted below 0.7.

        A coupled model's posterior is these weights; a large k-hat of an encoder says that it is far from the model's posterior.
        """
        with np.errstate(divide="ignore"):
            return np.concatenate([pareto_k(np.log(block.cpu().numpy())) for block in self._inference.importance(self._x)])

    @torch.no_grad()
    def sample(self, n_samples: int = 1, *, random_state: Any = None) -> Array:
        """Draws of z for each row, (n, n_samples, k)."""
        n_rows, n_components = self.mean.shape
        rng = draws_rng(n_samples, random_state, (n_rows, n_samples, n_components), self.mean.dtype)
        return self._inference.resample(self._x, n_samples, rng).cpu().numpy()


@torch.no_grad()
def posterior(inference: Inference, x: Tensor) -> Posterior:
    """The `Posterior` of standardised rows x (n, d)."""
    moments = inference.moments(x)
    arrays = [t.cpu().numpy() for t in (moments.mean, moments.covariance, moments.size, moments.log_normaliser)]
    return Posterior(arrays[0], arrays[1], arrays[2], arrays[3], inference, x)
