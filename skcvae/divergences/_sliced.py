"""The sliced Wasserstein distance."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import torch
from torch import Tensor

from skcvae._checks import check_number
from skcvae.divergences._base import Divergence, Measure


@dataclass(frozen=True, eq=False)
class SlicedWasserstein(Divergence):
    r"""Squared 2-Wasserstein distance of one-dimensional projections, averaged over random directions.

    .. math:: \frac1L \sum_{l=1}^L \int_0^1 \left(F_l^{-1}(t) - G_l^{-1}(t)\right)^2 dt

    with F and G the distribution functions of the codes and the draws along direction l, uniform on the unit sphere and fresh at
    every call. The integral is exact for samples of any sizes; equal ones are paired in sorted order.

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
        widths, rows, others = (tensor.to(codes.device) for tensor in _common_steps(len(codes), len(draws)))
        gaps = (codes @ directions).sort(0).values[rows] - (draws @ directions).sort(0).values[others]
        return widths.to(codes) @ gaps.square().mean(1)

    def _directions(self, n_coordinates: int) -> Tensor:
        """Unit columns, drawn in double precision so that a seed means the same in any other, (r, n_projections)."""
        normal = torch.randn(n_coordinates, self.n_projections, generator=self.generator, dtype=torch.float64)
        return normal / normal.norm(dim=0)


def _common_steps(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Intervals of [0, 1] on which the quantile functions of n and of m points are both constant.

    Returns
    -------
    widths : Tensor of shape (p,), their lengths
    rows, others : Tensor of shape (p,), the ranks of the points, from 0, that are the quantiles there
    """
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1/(nm)
    widths = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    return widths, (ends - 1) // m, (ends - 1) // n
