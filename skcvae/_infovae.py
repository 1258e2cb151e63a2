"""The InfoVAE."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from skcvae._autoencoder import AutoencoderModel, documented
from skcvae.divergences import Divergence
from skcvae.likelihoods import Likelihood
from skcvae.objectives import infovae_weights
from skcvae.posteriors import PosteriorFamily


@documented
class InfoVAE(AutoencoderModel):
    r"""InfoVAE: a variational autoencoder that also holds the aggregate posterior to the prior.

    Encoder and decoder minimise, in nats,

    .. math::
        \frac1n \sum_i \big( -E_{q(z \mid x_i)} \log p_\theta(x_i \mid z) + (1 - \alpha)\, \mathrm{KL}(q(z \mid x_i) \| p(z)) \big)
        + (\alpha + \lambda - 1)\, D(q(z), p(z)).

    :math:`(\alpha, \lambda) = (0, 1)` is the VAE, :math:`\alpha + \lambda = 1` the :math:`\beta`-VAE with
    :math:`\beta = 1 - \alpha`, and (1, 1) with the adversarial divergence the adversarial autoencoder. At :math:`\alpha = 1` the
    loss says nothing of the noise that is left, which is then set as in `WAE`.

    Parameters
    ----------
    {head}
    encoder : {"gaussian", "full", "planar", "spline"} or skcvae.posteriors.PosteriorFamily, default="gaussian"
        As in `VAE`; at alpha=1 also "point".
    alpha : float of at most 1, default=0.0
        Weight of the mutual information of data and codes.
    lambd : float with alpha + lambd of at least 1, default=2.0
        Weight of the aggregate posterior's divergence, before alpha - 1 is added.
    divergence : {"mmd", "sinkhorn", "sliced", "adversarial"} or skcvae.divergences.Divergence, default="mmd"
        Between codes and draws from the prior, both standardised, on each minibatch.
    {tail}

    References
    ----------
    S. Zhao, J. Song and S. Ermon, InfoVAE: balancing learning and inference in variational autoencoders, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae import InfoVAE
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> model = InfoVAE(max_iter=50, random_state=0).fit(X)
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
        alpha: float = 0.0,
        lambd: float = 2.0,
        divergence: str | Divergence = "mmd",
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
        self.alpha = alpha
        self.lambd = lambd
        self.divergence = divergence

    def _weights(self) -> tuple[float, float]:
        return infovae_weights(self.alpha, self.lambd)
