"""What is too small, too large or not a number is refused before work starts, or the fit says that it diverged; nothing is lost."""

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import QUICK
from sklearn.base import clone
from torch import nn

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _training, datasets, metrics
from skcvae._place import equal, make_device
from skcvae.divergences import Adversarial
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP
from skcvae.priors import GaussianPrior, MixturePrior, TorchPrior
from skcvae.schedule import Schedule
from skcvae.transport import (
    Dual,
    DualNetwork,
    GradientAscent,
    SemiDual,
    SemiDualNetwork,
    Sinkhorn,
    from_cost,
)

pytestmark = pytest.mark.filterwarnings("ignore")
FAST = {**QUICK, "max_iter": 12, "pool_size": 256}
SHORT = Schedule(polish_rounds=1, max_draws=1024)
MODELS = {
    "CoupledVAE": CoupledVAE(**FAST, schedule=SHORT),
    "CoupledVAE, encoder": CoupledVAE(proposal="encoder", **FAST, schedule=SHORT),
    "VAE": VAE(**FAST),
    "WAE": WAE(divergence=Adversarial((8,)), **FAST),
    "InfoVAE": InfoVAE(alpha=0.5, divergence="sliced", **FAST),
}


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(60, 4)) @ np.diag([2.0, 1.0, 0.5, 0.5])


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(_training, "descend", lambda *_: pytest.fail("the training has begun"))


#: Objects and parameters that are refused, and what the message says.
REFUSED = {
    "a tolerance below 0": (lambda X: SemiDual(marginal_tol=-1.0), "marginal_tol of SemiDual must be .* got -1"),
    "no iterations": (lambda X: SemiDual(max_iter=0), "max_iter of SemiDual must be .* got 0"),
    "no rows of a step": (lambda X: SemiDualNetwork(data_batch_size=0), "data_batch_size of SemiDualNetwork must be .* got 0"),
    "a step of no length": (lambda X: GradientAscent(step_size=0.0), "step_size of GradientAscent must be .* above 0, got 0"),
    "a step backwards": (lambda X: GradientAscent(step_size=-1.0), "step_size of GradientAscent must be .* above 0, got -1"),
    "a rate of 0": (lambda X: Dual(learning_rate=0.0), "learning_rate of Dual must be .* above 0, got 0"),
    "a cost of NaN": (lambda X: from_cost(torch.full((2, 2), torch.nan)), "cost must be a finite matrix.* got NaN"),
    "negative weights": (lambda X: from_cost(torch.eye(2), torch.tensor([1.5, -0.5])), "weights must be 2 positive numbers"),
    "a tiny scale": (lambda X: CoupledVAE(**{**FAST, "likelihood": GaussianLikelihood(1e-100)}).fit(X), "scale.* too small for X"),
    "a small scale": (lambda X: VAE(**{**FAST, "likelihood": GaussianLikelihood(1e-9)}).fit(X), "scale.* too small for X"),
    "a tiny temperature": (lambda X: CoupledVAE(epsilon=1e-30, **FAST).fit(X), "epsilon.* too small for X"),
    "a huge temperature": (lambda X: CoupledVAE(epsilon=1e100, **FAST).fit(X), "epsilon must be .*at most 1e.12, got 1e.100"),
    "a huge weight": (lambda X: VAE(beta=1e100, **FAST).fit(X), "beta must be .*at most 1e.12, got 1e.100"),
    "a huge penalty": (lambda X: WAE(penalty=1e100, **FAST).fit(X), "penalty must be .*at most 1e.12, got 1e.100"),
    "a huge lambd": (lambda X: InfoVAE(lambd=1e100, **FAST).fit(X), "lambd must be .*at most 1e.12, got 1e.100"),
    "outliers": (
        lambda X: CoupledVAE(**{**FAST, "likelihood": GaussianLikelihood(0.1)}).fit(np.vstack([X, 1e9 * X[:3]])),
        "too small for X.*outliers",
    ),
    "a huge integer": (lambda X: VAE(pool_size=2**63, **{k: v for k, v in FAST.items() if k != "pool_size"}).fit(X), "2.53"),
    "a constant sampler": (lambda X: WAE(prior=lambda n, seed: np.zeros((n, 2)), **FAST).fit(X), "must vary"),
    "draws of 1e200": (lambda X: WAE(prior=lambda n, seed: np.full((n, 2), 1e200), **FAST).fit(X), "1e.200.*Rescale"),
    "covariances without means": (lambda X: MixturePrior(np.eye(2), [np.eye(2)] * 3), "covariances"),
    "one covariance for two means": (lambda X: MixturePrior(np.eye(2), [np.eye(2)]), "covariances"),
    "complex atoms": (lambda X: GaussianPrior(2, mean=[1j, 0]), "must be real, got dtype complex128"),
    "a wild pinwheel": (lambda X: datasets.make_pinwheel(10, radial_std=1e6), "radial_std must be .*at most 50"),
    "samples of 1e200": (lambda X: metrics.density_coverage(1e200 * X, 1e200 * X), "squares overflow"),
    "mps": (lambda X: VAE(device="meta", **FAST).fit(X), "device must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_work_starts(name, X, no_training):
    call, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call(X)


@pytest.mark.parametrize("solver", [SemiDual(), GradientAscent(), Sinkhorn(), Dual(), SemiDualNetwork(), DualNetwork()], ids=repr)
@pytest.mark.parametrize("epsilon", [0.0, -1.0, np.nan, np.inf, "1"])
def test_a_solver_refuses_what_is_no_temperature(solver, epsilon):
    with pytest.raises((ValueError, TypeError), match=r"epsilon must be a finite number above 0, got"):
        solver.solve(*from_cost(torch.eye(3)), epsilon)


@pytest.mark.parametrize("name", MODELS)
def test_numbers_of_any_kind(name, X):
    """numpy's integers and Python's fractions are numbers; a pool of int8 grows beyond int8."""
    expected = clone(MODELS[name]).set_params(pool_size=100, max_iter=20).fit(X)
    model = clone(MODELS[name]).set_params(pool_size=np.int8(100), max_iter=np.int64(20), tol=Fraction(1, 100)).fit(X)
    assert equal(model._fitted, expected._fitted)


def test_a_tolerance_of_zero_is_not_met(X):
    model = CoupledVAE(**FAST, schedule=Schedule(marginal_tol=0.0, solve_max_iter=3, polish_rounds=1, max_draws=512)).fit(X)
    assert not model.coupling_.converged
    assert CoupledVAE(epsilon=Fraction(1, 2), **FAST, schedule=SHORT).fit(X).coupling_.epsilon == 0.5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("likelihood", ["gaussian", GaussianLikelihood("network")])
@pytest.mark.parametrize("rows", [np.full((2, 4), 1e160), np.full((2, 4), 1e30, dtype=np.float32)], ids=["1e160", "1e30"])
def test_rows_whose_squares_overflow_are_refused_after_the_fit_as_well(name, likelihood, rows, X):
    model = clone(MODELS[name]).set_params(likelihood=likelihood).fit(X)
    for method in ("transform", "reconstruct", "score_samples", "score", "posterior", "sample_posterior"):
        with pytest.raises(ValueError, match=r"X has values up to .*whose squares overflow. Rescale X"):
            getattr(model, method)(rows)


@pytest.mark.parametrize("name", MODELS)
def test_heavy_tails_are_fitted_or_diverge(name):
    rows = 1e6 * np.random.default_rng(0).standard_cauchy(size=(3, 3))
    try:
        model = clone(MODELS[name]).fit(rows)
    except FloatingPointError as error:
        found = str(error)
    else:
        found = "The fit diverged" if np.isfinite(model.score_samples(rows)).all() else "NaN"
    assert "The fit diverged" in found


UNLIKE = np.random.default_rng(0).normal(size=(60, 4)) * [1e4, 1.0, 1e-2, 1e2] + [1e5, 0, 0, 0]
BAD_FITS = {
    "means": CoupledVAE(
        schedule=Schedule(polish_rounds=1, max_draws=1024), **{**QUICK, "likelihood": GaussianLikelihood("per_feature")}
    ).set_params(max_iter=2, learning_rate_init=0.1, pool_size=256),
    "scores": WAE(**{**QUICK, "likelihood": GaussianLikelihood("learned_per_feature")}).set_params(
        max_iter=2, learning_rate_init=0.1
    ),
}


@pytest.mark.parametrize("name", [*MODELS, *BAD_FITS])
def test_single_and_double_precision_agree_also_of_a_bad_fit(name):
    """Columns of very unlike scales, hardly fitted: where single precision is too coarse double answers, in rows of either.

    The last two differ by 1.7 of the prior's deviations and by their whole scores if single precision answers.
    """
    model = clone({**MODELS, **BAD_FITS}[name])
    model.set_params(max_iter=2)
    if name in MODELS and not isinstance(model, CoupledVAE):  # which would say that a fit so bad diverged
        model.set_params(likelihood=GaussianLikelihood("per_feature"))
    rows = UNLIKE.astype(np.float32)
    model.fit(UNLIKE)
    single, double = model.transform(rows), model.transform(rows.astype(np.float64))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=0.05)
    np.testing.assert_allclose(model.score_samples(rows), model.score_samples(rows.astype(np.float64)), rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("device", ["mps", "mps:0"])
def test_mps_is_refused_where_torch_has_it(device, monkeypatch):
    found = type("Found", (), {"device": torch.device(device)})
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: found)
    with pytest.raises(ValueError, match=r"device must be 'auto', 'cpu' or a CUDA device, got 'mps.*no double precision.*cpu"):
        make_device(device)


class Broken(nn.Module):
    """A decoder that returns NaN after some calls."""

    def __init__(self, calls):
        super().__init__()
        self.linear, self.left = nn.Linear(2, 4), calls

    def forward(self, z):
        self.left -= 1
        return self.linear(z) * (1.0 if self.left > 0 else float("nan"))


@pytest.mark.parametrize("calls", [3, 20, 60])
@pytest.mark.parametrize("name", MODELS)
def test_a_decoder_that_returns_nan_diverges(name, calls, X):
    network = (nn.Linear(4, 4 if "WAE" not in name else 2), Broken(calls))
    model = clone(MODELS[name]).set_params(network=network, max_iter=100)
    with pytest.raises((FloatingPointError, ValueError), match=r"The fit diverged|NaN"):
        model.fit(X)
    assert not hasattr(model, "_fitted")


class Stopped(BaseException):
    """What stands for Ctrl-C."""


def stopped_after(n_steps, monkeypatch, error):
    left, descend = [n_steps], _training.descend

    def counted(*args):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return descend(*args)

    monkeypatch.setattr(_training, "descend", counted)


@pytest.mark.parametrize("error", [Stopped(), RuntimeError("boom"), _training.Diverged("the loss became nan")], ids=repr)
@pytest.mark.parametrize("n_steps", [0, 1, 7, 11])
@pytest.mark.parametrize("name", MODELS)
def test_a_failed_fit_has_changed_nothing(name, n_steps, error, X, monkeypatch):
    """Neither the record, nor any attribute, nor the caller's generator; and what follows is as if it had not been tried."""
    seed = np.random.default_rng(5)
    model = clone(MODELS[name]).set_params(random_state=seed).fit(X)
    before, state, record = dict(vars(model)), seed.bit_generator.state, copy.deepcopy(model._fitted)
    with monkeypatch.context() as patch:
        stopped_after(n_steps, patch, error)
        with pytest.raises((Stopped, RuntimeError, FloatingPointError)):
            model.fit(X[:50, :3])
    assert vars(model) == before
    assert seed.bit_generator.state == state
    assert equal(model._fitted, record)
    expected = copy.deepcopy(seed)
    assert equal(model.fit(X)._fitted, clone(MODELS[name]).set_params(random_state=expected).fit(X)._fitted)


@pytest.mark.parametrize("error", [Stopped(), _training.Diverged("the loss became nan")], ids=repr)
@pytest.mark.parametrize("name", ["VAE", "WAE", "InfoVAE"])
def test_a_failed_part_has_changed_nothing(name, error, X, monkeypatch):
    """The next part is the one that would have come: critics, optimisers and sliced directions included."""
    model = clone(MODELS[name]).set_params(batch_size=16).partial_fit(X)
    expected = copy.deepcopy(model)
    expected._streaming = copy.deepcopy(model._streaming)
    with monkeypatch.context() as patch:
        stopped_after(2, patch, error)
        with pytest.raises((Stopped, FloatingPointError)):
            model.partial_fit(10 * X)
    with pytest.raises(FloatingPointError, match="The fit diverged"):
        clone(model).set_params(learning_rate_init=1e30).partial_fit(X)
    for _ in range(2):
        model.partial_fit(X)
        expected.partial_fit(X)
    assert equal(model._fitted, expected._fitted)


@pytest.mark.parametrize("name", ["VAE", "WAE", "InfoVAE"])
def test_a_stream_keeps_its_precision_and_is_pickled_without_its_optimiser(name, X):
    model = clone(MODELS[name]).partial_fit(X)
    once = len(pickle.dumps(model))
    model.partial_fit(np.vstack([X, 1e4 * X[:1]]))
    assert next(model.module_.parameters()).dtype == torch.float32
    assert len(pickle.dumps(model)) < 1.2 * once
    assert not hasattr(pickle.loads(pickle.dumps(model)), "_streaming")
    assert np.isfinite(pickle.loads(pickle.dumps(model)).partial_fit(X).score_samples(X)).all()


def test_no_pool_is_made_before_it_is_asked_for(X, monkeypatch):
    """A part costs steps; draws of the prior are weighed when a score needs them."""
    monkeypatch.setattr("skcvae._fitted.AutoencoderFit.inference", lambda _: pytest.fail("a pool is made"))
    model = VAE(**FAST)
    for rows in np.array_split(X, 3):
        model.partial_fit(rows)
    with pytest.raises(pytest.fail.Exception, match="a pool is made"):
        model.score(X)


def test_a_callback_s_end_is_no_convergence(X):
    stops = type("Stops", (), {"setup": lambda *a, **k: None, "teardown": lambda *a, **k: None})
    stops.on_fit_task_begin = lambda *a, **k: None
    stops.on_fit_task_end = lambda *a, **k: True
    model = VAE(**{**FAST, "max_iter": 5000})
    if not hasattr(model, "set_callbacks"):
        pytest.skip("scikit-learn before 1.9")
    model.set_callbacks(stops()).fit(X)
    assert model.n_iter_ == 50
    assert not model.converged_


@pytest.mark.parametrize("model", [VAE(annealing=1.0), VAE(), WAE(), CoupledVAE(schedule=SHORT)], ids=repr)
def test_there_is_a_validation_score_also_of_a_short_fit(model, X):
    fitted = model.set_params(**{**FAST, "max_iter": 10}).fit(X, X_val=X[:20])
    assert len(fitted.validation_scores_) >= 1
    assert np.isfinite(fitted.validation_scores_).all()


def test_on_a_plateau_the_rate_falls_before_the_end(X, monkeypatch):
    """A fit that has stopped at a plateau has had steps of every rate down to zero."""
    rates, set_rate = [], _training.set_learning_rate
    monkeypatch.setattr(_training, "set_learning_rate", lambda opt, rate: (rates.append(rate), set_rate(opt, rate))[1])
    model = VAE(**{**FAST, "max_iter": 3000, "tol": 10.0, "n_iter_no_change": 2, "learning_rate_init": 1e-3}).fit(X)
    assert model.converged_
    assert model.n_iter_ < 600
    assert rates[-1] < 1e-2 * max(rates)
    assert max(rates) == pytest.approx(1e-3, rel=1e-3)


def test_parameters_with_arrays_have_a_hash_and_no_ambiguous_equality():
    torch_prior = TorchPrior(torch.distributions.Beta(1.0, 2.0))
    for value in (GaussianLikelihood([0.1, 0.2]), MixturePrior(np.eye(2)), MLP([8]), torch_prior):
        assert value == value
        assert (value == copy.copy(value)) is False
        assert isinstance(hash(value), int)
    assert SemiDual() == copy.copy(SemiDual())
