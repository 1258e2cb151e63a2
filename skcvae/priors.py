"""Prior distributions of the latent variable: a small abstract class and its final classes.

A prior knows its dimension, how to turn uniform points into draws, and nothing of networks, data or losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

Array = NDArray[np.float64]
#: Blocks that `stream` draws at once, so that the cost of a Sobol call is shared by many steps.
BLOCKS_PER_DRAW = 64


class Prior(ABC):
    """A distribution p(z) on :math:`R^k` that can be drawn from."""

    n_components: int

    @abstractmethod
    def transport(self, uniform: Array) -> Array:
        """Turn uniform points of (0, 1)^k into draws from the prior; both of shape (m, k)."""

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
        return self.transport(_open_interval(rng.random((n_samples, self.n_components))))

    def quasi_sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        """Draws that fill the prior evenly: a scrambled Sobol sequence; shape (n_samples, k)."""
        return self._quasi_sampler(rng)(n_samples)

    def stream(self, n_samples: int, rng: np.random.Generator) -> Callable[[], Array]:
        """A function that returns the next `n_samples` points of one scrambled Sobol sequence at every call."""
        draw, blocks = self._quasi_sampler(rng), []  # type: ignore[var-annotated]

        def following() -> Array:
            if not blocks:
                blocks.extend(np.split(draw(BLOCKS_PER_DRAW * n_samples), BLOCKS_PER_DRAW))
            return blocks.pop()

        return following

    def _quasi_sampler(self, rng: np.random.Generator) -> Callable[[int], Array]:
        sequence = qmc.Sobol(self.n_components, rng=rng, bits=40)
        return lambda n_samples: self.transport(_open_interval(_points(sequence, n_samples)))


@dataclass(frozen=True)
class GaussianPrior(Prior):
    r"""The standard Gaussian, :math:`p(z) = N(z; 0, I_k)`.

    Parameters
    ----------
    n_components : int, the dimension k

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.priors import GaussianPrior
    >>> GaussianPrior(3).sample(5, np.random.default_rng(0)).shape
    (5, 3)
    """

    n_components: int

    def transport(self, uniform: Array) -> Array:
        """Apply the Gaussian quantile function to every coordinate."""
        return ndtri(uniform)


#: Priors that have a name.
PRIORS: dict[str, Callable[[int], Prior]] = {"gaussian": GaussianPrior}


def _open_interval(uniform: Array) -> Array:
    return np.clip(uniform, 2.0**-54, 1 - 2.0**-53)


def _points(sequence: qmc.Sobol, n_samples: int) -> Array:
    """`n_samples` points; the balance that scipy warns about needs a power of two, which a user's number need not be."""
    blocks = [sequence.random(1)] if sequence.num_generated == 0 else []
    return np.concatenate([*blocks, sequence.random(n_samples - len(blocks))])
