"""Priors that a user brings: a torch distribution, or any function that draws."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributions

from skcvae._random import seeded
from skcvae.priors._base import Array, Prior, QuantilePrior

#: Draws made to see whether a sampler gives what it should.
TRIAL_DRAWS = 16


@dataclass(frozen=True, eq=False)
class SamplerPrior(Prior):
    """Any distribution that a function can draw from.

    Parameters
    ----------
    sampler : callable ``sampler(n_samples, random_state)``
        Returns a real array or tensor of shape (n_samples, k). `random_state` is an integer; the global generators of torch and
        numpy are seeded with it around the call as well, and restored.
    n_components : int, the dimension k

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.priors import SamplerPrior
    >>> prior = SamplerPrior(lambda n, seed: np.random.default_rng(seed).exponential(size=(n, 2)), n_components=2)
    >>> prior.sample(3, np.random.default_rng(0)).shape
    (3, 2)
    """

    sampler: Callable[[int, int], Any]
    n_components: int

    def __post_init__(self) -> None:
        self._check_signature()
        self.sample(TRIAL_DRAWS, np.random.default_rng(0))

    def _check_signature(self) -> None:
        try:
            inspect.signature(self.sampler).bind(TRIAL_DRAWS, 0)
        except TypeError as error:
            raise TypeError(
                f"The prior's sampler must be a function sampler(n_samples, random_state), got {self.sampler!r}: {error}. "
                "Give a function of both arguments."
            ) from error
        except ValueError:  # a built-in function need not tell its signature
            return

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        seed = int(rng.integers(2**31))
        with seeded(seed, with_numpy=True):
            draws = self.sampler(n_samples, seed)
        return checked_draws("The prior's sampler", draws, (n_samples, self.n_components))


@dataclass(frozen=True, eq=False)
class TorchPrior(Prior):
    """A ``torch.distributions.Distribution`` over vectors of k numbers.

    Parameters
    ----------
    given : torch.distributions.Distribution
        With event shape (k,), or with batch shape (k,) and no event shape: then the k coordinates are independent. Without any
        shape it has one coordinate.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skcvae.priors import TorchPrior
    >>> prior = TorchPrior(torch.distributions.Laplace(torch.zeros(2), torch.ones(2)))
    >>> prior.n_components, prior.sample(3, np.random.default_rng(0)).shape
    (2, (3, 2))
    """

    given: distributions.Distribution
    joint: distributions.Distribution = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.given, distributions.Distribution):
            raise TypeError(f"TorchPrior expects a torch.distributions.Distribution, got {self.given!r}.")
        shape = tuple(self.given.batch_shape), tuple(self.given.event_shape)
        if len(shape[0]) + len(shape[1]) > 1:
            raise ValueError(
                f"A prior's draws must be vectors, got a distribution with batch shape {shape[0]}, event shape {shape[1]}. Give "
                "one whose two shapes are together (n_components,)."
            )
        given = self.given if shape != ((), ()) else self.given.expand(torch.Size([1]))
        joint = distributions.Independent(given, 1) if given.batch_shape else given
        object.__setattr__(self, "joint", joint)
        self.sample(TRIAL_DRAWS, np.random.default_rng(0))

    @property
    def n_components(self) -> int:  # type: ignore[override]
        """Length k of a draw."""
        return int(np.prod(self.joint.event_shape))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        with seeded(int(rng.integers(2**31))):
            draws = self.joint.sample((n_samples,))
        return self._checked(draws)

    def distribution(self) -> distributions.Distribution | None:
        support = self.joint.support
        return None if support is None or support.is_discrete else self.joint

    def _sampler(self, rng: np.random.Generator) -> Callable[[int], Array]:
        if not self._has_quantiles():
            return super()._sampler(rng)
        return _Quantiles(self)._sampler(rng)

    def _has_quantiles(self) -> bool:
        independent = isinstance(self.joint, distributions.Independent)
        try:
            return independent and bool(torch.isfinite(self._coordinates().icdf(torch.tensor(0.5))).all())
        except (NotImplementedError, ValueError):
            return False

    def _coordinates(self) -> distributions.Distribution:
        return getattr(self.joint, "base_dist", self.joint)

    def _checked(self, draws: Tensor) -> Array:
        return checked_draws("The prior's distribution", draws.reshape(len(draws), -1), (len(draws), self.n_components))


class _Quantiles(QuantilePrior):
    """The Sobol sampler of a torch distribution with a quantile function."""

    def __init__(self, prior: TorchPrior) -> None:
        self.prior, self.n_components = prior, prior.n_components

    def transport(self, uniform: Array) -> Array:
        return self.prior._checked(self.prior._coordinates().icdf(torch.as_tensor(uniform)))


def checked_draws(name: str, draws: Any, shape: tuple[int, int]) -> Array:
    """Draws as a finite float64 array of the expected shape; TypeError or ValueError otherwise."""
    array = draws.detach().cpu().numpy() if isinstance(draws, Tensor) else np.asarray(draws)
    if array.shape != shape:
        raise ValueError(
            f"{name} must return draws of shape {shape}, (n_samples, n_components), got {array.shape}. Mend it, or n_components."
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must return real numbers, got dtype {array.dtype}. Return floats.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} returned NaN or infinity. Return finite draws only.")
    return array.astype(np.float64)
