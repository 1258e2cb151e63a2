"""Rows that go through a map first: powers of columns and whitening, counted in scores and undone in samples."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.preprocessing import PowerTransformer, StandardScaler

import skcvae
from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae.likelihoods import GaussianLikelihood, RowMap
from skcvae.likelihoods._rows import _fitted_power, shrunk_factor, transformed
from skcvae.schedule import Schedule

QUICK = {"max_iter": 100, "hidden_layer_sizes": (32,), "pool_size": 1024, "random_state": 0}
#: Noise of the shape of the rows: that of what a decoder leaves is in test_noise.py.
MAPPED = GaussianLikelihood(covariance="full", marginals="power")
MODELS = {
    "CoupledVAE": CoupledVAE(likelihood=MAPPED, schedule=Schedule(polish_rounds=2, max_draws=4096), **QUICK),
    "VAE": VAE(likelihood=MAPPED, **QUICK),
    "WAE": WAE(likelihood=MAPPED, **QUICK),
    "InfoVAE": InfoVAE(alpha=0.2, lambd=2.0, likelihood=MAPPED, **QUICK),
}


@pytest.fixture(scope="module")
def X():
    """Money, a mixture, heavy tails, and a sum of others; four fifths of the columns are correlated."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(300, 1))
    money = 1e4 * np.exp(0.8 * common + 0.4 * rng.normal(size=(300, 1)))
    tails = common + 0.3 * rng.standard_t(3, size=(300, 1))
    counts = rng.poisson(3, size=(300, 1)).astype(float)
    return np.hstack([money, tails, counts, common + 0.1 * rng.normal(size=(300, 1)), rng.normal(size=(300, 1))])


def mapped(X, weights=None, marginals=True, covariance=True):
    return RowMap.of(X, weights, marginals, covariance)


# The map.


@pytest.mark.parametrize("marginals", [False, True])
@pytest.mark.parametrize("covariance", [False, True])
def test_the_map_has_its_inverse(X, marginals, covariance):
    found = mapped(X, marginals=marginals, covariance=covariance)
    np.testing.assert_allclose(found.backward(found.forward(X)), X, rtol=1e-9, atol=1e-9)


def test_the_jacobian_is_that_of_the_map(X):
    found = mapped(X)
    for row in X[:5]:
        steps = 1e-6 * np.abs(row).clip(min=1)
        ends = np.array([(found.forward((row + e)[None]) - found.forward((row - e)[None]))[0] for e in np.diag(steps)])
        expected = np.linalg.slogdet(ends / (2 * steps[:, None]))[1]
        assert found.log_slope(row[None])[0] - found.log_volume == pytest.approx(expected, abs=1e-5)
    assert found.mean_log_slope == pytest.approx(found.log_slope(X).mean(), rel=1e-12)


def test_powers_are_those_of_scikit_learn(X):
    """On columns that are centred as scikit-learn's are: not at all."""
    column = X[:, 1]
    theirs = PowerTransformer(standardize=False).fit(column[:, None])
    power = _fitted_power(column, np.ones(300))
    assert power == pytest.approx(theirs.lambdas_[0], abs=1e-3)
    np.testing.assert_allclose(transformed(column, theirs.lambdas_[0]), theirs.transform(column[:, None])[:, 0], rtol=1e-9)


def test_folds_choose_which_columns_are_transformed(X):
    """Money is, and not a normal column, nor one of few values."""
    powers = mapped(X).powers
    assert powers[0] < 0.6
    assert powers[2] == powers[4] == 1
    some = np.random.default_rng(1).normal(size=(2000, 20))
    assert (mapped(some).powers == 1).mean() >= 0.7


def never_negative():
    """Ages, numbers of which some are 0, a clipped Gaussian, one far from 0, and one of either sign."""
    rng = np.random.default_rng(0)
    clipped = np.maximum(rng.normal(2, 1.5, 400), 0)
    return np.column_stack(
        [rng.uniform(20, 80, 400), rng.integers(0, 60, 400), clipped, rng.normal(90, 9, 400), rng.normal(size=400)]
    )


def test_columns_that_are_never_negative_are_soft_at_zero():
    X = never_negative()
    found = mapped(X)
    np.testing.assert_array_equal(found.powers, [-1, -1, -1, 1, 1])
    np.testing.assert_allclose(found.backward(found.forward(X)), X, rtol=1e-9, atol=1e-9)
    y = found.columns(X)
    for column in range(3):
        assert (np.diff(y[X[:, column].argsort(), column]) >= 0).all()
        far = X[:, column] > np.quantile(X[:, column], 0.9)
        slope = np.polyfit(X[far, column], y[far, column] * found.spread[column], 1)[0]
        assert slope == pytest.approx(1, abs=0.02)  # as it is, well above 0
    lowest = np.array(X[:1])
    lowest[:, :3] = found.columns(lowest)[:, :3] - 1e6
    assert (found.restored_columns(np.concatenate([lowest, y - 3]))[:, :3] >= 0).all()


@pytest.mark.parametrize("column", range(3))
def test_the_density_of_a_soft_column_is_that_of_its_samples(column):
    """Its mass below a value is the share of samples below, also next to 0."""
    X = never_negative()[:, [column, 4]]
    found = RowMap.of(X, None, marginals=True, covariance=False)
    y = found.columns(X)[:, :1]
    grid = np.concatenate([np.geomspace(1e-9, 1, 4000), np.linspace(1, 400, 40000)[1:]])
    one = found.of_columns(np.array([True, False]))
    density = np.exp(one.one_gaussian(X[:, :1], None, grid[:, None]))
    mass = np.concatenate([[0.0], np.cumsum(np.diff(grid) * (density[1:] + density[:-1]) / 2)])
    gaussian = stats.norm(y.mean(), shrunk_factor(y - y.mean(), None)[0, 0])
    samples = one.restored_columns(gaussian.rvs((20000, 1), random_state=0))[:, 0]
    start = gaussian.cdf(one.columns(np.array([[1e-9]]))[0, 0])  # the mass of 0
    for value in (0.5, 2.0, 10.0, 40.0, 400.0):
        assert start + np.interp(value, grid, mass) == pytest.approx((samples <= value).mean(), abs=0.012)
    assert start < [1e-3, 0.05, 0.1][column]  # as many rows as are 0, or none


def test_samples_of_ages_are_never_negative():
    X = never_negative()
    model = clone(MODELS["CoupledVAE"]).fit(X)
    samples = model.sample(4000, random_state=0)
    assert (samples[:, :3] >= 0).all()
    assert (samples[:, 4] < 0).any()
    lowest = np.quantile(X[:, 0], 0.1)
    assert (samples[:, 0] < lowest).mean() == pytest.approx(0.1, abs=0.04)
    below = np.array(X[:3])
    below[:, 0] = -1.0
    assert (model.score_samples(below) < model.score_samples(X[:3]) - 20).all()


@pytest.mark.parametrize("shape", [(300, 5), (40, 30), (20, 60)])
def test_the_factor_is_that_of_ledoit_and_wolf_on_standardised_columns(shape):
    rng = np.random.default_rng(0)
    Y = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])) * rng.gamma(1.0, size=shape[1])
    Y -= Y.mean(0)
    factor = shrunk_factor(Y, None)
    expected = LedoitWolf(assume_centered=True).fit(Y / Y.std(0)).covariance_ * np.outer(Y.std(0), Y.std(0))
    np.testing.assert_allclose(factor @ factor.T, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


def test_weights_are_repetitions(X):
    counts = np.random.default_rng(2).integers(1, 4, 300)
    ours, theirs = mapped(X, counts.astype(float)), mapped(X.repeat(counts, axis=0))
    np.testing.assert_allclose(ours.factor, theirs.factor, rtol=2e-3, atol=1e-3 * np.abs(theirs.factor).max())
    np.testing.assert_allclose(ours.powers, theirs.powers, atol=2e-3)
    assert ours.mean_log_slope == pytest.approx(theirs.mean_log_slope, abs=1e-3)


def test_a_sum_of_others_and_a_constant_have_an_inverse(X):
    more = np.hstack([X, X[:, :1] + X[:, 1:2], np.full((300, 1), 7.0)])
    found = mapped(more)
    assert np.isfinite(found.forward(more)).all()
    np.testing.assert_allclose(found.backward(found.forward(more)), more, rtol=1e-6, atol=1e-6)


def test_samples_pile_up_at_no_bound():
    """Of columns that range over decades, positive ones and ones with zeros and of either sign."""
    rng = np.random.default_rng(0)
    X = np.exp(2 * rng.normal(size=(400, 1)) + 0.3 * rng.normal(size=(400, 3)))
    X[:, 1] = np.maximum(X[:, 1] - 0.05, 0)
    X[:, 2] -= np.median(X[:, 2])
    model = clone(MODELS["CoupledVAE"]).fit(X)
    samples = model.sample(4000, random_state=0)
    for column in (0, 2):
        assert len(np.unique(samples[:, column])) > 3990
    assert (samples[:, :2] >= 0).all()
    assert samples.max() > X.max() / 10


# The likelihood.


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("marginals", ["identity", "power"])
def test_the_density_integrates_to_one(covariance, marginals):
    """By samples of a wide distribution, whose density is known."""
    rng = np.random.default_rng(0)
    X = np.column_stack([np.exp(rng.normal(size=400)), rng.normal(size=400)])
    X[:, 1] += X[:, 0]
    likelihood = GaussianLikelihood(covariance=covariance, marginals=marginals)
    model = CoupledVAE(1, likelihood=likelihood, schedule=Schedule(polish_rounds=1, max_draws=2048), **QUICK).fit(X)
    first, second = stats.t(2, scale=2), stats.t(3, scale=2)
    draws = np.column_stack([first.rvs(60_000, random_state=1), second.rvs(60_000, random_state=2)])
    log_density = first.logpdf(draws[:, 0]) + second.logpdf(draws[:, 1])
    draws[:, 1] += draws[:, 0]
    ratio = model.score_samples(draws, n_draws=0) - log_density
    mass = np.exp(logsumexp(ratio) - np.log(len(ratio)))
    error = np.exp(ratio).std() / np.sqrt(len(ratio))
    assert abs(mass - 1) < 4 * error + 0.02
    assert error < 0.02


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_in_the_units_of_the_data(X, name):
    model = clone(MODELS[name]).fit(X)
    for found in (model.sample(400, random_state=0), model.reconstruct(X), model.inverse_transform(model.transform(X))):
        assert np.isfinite(found).all()
        ratio = np.quantile(found[:, 0], 0.5) / np.quantile(X[:, 0], 0.5)
        assert 0.5 < ratio < 2
    samples = model.sample(2000, random_state=0)
    assert (samples[:, 0] >= 0).all()
    spread, expected = (np.quantile(rows, 0.75, axis=0) - np.quantile(rows, 0.25, axis=0) for rows in (samples, X))
    assert (spread[[0, 1, 3, 4]] / expected[[0, 1, 3, 4]] < 1.5).all()
    assert (spread[[0, 1, 3, 4]] / expected[[0, 1, 3, 4]] > 1 / 1.5).all()


@pytest.mark.parametrize("marginals", ["identity", "power"])
def test_positive_scales_and_permutations_of_columns_say_nothing(X, marginals):
    """The score is shifted by the log-determinant."""
    likelihood = GaussianLikelihood(covariance="full", marginals=marginals)
    scales, order = np.array([1e-4, 3.0, 100.0, 0.5, 2.0]), np.array([3, 0, 4, 1, 2])
    model = clone(MODELS["CoupledVAE"]).set_params(likelihood=likelihood)
    plain, scaled = clone(model).fit(X), clone(model).fit(X * scales)
    np.testing.assert_allclose(scaled.score_samples(X * scales) + np.log(scales).sum(), plain.score_samples(X), atol=0.05)
    permuted = clone(model).fit(X[:, order])
    assert permuted.score(X[:, order]) == pytest.approx(plain.score(X), abs=0.1)


def test_shifts_say_nothing(X):
    likelihood = GaussianLikelihood(covariance="full")
    model = clone(MODELS["CoupledVAE"]).set_params(likelihood=likelihood)
    shift = np.array([1e4, -3.0, 5.0, 1.0, 0.0])
    plain, shifted = clone(model).fit(X), clone(model).fit(X + shift)
    np.testing.assert_allclose(shifted.score_samples(X + shift), plain.score_samples(X), atol=0.05)


@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes])
def test_it_is_not_worse_than_one_gaussian(load):
    """Half of the rows held out; one Gaussian with a shrunk covariance, of transformed columns on breast cancer."""
    data = StandardScaler().fit_transform(load().data)
    fitted, held_out = data[::2], data[1::2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CoupledVAE(likelihood="table", max_iter=500, random_state=0).fit(fitted)
    power = PowerTransformer().fit(fitted) if load is load_breast_cancer else StandardScaler().fit(fitted)
    gaussian = LedoitWolf().fit(power.transform(fitted))
    scores = stats.multivariate_normal(gaussian.location_, gaussian.covariance_).logpdf(power.transform(held_out))
    if load is load_breast_cancer:
        slopes = np.sign(held_out) * (power.lambdas_ - 1) * np.log1p(np.abs(held_out)) - np.log(power._scaler.scale_)
        scores = scores + slopes.sum(1)
    assert model.score(held_out) > scores.mean() - 0.1


@pytest.mark.parametrize("name", MODELS)
def test_validation_scores_are_in_the_units_of_the_data(X, name):
    """Also where the Jacobian of the rows held out is another than that of the fitted ones."""
    model = clone(MODELS[name]).set_params(max_iter=60)
    rows = X[np.argsort(X[:, 0])]
    first, second = (clone(model).fit(rows[:200], X_val=held).validation_scores_[-1] for held in (rows[:200:2], rows[200:]))
    assert first - second > 1


def test_validation_scores_of_a_coupled_fit_are_its_scores(X):
    model = clone(MODELS["CoupledVAE"]).fit(X[:200], X_val=X[200:])
    assert max(model.validation_scores_) == pytest.approx(model.score(X[200:]), abs=0.3)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_answers_alike(X, name, tmp_path):
    model = clone(MODELS[name]).fit(X)
    model.save(tmp_path / "model.skcvae")
    loaded = skcvae.load(tmp_path / "model.skcvae")
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(loaded.sample(5, random_state=0), model.sample(5, random_state=0))


def test_a_damaged_map_is_refused(X):
    found = mapped(X)
    for change in (
        {"powers": found.powers[:2]},
        {"spread": 0 * found.spread},
        {"centre": np.full(5, np.nan)},
        {"factor": found.factor[:2]},
        {"factor": -found.factor},
        {"mean_log_slope": np.inf},
    ):
        with pytest.raises(ValueError, match="map of rows"):
            dataclasses.replace(found, **change).check(5)
    found.check(5)


@pytest.mark.parametrize("name", MODELS)
def test_weights_reach_the_map(X, name):
    counts = np.random.default_rng(3).integers(0, 3, 300)
    ours = clone(MODELS[name]).fit(X, sample_weight=counts).likelihood_.row_map
    theirs = clone(MODELS[name]).fit(X.repeat(counts, axis=0)).likelihood_.row_map
    np.testing.assert_allclose(ours.factor, theirs.factor, rtol=5e-3, atol=2e-3 * np.abs(theirs.factor).max())


def test_a_warm_fit_keeps_the_map(X):
    model = clone(MODELS["CoupledVAE"]).set_params(warm_start=True).fit(X)
    before = model.likelihood_.row_map
    np.testing.assert_array_equal(model.fit(2 * X).likelihood_.row_map.factor, before.factor)


def test_rows_of_few_cells_are_not_whitened():
    """Their noise is the rounding of the columns."""
    X = np.random.default_rng(0).integers(0, 2, (500, 4)).astype(float)
    with pytest.warns(UserWarning, match="16 different rows among 500"):
        family = GaussianLikelihood(covariance="full", marginals="power").bind(X)
    assert family.row_map.factor is None
    assert float(family.scale[0]) * family.unit == pytest.approx(1 / np.sqrt(12))
    with pytest.warns(UserWarning, match="16 different rows among 500"):
        assert GaussianLikelihood(covariance="full").bind(X).row_map is None


def test_few_rows_of_many_columns():
    X = np.random.default_rng(0).gamma(1.0, size=(12, 40))
    model = clone(MODELS["CoupledVAE"]).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert (model.sample(100, random_state=0) > -1e3).all()


def test_wide_rows_at_a_real_size():
    X = np.random.default_rng(0).gamma(1.0, size=(60, 784)).astype(np.float32)
    model = WAE(64, likelihood="table", max_iter=3, hidden_layer_sizes=(16,), pool_size=256, random_state=0).fit(X)
    assert np.isfinite(model.score_samples(X[:3])).all()
    assert model.score_samples(X[:3]).dtype == np.float32
    assert np.isfinite(model.sample(3, random_state=0)).all()


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (GaussianLikelihood(covariance="tied"), "covariance must be one of 'diagonal', 'full', 'residual', got 'tied'"),
        (GaussianLikelihood(marginals="log"), "marginals must be one of 'identity', 'power', got 'log'"),
        (GaussianLikelihood(0.3, covariance="full"), "scale must be a name where rows are whitened or transformed, got 0.3"),
    ],
)
def test_parameters_that_are_none_are_refused(X, likelihood, message):
    with pytest.raises(ValueError, match=message):
        likelihood.bind(X)


@pytest.mark.parametrize("scale", ["auto", "per_feature", "learned", "learned_per_feature", "network"])
def test_every_noise_that_is_a_function_of_the_rows_goes_with_the_map(X, scale):
    likelihood = GaussianLikelihood(scale, covariance="full", marginals="power")
    model = clone(MODELS["CoupledVAE"]).set_params(likelihood=likelihood, max_iter=30).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert (model.sample(200, random_state=0)[:, 0] >= 0).all()


def test_a_device_answers_alike(second_device, X):
    found, expected = (clone(MODELS["CoupledVAE"]).set_params(device=d, max_iter=10).fit(X) for d in ("cuda", "cpu"))
    np.testing.assert_allclose(found.score_samples(X[:20]), expected.score_samples(X[:20]), rtol=1e-2, atol=2e-2)
    assert torch.zeros(1).device.type == "cpu"
