"""The variational autoencoder."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from typing import Any

import torch

from skcvae import _checks as check
from skcvae._autoencoder import AutoencoderModel, documented
from skcvae.likelihoods import Likelihood
from skcvae.posteriors import PosteriorFamily


@documented
class VAE(AutoencoderModel):
    r"""Variational autoencoder, also with normalising flows and as a :math:`\beta`-VAE.

    Encoder and decoder minimise the negative evidence lower bound, in nats,

    .. math::
        \frac1n \sum_i -E_{q(z \mid x_i)} \log p_\theta(x_i \mid z) + \beta\, \mathrm{KL}(q(z \mid x_i) \| p(z)),

    with one draw of z for each row and the reparameterisation trick. The divergence is in closed form between Gaussians and by the
    same draw elsewhere. With Gaussian noise of scale :math:`\sigma` the optimum at :math:`\beta` is that of a VAE of scale
    :math:`\sqrt\beta \sigma`, which is what `sample` draws from by default.

    Parameters
    ----------
    {head}
    encoder : {"gaussian", "full", "planar", "spline"} or skcvae.posteriors.PosteriorFamily, default="gaussian"
        What the encoder says of a row: a Gaussian with independent coordinates or with any covariance, one pushed through planar
        layers (VAE-NF), or through a neural spline flow (needs zuko).
    beta : float above 0, default=1.0
        Weight of the divergence.
    annealing : float in [0, 1], default=0.0
        Share of the steps over which the weight rises to `beta`; training does not stop before.
    {tail}

    References
    ----------
    D. Kingma and M. Welling, Auto-encoding variational Bayes, 2014. D. Rezende and S. Mohamed, Variational inference with
    normalizing flows, 2015. I. Higgins et al., beta-VAE, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae import VAE
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> model = VAE(max_iter=50, random_state=0).fit(X)
    >>> model.transform(X).shape, model.sample(3, random_state=0).shape
    ((100, 2), (3, 4))
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        prior: Any = "gaussian",
        likelihood: str | Likelihood = "gaussian",
        network: Any = "mlp",
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        encoder: str | PosteriorFamily = "gaussian",
        beta: float = 1.0,
        annealing: float = 0.0,
        pool_size: int = 4096,
        batch_size: int = 256,
        learning_rate_init: float = 1e-3,
        max_iter: int = 8000,
        max_time: float | None = None,
        tol: float = 1e-2,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        warm_start: bool = False,
    ) -> None:
        super().__init__(
            n_components,
            prior=prior,
            likelihood=likelihood,
            network=network,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            pool_size=pool_size,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            max_iter=max_iter,
            max_time=max_time,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            device=device,
            random_state=random_state,
            verbose=verbose,
            checkpoint=checkpoint,
            warm_start=warm_start,
        )
        self.encoder = encoder
        self.beta = beta
        self.annealing = annealing

    def _weights(self) -> tuple[float, float]:
        check.check_number("beta", self.beta, numbers.Real, 0, open_low=True, high=check.LARGEST_WEIGHT)
        check.check_number("annealing", self.annealing, numbers.Real, 0, high=1)
        return float(self.beta), 0.0
