"""The sliced Wasserstein distance."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import torch
from torch import Tensor

from skcvae import _pot
from skcvae._checks import check_number
from skcvae.divergences._base import Divergence, Measure


@dataclass(frozen=True, eq=False)
class SlicedWasserstein(Divergence):
    r"""Squared 2-Wasserstein distance of one-dimensional projections, averaged over random directions.

    .. math:: \frac1L \sum_{l=1}^L \int_0^1 \left(F_l^{-1}(t) - G_l^{-1}(t)\right)^2 dt

    with F and G the distribution functions of the codes and the draws along direction l, uniform on the unit sphere and fresh at
    every call. The integral is exact for samples of any sizes; it is POT's ``ot.wasserstein_1d``.

    Parameters
    ----------
    n_projections : int, default=50

    Examples
    --------
    >>> import torch
    >>> from skcvae.divergences import SlicedWasserstein
    >>> generator = torch.Generator().manual_seed(0)
    >>> z = torch.randn(100, 2, generator=generator)
    >>> distance = SlicedWasserstein(1000).begin(2, generator)
    >>> distance(z, z).item(), round(distance(z + 1, z).item(), 1)
    (0.0, 1.0)
    """

    n_projections: int = 50

    def __post_init__(self) -> None:
        check_number(
            "n_projections",
            self.n_projections,
            numbers.Integral,
            1,
            remedy="50 suit a few coordinates; more of either make it less noisy.",
        )

    def begin(self, n_coordinates: int, generator: torch.Generator) -> Measure:
        return _Projected(int(self.n_projections), generator)


class _Projected(Measure):
    def __init__(self, n_projections: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_projections, self.generator = n_projections, generator

    def forward(self, codes: Tensor, draws: Tensor) -> Tensor:
        directions = self._directions(codes.shape[1]).to(codes)
        return _pot.squared_wasserstein_1d(codes @ directions, draws @ directions).mean()

    def _directions(self, n_coordinates: int) -> Tensor:
        """Unit columns, drawn in double precision so that a seed means the same in any other, (r, n_projections)."""
        normal = torch.randn(n_coordinates, self.n_projections, generator=self.generator, dtype=torch.float64)
        return normal / normal.norm(dim=0)
