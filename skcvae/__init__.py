"""Deep generative latent-variable models behind scikit-learn's interface."""

from skcvae import (
    _persistence,
    datasets,
    display,
    divergences,
    likelihoods,
    metrics,
    networks,
    posteriors,
    priors,
    schedule,
    transport,
)
from skcvae._coupled import CoupledVAE
from skcvae._imputer import Imputer
from skcvae._infovae import InfoVAE
from skcvae._persistence import load
from skcvae._vae import VAE
from skcvae._wae import WAE

#: The estimators that a file of `save` may hold.
_persistence.ESTIMATORS.update(CoupledVAE=CoupledVAE, VAE=VAE, WAE=WAE, InfoVAE=InfoVAE)

__version__ = "0.1.0"
__all__ = [
    "VAE",
    "WAE",
    "CoupledVAE",
    "Imputer",
    "InfoVAE",
    "datasets",
    "display",
    "divergences",
    "likelihoods",
    "load",
    "metrics",
    "networks",
    "posteriors",
    "priors",
    "schedule",
    "transport",
]
