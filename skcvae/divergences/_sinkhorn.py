"""The Sinkhorn divergence: entropic transport without its bias."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import torch
from torch import Tensor

from skcvae._checks import check_number
from skcvae._kernels import softmin, squared_distances
from skcvae.divergences._base import Divergence, Measure

#: Factor of over-relaxation; 1 is Sinkhorn's step, which needs two to four times the iterations of 1.7.
RELAXATION = 1.7


@dataclass(frozen=True, eq=False)
class SinkhornDivergence(Divergence):
    r"""Entropic optimal transport, less what it costs to transport each sample to itself.

    .. math::
        S = \mathrm{OT}(a, b) - \tfrac12 \mathrm{OT}(a, a) - \tfrac12 \mathrm{OT}(b, b), \qquad
        \mathrm{OT}(a, b) = \min_P \sum_{ij} P_{ij} |z_i - z'_j|^2 + \epsilon\, \mathrm{KL}(P \| a \otimes b)

    over plans P of mass 1 with the two samples as marginals. S is not negative and vanishes only for equal samples; between the
    squared Wasserstein distance (small epsilon) and the squared distance of the means (large). The samples may differ in size.

    The potentials are found without gradient, and one further step of Sinkhorn's gives the value and, by the envelope theorem,
    its gradient. They start from those of the samples with themselves, which are the solution when the samples are equal; the
    distance of the means is split off exactly. Potentials that are not converged give a value too small by the order of the
    error's square.

    Parameters
    ----------
    epsilon : float, default=0.1
        Temperature, in units of squared standard deviations of the prior.
    tol : float, default=0.01
        Mean relative error of the marginals that counts as converged.
    max_iter : int, default=200
        Most iterations for each of the three transport problems.

    Examples
    --------
    >>> import torch
    >>> from skcvae.divergences import SinkhornDivergence
    >>> generator = torch.Generator().manual_seed(0)
    >>> z = torch.randn(100, 2, generator=generator)
    >>> distance = SinkhornDivergence().begin(2, generator)
    >>> abs(round(distance(z, z).item(), 3)), round(distance(z + 1, z).item(), 3)
    (0.0, 2.0)
    """

    epsilon: float = 0.1
    tol: float = 0.01
    max_iter: int = 200

    def __post_init__(self) -> None:
        check_number(
            "epsilon",
            self.epsilon,
            numbers.Real,
            0,
            open_low=True,
            remedy="0.1 suits standardised codes; lower is sharper and takes more iterations.",
        )
        check_number("tol", self.tol, numbers.Real, 0, open_low=True, remedy="0.01 is enough for training.")
        check_number("max_iter", self.max_iter, numbers.Integral, 1, remedy="A few hundred are enough for training.")

    def begin(self, n_coordinates: int, generator: torch.Generator) -> Measure:
        return _Debiased(self)


class _Debiased(Measure):
    def __init__(self, chosen: SinkhornDivergence) -> None:
        super().__init__()
        self.chosen = chosen

    def forward(self, codes: Tensor, draws: Tensor) -> Tensor:
        shift = (codes.mean(0) - draws.mean(0)).square().sum()
        codes, draws = codes - codes.mean(0), draws - draws.mean(0)
        own, other, cross = (self._scores(*pair) for pair in ((codes, codes), (draws, draws), (codes, draws)))
        f, g = self._symmetric(own), self._symmetric(other)
        between = self._value(cross, self._cross(cross, f, g))
        return shift + between - (self._value(own, f) + self._value(other, g)) / 2

    def _scores(self, a: Tensor, b: Tensor) -> Tensor:
        """Minus the cost, in units of epsilon, as the potentials are too."""
        return squared_distances(a, b) / -self.chosen.epsilon

    def _value(self, scores: Tensor, potential: Tensor) -> Tensor:
        """The semi-dual at the columns' potential."""
        return self.chosen.epsilon * (softmin(scores, potential).mean() + potential.mean())

    @torch.no_grad()
    def _symmetric(self, scores: Tensor) -> Tensor:
        """The one potential of a sample with itself, by averaged steps: each at least halves the error near the solution."""
        potential = torch.zeros_like(scores[0])
        for _ in range(self.chosen.max_iter):
            step = softmin(scores, potential) - potential
            potential = potential + step / 2
            if step.abs().mean() <= self.chosen.tol:
                break
        return potential

    @torch.no_grad()
    def _cross(self, scores: Tensor, f: Tensor, g: Tensor) -> Tensor:
        """The potential of the columns, from those of both sides, by over-relaxed steps in turn."""
        transposed = scores.T.contiguous()
        for _ in range(self.chosen.max_iter):
            f = f + _relaxed(softmin(scores, g) - f)
            step = softmin(transposed, f) - g
            if step.abs().mean() <= self.chosen.tol:
                break  # before the step: equal samples keep the same potential in all three problems
            g = g + _relaxed(step)
        return g


def _relaxed(step: Tensor) -> Tensor:
    r"""Sinkhorn's step d and what is taken beyond it: less of a rise than of a fall, so that the dual never decreases.

    Beyond the maximum by x, one coordinate of the dual lies :math:`L(x) = e^x - 1 - x` below it, and it starts from
    :math:`L(-d)`; for d > 0, :math:`L(\log(1 + d)) \le L(-d)`, where :math:`L(d)` would be larger.
    """
    return step + (RELAXATION - 1) * torch.where(step > 0, step.clamp(min=0).log1p(), step)
