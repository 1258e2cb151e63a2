"""Binary data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from skcvae.likelihoods._family import Array, Family, Likelihood, Part, mean_of_rows, x_log_x
from skcvae.likelihoods._given import BinaryGiven, columns_at, selection

#: Means closer than this to 0 or 1 are moved inside before taking their logit.
PROBABILITY_MARGIN = 0.01


class Bernoulli(Part):
    r"""Independent Bernoulli features with the decoder's output as logits.

    .. math:: \log p = t \cdot \eta - \sum \mathrm{softplus}(\eta), \qquad t = x
    """

    def check_support(self, X: Array) -> None:
        low, high = float(np.fmin.reduce(X, axis=None)), float(np.fmax.reduce(X, axis=None))
        if low < 0 or high > 1:
            raise ValueError(
                f"BernoulliLikelihood expects values in [0, 1], got values from {low:.6g} to {high:.6g}. "
                "Scale X (MinMaxScaler(clip=True)) or choose likelihood='gaussian'."
            )

    def given(self, observed: NDArray[np.bool_]) -> BinaryGiven:
        family = Bernoulli(np.zeros(int(observed.sum())), 1.0)
        return BinaryGiven(observed, family, columns_at(selection(observed)), None, None)

    def statistics(self, x: Tensor) -> Tensor:
        return x

    def carrier(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, 0])

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return output, self.log_normaliser(output)

    def log_normaliser(self, eta: Tensor) -> Tensor:
        return softplus(eta).sum(1)

    def mean_at(self, eta: Tensor) -> Tensor:
        return eta.sigmoid()

    def mean(self, output: Tensor) -> Tensor:
        return output.sigmoid()

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        p = barycentre.clamp(0, 1)
        return (x_log_x(p) + x_log_x(1 - p)).sum(1)

    def tempered(self, epsilon: float) -> Bernoulli:
        return self

    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        uniform = torch.as_tensor(rng.random(output.shape)).to(output)
        return (uniform < output.sigmoid()).to(output)

    def exact_output(self, x: Tensor) -> Tensor:
        return x.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN).logit()

    def scaled_start(self, x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        mean = mean_of_rows(x, weights).clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
        scale = (mean * (1 - mean)).sqrt()
        return x / scale, 1 / scale, mean.logit()


@dataclass(frozen=True, eq=False)
class BernoulliLikelihood(Likelihood):
    r"""Independent binary features, :math:`p(x \mid z) = \prod_l \mu_l(z)^{x_l} (1 - \mu_l(z))^{1 - x_l}`.

    Grey values in [0, 1] are accepted. Their score is then the expectation of the log-likelihood over binary data drawn with
    these values as probabilities, up to the mixing over z: a number to compare models by, not a log-density of the grey values.

    Examples
    --------
    >>> from skcvae import CoupledVAE
    >>> CoupledVAE(likelihood="bernoulli")
    CoupledVAE(likelihood='bernoulli')
    """

    def bind(self, X: Array, weights: Array | None = None) -> Family:
        family = Bernoulli(np.zeros(X.shape[1]), 1.0)
        family.check_support(X)
        if not X.var(0).any():
            raise ValueError("X has zero variance: every row is the same. Give data that vary.")
        return family
