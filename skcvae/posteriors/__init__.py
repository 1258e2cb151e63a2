"""Posteriors: the optimal coupling, drawn by importance-weighting prior draws, and amortised ones, drawn from an encoder."""

from skcvae.posteriors._amortised import AmortisedInference
from skcvae.posteriors._conditional import (
    SMALLEST_START,
    Conditional,
    ConditionalPoint,
    DiagonalGaussian,
    FullGaussian,
    Point,
    PosteriorFamily,
    Rows,
)
from skcvae.posteriors._coordinates import Coordinates
from skcvae.posteriors._encoder import Encoder, FromEncoder, Laplace, Refined, check_differentiable, robust_gaussian
from skcvae.posteriors._flows import PlanarFlow, SplineFlow
from skcvae.posteriors._inference import MOST_PLANES, Inference, LocalInference, PoolInference
from skcvae.posteriors._local import LARGEST_TAIL, LOCAL_DRAWS, FromPool, LocalDraws, defensive_draws
from skcvae.posteriors._pareto import pareto_k
from skcvae.posteriors._partial import DRAWS_OF_MEAN, Conditioned, Partial, patterns
from skcvae.posteriors._pool import Mixture, Pool, Scores
from skcvae.posteriors._record import Posterior, posterior

#: Amortised posteriors that have a name.
POSTERIORS: dict[str, type[PosteriorFamily]] = {
    "point": Point,
    "gaussian": DiagonalGaussian,
    "full": FullGaussian,
    "planar": PlanarFlow,
    "spline": SplineFlow,
}

__all__ = [
    "DRAWS_OF_MEAN",
    "LARGEST_TAIL",
    "LOCAL_DRAWS",
    "MOST_PLANES",
    "POSTERIORS",
    "SMALLEST_START",
    "AmortisedInference",
    "Conditional",
    "ConditionalPoint",
    "Conditioned",
    "Coordinates",
    "DiagonalGaussian",
    "Encoder",
    "FromEncoder",
    "FromPool",
    "FullGaussian",
    "Inference",
    "Laplace",
    "LocalDraws",
    "LocalInference",
    "Mixture",
    "Partial",
    "PlanarFlow",
    "Point",
    "Pool",
    "PoolInference",
    "Posterior",
    "PosteriorFamily",
    "Refined",
    "Rows",
    "Scores",
    "SplineFlow",
    "check_differentiable",
    "defensive_draws",
    "pareto_k",
    "patterns",
    "posterior",
    "robust_gaussian",
]
