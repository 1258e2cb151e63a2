"""Weights of rows in a fit: a row of weight 2 counts as the same row twice, and one of weight 0 is not there."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import skcvae
from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _amortise, _checks, _phases
from skcvae._data import MOST_VISITS, Data, Judges, Table
from skcvae._random import make_rng
from skcvae.likelihoods import BernoulliLikelihood, GaussianLikelihood, noise_scale, shrunk_axes
from skcvae.schedule import Schedule

SMALL = {"max_iter": 60, "hidden_layer_sizes": (16,), "pool_size": 256, "random_state": 0}
WITH_BATCHES = {**SMALL, "batch_size": 32}
MODELS = {
    "CoupledVAE": CoupledVAE(schedule=Schedule(polish_rounds=2, max_draws=2048), draws_per_step=32, **SMALL),
    "VAE": VAE(**WITH_BATCHES),
    "WAE": WAE(**WITH_BATCHES),
    "InfoVAE": InfoVAE(alpha=0.2, lambd=2.0, **WITH_BATCHES),
}
WITH_ENCODER = ["VAE", "WAE", "InfoVAE"]


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(70, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5]) + 5.0


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(1).integers(0, 5, 70)


@pytest.fixture
def repeated(X, counts):
    return X.repeat(counts, axis=0)


# What does not depend on draws agrees to rounding.


@pytest.mark.parametrize("scale", ["auto", "per_feature", "learned", "learned_per_feature", "network", 0.5])
def test_location_and_noise_are_those_of_the_repeated_rows(X, counts, repeated, scale):
    X, weights = X[counts > 0], counts[counts > 0].astype(float)
    ours, theirs = GaussianLikelihood(scale).bind(X, weights), GaussianLikelihood(scale).bind(repeated)
    np.testing.assert_allclose(ours.offset, theirs.offset, rtol=1e-14)
    assert ours.unit == pytest.approx(theirs.unit, rel=1e-14)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [40, 700, 3000])
def test_default_noise_is_that_of_the_repeated_rows(n):
    """Also where only some rows are asked for their neighbours, and where neighbours are many."""
    rng = np.random.default_rng(n)
    X, counts = rng.normal(size=(n, 3)), rng.integers(1, 4, n)
    assert noise_scale(X, counts.astype(float)) == pytest.approx(noise_scale(X.repeat(counts, axis=0)), rel=1e-12)


def test_default_noise_of_fractional_weights():
    """Equal weights are no weights, of any size; weights on a narrow cluster give its noise."""
    X = np.random.default_rng(0).normal(size=(400, 2))
    for weight in (0.5, 1e6):
        assert noise_scale(X, np.full(400, weight)) == pytest.approx(noise_scale(X), rel=1e-12)
    X = np.concatenate([0.1 * X, 50 + X])
    assert noise_scale(X, np.repeat([1.99, 0.01], 400)) == pytest.approx(noise_scale(X[:400]), rel=0.4)
    assert noise_scale(X, np.repeat([0.01, 1.99], 400)) == pytest.approx(noise_scale(X[400:]), rel=0.4)


@pytest.mark.parametrize("likelihood", [GaussianLikelihood(), GaussianLikelihood("network"), BernoulliLikelihood()], ids=repr)
def test_the_linear_start_is_that_of_the_repeated_rows(X, counts, repeated, likelihood):
    if isinstance(likelihood, BernoulliLikelihood):
        X, repeated = (X > 5).astype(float), (repeated > 5).astype(float)
    X, weights = X[counts > 0], torch.as_tensor(counts[counts > 0]).double()
    family = likelihood.bind(repeated).double()
    ours = family.linear_start(torch.as_tensor(family.standardise(X)), 3, 0.1, weights)
    theirs = family.linear_start(torch.as_tensor(family.standardise(repeated)), 3, 0.1)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_axes_by_weights_are_those_of_the_weighted_covariance(X):
    weights = np.random.default_rng(2).random(70)
    axes = shrunk_axes(torch.as_tensor(X), 4, 0.0, torch.as_tensor(weights)).numpy()
    np.testing.assert_allclose(axes @ axes.T, np.cov(X.T, aweights=weights, bias=True), rtol=1e-9, atol=1e-12)


def test_the_start_of_a_coupled_fit_is_that_of_the_repeated_rows(X, counts, repeated):
    model = clone(MODELS["CoupledVAE"])
    starts = []
    for table in (Table.of(X, counts), Table(repeated)):
        model.n_features_in_ = 4
        problem = model._problem(table, None, make_rng(0))
        starts.append((problem, _phases.start(problem)))
    (ours, start), (theirs, expected) = starts
    assert start.temperature == pytest.approx(expected.temperature, rel=1e-5)
    assert ours.n_rows == theirs.n_rows == counts.sum()
    for name, value in expected.decoder.items():
        torch.testing.assert_close(start.decoder[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_objective_of_a_first_step_is_that_of_the_repeated_rows(X, counts, repeated, name):
    model = clone(MODELS[name]).set_params(max_iter=1, tol=0, likelihood="gaussian")
    ours = clone(model).fit(X, sample_weight=counts).loss_curve_
    assert ours == pytest.approx(clone(model).fit(repeated).loss_curve_, rel=1e-5)


# Fits.


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_minibatches_are_those_of_the_repeated_rows(X, counts, repeated, name):
    """Whole weights, rows in the same order: the same visits, so that whole fits differ by rounding alone."""
    ours, theirs = clone(MODELS[name]).fit(X, sample_weight=counts), clone(MODELS[name]).fit(repeated)
    assert len(ours.loss_curve_) == len(theirs.loss_curve_) > 20
    np.testing.assert_allclose(ours.loss_curve_[:20], theirs.loss_curve_[:20], rtol=1e-4)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=0, atol=0.05)
    np.testing.assert_allclose(ours.sample(50, source="aggregate", noise="mean", random_state=0).mean(0),
                               theirs.sample(50, source="aggregate", noise="mean", random_state=0).mean(0), atol=0.05)  # fmt: skip


@pytest.mark.parametrize("prior", ["gaussian", "categorical"])
@pytest.mark.parametrize("varsigma", [np.inf, 2.0])
def test_coupled_fits_agree_in_score(X, counts, repeated, prior, varsigma):
    """The two draw other rows in a step, so that they agree on average over seeds."""
    model = clone(MODELS["CoupledVAE"]).set_params(prior=prior, n_components=8 if prior == "categorical" else 2, varsigma=varsigma)
    differences = []
    for seed in range(3):
        model.set_params(random_state=seed)
        ours, theirs = clone(model).fit(X, sample_weight=counts), clone(model).fit(repeated)
        assert ours.coupling_.converged
        dual_values = ours.coupling_.dual_value, theirs.coupling_.dual_value
        differences.append([ours.score(repeated) - theirs.score(repeated), dual_values[0] - dual_values[1]])
    np.testing.assert_allclose(np.mean(differences, axis=0), 0, atol=0.05)
    assert clone(model).fit(X).score(repeated) < ours.score(repeated) - 0.1  # without the weights


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_fits_agree_in_expectation_where_rows_come_in_another_order(X, counts, repeated, name):
    """Minibatches are others then: the mean of the scores over seeds is the same to four standard errors."""
    order = np.random.default_rng(0).permutation(70)
    scores = []
    for rows, weights in ((X[order], counts[order]), (repeated, None)):
        fits = [clone(MODELS[name]).set_params(random_state=seed).fit(rows, sample_weight=weights) for seed in range(10)]
        scores.append([fit.score(repeated) for fit in fits])
    difference = np.mean(scores[0]) - np.mean(scores[1])
    error = np.sqrt(np.var(scores, axis=1, ddof=1).sum() / 10)
    assert abs(difference) < 4 * error
    assert error < 0.1


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_weight_zero_are_not_there(X, counts, name):
    ours = clone(MODELS[name]).fit(np.vstack([X, 1e6 * X[:3]]), sample_weight=np.r_[np.ones(70), np.zeros(3)])
    theirs = clone(MODELS[name]).fit(X, sample_weight=np.ones(70))
    np.testing.assert_array_equal(ours.transform(X), theirs.transform(X))
    np.testing.assert_array_equal(ours.score_samples(X), theirs.score_samples(X))


@pytest.mark.parametrize("name", MODELS)
def test_equal_weights_are_none(X, name):
    """Of any size that is not above one a row."""
    plain = clone(MODELS[name]).fit(X)
    for weight in (1, 1 / 70):
        weighted = clone(MODELS[name]).fit(X, sample_weight=np.full(70, weight))
        np.testing.assert_array_equal(weighted.score_samples(X), plain.score_samples(X))


@pytest.mark.parametrize("name", MODELS)
def test_fractional_weights_move_the_model(name):
    """Two clusters of 100 rows, one with a ninth of the other's weight: samples divide as the weights do."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(100, 2)) - 6, rng.normal(size=(100, 2)) + 6])
    weights = np.repeat([1.8, 0.2], 100)
    model = clone(MODELS[name]).set_params(max_iter=300, hidden_layer_sizes=(64,)).fit(X, sample_weight=weights)
    share = (model.sample(4000, random_state=0, source="aggregate")[:, 0] > 0).mean()
    assert share == pytest.approx(0.1, abs=0.03)


def test_a_proposal_is_fitted_to_the_weighted_plan():
    """Every second row counts for nine others: also among rows that share a column of the plan."""
    X = np.random.default_rng(0).normal(size=(100, 2))
    weights = np.tile([1.8, 0.2], 50)
    model = clone(MODELS["CoupledVAE"]).fit(X, sample_weight=weights)
    problem = model._problem(Table.of(X, weights), None, make_rng(0))
    problem.decoder.load_state_dict(model._fitted.decoder.state_dict())
    frozen = _phases.freeze(problem, torch.zeros_like(problem.source.carrier), 2048)
    rows, _ = _phases._propose._from_plan(problem, frozen.potential)
    places = torch.cdist(rows, problem.x).argmin(1)
    assert float((places % 2 == 0).double().mean()) == pytest.approx(0.9, abs=0.01)


def test_partial_fit_takes_weights(X, counts, repeated):
    ours, theirs = VAE(**WITH_BATCHES), VAE(**WITH_BATCHES)
    for _ in range(3):
        ours.partial_fit(X, sample_weight=counts)
        theirs.partial_fit(repeated)
    assert len(ours.loss_curve_) == len(theirs.loss_curve_)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_rows_held_out_keep_their_weights(X, counts, name):
    model = clone(MODELS[name]).set_params(early_stopping=True, validation_fraction=0.3)
    data, held_out = model._split(Table.of(X, counts))
    kept = {tuple(row): weight for row, weight in zip(X, counts, strict=True)}
    for table in (data, held_out):
        assert [kept[tuple(row)] for row in table.X] == table.weights.tolist()
    weighted = clone(model).fit(X, sample_weight=counts).validation_scores_
    assert np.isfinite(weighted).all()
    assert weighted != clone(model).fit(X[counts > 0]).validation_scores_


def test_judges_weigh_their_rows():
    values = torch.tensor([1.0, 2.0, 4.0])
    assert Judges(values[:, None]).mean(values) == pytest.approx(7 / 3)
    assert Judges(values[:, None], torch.tensor([1.0, 1.0, 2.0])).mean(values) == pytest.approx(11 / 4)


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_validation_scores_are_means_by_weights(X, counts, name):
    model = clone(MODELS[name]).set_params(n_components=2)
    model.n_features_in_ = 4
    counts = counts[counts > 0][:20].astype(float)
    scores = []
    for held_out in (Table(X[:20], counts), Table(X[:20].repeat(counts.astype(int), axis=0))):
        built = model._model(Table(X), held_out, model._loss().kl_weight, make_rng(0), False)
        _amortise.start(built, 1.0)
        watcher = _amortise._HeldOut(built, built.held_out, model._setting())
        watcher.noise = torch.zeros_like(watcher.noise)
        scores.append(watcher._score())
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_the_residual_weighs_rows(X, counts, repeated):
    model = clone(MODELS["WAE"]).set_params(encoder="point")
    model.n_features_in_ = 4
    residuals = []
    for table in (Table.of(X, counts), Table(repeated)):
        built = model._model(table, None, 0.0, make_rng(0), False)
        built.decoder.network.set_linear(torch.eye(4)[:, :2], torch.zeros(4))
        built.encoder.network.set_linear(torch.eye(4)[:2], torch.zeros(2))
        residuals.append(_amortise.residual(built))
    torch.testing.assert_close(*residuals, rtol=1e-5, atol=1e-7)


def test_fractional_weights_are_visited_in_proportion():
    """Also rows that have no position of their own, and over the passes every row."""
    weights = np.array([0.25, 0.25, 0.5, 3.0, 1.0])
    data = Data(Table(np.arange(5.0)[:, None], weights), GaussianLikelihood(1.0).bind(np.eye(2)[:, :1]), 1.0, torch.device("cpu"))
    batches = _amortise._Batches(data, 5, torch.Generator().manual_seed(0))
    visits = torch.cat([batches.following() for _ in range(4000)]).flatten()
    visits = (visits * data._family.unit + data._family.offset[0]).round().long().bincount(minlength=5) / 4000
    torch.testing.assert_close(visits, torch.as_tensor(weights).float(), rtol=0.1, atol=0)
    drawn = data.random(100_000, np.random.default_rng(0)).bincount(minlength=5) / 20_000
    torch.testing.assert_close(drawn, torch.as_tensor(weights).float(), rtol=0.05, atol=0)


def test_a_pass_is_bounded_where_weights_are_huge():
    family = GaussianLikelihood(1.0).bind(np.eye(2)[:, :1])
    data = Data(Table(np.arange(4.0)[:, None], np.full(4, 1e9)), family, 1.0, torch.device("cpu"))
    assert (data.total, data.n_visits) == (4 * 10**9, MOST_VISITS)
    batch = _amortise._Batches(data, 64, torch.Generator().manual_seed(0)).following()
    assert len(batch.unique()) == 4


# As scikit-learn's estimators have it.


def test_weights_may_come_as_lists_and_series(X, counts):
    expected = clone(MODELS["VAE"]).fit(X, sample_weight=counts)
    for weights in (counts.tolist(), pd.Series(counts, index=np.arange(70)[::-1])):
        np.testing.assert_array_equal(clone(MODELS["VAE"]).fit(X, sample_weight=weights).transform(X), expected.transform(X))


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(69), ValueError, r"one number for each of the 70 rows of X, shape \(70,\), got shape \(69,\)"),
        (np.ones((70, 1)), ValueError, r"got shape \(70, 1\)"),
        (2.0, ValueError, r"got shape \(\)"),
        (np.r_[np.ones(69), -1], ValueError, r"finite and not negative, got -1 at position 69"),
        (np.r_[np.nan, np.ones(69)], ValueError, r"finite and not negative, got nan at position 0"),
        (np.r_[np.ones(1), np.zeros(69)], ValueError, r"is zero but for 1 of 70 rows, and a fit needs two"),
        (np.zeros(70), ValueError, r"is zero but for 0 of 70 rows"),
        (["a"] * 70, ValueError, r"sample_weight must be an array of numbers, got .*'a'.* at position 0"),
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_weights_that_are_none_are_refused(X, name, weights, error, message):
    model = clone(MODELS[name])
    with pytest.raises(error, match=message):
        model.fit(X, sample_weight=weights)
    assert not hasattr(model, "_fitted")


def test_weights_at_the_ends_of_floats_are_scaled():
    for weights in (np.array([1e308, 1e308, 5e307]), np.array([1e-308, 1e-308, 5e-309]), np.array([4, 4, 2]) * 5e-324):
        scaled = _checks.check_sample_weight(weights, 3)
        np.testing.assert_allclose(scaled, [1.2, 1.2, 0.6], rtol=1e-12)


def test_rows_that_weights_leave_must_vary(X):
    with pytest.raises(ValueError, match="zero variance"):
        VAE(**WITH_BATCHES).fit(np.vstack([np.ones((3, 4)), X]), sample_weight=np.r_[np.ones(3), np.zeros(70)])


def test_a_search_routes_weights(X, counts):
    with skcvae_routing():
        search = GridSearchCV(clone(MODELS["VAE"]).set_fit_request(sample_weight=True), {"beta": [0.5, 1.0]}, cv=2)
        assert np.isfinite(search.fit(X, sample_weight=counts).best_score_)


def skcvae_routing():
    import sklearn

    return sklearn.config_context(enable_metadata_routing=True)


def test_fit_transform_takes_weights(X, counts):
    model = clone(MODELS["VAE"])
    np.testing.assert_array_equal(model.fit_transform(X, sample_weight=counts), model.transform(X))


def test_a_checkpoint_is_of_a_fit_with_its_weights(X, counts, tmp_path):
    from skcvae._checkpoint import fingerprint

    model = VAE(**WITH_BATCHES)
    assert fingerprint(model, [X, counts.astype(float)]) != fingerprint(model, [X, None])


def test_a_weighted_model_is_saved(X, counts, tmp_path):
    model = clone(MODELS["CoupledVAE"]).fit(X, sample_weight=counts)
    model.save(tmp_path / "model.skcvae")
    np.testing.assert_array_equal(skcvae.load(tmp_path / "model.skcvae").score_samples(X), model.score_samples(X))
