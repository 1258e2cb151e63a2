"""What is minimised: one function a formula, no loops."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from torch import Tensor

from skcvae._checks import LARGEST_WEIGHT, check_number
from skcvae.likelihoods import Family

#: A weight this near to 0 is 0.
ROUNDING = 1e-12


def coupled(family: Family, output: Tensor, barycentre: Tensor, mass: Tensor, epsilon: float) -> Tensor:
    r"""The decoder's part of the dual at a solved potential, in units of the temperature; a scalar.

    .. math:: \frac1\epsilon \sum_j \mu_j D_j, \qquad D_j = A(\eta_j) + A^*(O_j) - O_j \cdot \eta_j

    with :math:`\mu_j` the plan's mass in column j, 1/m for m draws and a hard marginal. Its gradient at fixed barycentres is that
    of :math:`J/\epsilon` at fixed f (Proposition 3.2, with the derivative inside the expectation): no gradient flows through the
    plan. As a number it is the residual between decoder and barycentre.
    """
    return (mass * family.divergence(output, barycentre)).sum() / epsilon


def robust_coupled(family: Family, output: Tensor, barycentre: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    r"""Regression onto the barycentres of a frozen plan that grows linearly at the borders between cells; a scalar.

    .. math:: \frac1m \sum_j w_j \left(\sqrt{1 + 2 D_j/\epsilon} - 1\right)

    The barycentre is a function of z, so every loss with its minimum at :math:`D_j = 0` has the same solution.
    """
    return (weight * ((1 + 2 * family.divergence(output, barycentre) / epsilon).sqrt() - 1)).mean()


def autoencoding(
    log_likelihood: Tensor, kl: Tensor, divergence: Tensor | float, kl_weight: float, divergence_weight: float
) -> Tensor:
    r"""What every model with an encoder minimises, in nats; a scalar.

    .. math:: \frac1b \sum_i \big( -E_{q(z \mid x_i)} \log p(x_i \mid z) + w_1\, \mathrm{KL}(q(z \mid x_i) \| p(z)) \big)
              + w_2\, D(q(z), p(z))

    with :math:`(w_1, w_2)` = :math:`(\beta, 0)` for a VAE, (0, penalty) for a WAE, and for an InfoVAE
    :math:`(1 - \alpha, \alpha + \lambda - 1)` (equations 2 to 5).
    """
    loss = -log_likelihood.mean() + divergence_weight * divergence
    return loss + kl_weight * kl.mean() if kl_weight else loss


def infovae_weights(alpha: Any, lambd: Any, infinite: bool = False) -> tuple[float, float]:
    """The weights 1 - alpha and alpha + lambd - 1 of an InfoVAE; ValueError where one is negative by more than rounding."""
    alpha = check_number("alpha", alpha, numbers.Real, -LARGEST_WEIGHT, high=1)
    lambd = check_number(
        "lambd", lambd, numbers.Real, -LARGEST_WEIGHT, high=np.inf if infinite else LARGEST_WEIGHT, infinite=infinite
    )
    excess = alpha + lambd - 1.0
    if excess < -ROUNDING:
        raise ValueError(
            f"alpha + lambd must be at least 1, got {alpha:g} + {lambd:g}: their sum less 1 weighs the divergence of the aggregate "
            "posterior. Raise lambd."
        )
    return 1.0 - alpha, excess if excess > ROUNDING else 0.0
