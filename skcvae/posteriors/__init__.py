r"""The coupled posterior: the optimal coupling, drawn by importance-weighting a cached pool of prior draws."""

from skcvae.posteriors._pareto import pareto_k
from skcvae.posteriors._pool import Pool, Scores
from skcvae.posteriors._record import Posterior, posterior, resample

__all__ = ["Pool", "Posterior", "Scores", "pareto_k", "posterior", "resample"]
