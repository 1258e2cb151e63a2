"""Base of the estimators with an encoder: VAE, WAE and InfoVAE."""

from __future__ import annotations

import dataclasses
import numbers
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from skcvae import _amortise, _random
from skcvae import _checks as check
from skcvae._base import LatentVariableModel
from skcvae._callbacks import Watch
from skcvae._fitting import check_batch, nothing_lost
from skcvae._training import Course
from skcvae.divergences import DIVERGENCES, Divergence, Measure
from skcvae.likelihoods import Family
from skcvae.networks import fewest_rows
from skcvae.posteriors import POSTERIORS, AmortisedInference, Coordinates, Encoder, Inference, Point, PosteriorFamily
from skcvae.priors import Prior, as_prior

#: What the docstrings of the estimators share.
SHARED = {
    "head": """
    n_components : int, default=2
        Dimension k of the latent variable.
    prior : {"gaussian", "uniform", "dirichlet", "categorical", "mixture"} or object, default="gaussian"
        Distribution of the latent variable, as in `CoupledVAE`. The encoder's draws are in its support.
    likelihood : {"gaussian", "bernoulli"} or skcvae.likelihoods.Likelihood, default="gaussian"
        Distribution of the data given the latent variable. "gaussian" has one fixed scale that is a function of X alone.
    network : {"mlp", "conv"}, skcvae.networks.Network or tuple (encoder, decoder), default="mlp"
        Architecture of encoder and decoder.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the hidden layers of "mlp"; a linear map runs beside them.
    activation : {"relu", "tanh", "elu", "silu", "gelu", "softplus"}, default="relu"
        Activation of the hidden layers.""",
    "tail": """
    pool_size : int, default=4096
        Draws of the prior and of the aggregate posterior that inference keeps.
    batch_size : int, default=256
        Rows in each step.
    learning_rate_init : float, default=1e-3
        Learning rate of Adam.
    max_iter : int, default=8000
        Steps of the training.
    tol : float, default=1e-2
        Training stops when the loss has not fallen by this, in nats, for `n_iter_no_change` windows of 50 steps.
    n_iter_no_change : int, default=10
        Windows to wait for.
    device : str or torch.device, default="auto"
        Where to compute; "auto" is a GPU where there is one.
    random_state : None, int, numpy Generator or RandomState, default=None
        Source of all randomness of the fit. None draws fresh entropy; an int gives the same fit on the same machine.
    verbose : bool, default=False
        Show progress.
    checkpoint : path or None, default=None
        A file in which the fit keeps its state, every 200 steps. Where it is there, `fit` goes on
        from it and ends as if it had not been interrupted; at the end it is removed. It is a pickle: resume only from your own.
    warm_start : bool, default=False
        Go on from the weights of the last fit, with units and likelihood as they were, instead of starting anew.

    Attributes
    ----------
    n_iter_ : int
        Steps made.
    loss_curve_ : list of float
        Loss in nats of each step's minibatch.
    validation_scores_ : list of float or None
        Minus the loss of X_val after every 50 steps, in nats, without the divergence of the aggregate posterior. Only where `fit`
        was given X_val.
    converged_ : bool
        Whether training stopped by itself, before `max_iter`.
    prior_, likelihood_, encoder_, module_ : objects
        The prior, the bound likelihood, the encoder and the decoder, torch modules on the CPU.
    n_features_in_, feature_names_in_ : as in scikit-learn""",
}


def documented(model: type) -> type:
    """Put what the docstrings share in the place of {head} and {tail}."""
    for name, text in SHARED.items():
        model.__doc__ = str(model.__doc__).replace(f"    {{{name}}}", text.lstrip("\n"))
    return model


class _MethodAndParameter:
    """A method whose name is a parameter's as well: what is read is the method, what is written the parameter."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: object, owner: type | None = None) -> Any:
        return self.method.__get__(model, owner)

    def __set__(self, model: object, value: object) -> None:
        vars(model)[self.name] = value


class AutoencoderModel(LatentVariableModel):
    """An encoder and a decoder trained together; a model says which weights its loss has."""

    encoder_: Encoder
    #: `model.posterior(X)` is the method; the parameter is in `get_params()`.
    posterior = _MethodAndParameter(LatentVariableModel.posterior)
    #: A name or an object, where the loss has a divergence of the aggregate posterior.
    divergence: str | Divergence = "mmd"
    #: Share of the steps over which the weight of the divergence of each row's posterior rises.
    annealing: float = 0.0
    _answers: AmortisedInference
    loss_curve_: list[float]
    _trained_family: Family
    _part: _amortise.Trained
    _aggregate: NDArray[np.float64]
    _remedy = "Raise pool_size, lower n_components or choose a richer posterior."

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name, as in scikit-learn."""
        return {**super().get_params(deep), "posterior": vars(self)["posterior"]}

    @abstractmethod
    def _weights(self) -> tuple[float, float]:
        """Weights of the divergence of each row's posterior and of the aggregate's, from checked parameters."""

    @property
    def _inference(self) -> Inference:
        return self._answers

    def _sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return self._aggregate[rng.integers(len(self._aggregate), size=n_samples)]

    def _fit(self, X: NDArray, X_val: NDArray | None, watch: Watch | None) -> None:
        setting, is_warm = self._setting(), self._is_warm
        model = self._model(X, setting.kl_weight, _random.make_rng(self.random_state), is_warm)
        model.x_val = model.family.standardised_as(X_val, model.data.like)
        measure = self._measure(model, setting)
        course = self._course(model, (X, X_val), watch)
        with self._told_when_diverged("lower the weights of the loss"):
            if not is_warm:
                course.stage("start", lambda: _amortise.start(course.root, setting.kl_weight))
            trained = _amortise.train(course, measure, setting)
        self._keep(course.root, trained.losses, trained.scores, setting)
        self.__dict__.pop("_part", None)
        course.end()

    def partial_fit(self, X: ArrayLike, y: object = None) -> Self:
        """One pass over some rows in minibatches, at a constant learning rate; for data that come in parts.

        The first call, on a model that is not fitted, starts it: the units, the scale of the noise and the principal axes are those
        of its rows, so give it some thousands. Further calls, also after `fit`, go on from the weights, with Adam's moments of the
        part before. The minibatches have at least `batch_size` rows, or all. `max_iter`, `tol`, `annealing` and `checkpoint` say
        nothing here, and the aggregate posterior is that of the last part.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Two rows or more.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError, FloatingPointError, MemoryError
            As in `fit`; the model stays as it was.
        """
        with nothing_lost(self):
            is_begun = hasattr(self, "module_")
            rows = check.check_X(self, X, fitting=not is_begun, training=True)
            if not is_begun:
                check.check_varying(rows)
            self._fit_part(rows, is_begun)
        return self

    def _fit_part(self, X: NDArray, is_begun: bool) -> None:
        setting, before = self._part_setting(len(X)), list(self.loss_curve_) if is_begun else []
        model = self._model(X, setting.kl_weight, _random.make_rng(self.random_state, stream=len(before)), is_begun)
        last = getattr(self, "_part", None)
        measure = self._measure(model, setting) if last is None else last.measure
        course = Course(model, bool(self.verbose), None, None)
        with self._told_when_diverged("lower the weights of the loss"):
            if not is_begun:
                _amortise.start(model, setting.kl_weight)
            trained = _amortise.train(course, measure, setting, None if last is None else last.moments)
        self._keep(model, trained.losses, None, setting)
        self._part, self.converged_ = trained, False
        self.loss_curve_ = before + self.loss_curve_
        self.n_iter_ = len(self.loss_curve_)

    def _part_setting(self, n_rows: int) -> _amortise.Setting:
        setting = self._setting()
        n_steps = max(1, n_rows // setting.batch_size)
        size = n_rows // n_steps
        return dataclasses.replace(setting, max_iter=n_steps, batch_size=size, tol=0.0, annealing=0.0, has_cycle=False)

    @property
    def _last_family(self) -> Family:
        return self._trained_family

    def _conclude(self, root: _amortise.Model, owner: Any) -> None:
        root.train(False)
        self._keep(root, list(owner.losses), None, self._setting())

    def _keep(self, model: _amortise.Model, losses: list[float], scores: list[float] | None, setting: _amortise.Setting) -> None:
        is_taught = setting.kl_weight > 0
        self._temperature = setting.kl_weight if is_taught else 1.0
        family = model.family if is_taught else model.family.refitted(_amortise.residual(model))
        self._trained_family = model.family.cpu()
        self._aggregate = _amortise.aggregate(model, self.pool_size).double().cpu().numpy()
        self.prior_, self.likelihood_ = model.prior, family.double().cpu()
        self._answers = _amortise.inference(model, self.likelihood_.tempered(self._temperature), self.pool_size, is_taught)
        self.encoder_, self.module_ = model.encoder, model.decoder
        self.loss_curve_ = [loss + family.log_volume for loss in losses]
        self.validation_scores_ = None if scores is None else [score - family.log_volume for score in scores]
        self._coarsest = model.data.precision(self.likelihood_, self._temperature)
        self.n_iter_ = len(losses)
        self.converged_ = self.n_iter_ < setting.max_iter

    def _model(self, X: NDArray, kl_weight: float, rng: np.random.Generator, is_warm: bool) -> _amortise.Model:
        architecture = self._architecture(X.shape[1])
        prior = as_prior(self.prior, self.n_components)
        posterior = self._posterior(prior, kl_weight)
        family = self._bound_likelihood(X, rng, is_warm)
        generator = _random.make_torch_generator(rng)
        coordinates = Coordinates(prior.distribution())
        conditional = posterior.begin(coordinates.width(prior.n_components), generator)
        network = architecture.encoder(X.shape[1], conditional.n_outputs, generator)
        check_batch(self.batch_size, fewest_rows(network))
        decoder = self._decoder(architecture, prior, family, generator)
        encoder = Encoder(network, conditional)
        if is_warm:
            self._take_weights(encoder_=encoder, module_=decoder)
        data = self._data(family, X, 1.0)
        like = data.like
        return _amortise.Model(encoder.to(like), decoder.to(like), family.to(like), coordinates, prior, data, rng)

    def _posterior(self, prior: Prior, kl_weight: float) -> PosteriorFamily:
        chosen = check.choose("posterior", vars(self)["posterior"], POSTERIORS, PosteriorFamily)
        family: PosteriorFamily = chosen() if isinstance(chosen, type) else chosen
        if kl_weight > 0 and isinstance(family, Point):
            raise ValueError("posterior='point' has no density, which this loss needs. Use posterior='gaussian', or WAE.")
        if kl_weight > 0 and prior.distribution() is None:
            raise ValueError(
                f"The loss weighs the posterior against the prior's density, and {type(prior).__name__} has none. Give the prior "
                "as a torch distribution, or use WAE or CoupledVAE, which need only its draws."
            )
        return family

    def _measure(self, model: _amortise.Model, setting: _amortise.Setting) -> Measure | None:
        chosen = check.choose("divergence", self.divergence, DIVERGENCES, Divergence)
        if setting.divergence_weight == 0:
            return None
        divergence: Divergence = chosen() if isinstance(chosen, type) else chosen
        name = f"batch_size with {type(divergence).__name__}"
        check.check_number(name, setting.batch_size, numbers.Integral, divergence.fewest_rows)
        like, z = model.data.like, torch.as_tensor(model.prior.sample(1, np.random.default_rng(0)))
        n_coordinates = model.decoder.inputs(z.to(like)).shape[1]
        return divergence.begin(n_coordinates, _random.make_torch_generator(model.rng)).to(like)

    def _setting(self) -> _amortise.Setting:
        self._check_shared_numbers()
        kl_weight, divergence_weight = self._weights()
        return _amortise.Setting(
            kl_weight=kl_weight,
            divergence_weight=divergence_weight,
            annealing=float(self.annealing),
            batch_size=int(self.batch_size),
            learning_rate=float(self.learning_rate_init),
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            patience=int(self.n_iter_no_change),
        )
