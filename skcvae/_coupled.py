"""The coupled variational autoencoder."""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from torch import nn

from skcvae import _checks as check
from skcvae import _memory, _phases, _random
from skcvae._base import N_COMPLETIONS, ROWS_CHECKED, LatentVariableModel, warn_of_coarse_posteriors
from skcvae._callbacks import Watch
from skcvae._data import Table, some
from skcvae._fitted import CoupledFit, Curve, Holes, host_copy
from skcvae._fitting import judges
from skcvae._place import HOST, Place, as_array
from skcvae._training import Course
from skcvae.likelihoods import Likelihood
from skcvae.objectives import infovae_weights
from skcvae.posteriors import Coordinates, Encoder, PoolInference, check_differentiable
from skcvae.priors import Prior, is_discrete
from skcvae.schedule import Schedule
from skcvae.transport import SOLVERS, Coupling, Solver

#: What inference of a coupled model weighs.
PROPOSALS = ("auto", "prior", "encoder")


def _has_atoms(model: CoupledVAE) -> bool:
    prior = getattr(model, "prior_", model.prior)
    if not is_discrete(prior):
        raise AttributeError(f"predict needs a prior on atoms, got {check.shown(prior)}. Fit with prior='categorical', or atoms.")
    return True


class CoupledVAE(LatentVariableModel):
    r"""Coupled variational autoencoder: the posterior is the optimal coupling of data and prior.

    The decoder's negative log-likelihood is the cost of entropic optimal transport between the data and the prior,

    .. math::
        \min_\theta \max_f \; \frac1n \sum_i f_i - \epsilon\, E_{z \sim p} \log \frac1n \sum_i
        e^{(f_i + \log p_\theta(x_i \mid z))/\epsilon},

    and the posterior is not an encoder's: it is the coupling, drawn by importance-weighting a pool of prior draws. The aggregate
    posterior is then the prior, so that samples do not fall into holes. With more than four components a short variational
    autoencoder may give the decoder that a fit starts from; its encoder is not kept.

    Parameters
    ----------
    n_components : int, "auto" or None, default=None
        Dimension k of the latent variable. None is the dimension of a prior that is an object; of a prior that is a name it is 2,
        or 5 for a table of mixed columns, where it carries all dependence between them.
        "auto" compares 1, 2, 3, 5, 8 and 13 by short fits to halves of the rows, each scored on the other half, and takes the
        smallest whose score is within one standard error of the highest; `evidence_` has the scores.
    prior : {"gaussian", "uniform", "dirichlet", "categorical", "mixture"} or object, default="gaussian"
        Distribution of the latent variable: a name, a `skcvae.priors.Prior`, a torch distribution, a function
        ``sampler(n_samples, random_state)``, an array of atoms or a tuple (atoms, weights).
    likelihood : {"auto", "gaussian", "table", "bernoulli"}, dict or skcvae.likelihoods.Likelihood, default="auto"
        Distribution of the data given the latent variable. "gaussian" has one fixed scale that is a function of X alone. "table",
        for columns of unlike kinds and units, transforms them and has the covariance of what a decoder leaves of rows that it has
        not seen, for which there are short fits to halves of the rows: see `skcvae.likelihoods.GaussianLikelihood`. "auto" is
        "table" for at least two columns more than components and at most 200, and "gaussian" elsewhere: in the plane, over atoms,
        with network="conv" and for images. `noise_` says what was chosen. Of a data frame with text, truth values, categories,
        dates or codes "auto" finds what each column is, and `columns_` says it; a dict such as ``{"visits": "poisson"}`` tells it
        for some of them, see `skcvae.likelihoods.AutoLikelihood`.
    network : {"mlp", "conv"}, skcvae.networks.Network or tuple (encoder, decoder), default="mlp"
        Architecture of the decoder, beside a linear map: a multilayer perceptron, transposed convolutions for square grey images,
        an object with parameters of its own, or torch modules or functions ``f(n_inputs, n_outputs)`` that return one. The
        encoder is not used and may be None.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the hidden layers of "mlp".
    activation : {"steep", "relu", "tanh", "elu", "silu", "gelu", "softplus"}, default="steep"
        Activation of the hidden layers of "mlp" and "conv". "steep" makes the borders between the cells of the data, see
        `skcvae.networks.Steep`.
    epsilon : float, default=1.0
        Entropic weight, a factor of the likelihood's temperature: a Gaussian model tells apart what differs by more than
        :math:`\sqrt\epsilon \sigma`. 1 is the weight of a VAE; choose it by `score`.
    varsigma : float in [0, inf], default=inf
        Weight of :math:`\mathrm{KL}(q(z) \| p(z))` between aggregate posterior and prior: inf holds them equal, 0 is maximum
        likelihood with exact posteriors.
    solver : str or skcvae.transport.Solver, default="semi-dual"
        Solver of the coupling during training, see `skcvae.transport`. "semi-dual" and "dual" have one number for each row
        of X; "semi-dual-network" and "dual-network" have networks, trained on minibatches. With "-primal" at the end decoder steps
        are on every datum's importance-weighted draws (Algorithm 1) in place of the columns of the plan (Algorithm 2). An object
        brings its own tolerances. All end in the same polishing and the same frozen solve.
    schedule : skcvae.schedule.Schedule, default=None
        Steps, rounds, draws, rows and temperatures of the phases; None is ``Schedule()``.
    proposal : {"auto", "prior", "encoder"}, default="auto"
        Draws that inference weighs.

        - "prior": the pool's, for all rows and questions; the fastest.
        - "auto": the same, and for the density of a row where these have an error above 0.05 nats the row's own, from a Laplace
          approximation near its most probable draw of the pool, mixed with the prior's. Where the prior has no density, or the
          decoder no derivatives, the pool's alone.
        - "encoder": every row's own, for posteriors too, from a Gaussian encoder that is fitted to the coupling after everything
          else and from a Laplace approximation near its mean, mixed with the prior's. Worth its time where effective sample sizes
          are small, as with many components. It needs a prior with a density.
    pool_size : int, default=4096
        Draws in the pool that inference uses, at least; it grows until the coupling's marginal error is within the tolerance.
    draws_per_step : int, default=256
        Draws from the prior in each step; the data are always all used.
    learning_rate_init : float, default=5e-3
        Learning rate of Adam; it rises and falls over the training and over every round of polishing. It is 1.4 times as high in
        the first stage of rounds, and 0.07 times in the last.
    max_iter : int, default=2000
        Decoder steps of the training and of each round of polishing, at most. The training makes no more than 100, a round as many
        as the rows ask for; those of rounds are not counted.
    max_time : float, default=None
        Seconds after which training and polishing end; None sets no limit. The best decoder so far is kept, its coupling is solved
        once more, and a warning says when that is above its tolerance. Only this parameter makes a fit depend on time.
    tol : float, default=1e-2
        Training stops when the decoder-to-barycentre residual has not fallen by this share for `n_iter_no_change` windows of 50
        steps; polishing stops when the residual is at most this, or when the semi-dual has stopped falling by this, both in
        nats over epsilon.
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
        A folder in which every fit keeps its state, in a file of its own, every 200 steps and after every round; the fits of a grid
        search may share it. Where a fit finds its file it goes on from it and ends as if it had not been interrupted; at the end
        the file is removed.
    warm_start : bool, default=False
        Go on from the decoder of the last fit, with units and likelihood as they were: polish and freeze, without training, which
        would lose the layout. For more rounds, for other rows, or for another epsilon.

    Attributes
    ----------
    coupling_ : skcvae.transport.Coupling
        Record of the frozen coupling: epsilon, marginal_error, n_iter, converged, dual_value, n_draws, information.
    n_iter_ : int
        Decoder steps made in training.
    n_rounds_ : int
        Rounds of polishing made, after a short one from each layout.
    loss_curve_, marginal_error_curve_ : list of float
        Semi-dual in nats, at that step's temperature, and chi-square of the data marginal on each training step's draws.
    validation_scores_ : list of float or None
        Log-likelihood of X_val after every round of polishing, in nats, by the round's draws. Only where there were rows that were
        not fitted, by `fit`'s X_val or by `early_stopping`.
    converged_ : bool
        Whether polishing ended by itself, before its last round, and the coupling is within its tolerance.
    n_components_ : int
        Dimension k of the latent variable.
    evidence_ : object or None
        With n_components="auto" the numbers that were compared, their scores, errors and the one that was chosen.
    prior_, likelihood_, module_ : objects
        The prior, the bound likelihood and the decoder, a torch module on the CPU.
    n_features_in_, feature_names_in_ : as in scikit-learn
    columns_ : record
        What each column of the data frame holds that was fitted; it prints as a table. Only where X was a frame.

    References
    ----------
    X. Hao and P. Shafto, Coupled Variational Autoencoder, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae import CoupledVAE
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> model = CoupledVAE(max_iter=50, random_state=0).fit(X)
    >>> model.transform(X).shape, model.sample(3, random_state=0).shape
    ((100, 2), (3, 4))
    >>> model.coupling_.marginal_error <= 1e-3
    True
    """

    _fitted: CoupledFit

    def __init__(
        self,
        n_components: int | str | None = None,
        *,
        prior: Any = "gaussian",
        likelihood: str | Likelihood | Mapping[str, str] = "auto",
        network: Any = "mlp",
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: str = "steep",
        epsilon: float = 1.0,
        varsigma: float = np.inf,
        solver: str | Solver = "semi-dual",
        schedule: Schedule | None = None,
        proposal: str = "auto",
        pool_size: int = 4096,
        draws_per_step: int = 256,
        learning_rate_init: float = 5e-3,
        max_iter: int = 2000,
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
        self.epsilon = epsilon
        self.varsigma = varsigma
        self.draws_per_step = draws_per_step
        self.solver = solver
        self.schedule = schedule
        self.proposal = proposal

    @classmethod
    def from_infovae(cls, *, alpha: float, lambd: float, **params: Any) -> CoupledVAE:
        r"""The coupled counterpart of an InfoVAE.

        .. math:: \epsilon = 1 - \alpha, \qquad \varsigma = \alpha + \lambda - 1

        Parameters
        ----------
        alpha : float below 1
        lambd : float with alpha + lambd of at least 1; inf is allowed
        **params : other parameters of `CoupledVAE`

        Returns
        -------
        CoupledVAE

        Examples
        --------
        >>> from skcvae import CoupledVAE
        >>> CoupledVAE.from_infovae(alpha=0.5, lambd=2.5)
        CoupledVAE(epsilon=0.5, varsigma=2.0)
        """
        epsilon, varsigma = infovae_weights(alpha, lambd, infinite=True)
        if epsilon == 0:
            raise ValueError(f"alpha must be below 1, got {alpha!r}: epsilon = 1 - alpha must be positive. Lower alpha.")
        return cls(epsilon=epsilon, varsigma=varsigma, **params)

    @available_if(_has_atoms)
    def predict(self, X: ArrayLike) -> NDArray[np.intp]:
        """The most probable atom of each row, averaged over what is missing; only with a prior on atoms.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        array of shape (n,), indices of the prior's atoms
        """
        rows = self._checked(X)
        with self._answering(rows.dtype) as model:
            inference = cast(PoolInference, model.inference)

            def whole(block: NDArray) -> NDArray:
                return as_array(inference.most_probable(model.standardised(block)))

            def partial(completed: NDArray) -> NDArray:
                return np.array([as_array(inference.probabilities(model.standardised(row)).mean(0)).argmax() for row in completed])

            answer = self._completing(rows, whole, partial, N_COMPLETIONS, np.random.default_rng(0))
            return _memory.in_blocks(rows, answer, np.intp)

    @property
    def coupling_(self) -> Coupling:
        """Record of the frozen coupling."""
        return cast(CoupledFit, self._record).coupling

    @property
    def n_rounds_(self) -> int:
        """Rounds of polishing made, after a short one from each layout."""
        return cast(CoupledFit, self._record).n_rounds

    @property
    def marginal_error_curve_(self) -> list[float]:
        """Chi-square of the data marginal on each training step's draws."""
        return cast(CoupledFit, self._record).marginal_errors.numbers()

    def hole_score(self, Z: ArrayLike) -> NDArray:
        r"""How far latent points are from decoding to data; large in a hole.

        .. math:: -\epsilon \log \frac1n \sum_i p(x_i \mid z)^{1/\epsilon}

        minus its mean over draws of the pool: all of them or, where the tangents there would take more than 4 MiB, the first ones.
        It needs no data. These tangents bound the sum from below: the score is exact at the draws and otherwise too high by a term
        of second order in the distance to the nearest.

        Parameters
        ----------
        Z : array-like of shape (m, n_components)

        Returns
        -------
        array of shape (m,), in nats, in the precision of Z
        """
        points = self._checked_latent(Z)
        with self._answering(points.dtype) as model:
            return _memory.in_blocks(points, model.hole_score)

    def _fit(self, data: Table, held_out: Table | None, watch: Watch | None) -> CoupledFit:
        course = self._course(lambda table, rng: self._problem(table, held_out, rng), data, held_out, watch)
        problem = course.root
        problem.pace = course.pace
        with self._told_when_diverged(f"raise epsilon (now {problem.setting.epsilon:g})"):
            polished = _phases.polish(course, self._layouts(course))
            frozen = _phases.freeze(problem, polished.potential, int(self.pool_size))
            encoder = _phases.propose(problem, frozen.potential) if self.proposal == "encoder" else None
            record = self._found(problem, frozen, polished, encoder)
        n_rounds = problem.schedule.polish_rounds
        what = (
            f"Polishing made its last of polish_rounds={n_rounds} rounds, and another one would still have lowered the semi-dual by"
        )
        text = f"{what} more than tol={problem.setting.tol:g}. Raise polish_rounds: schedule=Schedule(polish_rounds=...)."
        self._warn_of_last_step(course, polished.settled or n_rounds == 0, text)
        self._warn(record, problem.x)
        course.end()
        return record

    def _short_parameters(self) -> dict[str, Any]:
        given = Schedule() if self.schedule is None else self.schedule
        return {"schedule": given.shorter()}

    def _at_temperature_one(self) -> dict[str, Any]:
        return {"epsilon": 1.0}

    def _layouts(self, course: Course[_phases.Problem]) -> list[_phases.Layout]:
        """What polishing may start from."""
        if self._is_warm:
            return [_phases.Layout(**course.stage("warm", lambda: _phases.present(course.root).state_dict()))]
        linear = _phases.Layout(**course.stage("start", lambda: _phases.start(course.root).state_dict()))
        layouts = [linear]
        if _phases.is_wide(course.root) and not course.pace.is_over:
            encoded = course.stage("encode", lambda: _phases.encode(course.root, linear).state_dict())
            layouts.append(_phases.Layout(**encoded))
        return [*layouts, _phases.train(course, linear.temperature)]

    def _concluded(self, root: _phases.Problem, owner: Any) -> CoupledFit:
        frozen = _phases.freeze(root, owner.potential, int(self.pool_size))
        return self._found(root, frozen, _phases.Polished(owner.potential, False, []), None)

    def _found(
        self, problem: _phases.Problem, frozen: _phases.Frozen, polished: _phases.Polished, encoder: Encoder | None
    ) -> CoupledFit:
        epsilon, family = problem.setting.epsilon, host_copy(problem.family)
        scores = None
        if problem.held_out is not None:
            values = polished.values or [_phases.held_out(problem, frozen.pool)]
            scores = tuple(-epsilon * value - problem.held_out.log_volume for value in values)
        return CoupledFit(
            prior=problem.prior,
            decoder=host_copy(problem.decoder),
            family=family,
            temperature=epsilon,
            dtype=problem.data.precision(family, epsilon),
            kind=problem.kind,
            losses=Curve().extended(problem.history.loss),
            validation_scores=scores,
            converged=frozen.coupling.converged and polished.settled,
            pool=frozen.pool,
            coupling=frozen.coupling,
            softness=problem.setting.softness,
            holes=Holes(frozen.holes, frozen.level),
            marginal_errors=Curve().extended(problem.history.marginal_error),
            encoder=None if encoder is None else host_copy(encoder),
            is_local=self.proposal == "encoder" or (self.proposal == "auto" and _has_laplace(problem)),
            planes=None if encoder is None else frozen.planes,
            n_rounds=polished.n_rounds,
            evidence=vars(self).get("_evidence"),
        )

    def _warn(self, record: CoupledFit, x: torch.Tensor) -> None:
        """Warn of a coupling above its tolerance, and of posteriors that few draws carry."""
        coupling = record.coupling
        if not coupling.converged:
            text = f"The coupling's marginal error is {coupling.marginal_error:.2g} with {coupling.n_draws} draws, above its"
            remedy = "Raise epsilon, or give schedule=Schedule(max_draws=...) more draws."
            check.warn(f"{text} tolerance. {remedy}", ConvergenceWarning)
        index = some(len(x), ROWS_CHECKED, np.random.default_rng(0))
        rows = HOST.tensor(x if index is None else x[index.to(x.device)])
        with torch.no_grad():
            warn_of_coarse_posteriors(record, record.at(HOST).inference, rows, "training data's posteriors")

    def _problem(self, table: Table, held_out: Table | None, rng: np.random.Generator) -> _phases.Problem:
        setting = self._setting()
        solver: Solver = check.choose("solver", self.solver, SOLVERS, Solver)
        schedule = Schedule() if self.schedule is None else self.schedule
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a skcvae.schedule.Schedule or None, got {check.shown(schedule)}.")
        architecture = self._architecture(table.X.shape[1])
        prior = self._chosen_prior()
        check_proposal(self.proposal, prior)
        family, kind = self._bound_likelihood(table, rng, self._is_warm)
        decoder = self._decoder(architecture, prior, family, _random.make_torch_generator(rng))
        self._check_step("draws_per_step", decoder)
        history = _phases.History()
        if self._is_warm:
            self._take_weights(decoder=decoder)
            history = _phases.History(self.loss_curve_, self.marginal_error_curve_)
        data = self._data(family, table, setting.epsilon)
        held = judges(family, held_out, data.place)
        decoder, family = data.place.module(decoder), data.place.module(family)
        if self.proposal == "encoder":
            _check_differentiable(decoder, prior, data.place)
        return _phases.Problem(decoder, family, data, prior, solver, schedule, setting, rng, held, history, kind)

    def _setting(self) -> _phases.Setting:
        self._check_shared_numbers()
        check.check_number("draws_per_step", self.draws_per_step, numbers.Integral, 1)
        check.check_number("epsilon", self.epsilon, numbers.Real, 0, open_low=True, high=check.LARGEST_WEIGHT)
        check.check_number("varsigma", self.varsigma, numbers.Real, 0, infinite=True)
        return _phases.Setting(
            epsilon=float(self.epsilon),
            varsigma=float(self.varsigma),
            draws_per_step=int(self.draws_per_step),
            learning_rate=float(self.learning_rate_init),
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            patience=int(self.n_iter_no_change),
        )


def _check_differentiable(decoder: nn.Module, prior: Prior, place: Place) -> None:
    """ValueError unless a decoder at a place has derivatives at draws of the prior."""
    z = place.tensor(prior.sample(2, np.random.default_rng(0)))
    check_differentiable(decoder, Coordinates(prior.distribution()), z)


def _has_laplace(problem: _phases.Problem) -> bool:
    """Whether prior and decoder have the derivatives that a Laplace approximation needs."""
    if problem.prior.distribution() is None:
        return False
    try:
        _check_differentiable(problem.decoder, problem.prior, problem.data.place)
    except ValueError:
        return False
    return True


def check_proposal(proposal: Any, prior: Any) -> None:
    """Raise unless a proposal is known and the prior has the density that it needs."""
    check.choose("proposal", proposal, dict.fromkeys(PROPOSALS))
    if proposal == "encoder" and prior.distribution() is None:
        raise ValueError(
            f"proposal='encoder' weighs draws against the prior's density, and {type(prior).__name__} has none. Use "
            "proposal='prior', or give the prior as a torch distribution."
        )
