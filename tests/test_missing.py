"""Missing cells: densities, draws and means of what is observed and what is not, and fits to rows with holes."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from skcvae import VAE, WAE, CoupledVAE, Imputer, InfoVAE, load
from skcvae import _missing as missing
from skcvae._place import HOST
from skcvae.likelihoods import Background, BernoulliLikelihood, GaussianLikelihood, MappedGaussian, RowMap, gaussian_parts
from skcvae.networks import Given as GivenNetwork
from skcvae.posteriors import patterns
from skcvae.schedule import Schedule

SHORT = Schedule(polish_rounds=0, max_draws=4096)
QUICK = {"max_iter": 30, "hidden_layer_sizes": (8,), "random_state": 0, "likelihood": "gaussian"}
ESTIMATORS = [CoupledVAE, VAE, WAE, InfoVAE]
LINEAR = GivenNetwork(None, lambda n_inputs, n_outputs: nn.Linear(n_inputs, n_outputs), linear=False)


def with_holes(X, share=0.3, seed=0):
    """X with NaN in some cells, but in no row everywhere."""
    holes = np.random.default_rng(seed).random(X.shape) < share
    holes[holes.all(1), 0] = False
    return np.where(holes, np.nan, X)


def quick(kind, **params):
    extra = {"schedule": SHORT} if kind is CoupledVAE else {}
    return kind(**{**QUICK, **extra, **params})


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(300, 5)) + np.arange(5)


@pytest.fixture(scope="module")
def linear(X):
    """A linear model, and mean and covariance of the Gaussian that its rows have."""
    model = CoupledVAE(2, network=LINEAR, schedule=SHORT, max_iter=100, likelihood="gaussian", random_state=0).fit(X)
    placed = model._fitted.at(HOST)
    family = placed.partial.family
    with torch.no_grad():
        bias = placed.decoder(torch.zeros(1, 2, dtype=torch.float64))[0].numpy()
        weight = (placed.decoder(torch.eye(2, dtype=torch.float64)).numpy() - bias).T
    covariance = family.unit**2 * (weight @ weight.T + float(family.scale) ** 2 * np.eye(5))
    return model, family.offset + family.unit * bias, covariance


def conditional(row, mean, covariance):
    """Mean and covariance of the missing cells of a row given the others."""
    there = ~np.isnan(row)
    gain = np.linalg.solve(covariance[np.ix_(there, there)], covariance[np.ix_(there, ~there)]).T
    rest = covariance[np.ix_(~there, ~there)] - gain @ covariance[np.ix_(there, ~there)]
    return mean[~there] + gain @ (row[there] - mean[there]), rest


def test_scores_of_partial_rows_are_the_marginal_density(X, linear):
    model, mean, covariance = linear
    rows = with_holes(X)
    score, error = model.score_samples(rows, return_std=True)
    truth = []
    for row in rows:
        there = ~np.isnan(row)
        truth.append(multivariate_normal(mean[there], covariance[np.ix_(there, there)]).logpdf(row[there]))
    np.testing.assert_allclose(score, truth, atol=0.02)
    assert (np.abs(score - truth) < 2 * error + 1e-9).all()


def test_means_and_draws_are_the_conditional_gaussian(X, linear):
    model, mean, covariance = linear
    rows, n_draws = with_holes(X)[:150], 400
    means, draws = model.impute(rows), model.sample_conditional(rows, n_draws, random_state=0)
    off, standard, ratio = [], [], []
    for row, filled, drawn in zip(rows, means, draws, strict=True):
        there = ~np.isnan(row)
        np.testing.assert_array_equal(filled[there], row[there])
        np.testing.assert_array_equal(drawn[:, there], np.tile(row[there], (n_draws, 1)))
        if there.all():
            continue
        exact, spread = conditional(row, mean, covariance)
        deviation = np.sqrt(np.diag(spread))
        off += list((filled[~there] - exact) / deviation)
        standard += list((drawn[:, ~there].mean(0) - exact) / deviation * np.sqrt(n_draws))
        ratio += list(drawn[:, ~there].var(0) / deviation**2)
    assert np.sqrt(np.mean(np.square(off))) < 0.15
    assert 0.85 < np.sqrt(np.mean(np.square(standard))) < 1.15
    assert abs(np.mean(ratio) - 1) < 0.03


def test_draws_of_one_row_have_its_correlations(linear):
    model, mean, covariance = linear
    row = np.array([[mean[0] + 1, np.nan, np.nan, mean[3] - 1, np.nan]])
    drawn = model.sample_conditional(row, 20000, random_state=0)[0]
    exact, spread = conditional(row[0], mean, covariance)
    np.testing.assert_allclose(drawn[:, np.isnan(row[0])].mean(0), exact, atol=4 * np.sqrt(spread.max() / 2000))
    np.testing.assert_allclose(np.cov(drawn[:, np.isnan(row[0])].T), spread, atol=0.05 * spread.max())


def test_transform_of_a_partial_row_is_the_mean_over_its_completions(X, linear):
    """The posterior's mean is linear in a whole row here, so that it is that of the row with its means."""
    model, _, _ = linear
    rows = with_holes(X)[:100]
    np.testing.assert_allclose(model.transform(rows), model.transform(model.impute(rows)), atol=0.5)
    difference = model.transform(rows) - model.transform(model.impute(rows))
    assert np.abs(difference.mean(0)).max() < 0.05
    whole = ~np.isnan(rows).any(1)
    np.testing.assert_allclose(model.transform(rows)[whole], model.transform(rows[whole]), atol=1e-9)
    drawn = model.sample_posterior(rows, 200, random_state=0)
    np.testing.assert_allclose(drawn.mean(1), model.transform(rows), atol=0.6)
    assert model.reconstruct(rows).shape == rows.shape


def test_the_chain_rule_holds_on_one_set_of_draws(X, linear):
    model, _, _ = linear
    given = X.copy()
    given[:, [1, 3]] = np.nan
    whole, part = model.score_samples(X, n_draws=0), model.score_samples(given, n_draws=0)
    both = model.score_conditional(X, [1, 3], n_draws=0)
    np.testing.assert_allclose(both, whole - part, atol=1e-4)  # the pool's keys are in single precision
    given[:, 3] = X[:, 3]
    first, second = model.score_conditional(X, 1, n_draws=0), model.score_conditional(given, 3, n_draws=0)
    np.testing.assert_allclose(both, first + second, atol=1e-8)
    is_target = np.isin(np.arange(5), [1, 3])
    for target in (is_target, [1, -2]):
        np.testing.assert_array_equal(model.score_conditional(X, target), model.score_conditional(X, [1, 3]))


def test_conditional_scores_are_within_their_errors(X, linear):
    model, mean, covariance = linear
    score, error = model.score_conditional(X, 2, return_std=True)
    truth = []
    for row in X:
        partial = np.where(np.arange(5) == 2, np.nan, row)
        exact, spread = conditional(partial, mean, covariance)
        truth.append(multivariate_normal(exact, spread).logpdf(row[2]))
    assert (np.abs(score - truth) < 2 * error + 1e-9).mean() > 0.95
    np.testing.assert_allclose(score, truth, atol=0.05)


def test_conditions_on_nothing_and_on_everything(X, linear):
    model, mean, covariance = linear
    nothing = np.full((1, 5), np.nan)
    drawn = model.sample_conditional(nothing, 20000, random_state=0)[0]
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.06 * covariance.max())
    np.testing.assert_allclose(model.impute(nothing)[0], mean, atol=0.15)
    assert model.score_samples(nothing) == 0
    assert np.abs(model.transform(nothing)).max() < 0.6
    np.testing.assert_array_equal(model.sample_conditional(X[:3], 2)[:, 1], X[:3])
    np.testing.assert_array_equal(model.impute(X[:3]), X[:3])


@pytest.fixture(scope="module")
def clusters():
    """Three of the four corners of a square, and a model of them."""
    corners, rng = np.array([[-3.0, -3.0], [3.0, 3.0], [-3.0, 3.0]]), np.random.default_rng(0)
    X = corners[rng.integers(3, size=600)] + 0.3 * rng.normal(size=(600, 2))
    return X, corners, CoupledVAE(2, schedule=Schedule(polish_rounds=5), random_state=0).fit(X)


def near(rows, corners):
    """Share of rows within four deviations of a corner."""
    return np.mean(np.linalg.norm(rows[:, None] - corners, axis=2).min(1) < 1.2)


def test_draws_given_one_column_fall_into_clusters(clusters):
    """The prior's potential, which linear models cannot tell from a constant, would draw between them."""
    _, corners, model = clusters
    rows = np.array([[3.0, np.nan], [-3.0, np.nan], [np.nan, 3.0], [np.nan, -3.0]])
    drawn = model.sample_conditional(rows, 500, random_state=0)
    assert all(near(part, corners) > 0.95 for part in drawn)
    assert (drawn[0, :, 1] > 0).mean() > 0.98
    assert abs((drawn[1, :, 1] > 0).mean() - 0.5) < 0.1
    assert abs((drawn[2, :, 0] > 0).mean() - 0.5) < 0.1
    assert near(model.sample_conditional(np.full((1, 2), np.nan), 2000, random_state=0)[0], corners) > 0.95


def test_a_fit_to_clusters_with_holes_is_near_that_without(clusters):
    X, corners, whole = clusters
    model = CoupledVAE(2, schedule=Schedule(polish_rounds=5), random_state=0).fit(with_holes(X, 0.1))
    assert near(model.sample(2000, random_state=0), corners) > 0.95
    assert model.score(X) > whole.score(X) - 0.15


def families():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 5)) + rng.normal(size=(200, 5))
    skewed = np.exp(0.3 * mixed)
    return {
        "one scale": GaussianLikelihood().bind(mixed),
        "each its own": GaussianLikelihood("per_feature").bind(mixed * np.arange(1, 6)),
        "covariance": GaussianLikelihood(covariance="full").bind(mixed),
        "table": GaussianLikelihood(covariance="full", marginals="power").bind(skewed),
        "powers": GaussianLikelihood(marginals="power").bind(skewed),
        "learned": GaussianLikelihood("learned", covariance="full").bind(mixed),
        "network": GaussianLikelihood("network", marginals="power").bind(skewed),
        "bernoulli": BernoulliLikelihood().bind((mixed > 0).astype(float)),
    }


@pytest.mark.parametrize("kind", list(families()))
def test_marginal_and_conditional_make_the_joint_density(kind):
    """At one z: log p(x) = log p(x_o) + log p(x_m given x_o), the latter by moments of draws of Gaussian columns, or its mean."""
    family, rng = families()[kind].double().requires_grad_(False), np.random.default_rng(1)
    observed = np.array([True, False, True, True, False])
    output = torch.as_tensor(0.3 * rng.normal(size=(1, family.n_outputs)))
    rows = family.restore(family.noise(output.repeat(4, 1), rng).numpy())
    part = family.given(observed)
    own = part.selected(output)
    x, x_o = (torch.as_tensor(f.standardise(r)) for f, r in ((family, rows), (part.family, rows[:, observed])))
    joint = -family.cost(x, output)[:, 0].detach().numpy() - family.log_volumes(rows)
    marginal = -part.family.cost(x_o, own)[:, 0].detach().numpy() - part.family.log_volumes(rows[:, observed])
    if kind == "bernoulli":
        mean = part.expected(output.repeat(4, 1), rows)
        log_conditional = np.log(np.where(rows[:, ~observed] > 0.5, mean, 1 - mean)).sum(1)
    else:
        repeated, n_draws = np.repeat(rows, 40000, 0), 40000
        drawn = part.drawn(output.repeat(len(repeated), 1), repeated, np.random.default_rng(2)).reshape(4, n_draws, 2)
        row_map = part.row_map or RowMap.identity(2)
        y = row_map.columns(drawn.reshape(-1, 2)).reshape(4, n_draws, 2)
        log_conditional = np.array(
            [
                multivariate_normal(cells.mean(0), np.cov(cells.T)).logpdf(row_map.columns(row[None, ~observed])[0])
                + row_map.log_slope(row[None, ~observed])[0]
                for cells, row in zip(y, rows, strict=True)
            ]
        )
        means = part.expected(output.repeat(4, 1), rows)
        np.testing.assert_allclose(means, drawn.mean(1), atol=5 * drawn.std(1).max() / np.sqrt(n_draws))
    np.testing.assert_allclose(joint - marginal, log_conditional, atol=0.06)


def test_a_scale_of_the_network_in_whitened_rows_is_refused():
    rng = np.random.default_rng(0)
    family = GaussianLikelihood("network", covariance="full").bind(rng.normal(size=(50, 3)))
    with pytest.raises(ValueError, match="covariance='diagonal'"):
        family.given(np.array([True, False, True]))


def test_broad_noise_given_some_columns():
    """The density of all columns is that of some times that of the others given these."""
    rng = np.random.default_rng(0)
    found = Background.of(rng.standard_t(3, size=(500, 4)) @ rng.normal(size=(4, 4)), None, np.full(4, 1e-3))
    observed, y = np.array([True, False, False, True]), rng.normal(size=(6, 4))
    location, width, factor, degrees = found.given(observed, y[:, observed])
    given = [
        multivariate_t(loc, wide**2 * factor @ factor.T, df=degrees).logpdf(row[~observed])
        for loc, wide, row in zip(location, width, y, strict=True)
    ]
    np.testing.assert_allclose(found.marginal(observed).log_density(y[:, observed]) + given, found.log_density(y), atol=1e-9)
    joint = [multivariate_t(found.location, found.scatter, df=found.degrees).logpdf(row) for row in y]
    np.testing.assert_allclose(found.log_density(y), joint, atol=1e-9)


def test_a_share_of_the_draws_is_broad_noise():
    """Half of the rows are it here, so that half of the draws are where the observed cell says nothing of which."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    row_map = RowMap.of(X, None, marginals=False, covariance=True).whitening(np.eye(4))
    broad = Background(np.full(4, 100.0), np.diag([1e6, 1.0, 1.0, 1.0]), 3.0, 0.5)
    likelihood = MappedGaussian(row_map, broad)
    model = CoupledVAE(1, schedule=SHORT, max_iter=20, likelihood=likelihood, random_state=0).fit(X)
    row = np.array([[np.nan, np.nan, 0.0, 0.0]])
    drawn = model.sample_conditional(row, 1000, random_state=0)[0]
    assert (np.abs(drawn[:, 1]) < 10).all()  # where columns 2 and 3 are near zero the model explains the row
    far = model.sample_conditional([[np.nan, np.nan, 100.0, 100.0]], 1000, random_state=0)[0]
    assert abs(np.median(far[:, 1]) - 100) < 1
    np.testing.assert_allclose(model.impute([[np.nan, np.nan, 100.0, 100.0]])[0, 1], 100, atol=1)
    both = model.score_samples(np.array([[0.0, 100.0, 100.0, 100.0]]))
    part = model.score_samples(np.array([[np.nan, 100.0, 100.0, 100.0]]))
    assert np.isfinite([both, part]).all()
    assert both < part - 10


@pytest.mark.parametrize("wrong", [-60.0, 60.0])
def test_a_typing_error_moves_no_mean_out_of_the_data(wrong):
    """A regression on cells that contradict each other would."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 1))
    X = np.hstack([z, z, -z, z]) + 0.05 * rng.normal(size=(300, 4))
    model = CoupledVAE(1, schedule=SHORT, max_iter=60, likelihood="table", random_state=0).fit(X)
    assert "broad noise" in model.noise_
    found = model.impute([[np.nan, wrong, -0.5, 0.5]])[0]
    assert abs(found[0]) < 1.2 * np.abs(X[:, 0]).max()
    np.testing.assert_array_equal(found[1:], [wrong, -0.5, 0.5])


def test_bernoulli_means_are_those_of_the_pool():
    rng = np.random.default_rng(0)
    X = (rng.random((200, 6)) < 0.5).astype(float)
    X[:, 1] = X[:, 0]
    model = CoupledVAE(1, **{**QUICK, "likelihood": "bernoulli"}, schedule=SHORT, proposal="prior").fit(X)
    rows = with_holes(X)[:20]
    placed = model._fitted.at(HOST)
    with torch.no_grad():
        p = placed.partial.output.sigmoid().numpy()
    for row, filled in zip(rows, model.impute(rows), strict=True):
        there = ~np.isnan(row)
        weights = np.where(row[there] > 0.5, p[:, there], 1 - p[:, there]).prod(1)
        exact = weights @ p[:, ~there] / weights.sum()
        np.testing.assert_allclose(filled[~there], exact, atol=0.06)
        weights /= len(p)
        np.testing.assert_allclose(model.score_samples(row[None]), np.log(weights.sum()), atol=1e-6)
    assert set(np.unique(model.sample_conditional(rows, 3))) <= {0.0, 1.0}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_all_models_fit_rows_with_holes(kind, X):
    rows = with_holes(X)
    model = quick(kind).fit(rows)
    again = quick(kind).fit(rows)
    assert np.isfinite(model.transform(rows)).all()
    np.testing.assert_array_equal(model.impute(rows), again.impute(rows))
    assert np.isfinite(model.score_samples(rows)).all()
    assert model.sample_posterior(rows, 2).shape == (300, 2, 2)
    np.testing.assert_array_equal(np.isnan(rows), np.isnan(with_holes(X)))
    kept = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(model.impute(rows), kept.impute(rows))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_whole_rows_are_answered_as_if_alone(kind, X):
    model, rows = quick(kind).fit(X), with_holes(X)[:40]
    whole = ~np.isnan(rows).any(1)
    for answer in (model.transform, model.reconstruct, model.score_samples):
        np.testing.assert_allclose(answer(rows)[whole], answer(rows[whole]), rtol=1e-6, atol=1e-9)


def test_what_counts_as_missing(X):
    rows = with_holes(X)
    model = quick(CoupledVAE).fit(rows)
    expected = model.impute(rows)
    frame = pd.DataFrame(rows, columns=list("abcde"))
    as_objects = frame.astype(object).where(frame.notna(), None)
    nullable = frame.astype("Float64")
    masked = np.ma.masked_invalid(rows)
    for given in (as_objects.to_numpy(), nullable.to_numpy(dtype=object, na_value=pd.NA), masked):
        np.testing.assert_array_equal(model.impute(given), expected)
    named = quick(CoupledVAE).fit(as_objects)
    for given in (frame, as_objects, nullable):
        np.testing.assert_array_equal(named.impute(given), expected)
    np.testing.assert_allclose(
        named.score_conditional(pd.DataFrame(X, columns=list("abcde")), "b"), model.score_conditional(X, 1), rtol=1e-9
    )


def test_rows_without_cells_are_left_out_of_a_fit(X):
    rows = with_holes(X)
    with pytest.warns(UserWarning, match="2 of 302 rows have no observed cell"):
        model = quick(CoupledVAE).fit(np.vstack([rows, np.full((2, 5), np.nan)]))
    np.testing.assert_array_equal(model.impute(rows), quick(CoupledVAE).fit(rows).impute(rows))


def test_weights_count_rows_with_holes(X):
    rows = with_holes(X)
    weights = np.where(np.arange(300) < 150, 2.0, 0.0)
    model = quick(CoupledVAE).fit(rows, sample_weight=weights)
    np.testing.assert_allclose(model.likelihood_.offset, np.nanmean(rows[:150], axis=0), atol=0.4)


def test_a_warm_fit_and_parts_go_on_with_draws_of_the_last(X):
    rows = with_holes(X)
    model = quick(CoupledVAE, warm_start=True).fit(X)
    partial = model._fitted.at(HOST).partial
    drawn = []
    kept = type(partial).completed

    def seen(self, *args):
        drawn.append(self is partial)
        return kept(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(partial), "completed", seen)
        model.fit(rows)
    assert drawn == [True]
    stream = quick(VAE).partial_fit(rows[:150]).partial_fit(rows[150:])
    assert np.isfinite(stream.impute(rows)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_table_with_holes_has_the_noise_of_a_table():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(150, 1))
    X = np.hstack([z, np.exp(z), -z, rng.normal(size=(150, 1))]) + 0.1 * rng.normal(size=(150, 4))
    model = CoupledVAE(1, hidden_layer_sizes=(16,), schedule=Schedule(polish_rounds=1), max_iter=200, random_state=0)
    model.fit(with_holes(X, 0.15))
    assert "decoder has not seen" in model.noise_
    holes = np.where(np.arange(4) == 1, np.nan, X)
    off = model.impute(holes)[:, 1] - X[:, 1]
    assert np.sqrt(np.mean(np.square(off))) < 0.4 * X[:, 1].std()
    drawn = model.sample_conditional(holes, 200, random_state=0)[:, :, 1]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=1)
    assert 0.75 < ((X[:, 1] >= low) & (X[:, 1] <= high)).mean() <= 1


def test_the_copula_keeps_marginals_and_correlations():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 1))
    X = np.hstack([np.exp(z), z + 0.3 * rng.normal(size=(4000, 1)), rng.integers(3, size=(4000, 1)).astype(float)])
    rows = with_holes(X, 0.3)
    filled = missing._by_copula(rows, np.random.default_rng(1))
    is_there = ~np.isnan(rows)
    np.testing.assert_array_equal(filled[is_there], rows[is_there])
    assert set(np.unique(filled[:, 2])) == {0.0, 1.0, 2.0}
    assert filled[:, 0].min() >= np.nanmin(rows[:, 0])
    ranks = pd.DataFrame(filled).corr("spearman")[0][1]
    assert abs(ranks - pd.DataFrame(X).corr("spearman")[0][1]) < 0.02
    np.testing.assert_allclose(np.quantile(filled[:, 0], [0.1, 0.5, 0.9]), np.quantile(X[:, 0], [0.1, 0.5, 0.9]), rtol=0.1)


def test_rounds_of_draws_find_what_the_copula_does_not_know():
    """y = z^2 has no correlation with z: the copula fills in what is independent of it, and the model knows better."""
    rng = np.random.default_rng(0)
    z = rng.uniform(-2, 2, size=(600, 1))
    X = np.hstack([z, z**2]) + 0.05 * rng.normal(size=(600, 2))
    rows = with_holes(X, 0.2)
    model = CoupledVAE(1, schedule=Schedule(polish_rounds=3), random_state=0)
    seen = []

    def fit(table, seed):
        seen.append(table.X)
        return CoupledVAE(1, schedule=Schedule(polish_rounds=3), random_state=seed).fit(table.X)._fitted

    model.fit(X)
    filled = missing.completed(missing.Table(rows), fit, np.random.default_rng(0)).X
    hidden = np.isnan(rows[:, 1]) & ~np.isnan(rows[:, 0])
    error = [np.mean(np.square(part[hidden, 1] - X[hidden, 1])) for part in (seen[0], filled)]
    assert error[1] < 0.3 * error[0]


def test_patterns_have_every_row_once(X):
    rows = with_holes(X)
    found = patterns(rows)
    assert sorted(np.concatenate([places for _, places in found])) == list(range(300))
    assert all((np.isnan(rows[places]) == ~observed).all() for observed, places in found)


def test_parts_of_a_covariance():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    covariance, observed = root @ root.T, np.array([True, False, True, False, True])
    factor, gain, rest = gaussian_parts(covariance, observed)
    np.testing.assert_allclose(factor @ factor.T, covariance[np.ix_(observed, observed)])
    exact, spread = conditional(np.where(observed, 1.0, np.nan), np.zeros(5), covariance)
    np.testing.assert_allclose(gain @ np.ones(3), exact)
    np.testing.assert_allclose(rest @ rest.T, spread)


def test_the_imputer_stands_in_a_pipeline(X):
    rows, y = with_holes(X), X.sum(1)
    imputer = Imputer(quick(CoupledVAE))
    pipeline = make_pipeline(imputer, LinearRegression()).fit(rows, y)
    assert pipeline.score(rows, y) > 0.5
    frame = pd.DataFrame(rows, columns=list("abcde"))
    filled = Imputer(quick(CoupledVAE)).set_output(transform="pandas").fit_transform(frame)
    assert list(filled.columns) == list("abcde")
    np.testing.assert_array_equal(filled, quick(CoupledVAE).fit(rows).impute(rows))
    assert Imputer(quick(VAE)).__sklearn_tags__().input_tags.allow_nan


def test_a_saved_model_imputes_the_same(X, tmp_path):
    rows = with_holes(X)
    model = quick(CoupledVAE).fit(rows)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").impute(rows), model.impute(rows))


@pytest.mark.parametrize("d", [64, 784])
def test_real_sizes(d):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 8)) @ rng.normal(size=(8, d)) + 0.3 * rng.normal(size=(80, d))
    model = CoupledVAE(64 if d == 64 else 8, **QUICK, schedule=SHORT, pool_size=512).fit(X)
    rows = with_holes(X[:6], 0.5)
    assert np.isfinite(model.impute(rows)).all()
    assert np.isfinite(model.score_samples(rows)).all()
    assert np.isfinite(model.sample_conditional(rows, 2, random_state=0)).all()


def test_the_state_of_generators_is_left(X):
    rows, model = with_holes(X), quick(CoupledVAE)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    model.fit(rows).impute(rows)
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_the_most_probable_atom_of_a_partial_row():
    """Of two atoms that the observed column tells apart; where nothing is observed, the more frequent one."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(-3, 0.3, size=(70, 3)), rng.normal(3, 0.3, size=(30, 3))])
    atoms = (np.array([[-1.0], [1.0]]), np.array([0.7, 0.3]))
    model = CoupledVAE(prior=atoms, likelihood="gaussian", max_iter=100, random_state=0).fit(X)
    low, high = model.predict(X[:1])[0], model.predict(X[-1:])[0]
    assert low != high
    rows = np.array([[-3, np.nan, np.nan], [np.nan, 3, np.nan], [np.nan, np.nan, np.nan], [3, 3, 3]], float)
    np.testing.assert_array_equal(model.predict(rows), [low, high, low, high])
    np.testing.assert_array_equal(model.predict(rows[3:]), [high])


def test_small_parts_are_drawn_and_not_snapped(X):
    """Of one observed cell nobody knows whether a column takes few values; and every part has noise of its own."""
    model = quick(VAE).partial_fit(X)
    part = X[:20].copy()
    part[1:, 0] = np.nan
    table, record = missing.Table(part), model._fitted
    filled = missing.redrawn(table, record, np.random.default_rng(0)).X
    assert len(np.unique(filled[:, 0])) == 20
    first = model._completed(table, True).X
    second = model.partial_fit(X)._completed(table, True).X
    assert np.abs(np.corrcoef(first[1:, 0] - filled[1:, 0], second[1:, 0] - filled[1:, 0])[0, 1]) < 0.99
    without = np.where(np.arange(5) == 2, np.nan, X[:30])
    assert np.isfinite(model.partial_fit(without).transform(X[:3])).all()


def test_other_columns_than_the_last_fit_had(X):
    model = quick(CoupledVAE, warm_start=True).fit(X)
    with pytest.raises(ValueError, match="X has 3 features, and had 5"):
        model.fit(with_holes(X)[:, :3])


def test_more_draws_than_fit_into_a_block_of_one_row(X, monkeypatch):
    model = quick(CoupledVAE).fit(X)
    monkeypatch.setattr("skcvae._memory.NUMBERS_AT_ONCE", 100)
    assert model.sample_posterior([[np.nan, 1.0, 1.0, 1.0, 1.0]], 50).shape == (1, 50, 2)


def test_no_warning_of_names(X, recwarn):
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = quick(CoupledVAE).fit(frame)
    recwarn.clear()
    model.score_conditional(frame[:5], "a")
    assert not any("feature names" in str(warning.message) for warning in recwarn)


def test_the_copula_makes_no_dependence_of_rare_values():
    rng = np.random.default_rng(0)
    X = (rng.random((4000, 3)) < 0.1).astype(float)
    rows = np.where((rng.random(4000) < 0.3)[:, None] & (np.arange(3) == 0), np.nan, X)
    filled = missing._by_copula(rows, np.random.default_rng(1))[np.isnan(rows[:, 0])]
    given_one, given_none = filled[filled[:, 1] == 1, 0].mean(), filled[filled[:, 1] == 0, 0].mean()
    assert abs(given_one - given_none) < 0.1
