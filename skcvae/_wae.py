"""The Wasserstein autoencoder."""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from skcvae import _checks as check
from skcvae._autoencoder import AutoencoderModel, Loss
from skcvae.divergences import Divergence
from skcvae.likelihoods import Likelihood
from skcvae.posteriors import PosteriorFamily


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
    n_components : int, "auto" or None, default=None
        Dimension k of the latent variable. None is the dimension of a prior that is an object, and 2 of a prior that is a name.
        "auto" compares 1, 2, 3, 5, 8 and 13 by short fits to halves of the rows, each scored on the other half, and takes the
        smallest whose score is within one standard error of the highest; `evidence_` has the scores.
    prior : {"gaussian", "uniform", "dirichlet", "categorical", "mixture"} or object, default="gaussian"
        Distribution of the latent variable, as in `CoupledVAE`. The encoder's draws are in its support.
    likelihood : {"gaussian", "table", "auto", "bernoulli"}, dict or skcvae.likelihoods.Likelihood, default="gaussian"
        Distribution of the data given the latent variable. "gaussian" has one fixed scale that is a function of X alone. "table",
        for columns of unlike kinds and units, transforms and whitens them first: see `skcvae.likelihoods.GaussianLikelihood`.
        "auto" finds what each column of a data frame is, see `skcvae.likelihoods.AutoLikelihood`.
    network : {"mlp", "conv"}, skcvae.networks.Network or tuple (encoder, decoder), default="mlp"
        Architecture of encoder and decoder.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the hidden layers of "mlp"; a linear map runs beside them.
    activation : {"steep", "relu", "tanh", "elu", "silu", "gelu", "softplus"}, default="relu"
        Activation of the hidden layers; "steep" can make borders, see `skcvae.networks.Steep`.
    encoder : {"point", "gaussian", "full", "planar", "spline"} or skcvae.posteriors.PosteriorFamily, default="point"
        What the encoder says of a row: one code, or as in `VAE`.
    divergence : {"mmd", "sinkhorn", "sliced", "adversarial"} or skcvae.divergences.Divergence, default="mmd"
        Between codes and draws from the prior, both standardised, on each minibatch.
    penalty : float of at least 0, default=10.0
        Weight of the divergence.
    calibration : {"auto", "temperature", "residual"}, default="auto"
        The noise of samples and scores. "temperature" is the likelihood's at the temperature of a row's posterior, the weight of
        its divergence. "residual" is what the decoder leaves of rows, in the root mean square: of those held out where there are
        some. "auto" is the noise itself where it is that of rows not seen, with likelihood="table". Elsewhere it is the
        temperature's, or the residual where that is clearly above or the loss has no temperature.
    pool_size : int, default=4096
        Draws of the prior and of the aggregate posterior that inference keeps.
    batch_size : int, default=256
        Rows in each step.
    learning_rate_init : float, default=1e-3
        Learning rate of Adam.
    max_iter : int, default=8000
        Most steps of the training.
    max_time : float, default=None
        Seconds after which training ends with what it has found; None sets no limit. Only this parameter makes a fit depend on
        time.
    tol : float, default=1e-2
        When the loss has not fallen by this, in nats, for `n_iter_no_change` windows of 50 steps, the learning rate falls to zero
        over half as many steps as were made, and training ends.
    n_iter_no_change : int, default=10
        Windows to wait for.
    early_stopping : bool, default=False
        Hold out a share of the rows and end the fit when their score has stopped rising, as with rows that are given as X_val. They
        are chosen by `random_state` where it is an int, and are always the same ones otherwise.
    validation_fraction : float between 0 and 1, default=0.1
        Share of the rows that `early_stopping` holds out. It says nothing where `fit` is given X_val.
    device : str or torch.device, default="auto"
        Where to compute; "auto" is a GPU where there is one.
    random_state : None, int, numpy Generator or RandomState, default=None
        Source of all randomness of the fit. None draws fresh entropy; an int gives the same fit on the same machine.
    verbose : bool, default=False
        Show progress.
    checkpoint : path or None, default=None
        A folder in which every fit keeps its state, in a file of its own, every 200 steps; the fits of a grid search may share it.
        Where a fit finds its file it goes on from it and ends as if it had not been interrupted; at the end the file is removed.
    warm_start : bool, default=False
        Go on from the weights of the last fit, with units and likelihood as they were, instead of starting anew.

    Attributes
    ----------
    n_iter_ : int
        Steps made.
    loss_curve_ : list of float
        Loss in nats of each step's minibatch.
    validation_scores_ : list of float or None
        Minus the loss of X_val after every 50 steps, in nats, without the divergence of the aggregate posterior. Only where
        there were rows that were not fitted, by `fit`'s X_val or by `early_stopping`.
    converged_ : bool
        Whether training stopped by itself, before `max_iter`.
    n_components_ : int
        Dimension k of the latent variable.
    evidence_ : object or None
        With n_components="auto" the numbers that were compared, their scores, errors and the one that was chosen.
    prior_, likelihood_, encoder_, module_ : objects
        The prior, the bound likelihood, the encoder and the decoder, torch modules on the CPU.
    n_features_in_, feature_names_in_ : as in scikit-learn
    columns_ : record
        What each column of the data frame holds that was fitted; it prints as a table. Only where X was a frame.

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
        n_components: int | str | None = None,
        *,
        prior: Any = "gaussian",
        likelihood: str | Likelihood | Mapping[str, str] = "gaussian",
        network: Any = "mlp",
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        encoder: str | PosteriorFamily = "point",
        divergence: str | Divergence = "mmd",
        penalty: float = 10.0,
        calibration: str = "auto",
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
            calibration=calibration,
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

    def _loss(self) -> Loss:
        check.check_number("penalty", self.penalty, numbers.Real, 0, high=check.LARGEST_WEIGHT)
        return Loss(0.0, float(self.penalty), divergence=self.divergence)
