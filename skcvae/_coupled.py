"""The coupled variational autoencoder."""

from __future__ import annotations

import copy
import numbers
import os
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skcvae import _checks as check
from skcvae import _memory, _phases, _random
from skcvae._base import LatentVariableModel
from skcvae._callbacks import Watch
from skcvae._training import Course
from skcvae.likelihoods import Likelihood
from skcvae.objectives import infovae_weights
from skcvae.posteriors import (
    Coordinates,
    Encoder,
    Inference,
    Laplace,
    LocalDraws,
    LocalInference,
    Pool,
    PoolInference,
    Refined,
    Scores,
    in_precision,
)
from skcvae.priors import as_prior, is_discrete
from skcvae.transport import SOLVERS, Coupling, Solver

STRATEGIES = ("dual", "primal")
#: What inference of a coupled model weighs.
PROPOSALS = ("prior", "encoder")
#: Rows of the training data whose effective sample size is looked at.
ROWS_CHECKED = 256


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

    and no encoder is trained: the posterior is the coupling, drawn by importance-weighting a pool of prior draws. The aggregate
    posterior is then the prior, so that samples do not fall into holes.

    Parameters
    ----------
    n_components : int, default=2
        Dimension k of the latent variable.
    prior : {"gaussian", "uniform", "dirichlet", "categorical", "mixture"} or object, default="gaussian"
        Distribution of the latent variable: a name, a `skcvae.priors.Prior`, a torch distribution, a function
        ``sampler(n_samples, random_state)``, an array of atoms or a tuple (atoms, weights).
    likelihood : {"gaussian", "bernoulli"} or skcvae.likelihoods.Likelihood, default="gaussian"
        Distribution of the data given the latent variable. "gaussian" has one fixed scale that is a function of X alone.
    network : {"mlp", "conv"}, skcvae.networks.Network or tuple (encoder, decoder), default="mlp"
        Architecture of the decoder, beside a linear map: a multilayer perceptron, transposed convolutions for square grey images,
        an object with parameters of its own, or torch modules or functions ``f(n_inputs, n_outputs)`` that return one. The
        encoder is not used and may be None.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the hidden layers of "mlp".
    activation : {"relu", "tanh", "elu", "silu", "gelu", "softplus"}, default="relu"
        Activation of the hidden layers of "mlp" and "conv".
    epsilon : float, default=1.0
        Entropic weight, a factor of the likelihood's temperature: a Gaussian model tells apart what differs by more than
        :math:`\sqrt\epsilon \sigma`. 1 is the weight of a VAE; choose it by `score`.
    varsigma : float in [0, inf], default=inf
        Weight of :math:`\mathrm{KL}(q(z) \| p(z))` between aggregate posterior and prior: inf holds them equal, 0 is maximum
        likelihood with exact posteriors.
    strategy : {"dual", "primal"}, default="dual"
        Decoder steps on the columns of the plan (Algorithm 2), or on every datum's importance-weighted draws (Algorithm 1).
        They differ only while the potential is not solved.
    formulation : {"semi-dual", "dual"} or skcvae.transport.Solver, default="semi-dual"
        Solver of the coupling during training; an object brings its own tolerances and schedule.
    potential : {"vector", "network"}, default="vector"
        One number for each row of X, or a network of x trained on minibatches of the data. With `formulation="dual"` the prior's
        potential is a network of z, over atoms a vector.
    proposal : {"prior", "encoder"}, default="prior"
        Draws that inference weighs: the pool's for all rows, or every row's own, from a Gaussian encoder that is fitted to the
        coupling after everything else and from a Laplace approximation near its mean, mixed with the prior's. Worth its time
        where effective sample sizes are small, as with many components. It needs a prior with a density.
    pool_size : int, default=4096
        Draws in the pool that inference uses, at least; it grows until the coupling's marginal error is within the tolerance.
    batch_size : int, default=256
        Draws from the prior in each step; the data are always all used.
    learning_rate_init : float, default=2e-3
        Learning rate of Adam, at most; it rises and falls over the training and over every round of polishing.
    max_iter : int, default=2000
        Decoder steps of the training. Each round of polishing uses as many again, and they are not counted.
    tol : float, default=1e-2
        Training stops when the decoder-to-barycentre residual has not fallen by this share for `n_iter_no_change` windows of 50
        steps; polishing stops when the residual is at most this, or when the semi-dual has stopped falling by this, both in
        nats over epsilon.
    n_iter_no_change : int, default=10
        Windows to wait for.
    device : str or torch.device, default="auto"
        Where to compute; "auto" is a GPU where there is one.
    random_state : None, int, numpy Generator or RandomState, default=None
        Source of all randomness of the fit. None draws fresh entropy; an int gives the same fit on the same machine.
    verbose : bool, default=False
        Show progress.
    checkpoint : path or None, default=None
        A file in which the fit keeps its state, every 200 steps and after every round. Where it is there, `fit` goes on from it and
        ends as if it had not been killed; at the end it is removed. It is a pickle: resume only from your own.
    warm_start : bool, default=False
        Go on from the decoder of the last fit, with units and likelihood as they were: polish and freeze, without training, which
        would lose the layout. For more rounds, for other rows, or for another epsilon.

    Attributes
    ----------
    coupling_ : skcvae.transport.Coupling
        Record of the frozen coupling: epsilon, marginal_error, n_iter, converged, dual_value, n_draws.
    n_iter_ : int
        Decoder steps made in training.
    loss_curve_, marginal_error_curve_ : list of float
        Semi-dual in nats, at that step's temperature, and chi-square of the data marginal on each training step's draws.
    validation_scores_ : list of float or None
        Log-likelihood of X_val after every round of polishing, in nats, by the round's draws. Only where `fit` was given X_val.
    converged_ : bool
        Whether polishing ended by itself, before its last round, and the coupling is within its tolerance.
    prior_, likelihood_, module_ : objects
        The prior, the bound likelihood and the decoder, a torch module on the CPU.
    n_features_in_, feature_names_in_ : as in scikit-learn

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

    coupling_: Coupling
    _remedy = "Raise pool_size, raise epsilon, lower n_components, or use proposal='encoder'."
    _pool: Pool
    _planes: Scores
    _hole_planes: Scores
    _hole_level: float
    _softness: float
    _proposal: Refined | None

    def __init__(
        self,
        n_components: int = 2,
        *,
        prior: Any = "gaussian",
        likelihood: str | Likelihood = "gaussian",
        network: Any = "mlp",
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        epsilon: float = 1.0,
        varsigma: float = np.inf,
        strategy: str = "dual",
        formulation: str | Solver = "semi-dual",
        potential: str = "vector",
        proposal: str = "prior",
        pool_size: int = 4096,
        batch_size: int = 256,
        learning_rate_init: float = 2e-3,
        max_iter: int = 2000,
        tol: float = 1e-2,
        n_iter_no_change: int = 10,
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
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            device=device,
            random_state=random_state,
            verbose=verbose,
            checkpoint=checkpoint,
            warm_start=warm_start,
        )
        self.epsilon = epsilon
        self.varsigma = varsigma
        self.strategy = strategy
        self.formulation = formulation
        self.potential = potential
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
        """The most probable atom of each row; only with a prior on atoms.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        array of shape (n,), indices of the prior's atoms
        """
        inference = cast(PoolInference, self._inference_for(X := self._checked(X)))
        return self._rowwise(X, inference.most_probable).astype(np.intp)

    @torch.no_grad()
    def hole_score(self, Z: ArrayLike) -> NDArray:
        r"""How far latent points are from decoding to data; large in a hole.

        .. math:: -\epsilon \log \frac1n \sum_i p(x_i \mid z)^{1/\epsilon}

        minus its mean on the pool. It needs no data: the sum is bounded from below by its tangents at the pool's draws, so that the
        score is exact there and otherwise too high by a term of second order in the distance to the nearest.

        Parameters
        ----------
        Z : array-like of shape (m, n_components)

        Returns
        -------
        array of shape (m,), in nats, in the precision of Z
        """
        check_is_fitted(self)
        return _memory.in_blocks(check.check_latent(Z, self.prior_.n_components), self._holes)

    def _holes(self, Z: NDArray) -> NDArray:
        like = self._like(Z)
        eta, normaliser = copy.deepcopy(self.likelihood_).to(like).natural(self._output(Z))
        score: NDArray = (normaliser - self._temperature * self._hole_planes.to(like).largest(eta)).cpu().numpy()
        return score - self._hole_level

    @property
    def _inference(self) -> Inference:
        pooled = PoolInference(self._pool, self.likelihood_, self._temperature)
        if self._proposal is None:
            return pooled
        coordinates = Coordinates(self.prior_.distribution())
        mixture = cast(PoolInference, in_precision(pooled, self._pool.draws)).mixture
        local = LocalDraws(self._proposal, coordinates, self.module_, self._pool.draws, mixture)
        return LocalInference(local, self.likelihood_, self._temperature, self._planes, self._softness)

    def _sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return self._pool.sample_aggregate(n_samples, rng)

    def _fit(self, X: NDArray, X_val: NDArray | None, watch: Watch | None) -> None:
        course = self._course(self._problem(X, X_val), (X, X_val), watch)
        problem = course.root
        with self._told_when_diverged(f"raise epsilon (now {self.epsilon:g})"):
            polished = _phases.polish(course, self._layouts(course))
            frozen = _phases.freeze(problem, polished.potential, self.pool_size)
            proposal = _phases.propose(problem, frozen.potential) if self.proposal == "encoder" else None
        self._keep(problem, frozen, polished, proposal)
        course.end()

    def _layouts(self, course: Course[_phases.Problem]) -> list[_phases.Layout]:
        """What polishing may start from."""
        if self._is_warm:
            return [course.stage("warm", lambda: _phases.present(course.root))]
        linear = course.stage("start", lambda: _phases.start(course.root))
        return [linear, _phases.train(course, linear.temperature)]

    def _conclude(self, root: _phases.Problem, owner: Any) -> None:
        frozen = _phases.freeze(root, owner.potential, self.pool_size)
        self._keep(root, frozen, _phases.Polished(owner.potential, False, []), None)

    def _keep(self, problem: _phases.Problem, frozen: _phases.Frozen, polished: _phases.Polished, encoder: Encoder | None) -> None:
        self._pool, self.coupling_ = frozen.pool, frozen.coupling
        self._planes, self._hole_planes, self._hole_level = frozen.planes, frozen.holes, frozen.level
        self.prior_, self.likelihood_, self.module_ = problem.prior, problem.family.cpu(), problem.decoder.cpu().eval()
        self._temperature, self._softness = float(self.epsilon), problem.setting.softness
        self._proposal = None if encoder is None else self._refined(encoder.cpu())
        self.loss_curve_, self.marginal_error_curve_ = problem.history.loss, problem.history.marginal_error
        self.n_iter_ = len(self.loss_curve_)
        self._coarsest = problem.data.precision(self.likelihood_, self._temperature)
        level, held_out = self.likelihood_.log_volume, () if problem.x_val is None else polished.values
        self.validation_scores_ = [-self.epsilon * value - level for value in held_out] or None
        self.converged_ = self.coupling_.converged and polished.settled
        if not self.coupling_.converged:
            self._warn_of_marginal_error()
        self._check_effective_size(problem.x)

    def _refined(self, encoder: Encoder) -> Refined:
        coordinates, matched = Coordinates(self.prior_.distribution()), self.likelihood_.tempered(self._temperature)
        return Refined(encoder, Laplace(encoder, self.module_, matched, coordinates, coordinates.of(self._pool.draws)))

    @torch.no_grad()
    def _check_effective_size(self, x: torch.Tensor) -> None:
        some = x[:: max(1, len(x) // ROWS_CHECKED)].double().cpu()
        size = float(in_precision(self._inference, some).effective_size(some).median())
        self._warn_of_few_draws("training data's posteriors", size, "what is drawn from them is coarse")

    def _warn_of_marginal_error(self) -> None:
        record, remedy = self.coupling_, "Raise epsilon, or give formulation=SemiDual(max_draws=...) more draws."
        text = f"The coupling's marginal error is {record.marginal_error:.2g} with {record.n_draws} draws, above its tolerance."
        warnings.warn(f"{text} {remedy}", ConvergenceWarning, stacklevel=4)

    def _problem(self, X: NDArray, X_val: NDArray | None) -> _phases.Problem:
        setting, solver = self._setting(), self._solver()
        architecture = self._architecture(X.shape[1])
        prior, rng = as_prior(self.prior, self.n_components), _random.make_rng(self.random_state)
        check_proposal(self.proposal, prior)
        family = self._bound_likelihood(X, rng, self._is_warm)
        decoder = self._decoder(architecture, prior, family, _random.make_torch_generator(rng))
        history = _phases.History()
        if self._is_warm:
            self._take_weights(module_=decoder)
            history = _phases.History(list(self.loss_curve_), list(self.marginal_error_curve_))
        data = self._data(family, X, self.epsilon)
        x_val = family.standardised_as(X_val, data.like)
        return _phases.Problem(decoder.to(data.like), family.to(data.like), data, prior, solver, setting, rng, x_val, history)

    def _setting(self) -> _phases.Setting:
        self._check_numbers()
        check.choose("strategy", self.strategy, dict.fromkeys(STRATEGIES))
        return _phases.Setting(
            epsilon=float(self.epsilon),
            varsigma=float(self.varsigma),
            strategy=self.strategy,
            batch_size=int(self.batch_size),
            learning_rate=float(self.learning_rate_init),
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            patience=int(self.n_iter_no_change),
            verbose=bool(self.verbose),
        )

    def _solver(self) -> Solver:
        chosen = check.choose("formulation", self.formulation, SOLVERS, Solver)
        if not isinstance(chosen, Solver):
            return check.choose("potential", self.potential, chosen)
        check_solver(chosen)
        if chosen.potential != self.potential:
            raise ValueError(
                f"formulation is a {type(chosen).__name__}, whose potential is a {chosen.potential}, and potential is "
                f"{self.potential!r}. Set potential={chosen.potential!r}."
            )
        return chosen

    def _check_numbers(self) -> None:
        self._check_shared_numbers()
        check.check_number("epsilon", self.epsilon, numbers.Real, 0, open_low=True)
        check.check_number("varsigma", self.varsigma, numbers.Real, 0, infinite=True)


def check_proposal(proposal: Any, prior: Any) -> None:
    """Raise unless a proposal is known and the prior has the density that it needs."""
    check.choose("proposal", proposal, dict.fromkeys(PROPOSALS))
    if proposal == "encoder" and prior.distribution() is None:
        raise ValueError(
            f"proposal='encoder' weighs draws against the prior's density, and {type(prior).__name__} has none. Use "
            "proposal='prior', or give the prior as a torch distribution."
        )


def check_solver(solver: Any) -> None:
    """Raise unless the schedule of a `skcvae.transport.Solver` is of numbers that a fit can follow."""
    for name, low in (("max_iter", 1), ("batch_max_iter", 1), ("polish_rounds", 0), ("max_draws", 1), ("max_rows", 1)):
        check.check_number(f"{name} of formulation", getattr(solver, name), numbers.Integral, low)
    for name in ("tol", "batch_tol"):
        check.check_number(f"{name} of formulation", getattr(solver, name), numbers.Real, 0)
