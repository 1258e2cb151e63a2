"""The abstract prior, and the one that is a map of uniform points.

A prior knows its dimension and how to draw, and nothing of networks, data or losses.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor
from torch.distributions import Distribution

from skcvae._checks import check_finite, check_probabilities, shown

Array = NDArray[np.float64]
#: Blocks that `stream` draws at once, so that the cost of a call is shared by many steps.
BLOCKS_PER_DRAW = 64
#: Draws from which a prior without closed moments is standardised.
STANDARDISING_DRAWS = 4096
#: Interquartile range of a standard Gaussian.
GAUSSIAN_RANGE = 1.349
#: A direction of standardised coordinates with a smaller variance than this is no direction of the support.
SMALLEST_VARIANCE = 1e-10
#: Deviations that differ by more than this factor are of very unlike scales.
UNLIKE = 1e3
#: Numbers that differ by a smaller share than this are the same.
ROUNDING = 1e-12
#: A coordinate is a linear function of the ones before it where they leave a smaller share of its deviation than this.
DEPENDENT_SHARE = 1e-6
#: Draws have sizes that single precision can hold, and square, in which models are trained.
SMALLEST_SCALE, LARGEST_DRAW = 1e-18, 1e18
#: Single precision tells draws apart that are at most this many deviations away from 0.
LARGEST_SHIFT = 1e6


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

    @property
    def is_atomic(self) -> bool:
        """Whether the prior is finitely many atoms, all of which `weighted` returns at every call."""
        return False

    def weighted(self, n_samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Evenly spread draws (n_samples, k) of equal log-weights (n_samples,); all atoms with theirs where `is_atomic`."""
        return self.quasi_sample(n_samples, rng), np.full(n_samples, -np.log(n_samples))

    def stream(self, n_samples: int, rng: np.random.Generator) -> Callable[[], Array]:
        """A function that returns the next `n_samples` evenly spread draws at every call, (n_samples, k)."""
        return _Stream(self._sampler(rng), n_samples)

    def distribution(self) -> Distribution | None:
        """The prior as a torch distribution over events of shape (k,), in double precision; None where it has no density."""
        return None

    def standardisation(self) -> tuple[Array, Array] | None:
        r"""Centre m (k,) and whitening W (r, k), r the dimension of the support; None where z is standard as it is.

        :math:`W (z - m)` has zero mean and identity covariance where the moments are known, as they are over atoms. Otherwise m is
        the median and W divides each coordinate by its interquartile range, in units of a Gaussian's, as tails may be heavy;
        coordinates that do not vary, or are linear functions of those before them, are left out.
        """
        name, rng = f"The prior, {shown(self)},", np.random.default_rng(0)
        if self.is_atomic:
            atoms, log_weights = self.weighted(STANDARDISING_DRAWS, rng)
            atoms = checked_draws(name, atoms, (len(atoms), self.n_components))
            return whitening(*moments(atoms, check_probabilities("exp(log-weights) of the atoms", np.exp(log_weights), len(atoms))))
        draws = self.quasi_sample(STANDARDISING_DRAWS, rng)
        return _robust(name, checked_draws(name, draws, (STANDARDISING_DRAWS, self.n_components)))

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
        own = np.random.default_rng(int(rng.integers(2**63)))  # scipy would spawn one, which the generator's state does not tell
        return functools.partial(self._of_sequence, qmc.Sobol(self.n_uniforms, rng=own, bits=40))

    def _of_sequence(self, sequence: qmc.Sobol, n_samples: int) -> Array:
        return self.transport(_open_interval(_points(sequence, n_samples)))


def moments(atoms: Array, weights: Array) -> tuple[Array, Array]:
    """Mean (k,) and covariance (k, k) of weighted points (K, k)."""
    mean = weights @ atoms
    centred = np.where(_varies(atoms), atoms - mean, 0.0)  # the mean of equal numbers may be rounded
    return mean, (centred.T * weights) @ centred


def whitening(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """The mean, and the whitening (r, k) along the principal axes of a covariance of rank r, the largest variance first.

    Coordinates of very unlike scales are divided by their deviations first, so that none is lost to rounding.
    """
    deviation = np.sqrt(np.diagonal(covariance))
    check_resolved(mean, deviation)
    varying = deviation[deviation > 0]
    scale = np.where(deviation > 0, deviation, 1.0) if varying.max() > UNLIKE * varying.min() else np.full(len(mean), varying.max())
    variance, axes = np.linalg.eigh(covariance / np.outer(scale, scale))
    kept = variance > SMALLEST_VARIANCE
    return mean, (axes[:, kept] / np.sqrt(variance[kept])).T[::-1] / scale


def scaling(mean: Array, deviation: Array) -> tuple[Array, Array]:
    """The mean (k,), and the whitening (r, k) that divides those coordinates that vary by their deviations (k,)."""
    check_resolved(mean, deviation)
    varying = np.flatnonzero(deviation)
    return mean, np.eye(len(mean))[varying] / deviation[varying, None]


def check_resolved(centre: Array, deviation: Array) -> None:
    """ValueError where single precision, in which models are trained, does not hold the draws or tell them apart."""
    centre, deviation = centre[deviation > 0], deviation[deviation > 0]
    if not len(deviation):
        raise ValueError("A prior must vary, got one whose variance is 0. Give another.")
    is_far = np.abs(centre) > LARGEST_SHIFT * deviation
    if is_far.any() or deviation.min() < SMALLEST_SCALE or deviation.max() > LARGEST_DRAW:
        raise ValueError(
            f"A prior's coordinates must have scales from {SMALLEST_SCALE:g} to {LARGEST_DRAW:g} and centres within "
            f"{LARGEST_SHIFT:g} times these, got scales from {deviation.min():.3g} to {deviation.max():.3g} and centres up to "
            f"{np.abs(centre).max():.3g}. Rescale or shift the prior."
        )


def checked_draws(name: str, draws: Any, shape: tuple[int, int]) -> Array:
    """Draws as a finite float64 array of the expected shape; TypeError or ValueError otherwise."""
    if isinstance(draws, Tensor):
        draws = (draws.double() if draws.is_floating_point() else draws).detach().cpu().numpy()  # numpy knows no bfloat16
    array = np.asarray(draws)
    if array.shape != shape:
        raise ValueError(
            f"{name} must return draws of shape {shape}, (n_samples, n_components), got {array.shape}. Mend it, or n_components."
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must return real numbers, got dtype {array.dtype}. Return floats.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} returned NaN or infinity. Return finite draws only.")
    return checked_size(f"{name} returned", array.astype(np.float64))


def checked_array(name: str, value: object, n_dimensions: int) -> Array:
    """A finite array of positions that models can be trained with; TypeError or ValueError otherwise."""
    return checked_size(f"{name} has", check_finite(name, value, n_dimensions))


def checked_size(beginning: str, array: Array) -> Array:
    """The array; ValueError where single precision could not square it."""
    largest = float(np.max(np.abs(array), initial=0))
    if largest > LARGEST_DRAW:
        raise ValueError(
            f"{beginning} values up to {largest:.3g}, and a prior's values must be at most {LARGEST_DRAW:g} in size. Rescale it."
        )
    return array


def _robust(name: str, draws: Array) -> tuple[Array, Array]:
    """Median (k,) and the scaling (r, k) by interquartile ranges, without what does not vary by itself."""
    centre, varying = np.median(draws, 0), np.flatnonzero(_varies(draws))
    if not len(varying):
        raise ValueError(f"{name} must vary, got {len(draws)} draws that are all {shown(draws[0].tolist())}. Mend the sampler.")
    deviation = np.zeros_like(centre)
    for place in varying[_independent(draws[:, varying])]:
        centred = draws[:, place] - centre[place]
        low, high = np.quantile(centred, [0.25, 0.75])
        # Where the interquartile range is 0, as of many equal values, the median size of the other values.
        deviation[place] = float(high - low) / GAUSSIAN_RANGE or float(np.median(np.abs(centred[centred != 0])))
    return scaling(centre, deviation)


def _varies(points: Array) -> NDArray[np.bool_]:
    """Which coordinates differ by more than rounding."""
    low, high = points.min(0), points.max(0)
    return high - low > ROUNDING * np.maximum(np.abs(low), np.abs(high))


def _independent(draws: Array) -> NDArray[np.intp]:
    """Places of the coordinates that are no linear functions of those before them; all where draws are too few to tell."""
    n_draws, k = draws.shape
    if 2 * k > n_draws:
        return np.arange(k)
    centred = draws - draws.mean(0)
    left = np.abs(np.diagonal(np.linalg.qr(centred / np.linalg.norm(centred, axis=0), mode="r")))
    return np.flatnonzero(left > DEPENDENT_SHARE)


def _open_interval(uniform: Array) -> Array:
    return np.clip(uniform, 2.0**-54, 1 - 2.0**-53)


def _points(sequence: qmc.Sobol, n_samples: int) -> Array:
    """`n_samples` points; the balance that scipy warns about needs a power of two, which a user's number need not be."""
    blocks = [sequence.random(1)] if sequence.num_generated == 0 else []
    return np.concatenate([*blocks, sequence.random(n_samples - len(blocks))])
