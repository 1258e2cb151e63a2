"""VAE, WAE and InfoVAE: closed forms of linear models, special cases of one another, and the contract they share."""

import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import QUICK
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from test_encoders import needs_zuko

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _amortise
from skcvae._data import Data, Table
from skcvae._place import Place
from skcvae.divergences import DIVERGENCES, MMD, Adversarial
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP, Conv
from skcvae.posteriors import PlanarFlow
from skcvae.priors import PRIORS, GaussianPrior, UniformPrior

MODELS = {
    "VAE": VAE(**QUICK),
    "beta": VAE(beta=4.0, annealing=0.5, **QUICK),
    "full": VAE(encoder="full", **QUICK),
    "planar": VAE(encoder=PlanarFlow(3), **QUICK),
    "spline": VAE(encoder="spline", **QUICK),
    "WAE": WAE(**QUICK),
    "WAE, Gaussian": WAE(encoder="gaussian", **QUICK),
    **{f"WAE, {name}": WAE(divergence=name, **QUICK) for name in DIVERGENCES if name != "mmd"},
    "InfoVAE": InfoVAE(**QUICK),
    "AAE": InfoVAE(alpha=1.0, lambd=1.0, divergence="adversarial", **QUICK),
}


@pytest.fixture(params=list(MODELS))
def unfitted(request):
    if request.param == "spline":
        needs_zuko()
    return clone(MODELS[request.param])


def exact_density(model, X):
    """Of a model with a linear decoder and a standard Gaussian prior."""
    k = model.prior_.n_components
    mean = model.inverse_transform(np.zeros((1, k)))[0]
    axes = model.inverse_transform(np.eye(k)) - mean
    variance = model._fitted.temperature * (model.likelihood_.scale[0].item() * model.likelihood_.unit) ** 2
    return stats.multivariate_normal(mean, axes.T @ axes + variance * np.eye(X.shape[1])).logpdf(X)


@pytest.fixture(scope="module")
def linear_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(800, 2)) @ np.array([[3.0, 0, 1, 0], [0, 1.5, 0, 1]]) + 0.5 * rng.normal(size=(800, 4))


@pytest.mark.parametrize("encoder", ["gaussian", "full", "planar"])
def test_linear_vae_reaches_probabilistic_pca(linear_data, encoder):
    """From any start: the loss is stationary at the principal axes, and its optimum is PCA's likelihood."""
    X = linear_data
    params = {"hidden_layer_sizes": (), "likelihood": GaussianLikelihood("learned", floor=0.05), "max_iter": 1500, "tol": 0.0}
    model = VAE(2, encoder=encoder, random_state=0, learning_rate_init=0.02, **params).fit(X)
    expected = PCA(2).fit(X).score(X)
    assert exact_density(model, X).mean() == pytest.approx(expected, abs=0.02)
    assert np.mean(model.loss_curve_[-200:]) == pytest.approx(-expected, abs=0.1)


def test_beta_is_a_factor_of_the_noise(linear_data):
    """A linear VAE of scale s and weight beta has the optimum of scale s sqrt(beta)."""
    params = {"hidden_layer_sizes": (), "max_iter": 1500, "tol": 0.0, "random_state": 0, "learning_rate_init": 0.02}
    hot = VAE(2, beta=4.0, likelihood=GaussianLikelihood(0.5), **params).fit(linear_data)
    wide = VAE(2, beta=1.0, likelihood=GaussianLikelihood(1.0), **params).fit(linear_data)
    assert exact_density(hot, linear_data).mean() == pytest.approx(exact_density(wide, linear_data).mean(), abs=0.02)
    assert hot.score(linear_data) == pytest.approx(wide.score(linear_data), abs=0.02)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("spline", "WAE, sinkhorn")])
def test_score_is_the_exact_density_of_a_linear_decoder(linear_data, name):
    model = clone(MODELS[name]).set_params(hidden_layer_sizes=(), max_iter=300, pool_size=4096).fit(linear_data)
    score, error = model.score_samples(linear_data, return_std=True)
    exact = exact_density(model, linear_data)
    assert np.abs(score - exact).mean() < 0.05
    assert np.median(np.abs(score - exact) / (error + 1e-3)) < 2
    assert np.median(model.posterior(linear_data).importance_ess) > 50


def test_samples_have_the_score_s_density(linear_data):
    """Minus the mean score of samples is the entropy, in closed form for a linear decoder."""
    for model in (VAE(beta=2.0, **QUICK), WAE(**QUICK)):
        model.set_params(hidden_layer_sizes=(), max_iter=300).fit(linear_data)
        samples = model.sample(4000, random_state=0)
        np.testing.assert_allclose(samples.mean(0), linear_data.mean(0), atol=0.3)
        assert model.score(samples) == pytest.approx(exact_density(model, samples).mean(), abs=0.05)


def test_wae_s_noise_is_the_residual(linear_data):
    model = WAE(hidden_layer_sizes=(), max_iter=300, likelihood=GaussianLikelihood(3.0), random_state=0).fit(linear_data)
    residual = linear_data - model.reconstruct(linear_data)
    scale = float(model.likelihood_.scale[0]) * model.likelihood_.unit
    assert scale == pytest.approx(np.sqrt(np.square(residual).mean()), rel=1e-3)
    per_feature = WAE(**{**QUICK, "likelihood": GaussianLikelihood("per_feature")}).fit(linear_data)
    residual = linear_data - per_feature.reconstruct(linear_data)
    scale = per_feature.likelihood_.scale.numpy() * per_feature.likelihood_.unit
    np.testing.assert_allclose(scale, np.sqrt(np.square(residual).mean(0)), rtol=1e-3)


@pytest.mark.parametrize("model", [VAE(beta=0.01), InfoVAE(alpha=0.99, lambd=2.0)], ids=repr)
def test_noise_is_not_below_what_the_decoder_leaves(model):
    """At a small weight of the divergence the plan's noise is next to nothing, and the score was that of nothing else."""
    rng = np.random.default_rng(0)
    X = np.concatenate([0.5 * rng.normal(size=(600, 4)) + 2, 0.5 * rng.normal(size=(600, 4)) - 2])
    model = clone(model).set_params(max_iter=600, random_state=0).fit(X[::2])
    residual = np.sqrt(np.square(X[::2] - model.reconstruct(X[::2])).mean())
    scale = float(model.likelihood_.scale[0]) * model.likelihood_.unit * np.sqrt(model._fitted.temperature)
    assert scale == pytest.approx(residual, rel=0.1)
    assert model.score(X[1::2]) > -8
    assert model.score(model.sample(600, random_state=0)) == pytest.approx(model.score(X[1::2]), abs=1.5)


def test_noise_of_the_plan_stays_where_the_decoder_keeps_to_it(linear_data):
    model = VAE(**QUICK).fit(linear_data)
    assert torch.equal(model.likelihood_.scale, model._fitted.trained_family.scale)


def test_wae_s_noise_is_the_residual_of_validation_rows_where_there_are_some():
    """Forty rows of pure noise in five features: fitted, little is left of them; of others nearly all."""
    X, X_val = np.split(np.random.default_rng(0).normal(size=(65, 5)), [40])
    alone, model = (WAE(penalty=0.0, max_iter=500, pool_size=512, random_state=0).fit(X, X_val=rows) for rows in (None, X_val))
    left = X_val - model.reconstruct(X_val)
    assert float(model.likelihood_.scale[0]) * model.likelihood_.unit == pytest.approx(np.sqrt(np.square(left).mean()), rel=1e-3)
    assert model.score(X_val) > alone.score(X_val) + 1


@pytest.mark.parametrize("model", [VAE(likelihood=GaussianLikelihood(1e-3)), WAE(likelihood=GaussianLikelihood(1e-3))], ids=repr)
def test_precision_of_the_input_does_not_ruin_the_score(model):
    """Where the noise is small the scores are too large for float32, whatever the input is."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + 1e-3 * rng.normal(size=(200, 5))
    model.set_params(**{**QUICK, "max_iter": 300, "hidden_layer_sizes": ()}).fit(X.astype(np.float32))
    score = model.score_samples(X.astype(np.float32))
    assert score.dtype == model.transform(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(score, model.score_samples(X.astype(np.float32).astype(np.float64)), rtol=1e-5)


def test_aggregate_is_the_mean_of_the_posteriors(linear_data):
    """Also of those with noise, all rows alike."""
    model = VAE(encoder="gaussian", beta=4.0, **QUICK).fit(linear_data)
    aggregate = model._fitted.sample_aggregate(4000, np.random.default_rng(0))
    draws = model.sample_posterior(linear_data, 20, random_state=0).reshape(-1, 2)
    np.testing.assert_allclose(np.cov(aggregate.T), np.cov(draws.T), atol=0.15)
    assert np.abs(np.cov(aggregate.T) - np.cov(model.transform(linear_data).T)).max() > 0.3


def test_divergences_see_standardised_codes():
    """In whatever unit the prior is, the same loss."""
    X = np.random.default_rng(0).normal(size=(100, 3))
    priors = (UniformPrior(2), UniformPrior(2, -50, 50))
    small, large = (WAE(prior=prior, **{**QUICK, "max_iter": 1}).fit(X).loss_curve_[0] for prior in priors)
    assert small == pytest.approx(large, abs=1e-3)


def test_batches_are_random_parts_of_all_rows():
    """Every row once an epoch, in another order each."""
    family = GaussianLikelihood(scale=1.0).bind(np.array([[-1.0], [1.0]]))
    data = Data(Table(np.arange(10.0)[:, None]), family, 1.0, torch.device("cpu"))
    batches = _amortise._Batches(data, 3, torch.Generator().manual_seed(0))
    epochs = [torch.cat([batches.following() for _ in range(3)])[:, 0].tolist() for _ in range(2)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) != list(range(9))


def test_a_critic_is_trained():
    """Codes that it tells from the prior's draws cost more than chance, which is 0."""
    codes, draws = torch.full((64, 2), 3.0), GaussianPrior(2)
    setting = _amortise.Setting(0.0, 1.0, 0.0, batch_size=64, learning_rate=1e-2, max_iter=1, tol=0.0, patience=1)
    rng, decoder = np.random.default_rng(0), SimpleNamespace(whitened=lambda z: z, inputs=lambda z: z)
    data = SimpleNamespace(place=Place.of(codes), n_visits=64)
    model = SimpleNamespace(prior=draws, rng=rng, decoder=decoder, data=data)
    penalty = _amortise._Penalty(model, Adversarial((16,)), setting)
    values = [float(penalty(codes).detach()) for _ in range(50)]
    assert values[-1] > max(1.0, values[0] + 1.0)


@pytest.mark.parametrize(
    ("special", "general"),
    [
        (VAE(), InfoVAE(alpha=0.0, lambd=1.0)),
        (VAE(beta=0.3), InfoVAE(alpha=0.7, lambd=0.3)),
        (VAE(beta=2.5), InfoVAE(alpha=-1.5, lambd=2.5)),
        (WAE(encoder="gaussian", penalty=1.0, divergence="adversarial"), InfoVAE(alpha=1.0, lambd=1.0, divergence="adversarial")),
        (WAE(encoder="gaussian", penalty=3.0), InfoVAE(alpha=1.0, lambd=3.0)),
        (WAE(encoder="point", penalty=3.0), InfoVAE(alpha=1.0, lambd=3.0, encoder="point")),
    ],
    ids=["VAE", "beta below 1", "beta above 1", "AAE", "WAE", "deterministic WAE"],
)
def test_special_cases(X, special, general):
    """The same loss to 1e-10 at every step, and so the same model."""
    first, second = (model.set_params(**QUICK).fit(X) for model in (special, general))
    np.testing.assert_allclose(first.loss_curve_, second.loss_curve_, atol=1e-10, rtol=0)
    np.testing.assert_allclose(first.transform(X), second.transform(X), atol=1e-10)
    assert first.score(X) == pytest.approx(second.score(X), abs=1e-10)


def test_the_contract(unfitted, X):
    """Every method of CoupledVAE, with its names and shapes, in the precision of the input and the same each time."""
    model, state = unfitted.fit(X), (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    found, Z = model.posterior(X), model.transform(X)
    assert Z.shape == (150, 2)
    assert found.mean.shape == (150, 2)
    assert found.covariance.shape == (150, 2, 2)
    np.testing.assert_allclose(found.mean, Z, atol=1e-8)
    assert model.inverse_transform(Z).shape == model.reconstruct(X).shape == X.shape
    draws = model.sample_posterior(X, 3, random_state=0)
    assert draws.shape == (150, 3, 2)
    np.testing.assert_array_equal(draws, model.sample_posterior(X, 3, random_state=0))
    for noise in ("matched", "model", "mean"):
        for source in ("prior", "aggregate"):
            assert model.sample(5, noise=noise, source=source, random_state=0).shape == (5, 4)
    score, error = model.score_samples(X, return_std=True)
    assert np.isfinite(score).all()
    assert (error >= 0).all()
    assert np.isfinite(found.pareto_k()).any()
    np.testing.assert_allclose(model.score_samples(X[3:9]), score[3:9], atol=1e-8)
    assert model.transform(X.astype(np.float32)).dtype == np.float32
    assert len(model.loss_curve_) == model.n_iter_
    assert np.isfinite(model.loss_curve_).all()
    assert torch.equal(state[0], torch.get_rng_state())
    assert (state[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_same_seed_same_model(unfitted, X):
    first, second = clone(unfitted).fit(X), clone(unfitted).fit(X)
    np.testing.assert_array_equal(first.transform(X), second.transform(X))
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))


def test_pickled_model_is_the_same(unfitted, X):
    model = unfitted.fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(model.score_samples(X), again.score_samples(X))
    np.testing.assert_array_equal(model.sample(3, random_state=0), again.sample(3, random_state=0))


def test_posterior_s_moments_are_its_draws(unfitted, X):
    model = unfitted.fit(X)
    draws, found = model.sample_posterior(X[:10], 4000, random_state=0), model.posterior(X[:10])
    spread = np.sqrt(np.einsum("nkk->nk", found.covariance))
    np.testing.assert_allclose(draws.mean(1), found.mean, atol=0.1 * spread.max() + 1e-8)
    np.testing.assert_allclose(draws.std(1), spread, atol=0.1 * spread.max() + 1e-8)


@pytest.mark.parametrize("prior", [*PRIORS, lambda n, seed: np.random.default_rng(seed).exponential(size=(n, 2))])
def test_wae_takes_every_prior(X, prior):
    """Only draws are needed; with a density codes are in the support."""
    model = WAE(prior=prior, **QUICK).fit(X)
    distribution = model.prior_.distribution()
    if distribution is not None:
        assert bool(distribution.support.check(torch.as_tensor(model.transform(X))).all())
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize("prior", [name for name in PRIORS if PRIORS[name](2).distribution() is not None])
@pytest.mark.parametrize("model", [VAE(), VAE(encoder="planar"), InfoVAE()], ids=["VAE", "planar", "InfoVAE"])
def test_priors_with_a_density(X, model, prior):
    fitted = clone(model).set_params(prior=prior, **QUICK).fit(X)
    draws = torch.as_tensor(fitted.sample_posterior(X, 5, random_state=0))
    assert bool(fitted.prior_.distribution().support.check(draws).all())
    assert np.isfinite(fitted.score_samples(X)).all()


def test_one_cross_validation_for_all(X):
    for model in (CoupledVAE(), VAE(), WAE(), InfoVAE()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = cross_val_score(make_pipeline(MinMaxScaler(), model.set_params(**QUICK)), X, cv=2)
        assert np.isfinite(scores).all()


def test_bernoulli(X):
    binary = (X > 1).astype(float)
    for model in (VAE(), WAE(), InfoVAE(divergence=MMD(kernel="rbf"))):
        fitted = model.set_params(**{**QUICK, "likelihood": "bernoulli"}).fit(binary)
        assert set(np.unique(fitted.sample(20, random_state=0))) <= {0.0, 1.0}
        assert (fitted.score_samples(binary) <= 0).all()


DIGITS = {"max_iter": 5, "pool_size": 128, "random_state": 0, "likelihood": "bernoulli"}


@pytest.mark.parametrize("network", ["conv", Conv((1, 8, 8), (4,), batch_norm=True), MLP((16,), batch_norm=True)], ids=repr)
@pytest.mark.parametrize("estimator", [VAE, WAE, InfoVAE])
def test_networks(estimator, network):
    """Convolutions, and statistics of training that prediction does not move."""
    X = load_digits().data[:200] / 16
    model = estimator(network=network, **DIGITS).fit(X)
    assert model.sample(4, random_state=0).shape == (4, 64)
    assert not model.encoder_.training
    np.testing.assert_allclose(model.transform(X[:5]), model.transform(X)[:5], atol=1e-10)
    np.testing.assert_allclose(model.score_samples(X[:5]), model.score_samples(X[:20])[:5], atol=1e-7)


def test_the_user_s_own_pair_is_not_trained_in_place(X):
    pair = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 4)), torch.nn.Linear(2, 4)
    before = [p.clone() for module in pair for p in module.parameters()]
    state = torch.get_rng_state()
    first, second = (VAE(network=pair, **QUICK).fit(X) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(before, [p for module in pair for p in module.parameters()], strict=True))
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(first.transform(X), second.transform(X))
    with pytest.raises(ValueError, match=r"encoder must map shape \(2, 4\) to \(2, 5\), got \(2, 4\)"):
        VAE(network=pair, encoder="full", **QUICK).fit(X)
    with pytest.raises(ValueError, match="needs the network's encoder, and it is None"):
        VAE(network=(None, pair[1]), **QUICK).fit(X)


def test_annealing_rises_linearly_to_all_of_the_weight():
    setting = _amortise.Setting(4.0, 0.0, 0.5, batch_size=1, learning_rate=1.0, max_iter=10, tol=0.0, patience=1)
    weights = [_amortise.Steps._kl_weight(SimpleNamespace(setting=setting), t) for t in range(10)]
    np.testing.assert_allclose(weights, [0.8, 1.6, 2.4, 3.2, *6 * [4.0]])


def test_annealing_reaches_the_same_weight(X):
    """The first loss weighs little of the divergence, the last all of it."""
    params = {**QUICK, "learning_rate_init": 1e-12}
    plain, annealed = (VAE(annealing=share, **params).fit(X) for share in (0.0, 1.0))
    assert annealed.loss_curve_[0] < plain.loss_curve_[0] - 0.1
    assert annealed.loss_curve_[-1] == pytest.approx(plain.loss_curve_[-1], abs=1e-6)


def test_training_does_not_stop_before_the_weight_has_risen(X):
    """A loss that rises with its weight is no plateau."""
    model = VAE(annealing=0.4, tol=10.0, n_iter_no_change=1, **{**QUICK, "max_iter": 600}).fit(X)
    assert model.n_iter_ == 510  # the rise of 240, two windows of 50, and half as many again to cool
    assert model.converged_


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (VAE(beta=0.0), ValueError, "beta must be a finite number above 0.*, got 0.0"),
        (VAE(beta="1"), TypeError, "beta"),
        (VAE(annealing=1.5), ValueError, "annealing must be a finite number of at least 0 and of at most 1, got 1.5"),
        (VAE(encoder="flow"), ValueError, "encoder must be one of 'point', 'gaussian', 'full', 'planar', 'spline'"),
        (VAE(encoder="point"), ValueError, "has no density, which this loss needs. Use encoder='gaussian', or WAE"),
        (VAE(prior="categorical"), ValueError, "CategoricalPrior has none. .* or use WAE or CoupledVAE"),
        (VAE(prior=lambda n, seed: np.zeros((n, 2))), ValueError, "SamplerPrior has none"),
        (WAE(penalty=-1), ValueError, "penalty must be a finite number of at least 0.*, got -1"),
        (WAE(divergence="kl"), ValueError, "divergence must be one of 'mmd'"),
        (WAE(divergence="kl", penalty=0), ValueError, "divergence must be one of 'mmd'"),
        (InfoVAE(alpha=2.0), ValueError, "alpha must be a finite number .*of at most 1, got 2.0"),
        (InfoVAE(alpha=0.0, lambd=0.5), ValueError, r"alpha \+ lambd must be at least 1, got 0 \+ 0.5"),
        (InfoVAE(lambd=np.inf), ValueError, "lambd must be a finite number.*, got inf"),
        (InfoVAE(prior="categorical"), ValueError, "CategoricalPrior has none"),
        (VAE(pool_size=0), ValueError, "pool_size"),
        (WAE(max_iter=0), ValueError, "max_iter"),
    ],
)
def test_bad_parameters(X, model, error, message):
    with pytest.raises(error, match=message):
        model.fit(X)
    assert not hasattr(model, "module_")


@pytest.mark.parametrize("change", [{}, {"encoder": "planar"}, *({"prior": name} for name in ("uniform", "dirichlet", "mixture"))])
def test_nothing_is_lost_when_a_fit_fails(X, change):
    model = VAE(**QUICK).fit(X)
    before = model.transform(X)
    with pytest.raises(FloatingPointError, match="diverged"):
        model.set_params(learning_rate_init=1e30, **change).fit(X)
    np.testing.assert_array_equal(model.transform(X), before)


def test_a_fitted_model_keeps_its_width(X):
    """A parameter that is set after the fit is one of the next fit."""
    model = VAE(**QUICK).fit(X)
    before = model.inverse_transform(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="n_components must be an integer of at least 1, got 0"):
        model.set_params(n_components=0).fit(X)
    np.testing.assert_array_equal(model.inverse_transform(np.zeros((3, 2))), before)
    assert list(model.get_feature_names_out()) == ["vae0", "vae1"]


@pytest.mark.parametrize("pool_size", [1, 2])
@pytest.mark.parametrize("model", [VAE(3), WAE(3)], ids=["VAE", "WAE"])
def test_pools_smaller_than_the_latent_space(X, model, pool_size):
    """The row's own draws do what the pool cannot."""
    score, error = clone(model).set_params(**{**QUICK, "pool_size": pool_size}).fit(X).score_samples(X, return_std=True)
    plenty = clone(model).set_params(**{**QUICK, "pool_size": 4096}).fit(X).score_samples(X)
    assert np.abs(score - plenty).mean() < 0.1
    assert (error > 0).all()


def test_a_batch_is_at_most_all_rows(X):
    large, exact = (WAE(batch_size=size, **QUICK).fit(X) for size in (10**12, len(X)))
    np.testing.assert_array_equal(large.transform(X), exact.transform(X))


def test_a_wide_prior(X):
    """The same model, whatever the unit of the latent variable."""
    wide, standard = (VAE(prior=GaussianPrior(2, covariance=size * np.eye(2)), **QUICK).fit(X) for size in (1e8, 1.0))
    assert wide.score(X) == pytest.approx(standard.score(X), abs=0.2)


@pytest.mark.parametrize("kind", [VAE, WAE, InfoVAE])
def test_a_last_step_that_goes_too_far_is_told(X, kind):
    """No loss is computed after it."""
    with pytest.raises(FloatingPointError, match="the last step made the loss infinite or NaN"):
        kind(**{**QUICK, "max_iter": 1, "learning_rate_init": 1e30}).fit(X)


@pytest.mark.parametrize(
    "model", [CoupledVAE(prior="categorical", **QUICK), WAE(prior="categorical", **QUICK)], ids=["coupled", "WAE"]
)
def test_a_sum_over_all_atoms_has_no_error(X, model):
    score, error = clone(model).fit(X).score_samples(X, return_std=True)
    assert np.isfinite(score).all()
    assert (error == 0).all()


@pytest.mark.parametrize("model", [CoupledVAE(proposal="encoder", **QUICK), VAE(**QUICK)], ids=["coupled", "VAE"])
def test_a_prior_that_computes_in_single_precision_only(X, model):
    """Its density is taken in it."""
    prior = torch.distributions.LowRankMultivariateNormal(torch.zeros(2), torch.ones(2, 1), torch.ones(2))
    same = torch.distributions.MultivariateNormal(torch.zeros(2).double(), prior.covariance_matrix.double())
    scores = [clone(model).set_params(prior=p, max_iter=60).fit(X).score(X) for p in (prior, same)]
    assert scores[0] == pytest.approx(scores[1], abs=0.2)
