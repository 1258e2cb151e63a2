"""Tables with columns of several kinds: likelihoods of categories and counts, their product, and frames in and out."""

import itertools
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import stats
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from skcvae import VAE, WAE, CoupledVAE, Imputer, InfoVAE, load
from skcvae._columns import Columns
from skcvae._crossfit import _residuals
from skcvae._data import Table
from skcvae._place import HOST
from skcvae.likelihoods import (
    AutoLikelihood,
    Background,
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    MixedLikelihood,
    PoissonLikelihood,
    RowMap,
)
from skcvae.schedule import Schedule

SHORT = Schedule(polish_rounds=0, max_draws=2048)
QUICK = {"max_iter": 40, "hidden_layer_sizes": (16,), "pool_size": 1024, "random_state": 0}
NUMBERS = GaussianLikelihood(covariance="full", marginals="power")
MIXED = MixedLikelihood((CategoricalLikelihood(), NUMBERS, PoissonLikelihood()), ((0, 3), (1, 4, 5), (2,)))


def quick(kind=CoupledVAE, **params):
    extra = {"schedule": SHORT} if kind is CoupledVAE else {"likelihood": "auto"}
    return kind(**{**QUICK, **extra, **params})


def table(n=200, seed=0):
    """Rows of codes, numbers and counts: 3 categories, a number, a count, 2 categories, and two numbers."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    numbers = rng.normal(size=(n, 3)) @ np.array([[1.0, 0.5, 0], [0, 1, 0.3], [0, 0, 1]]) + group[:, None] * [2.0, -1.0, 0.0]
    numbers[:, 2] = np.exp(0.5 * numbers[:, 2])
    return np.column_stack([group, numbers[:, 0], rng.poisson(1 + 3 * group), rng.random(n) < 0.2 + 0.3 * group, numbers[:, 1:]])


def frame(n=200, seed=0):
    """The same with names, types and holes, money that is often 0, and dates."""
    rng, X = np.random.default_rng(seed + 1), table(n, seed)
    found = pd.DataFrame(
        {
            "species": pd.Categorical.from_codes(X[:, 0].astype(int), ["wolf", "fox", "jackal"]),
            "length": X[:, 1],
            "pups": X[:, 2].astype(np.int64),
            "is_tagged": X[:, 3] > 0,
            "weight": X[:, 4].astype(np.float32),
            "range": X[:, 5],
            "fee": np.where(rng.random(n) < 0.3 + 0.2 * X[:, 0], 0.0, np.exp(rng.normal(size=n) + X[:, 0])),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1000, n), unit="D"),
        },
        index=np.arange(n) + 1000,
    )
    found["length"] = found["length"].mask(rng.random(n) < 0.1)
    found["species"] = found["species"].mask(rng.random(n) < 0.1)
    return found


def as_polars(found):
    columns = {name: [None if pd.isna(value) else value for value in found[name].tolist()] for name in found}
    kinds = [pl.col("species").cast(pl.Enum(["wolf", "fox", "jackal"])), pl.col("weight").cast(pl.Float32)]
    return pl.DataFrame(columns).with_columns(*kinds, pl.col("seen").cast(pl.Datetime("us")))


@pytest.fixture(scope="module")
def X():
    return table()


@pytest.fixture(scope="module")
def family(X):
    return MIXED.bind(X)


@pytest.fixture(scope="module")
def rows():
    return frame()


@pytest.fixture(scope="module")
def model(rows):
    return quick(likelihood={"pups": "poisson"}).fit(rows)


def outputs(family, m=5, seed=1):
    return torch.randn(m, family.n_outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Likelihoods.


def test_categories_sum_to_one():
    X = np.random.default_rng(0).integers(0, [3, 2, 4], (100, 3)).astype(float)
    family = CategoricalLikelihood().bind(X)
    cells = np.array(list(itertools.product(range(3), range(2), range(4))), dtype=float)
    mass = family.cost(torch.as_tensor(family.standardise(cells)), outputs(family)).neg().exp().sum(0)
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=1e-12, atol=0)
    np.testing.assert_array_equal(family.restore(family.standardise(cells)), cells)
    np.testing.assert_allclose(np.exp(family.marginal(cells)).sum(), 1, rtol=1e-12)


def test_counts_are_scipy_s_poisson():
    X = np.random.default_rng(0).poisson([1.0, 4.0], (100, 2)).astype(float)
    family = PoissonLikelihood().bind(X)
    output = outputs(family)
    expected = stats.poisson(family.mean(output).numpy()).logpmf(X[:, None]).sum(2)
    np.testing.assert_allclose(-family.cost(torch.as_tensor(X), output).numpy(), expected, rtol=1e-10)
    counts = np.column_stack([np.arange(3000.0), np.zeros(3000)])
    np.testing.assert_allclose(np.exp(family.marginal(counts)).sum(), 1 / (1 + float(family.rate[1])), rtol=1e-10)
    drawn = family.independent(100000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), family.rate, rtol=0.03)


def test_a_product_is_the_sum_of_its_parts(X, family):
    x, output = torch.as_tensor(family.standardise(X)), outputs(family)
    parts = zip(family._of_standardised(x), family._of_output(output), strict=True)
    expected = sum(part.cost(own, of_part) for (part, own), (_, of_part) in parts)
    torch.testing.assert_close(family.cost(x, output), expected, rtol=1e-10, atol=1e-8)
    np.testing.assert_allclose(family.restore(family.standardise(X)), X, atol=1e-9)
    assert family.log_volume == pytest.approx(family.numbers.log_volume)
    np.testing.assert_allclose(family.log_volumes(X), family.numbers.log_volumes(X[:, [1, 4, 5]]))


def test_divergence_has_the_semi_dual_s_gradient(X, family):
    x = torch.as_tensor(family.standardise(X))[:20]
    P = torch.softmax(torch.randn(20, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64), 0)
    barycentre = P.T @ family.statistics(x)
    output = outputs(family).requires_grad_()
    (expected,) = torch.autograd.grad((P * family.cost(x, output)).sum(), output)
    (gradient,) = torch.autograd.grad(family.divergence(output, barycentre).sum(), output)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-9)
    at_mean = family.divergence(output.detach(), family.mean_statistics(output.detach()))
    torch.testing.assert_close(at_mean, torch.zeros(5).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "likelihood", [MIXED, MixedLikelihood((GaussianLikelihood("learned"), BernoulliLikelihood()), ((0, 1), (2,)))]
)
def test_noise_has_the_means_of_the_family(X, likelihood):
    if likelihood is not MIXED:
        X = np.column_stack([X[:, 1], X[:, 4], X[:, 3]])
    family = likelihood.bind(X)
    output = outputs(family, 1)
    draws = family.noise(output.expand(40000, -1), np.random.default_rng(0)).detach()
    error = draws.std(0) / 200
    assert ((draws.mean(0) - family.mean(output)[0].detach()).abs() <= 5 * error).all()


def test_temperature_is_the_numbers_alone(family):
    output = outputs(family)
    eta = family.natural(output)[0]
    for epsilon in (1.0, 0.3):
        torch.testing.assert_close(family.tempered(epsilon).natural(output)[0], family.tempering(epsilon) * eta)


def test_a_linear_start_has_the_frequencies_at_zero(X, family):
    x = torch.as_tensor(family.standardise(X))
    weight, bias = family.linear_start(x, 2, 1.0)
    assert weight.shape == (family.n_outputs, 2)
    mean = family.mean(bias[None])[0]
    torch.testing.assert_close(mean, x.mean(0), rtol=0.02, atol=0.02)
    moved = family.mean((bias + weight @ torch.tensor([1.0, 0.0], dtype=torch.float64))[None])[0]
    assert (moved - mean).abs()[:3].max() > 0.3, "numbers move with the first axis"
    assert (moved - mean).abs()[3:6].max() > 0.1, "and categories with them"


def test_weights_are_repeated_rows(X):
    weights = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    ours, theirs = MIXED.bind(X, weights), MIXED.bind(X.repeat(weights.astype(int), axis=0))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("observed", [[1, 1, 0, 0, 1, 0], [0, 1, 1, 1, 0, 1], [0, 1, 0, 0, 1, 1], [1, 0, 1, 1, 0, 0]])
def test_what_is_missing_given_the_rest(X, family, observed):
    """Draws have the means that are told, and categories their probabilities."""
    observed = np.array(observed, bool)
    given, output = family.given(observed), outputs(family, 1)
    row = X[:1]
    drawn = given.drawn(output.expand(60000, -1), row.repeat(60000, 0), np.random.default_rng(0))
    completed = row.repeat(60000, 0)
    completed[:, ~observed] = drawn
    for place in np.flatnonzero(~observed):
        if place in (0, 3):
            codes = completed[:, place].astype(int)
            share = np.bincount(codes, minlength=3)[:2] / 60000
            probabilities = family.mean(output)[0, 3:].numpy()[{0: [0, 1], 3: [3, 4]}[place]]
            np.testing.assert_allclose(share, probabilities, atol=0.01)
    expected = given.closed(given.expected(output, row))
    for column, mean, place in zip(drawn.T, expected[0], np.flatnonzero(~observed), strict=True):
        if place not in (0, 3):
            assert abs(column.mean() - mean) < 5 * column.std() / 240 + 0.02 * column.std()
        else:
            assert mean == np.bincount(column.astype(int)).argmax()


def test_observed_columns_are_the_sum_over_the_others(X, family):
    """p(x_o given z) is the sum of p(x given z) over the categories and the integral over the number that are missing."""
    observed, output = np.array([False, True, True, True, True, False]), outputs(family, 1)
    given, row = family.given(observed), X[:1]
    step, grid = 1e-3, np.arange(1e-3, 60, 1e-3)
    total = 0.0
    for code in range(3):
        rows = row.repeat(len(grid), 0)
        rows[:, 0], rows[:, 5] = code, grid
        x = torch.as_tensor(family.standardise(rows))
        density = np.exp(family.log_prob(x, output.expand(len(grid), -1)).numpy() - family.log_volumes(rows))
        total += density.sum() * step
    part = given.family.log_prob(torch.as_tensor(given.family.standardise(row[:, observed])), given.selected(output))
    assert np.log(total) == pytest.approx(float(part[0]) - given.family.log_volumes(row[:, observed])[0], abs=2e-3)


def test_bad_codes_and_counts(X):
    with pytest.raises(ValueError, match="expects codes 0, 1"):
        CategoricalLikelihood().bind(X + 0.5)
    with pytest.raises(ValueError, match="expects codes from 0 to 1 in column 0, got 2"):
        CategoricalLikelihood((2, 2)).bind(X[:, [0, 3]])
    with pytest.raises(ValueError, match="expects counts 0, 1, 2"):
        PoissonLikelihood().bind(X[:, [1]])
    with pytest.raises(ValueError, match="columns must have each place"):
        MixedLikelihood((PoissonLikelihood(),), ((0, 2),))
    with pytest.raises(ValueError, match="columns has 1 places, and X has 2 columns"):
        MixedLikelihood((PoissonLikelihood(),), ((0,),)).bind(X[:, [2, 2]])


# Models of arrays.


@pytest.mark.parametrize("kind", [CoupledVAE, VAE, WAE, InfoVAE])
def test_every_model_answers(X, kind):
    model = quick(kind, likelihood=MIXED, n_components=2).fit(X)
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
    score, error = model.score_samples(X, return_std=True)
    assert np.isfinite(score).all()
    assert (error >= 0).all()
    assert np.isfinite(model.score_samples(holes)).all()
    filled = model.impute(holes)
    np.testing.assert_array_equal(filled[~np.isnan(holes)], X[~np.isnan(holes)])
    for rows in (filled, model.sample(200, random_state=0), model.sample_conditional(holes, 2, random_state=0).reshape(-1, 6)):
        assert np.isin(rows[:, 0], [0, 1, 2]).all()
        assert np.isin(rows[:, 3], [0, 1]).all()
    counts = model.sample(200, random_state=0)[:, 2]
    assert (counts == np.rint(counts)).all()
    assert (counts >= 0).all()
    assert model.transform(holes).shape == (200, 2)
    guessed = filled[:, 0][np.isnan(holes[:, 0])] == X[:, 0][np.isnan(holes[:, 0])]
    assert guessed.mean() > 0.5, "a third by chance"


def test_the_probabilities_of_categories_sum_to_one(X):
    model = quick(likelihood=MIXED).fit(X)
    total = np.zeros(50)
    for code in range(3):
        rows = X[:50].copy()
        rows[:, 0] = code
        total += np.exp(model.score_conditional(rows, 0, n_draws=0))
    np.testing.assert_allclose(total, 1, atol=1e-8)


def test_conditions_follow_bayes_on_clusters():
    """Two clusters of unlike sizes, each with a category that is mostly its own."""
    rng = np.random.default_rng(0)
    group = rng.random(1500) < 0.25
    code = np.where(rng.random(1500) < 0.9, group, ~group)
    X = np.column_stack([rng.normal(np.where(group, 3.0, -3.0), 0.5), rng.normal(np.where(group, -2.0, 2.0), 0.5), code])
    likelihood = MixedLikelihood((GaussianLikelihood(covariance="full"), CategoricalLikelihood()), ((0, 1), (2,)))
    model = CoupledVAE(2, likelihood=likelihood, schedule=Schedule(polish_rounds=5), random_state=0).fit(X)
    drawn = model.sample_conditional([[np.nan, np.nan, 1.0], [np.nan, np.nan, 0.0], [3.0, np.nan, np.nan]], 4000, random_state=0)
    of_one, of_zero = 0.25 * 0.9 / (0.25 * 0.9 + 0.75 * 0.1), 0.25 * 0.1 / (0.25 * 0.1 + 0.75 * 0.9)
    assert abs((drawn[0, :, 0] > 0).mean() - of_one) < 0.06
    assert abs((drawn[1, :, 0] > 0).mean() - of_zero) < 0.04
    for part in drawn[:2]:
        assert (np.sign(part[:, 0]) == -np.sign(part[:, 1])).mean() > 0.97, "no draw between the clusters"
    assert (drawn[2, :, 1] < 0).mean() > 0.97
    assert abs(drawn[2, :, 2].mean() - 0.9) < 0.05
    known = np.exp(model.score_conditional([[3.0, -2.0, 1.0], [-3.0, 2.0, 1.0]], 2))
    np.testing.assert_allclose(known, [0.9, 0.1], atol=0.06)


@pytest.mark.parametrize("likelihood", [MIXED, NUMBERS])
def test_means_of_draws_are_the_decoder_s_at_any_temperature(likelihood):
    """The density's keys are tempered, and its means are not."""
    inference = quick(likelihood=likelihood, epsilon=0.5).fit(table())._fitted.at(HOST).inference
    places = torch.arange(20)[None]
    expected = inference.family.mean_at(inference.pool.key[:20].double())
    np.testing.assert_allclose(inference.mixture.means_at(places)[0], expected, rtol=1e-4, atol=1e-5)


def test_broad_noise_of_folds_counts_categories_by_their_frequencies():
    """Over all codes its density sums to that of the numbers."""
    X = table()[:, [0, 1, 3, 4, 5]]
    likelihood = MixedLikelihood(
        (GaussianLikelihood(covariance="residual", marginals="power"), CategoricalLikelihood()), ((1, 3, 4), (0, 2))
    )
    record = quick(likelihood=likelihood).fit(X)._fitted
    row_map = RowMap.of(X[:, [1, 3, 4]], None, marginals=True, covariance=True)
    asked = X[:20].repeat(6, axis=0)
    asked[:, [0, 2]] = np.tile(list(itertools.product(range(3), range(2))), (20, 1))
    tables = [Table(rows) for rows in (X, X, asked)]
    broad = _residuals(likelihood, row_map, np.full(3, 1e-3), lambda *_: record, *tables, 0)[3]
    background = Background.of(row_map.columns(X[:, [1, 3, 4]]), None, np.full(3, 1e-3))
    numbers = X[:20, [1, 3, 4]]
    expected = background.log_density(row_map.columns(numbers)) + row_map.log_slope(numbers)
    np.testing.assert_allclose(np.log(np.exp(broad).reshape(20, 6).sum(1)), expected, rtol=1e-9)


def test_categories_alone():
    """Cells of two columns have their shares, and none that is impossible in the rows is drawn often."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 1000)
    X = np.column_stack([first, np.where(rng.random(1000) < 0.9, first, rng.integers(0, 3, 1000))])
    model = CoupledVAE(2, likelihood=CategoricalLikelihood(), random_state=0).fit(X)
    drawn = model.sample(20000, random_state=0).astype(int)
    share = np.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / 20000
    np.testing.assert_allclose(share, np.bincount(3 * X[:, 0] + X[:, 1], minlength=9) / 1000, atol=0.02)
    cells = np.array(list(itertools.product(range(3), range(3))))
    score, error = model.score_samples(cells, return_std=True)
    np.testing.assert_allclose(np.exp(score), share, atol=0.02)
    assert abs(np.exp(score).sum() - 1) < 2 * np.sqrt(np.square(np.exp(score) * error).sum()) + 1e-6


# Frames.


def test_columns_are_what_they_hold(rows):
    found = Columns.of(rows)
    kinds = {column.name: column.kind for column in found.columns}
    assert kinds == {
        "species": "categorical",
        "length": "gaussian",
        "pups": "gaussian",
        "is_tagged": "categorical",
        "weight": "gaussian",
        "range": "gaussian",
        "fee": "hurdle",
        "seen": "gaussian",
    }
    assert found.columns[0].categories == ("wolf", "fox", "jackal")
    lines = repr(found).splitlines()
    assert lines[0].split()[:5] == ["species", "categorical", "category", "3", "categories:"]
    assert lines[6].split()[:5] == ["fee", "hurdle", "float64", "0", "in"]
    assert found.places.tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 7]


@pytest.mark.parametrize("convert", [lambda found: found, as_polars])
def test_a_frame_comes_back_as_it_was(rows, convert):
    given = convert(rows)
    found = Columns.of(given)
    encoded = found.encoded(given)
    is_whole = ~np.isnan(encoded[:, :6]).any(1)
    part = given[np.flatnonzero(is_whole)] if isinstance(given, pl.DataFrame) else given[is_whole]
    back = found.decoded(np.nan_to_num(encoded[is_whole], nan=1.0), getattr(part, "index", None))
    if isinstance(given, pl.DataFrame):
        assert back.equals(part)
        assert back.schema == part.schema
    else:
        pd.testing.assert_frame_equal(back, part)


TYPES = {
    "numpy": pd.DataFrame({"a": np.arange(40, dtype=np.uint8), "b": np.arange(40) % 2 == 0, "c": np.arange(40.0) * 1.5}),
    "nullable": pd.DataFrame(
        {"a": pd.array([*range(39), None], "Int16"), "b": pd.array([True, False] * 19 + [None, True], "boolean")}
    ),
    "text": pd.DataFrame({"a": pd.array(["x", "y"] * 20, "string"), "b": np.array([1.5, None] * 20, dtype=object)}),
    "ordered": pd.DataFrame({"a": pd.Categorical(["lo", "hi"] * 20, ["lo", "mid", "hi"], ordered=True), "b": [1, 5] * 20}),
    "dates": pd.DataFrame(
        {"a": pd.date_range("2020", periods=40, tz="Europe/Paris"), "b": pd.to_timedelta(np.arange(40), unit="s")}
    ),
    "polars": pl.DataFrame({"a": pl.Series(range(40), dtype=pl.UInt8), "b": pl.Series(["x", None] * 20, dtype=pl.Categorical)}),
    "polars dates": pl.DataFrame({"a": pl.Series(range(40)).cast(pl.Date), "b": pl.Series(range(40)).cast(pl.Duration("us"))}),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_are_kept(name):
    given = TYPES[name]
    found = Columns.of(given)
    encoded = found.encoded(given)
    back = found.decoded(np.nan_to_num(encoded, nan=0.0))
    expected = {column: dtype for column, dtype in zip(given.columns, given.dtypes, strict=True) if str(dtype) != "object"}
    assert {column: back[column].dtype for column in expected} == expected
    kept = ~np.isnan(encoded).any(1)
    assert found.encoded(back)[kept].tolist() == encoded[kept].tolist()


def test_samples_are_a_frame_like_the_fit(model, rows):
    drawn = model.sample(500, random_state=0)
    assert drawn.dtypes.equals(rows.dtypes)
    assert drawn.columns.tolist() == rows.columns.tolist()
    assert abs((drawn["fee"] == 0).mean() - (rows["fee"] == 0).mean()) < 0.1
    assert drawn["pups"].min() >= 0
    by_species = drawn.groupby("species", observed=True)["pups"].mean()
    assert by_species["wolf"] < by_species["fox"] < by_species["jackal"]
    for back in (model.reconstruct(rows), model.inverse_transform(model.transform(rows))):
        assert back.dtypes.equals(rows.dtypes)
    assert model.reconstruct(rows).index.equals(rows.index)


def test_filled_cells_are_those_that_were_missing(model, rows):
    filled = model.impute(rows)
    assert filled.dtypes.equals(rows.dtypes)
    assert filled.index.equals(rows.index)
    assert not filled.isna().any().any()
    for name in rows:
        known = rows[name].notna()
        pd.testing.assert_series_equal(filled[name][known], rows[name][known])
    drawn = model.sample_conditional(rows[:5], 3, random_state=0)
    assert drawn.index.tolist() == rows.index[:5].repeat(3).tolist()
    whole = rows.dropna()[:5]
    pd.testing.assert_frame_equal(model.sample_conditional(whole, 3, random_state=0), whole.loc[whole.index.repeat(3)])


def test_a_partly_filled_frame_is_a_condition(model, rows):
    """Jackals have more pups: given them alone, and scores of the species given the rest say the same."""
    asked = pd.DataFrame({name: [None] * 2 for name in rows}).assign(species=["wolf", "jackal"])
    drawn = model.sample_conditional(asked, 400, random_state=0)
    assert (drawn["species"][:400] == "wolf").all()
    assert drawn["pups"][400:].mean() > drawn["pups"][:400].mean() + 3
    total = np.zeros(20)
    for name in ("wolf", "fox", "jackal"):
        total += np.exp(model.score_conditional(rows[:20].assign(species=name), "species", n_draws=0))
    np.testing.assert_allclose(total, 1, atol=1e-8)


@pytest.mark.parametrize("convert", [pd.DataFrame, as_polars])
def test_absent_columns_are_missing(rows, convert):
    model = quick().fit(convert(rows))
    others = [name for name in rows if name not in ("fee", "species")]
    known, whole = convert(rows[:3])[["fee", "species"]], convert(rows[:3].assign(**dict.fromkeys(others)))
    for answer in (model.impute, lambda part: model.sample_conditional(part, 4, random_state=0)):
        found, expected = answer(known), answer(whole)
        assert found.equals(expected)
        assert list(found.columns) == list(rows)
    with pytest.raises(ValueError, match=r"X has column 'tail', which the fit had not\. Its columns are 'species'"):
        model.impute(convert(rows[:3].rename(columns={"range": "tail"})))
    with pytest.raises(ValueError, match="feature names"):
        model.score_samples(known)


def test_a_condition_that_is_no_single_value(model):
    """The rows have the law of those samples for which it holds."""
    rows, share = model.sample_where(lambda rows: rows["length"] > 1, 3000, return_share=True, random_state=0)
    assert len(rows) == 3000
    assert (rows["length"] > 1).all()
    samples = model.sample(20000, random_state=1)
    expected = samples[samples["length"] > 1]
    assert share == pytest.approx(len(expected) / 20000, abs=0.02)
    assert rows["pups"].mean() == pytest.approx(expected["pups"].mean(), abs=0.4)
    shares, expected_shares = (part["species"].value_counts(normalize=True).sort_index() for part in (rows, expected))
    np.testing.assert_allclose(shares, expected_shares, atol=0.05)
    again = model.sample_where(lambda rows: rows["length"] > 1, 3000, random_state=0)
    pd.testing.assert_frame_equal(again, rows)
    with pytest.raises(ValueError, match=r"The condition holds for 0 of \d+ new rows. Give the cells"):
        model.sample_where(lambda rows: rows["pups"] > 1e6)
    with pytest.raises(ValueError, match="condition must say True or False of each of 1000 rows, got float64"):
        model.sample_where(lambda rows: rows["length"])
    with pytest.raises(TypeError, match="condition must be a function of rows"):
        model.sample_where("length > 1")


def test_an_atom_and_its_density_have_a_mass_of_one(model, rows):
    """p(fee = 0 given the rest) + the integral over other fees."""
    row = rows.dropna()[:1]
    grid = np.exp(np.linspace(-12, 12, 1500))
    numbers = row.loc[row.index.repeat(1500)].assign(fee=grid)
    density = np.exp(model.score_conditional(numbers, "fee", n_draws=0))
    at_zero = float(np.exp(model.score_conditional(row.assign(fee=0.0), "fee", n_draws=0))[0])
    below = np.exp(model.score_conditional(numbers.assign(fee=-grid), "fee", n_draws=0))
    mass = np.trapezoid(density * grid, np.log(grid)) + np.trapezoid(below * grid, np.log(grid)) + at_zero
    assert 0 < at_zero < 1
    assert mass == pytest.approx(1, abs=0.02)


def test_the_mean_of_an_atom_and_of_numbers(model, rows):
    """It is that of conditional draws, between the atom and the numbers."""
    asked = rows.dropna()[:40].assign(fee=np.nan)
    drawn = model.sample_conditional(asked, 500, random_state=0)["fee"].to_numpy().reshape(40, 500)
    error = drawn.std(1) * np.sqrt(1 / 500 + 1 / 128)
    off = (model.impute(asked)["fee"] - drawn.mean(1)) / error
    assert off.abs().median() < 1.5  # the numbers have long tails
    assert (off.abs() < 5).mean() > 0.9
    assert (drawn == 0).any(1).mean() > 0.9


def test_pandas_and_polars_say_the_same(model, rows):
    other = quick(likelihood={"pups": "poisson"}).fit(as_polars(rows))
    np.testing.assert_array_equal(other.score_samples(as_polars(rows)), model.score_samples(rows))
    drawn, expected = other.sample(20, random_state=0), model.sample(20, random_state=0)
    assert isinstance(drawn, pl.DataFrame)
    for name in rows:
        assert drawn[name].to_list() == expected[name].tolist()
    assert other.impute(as_polars(rows)).null_count().sum_horizontal()[0] == 0
    assert isinstance(other.impute(rows), pl.DataFrame)
    assert other.set_output(transform="polars").transform(as_polars(rows)).shape == (200, 5)


def test_the_fit_of_a_frame_is_that_of_its_numbers(rows):
    """Order of rows of categories' names says nothing; the default number of components is that of mixed tables."""
    model = quick().fit(rows)
    assert model.n_components_ == 5
    assert model.n_features_in_ == 8
    assert model.feature_names_in_.tolist() == rows.columns.tolist()
    again = quick().fit(rows.rename_axis("another"))
    np.testing.assert_array_equal(again.score_samples(rows), model.score_samples(rows))


def test_a_frame_of_numbers_comes_back_too():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 4)), columns=list("abcd"), index=np.arange(100) + 7)
    model = quick(likelihood="gaussian").fit(X)
    array = quick(likelihood="gaussian").fit(X.to_numpy())
    np.testing.assert_array_equal(model.sample(5, random_state=0), array.sample(5, random_state=0))
    assert model.sample(5, random_state=0).columns.tolist() == list("abcd")
    assert model.reconstruct(X).index.equals(X.index)
    assert isinstance(array.sample(5, random_state=0), np.ndarray)
    whole = pd.DataFrame(np.random.default_rng(0).integers(0, 1000, (100, 4)), columns=list("abcd"))
    assert quick().fit(whole).sample(5, random_state=0).dtypes.equals(whole.dtypes)
    assert quick(likelihood="gaussian").fit(whole).sample(5, random_state=0).dtypes.eq("float64").all()


def test_models_of_frames_are_kept(model, rows, tmp_path):
    model.save(tmp_path / "model")
    for same in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert same.columns_ == model.columns_
        np.testing.assert_array_equal(same.score_samples(rows), model.score_samples(rows))
        pd.testing.assert_frame_equal(same.sample(10, random_state=0), model.sample(10, random_state=0))
        assert same.noise_ == model.noise_


def test_killed_fits_go_on(rows, tmp_path):
    whole = quick().fit(rows)
    params = {"checkpoint": tmp_path / "fit"}
    interrupted = quick(**params, max_time=1e-3).fit(rows)
    assert interrupted.columns_ == whole.columns_
    resumed = quick(**params).fit(rows)
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))


def test_a_failed_fit_keeps_what_was(model, rows):
    before = model.columns_
    with pytest.raises(ValueError, match="must be finite, got infinity"):
        model.fit(rows.assign(length=np.inf))
    with pytest.raises(TypeError, match="must be of one type, got int and str"):
        model.fit(rows.assign(species=[1, "a"] * 100))
    assert model.columns_ is before
    model.score_samples(rows[:5])


def test_unknown_categories(model, rows):
    strange = rows[:3].assign(species=["bear", "wolf", "fox"])
    with pytest.raises(ValueError, match=r"Column 'species' must have one of its 3 categories .* got 'bear' in row 0"):
        model.transform(strange)
    tolerant = quick(likelihood=AutoLikelihood(unknown="missing")).fit(rows)
    np.testing.assert_array_equal(
        tolerant.score_samples(strange), tolerant.score_samples(strange.assign(species=[None, "wolf", "fox"]))
    )
    assert tolerant.impute(strange)["species"].isin(["wolf", "fox", "jackal"]).all()


def test_lists_and_arrays_of_values_are_rows(model, rows):
    part = rows.dropna()[:3]
    values = [list(row) for row in part.itertuples(index=False)]
    np.testing.assert_array_equal(model.score_samples(values), model.score_samples(part))
    np.testing.assert_array_equal(model.score_samples(np.array(values, dtype=object)), model.score_samples(part))
    with pytest.raises(ValueError, match="X must have 8 columns"):
        model.score_samples([row[:4] for row in values])


def test_columns_that_are_no_good(rows):
    with pytest.warns(UserWarning, match="Column 'name' has another text in each row"):
        Columns.of(rows.assign(name=[f"animal {i}" for i in range(200)]))
    with pytest.warns(UserWarning, match="Column 'name' has 150 categories"):
        Columns.of(rows.assign(name=[f"animal {i % 150}" for i in range(200)]))
    with pytest.raises(ValueError, match="Column 'name' has 2000 categories, and 1000 is the most"):
        Columns.of(pd.DataFrame({"name": [f"animal {i}" for i in range(2000)]}))
    with pytest.raises(ValueError, match="Column 'name' of X has no observed cell"):
        Columns.of(rows.assign(name=pd.Series([None] * 200, dtype="str", index=rows.index)))
    with pytest.raises(ValueError, match="Column 'length' of X has no observed cell"):
        Columns.of(rows.assign(length=np.nan))
    zeros = Columns.of(rows.assign(length=0.0), {"length": "gaussian"})
    assert np.isfinite(zeros.decoded(np.nan_to_num(zeros.encoded(rows.assign(length=0.0)))).select_dtypes("number")).all().all()
    with pytest.raises(ValueError, match="names column 'nme', which X has not"):
        quick(likelihood={"nme": "poisson"}).fit(rows)
    with pytest.raises(ValueError, match=r"must be one of 'gaussian', 'categorical', 'poisson', 'hurdle', got 'normal'"):
        quick(likelihood={"length": "normal"}).fit(rows)
    with pytest.raises(ValueError, match="Column 'species' has text, truth values and categories"):
        quick(likelihood={"species": "gaussian"}).fit(rows)
    with pytest.raises(ValueError, match="names columns, and X has no names"):
        quick(likelihood={"length": "gaussian"}).fit(table())
    with pytest.raises(ValueError, match="The feature names should match"):
        quick().fit(rows).transform(rows.rename(columns={"fee": "cost"}))
    with pytest.raises(ValueError, match="unknown must be one of 'error', 'missing', got 'drop'"):
        AutoLikelihood(unknown="drop")


def test_a_constant_column_stays(rows):
    constant = rows[["species", "length", "weight"]].assign(farm="north", year=2020)
    drawn = quick().fit(constant).sample(20, random_state=0)
    assert (drawn["farm"] == "north").all()
    assert (drawn["year"] == 2020).all()


def test_in_a_pipeline(rows):
    y = rows["is_tagged"].to_numpy()
    numbers = rows[["length", "pups", "weight", "range"]]
    fitted = make_pipeline(Imputer(quick()), DecisionTreeClassifier(max_depth=2)).fit(numbers, y)
    assert fitted.score(numbers, y) > 0.6
    assert isinstance(Imputer(quick()).fit(rows).transform(rows), pd.DataFrame)


@pytest.mark.parametrize("kind", [VAE, WAE])
def test_parts_of_a_stream(rows, kind):
    model = quick(kind).partial_fit(rows[:100]).partial_fit(rows[100:])
    assert model.sample(5, random_state=0).dtypes.equals(rows.dtypes)
    assert np.isfinite(model.score_samples(rows)).all()


def test_rows_held_out(rows):
    model = quick(early_stopping=True).fit(rows)
    assert len(model.validation_scores_) > 0
    whole = rows.dropna()
    fitted = quick(likelihood={"fee": "gaussian"}).fit(rows, X_val=whole[:50])
    assert np.isfinite(fitted.validation_scores_).all()


def test_rows_that_must_be_whole(model, rows):
    whole = rows.dropna()
    with pytest.raises(ValueError, match="'fee' has none where it is 0, as in row"):
        model.posterior(whole)
    with pytest.raises(ValueError, match="X must be whole here, got a missing cell in row"):
        model.posterior(rows[rows["fee"] > 0])
    assert model.posterior(whole[whole["fee"] > 0]).mean.shape[1] == 5


def test_real_sizes():
    """Forty columns, half of them categories of many values, at 64 components."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 3))
    numbers = z @ rng.normal(size=(3, 20)) + rng.normal(size=(400, 20))
    codes = np.digitize(z @ rng.normal(size=(3, 20)), np.linspace(-2, 2, 11))
    wide = pd.DataFrame(numbers, columns=[f"x{i}" for i in range(20)]).join(
        pd.DataFrame(codes, columns=[f"c{i}" for i in range(20)]).astype(str)
    )
    model = quick(n_components=64, schedule=Schedule(polish_rounds=0, max_draws=2048), pool_size=512).fit(wide)
    assert np.isfinite(model.score_samples(wide[:50])).all()
    assert model.sample(3, random_state=0).dtypes.equals(wide.dtypes)
