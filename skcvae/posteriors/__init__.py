"""The coupled posterior: the optimal coupling, drawn by importance-weighting prior draws, or a proposal of each row's own."""

from skcvae.posteriors._inference import Inference, LocalInference, PoolInference, in_precision
from skcvae.posteriors._pareto import pareto_k
from skcvae.posteriors._pool import Pool, Scores
from skcvae.posteriors._proposal import GaussianProposal, defensive_draws
from skcvae.posteriors._record import Posterior, posterior

__all__ = [
    "GaussianProposal",
    "Inference",
    "LocalInference",
    "Pool",
    "PoolInference",
    "Posterior",
    "Scores",
    "defensive_draws",
    "in_precision",
    "pareto_k",
    "posterior",
]
