"""Base of the estimators with an encoder: VAE, WAE and InfoVAE."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
from abc import abstractmethod
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike

from skcvae import _amortise, _random
from skcvae import _checks as check
from skcvae._base import LatentVariableModel
from skcvae._callbacks import Watch
from skcvae._data import Table
from skcvae._fitted import AutoencoderFit, Curve, host_copy
from skcvae._fitting import AUTO, judges
from skcvae._place import as_array
from skcvae._training import Course, Pace
from skcvae.divergences import DIVERGENCES, Divergence
from skcvae.likelihoods import Family
from skcvae.posteriors import POSTERIORS, Coordinates, Encoder, Point, PosteriorFamily, check_differentiable
from skcvae.priors import Prior


def _started(model: _amortise.Model, temperature: float) -> dict[str, Any]:
    """The start as a stage, whose result is the model's own state."""
    _amortise.start(model, temperature)
    return {}


@dataclasses.dataclass(frozen=True)
class Loss:
    """What a model with an encoder minimises beside the reconstruction.

    Attributes
    ----------
    kl_weight : float, of the divergence of each row's posterior to the prior
    divergence_weight : float, of the divergence of the aggregate posterior to the prior
    annealing : float, share of the steps over which `kl_weight` rises
    divergence : str, Divergence or None, that of the aggregate posterior as it was given, where the model has one
    """

    kl_weight: float
    divergence_weight: float = 0.0
    annealing: float = 0.0
    divergence: str | Divergence | None = None


#: What the noise of samples and scores may be.
CALIBRATIONS = ("auto", "temperature", "residual")
#: A noise below this share of the scale from neighbours is told.
KNOWN_BY_HEART = 0.3
#: Steps of a fit that only says what a decoder leaves of other rows.
SHORT_STEPS = 2000


class AutoencoderModel(LatentVariableModel):
    """An encoder and a decoder trained together; a model says what its loss is."""

    encoder: str | PosteriorFamily
    _fitted: AutoencoderFit
    _streaming: _amortise.Streaming | None

    def __init__(
        self, n_components: int | str | None = None, *, calibration: str = "auto", batch_size: int = 256, **shared: Any
    ) -> None:
        super().__init__(n_components, **shared)
        self.calibration = calibration
        self.batch_size = batch_size

    @property
    def encoder_(self) -> Encoder:
        """The encoder, on the CPU."""
        return cast(AutoencoderFit, self._record).encoder

    @abstractmethod
    def _loss(self) -> Loss:
        """What the model minimises, from checked parameters."""

    def _fit(self, data: Table, held_out: Table | None, watch: Watch | None) -> AutoencoderFit:
        setting, is_warm = self._setting(), self._is_warm
        divergence = self._chosen_divergence(setting)
        course = self._course(
            lambda table, rng: self._model(table, held_out, setting.kl_weight, rng, is_warm), data, held_out, watch
        )
        with self._told_when_diverged("lower the weights of the loss"):
            if not is_warm:
                course.stage("start", lambda: _started(course.root, setting.kl_weight))
            trained = _amortise.train(course, divergence, setting)
            losses = Curve().extended(loss + course.root.family.log_volume for loss in trained.losses)
            record = self._found(course.root, losses, trained.scores, trained.converged, int(self.pool_size))
        what = "loss had not stopped falling" if held_out is None else "score of the rows held out had not stopped rising"
        text = f"Training made its last of max_iter={setting.max_iter} steps, and the {what}. Raise max_iter."
        self._warn_of_last_step(course, trained.converged, text)
        course.end()
        return record

    def _short_parameters(self) -> dict[str, Any]:
        return {"max_iter": min(int(self.max_iter), SHORT_STEPS)}

    def partial_fit(self, X: ArrayLike, y: object = None, *, sample_weight: ArrayLike | None = None) -> Self:
        """One pass over some rows in minibatches, at a constant learning rate; for data that come in parts.

        The first call, on a model that is not fitted, starts it: the units, the scale of the noise and the principal axes are those
        of its rows, so give it some thousands. Further calls, also after `fit`, go on from the weights, with Adam's moments of the
        part before. The minibatches have at least `batch_size` rows, or all. `max_iter`, `max_time`, `tol`, `annealing`,
        `early_stopping` and `checkpoint` say nothing here, and the aggregate posterior is that of the last part.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Two rows or more. Missing cells are drawn as in `fit`, after the first part by the model as it was.
        y : ignored
        sample_weight : array-like of shape (n,), default=None
            How many rows each row counts as, as in `fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError, FloatingPointError, MemoryError
            As in `fit`; the model stays as it was.
        """

        def fitted(worker: Self) -> tuple[AutoencoderFit, _amortise.Streaming]:
            is_begun = hasattr(worker, "_fitted")
            rows = worker._rows(X, fitting=not is_begun, training=True)
            part = worker._completed(Table.of(rows, sample_weight), is_begun)
            if not is_begun:
                check.check_varying(part.X)
            return worker._fit_part(part, is_begun)

        self._advance(fitted)
        return self

    def _fit_part(self, part: Table, is_begun: bool) -> tuple[AutoencoderFit, _amortise.Streaming]:
        if self.n_components == AUTO and not is_begun:
            raise ValueError("n_components='auto' is found by fit, and partial_fit needs a number. Give one, or call fit first.")
        if self.n_components == AUTO:
            self.n_components = self._record.prior.n_components
        before = self._record.losses if is_begun else Curve()
        rng = _random.make_rng(self.random_state, stream=len(before))
        kl_weight = self._setting().kl_weight
        model = self._model(part, None, kl_weight, rng, is_begun, is_part=True)
        setting = self._part_setting(model.data.n_visits)
        divergence = self._chosen_divergence(setting)
        with self._told_when_diverged("lower the weights of the loss"):
            if not is_begun:
                _amortise.start(model, kl_weight)
            course = Course(model, Pace(bool(self.verbose)))
            trained = _amortise.train(course, divergence, setting, getattr(self, "_streaming", None))
            course.end()
            losses = before.extended(loss + model.family.log_volume for loss in trained.losses)
            record = self._found(model, losses, None, False, min(int(self.pool_size), model.data.n_visits))
        if is_begun and self._record.dtype == torch.float64:  # some rows before asked for it
            record = dataclasses.replace(record, dtype=torch.float64)
        return record, trained.streaming

    def _part_setting(self, n_rows: int) -> _amortise.Setting:
        setting = self._setting()
        n_steps = max(1, n_rows // setting.batch_size)
        size = n_rows // n_steps
        return dataclasses.replace(setting, max_iter=n_steps, batch_size=size, tol=0.0, annealing=0.0, has_cycle=False)

    def _concluded(self, root: _amortise.Model, owner: Any) -> AutoencoderFit:
        losses = Curve().extended(loss + root.family.log_volume for loss in owner.losses)
        return self._found(root, losses, None, False, int(self.pool_size))

    def _found(
        self, model: _amortise.Model, losses: Curve, scores: list[float] | None, converged: bool, n_aggregate: int
    ) -> AutoencoderFit:
        """The record, with the noise that `calibration` asks for."""
        family, temperature = self._calibrated(model)
        held_volume = 0.0 if model.held_out is None else model.held_out.log_volume
        trained_family = host_copy(model.family)
        share = family.tempered(temperature).smallest_scale / trained_family.smallest_scale
        if model.held_out is None and self.calibration != "temperature" and share < KNOWN_BY_HEART:
            check.warn(
                f"The noise is {share:.2g} of the distance between neighbours, as the decoder knows the fitted rows by heart. "
                "Scores of other rows may be far lower. Hold rows out: early_stopping=True, or X_val; or use likelihood='table'."
            )
        return AutoencoderFit(
            prior=model.prior,
            decoder=host_copy(model.decoder),
            family=family,
            temperature=temperature,
            dtype=model.data.precision(family, temperature),
            kind=model.kind,
            losses=losses,
            validation_scores=None if scores is None else tuple(score - held_volume for score in scores),
            converged=converged,
            encoder=host_copy(model.encoder),
            trained_family=trained_family,
            aggregate=as_array(_amortise.aggregate(model, n_aggregate).double()),
            n_draws=int(self.pool_size),
            seed=int(model.rng.integers(2**63)),
            is_taught=self._setting().kl_weight > 0,
            evidence=vars(self).get("_evidence"),
        )

    def _calibrated(self, model: _amortise.Model) -> tuple[Family, float]:
        """The likelihood that samples are drawn from at temperature 1, and the temperature of the posterior and of matched noise.

        Of a noise that is that of rows which a decoder has not seen "auto" takes this noise. Elsewhere it takes the plan's, the
        likelihood's at the temperature that the loss gives a row's posterior, raised to the residual where that is clearly above:
        at a small weight of the divergence the plan's is next to nothing. Where the loss gives no temperature it is the residual.
        """
        kl_weight, trained = self._setting().kl_weight, host_copy(model.family)
        if self.calibration == "temperature":
            return trained, kl_weight
        is_given = (
            trained.background is not None or getattr(vars(self).get("_likelihood", self.likelihood), "mapped", None) is not None
        )
        if self.calibration == "auto" and is_given:
            return trained, 1.0
        residual = _amortise.residual(dataclasses.replace(model, rng=copy.deepcopy(model.rng))).cpu()
        if self.calibration == "auto" and kl_weight > 0:
            return host_copy(trained.at_least(residual / math.sqrt(kl_weight))), kl_weight
        return host_copy(trained.refitted(residual)), 1.0

    def _model(
        self, table: Table, held_out: Table | None, kl_weight: float, rng: np.random.Generator, is_warm: bool, is_part: bool = False
    ) -> _amortise.Model:
        """The model at the start; from the last fit's weights if it is warm, and in their precision if it is fitted to a part."""
        architecture = self._architecture(table.X.shape[1])
        prior = self._chosen_prior()
        posterior = self._encoded(prior, kl_weight)
        family, kind = self._bound_likelihood(table, rng, is_warm)
        generator = _random.make_torch_generator(rng)
        coordinates = Coordinates(prior.distribution())
        conditional = posterior.begin(coordinates.width(prior.n_components), generator)
        network = architecture.encoder(family.n_features, conditional.n_outputs, generator)
        encoder, decoder, dtype = Encoder(network, conditional), self._decoder(architecture, prior, family, generator), None
        self._check_step("batch_size", encoder, decoder)
        if is_warm:
            self._take_weights(encoder=encoder, decoder=decoder)
            dtype = next(self._record.decoder.parameters()).dtype if is_part else None
        data = self._data(family, table, 1.0, dtype)
        held = judges(family, held_out, data.place)
        encoder, decoder, family = (data.place.module(encoder), data.place.module(decoder), data.place.module(family))
        if kl_weight == 0 and coordinates.distribution is not None:  # scores will need the decoder's Jacobian
            check_differentiable(decoder, coordinates, data.place.tensor(prior.sample(2, np.random.default_rng(0))))
        return _amortise.Model(encoder, decoder, family, coordinates, prior, data, rng, held, kind)

    def _encoded(self, prior: Prior, kl_weight: float) -> PosteriorFamily:
        """What the encoder says of a row, from a checked parameter."""
        chosen = check.choose("encoder", self.encoder, POSTERIORS, PosteriorFamily)
        family: PosteriorFamily = chosen() if isinstance(chosen, type) else chosen
        if kl_weight > 0 and isinstance(family, Point):
            raise ValueError("encoder='point' has no density, which this loss needs. Use encoder='gaussian', or WAE.")
        if kl_weight > 0 and prior.distribution() is None:
            raise ValueError(
                f"The loss weighs the posterior against the prior's density, and {type(prior).__name__} has none. Give the prior "
                "as a torch distribution, or use WAE or CoupledVAE, which need only its draws."
            )
        return family

    def _chosen_divergence(self, setting: _amortise.Setting) -> Divergence | None:
        """The divergence of the aggregate posterior, where the loss has one."""
        given = self._loss().divergence
        if given is None:
            return None
        chosen = check.choose("divergence", given, DIVERGENCES, Divergence)
        if setting.divergence_weight == 0:
            return None
        divergence: Divergence = chosen() if isinstance(chosen, type) else chosen
        name = f"batch_size with {type(divergence).__name__}"
        check.check_number(name, setting.batch_size, numbers.Integral, divergence.fewest_rows)
        return divergence

    def _setting(self) -> _amortise.Setting:
        self._check_shared_numbers()
        check.check_number("batch_size", self.batch_size, numbers.Integral, 1)
        check.choose("calibration", self.calibration, dict.fromkeys(CALIBRATIONS))
        loss = self._loss()
        if self.calibration == "temperature" and loss.kl_weight == 0:
            raise ValueError(
                "calibration='temperature' is that of a row's posterior, of which this loss says nothing. Use "
                "calibration='residual'."
            )
        return _amortise.Setting(
            kl_weight=loss.kl_weight,
            divergence_weight=loss.divergence_weight,
            annealing=loss.annealing,
            batch_size=int(self.batch_size),
            learning_rate=float(self.learning_rate_init),
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            patience=int(self.n_iter_no_change),
        )
