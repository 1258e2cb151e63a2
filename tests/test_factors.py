"""Every prior, solver, strategy and weight of the marginal, one by one and together."""

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
import torch
from conftest import QUICK
from scipy import special, stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV

from skcvae import CoupledVAE
from skcvae.likelihoods import GaussianLikelihood
from skcvae.priors import CategoricalPrior, GaussianPrior
from skcvae.schedule import Schedule
from skcvae.transport import SOLVERS as NAMES
from skcvae.transport import Dual, DualNetwork, GradientAscent, SemiDual, SemiDualNetwork


def sampled(n_samples, random_state):
    """A prior that is only a function."""
    return np.random.default_rng(random_state).exponential(size=(n_samples, 2))


PRIORS = {
    "gaussian": "gaussian",
    "uniform": "uniform",
    "dirichlet": "dirichlet",
    "mixture": "mixture",
    "torch": torch.distributions.StudentT(torch.full((2,), 3.0)),
    "function": sampled,
    "categorical": "categorical",
    "atoms": (np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), [0.5, 0.25, 0.25]),
}
SOLVERS = [SemiDual(), SemiDualNetwork(), Dual(), DualNetwork(), GradientAscent()]
SHORT = Schedule(polish_rounds=1, max_draws=4096, marginal_tol=0.05)
TINY = {"max_iter": 5, "hidden_layer_sizes": (4,), "pool_size": 256, "schedule": SHORT, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    return rng.normal(size=(200, 4)) + 3 * rng.integers(0, 2, size=(200, 1))


def within_support(prior, Z):
    if prior == "dirichlet":
        return (Z >= 0).all() and np.allclose(Z.sum(1), 1)
    return prior != "uniform" or ((Z >= 0) & (Z <= 1)).all()


@pytest.mark.parametrize("prior", PRIORS.values(), ids=list(PRIORS))
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_the_full_product(rows, prior, solver):
    """No cell crashes, diverges or does something else: every fit ends with a certified coupling of what was asked for."""
    for strategy, varsigma in itertools.product(["dual", "primal"], [0.0, 1.0, 10.0, np.inf]):
        params = {"prior": prior, "varsigma": varsigma, "solver": dataclasses.replace(solver, strategy=strategy)}
        model = CoupledVAE(**params, **TINY).fit(rows)
        Z = model.transform(rows)
        assert model.coupling_.converged, params
        assert np.isfinite(model.score(rows))
        assert within_support(prior, Z)
        assert np.isfinite(model.sample(20, source="aggregate", random_state=0)).all()
        assert np.isfinite(model.hole_score(Z)).all()


@pytest.mark.parametrize("params", [{"prior": "mixture"}, *({"solver": name} for name in list(NAMES)[1:])], ids=repr)
def test_names_fit_as_well_as_the_default(rows, params):
    reference, model = (CoupledVAE(**{**QUICK, "max_iter": 200}, **p).fit(rows) for p in ({}, params))
    assert model.coupling_.marginal_error <= 1e-3
    assert model.score(rows) > reference.score(rows) - 0.2


@pytest.mark.parametrize("prior", ["categorical", PRIORS["atoms"], "dirichlet", "uniform"], ids=str)
def test_posteriors_keep_the_prior_as_their_aggregate(rows, prior):
    model = CoupledVAE(prior=prior, **QUICK).fit(rows)
    drawn = model.sample_posterior(rows, 50, random_state=0).reshape(-1, 2)
    reference = model.prior_.sample(20000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), reference.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(reference.T), atol=0.02)
    assert within_support(prior if isinstance(prior, str) else "", drawn)


@pytest.fixture(scope="module")
def clusters():
    """Three Gaussians of known means, weights and variance; every one has exactly its share."""
    rng = np.random.default_rng(0)
    weights, means = np.array([0.5, 0.3, 0.2]), np.array([[-4.0, 0.0, 1.0], [4.0, 0.0, -1.0], [0.0, 5.0, 0.0]])
    labels = np.repeat([0, 1, 2], [750, 450, 300])
    return means[labels] + 0.7 * rng.normal(size=(1500, 3)), labels, weights, means


def test_categorical_prior_is_a_balanced_gaussian_mixture(clusters):
    X, labels, weights, means = clusters
    model = CoupledVAE(3, prior=CategoricalPrior(weights), likelihood=GaussianLikelihood(0.7), random_state=0).fit(X)
    found = model.inverse_transform(np.eye(3))
    np.testing.assert_allclose(found, [X[labels == c].mean(0) for c in range(3)], atol=0.1)
    np.testing.assert_array_equal(model.predict(X), labels)
    truth = stats.norm(means[None], 0.7).logpdf(X[:, None]).sum(2)
    responsibilities = np.exp(truth + np.log(weights))
    np.testing.assert_allclose(model.transform(X), responsibilities / responsibilities.sum(1, keepdims=True), atol=0.05)
    np.testing.assert_allclose(model.transform(X).mean(0), weights, atol=1e-5)
    mixture = GaussianMixture(3, covariance_type="spherical", random_state=0).fit(X)
    assert model.score(X) == pytest.approx(mixture.score(X), abs=0.02)
    assert model.coupling_.marginal_error < 1e-8
    share = np.bincount(model.predict(model.sample(5000, random_state=0)), minlength=3) / 5000
    np.testing.assert_allclose(share, weights, atol=0.03)


def test_maximum_likelihood_over_atoms_is_em(clusters):
    """varsigma = 0: the responsibilities are Bayes', whatever the fractions of the data, and the dual value is the likelihood."""
    X = np.vstack([clusters[0], clusters[0][clusters[1] == 2]])
    model = CoupledVAE(3, prior="categorical", varsigma=0.0, likelihood=GaussianLikelihood(0.7), random_state=0).fit(X)
    centres = model.inverse_transform(np.eye(3))
    log_joint = stats.norm(centres[None], 0.7).logpdf(X[:, None]).sum(2) - np.log(3)
    evidence = np.logaddexp.reduce(log_joint, axis=1)
    np.testing.assert_allclose(model.transform(X), np.exp(log_joint - evidence[:, None]), atol=1e-5)
    np.testing.assert_allclose(model.score_samples(X), evidence, atol=1e-4)
    assert model.coupling_.dual_value == pytest.approx(-evidence.mean(), abs=1e-4)


@pytest.mark.parametrize("varsigma", [np.inf, 1.0])
@pytest.mark.parametrize("prior", ["categorical", "gaussian"])
def test_information_is_that_of_the_posteriors(clusters, prior, varsigma):
    """I(x; z) is the mean divergence of the posteriors from their own mean; it is small where the noise covers the data."""
    X = clusters[0]
    settings = {"prior": prior, "varsigma": varsigma, "max_iter": 100, "random_state": 0}
    model = CoupledVAE(3, likelihood=GaussianLikelihood(0.7), **settings).fit(X)
    weights = np.concatenate(list(model.posterior(X).weights()))
    divergence = special.rel_entr(weights, weights.mean(0)).sum(1).mean()
    assert model.coupling_.information == pytest.approx(divergence, rel=1e-5 if prior == "categorical" else 0.02)
    assert 0.5 < model.coupling_.information <= np.log(len(X))
    blurred = CoupledVAE(3, likelihood=GaussianLikelihood(50.0), **settings).fit(X)
    assert 0 <= blurred.coupling_.information < 0.05


def test_predict_is_there_for_atoms_only(rows):
    assert not hasattr(CoupledVAE(), "predict")
    assert hasattr(CoupledVAE(prior="categorical"), "predict")
    model = CoupledVAE(prior="categorical", **QUICK).fit(rows)
    assert set(model.predict(rows)) <= {0, 1}


def test_relaxed_marginal_tilts_the_aggregate_posterior(rows):
    """The pool weighted by w has the posteriors' mean, and leaves the prior the more the smaller varsigma is."""
    distance = {}
    for varsigma in (0.0, 1.0, np.inf):
        model = CoupledVAE(varsigma=varsigma, prior=GaussianPrior(2, mean=[1.0, 0.0]), **QUICK).fit(rows)
        weights = np.exp(model._fitted.pool.log_aggregate.numpy())
        aggregate, posterior = weights @ model._fitted.pool.draws.numpy(), model.transform(rows).mean(0)
        assert weights.sum() == pytest.approx(1.0, abs=5e-3)
        np.testing.assert_allclose(aggregate, posterior, atol=0.05)
        distance[varsigma] = np.abs(weights * len(weights) - 1).mean()
    assert distance[np.inf] < 1e-6 < distance[1.0] < distance[0.0]


def test_aggregate_samples_follow_the_ratio(rows):
    model = CoupledVAE(varsigma=0.0, **QUICK).fit(rows)
    from_prior, from_aggregate = (model.sample(4000, source=s, noise="mean", random_state=0) for s in ("prior", "aggregate"))
    expected = model.reconstruct(rows)
    assert np.abs(from_aggregate.mean(0) - expected.mean(0)).max() < np.abs(from_prior.mean(0) - expected.mean(0)).max() + 0.1
    np.testing.assert_allclose(from_aggregate.mean(0), rows.mean(0), atol=0.2)


@pytest.mark.parametrize(("varsigma", "epsilon"), [(0.0, 1.0), (1.0, 1.0), (np.inf, 1.0), (np.inf, 0.7)])
def test_hole_score_is_the_mean_likelihood_without_the_data(rows, varsigma, epsilon):
    """Exact on the pool, at most a little too high beside it."""
    model = CoupledVAE(varsigma=varsigma, epsilon=epsilon, **QUICK).fit(rows)
    family, pool = model.likelihood_, model._fitted.pool
    x = torch.as_tensor(family.standardise(rows))

    def exact(z):
        output = torch.as_tensor(model.module_(torch.as_tensor(z).float())).detach().double()
        return -epsilon * (torch.logsumexp(-family.cost(x, output) / epsilon, 0).numpy() - np.log(len(x)))

    on_pool = pool.draws.numpy()
    level = exact(on_pool).mean()
    np.testing.assert_allclose(model.hole_score(on_pool), exact(on_pool) - level, atol=1e-4)
    beside = np.random.default_rng(3).normal(size=(500, 2))
    excess = model.hole_score(beside) - (exact(beside) - level)
    assert excess.min() > -1e-4
    assert excess.mean() < 0.05
    far = model.hole_score(np.array([[30.0, 30.0]]))[0]
    assert far > model.hole_score(on_pool).max()


def test_holes_are_where_no_cluster_is():
    """Clusters far apart, between which the potential jumps by hundreds of nats: the score does not see that, only the borders."""
    means, rng = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]), np.random.default_rng(0)
    data = np.repeat(means, 100, axis=0) + 0.1 * rng.normal(size=(400, 2))
    short = Schedule(polish_rounds=4, max_draws=8192)
    model = CoupledVAE(hidden_layer_sizes=(32, 32), max_iter=300, schedule=short, random_state=0).fit(data)
    Z = rng.normal(size=(2000, 2))
    far, score = np.linalg.norm(model.inverse_transform(Z)[:, None] - means, axis=2).min(1) > 0.4, model.hole_score(Z)
    assert 10 < far.sum() < 400
    assert score[far].min() > np.quantile(score[~far], 0.9)


def test_from_infovae():
    model = CoupledVAE.from_infovae(alpha=0.25, lambd=2.0, n_components=3)
    assert (model.epsilon, model.varsigma, model.n_components) == (0.75, 1.25, 3)
    assert CoupledVAE.from_infovae(alpha=0.0, lambd=1.0).varsigma == 0.0
    assert CoupledVAE.from_infovae(alpha=0.0, lambd=np.inf).varsigma == np.inf
    with pytest.raises(ValueError, match="alpha must be below 1, got 1"):
        CoupledVAE.from_infovae(alpha=1.0, lambd=1.0)
    with pytest.raises(ValueError, match="must be at least 1"):
        CoupledVAE.from_infovae(alpha=0.0, lambd=0.5)


def test_one_grid_ranges_over_all_factors(rows):
    grid = {"prior": ["gaussian", "dirichlet", "categorical"], "epsilon": [0.5, 1.0], "varsigma": [1.0, np.inf],
            "solver": ["semi-dual", "semi-dual-primal"]}  # fmt: skip
    search = GridSearchCV(CoupledVAE(**TINY), grid, cv=2, error_score="raise").fit(rows)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()


def test_heavy_tails_are_carried(rows):
    """A Cauchy prior: no moment, and still a certified coupling with finite answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = CoupledVAE(prior=torch.distributions.Cauchy(torch.zeros(2), 1.0), **{**QUICK, "max_iter": 200}).fit(rows)
    assert model.coupling_.marginal_error < 5e-3
    assert np.isfinite(model.transform(rows)).all()
    assert np.abs(model.sample(2000, random_state=0)).max() < 100
