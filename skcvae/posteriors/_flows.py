"""Normalising flows: posteriors that are not Gaussian."""

from __future__ import annotations

import math
import numbers
import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skcvae._checks import check_number
from skcvae._context import float32_by_default
from skcvae._random import seeded
from skcvae.posteriors._conditional import Conditional, ConditionalDiagonal, DiagonalRows, PosteriorFamily, Rows

#: Halvings of the bracket in which a planar layer's inverse lies, and Newton steps after them.
HALVINGS, NEWTON_STEPS = 30, 3
#: softplus(SHIFT) = 1, so that weights of zero are the identity.
SHIFT = math.log(math.e - 1)
#: Width of what a spline flow sees of a row.
CONTEXT = 32
#: Held while zuko is imported.
_IMPORTING = threading.Lock()


@dataclass(frozen=True, eq=False)
class PlanarRows(Rows):
    """Gaussians pushed through L planar layers of each row's own: u, w (n, L, r), b (n, L)."""

    base: DiagonalRows
    u: Tensor
    w: Tensor
    b: Tensor

    def _layers(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """For each layer u, w (n, 1, r), b and w . u (n, 1)."""
        slopes = (self.u * self.w).sum(2)
        parts = zip(self.u.unbind(1), self.w.unbind(1), self.b.unbind(1), slopes.unbind(1), strict=True)
        return [(u[:, None], w[:, None], b[:, None], slope[:, None]) for u, w, b, slope in parts]

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        y, log_q = self.base.draw(noise)
        for u, w, b, slope in self._layers():
            bent = torch.tanh((y * w).sum(2) + b)
            y, log_q = y + u * bent[:, :, None], log_q - torch.log1p(slope * (1 - bent.square()))
        return y, log_q

    def log_prob(self, y: Tensor) -> Tensor:
        y, log_volume = y.expand(len(self.b), -1, -1), torch.zeros_like(self.b[:, :1])
        for u, w, b, slope in reversed(self._layers()):
            bent = torch.tanh(_inverted((y * w).sum(2), slope, b) + b)
            y, log_volume = y - u * bent[:, :, None], log_volume + torch.log1p(slope * (1 - bent.square()))
        return self.base.log_prob(y) - log_volume


def _inverted(level: Tensor, slope: Tensor, b: Tensor) -> Tensor:
    """The root a of a + slope tanh(a + b) = level, which increases in a: by halving its bracket, then Newton's steps."""
    low, high = level - slope.abs(), level + slope.abs()
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        above = middle + slope * torch.tanh(middle + b) > level
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    root = 0.5 * (low + high)
    for _ in range(NEWTON_STEPS):
        bent = torch.tanh(root + b)
        root = root - (root + slope * bent - level) / (1 + slope * (1 - bent.square()))
    return root


class ConditionalPlanar(Conditional):
    """A Gaussian, then u, w and b of every layer."""

    def __init__(self, n_coordinates: int, n_layers: int) -> None:
        super().__init__(n_coordinates)
        self.n_layers = n_layers
        self.base = ConditionalDiagonal(n_coordinates)

    @property
    def n_outputs(self) -> int:
        return self.base.n_outputs + self.n_layers * (2 * self.n_coordinates + 1)

    def constant(self, location: Tensor, scale: Tensor) -> Tensor:
        return _padded(self.base.constant(location, scale), self.n_outputs)

    def forward(self, output: Tensor) -> PlanarRows:
        r, n_layers = self.n_coordinates, self.n_layers
        base, free, w, b = output.split([self.base.n_outputs, r * n_layers, r * n_layers, n_layers], 1)
        free, w = free.unflatten(1, (n_layers, r)), w.unflatten(1, (n_layers, r))
        return PlanarRows(self.base(base), _invertible(free, w), w, b)


def _invertible(free: Tensor, w: Tensor) -> Tensor:
    r"""u of a layer with :math:`w \cdot u = \mathrm{softplus}(w \cdot \mathrm{free} + c) - 1 > -1`."""
    slope = (free * w).sum(2, keepdim=True)
    return free + _rise(slope) * w / w.square().sum(2, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)


def _rise(slope: Tensor) -> Tensor:
    r""":math:`\mathrm{softplus}(s + c) - 1 - s`, near s = 0 without its rounding, which small weights would blow up."""
    near = torch.log1p(torch.expm1(-slope.clamp(min=-1)) / math.e)
    return torch.where(slope > -1, near, nn.functional.softplus(slope + SHIFT) - 1 - slope)


@dataclass(frozen=True, eq=False)
class PlanarFlow(PosteriorFamily):
    r"""A Gaussian pushed through planar layers, all of them functions of the row.

    .. math:: y \mapsto y + u \tanh(w \cdot y + b), \qquad w \cdot u > -1

    Parameters
    ----------
    n_layers : int, default=10

    References
    ----------
    D. Rezende and S. Mohamed, Variational inference with normalizing flows, 2015. Its constraint on u is shifted here so that
    weights of zero are the identity.

    Examples
    --------
    >>> import torch
    >>> from skcvae.posteriors import PlanarFlow
    >>> PlanarFlow(n_layers=4).begin(3, torch.Generator()).n_outputs
    34
    """

    n_layers: int = 10

    def __post_init__(self) -> None:
        check_number("n_layers", self.n_layers, numbers.Integral, 1)

    def begin(self, n_coordinates: int, generator: torch.Generator) -> ConditionalPlanar:
        return ConditionalPlanar(n_coordinates, int(self.n_layers))


@dataclass(frozen=True, eq=False)
class SplineRows(Rows):
    """Gaussians whose noise is bent by the flow of each row first."""

    base: DiagonalRows
    flow: Any

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        noise = noise.expand(len(self.base.location), -1, -1)
        bent, log_volume = self.flow.transform.inv.call_and_ladj(noise.transpose(0, 1))
        y, log_q = self.base.draw(noise)
        shift = self.base.scale[:, None] * (bent.transpose(0, 1) - noise)
        return y + shift, log_q - log_volume.T

    def log_prob(self, y: Tensor) -> Tensor:
        white = (y - self.base.location[:, None]) / self.base.scale[:, None]
        return self.flow.log_prob(white.transpose(0, 1)).T - self.base.scale.log().sum(1)[:, None]


class ConditionalSpline(Conditional):
    """A Gaussian, then what the flow sees of the row."""

    def __init__(self, n_coordinates: int, flow: nn.Module) -> None:
        super().__init__(n_coordinates)
        self.base = ConditionalDiagonal(n_coordinates)
        self.flow = flow

    @property
    def n_outputs(self) -> int:
        return self.base.n_outputs + CONTEXT

    def constant(self, location: Tensor, scale: Tensor) -> Tensor:
        return _padded(self.base.constant(location, scale), self.n_outputs)

    def forward(self, output: Tensor) -> SplineRows:
        base, context = output.split([self.base.n_outputs, CONTEXT], 1)
        return SplineRows(self.base(base), self.flow(context))


@dataclass(frozen=True, eq=False)
class SplineFlow(PosteriorFamily):
    """A Gaussian whose noise goes through an autoregressive neural spline flow of the zuko library.

    Parameters
    ----------
    n_transforms : int, default=2
    n_bins : int, default=8

    References
    ----------
    C. Durkan, A. Bekasov, I. Murray and G. Papamakarios, Neural spline flows, 2019.
    """

    n_transforms: int = 2
    n_bins: int = 8

    def __post_init__(self) -> None:
        check_number("n_transforms", self.n_transforms, numbers.Integral, 1)
        check_number("n_bins", self.n_bins, numbers.Integral, 1)

    def begin(self, n_coordinates: int, generator: torch.Generator) -> ConditionalSpline:
        flows = _zuko_flows()
        with seeded(int(torch.randint(2**62, (), generator=generator))), float32_by_default():
            flow = flows.NSF(n_coordinates, CONTEXT, transforms=int(self.n_transforms), bins=int(self.n_bins))
        return ConditionalSpline(n_coordinates, flow)


def _zuko_flows() -> Any:
    """The library's module; the validation of distributions, which its import turns off for all of torch, is put back.

    One thread at a time: another would take what the import has turned off for what was there before.
    """
    with _IMPORTING:
        before = Distribution._validate_args
        try:
            import zuko.flows
        except ImportError:
            text = "SplineFlow needs the library zuko: pip install 'skcvae[flows]', or choose encoder='planar'."
            raise ImportError(text) from None
        finally:
            Distribution._validate_args = before
        return zuko.flows


def _padded(outputs: Tensor, size: int) -> Tensor:
    return nn.functional.pad(outputs, (0, size - len(outputs)))
