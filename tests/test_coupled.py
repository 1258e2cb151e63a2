"""CoupledVAE: its results against closed forms, and what every method promises."""

import pickle
import warnings
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import QUICK
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skcvae import CoupledVAE
from skcvae._phases import _freeze, _polish
from skcvae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from skcvae.schedule import Schedule


@pytest.fixture(scope="module")
def linear():
    """A linear decoder on Gaussian data of known covariance: no hidden layers."""
    rng = np.random.default_rng(0)
    axes = np.array([[2.0, 0.5, 0.0], [0.0, 1.0, 1.0]])
    X = rng.normal(size=(600, 2)) @ axes + 0.4 * rng.normal(size=(600, 3)) + [1.0, -2.0, 5.0]
    params = {"likelihood": GaussianLikelihood(scale=0.4), "hidden_layer_sizes": (), "max_iter": 800, "random_state": 0}
    return X, CoupledVAE(2, **params, pool_size=16384).fit(X)


def decoder_covariance(model):
    """Covariance of x under the model, exact for a linear decoder, and its mean."""
    mean = model.inverse_transform(np.zeros((1, 2)))[0]
    axes = model.inverse_transform(np.eye(2)) - mean
    return mean, axes.T @ axes + 0.4**2 * np.eye(3)


def test_score_is_the_exact_density_of_a_linear_decoder(linear):
    X, model = linear
    exact = stats.multivariate_normal(*decoder_covariance(model)).logpdf(X)
    inside = exact > np.quantile(exact, 0.05)
    np.testing.assert_allclose(model.score_samples(X)[inside], exact[inside], rtol=0, atol=0.1)
    assert model.score(X) == pytest.approx(exact.mean(), abs=0.02)


def test_linear_optimum_is_probabilistic_pca(linear):
    """The covariance of the decoder's means is Cov(X) - T I on the encoded directions."""
    X, model = linear
    covariance = decoder_covariance(model)[1] - 0.4**2 * np.eye(3)
    values, axes = np.linalg.eigh(np.cov(X.T, bias=True))
    expected = (axes[:, 1:] * (values[1:] - 0.4**2)) @ axes[:, 1:].T
    np.testing.assert_allclose(covariance, expected, atol=0.08 * np.abs(expected).max())


def test_posterior_of_a_linear_decoder_is_bayes(linear):
    """The optimum's coupling, up to the noise of 600 rows in place of the Gaussian."""
    X, model = linear
    mean, covariance = decoder_covariance(model)
    axes = model.inverse_transform(np.eye(2)) - mean
    gain = axes @ np.linalg.inv(covariance)
    posterior = model.posterior(X)
    assert np.sqrt(np.mean((posterior.mean - (X - mean) @ gain.T) ** 2)) < 0.1
    np.testing.assert_allclose(posterior.covariance.mean(0), np.eye(2) - gain @ axes.T, atol=0.02)
    np.testing.assert_allclose(model.reconstruct(X), mean + posterior.mean @ axes, atol=1e-6)


def test_samples_have_the_data_s_moments(linear):
    X, model = linear
    samples = model.sample(20000, random_state=0)
    error = np.sqrt(X.var(0) * (1 / 20000 + 1 / 600))
    assert (np.abs(samples.mean(0) - X.mean(0)) < 5 * error).all()
    np.testing.assert_allclose(np.cov(samples.T), np.cov(X.T), atol=0.1 * X.var(0).max())


def test_score_is_the_density_of_the_samples(model, X):
    """E under the samples of u/p_sample integrates the uniform density u over a box: the mean ratio is its share of mass."""
    samples = model.sample(4000, random_state=1)
    reference = stats.multivariate_normal(samples.mean(0), np.cov(samples.T))
    ratio = np.exp(reference.logpdf(samples) - model.score_samples(samples))
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(4000) + 0.02


def test_noise_levels(X):
    model = CoupledVAE(epsilon=0.25, **{**QUICK, "likelihood": GaussianLikelihood(scale=0.8)}).fit(X)
    draws = {noise: model.sample(5000, noise=noise, random_state=0) for noise in ("mean", "matched", "model")}
    for noise, variance in (("matched", 0.25 * 0.8**2), ("model", 0.8**2)):
        assert (draws[noise] - draws["mean"]).var() == pytest.approx(variance, rel=0.05)


def test_a_sharp_plan_is_solved_with_few_certificates():
    """Narrow noise, whose plan takes many iterations: five at a time, each with a certificate, had not solved it after 60."""
    X = make_moons(150, noise=0.05, random_state=0)[0]
    short = Schedule(polish_rounds=1)
    small = {"likelihood": GaussianLikelihood(0.02), "hidden_layer_sizes": (16,), "max_iter": 40}
    with mock.patch.object(_freeze, "_certificate", wraps=_freeze._certificate) as certificate:
        model = CoupledVAE(schedule=short, random_state=0, **small).fit(X)
    assert model.coupling_.converged
    assert model.coupling_.n_iter > 20
    assert certificate.call_count <= 6


def test_certificate_is_within_tolerance_and_recorded(model):
    coupling = model.coupling_
    assert coupling.converged
    assert 0 <= coupling.marginal_error <= 1e-3
    assert coupling.n_draws >= QUICK["pool_size"]
    assert (coupling.epsilon, model.n_iter_) == (1.0, len(model.loss_curve_))
    assert len(model.loss_curve_) == len(model.marginal_error_curve_)
    with pytest.raises(AttributeError):
        coupling.epsilon = 2.0


def test_aggregate_posterior_is_the_prior(model, X):
    z = model.sample_posterior(X, 200, random_state=0).reshape(-1, 2)
    assert np.abs(z.mean(0)).max() < 0.05
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.08)


def test_posterior_record_agrees_with_itself(model, X):
    posterior = model.posterior(X)
    weights = np.concatenate(list(posterior.weights()))
    draws = model._fitted.pool.draws.numpy()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(posterior.mean, weights @ draws, atol=1e-10)
    np.testing.assert_allclose(model.transform(X), posterior.mean, atol=1e-12)
    np.testing.assert_allclose(posterior.importance_ess, 1 / (weights**2).sum(1), rtol=1e-9)
    second = np.einsum("nm,mk,ml->nkl", weights, draws, draws)
    expected = second - posterior.mean[:, :, None] * posterior.mean[:, None, :]
    np.testing.assert_allclose(posterior.covariance, expected, atol=1e-9)
    sampled = posterior.sample(4000, random_state=0)
    error = np.sqrt(np.einsum("nkk->nk", posterior.covariance) / 4000)
    assert (np.abs(sampled.mean(1) - posterior.mean) < 6 * error).all()


def test_log_normaliser_extends_the_potential(model, X):
    r"""f = -epsilon log sum_j b_j exp((g_j - C_ij)/epsilon), where g is the c-transform of f: from the decoder and the data."""
    draws = model._fitted.pool.draws
    f = -torch.as_tensor(model.posterior(X).log_normaliser)
    x = torch.as_tensor(model.likelihood_.standardise(X))
    cost = model.likelihood_.cost(x, model.module_(draws.float()).detach().double())  # (n, m)
    g = -(torch.logsumexp(f[:, None] - cost, 0) - np.log(len(x)))
    again = -(torch.logsumexp(g - cost, 1) - np.log(len(draws)))
    np.testing.assert_allclose(again, f, atol=5e-2)  # the data marginal is solved to a chi-square of 1e-3
    assert float((again - f).square().mean()) < 2e-3
    assert float(f.std()) > 1.0  # the potential is no constant, which would be of no account


@pytest.mark.parametrize("method", ["transform", "score_samples", "reconstruct"])
def test_subsets_give_the_same_rows(model, X, method):
    whole = getattr(model, method)(X)
    np.testing.assert_allclose(getattr(model, method)(X[7:9]), whole[7:9], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(getattr(model, method)(X[::-1]), whole[::-1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", ["transform", "score_samples", "reconstruct", "sample_posterior"])
def test_precision_of_the_input_is_kept(model, X, method):
    single, double = (getattr(model, method)(X.astype(t)) for t in (np.float32, np.float64))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    if method != "sample_posterior":
        np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3)


def test_blocks_of_rows_do_not_change_the_result(model, X, monkeypatch):
    whole = model.transform(X)
    monkeypatch.setattr("skcvae._memory.ROWS_AT_ONCE", 11)
    np.testing.assert_allclose(model.transform(X), whole, atol=1e-12)
    assert model.sample(30, random_state=0).shape == (30, 4)


def test_same_seed_same_model_and_global_generators_untouched(X):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (CoupledVAE(**QUICK).fit(X) for _ in range(2))
    CoupledVAE(**{**QUICK, "random_state": None}).fit(X).sample(3)
    np.testing.assert_array_equal(first.transform(X), second.transform(X))
    np.testing.assert_array_equal(first.sample(5, random_state=1), second.sample(5, random_state=1))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_random_state_none_is_fresh_even_when_numpy_is_seeded(model):
    np.random.seed(0)  # noqa: NPY002
    first = model.sample(2)
    np.random.seed(0)  # noqa: NPY002
    assert not np.array_equal(first, model.sample(2))


@pytest.mark.parametrize("c", [2.0**20, 2.0**-20])
def test_scaling_the_data_scales_the_fit(X, model, c):
    """The same fit, bit for bit at powers of two; the score is shifted by -d log c."""
    scaled = CoupledVAE(**QUICK).fit(c * X)
    np.testing.assert_array_equal(scaled.transform(c * X), model.transform(X))
    np.testing.assert_allclose(scaled.score_samples(c * X), model.score_samples(X) - 4 * np.log(c), atol=1e-9)
    np.testing.assert_allclose(scaled.sample(5, random_state=0), c * model.sample(5, random_state=0), rtol=1e-12)


@pytest.mark.parametrize(
    "likelihood",
    ["gaussian", GaussianLikelihood("per_feature"), GaussianLikelihood("learned"), GaussianLikelihood("learned_per_feature"),
     GaussianLikelihood("network"), GaussianLikelihood([0.5, 0.6, 0.7, 0.8])],
    ids=str,
)  # fmt: skip
def test_every_gaussian_fits_and_scores_its_samples(X, likelihood):
    model = CoupledVAE(**{**QUICK, "likelihood": likelihood, "max_iter": 200}).fit(X)
    samples = model.sample(2000, random_state=0)
    assert np.isfinite(samples).all()
    assert abs(model.score(samples) - model.score(X)) < 1.0
    np.testing.assert_allclose(samples.mean(0), X.mean(0), atol=0.5)


def test_learned_scale_finds_the_noise():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(800, 1)) @ np.array([[2.0, -1.0, 1.0, 0.5, 1.5]]) + 0.3 * rng.normal(size=(800, 5))
    likelihood = GaussianLikelihood("learned", floor=0.05)
    model = CoupledVAE(1, likelihood=likelihood, hidden_layer_sizes=(), max_iter=1500, random_state=0).fit(X)
    scale = float(model.likelihood_.scale.detach()[0]) * model.likelihood_.unit
    assert scale == pytest.approx(0.3, rel=0.1)


def test_bernoulli_fits_binary_and_grey_data():
    rng = np.random.default_rng(0)
    p = np.where(rng.integers(0, 2, size=(300, 1)), 0.9, 0.1) * np.ones((1, 6))
    X = (rng.random((300, 6)) < p).astype(float)
    model = CoupledVAE(1, **{**QUICK, "likelihood": "bernoulli", "max_iter": 300}).fit(X)
    independent = np.log(0.5) * 6
    assert model.score(X) > independent + 0.5
    assert set(np.unique(model.sample(50, random_state=0))) == {0.0, 1.0}
    grey = CoupledVAE(1, **{**QUICK, "likelihood": BernoulliLikelihood()}).fit(p)
    assert np.isfinite(grey.score_samples(p)).all()


def test_few_effective_draws_warn_with_the_remedy(model, X):
    far = X[:5] + 40 * np.sign(X[:5])
    with pytest.warns(UserWarning, match="effective sample size.*pool_size"):
        score = model.score_samples(far, n_draws=0)
    assert np.isfinite(score).all()
    assert (model.score_samples(far) > score).all()


def test_far_points_give_no_nan(model, X):
    far = np.vstack([1e6 * X[:2], -1e12 * X[:2]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        results = [model.transform(far), model.reconstruct(far), model.score_samples(far), model.sample_posterior(far)]
    assert all(np.isfinite(result).all() for result in results)


def test_clone_pickle_and_names(model, X):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))
    assert clone(model).get_params() == model.get_params()
    assert list(model.get_feature_names_out()) == ["coupledvae0", "coupledvae1"]
    with pytest.raises(NotFittedError):
        clone(model).sample()


def test_data_frames_in_and_out(X):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = CoupledVAE(**QUICK).fit(frame)
    assert list(model.feature_names_in_) == list("abcd")
    assert list(model.set_output(transform="pandas").transform(frame).columns) == ["coupledvae0", "coupledvae1"]
    assert isinstance(model.set_output(transform="polars").transform(frame), pl.DataFrame)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame[list("badc")])


def test_pipeline_and_grid_search(X):
    pipeline = make_pipeline(MinMaxScaler(), CoupledVAE(**QUICK))
    grid = {"coupledvae__n_components": [1, 2], "coupledvae__epsilon": [0.5, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.transform(X).shape[0] == len(X)


def test_verbose_shows_progress_and_silence_is_the_default(X, capsys):
    CoupledVAE(**QUICK).fit(X)
    assert capsys.readouterr() == ("", "")
    CoupledVAE(verbose=True, **QUICK).fit(X)
    assert "train" in capsys.readouterr().err


def test_most_draws_of_a_regression_are_where_the_decoder_is_far_off():
    """A tenth of them evenly, the others in proportion to the divergence and its mean."""
    divergence = torch.zeros(1000)
    divergence[:10] = 100.0  # of mean 1, so that half of the odds are here
    plan = _polish.FrozenPlan(torch.zeros(1000, 2), torch.zeros(1000, 2), torch.ones(1000), divergence)
    order = _polish._regression_order(SimpleNamespace(rng=np.random.default_rng(0)), plan, 250)
    share = np.mean([float((next(order) < 10).double().mean()) for _ in range(400)])
    assert share == pytest.approx(0.9 * (10 * 101) / 2000 + 0.1 * 0.01, abs=0.01)


def test_solver_object_and_unmet_tolerance(X):
    short = Schedule(marginal_tol=1e-6, max_draws=1024, polish_rounds=1)
    with pytest.warns(UserWarning, match=r"marginal error is .* with 1024 draws"):
        model = CoupledVAE(schedule=short, **{**QUICK, "likelihood": GaussianLikelihood(0.2)}).fit(X)
    assert not model.coupling_.converged
    assert not model.converged_


def test_gpu_gives_the_cpu_s_posterior(model, X):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_gpu = pickle.loads(pickle.dumps(model)).set_params(device="cuda")
    np.testing.assert_allclose(on_gpu.transform(X), model.transform(X), atol=1e-8)
