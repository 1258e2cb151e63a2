"""The models that are compared, by name, and the two-stage one that scikit-learn's mixture makes of a VAE."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import distributions

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae.priors import as_prior

#: The models with their one hyperparameter.
MODELS: dict[str, tuple[Callable[..., Any], str]] = {
    "CoupledVAE": (CoupledVAE, "epsilon"),
    "VAE": (VAE, "beta"),
    "VAE-NF": (lambda *args, **kw: VAE(*args, encoder="planar", **kw), "beta"),
    "WAE": (WAE, "penalty"),
    "InfoVAE": (lambda *args, **kw: InfoVAE(*args, alpha=0.0, **kw), "lambd"),
}
#: Components of the mixture, chosen by the Bayesian information criterion.
N_MIXTURE = (5, 10, 20, 40)


def build(name: str, n_components: int, value: float, **params: Any) -> Any:
    """A model of this name with this value of its hyperparameter, not yet fitted."""
    model, hyperparameter = MODELS[name]
    return model(n_components, **{hyperparameter: value}, **params)


def two_stage(vae: Any, X: np.ndarray) -> Any:
    """The VAE with another prior: a mixture of Gaussians fitted to its latent means, chosen by BIC."""
    latent = vae.transform(X)
    mixtures = [GaussianMixture(count, reg_covar=1e-6, random_state=0).fit(latent) for count in N_MIXTURE]
    best = min(mixtures, key=lambda mixture: mixture.bic(latent))
    components = distributions.MultivariateNormal(*(torch.as_tensor(p) for p in (best.means_, best.covariances_)))
    mixture = distributions.MixtureSameFamily(distributions.Categorical(torch.as_tensor(best.weights_)), components)
    return with_prior(vae, as_prior(mixture, latent.shape[1]))


def with_prior(vae: Any, prior: Any) -> Any:
    """A copy of a fitted VAE that samples from, and weighs its draws against, another prior."""
    model = copy.deepcopy(vae)
    model._fitted = dataclasses.replace(vae._fitted, prior=prior)
    return model
