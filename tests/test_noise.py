"""The noise of a table: the covariance of what decoders leave of rows that they have not seen."""

import dataclasses
import inspect
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest, multivariate_normal, multivariate_t, norm, t
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning

import skcvae
from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _crossfit, _fitting
from skcvae._crossfit import Comparison, Halved, Trials, held_out_scores, residual_moment
from skcvae._data import Judges, Table
from skcvae._place import HOST
from skcvae._training import Pace
from skcvae.likelihoods import (
    AutoLikelihood,
    Background,
    GaussianLikelihood,
    MappedGaussian,
    RowMap,
    alone_among,
    begun,
    halves,
    updated,
)
from skcvae.likelihoods._rows import encoded
from skcvae.posteriors._encoder import normal_scores
from skcvae.posteriors._local import _tempered, size
from skcvae.priors import GaussianPrior
from skcvae.schedule import Schedule

SHORT = Schedule(polish_rounds=2, max_draws=4096)
QUICK = {"max_iter": 100, "hidden_layer_sizes": (32,), "pool_size": 1024, "random_state": 0}
TABLE = GaussianLikelihood(covariance="residual")


@pytest.fixture(scope="module")
def X():
    """Rows of two factors, with correlated noise of which one column has a tenth."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) * [0.3, 0.3, 0.3, 0.3, 0.03]
    return 2 * rng.normal(size=(400, 2)) @ rng.normal(size=(2, 5)) + noise


def linear_model(**params):
    return CoupledVAE(hidden_layer_sizes=(), schedule=SHORT, max_iter=200, random_state=0, **params)


def linear_posterior(model, X):
    """Of a model with a linear decoder and a standard Gaussian prior, in units of its noise: residuals at the means, W, and C."""
    placed = model._fitted.at(HOST)
    x, family = placed.standardised(X), placed.inference.density().mixture.family if model.proposal != "prior" else placed.family
    with torch.no_grad():
        bias = placed.decoder(torch.zeros(1, 2, dtype=torch.float64))[0]
        weight = (placed.decoder(torch.eye(2, dtype=torch.float64)) - bias).T / family.scale.double()
        covariance = torch.linalg.inv(torch.eye(2) + weight.T @ weight)
        residual = (x - bias) / family.scale
        return residual - residual @ weight @ covariance @ weight.T, weight, covariance


# The parts.


def test_the_encoded_axes_are_those_of_the_correlations():
    """Variances along the first axes fall to 0.09 of what they were, the others stay, in units in which the diagonal is 1."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T * np.outer([1, 10, 100, 1, 1, 1], [1, 10, 100, 1, 1, 1])
    deviation = np.sqrt(np.diag(covariance))
    values, axes = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    found = encoded(covariance, 2) / np.outer(deviation, deviation)
    np.testing.assert_allclose(axes.T @ found @ axes, np.diag(values * [1, 1, 1, 1, 0.09, 0.09]), atol=1e-12)
    np.testing.assert_allclose(encoded(covariance, 9), 0.09 * covariance)


def test_the_update_is_the_mode_under_rows_of_the_noise_before():
    before, moments = np.diag([1.0, 2.0]), (np.array([[3.0, 1.0], [1.0, 2.0]]), np.diag([5.0, 4.0]))
    found = updated(before, [(10.0, moments[0]), (30.0, moments[1])], np.zeros(2))
    expected = 0.5 * ((10 * moments[0] + 2 * before) / 12 + (30 * moments[1] + 2 * before) / 32)
    np.testing.assert_allclose(found, expected)
    floored = updated(before, [(10.0, moments[0]), (30.0, moments[1])], np.array([0.0, 3.0]))
    np.testing.assert_allclose(floored, expected + np.diag([0.0, 9.0 - expected[1, 1]]))


def test_equal_rows_are_in_one_half_and_nothing_else_says_which():
    """Neither the order of rows and columns nor the units, nor how often a row is there."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(501, 4))
    found = halves(X)
    assert abs(int(found.sum()) - 250) <= 1
    order, columns = rng.permutation(501), rng.permutation(4)
    np.testing.assert_array_equal(halves(X[order]), found[order])
    np.testing.assert_array_equal(halves(1 + X[:, columns] * [1, 20, 0.1, 3]), found)
    repeats = rng.integers(1, 4, size=501)
    np.testing.assert_array_equal(halves(X.repeat(repeats, axis=0)), found.repeat(repeats))


def test_residuals_of_a_linear_decoder_have_their_closed_form(X):
    """E[(x - mu)(x - mu)' given x] = r r' + W C W', with r the residual at the posterior's mean and C its covariance."""
    row_map = RowMap.of(X, None, marginals=False, covariance=True)
    model = linear_model(likelihood=MappedGaussian(row_map), proposal="prior").fit(X)
    residual, weight, covariance = linear_posterior(model, X)
    expected = (residual.T @ residual / len(X) + weight @ covariance @ weight.T).numpy()
    moment = residual_moment(model._fitted, Table(X), np.random.default_rng(0))
    found = np.linalg.solve(
        row_map.factor, np.linalg.solve(row_map.factor, moment).T
    )  # the noise is 1 in the units of the map's rows
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_weights_are_repetitions_in_residuals(X):
    record = linear_model(likelihood=MappedGaussian(RowMap.of(X, None, False, True)), proposal="prior").fit(X)._fitted
    weights = np.random.default_rng(1).integers(1, 4, size=len(X)).astype(float)
    rng = np.random.default_rng
    weighted = residual_moment(record, Table(X, weights), rng(0))
    repeated = residual_moment(record, Table(X.repeat(weights.astype(int), axis=0)), rng(0))
    np.testing.assert_allclose(weighted, repeated, rtol=0.05, atol=0.01 * np.abs(weighted).max())


@pytest.mark.parametrize(("proposal", "scale"), [("auto", 0.02), ("prior", 1.0)])
def test_means_of_posterior_draws_are_the_posterior_s(X, proposal, scale):
    """By the pool and, where it is coarse, by draws of a row's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = linear_model(likelihood=GaussianLikelihood(scale), proposal=proposal).fit(X)
    placed = model._fitted.at(HOST)
    x, density = placed.standardised(X[:40]), placed.inference.density()
    assert (proposal == "prior") == bool((placed.inference.density(0).log_density(x)[1] < 0.5).all())
    found = density.means(x, 2000, np.random.default_rng(0)).mean(1)
    residual = linear_posterior(model, X[:40])[0] * placed.family.scale.double()
    np.testing.assert_allclose(found, x - residual, atol=0.05 * scale + 0.005)


def test_one_gaussian_is_that_of_the_transformed_columns():
    rng = np.random.default_rng(0)
    X, others = rng.lognormal(size=(300, 3)), rng.lognormal(size=(20, 3))
    row_map = RowMap.of(X, None, marginals=True, covariance=True)
    y = row_map.columns(X)
    factor = RowMap.of(X, None, marginals=True, covariance=True).factor
    expected = multivariate_normal(y.mean(0), factor @ factor.T).logpdf(row_map.columns(others)) + row_map.log_slope(others)
    np.testing.assert_allclose(row_map.one_gaussian(X, None, others), expected)


# The whole.


def test_the_density_of_linear_data_is_found(X):
    """Two factors and correlated noise: other rows' score is that of the truth, where one scale for all columns is nats away."""
    rng = np.random.default_rng(0)
    root, loadings = rng.normal(size=(5, 5)) * [0.3, 0.3, 0.3, 0.3, 0.03], 2 * rng.normal(size=(2, 5))
    covariance = root.T @ root + loadings.T @ loadings
    rows = rng.multivariate_normal(np.zeros(5), covariance, size=3000)
    truth = multivariate_normal(np.zeros(5), covariance).logpdf(rows[1500:]).mean()
    model = linear_model(likelihood=TABLE).fit(rows[:1500])
    assert model.score(rows[1500:]) > truth - 0.05
    assert linear_model(likelihood="gaussian").fit(rows[:1500]).score(rows[1500:]) < truth - 1


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_the_default_is_ahead_of_one_gaussian_on_tables(load):
    X = load().data
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    fitted, held_out = X[order[len(X) // 4 :]], X[order[: len(X) // 4]]
    model = CoupledVAE(random_state=0).fit(fitted)
    row_map = model.likelihood_.row_map
    assert model.score(held_out) > row_map.one_gaussian(fitted, None, held_out).mean() + 0.5
    assert "nats ahead" in model.noise_
    assert model.coupling_.information > 1


@pytest.mark.parametrize("change", ["scales", "shift", "columns", "rows"])
def test_units_and_orders_say_nothing(X, change):
    """Scores move by the log-determinant, to the tolerance that the fit's other draws leave."""
    rng = np.random.default_rng(1)
    model = CoupledVAE(likelihood="table", schedule=SHORT, **QUICK)
    expected = model.fit(X).score(X)
    scales = np.array([1e-3, 10.0, 1.0, 50.0, 1e4])
    rows, shift = {
        "scales": (X * scales, -np.log(scales).sum()),
        "shift": (X + np.array([10, 0, -5, 1, 0]), 0.0),
        "columns": (X[:, rng.permutation(5)], 0.0),
        "rows": (X[rng.permutation(len(X))], 0.0),
    }[change]
    found = clone(model).fit(rows).score(rows)
    assert found - shift == pytest.approx(expected, abs=0.02 if change in ("scales", "shift") else 0.2)


def test_weights_find_the_halves_of_repeated_rows(X):
    """The same rows in each fit, and a noise that differs by what the draws do."""
    weights = np.random.default_rng(1).integers(1, 4, size=len(X)).astype(float)
    model = CoupledVAE(likelihood=TABLE, schedule=SHORT, **QUICK)
    weighted = clone(model).fit(X, sample_weight=weights).likelihood_.row_map.covariance
    repeated = clone(model).fit(X.repeat(weights.astype(int), axis=0)).likelihood_.row_map.covariance
    deviation = np.sqrt(np.diag(repeated))
    np.testing.assert_allclose(weighted / np.outer(deviation, deviation), repeated / np.outer(deviation, deviation), atol=0.15)


def test_a_column_of_few_values_keeps_its_rounding(X):
    """Two clusters that a flag tells apart: the flag's noise is no spike, and a constant column keeps what it had."""
    flag = (X[:, :1] > 0).astype(float)
    rows = np.hstack([X + 20 * flag, flag, np.full_like(flag, 3.0)])
    model = CoupledVAE(schedule=SHORT, **QUICK).fit(rows)
    covariance = model.likelihood_.row_map.covariance
    assert covariance[5, 5] >= 1 / 12 * (1 - 1e-9)
    assert covariance[6, 6] > 0
    assert model.score(rows) < 3


def test_few_rows_and_few_cells_have_no_halves():
    rng = np.random.default_rng(0)
    few = rng.normal(size=(15, 5))
    cells = rng.integers(0, 2, size=(500, 4)).astype(float)
    for rows in (few, cells):
        assert begun(TABLE, rows, None, 2) is None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = CoupledVAE(schedule=SHORT, **QUICK).fit(rows)
        assert model.noise_.startswith("the covariance of the rows" if rows is few else "one fixed scale")
        assert np.isfinite(model.score(rows))


def test_where_one_gaussian_is_clearly_ahead_the_rows_give_the_noise(X, monkeypatch):
    monkeypatch.setattr(_crossfit, "held_out_scores", lambda record, rows: held_out_scores(record, rows) - 100)
    model = CoupledVAE(likelihood="table", schedule=SHORT, **QUICK).fit(X)
    assert model.noise_.startswith("the covariance of the rows, scaled")


def test_auto_is_a_table_where_there_are_columns_to_spare():
    def kind(*shape):
        return AutoLikelihood().settled(*shape)

    table, plain = GaussianLikelihood(covariance="residual", marginals="power"), GaussianLikelihood()
    assert dataclasses.asdict(kind(4, 2, False)) == dataclasses.asdict(kind(200, 64, False)) == dataclasses.asdict(table)
    for shape in ((3, 2, False), (201, 2, False), (64, 8, True), (8, 8, False)):
        assert dataclasses.asdict(kind(*shape)) == dataclasses.asdict(plain)


@pytest.mark.parametrize(
    ("params", "columns"), [({}, 3), ({"prior": "categorical", "n_components": 4}, 8), ({"network": "conv"}, 16)], ids=str
)
def test_what_is_no_table_has_one_scale(params, columns):
    rows = np.random.default_rng(0).normal(size=(60, columns))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CoupledVAE(schedule=SHORT, **{**QUICK, "max_iter": 5}, **params).fit(rows)
    assert model.noise_.startswith("one fixed scale")


# The contract.


MODELS = [
    VAE(likelihood="table", **QUICK),
    WAE(likelihood="table", **QUICK),
    InfoVAE(likelihood="table", alpha=0.2, lambd=2.0, **QUICK),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_the_compared_models_can_have_it(model, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = clone(model).set_params(likelihood="table").fit(X)
    assert "rows that the decoder has not seen" in fitted.noise_
    assert np.isfinite(fitted.score(X))


def test_wrong_parameters_are_told_before_the_folds(X, monkeypatch):
    monkeypatch.setattr(_fitting, "cross_fitted", lambda *args: pytest.fail("work was done"))
    wrong = {
        "solver": "fast",
        "epsilon": -1.0,
        "proposal": "none",
        "draws_per_step": 0,
        "hidden_layer_sizes": (0,),
        "device": "abacus",
    }
    for name, value in wrong.items():
        with pytest.raises((TypeError, ValueError), match=name):
            CoupledVAE(**{**QUICK, name: value}).fit(X)


def test_folds_say_nothing_and_end_with_the_time(X):
    """No warnings of fits that the user did not ask for, and no more than their share of the time."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CoupledVAE(schedule=dataclasses.replace(SHORT, max_draws=64, marginal_tol=0.5), **{**QUICK, "max_iter": 2}).fit(X)
    assert len(caught) <= 2
    assert all(warning.filename == __file__ for warning in caught)
    seen = []
    original = CoupledVAE._fit

    def fit(self, *args):
        seen.append(self.max_time)
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(CoupledVAE, "_fit", fit)
        CoupledVAE(schedule=SHORT, max_time=20.0, **QUICK).fit(X)
    assert seen[0] == 20
    assert len(seen) == 5
    assert all(0 < seconds <= 3 for seconds in seen[1:])


def test_the_folds_leave_the_fit_and_the_generator_as_they_are(X):
    """The same seed, the same noise; and a generator of the user's moves on by one fit."""
    model = CoupledVAE(schedule=SHORT, **QUICK)
    first, second = (clone(model).fit(X) for _ in range(2))
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))
    moving = clone(model).set_params(random_state=np.random.default_rng(0))
    one, two = moving.fit(X).score(X), moving.fit(X).score(X)
    assert one != two


@pytest.mark.parametrize(
    ("model", "short"),
    [
        (VAE(beta=4.0), {"beta": 1.0}),
        (InfoVAE(alpha=0.25, lambd=2.0), {"alpha": 0.0, "lambd": 2.25}),
        (CoupledVAE(epsilon=0.3), {"epsilon": 1.0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_folds_are_at_a_temperature_of_one(model, short, X, monkeypatch):
    """Otherwise the noise would be the residual times the temperature."""
    seen, original = [], type(model)._fit
    monkeypatch.setattr(type(model), "_fit", lambda self, *args: (seen.append(vars(self).copy()), original(self, *args))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clone(model).set_params(likelihood="table", **QUICK).fit(X)
    assert len(seen) == 5
    assert all(params[name] == value for params in seen[1:] for name, value in short.items())
    assert all(seen[0][name] == getattr(model, name) for name in short)


def test_a_stream_begins_without_folds(X, monkeypatch):
    monkeypatch.setattr(_fitting, "cross_fitted", lambda *args: pytest.fail("a part was folded"))
    model = VAE(likelihood="table", **QUICK).partial_fit(X)
    assert model.noise_.startswith("the covariance of the rows, scaled")


def test_a_warm_fit_keeps_its_noise(X, monkeypatch):
    model = CoupledVAE(schedule=SHORT, warm_start=True, **QUICK).fit(X)
    before = model.likelihood_.row_map.covariance
    monkeypatch.setattr(_fitting, "cross_fitted", lambda *args: pytest.fail("folded again"))
    np.testing.assert_array_equal(model.fit(X).likelihood_.row_map.covariance, before)


def test_a_saved_model_keeps_its_noise(X, tmp_path):
    model = CoupledVAE(schedule=SHORT, **QUICK).fit(X)
    model.save(tmp_path / "model")
    loaded = skcvae.load(tmp_path / "model")
    assert loaded.noise_ == model.noise_
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))


def test_a_likelihood_that_is_no_table_says_what_it_is(X):
    assert "trained" in VAE(likelihood=GaussianLikelihood("learned"), **QUICK).fit(X).noise_
    assert VAE(likelihood="bernoulli", **QUICK).fit((X > 0).astype(float)).noise_ == "that of the likelihood"
    with pytest.raises(ValueError, match="scale must be 'auto' with covariance='residual'"):
        CoupledVAE(likelihood=GaussianLikelihood(0.5, covariance="residual")).fit(X)


@pytest.mark.parametrize("model", [CoupledVAE(schedule=SHORT, **QUICK), VAE(**QUICK)], ids=lambda model: type(model).__name__)
def test_a_value_that_is_far_off_is_told_once_by_its_column(model, X):
    rows = pd.DataFrame(X, columns=["a", "b", "c", "d", "e"])
    rows.loc[7, "d"] = 1000 * rows["d"].max()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clone(model).fit(rows)
    told = [str(warning.message) for warning in caught if re.search("robust deviations|far from all", str(warning.message))]
    assert len(told) == 1
    assert "olumn 'd'" in told[0]
    if isinstance(model, CoupledVAE):
        assert told[0].startswith("1 of 400 rows are far from all others, such as row 7 with")
    skewed = np.exp(np.random.default_rng(0).normal(size=(400, 5)))
    counts = np.random.default_rng(0).poisson(0.05, size=(400, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clone(model).fit(np.hstack([skewed, counts]))
    assert not [warning for warning in caught if "robust deviations" in str(warning.message)]


def test_a_wae_that_knows_its_rows_by_heart_says_so():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 4))
    with pytest.warns(UserWarning, match=r"knows the fitted rows by heart.*early_stopping.*table"):
        WAE(max_iter=3000, random_state=0).fit(rows)
    many = rng.normal(size=(400, 1)) + 0.5 * rng.normal(size=(400, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        WAE(max_iter=300, random_state=0).fit(many)


@pytest.mark.parametrize("ask", ["transform", "reconstruct", "sample_posterior", "posterior"])
def test_coarse_posteriors_are_told_where_they_are_asked_for(X, ask):
    """By the caller's line and with a remedy that is not already in use."""
    far = 40 * X[:5]
    model = CoupledVAE(likelihood="gaussian", schedule=SHORT, **QUICK).fit(X)
    with pytest.warns(UserWarning, match=r"rows' posteriors.*use proposal='encoder'") as caught:
        getattr(model, ask)(far)
    assert [warning.filename for warning in caught] == [__file__]
    vae = VAE(**{**QUICK, "max_iter": 5}).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(model, ask)(X)
        getattr(vae, ask)(far)


def test_the_remedy_of_scores_is_not_in_use(X):
    far = 100 * X[:5]
    params = {**QUICK, "likelihood": "gaussian", "schedule": SHORT}
    with pytest.warns(UserWarning, match=r"log-likelihood.*proposal='auto'"):
        CoupledVAE(proposal="prior", **params).fit(X).score(far)
    assert "proposal" in inspect.signature(CoupledVAE).parameters


def test_a_device_answers_alike(second_device, X):
    """Fits of halves too, on the simulated device; the noise is an array of the host."""
    here = CoupledVAE(schedule=SHORT, device="cpu", **QUICK).fit(X)
    there = CoupledVAE(schedule=SHORT, device=second_device, **QUICK).fit(X)
    deviation = np.sqrt(np.diag(here.likelihood_.row_map.covariance))
    ratio = there.likelihood_.row_map.covariance / np.outer(deviation, deviation)
    np.testing.assert_allclose(ratio, here.likelihood_.row_map.covariance / np.outer(deviation, deviation), atol=0.05)
    assert there.score(X) == pytest.approx(here.score(X), abs=0.1)


def test_no_fit_is_asked_of_its_own_rows(X, monkeypatch):
    """Each pass fits both halves, and asks each of the other; a kept half is not fitted again."""
    record = linear_model(likelihood=MappedGaussian(RowMap.of(X, None, False, True)), proposal="prior").fit(X)._fitted
    fitted, asked, kept = [], [], []
    monkeypatch.setattr(_crossfit, "held_out_scores", lambda record, rows: np.zeros(len(rows)) + 100)
    monkeypatch.setattr(_crossfit, "residual_moment", lambda record, table, rng: (asked.append(table.X), np.eye(5))[1])

    def fit(likelihood, table, seed):
        fitted.append(table.X)
        return record

    halved = Halved.of(Table(X), np.random.default_rng(0))

    def run(found):
        trials = Trials(Pace(), found, lambda held: kept.append(len(held)))
        return _crossfit.cross_fitted(TABLE, halved, 2, fit, trials, np.random.default_rng(0))[0]

    first = run([])
    assert kept == [1, 2, 3, 4]
    for rows, others in zip(fitted, asked, strict=True):
        assert len(rows) + len(others) == len(X)
        assert not {*map(tuple, rows)} & {*map(tuple, others)}
    np.testing.assert_array_equal(fitted[0], asked[1])
    found = [(200.0, np.eye(5), np.full(len(rows), 100.0), np.full(len(rows), -10.0)) for rows in asked[:3]]
    np.testing.assert_allclose(run(found).row_map.covariance, first.row_map.covariance)
    assert len(fitted) == 5


def test_means_are_those_of_the_decoder_at_any_temperature(X):
    model = linear_model(likelihood=GaussianLikelihood(1.0), proposal="prior", epsilon=0.5).fit(X)
    placed = model._fitted.at(HOST)
    x, mixture = placed.standardised(X[:20]), placed.inference.mixture
    with torch.no_grad():
        means = placed.family.mean(placed.decoder(placed.inference.pool.draws))
    expected = mixture.scores.average(mixture.family.statistics(x), means)
    np.testing.assert_allclose(mixture.means(x, 4000, np.random.default_rng(0)).mean(1), expected, atol=0.05)


def test_weights_are_tempered_no_more_than_asked():
    """By the largest power in (0, 1] that leaves enough effective draws."""
    log_weights = torch.as_tensor(np.random.default_rng(0).normal(size=(3, 500)) * [[0.1], [3.0], [30.0]])
    found = _tempered(log_weights, 50)
    power = (found / log_weights).mean(1)
    torch.testing.assert_close(found, power[:, None] * log_weights)
    assert float(power[0]) == 1.0
    assert (power[1:] > 0).all()
    assert (power[1:] < 1).all()
    torch.testing.assert_close(size(found)[1:], torch.full((2,), 50.0, dtype=torch.float64), rtol=0.01, atol=0)


def test_normal_scores_come_in_pairs():
    for n_draws in (2, 10, 256):
        scores_of = normal_scores(n_draws, 3)
        assert scores_of.shape == (n_draws, 3)
        np.testing.assert_allclose(scores_of.mean(0), 0, atol=1e-12)
    assert normal_scores(7, 2).shape == (7, 2)
    assert not torch.equal(normal_scores(8, 2, 1), normal_scores(8, 2))


# Broad noise.


def test_the_background_is_a_multivariate_t():
    rng = np.random.default_rng(0)
    root = np.array([[2.0, 0.0], [1.0, 0.5]])
    y = rng.normal(size=(50, 2))
    for degrees in (3.0, 1.0):
        found = Background(np.array([1.0, -1.0]), root, degrees, share=0.25)
        expected = multivariate_t([1.0, -1.0], root @ root.T, df=degrees)
        np.testing.assert_allclose(found.log_density(y), expected.logpdf(y))
        draws = found.sample(20000, rng)
        for column, (place, scale) in zip(draws.T, [(1.0, 2.0), (-1.0, np.sqrt(1.25))], strict=True):
            assert kstest(column, t(degrees, place, scale).cdf).pvalue > 1e-3
        scores, broad = np.array([-3.0, -800.0, -1.0]), np.array([-1.0, -30.0, -900.0])
        np.testing.assert_allclose(found.mixed(scores, broad), np.log(0.75 * np.exp(scores) + 0.25 * np.exp(broad)))
        np.testing.assert_allclose(found.kept(scores, broad), [0.75 / (0.75 + 0.25 * np.exp(2.0)), 0.0, 1.0], atol=1e-12)


@pytest.mark.parametrize("degrees", [3.0, 1.0])
def test_the_background_is_found_by_maximum_likelihood(degrees):
    """Location, scale and degrees are those that the rows come from; weights are repetitions; small columns keep their floor."""
    rng, root = np.random.default_rng(0), np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    y = Background(np.array([1.0, -1.0, 0.0]), root, degrees).sample(4000, rng)
    found = Background.of(y, None, np.full(3, 1e-6))
    assert found.degrees == degrees
    np.testing.assert_allclose(found.location, [1, -1, 0], atol=0.1)
    np.testing.assert_allclose(found.scatter, root @ root.T, atol=0.4)
    best = found.log_density(y).mean()
    for scale in (0.9, 1.1):
        assert dataclasses.replace(found, factor=scale * found.factor).log_density(y).mean() < best
    twice, weighted = (
        Background.of(np.repeat(y[:200], 2, 0), None, np.zeros(3)),
        Background.of(y[:200], np.full(200, 2.0), np.zeros(3)),
    )
    np.testing.assert_allclose(weighted.factor, twice.factor)
    constant = np.hstack([y, np.full((4000, 1), 0.1)])
    floored = Background.of(constant, None, np.array([5.0, 0.0, 0.0, 0.25]))
    deviations = np.sqrt(np.diag(floored.scatter))
    np.testing.assert_allclose(deviations[[0, 3]], [5.0, 0.25])


def test_rows_are_alone_that_are_far_from_all_others():
    """A far group of as many rows as the square root of all is none of them; weights count as repetitions do."""
    rng = np.random.default_rng(0)
    bulk, group, few = rng.normal(size=(380, 2)), 300 + rng.normal(size=(25, 2)), -300 + rng.normal(size=(5, 2))
    y = np.vstack([bulk, group, few])
    expected = np.arange(410) >= 405
    np.testing.assert_array_equal(alone_among(y, None)(y), expected)
    weights = np.where(expected, 5.0, 1.0)
    assert not alone_among(y, weights)(y).any()
    np.testing.assert_array_equal(alone_among(y, None)(y[400:]), expected[400:])
    rare = np.where(rng.random(410) < 0.1, rng.exponential(size=410), 0.0)  # most rows have one value, the others are not far off
    mixed = np.c_[bulk[:, 0], rare[:380], np.full(380, 3.0)]
    assert not alone_among(mixed, None)(mixed).any()


def test_weights_are_repetitions_in_what_folds_begin_with(X):
    repeated, weighted = begun(TABLE, np.repeat(X, 2, 0), None, 2), begun(TABLE, X, np.full(400, 2.0), 2)
    np.testing.assert_allclose(weighted[0].factor, repeated[0].factor)
    np.testing.assert_allclose(weighted[1], repeated[1])
    np.testing.assert_allclose(weighted[2].factor, repeated[2].factor)


def test_the_share_is_that_of_maximum_likelihood():
    rng, n = np.random.default_rng(0), 20000
    found = Background(np.zeros(1), np.array([[5.0]]))
    y = np.where(rng.random((n, 1)) < 0.1, found.sample(n, rng), rng.normal(size=(n, 1)))
    scores, broad = norm.logpdf(y[:, 0]), found.log_density(y)
    with_share = found.with_share(scores, broad, None)
    assert abs(with_share.share - 0.1) < 0.01
    np.testing.assert_allclose(with_share.share, (1 - with_share.kept(scores, broad)).sum() / n, rtol=1e-2)
    halved = found.with_share(np.r_[scores, scores], np.r_[broad, broad], np.full(2 * n, 0.5))
    np.testing.assert_allclose(halved.share, with_share.share)
    none = found.with_share(np.zeros(100), np.full(100, -1000.0), None)
    np.testing.assert_allclose(none.share, 0.5 / 101)


@pytest.fixture(scope="module")
def spoiled(X):
    """Rows of which some are wrong, and a model of them."""
    rows = X.copy()
    rows[::20] = 40 * np.random.default_rng(1).standard_cauchy((20, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rows, CoupledVAE(schedule=SHORT, **QUICK).fit(rows)


def test_wrong_rows_are_broad_noise(X, spoiled):
    """The others are scored as without them, up to some tenths, their samples are as spread, and no row has an absurd score."""
    rows, model = spoiled
    clean, good = CoupledVAE(schedule=SHORT, **QUICK).fit(X), np.arange(400) % 20 != 0
    background = model.likelihood_.background
    assert 0.02 < background.share < 0.2
    assert "of rows are broad noise" in model.noise_
    assert model.score(X[good]) > clean.score(X[good]) - 0.2
    assert model.score_samples(rows).min() > -100
    spread = np.subtract(*np.quantile(model.sample(4000, random_state=0), [0.75, 0.25], axis=0))
    np.testing.assert_allclose(spread / np.subtract(*np.quantile(X, [0.75, 0.25], axis=0)), 1, atol=0.2)


def test_scores_and_samples_have_the_share_of_broad_noise(spoiled):
    """Far off the score is that of the broad noise, and as many samples are there as it says; means have none."""
    rows, model = spoiled
    family, background = model.likelihood_, model.likelihood_.background
    far = rows[::20]
    broad = np.log(background.share) + background.log_density(family.row_map.columns(far)) + family.row_map.log_slope(far)
    scores, errors = model.score_samples(far, return_std=True)
    explained = model._fitted.at(HOST).inference.density().log_density(model._fitted.at(HOST).standardised(far))[0]
    own = np.log1p(-background.share) + explained.numpy() - family.log_volumes(far)
    np.testing.assert_allclose(scores, np.logaddexp(broad, own))
    assert np.mean(np.abs(scores - broad) < 1e-6) > 0.8
    assert (errors >= 0).all()
    level = family.broad(far) + family.log_volumes(far)  # where both densities are the same the error counts by the model's share
    for lower, expected in ((0.0, 1 - background.share), (1e4, 0.0), (-1e4, 1.0)):
        np.testing.assert_allclose(family.in_units(far, level - lower, np.full(len(far), 0.5))[1], 0.5 * expected, atol=1e-12)
    drawn = model.sample(20000, random_state=0)
    expected = background.sample(20000, np.random.default_rng(1))
    bound = np.quantile(np.linalg.norm(expected - background.location, axis=1), 0.8)
    n_far = (np.linalg.norm(drawn - background.location, axis=1) > bound).sum()
    np.testing.assert_allclose(n_far, 0.2 * background.share * 20000, rtol=0.2)
    own = model.sample(20000, noise="model", random_state=0)
    assert (np.linalg.norm(own - background.location, axis=1) > bound).sum() < 20
    means = model.sample(2000, noise="mean", random_state=0)
    z = model.prior_.sample(2000, np.random.default_rng(0))
    np.testing.assert_allclose(means, model.inverse_transform(z))


def test_rows_held_out_are_judged_with_their_share_of_broad_noise(spoiled):
    """One wrong row among those of validation does not choose the round."""
    rows = spoiled[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = CoupledVAE(schedule=SHORT, **QUICK).fit(rows[:300], X_val=rows[300:])
    np.testing.assert_allclose(max(fitted.validation_scores_), fitted.score(rows[300:]), atol=0.5)
    own, broad = torch.tensor([-2.0, -900.0]), torch.tensor([-5.0, -6.0])
    judges = Judges(torch.zeros(2, 1), None, 0.0, np.log(0.75), np.log(0.25) + broad)
    expected = torch.log(0.75 * own.exp() + 0.25 * broad.exp()).mean()
    np.testing.assert_allclose(judges.mean(own), expected, rtol=1e-6)


def test_broad_noise_is_kept_in_files_and_checked(spoiled, tmp_path):
    rows, model = spoiled
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(skcvae.load(tmp_path / "model").score_samples(rows), model.score_samples(rows))
    good = model.likelihood_.background
    good.check(5)
    for wrong in (
        {"share": 0.0},
        {"share": 1.0},
        {"degrees": 2.0},
        {"location": np.zeros(4)},
        {"location": np.full(5, np.nan)},
        {"factor": -good.factor},
    ):
        with pytest.raises(ValueError, match="broad noise"):
            dataclasses.replace(good, **wrong).check(5)


# The number of components.


@pytest.mark.parametrize("n_factors", [1, 3])
def test_the_number_of_factors_is_found(n_factors):
    """Of a linear model: the evidence rises up to their number, and its smallest good number is chosen."""
    rng = np.random.default_rng(0)
    X = 3 * rng.normal(size=(600, n_factors)) @ rng.normal(size=(n_factors, 8)) + rng.normal(size=(600, 8))
    model = linear_model(n_components="auto", likelihood=GaussianLikelihood(1.0)).fit(X)
    evidence = model.evidence_
    assert (model.n_components_, evidence.chosen, model.n_components) == (n_factors, n_factors, "auto")
    assert evidence.n_components[: n_factors + 1] == (1, 2, 3, 5)[: n_factors + 1]
    assert (evidence.errors >= 0).all()
    assert evidence.errors[evidence.scores.argmax()] == 0
    if n_factors == 3:
        assert (np.diff(evidence.scores[:3]) > 0.3).all()
    assert model.transform(X[:3]).shape == (3, n_factors)
    given = linear_model(n_components=n_factors, likelihood=GaussianLikelihood(1.0)).fit(X)
    assert given.evidence_ is None
    np.testing.assert_allclose(model.score(X), given.score(X), atol=0.05)


def test_evidence_is_compared_row_by_row():
    """The chosen number is the smallest within one standard error of the difference, and one that is clearly behind ends it."""
    rng = np.random.default_rng(0)
    halved = Halved.of(Table(rng.normal(size=(100, 3)), rng.integers(1, 4, 100).astype(float)), rng)
    base, noise = rng.normal(size=100), rng.normal(size=100)
    comparison = Comparison(halved, {1: base - 1, 2: base, 3: base + 0.01 + noise - noise @ halved.counts / halved.counts.sum()})
    assert not comparison.is_decided
    evidence = comparison.evidence()
    assert (evidence.n_components, evidence.chosen) == ((1, 2, 3), 2)
    difference, counts = comparison.scores[3] - base, halved.counts
    np.testing.assert_allclose(evidence.scores[1], np.average(base, weights=counts))
    variance = np.average((difference - np.average(difference, weights=counts)) ** 2, weights=counts)
    np.testing.assert_allclose(evidence.errors[1], np.sqrt(variance / counts.sum()))
    comparison.scores[5] = base - 1
    assert comparison.is_decided


@pytest.mark.parametrize(
    "model",
    [
        VAE("auto", **{**QUICK, "likelihood": "gaussian"}),
        WAE("auto", **{**QUICK, "likelihood": "gaussian"}),
        InfoVAE("auto", **{**QUICK, "likelihood": "gaussian"}),
        CoupledVAE("auto", schedule=SHORT, **{**QUICK, "likelihood": "bernoulli"}),
        CoupledVAE("auto", prior="uniform", schedule=SHORT, **{**QUICK, "likelihood": "gaussian"}),
    ],
    ids=lambda model: f"{type(model).__name__}, {model.likelihood}, {model.prior}",
)
def test_all_models_and_likelihoods_find_a_number(model, X, tmp_path):
    rows = (X > 0).astype(float) if model.likelihood == "bernoulli" else X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = clone(model).fit(rows)
        same = clone(model).fit(rows)
        fitted.save(tmp_path / "model")
        loaded = skcvae.load(tmp_path / "model")
    assert fitted.n_components_ == fitted.evidence_.chosen == fitted.transform(rows).shape[1]
    for other in (same, loaded):
        np.testing.assert_array_equal(other.evidence_.scores, fitted.evidence_.scores)
        np.testing.assert_array_equal(other.score_samples(rows), fitted.score_samples(rows))
    assert loaded.n_components == "auto"


def test_a_number_that_fit_found_is_kept_by_what_goes_on(X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = VAE("auto", warm_start=True, **{**QUICK, "likelihood": "gaussian"}).fit(X)
        k = model.n_components_
        assert model.fit(X).n_components_ == k
        assert model.partial_fit(X).n_components_ == k


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda X: CoupledVAE("auto", prior=GaussianPrior(2)).fit(X), "n_components='auto' compares priors .* Give the prior by"),
        (lambda X: VAE("auto").partial_fit(X), "n_components='auto' is found by fit, .* Give one, or call fit first"),
        (lambda X: CoupledVAE("many").fit(X), "n_components must be"),
        (lambda X: CoupledVAE("auto", epsilon=-1.0).fit(X), "epsilon"),
    ],
)
def test_what_cannot_be_compared_is_said(fit, message, X):
    with pytest.raises((TypeError, ValueError), match=message):
        fit(X)


def test_an_interrupted_comparison_goes_on(X, tmp_path, monkeypatch):
    """What halves have said is not asked again, and the model is that of an uninterrupted fit."""
    model = CoupledVAE("auto", schedule=SHORT, checkpoint=tmp_path / "state", **QUICK)
    whole = clone(model).set_params(checkpoint=None).fit(X)
    original, made = _crossfit.held_out_scores, []

    def stopped(record, rows):
        made.append(len(rows))
        if len(made) == 6:
            raise KeyboardInterrupt
        return original(record, rows)

    monkeypatch.setattr(_crossfit, "held_out_scores", stopped)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    n_before = len(made)
    model.fit(X)
    assert n_before == 6
    np.testing.assert_array_equal(model.score_samples(X), whole.score_samples(X))
    np.testing.assert_array_equal(model.evidence_.scores, whole.evidence_.scores)


def test_the_comparison_ends_with_the_time(X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CoupledVAE("auto", schedule=SHORT, max_time=1e-3, **QUICK).fit(X)
    assert model.evidence_ is None
    assert model.n_components_ == 1
    assert np.isfinite(model.score(X))


# The noise of the models with an encoder.


PLAIN = {**QUICK, "likelihood": "gaussian", "max_iter": 300}


def test_the_noise_is_what_calibration_says(X):
    """The plan's at the temperature of the loss, or the residual, of rows held out where there are some, at a temperature of 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = VAE(beta=0.25, calibration="temperature", **PLAIN).fit(X)
        residual = VAE(beta=0.25, calibration="residual", **PLAIN).fit(X)
        held_out = VAE(beta=0.25, calibration="residual", **PLAIN).fit(X, X_val=3 * X)
        wae = [WAE(calibration=rule, **PLAIN).fit(X) for rule in ("auto", "residual")]
    scale = GaussianLikelihood().bind(X).scale
    torch.testing.assert_close(plan.likelihood_.scale.double(), scale)
    assert plan._fitted.temperature == 0.25
    assert residual._fitted.temperature == 1
    left = np.sqrt(np.mean((X - residual.inverse_transform(residual.sample_posterior(X, random_state=0)[:, 0])) ** 2))
    np.testing.assert_allclose(float(residual.likelihood_.scale) * residual.likelihood_.unit, left, rtol=0.2)
    assert float(held_out.likelihood_.scale) > 1.5 * float(residual.likelihood_.scale)
    np.testing.assert_array_equal(wae[0].score_samples(X), wae[1].score_samples(X))


def test_the_noise_of_rows_not_seen_has_no_temperature(X):
    """At a small weight of the divergence scores are as at 1; with the plan's temperature they are far lower."""
    fresh = X[200:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usual, small, cold = (
            VAE(beta=beta, likelihood="table", calibration=rule, **QUICK).fit(X[:200]).score(fresh)
            for beta, rule in ((1.0, "auto"), (0.01, "auto"), (0.01, "temperature"))
        )
        wae = WAE(likelihood="table", **QUICK).fit(X[:200]).score(fresh)
    assert abs(small - usual) < 0.5
    assert cold < small - 5
    assert abs(wae - usual) < 1


def test_a_wae_that_knows_its_rows_by_heart_has_the_noise_of_others(X):
    rows = load_wine().data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = WAE(likelihood="table", random_state=0).fit(rows[::2])
    assert model.score(rows[1::2]) > -24  # one Gaussian has -22, and the residual of fitted rows -860


@pytest.mark.parametrize("n_off", [20, 150])
def test_rows_have_a_say_in_the_noise_by_the_probability_that_they_are_explained(n_off, X, monkeypatch):
    """Where fewer than half of them are explained it is the model that is off, and all have the same."""
    record = linear_model(likelihood=MappedGaussian(RowMap.of(X, None, False, True)), proposal="prior").fit(X)._fitted
    counts = []
    monkeypatch.setattr(_crossfit, "residual_moment", lambda record, table, rng: (counts.append(table.counts), np.eye(5))[1])
    monkeypatch.setattr(_crossfit, "held_out_scores", lambda record, rows: np.where(np.arange(len(rows)) < n_off, -1e6, 100.0))
    halved = Halved.of(Table(X), np.random.default_rng(0))
    _crossfit.cross_fitted(TABLE, halved, 2, lambda *_: record, Trials(Pace()), np.random.default_rng(0))
    for found in counts:
        expected = np.where(np.arange(len(found)) < n_off, 0.0, 1.0) if n_off == 20 else np.ones(len(found))
        np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("kind", [VAE, WAE, CoupledVAE])
def test_what_goes_on_keeps_the_noise_of_rows_not_seen(kind, spoiled):
    """A warm fit, and a part of a stream: the same scale and temperature; a warm fit leaves out the rows that are alone too."""
    rows, params = spoiled[0], {"schedule": SHORT} if kind is CoupledVAE else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(likelihood="table", warm_start=True, **QUICK, **params).fit(rows)
    scale, temperature = model.likelihood_.scale, model._fitted.temperature
    with pytest.warns(UserWarning, match="far from all others"):
        model.fit(rows)
    torch.testing.assert_close(model.likelihood_.scale, scale)
    assert model._fitted.temperature == temperature
    if kind is not CoupledVAE:
        model.partial_fit(rows[1::20])
        torch.testing.assert_close(model.likelihood_.scale, scale)


def test_a_wrong_calibration_is_said(X):
    with pytest.raises(ValueError, match="calibration must be one of 'auto', 'temperature', 'residual'"):
        VAE(calibration="none", **PLAIN).fit(X)
    with pytest.raises(ValueError, match=r"calibration='temperature' is that of .* Use calibration='residual'"):
        WAE(calibration="temperature", **PLAIN).fit(X)
