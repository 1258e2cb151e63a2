"""Deep generative latent-variable models behind scikit-learn's interface."""

from skcvae import likelihoods, networks, posteriors, priors, transport
from skcvae._coupled import CoupledVAE

__version__ = "0.1.0"
__all__ = ["CoupledVAE", "likelihoods", "networks", "posteriors", "priors", "transport"]
