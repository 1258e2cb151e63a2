"""Coordinates of the latent space without bounds, in which proposals and encoders live."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily, MultivariateNormal, Transform, biject_to, identity_transform
from torch.distributions.constraints import Constraint


@dataclass(frozen=True, eq=False)
class Gaussian:
    r"""A Gaussian as its mean m (r,) and whitening W (r, r), for which :math:`W (y - m)` is standard normal."""

    mean: Tensor
    whitening: Tensor


@dataclass(frozen=True)
class Coordinates:
    """z = T(y), with T from r numbers without bounds onto the prior's support.

    Parameters
    ----------
    distribution : torch.distributions.Distribution or None
        The prior; where it has no density, y is z itself.
    """

    distribution: Distribution | None

    @functools.cached_property
    def bijection(self) -> Transform:
        """T."""
        return self._bijection(torch.device("cpu"))

    @property
    def are_latent(self) -> bool:
        """Whether y is z."""
        return getattr(self.bijection, "base_transform", self.bijection) == identity_transform

    def width(self, n_components: int) -> int:
        """Number of coordinates r of a prior with k components."""
        return int(self.bijection.inverse_shape(torch.Size((n_components,)))[0])

    def latent(self, y: Tensor) -> Tensor:
        """z at y, in its precision: bounds of the support may be kept in another."""
        return self._near(y)(y).to(y)

    def of(self, z: Tensor) -> Tensor:
        """y, with r coordinates, of latent points."""
        return self._near(z).inv(z).to(z)

    def log_prior(self, y: Tensor) -> Tensor:
        """Log-density of the prior in the coordinates y, without the last axis."""
        assert self.distribution is not None, "checked before the fit"
        bijection = self._near(y)
        z = bijection(y)
        volume = bijection.log_abs_det_jacobian(y, z)
        log_prob = _log_prob(self.distribution, z.to("cpu", torch.float64)).to(y)
        return log_prob + (volume if volume.ndim == log_prob.ndim else volume.sum(-1)).to(y)

    def gaussian(self, like: Tensor) -> Gaussian | None:
        """The prior of y where it is a Gaussian, in another tensor's precision and place."""
        if not isinstance(self.distribution, MultivariateNormal):
            return None
        whitening = torch.linalg.inv(self.distribution.scale_tril)
        return Gaussian(self.distribution.loc.to(like), whitening.to(like))

    def _near(self, points: Tensor) -> Transform:
        """T with its bounds where the points are."""
        return self.bijection if points.device.type == "cpu" else self._bijection(points.device)

    def _bijection(self, device: torch.device) -> Transform:
        if self.distribution is None:
            return identity_transform
        support: Any = self.distribution.support
        if isinstance(self.distribution, MixtureSameFamily):  # from torch 2.8 on biject_to does not know the mixture's own
            support = self.distribution.component_distribution.support
        return biject_to(_placed(support, device))


def _log_prob(distribution: Distribution, z: Tensor) -> Tensor:
    """The log-density in double precision, or in single where the distribution's own products allow no other."""
    try:
        return distribution.log_prob(z)
    except RuntimeError as error:
        if "scalar type" not in str(error) and "same dtype" not in str(error):
            raise
        return distribution.log_prob(z.float()).to(z)


def _placed(constraint: Constraint, device: torch.device) -> Constraint:
    """A copy of a constraint with its bounds on a device."""
    placed = copy.copy(constraint)
    for name, value in vars(constraint).items():
        if isinstance(value, Constraint):
            vars(placed)[name] = _placed(value, device)
        elif isinstance(value, Tensor):
            vars(placed)[name] = value.to(device)
    return placed
