"""The abstract prior, and the one that is a map of uniform points.

A prior knows its dimension and how to draw, and nothing of networks, data or losses.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc
from torch.distributions import Distribution

Array = NDArray[np.float64]
#: Blocks that `stream` draws at once, so that the cost of a call is shared by many steps.
BLOCKS_PER_DRAW = 64
#: Draws from which a prior without closed moments is standardised, and the share cut off each end, where tails may be heavy.
STANDARDISING_DRAWS, TRIMMED_SHARE = 4096, 0.005
#: Directions whose variance is below this share of the largest one are not varied by the prior.
SMALLEST_VARIANCE_SHARE = 1e-8


class Prior(ABC):
    """A distribution p(z) on :math:`R^k` that can be drawn from."""

    n_components: int

    @abstractmethod
    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        """Independent draws from the prior.

        Parameters
        ----------
        n_samples : int
        rng : numpy.random.Generator

        Returns
        -------
        array of shape (n_samples, k), float64
        """

    def quasi_sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        """Draws that fill the prior as evenly as it allows, (n_samples, k): scrambled Sobol points, or plain draws."""
        return self._sampler(rng)(n_samples)

    def weighted(self, n_samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Evenly spread draws (m, k) with their log-weights (m,): equal ones, or all atoms with theirs."""
        return self.quasi_sample(n_samples, rng), np.full(n_samples, -np.log(n_samples))

    def stream(self, n_samples: int, rng: np.random.Generator) -> Callable[[], Array]:
        """A function that returns the next `n_samples` evenly spread draws at every call, (n_samples, k)."""
        return _Stream(self._sampler(rng), n_samples)

    def distribution(self) -> Distribution | None:
        """The prior as a torch distribution over events of shape (k,), in double precision; None where it has no density."""
        return None

    def standardisation(self) -> tuple[Array, Array] | None:
        r"""Mean m (k,) and whitening W (r, k) for which :math:`W (z - m)` has identity covariance; None if z has it as it is."""
        draws = self.quasi_sample(STANDARDISING_DRAWS, np.random.default_rng(0))
        low, high = np.quantile(draws, [TRIMMED_SHARE, 1 - TRIMMED_SHARE], axis=0)
        kept = draws[((draws >= low) & (draws <= high)).all(1)]
        return whitening(kept.mean(0), np.atleast_2d(np.cov(kept.T)))

    def _sampler(self, rng: np.random.Generator) -> Callable[[int], Array]:
        return functools.partial(self.sample, rng=rng)


class _Stream:
    """Draws in blocks of the same size, many of which are drawn at once."""

    def __init__(self, draw: Callable[[int], Array], n_samples: int) -> None:
        self.draw, self.n_samples = draw, n_samples
        self.blocks: list[Array] = []

    def __call__(self) -> Array:
        if not self.blocks:
            self.blocks = np.split(self.draw(BLOCKS_PER_DRAW * self.n_samples), BLOCKS_PER_DRAW)
        return self.blocks.pop()


class QuantilePrior(Prior):
    """A prior that is a map of uniform points, so that a Sobol sequence fills it evenly."""

    @abstractmethod
    def transport(self, uniform: Array) -> Array:
        """Turn uniform points of the open unit cube, (m, n_uniforms), into draws from the prior, (m, k)."""

    @property
    def n_uniforms(self) -> int:
        """Dimension of the uniform points, k unless a subclass says otherwise."""
        return self.n_components

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        return self.transport(_open_interval(rng.random((n_samples, self.n_uniforms))))

    def _sampler(self, rng: np.random.Generator) -> Callable[[int], Array]:
        return functools.partial(self._of_sequence, qmc.Sobol(self.n_uniforms, rng=rng, bits=40))

    def _of_sequence(self, sequence: qmc.Sobol, n_samples: int) -> Array:
        return self.transport(_open_interval(_points(sequence, n_samples)))


def whitening(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """The mean, and the whitening (r, k) along the principal axes of a covariance of rank r, the largest variance first."""
    variance, axes = np.linalg.eigh(covariance)
    kept = variance > SMALLEST_VARIANCE_SHARE * variance[-1]
    return mean, (axes[:, kept] / np.sqrt(variance[kept])).T[::-1].copy()


def _open_interval(uniform: Array) -> Array:
    return np.clip(uniform, 2.0**-54, 1 - 2.0**-53)


def _points(sequence: qmc.Sobol, n_samples: int) -> Array:
    """`n_samples` points; the balance that scipy warns about needs a power of two, which a user's number need not be."""
    blocks = [sequence.random(1)] if sequence.num_generated == 0 else []
    return np.concatenate([*blocks, sequence.random(n_samples - len(blocks))])
