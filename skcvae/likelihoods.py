r"""Likelihoods p(x given z) of the decoder: a small abstract class and its final classes.

Every likelihood here is an exponential family, so that its cost is bilinear,

.. math:: C(x, z) = -\log p(x \mid z) = A(z) + h(x) - t(x) \cdot \eta(z),

and the decoder's training is a regression of its mean statistics onto the plan's barycentre O(z) = E[t(x) given z]:
the semi-dual's gradient is that of the Kullback-Leibler divergence from the member of the family with mean statistics O(z)
to the decoder's. A likelihood sees the decoder's output, never z.

A likelihood that the user makes (`GaussianLikelihood`, `BernoulliLikelihood`) holds parameters only; `bind(X)` returns the
`Family` fitted to the data's location and scale, in whose standardised units x = (X - offset)/unit the tensors below are.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn.functional import softplus

Array = NDArray[np.float64]
LOG_2PI = math.log(2 * math.pi)
#: Rows whose neighbours are looked up for the default noise scale.
NEIGHBOUR_QUERIES = 1000
#: The default noise scale is at least this fraction of the data's own.
SMALLEST_SCALE = 1e-3
#: Share of a principal axis that the linear start keeps where the temperature would collapse it.
COLLAPSED_SHARE = 0.05
#: Means closer than this to 0 or 1 are moved inside before taking their logit.
PROBABILITY_MARGIN = 0.01
#: Float32 rounds a score of this size by 1e-2, a hundredth part of a weight.
LARGEST_FLOAT32_SCORE = 1e5


class Likelihood(ABC):
    """What the user chooses: parameters only."""

    @abstractmethod
    def bind(self, X: Array) -> Family:
        """The family fitted to the location and scale of data X (n, d); errors are ValueError with the remedy."""


class Family(nn.Module, ABC):
    """A bound likelihood: an exponential family in standardised units."""

    def __init__(self, offset: Array, unit: float) -> None:
        super().__init__()
        self.offset = offset
        self.unit = unit

    @property
    def n_features(self) -> int:
        """Number of features d."""
        return len(self.offset)

    @property
    def n_outputs(self) -> int:
        """Width of the decoder's output."""
        return self.n_features

    @property
    def log_volume(self) -> float:
        """Log-determinant of the map from standardised units to the data's."""
        return self.n_features * math.log(self.unit)

    def standardise(self, X: Array) -> Array:
        """(X - offset)/unit in float64, whatever the precision of X; (n, d)."""
        return (X - self.offset) / self.unit

    def restore(self, x: Array) -> Array:
        """The inverse of `standardise`."""
        return self.offset + self.unit * x

    @abstractmethod
    def statistics(self, x: Tensor) -> Tensor:
        """Sufficient statistics t(x): (n, d) -> (n, p)."""

    @abstractmethod
    def carrier(self, x: Tensor) -> Tensor:
        """The part h(x) of the cost that the decoder does not see: (n, d) -> (n,)."""

    @abstractmethod
    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Natural parameter eta (m, p) and log-normaliser A (m,) of decoder outputs (m, n_outputs)."""

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """E[x given z], (m, d)."""

    @abstractmethod
    def entropy_term(self, barycentre: Tensor) -> Tensor:
        r"""Convex conjugate :math:`A^*(O) = \sup_\eta O \cdot \eta - A(\eta)` of the log-normaliser: (m, p) -> (m,)."""

    @abstractmethod
    def tempered(self, epsilon: float) -> Family:
        """The family whose dispersion is the plan's at temperature epsilon, with the same mean."""

    @abstractmethod
    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        """One draw of x for each row of `output`, (m, d)."""

    @abstractmethod
    def linear_start(self, x: Tensor, n_components: int, epsilon: float) -> tuple[Tensor, Tensor]:
        """Weight (n_outputs, k) and bias (n_outputs,) of a linear decoder along the data's principal axes."""

    def cost(self, x: Tensor, output: Tensor) -> Tensor:
        """-log p(x given z) in nats of standardised x for every pair, (n, m); for small problems."""
        eta, normaliser = self.natural(output)
        return normaliser + self.carrier(x)[:, None] - self.statistics(x) @ eta.T

    def training_dtype(self, x: Tensor, epsilon: float) -> torch.dtype:
        """float32 unless the scores t . eta/epsilon are so large that its rounding would show in the plan."""
        with torch.no_grad():
            eta = self.natural(self.exact_output(x))[0]
            largest = float((self.statistics(x) * eta).abs().sum(1).max()) / epsilon
        return torch.float32 if largest < LARGEST_FLOAT32_SCORE else torch.float64

    @abstractmethod
    def exact_output(self, x: Tensor) -> Tensor:
        """Decoder outputs whose mean is x itself (as far as it can be), (n, n_outputs)."""

    def divergence(self, output: Tensor, barycentre: Tensor) -> Tensor:
        r"""Kullback-Leibler divergence :math:`A(\eta) + A^*(O) - O \cdot \eta` from barycentre to decoder, in nats, (m,)."""
        eta, normaliser = self.natural(output)
        return (normaliser + self.entropy_term(barycentre) - (barycentre * eta).sum(1)).clamp(min=0)


class _GaussianFamily(Family):
    def mean(self, output: Tensor) -> Tensor:
        return output[:, : self.n_features]

    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        mean = self.mean(output)
        return mean + self.deviation(output) * torch.as_tensor(rng.standard_normal(mean.shape)).to(mean)

    def exact_output(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x)], 1)[:, : self.n_outputs]

    @abstractmethod
    def deviation(self, output: Tensor) -> Tensor:
        """Standard deviation of x given z, broadcastable to (m, d)."""

    @abstractmethod
    def typical_deviation(self) -> Tensor:
        """The deviation that the linear start counts with, (d,) or scalar."""

    def linear_start(self, x: Tensor, n_components: int, epsilon: float) -> tuple[Tensor, Tensor]:
        return self._axes(x, n_components, epsilon)

    def _axes(self, x: Tensor, n_components: int, epsilon: float) -> tuple[Tensor, Tensor]:
        scale = self.typical_deviation().expand(x.shape[1])
        return scale[:, None] * _shrunk_axes(x / scale, n_components, epsilon), x.mean(0)


class FixedGaussian(_GaussianFamily):
    r"""Gaussian with a scale that is not trained, :math:`N(x; \mu(z), \mathrm{diag}(\sigma^2))`, t = x.

    Parameters
    ----------
    offset : array of shape (d,)
    unit : float
    scale : Tensor, scalar or (d,), in standardised units
    """

    scale: Tensor

    def __init__(self, offset: Array, unit: float, scale: Tensor) -> None:
        super().__init__(offset, unit)
        self.register_buffer("scale", scale)

    def statistics(self, x: Tensor) -> Tensor:
        return x

    def carrier(self, x: Tensor) -> Tensor:
        log_scale = self.scale.log().expand(x.shape[1]).sum()
        return 0.5 * (x / self.scale).square().sum(1) + log_scale + 0.5 * x.shape[1] * LOG_2PI

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return output / self.scale.square(), 0.5 * (output / self.scale).square().sum(1)

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        return 0.5 * (barycentre / self.scale).square().sum(1)

    def divergence(self, output: Tensor, barycentre: Tensor) -> Tensor:
        """Half the squared distance in units of the scale: the same number as the general formula, without its rounding."""
        return 0.5 * ((output - barycentre) / self.scale).square().sum(1)

    def tempered(self, epsilon: float) -> FixedGaussian:
        return FixedGaussian(self.offset, self.unit, self.scale * math.sqrt(epsilon))

    def deviation(self, output: Tensor) -> Tensor:
        return self.scale

    def typical_deviation(self) -> Tensor:
        return self.scale


class LearnedGaussian(_GaussianFamily):
    r"""Gaussian with a trained scale that does not depend on z, t = (x, x^2).

    Parameters
    ----------
    offset : array of shape (d,)
    unit : float
    start : Tensor of shape (s,), the scale that training starts from: s = 1 for one scale, d for one each feature
    floor : Tensor of shape (s,), the smallest scale
    temperature : float, factor of the variance
    """

    floor: Tensor

    def __init__(self, offset: Array, unit: float, start: Tensor, floor: Tensor, temperature: float = 1.0) -> None:
        super().__init__(offset, unit)
        self.register_buffer("floor", floor)
        self.free = nn.Parameter(_inverse_softplus((start / floor - 1).clamp(min=1e-3)))
        self.temperature = temperature

    @property
    def scale(self) -> Tensor:
        """The scale, floor (1 + softplus(free)), of shape (s,)."""
        return self.floor * (1 + softplus(self.free)) * math.sqrt(self.temperature)

    def statistics(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.square()], 1)

    def carrier(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, 0])

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return _gaussian_natural(output, self.scale.expand(output.shape))

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        return _gaussian_entropy_term(barycentre, SMALLEST_SCALE * self.floor)

    def tempered(self, epsilon: float) -> LearnedGaussian:
        family = LearnedGaussian(self.offset, self.unit, self.floor, self.floor, self.temperature * epsilon)
        family.free = self.free
        return family

    def deviation(self, output: Tensor) -> Tensor:
        return self.scale

    def typical_deviation(self) -> Tensor:
        return self.scale.detach()


class NetworkGaussian(_GaussianFamily):
    r"""Gaussian whose mean and scale are both outputs of the decoder, t = (x, x^2), Proposition 3.1 with a floor.

    Parameters
    ----------
    offset : array of shape (d,)
    unit : float
    start : Tensor of shape (1,), the scale at a decoder output of zero
    floor : Tensor of shape (1,), the smallest scale
    temperature : float, factor of the variance
    """

    floor: Tensor
    shift: Tensor

    def __init__(self, offset: Array, unit: float, start: Tensor, floor: Tensor, temperature: float = 1.0) -> None:
        super().__init__(offset, unit)
        self.register_buffer("floor", floor)
        self.register_buffer("start", start)
        self.register_buffer("shift", _inverse_softplus((start / floor - 1).clamp(min=1e-3)))
        self.temperature = temperature

    @property
    def n_outputs(self) -> int:
        return 2 * self.n_features

    def statistics(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.square()], 1)

    def carrier(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, 0])

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return _gaussian_natural(self.mean(output), self.deviation(output))

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        return _gaussian_entropy_term(barycentre, SMALLEST_SCALE * self.floor)

    def tempered(self, epsilon: float) -> NetworkGaussian:
        return NetworkGaussian(self.offset, self.unit, self.start, self.floor, self.temperature * epsilon)

    def deviation(self, output: Tensor) -> Tensor:
        free = output[:, self.n_features :]
        return self.floor * (1 + softplus(free + self.shift)) * math.sqrt(self.temperature)

    def typical_deviation(self) -> Tensor:
        return self.start

    def linear_start(self, x: Tensor, n_components: int, epsilon: float) -> tuple[Tensor, Tensor]:
        weight, bias = self._axes(x, n_components, epsilon)
        return torch.cat([weight, torch.zeros_like(weight)]), torch.cat([bias, torch.zeros_like(bias)])


class Bernoulli(Family):
    r"""Independent Bernoulli features with the decoder's output as logits, :math:`\log p = t \cdot \eta - \sum \mathrm{softplus}(\eta)`, t = x."""

    def statistics(self, x: Tensor) -> Tensor:
        return x

    def carrier(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, 0])

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return output, softplus(output).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        return output.sigmoid()

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        p = barycentre.clamp(0, 1)
        return (torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum(1)

    def tempered(self, epsilon: float) -> Bernoulli:
        return self

    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        uniform = torch.as_tensor(rng.random(output.shape)).to(output)
        return (uniform < output.sigmoid()).to(output)

    def exact_output(self, x: Tensor) -> Tensor:
        return x.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN).logit()

    def linear_start(self, x: Tensor, n_components: int, epsilon: float) -> tuple[Tensor, Tensor]:
        mean = x.mean(0).clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
        scale = (mean * (1 - mean)).sqrt()
        return _shrunk_axes(x / scale, n_components, epsilon) / scale[:, None], mean.logit()


@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    r"""Gaussian noise around the decoder's mean, :math:`p(x \mid z) = N(x; \mu(z), \sigma^2 I)`.

    Only the temperature :math:`T = \epsilon \sigma^2` matters to the coupling: directions in which the data vary by less
    than T are left to the noise.

    Parameters
    ----------
    scale : {"auto", "per_feature", "learned", "learned_per_feature", "network"}, float or array of shape (d,)
        - "auto": one fixed scale, a function of X alone: :math:`\sigma^2` is the median over rows of the squared distance to
          the :math:`\lceil\sqrt n\rceil`-th nearest neighbour, divided by the number of features that vary.
        - "per_feature": fixed, the same after dividing every feature by its standard deviation.
        - float or array: fixed, in the units of X, one for all features or one each.
        - "learned", "learned_per_feature": trained with the decoder from "auto" or "per_feature".
        - "network": :math:`\sigma(z)`, one each feature, a second output of the decoder.
    floor : float, default=0.3
        Smallest scale that is learned, as a multiple of the one that it starts from. With as many components as features a
        learned scale has no interior optimum, so it needs one.

    Examples
    --------
    >>> from skcvae import CoupledVAE
    >>> from skcvae.likelihoods import GaussianLikelihood
    >>> CoupledVAE(likelihood=GaussianLikelihood(scale=0.1))
    CoupledVAE(likelihood=GaussianLikelihood(scale=0.1, floor=0.3))
    """

    scale: str | float | ArrayLike = "auto"
    floor: float = 0.3

    def bind(self, X: Array) -> Family:
        offset, unit = X.mean(0), float(np.sqrt(X.var(0).mean()))
        if not unit > 0:
            raise ValueError("X has zero variance: every row is the same. Give data that vary.")
        start = torch.as_tensor(self._start(X) / unit)
        if not isinstance(self.scale, str) or self.scale in ("auto", "per_feature"):
            return FixedGaussian(offset, unit, start)
        family = NetworkGaussian if self.scale == "network" else LearnedGaussian
        return family(offset, unit, start, self._checked_floor() * start)

    def _start(self, X: Array) -> Array:
        if self.scale in _AUTOMATIC:
            deviation = X.std(0)
            deviation[deviation == 0] = deviation[deviation > 0].min()
            per_feature = "per_feature" in str(self.scale)
            return deviation * noise_scale(X / deviation) if per_feature else np.atleast_1d(noise_scale(X))
        return _checked_scale(self.scale, X.shape[1])

    def _checked_floor(self) -> float:
        if not 0 < self.floor <= 1:
            raise ValueError(f"floor must be a multiple of the starting scale in (0, 1], got {self.floor!r}. Use 0.3.")
        return self.floor


#: Scales that are functions of X.
_AUTOMATIC = ("auto", "per_feature", "learned", "learned_per_feature", "network")


@dataclass(frozen=True)
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

    def bind(self, X: Array) -> Family:
        low, high = float(X.min()), float(X.max())
        if low < 0 or high > 1:
            raise ValueError(
                f"BernoulliLikelihood expects values in [0, 1], got values from {low:.6g} to {high:.6g}. "
                "Scale X (MinMaxScaler) or choose likelihood='gaussian'."
            )
        if not X.var(0).any():
            raise ValueError("X has zero variance: every row is the same. Give data that vary.")
        return Bernoulli(np.zeros(X.shape[1]), 1.0)


#: Likelihoods that have a name.
LIKELIHOODS: dict[str, type[Likelihood]] = {"gaussian": GaussianLikelihood, "bernoulli": BernoulliLikelihood}


def noise_scale(X: Array) -> float:
    r"""Distance per feature below which neighbours are taken for noise; a function of X alone, equivariant to its scale.

    .. math:: \sigma^2 = \mathrm{median}_i \; r_i^2 / d', \qquad r_i = \text{distance of } x_i \text{ to its }
              \lceil\sqrt n\rceil\text{-th nearest neighbour}

    with d' the number of features that vary. At least 1e-3 of the root mean square deviation.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.likelihoods import noise_scale
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> bool(np.isclose(noise_scale(10 * X), 10 * noise_scale(X)))
    True
    """
    deviation = X.std(0)
    n_neighbours = min(len(X) - 1, math.ceil(math.sqrt(len(X))))
    queries = X[:: max(1, len(X) // NEIGHBOUR_QUERIES)]
    centred = NearestNeighbors(n_neighbors=n_neighbours + 1).fit(X - X.mean(0))
    distance = centred.kneighbors(queries - X.mean(0))[0][:, -1]
    varying = max(1, np.count_nonzero(deviation))
    smallest = SMALLEST_SCALE * math.sqrt(np.square(deviation).mean())
    return max(float(np.median(distance)) / math.sqrt(varying), smallest)


def _checked_scale(scale: object, n_features: int) -> Array:
    expected = f"scale must be one of {', '.join(_AUTOMATIC)}, a positive number or {n_features} of them"
    try:
        values = np.atleast_1d(np.asarray(scale, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(f"{expected}; got {scale!r}.") from None
    if values.shape not in ((1,), (n_features,)) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"{expected}; got {scale!r}.")
    return values


def _shrunk_axes(x: Tensor, n_components: int, epsilon: float) -> Tensor:
    r"""Principal axes :math:`V \sqrt{\max(\lambda - \epsilon, \lambda/20)}`, the optimum of a linear decoder; (d, k)."""
    centred = x - x.mean(0)
    _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    variance = singular.square() / len(x)
    length = torch.maximum(variance - epsilon, COLLAPSED_SHARE * variance).sqrt()
    used = min(n_components, len(length))
    weight = torch.zeros(x.shape[1], n_components, dtype=x.dtype, device=x.device)
    weight[:, :used] = (axes * _signs(axes) * length[:, None])[:used].T
    return weight


def _signs(axes: Tensor) -> Tensor:
    """Signs that make the largest entry of each axis positive, so that the start does not depend on the SVD's choice."""
    largest = axes.abs().argmax(1, keepdim=True)
    return axes.gather(1, largest).sign()


def _gaussian_natural(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    precision = deviation.square().reciprocal()
    normaliser = (0.5 * mean.square() * precision + deviation.log()).sum(1) + 0.5 * mean.shape[1] * LOG_2PI
    return torch.cat([mean * precision, -0.5 * precision], 1), normaliser


def _gaussian_entropy_term(barycentre: Tensor, smallest: Tensor) -> Tensor:
    first, second = barycentre.chunk(2, dim=1)
    variance = torch.maximum(second - first.square(), smallest.square())
    return -0.5 * (variance.log() + 1 + LOG_2PI).sum(1)


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
