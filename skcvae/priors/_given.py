"""Priors that a user brings: a torch distribution, or any function that draws."""

from __future__ import annotations

import inspect
import numbers
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributions

from skcvae._checks import check_number, shown
from skcvae._context import float32_by_default
from skcvae._random import seeded
from skcvae.priors._base import LARGEST_DRAW, Array, Prior, QuantilePrior, checked_draws, scaling, whitening

#: Draws made to see whether a sampler gives what it should.
TRIAL_DRAWS = 16


@dataclass(frozen=True, eq=False)
class SamplerPrior(Prior):
    """Any distribution that a function can draw from.

    Parameters
    ----------
    sampler : callable ``sampler(n_samples, random_state)``
        Returns a real array or tensor of shape (n_samples, k). `random_state` is an integer; the global generators of torch and
        numpy are seeded with it around the call as well, and restored; torch's default precision is single there.
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
        check_number("n_components", self.n_components, numbers.Integral, 1)
        _check_signature(self.sampler)
        self.sample(TRIAL_DRAWS, np.random.default_rng(0))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        seed = int(rng.integers(2**31))
        with seeded(seed, with_numpy=True), float32_by_default():
            draws = self.sampler(n_samples, seed)
        return checked_draws("The prior's sampler", draws, (n_samples, self.n_components))


def drawn_width(sampler: Callable[[int, int], Any]) -> int:
    """Number of columns that a sampler draws; ValueError where it draws no table."""
    _check_signature(sampler)
    with seeded(0, with_numpy=True), float32_by_default():
        shape = np.shape(sampler(TRIAL_DRAWS, 0))
    if len(shape) != 2:
        raise ValueError(
            f"The prior's sampler must return draws of shape (n_samples, n_components), got {shape} for n_samples={TRIAL_DRAWS}. "
            "Mend it."
        )
    return int(shape[1])


def _check_signature(sampler: Callable[[int, int], Any]) -> None:
    try:
        inspect.signature(sampler).bind(TRIAL_DRAWS, 0)
    except TypeError as error:
        raise TypeError(
            f"The prior's sampler must be a function sampler(n_samples, random_state), got {sampler!r}: {error}. "
            "Give a function of both arguments."
        ) from error
    except ValueError:  # a built-in function need not tell its signature
        return


@dataclass(frozen=True, eq=False)
class TorchPrior(Prior):
    """A ``torch.distributions.Distribution`` over vectors of k numbers.

    It is copied onto the CPU in double precision, in which its draws and its density are computed.

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
            raise TypeError(f"TorchPrior expects a torch.distributions.Distribution, got {shown(self.given)}.")
        shape = tuple(self.given.batch_shape), tuple(self.given.event_shape)
        if len(shape[0]) + len(shape[1]) > 1:
            raise ValueError(
                f"A prior's draws must be vectors, got a distribution with batch shape {shape[0]}, event shape {shape[1]}. Give "
                "one whose two shapes are together (n_components,)."
            )
        try:
            given = in_double(self.given)
            given = given if shape != ((), ()) else given.expand(torch.Size([1]))
            object.__setattr__(self, "joint", distributions.Independent(given, 1) if given.batch_shape else given)
            self.sample(TRIAL_DRAWS, np.random.default_rng(0))
        except NotImplementedError as error:
            raise ValueError(
                f"A prior's distribution must have a method sample, and where it is over single numbers expand, got "
                f"{shown(self.given)}, which lacks one. Add it, or give a function sampler(n_samples, random_state)."
            ) from error

    @property
    def n_components(self) -> int:  # type: ignore[override]
        """Length k of a draw."""
        return int(np.prod(self.joint.event_shape))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        with seeded(int(rng.integers(2**31))):
            draws = self.joint.sample((n_samples,))
        return self._checked(draws)

    def distribution(self) -> distributions.Distribution | None:
        try:
            support = self.joint.support
            is_dense = support is not None and not support.is_discrete
            with seeded(0):
                self.joint.log_prob(self.joint.sample())
        except NotImplementedError:
            return None
        return self.joint if is_dense else None

    def standardisation(self) -> tuple[Array, Array] | None:
        found = _moments(self.joint)
        if found is None:
            return super().standardisation()
        mean, variance = (part.numpy() for part in found)
        return whitening(mean, variance) if variance.ndim == 2 else scaling(mean, np.sqrt(variance))

    def _sampler(self, rng: np.random.Generator) -> Callable[[int], Array]:
        if not self._has_quantiles():
            return super()._sampler(rng)
        return _Quantiles(self)._sampler(rng)

    def _has_quantiles(self) -> bool:
        independent = isinstance(self.joint, distributions.Independent)
        try:
            return independent and bool(torch.isfinite(self._coordinates().icdf(torch.tensor(0.5).double())).all())
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


def in_double(given: distributions.Distribution) -> distributions.Distribution:
    """A copy of a distribution in double precision on the CPU; itself where it works on the CPU and a copy would not."""
    copied = _copied(given)
    found = copied if _works(copied) else given
    with seeded(0):
        device = found.sample().device
    if device.type != "cpu":
        raise ValueError(
            f"A prior's distribution must be on the CPU, where priors are drawn, got {shown(given)} on {str(device)!r}. Make it of "
            "parameters on the CPU."
        )
    return found


def _copied(value: Any, known: dict[int, Any] | None = None) -> Any:
    """A copy with all floating-point tensors in double precision on the CPU; `known` are objects that have a copy already."""
    known = {} if known is None else known
    if isinstance(value, Tensor):
        return value.detach().cpu().double() if value.is_floating_point() else value.detach().cpu()
    if type(value) in (list, tuple):
        return type(value)(_copied(item, known) for item in value)
    if isinstance(value, weakref.ref):  # a transform's inverse, which is made when it is asked for
        return None
    if isinstance(value, (distributions.Distribution, distributions.Transform)):
        if id(value) not in known:  # a transform and its inverse hold each other
            known[id(value)] = object.__new__(type(value))
            vars(known[id(value)]).update({name: _copied(item, known) for name, item in vars(value).items()})
        return known[id(value)]
    return value


def _works(distribution: distributions.Distribution) -> bool:
    """Whether draws have a log-density, or none is offered."""
    try:
        with seeded(0):
            draws = distribution.sample()
        distribution.log_prob(draws)
    except NotImplementedError:
        return True
    except (RuntimeError, TypeError, ValueError):
        return False
    return True


def _moments(joint: distributions.Distribution) -> tuple[Tensor, Tensor] | None:
    """Mean (..., k), and variances (..., k) of independent coordinates or a covariance (..., k, k); None where not known."""
    try:
        found = _closed_moments(joint)
    except NotImplementedError:
        return None
    return found if found is not None and all(bool((part.abs() <= LARGEST_DRAW).all()) for part in found) else None


def _closed_moments(joint: distributions.Distribution) -> tuple[Tensor, Tensor] | None:
    base = getattr(joint, "base_dist", joint)
    if isinstance(joint, distributions.Independent) and not isinstance(base, distributions.VonMises):  # a circle's moments
        return joint.mean, joint.variance
    if isinstance(joint, distributions.Dirichlet):
        total = joint.concentration.sum(-1, keepdim=True)
        return joint.mean, (joint.mean.diag_embed() - _square(joint.mean)) / (total + 1).unsqueeze(-1)
    if isinstance(joint, distributions.Multinomial):
        probs = joint.probs / joint.probs.sum(-1, keepdim=True)  # in double precision they may have been rounded before
        return joint.total_count * probs, joint.total_count * (probs.diag_embed() - _square(probs))
    if isinstance(joint, distributions.MixtureSameFamily):
        return _mixed_moments(joint)
    covariance = getattr(joint, "covariance_matrix", None)
    return None if covariance is None else (joint.mean, covariance)


def _mixed_moments(joint: distributions.MixtureSameFamily) -> tuple[Tensor, Tensor] | None:
    """Mean (k,) and covariance (k, k) of a mixture of distributions over vectors."""
    found, weights = _closed_moments(joint.component_distribution), joint.mixture_distribution.probs
    if found is None:
        return None
    means, within = found[0], found[1] if found[1].ndim == 3 else found[1].diag_embed()
    mean = weights @ means
    return mean, (weights[:, None, None] * (within + _square(means - mean))).sum(0)


def _square(vectors: Tensor) -> Tensor:
    """The product of each vector (..., k) with itself, (..., k, k)."""
    return vectors.unsqueeze(-1) * vectors.unsqueeze(-2)
