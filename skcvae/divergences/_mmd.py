"""Maximum mean discrepancy."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skcvae._checks import check_number, shown
from skcvae._kernels import squared_distances
from skcvae.divergences._base import Divergence, Measure


def inverse_multiquadratic(ratio: Tensor) -> Tensor:
    """Kernel of the squared distance in units of the width, with heavy tails."""
    return (1 + ratio).reciprocal()


def gaussian(ratio: Tensor) -> Tensor:
    """Kernel of the squared distance in units of the width, with light tails."""
    return ratio.neg().exp()


#: Kernels that have a name.
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {"imq": inverse_multiquadratic, "rbf": gaussian}


@dataclass(frozen=True, eq=False)
class MMD(Divergence):
    r"""Squared maximum mean discrepancy, estimated without bias.

    .. math::
        \frac{1}{n(n-1)} \sum_{i \ne i'} k(z_i, z_{i'}) + \frac{1}{m(m-1)} \sum_{j \ne j'} k(z'_j, z'_{j'})
        - \frac{2}{nm} \sum_{ij} k(z_i, z'_j), \qquad k(z, z') = \sum_s \frac{C_s}{C_s + |z - z'|^2}, \quad C_s = 2 r s

    The width :math:`2 r s` is s times the mean squared distance of two draws from the prior in r dimensions. The inverse
    multiquadratic kernel's heavy tails leave a gradient to codes that lie far off. The estimate may be below 0, as an unbiased
    one of a divergence that vanishes must be. The samples may differ in size; each needs two rows.

    Parameters
    ----------
    kernel : {"imq", "rbf"}, default="imq"
        The inverse multiquadratic kernel above, or :math:`\sum_s e^{-|z - z'|^2 / C_s}`.
    scales : sequence of float, default=(0.1, 0.2, 0.5, 1, 2, 5, 10)

    Examples
    --------
    >>> import torch
    >>> from skcvae.divergences import MMD
    >>> generator = torch.Generator().manual_seed(0)
    >>> z = torch.randn(500, 2, generator=generator)
    >>> distance = MMD().begin(2, generator)
    >>> near, far = distance(z[:250], z[250:]), distance(z[:250] + 1, z[250:])
    >>> bool(abs(near) < 0.03), bool(far > 0.3)
    (True, True)
    """

    fewest_rows: ClassVar[int] = 2

    kernel: str = "imq"
    scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(map(repr, KERNELS))}, got {self.kernel!r}.")
        if not (isinstance(self.scales, (Sequence, np.ndarray)) and len(self.scales) and not isinstance(self.scales, str)):
            raise ValueError(f"scales must be finite numbers above 0, such as (0.5, 1, 2), got {shown(self.scales)}.")
        for scale in self.scales:
            check_number("each of scales", scale, numbers.Real, 0, open_low=True, remedy="Give numbers such as (0.5, 1, 2).")

    def begin(self, n_coordinates: int, generator: torch.Generator) -> Measure:
        return _MeanDiscrepancy(KERNELS[self.kernel], [2 * n_coordinates * float(scale) for scale in self.scales])


class _MeanDiscrepancy(Measure):
    def __init__(self, kernel: Callable[[Tensor], Tensor], widths: list[float]) -> None:
        super().__init__()
        self.kernel, self.widths = kernel, widths

    def forward(self, codes: Tensor, draws: Tensor) -> Tensor:
        if min(len(codes), len(draws)) < 2:
            raise ValueError(f"MMD needs two rows or more, got {len(codes)} codes and {len(draws)} draws. Use larger batches.")
        within = self._similarity(torch.pdist(codes).square()) + self._similarity(torch.pdist(draws).square())
        return within - 2 * self._similarity(squared_distances(codes, draws))

    def _similarity(self, squared: Tensor) -> Tensor:
        """Mean of the kernel over the given pairs."""
        return torch.stack([self.kernel(squared / width).mean() for width in self.widths]).sum()
