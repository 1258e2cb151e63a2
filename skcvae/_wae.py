"""The Wasserstein autoencoder."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from typing import Any

import torch

from skcvae import _checks as check
from skcvae._autoencoder import AutoencoderModel, documented
from skcvae.divergences import Divergence
from skcvae.likelihoods import Likelihood
from skcvae.posteriors import PosteriorFamily


@documented
class WAE(AutoencoderModel):
    r"""Wasserstein autoencoder: the aggregate posterior is held to the prior, no row's own.

    Encoder and decoder minimise, in nats,

    .. math::
        \frac1n \sum_i -E_{q(z \mid x_i)} \log p_\theta(x_i \mid z) + \mathrm{penalty} \cdot D(q(z), p(z)),
        \qquad q(z) = \frac1n \sum_i q(z \mid x_i).

    With ``divergence="sinkhorn"`` it is the Sinkhorn autoencoder, with "adversarial" and a Gaussian encoder the adversarial one.
    The loss says nothing of the noise that is left, so a fixed Gaussian scale is put to the root mean square residual after
    training; `sample` draws with it and `score_samples` is the density of that. "matched" and "model" noise are the same.
    On few rows give some as ``X_val``: the residual is then theirs, as that of fitted rows goes to zero.

    Parameters
    ----------
    {head}
    encoder : {"point", "gaussian", "full", "planar", "spline"} or skcvae.posteriors.PosteriorFamily, default="point"
        What the encoder says of a row: one code, or as in `VAE`.
    divergence : {"mmd", "sinkhorn", "sliced", "adversarial"} or skcvae.divergences.Divergence, default="mmd"
        Between codes and draws from the prior, both standardised, on each minibatch.
    penalty : float of at least 0, default=10.0
        Weight of the divergence.
    {tail}

    References
    ----------
    I. Tolstikhin, O. Bousquet, S. Gelly and B. Schoelkopf, Wasserstein auto-encoders, 2018. G. Patrini et al., Sinkhorn
    autoencoders, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae import WAE
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> model = WAE(max_iter=50, random_state=0).fit(X)
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
        encoder: str | PosteriorFamily = "point",
        divergence: str | Divergence = "mmd",
        penalty: float = 10.0,
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
        self.divergence = divergence
        self.penalty = penalty

    def _weights(self) -> tuple[float, float]:
        check.check_number("penalty", self.penalty, numbers.Real, 0, high=check.LARGEST_WEIGHT)
        return 0.0, float(self.penalty)
