"""Conditional distributions: a module whose forward turns an encoder's output into one distribution for each row."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skcvae.posteriors._coordinates import Gaussian

LOG_2PI = math.log(2 * math.pi)
#: Standard deviation of a posterior, at least.
SMALLEST_SCALE = 1e-4
#: Standard deviation that an encoder starts with, at least.
SMALLEST_START = 1e-3


class Rows(ABC):
    """One distribution of y, with r coordinates, for each of n rows."""

    @abstractmethod
    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draws y (n, s, r) and their log-densities (n, s) from standard normal noise (s, r) or (n, s, r)."""

    @abstractmethod
    def log_prob(self, y: Tensor) -> Tensor:
        """Log-density at y (n, s, r) or (s, r), (n, s)."""

    @property
    def mean(self) -> Tensor | None:
        """Mean (n, r) where it is known without draws."""
        return None

    def divergence(self, prior: Gaussian) -> Tensor | None:
        """Kullback-Leibler divergence to a Gaussian, (n,), where it has a closed form."""
        return None


@dataclass(frozen=True, eq=False)
class DiagonalRows(Rows):
    """Gaussians of means (n, r) and standard deviations (n, r)."""

    location: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        return self.location

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.location[:, None] + self.scale[:, None] * noise, _log_normal(noise, self.scale.log().sum(1))

    def log_prob(self, y: Tensor) -> Tensor:
        return _log_normal((y - self.location[:, None]) / self.scale[:, None], self.scale.log().sum(1))

    def divergence(self, prior: Gaussian) -> Tensor:
        trace = self.scale.square() @ prior.whitening.square().sum(0)
        return _divergence(prior, self.location, trace, self.scale.log().sum(1))


@dataclass(frozen=True, eq=False)
class FullRows(Rows):
    """Gaussians of means (n, r) and lower triangular factors (n, r, r) of the covariance."""

    location: Tensor
    factor: Tensor

    @property
    def mean(self) -> Tensor:
        return self.location

    def taken(self, index: Tensor) -> FullRows:
        """The Gaussians of some rows."""
        return FullRows(self.location[index], self.factor[index])

    @property
    def _log_volume(self) -> Tensor:
        return self.factor.diagonal(dim1=1, dim2=2).log().sum(1)

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.location[:, None] + noise @ self.factor.mT, _log_normal(noise, self._log_volume)

    def log_prob(self, y: Tensor) -> Tensor:
        white = torch.linalg.solve_triangular(self.factor, (y - self.location[:, None]).mT, upper=False)  # (n, r, s)
        return _log_normal(white.mT, self._log_volume)

    def divergence(self, prior: Gaussian) -> Tensor:
        trace = (prior.whitening @ self.factor).square().sum((1, 2))
        return _divergence(prior, self.location, trace, self._log_volume)


@dataclass(frozen=True, eq=False)
class PointRows(Rows):
    """All mass at one point of each row, (n, r)."""

    location: Tensor

    @property
    def mean(self) -> Tensor:
        return self.location

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        y = self.location[:, None].expand(-1, noise.shape[-2], -1)
        return y, torch.full_like(y[:, :, 0], math.inf)

    def log_prob(self, y: Tensor) -> Tensor:
        return torch.where((y == self.location[:, None]).all(2), math.inf, -math.inf)


@dataclass(frozen=True, eq=False)
class MixedRows(Rows):
    """Even mixtures of two distributions: one half of the draws is from each."""

    first: Rows
    second: Rows

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        halves = noise.tensor_split(2, dim=-2)
        y = torch.cat([rows.draw(half)[0] for rows, half in zip((self.first, self.second), halves, strict=True)], 1)
        return y, self.log_prob(y)

    def log_prob(self, y: Tensor) -> Tensor:
        return torch.logaddexp(self.first.log_prob(y), self.second.log_prob(y)) - math.log(2)


def _log_normal(white: Tensor, log_volume: Tensor) -> Tensor:
    """Log-density (n, s) of whitened points (n, s, r) or (s, r)."""
    return -0.5 * (white.square().sum(-1) + white.shape[-1] * LOG_2PI) - log_volume[:, None]


def _divergence(prior: Gaussian, location: Tensor, trace: Tensor, log_volume: Tensor) -> Tensor:
    r""":math:`\frac12 (\mathrm{tr}\, W \Sigma W^T + |W (\mu - m)|^2 - r) - \log |L| - \log |W|`, with :math:`\Sigma = L L^T`."""
    distance = ((location - prior.mean) @ prior.whitening.T).square().sum(1)
    return 0.5 * (trace + distance - location.shape[1]) - log_volume - prior.whitening.diagonal().log().sum()


class Conditional(nn.Module, ABC):
    """What an encoder's output (n, n_outputs) means."""

    def __init__(self, n_coordinates: int) -> None:
        super().__init__()
        self.n_coordinates = n_coordinates

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Width of the encoder's output."""

    @abstractmethod
    def constant(self, location: Tensor, scale: Tensor) -> Tensor:
        """An output (n_outputs,) of this location (r,), which comes first, and standard deviation (r,)."""

    @abstractmethod
    def forward(self, output: Tensor) -> Rows:
        """The distribution of each row."""


class PosteriorFamily(ABC):
    """An amortised posterior as the user chooses it: parameters only."""

    @abstractmethod
    def begin(self, n_coordinates: int, generator: torch.Generator) -> Conditional:
        """The family for r coordinates; weights of its own, if it has any, are drawn from the generator."""


def positive(free: Tensor) -> Tensor:
    """Standard deviations of free numbers."""
    return nn.functional.softplus(free) + SMALLEST_SCALE


def free_of(scale: Tensor) -> Tensor:
    """The inverse of `positive`."""
    above = (scale - SMALLEST_SCALE).clamp(min=SMALLEST_SCALE)
    return above + torch.log(-torch.expm1(-above))


class ConditionalDiagonal(Conditional):
    """Means and free standard deviations."""

    @property
    def n_outputs(self) -> int:
        return 2 * self.n_coordinates

    def constant(self, location: Tensor, scale: Tensor) -> Tensor:
        return torch.cat([location, free_of(scale)])

    def forward(self, output: Tensor) -> DiagonalRows:
        location, free = output.chunk(2, dim=1)
        return DiagonalRows(location, positive(free))


class ConditionalFull(Conditional):
    """Means and the lower triangles of the factors."""

    @property
    def n_outputs(self) -> int:
        return self.n_coordinates + self.n_coordinates * (self.n_coordinates + 1) // 2

    def constant(self, location: Tensor, scale: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(len(location), len(location), device=scale.device)
        return torch.cat([location, torch.where(rows == columns, free_of(scale)[rows], 0)])

    def forward(self, output: Tensor) -> FullRows:
        r = self.n_coordinates
        factor = output.new_zeros(len(output), r, r)
        rows, columns = torch.tril_indices(r, r, device=output.device)
        factor[:, rows, columns] = output[:, r:]
        diagonal = positive(factor.diagonal(dim1=1, dim2=2))
        return FullRows(output[:, :r], factor.tril(-1) + torch.diag_embed(diagonal))


class ConditionalPoint(Conditional):
    """Codes."""

    @property
    def n_outputs(self) -> int:
        return self.n_coordinates

    def constant(self, location: Tensor, scale: Tensor) -> Tensor:
        return location

    def forward(self, output: Tensor) -> PointRows:
        return PointRows(output)


@dataclass(frozen=True, eq=False)
class DiagonalGaussian(PosteriorFamily):
    r"""Gaussians with independent coordinates, :math:`q(y \mid x) = N(y; m(x), \mathrm{diag}(s(x)^2))`.

    Examples
    --------
    >>> import torch
    >>> from skcvae.posteriors import DiagonalGaussian
    >>> DiagonalGaussian().begin(3, torch.Generator()).n_outputs
    6
    """

    def begin(self, n_coordinates: int, generator: torch.Generator) -> ConditionalDiagonal:
        return ConditionalDiagonal(n_coordinates)


@dataclass(frozen=True, eq=False)
class FullGaussian(PosteriorFamily):
    r"""Gaussians with any covariance, :math:`q(y \mid x) = N(y; m(x), L(x) L(x)^T)`.

    Examples
    --------
    >>> import torch
    >>> from skcvae.posteriors import FullGaussian
    >>> FullGaussian().begin(3, torch.Generator()).n_outputs
    9
    """

    def begin(self, n_coordinates: int, generator: torch.Generator) -> ConditionalFull:
        return ConditionalFull(n_coordinates)


@dataclass(frozen=True, eq=False)
class Point(PosteriorFamily):
    """All mass at one code: a deterministic encoder.

    Examples
    --------
    >>> import torch
    >>> from skcvae.posteriors import Point
    >>> Point().begin(3, torch.Generator()).n_outputs
    3
    """

    def begin(self, n_coordinates: int, generator: torch.Generator) -> ConditionalPoint:
        return ConditionalPoint(n_coordinates)
