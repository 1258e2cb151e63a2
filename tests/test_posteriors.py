"""Importance weights: Pareto k-hat against ArviZ, and proposals of each row's own against closed forms."""

import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import QUICK
from scipy import stats
from torch import nn

from skcvae import CoupledVAE, _training
from skcvae._phases._freeze import supporting_planes
from skcvae._phases._propose import LEARNING_RATE
from skcvae._place import HOST, moved
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import Given
from skcvae.posteriors import Coordinates, Encoder, FullGaussian, PoolInference, defensive_draws, pareto_k, posterior
from skcvae.posteriors._local import size
from skcvae.posteriors._pool import relative_error
from skcvae.priors import PRIORS, GaussianPrior, TorchPrior
from skcvae.schedule import Schedule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        arviz = pytest.importorskip("arviz")
    except FileNotFoundError:  # another process has just moved the file by which ArviZ warns once a day
        arviz = pytest.importorskip("arviz")


@pytest.mark.parametrize("n_draws", [64, 1000, 4096])
@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0, 30.0])
def test_pareto_k_agrees_with_arviz(n_draws, spread):
    log_weights = spread * np.random.default_rng(0).normal(size=(5, n_draws))
    reference = [float(arviz.psislw(row.copy())[1]) for row in log_weights]
    np.testing.assert_allclose(pareto_k(log_weights), reference, rtol=1e-5)


def test_pareto_k_of_few_weights_is_infinite():
    log_weights = np.full((1, 500), -np.inf)
    log_weights[0, :3] = [0.0, -1.0, -2.0]
    assert np.isinf(pareto_k(log_weights)).all()
    assert np.isinf(pareto_k(np.zeros((2, 100)))).all()


DENSE = {name: build(3) for name, build in PRIORS.items() if build(3).distribution() is not None}
DENSE["laplace"] = TorchPrior(torch.distributions.Laplace(torch.zeros(3), torch.ones(3)))


def proposal_of(prior, scale=1.0):
    """A proposal with the same Gaussian for every row, for a prior's coordinates."""
    r = Coordinates(prior.distribution()).of(torch.as_tensor(prior.sample(1, rng()))).shape[1]
    conditional = FullGaussian().begin(r, torch.Generator())
    free = torch.zeros(conditional.n_outputs, dtype=torch.float64)
    rows, columns = torch.tril_indices(r, r)
    free[r:][rows == columns] = np.log(np.expm1(scale))

    class Constant(torch.nn.Module):
        def forward(self, x):
            return free.expand(len(x), -1)

    return Encoder(Constant(), conditional)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("prior", DENSE.values(), ids=list(DENSE))
def test_defensive_draws_are_weighted_to_the_prior(prior):
    """sum w h estimates E_p[h], in the prior's support, with no weight above 1/m_p."""
    proposal = proposal_of(prior, 1.5)
    noise = torch.as_tensor(rng(1).normal(size=(40000, proposal.n_coordinates)))
    of_prior, x = torch.as_tensor(prior.sample(40000, rng())), torch.zeros(1, 1, dtype=torch.float64)
    own, log_weights = defensive_draws(proposal(x), Coordinates(prior.distribution()), of_prior, noise[: len(noise) // 4])
    z, weights = torch.cat([own[0], of_prior]), log_weights.exp()[0]
    assert bool(prior.distribution().support.check(z).all())
    assert float(weights.max()) <= 1 / 40000 * (1 + 1e-9)
    assert float(weights.sum()) == pytest.approx(1.0, abs=0.03)
    mean = prior.sample(200000, rng(2)).mean(0)
    np.testing.assert_allclose(weights @ z, mean, atol=0.03)


def test_relative_error_is_the_spread_of_the_mean_over_its_value():
    """Of 64 draws with weights 1 + u, and nothing where all weights are equal."""
    weights = torch.as_tensor(1 + rng().random((4000, 64)))
    size = weights.sum(1).square() / weights.square().sum(1)
    means = weights.mean(1)
    assert float(relative_error(size, 64).mean()) == pytest.approx(float(means.std() / means.mean()), rel=0.05)
    assert float(relative_error(torch.tensor([64.0]), 64)) == 0
    assert float(relative_error(torch.tensor([1.0]), 1)) == np.inf


def test_proposal_s_density_integrates_to_one():
    proposal = proposal_of(GaussianPrior(2), 0.7)
    y = torch.as_tensor(rng().uniform(-5, 5, size=(1, 200000, 2)))
    density = proposal(torch.zeros(1, 1, dtype=torch.float64)).log_prob(y).exp()
    assert float(density.mean()) * 100 == pytest.approx(1.0, abs=0.05)


@pytest.fixture(scope="module")
def linear():
    """A linear decoder of five components, whose density is known, with a pool that is too small."""
    X = rng().normal(size=(600, 5)) @ np.diag([3.0, 2.5, 2.0, 2.0, 1.5]) @ rng(1).normal(size=(5, 8)) + 0.5 * rng(2).normal(
        size=(600, 8)
    )
    params = {"likelihood": GaussianLikelihood(scale=0.7), "hidden_layer_sizes": (), "max_iter": 500, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return X, CoupledVAE(5, proposal="encoder", pool_size=1024, **params).fit(X)


def exact_density(model, X):
    mean = model.inverse_transform(np.zeros((1, 5)))[0]
    axes = model.inverse_transform(np.eye(5)) - mean
    return stats.multivariate_normal(mean, axes.T @ axes + 0.49 * np.eye(8)).logpdf(X)


def test_encoder_s_score_is_the_exact_density_where_the_pool_fails(linear):
    X, model = linear
    score, error = model.score_samples(X, return_std=True)
    exact = exact_density(model, X)
    with torch.no_grad():
        fitted = model._fitted.at(HOST)
        pooled = fitted.inference.local.mixture.log_density(fitted.standardised(X))[0] - model.likelihood_.log_volume
    assert np.abs(score - exact).mean() < 0.3 * np.abs(pooled.numpy() - exact).mean()
    assert np.abs(score - exact).mean() < 0.2
    assert np.median(np.abs(score - exact) / error) < 2
    assert (error > 0).all()


def test_encoder_s_posterior_has_more_effective_draws(linear):
    X, model = linear
    found, x = model.posterior(X[:100]), model._fitted.at(HOST).standardised(X[:100])
    pooled = posterior(PoolInference(model._fitted.pool, moved(model.likelihood_, HOST), 1.0), x)
    share = found.importance_ess / sum(len(d[0]) for d in [next(found.draws())])
    assert np.median(share) > 5 * np.median(pooled.importance_ess / len(model._fitted.pool.draws))
    assert np.median(found.pareto_k()) < 0.7 < np.median(pooled.pareto_k())


def test_the_former_name_of_a_size_says_the_present_one(linear):
    X, model = linear
    found = model.posterior(X[:2])
    with pytest.raises(AttributeError, match=r"no attribute 'effective_sample_size'. It is importance_ess now"):
        _ = found.effective_sample_size
    with pytest.raises(AttributeError, match=r"no attribute 'median'.$"):
        _ = found.median


def test_encoder_s_posterior_agrees_with_itself(linear):
    X, model = linear
    found = model.posterior(X[:20])
    weights, draws = (np.concatenate(list(blocks)) for blocks in (found.weights(), found.draws()))
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(found.mean, np.einsum("ns,nsk->nk", weights, draws))
    np.testing.assert_allclose(model.transform(X[:20]), found.mean, atol=1e-10)
    np.testing.assert_allclose(found.importance_ess, 1 / (weights**2).sum(1))
    sampled = found.sample(3000, random_state=0)
    spread = np.sqrt(np.einsum("nkk->nk", found.covariance))
    assert (np.abs(sampled.mean(1) - found.mean) < 6 * spread / np.sqrt(3000) + 1e-9).all()
    np.testing.assert_allclose(model.transform(X[3:5]), found.mean[3:5], atol=1e-9)
    assert model.transform(X[:20].astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("prior", ["gaussian", "dirichlet", "mixture"])
def test_encoder_s_posterior_is_the_pool_s_where_both_work(prior):
    X = rng().normal(size=(300, 1)) * [2.0, 1.0] + 0.5 * rng(1).normal(size=(300, 2))
    params = {"max_iter": 200, "hidden_layer_sizes": (16,), "random_state": 0, "schedule": Schedule(polish_rounds=2)}
    model = CoupledVAE(2, prior=prior, proposal="encoder", **params).fit(X)
    x = model._fitted.at(HOST).standardised(X)
    pooled = posterior(PoolInference(model._fitted.pool, moved(model.likelihood_, HOST), 1.0), x)
    spread = np.sqrt(np.einsum("nkk->nk", pooled.covariance))
    assert np.median(np.abs(model.transform(X) - pooled.mean) / spread) < 0.15
    with torch.no_grad():
        score = model._fitted.at(HOST).inference.local.mixture.log_density(x)[0] - model.likelihood_.log_volume
    assert model.score(X) == pytest.approx(float(score.mean()), abs=0.05)


@pytest.mark.parametrize("varsigma", [0.0, 1.0])
def test_encoder_s_posterior_has_the_potential_of_a_soft_marginal(varsigma):
    """Also where it differs from row to row: two clusters, one of them with a tenth of the rows."""
    X = np.where(rng().random((300, 1)) < 0.1, 4.0, 0.0) + 0.8 * rng(1).normal(size=(300, 2))
    params = {"max_iter": 200, "hidden_layer_sizes": (16,), "random_state": 0, "schedule": Schedule(polish_rounds=2)}
    likelihood = GaussianLikelihood(1.0)
    model = CoupledVAE(1, varsigma=varsigma, likelihood=likelihood, proposal="encoder", **params).fit(X)
    pooled = posterior(
        PoolInference(model._fitted.pool, moved(model.likelihood_, HOST), 1.0), model._fitted.at(HOST).standardised(X)
    )
    spread = np.sqrt(np.einsum("nkk->nk", pooled.covariance))
    assert np.quantile(np.abs(model.transform(X) - pooled.mean) / spread, 0.9) < 0.02


@pytest.mark.parametrize("prior", ["categorical", lambda n, seed: np.random.default_rng(seed).normal(size=(n, 2))])
def test_encoder_needs_a_density(prior):
    with pytest.raises(ValueError, match=r"needs|density, and .*Prior has none. Use proposal='prior'"):
        CoupledVAE(prior=prior, proposal="encoder").fit(rng().normal(size=(20, 3)))


def test_too_small_a_pool_is_told_at_fit():
    X = rng().normal(size=(300, 6))
    params = {"hidden_layer_sizes": (), "max_iter": 5, "random_state": 0, "pool_size": 512}
    with pytest.warns(UserWarning, match=r"training data's posteriors is .* coarse\. Raise pool_size.*proposal='encoder'"):
        CoupledVAE(6, likelihood=GaussianLikelihood(0.4), schedule=Schedule(polish_rounds=1, max_draws=512), **params).fit(X)


def test_the_remedy_of_few_draws_is_none_that_is_in_use(linear, X):
    """Nor one that the prior cannot have."""
    assert "proposal" not in linear[1]._fitted.remedy(True) + linear[1]._fitted.remedy(False)
    sampled = CoupledVAE(prior=lambda n, seed: np.random.default_rng(seed).normal(size=(n, 2)), **QUICK).fit(X)
    assert "proposal" not in sampled._fitted.remedy(True) + sampled._fitted.remedy(False)
    assert "proposal='encoder'" in CoupledVAE(**QUICK).fit(X)._fitted.remedy(False)
    assert "proposal" not in CoupledVAE(**QUICK).fit(X)._fitted.remedy(True)
    assert "proposal='auto'" in CoupledVAE(proposal="prior", **QUICK).fit(X)._fitted.remedy(True)


@pytest.mark.filterwarnings("ignore")
def test_a_proposal_of_many_components_starts_well():
    """Random triangular factors have inverses that grow exponentially with k: the first loss was 1e34 at k = 64."""
    X = rng().normal(size=(100, 13))
    short = Schedule(polish_rounds=1, max_draws=1024)
    model = CoupledVAE(64, proposal="encoder", schedule=short, **{**QUICK, "max_iter": 20}).fit(X)
    assert np.isfinite(model.score_samples(X)).all()


def test_encoder_s_model_pickles_and_leaves_global_generators(linear):
    X, model = linear
    before = torch.get_rng_state()
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.transform(X[:5]), model.transform(X[:5]))
    np.testing.assert_array_equal(copied.score_samples(X[:5]), model.score_samples(X[:5]))
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_proposal():
    with pytest.raises(ValueError, match="proposal must be one of 'auto', 'prior', 'encoder'"):
        CoupledVAE(proposal="flow").fit(rng().normal(size=(20, 3)))


@pytest.mark.filterwarnings("ignore")
def test_the_proposal_learns_at_a_rate_of_its_own(X, monkeypatch):
    """The decoder's, ten times as high here, is no factor of it: an encoder learnt badly at three times a high one."""
    rates, set_rate = [], _training.set_learning_rate
    monkeypatch.setattr(_training, "set_learning_rate", lambda optimiser, rate: (rates.append(rate), set_rate(optimiser, rate)))
    for rate in (2e-3, 2e-2):
        CoupledVAE(**QUICK, proposal="encoder", learning_rate_init=rate).fit(X)
        assert 0.9 * LEARNING_RATE < max(rates[-QUICK["max_iter"] :]) <= LEARNING_RATE


def test_supporting_planes_touch_the_log_sum_from_below_and_hold_no_denormal_number():
    rng = np.random.default_rng(0)
    statistics, eta = (torch.as_tensor(a) for a in (rng.random((40, 6)) < 0.3, rng.normal(scale=30.0, size=(2000, 6))))
    statistics, normaliser, epsilon = statistics.double(), torch.rand(len(eta)).double(), 0.7
    scores = eta @ statistics.T / epsilon
    log_sum, barycentre = scores.logsumexp(1) - math.log(40), scores.softmax(1) @ statistics
    tiny = torch.finfo(torch.float32).tiny
    assert ((barycentre > 0) & (barycentre < epsilon * tiny) & ((barycentre / epsilon).float() > 0)).any()
    planes = supporting_planes(
        eta[:1000], normaliser[:1000], (normaliser - epsilon * log_sum)[:1000], barycentre[:1000], epsilon, torch.float32
    )
    found = planes.moved(HOST).largest(eta)
    torch.testing.assert_close(found[:1000], log_sum[:1000], rtol=0, atol=1e-5)
    assert (found <= log_sum + 1e-5).all()
    assert not ((planes.key != 0) & (planes.key.abs() < tiny)).any()


def test_an_error_that_draws_do_not_tell_is_infinite(linear):
    """Rows far off, of which a few draws have all the weight; where weights have a tail that is told, the error is theirs."""
    X, _ = linear
    short = Schedule(polish_rounds=0)
    model = CoupledVAE(2, max_iter=20, hidden_layer_sizes=(8,), schedule=short, proposal="prior", random_state=0).fit(X)
    score, error = model.score_samples(np.vstack([X[:50], 8 * X[:50]]), return_std=True)
    assert np.isfinite(score).all()
    assert not np.isnan(error).any()
    fitted = model._fitted.at(HOST)
    tail = fitted.inference.density().log_density_with_tail(fitted.standardised(np.vstack([X[:50], 8 * X[:50]])))[2]
    np.testing.assert_array_equal(np.isinf(error), tail.numpy() > 0.7)
    assert np.isinf(error[50:]).mean() > 0.5 > np.isinf(error[:50]).mean()


def test_tails_are_of_the_weights_that_are_summed(linear):
    X, model = linear
    inference, x = model._fitted.at(HOST).inference, model._fitted.at(HOST).standardised(X[:40])
    local = np.empty(len(x))
    for places, _, log_weights in inference.local.adapted(x):
        local[places.numpy()] = pareto_k(log_weights.numpy())
    pooled = inference.local.mixture.tail(x).numpy()
    *density, tail = inference.density().log_density_with_tail(x)
    for found, expected in zip(density, inference.density().log_density(x), strict=True):
        assert torch.equal(found, expected)
    found = tail.numpy()
    assert all(value in pair for value, pair in zip(found, np.column_stack([local, pooled]), strict=True))
    weights = np.concatenate([block.numpy() for block in inference.local.mixture.scores.blocks(model.likelihood_.statistics(x))])
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(pooled, pareto_k(np.log(weights)))


def exact_score(model, X):
    """Log-density of a model with a linear decoder and a Gaussian prior, by the Gaussian that it is."""
    fitted = model._fitted.at(HOST)
    family, k = fitted.inference.density().mixture.family, model.prior_.n_components
    with torch.no_grad():
        bias = fitted.decoder(torch.zeros(1, k, dtype=torch.float64))[0]
        weight = (fitted.decoder(torch.eye(k, dtype=torch.float64)) - bias).T
        covariance = weight @ weight.T + family.scale.double() ** 2 * torch.eye(len(weight))
        density = torch.distributions.MultivariateNormal(bias, covariance).log_prob(fitted.standardised(X))
    return density.numpy() - family.log_volume


@pytest.mark.parametrize("k", [2, 8, 32])
def test_scores_of_linear_models_are_exact_within_their_errors(k):
    """Also in 32 dimensions and far off, where no draw of the pool is near; the pool alone has no error there."""
    X = rng(k).normal(size=(400, k)) @ rng(1).normal(size=(k, 2 * k)) + 0.5 * rng(2).normal(size=(400, 2 * k))
    network = Given(None, nn.Linear, linear=False)
    short = Schedule(polish_rounds=0, max_draws=4096)
    model = CoupledVAE(k, likelihood="gaussian", network=network, schedule=short, max_iter=50, random_state=0).fit(X[100:])
    rows = np.vstack([X[:50], 3 * X[50:100]])
    score, error = model.score_samples(rows, return_std=True)
    truth = exact_score(model, rows)
    assert np.isfinite(error).all()
    assert (np.abs(score - truth) < 2 * error).mean() >= 0.95
    np.testing.assert_allclose(score, truth, atol=0.2)
    finer = model.score_samples(rows, n_draws=4096)
    assert np.square(finer - truth).mean() < np.square(score - truth).mean()
    pooled, pooled_error = model.score_samples(rows, return_std=True, n_draws=0)
    assert (np.abs(pooled - truth) > 1).any()
    assert (np.abs(pooled - truth) < 4 * pooled_error + 1e-9).all()


def test_refits_make_errors_finite_where_a_mode_says_little():
    """On a posterior that bends, the draws of a Gaussian at the mode have heavy weights; those fitted to them have not."""

    class Bent(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, z):
            return self.scale * torch.cat([6 * z[:, :1], 6 * (z[:, 1:2] + z[:, :1] ** 2), 3 * torch.sin(3 * z)], 1)

    network = Given(None, lambda n_inputs, n_outputs: Bent(), linear=False)
    X = rng().normal(size=(200, 4))
    model = CoupledVAE(2, network=network, schedule=Schedule(polish_rounds=0), max_iter=1, pool_size=4096, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X)
    fitted = model._fitted.at(HOST)
    x = fitted.standardised(20 * X[:20])
    local = fitted.inference.density()
    first = torch.cat([block.log_weights(local.mixture.family, 1.0) for block in local.blocks(x)])
    best = torch.cat([size(log_weights)[places.argsort()] for places, _, log_weights in local.adapted(x)])
    assert float(best.median()) > 1.2 * float(size(first).median())
    truth = local.with_draws(2**15).log_density(x)[0]
    found, error = local.log_density(x)
    assert (torch.abs(found - truth) < 3 * error).double().mean() >= 0.9


@pytest.mark.parametrize("n_draws", [-1, 1.5, "many"])
def test_bad_numbers_of_draws(X, n_draws):
    model = CoupledVAE(**QUICK).fit(X)
    with pytest.raises((TypeError, ValueError), match="n_draws must be"):
        model.score_samples(X[:2], n_draws=n_draws)
