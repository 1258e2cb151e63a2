"""The coupled variational autoencoder."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from skcvae import _semidual
from skcvae import _validation as check
from skcvae._base import LatentVariableModel
from skcvae._training import Diverged
from skcvae.likelihoods import LIKELIHOODS, Family, Likelihood
from skcvae.networks import ACTIVATIONS, LinearPlusMLP
from skcvae.priors import PRIORS, Prior
from skcvae.transport import Coupling, SemiDual

#: Formulations that have a name.
FORMULATIONS = {"semi-dual": SemiDual()}


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
    prior : {"gaussian"} or skcvae.priors.Prior, default="gaussian"
        Distribution of the latent variable.
    likelihood : {"gaussian", "bernoulli"} or skcvae.likelihoods.Likelihood, default="gaussian"
        Distribution of the data given the latent variable. "gaussian" has one fixed scale that is a function of X alone.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Widths of the decoder's hidden layers; a linear map runs beside them.
    activation : {"relu", "tanh", "elu", "silu", "gelu", "softplus"}, default="relu"
        Activation of the hidden layers.
    epsilon : float, default=1.0
        Entropic weight, a factor of the likelihood's temperature: a Gaussian model tells apart what differs by more than
        :math:`\sqrt\epsilon \sigma`. 1 is the weight of a VAE; choose it by `score`.
    formulation : {"semi-dual"} or skcvae.transport.SemiDual, default="semi-dual"
        Solver of the coupling, with its tolerances and its schedule.
    pool_size : int, default=4096
        Draws in the pool that inference uses, at least; it grows until the coupling's marginal error is within the tolerance.
    batch_size : int, default=256
        Draws from the prior in each step; the data are always all used.
    learning_rate_init : float, default=1e-3
        Learning rate of Adam.
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

    Attributes
    ----------
    coupling_ : skcvae.transport.Coupling
        Record of the frozen coupling: epsilon, marginal_error, n_iter, converged, dual_value, n_draws.
    n_iter_ : int
        Decoder steps made in training.
    loss_curve_, marginal_error_curve_ : list of float
        Semi-dual in nats, at that step's temperature, and chi-square of the data marginal on each training step's draws.
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

    def __init__(
        self,
        n_components: int = 2,
        *,
        prior: str | Prior = "gaussian",
        likelihood: str | Likelihood = "gaussian",
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        epsilon: float = 1.0,
        formulation: str | SemiDual = "semi-dual",
        pool_size: int = 4096,
        batch_size: int = 256,
        learning_rate_init: float = 1e-3,
        max_iter: int = 2000,
        tol: float = 1e-2,
        n_iter_no_change: int = 10,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.prior = prior
        self.likelihood = likelihood
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.epsilon = epsilon
        self.formulation = formulation
        self.pool_size = pool_size
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, X: NDArray[np.float64]) -> None:
        problem = self._problem(X)
        try:
            linear = _semidual.start(problem)
            trained, history = _semidual.train(problem, linear.temperature)
            potential, settled = _semidual.polish(problem, [linear, trained])
            self._pool, self.coupling_ = _semidual.freeze(problem, potential, self.pool_size)
        except Diverged as error:
            raise FloatingPointError(
                f"The fit diverged: {error}. Lower learning_rate_init (now {self.learning_rate_init:g}), raise epsilon "
                f"(now {self.epsilon:g}) or standardise X. Nothing was changed by this fit."
            ) from error
        self._keep(problem, history, settled)

    def _keep(self, problem: _semidual.Problem, history: _semidual.History, settled: bool) -> None:
        self._pool = self._pool.to(torch.empty(0, dtype=torch.float64))
        self.prior_, self.likelihood_, self.module_ = problem.prior, problem.family.cpu(), problem.decoder.cpu()
        self._temperature = self.epsilon
        self.loss_curve_, self.marginal_error_curve_ = history.loss, history.marginal_error
        self.n_iter_ = len(history.loss)
        self.converged_ = self.coupling_.converged and settled
        if not self.coupling_.converged:
            self._warn_of_marginal_error()

    def _warn_of_marginal_error(self) -> None:
        warnings.warn(
            f"The coupling's marginal error is {self.coupling_.marginal_error:.2g} with {self.coupling_.n_draws} draws, above its "
            "tolerance. Raise epsilon, or give formulation=SemiDual(max_draws=...) more draws.",
            ConvergenceWarning,
            stacklevel=4,
        )

    def _problem(self, X: NDArray[np.float64]) -> _semidual.Problem:
        self._check_numbers()
        sizes = check.check_sizes(self.hidden_layer_sizes)
        check.choose("activation", self.activation, ACTIVATIONS)
        family = self._bound_likelihood(X)
        rng, prior = check.make_rng(self.random_state), self._bound_prior()
        decoder = LinearPlusMLP(self.n_components, family.n_outputs, sizes, self.activation, check.make_torch_generator(rng))
        x = torch.as_tensor(family.standardise(X))
        like = torch.empty(0, dtype=family.training_dtype(x, self.epsilon), device=check.make_device(self.device))
        return _semidual.Problem(
            decoder=decoder.to(like),
            family=family.to(like),
            x=x.to(like),
            prior=prior,
            epsilon=float(self.epsilon),
            solver=check.choose("formulation", self.formulation, FORMULATIONS, SemiDual),
            rng=rng,
            batch_size=int(self.batch_size),
            learning_rate=float(self.learning_rate_init),
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            patience=int(self.n_iter_no_change),
            verbose=bool(self.verbose),
        )

    def _check_numbers(self) -> None:
        for name in ("n_components", "pool_size", "batch_size", "max_iter", "n_iter_no_change"):
            check.check_number(name, getattr(self, name), numbers.Integral, 1)
        for name in ("epsilon", "learning_rate_init"):
            check.check_number(name, getattr(self, name), numbers.Real, 0, open_low=True)
        check.check_number("tol", self.tol, numbers.Real, 0)

    def _bound_likelihood(self, X: NDArray[np.float64]) -> Family:
        chosen = check.choose("likelihood", self.likelihood, LIKELIHOODS, Likelihood)
        return (chosen() if isinstance(chosen, type) else chosen).bind(X)

    def _bound_prior(self) -> Prior:
        chosen = check.choose("prior", self.prior, PRIORS, Prior)
        prior = chosen(self.n_components) if not isinstance(chosen, Prior) else chosen
        if prior.n_components != self.n_components:
            raise ValueError(f"prior has {prior.n_components} components and n_components is {self.n_components}. Make them equal.")
        return prior
