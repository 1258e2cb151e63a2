"""Many components: a layout from a short autoencoder, and pools that have few draws a row."""

import functools

import numpy as np
import pytest
import torch
from conftest import QUICK
from sklearn.datasets import load_digits

from skcvae import CoupledVAE, _amortise, _phases, _training
from skcvae._data import Table
from skcvae._phases import _encode, _polish
from skcvae._random import make_rng
from skcvae._training import Course, Pace
from skcvae.likelihoods import BernoulliLikelihood
from skcvae.networks import MLP
from skcvae.schedule import Schedule


@pytest.fixture(scope="module")
def digits():
    """500 of scikit-learn's digits with a density, (500, 64)."""
    rng = np.random.default_rng(0)
    images = load_digits().data[rng.permutation(1797)[:500]]
    return ((images + rng.random(images.shape)) / 17).astype(np.float32)


def begun(X, n_components=8, **params):
    """A problem at its start, and the linear layout."""
    shared = {"likelihood": "gaussian", "hidden_layer_sizes": (64, 64), "random_state": 0}
    problem = problem_of(CoupledVAE(n_components, **shared, **params), X)
    return problem, _phases.start(problem)


def problem_of(model, X):
    """The problem of a fit that begins."""
    model.n_features_in_ = X.shape[1]
    return model._problem(Table(X), None, make_rng(0))


def n_layouts(model, X, monkeypatch):
    """Candidates that polishing is given."""
    given, polish = [], _phases.polish
    monkeypatch.setattr(_phases, "polish", lambda course, layouts: given.append(len(layouts)) or polish(course, layouts))
    model.fit(X)
    return given[0]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"n_components": 4}, 2),
        ({"n_components": 5}, 3),
        ({"prior": "uniform", "n_components": 5}, 3),
        ({"prior": "dirichlet", "n_components": 6}, 3),
        ({"prior": lambda n, seed: np.random.default_rng(seed).normal(size=(n, 5)), "n_components": 5}, 2),
        ({"prior": np.eye(5)}, 2),
        ({"n_components": 5, "likelihood": BernoulliLikelihood(), "network": MLP((16,), batch_norm=True)}, 3),
    ],
    ids=["few", "many", "uniform", "dirichlet", "no density", "atoms", "batch normalisation"],
)
@pytest.mark.filterwarnings("ignore")
def test_many_components_of_a_density_have_a_third_layout(params, expected, X, monkeypatch):
    rows = (X > 1).astype(float) if "likelihood" in params else X
    model = CoupledVAE(**{**QUICK, **params})
    assert n_layouts(model, rows, monkeypatch) == expected
    assert np.isfinite(model.score_samples(rows)).all()


def test_the_encoder_finds_a_layout_that_the_axes_do_not_have(digits):
    """After the same short round its plan is better; both are solved on twenty draws a row."""
    problem, linear = begun(digits)
    encoded = _phases.encode(problem, linear)
    values = {}
    for name, layout in {"linear": linear, "encoded": encoded}.items():
        values[name] = _polish._trial(problem, layout, name).value
    assert np.isfinite(list(values.values())).all()
    assert values["encoded"] < values["linear"] - 0.2


def test_the_problem_is_left_at_the_linear_layout(digits):
    problem, linear = begun(digits, max_iter=20)
    encoded = _phases.encode(problem, linear)
    for name, weight in problem.decoder.state_dict().items():
        torch.testing.assert_close(weight, linear.decoder[name], rtol=0, atol=0)
    assert not torch.equal(encoded.decoder["network.linear.weight"], linear.decoder["network.linear.weight"])


def test_the_encoder_takes_steps_in_proportion_to_the_rows(digits):
    assert _encode._n_steps(begun(digits[:50])[0]) == _encode.FEWEST_STEPS
    assert _encode._n_steps(begun(np.tile(digits, (4, 1)))[0]) == np.ceil(50 * 2000 / 256)
    assert _encode._n_steps(begun(np.tile(digits, (20, 1)))[0]) == _encode.MOST_STEPS
    assert _encode._n_steps(begun(digits, max_iter=7)[0]) == 7


def test_an_encoder_that_diverges_does_not_end_the_fit(X, monkeypatch):
    def diverges(*_):
        raise _training.Diverged("the loss became inf")

    monkeypatch.setattr(_amortise, "train", diverges)
    model = CoupledVAE(5, **QUICK).fit(X)
    assert np.isfinite(model.score_samples(X)).all()


def test_its_steps_are_those_of_a_vae(X, monkeypatch):
    """One objective: the bound with epsilon as the weight of each row's divergence, and no other."""
    seen, train = [], _amortise.train

    def watched(course, divergence, setting, last=None):
        seen.append((divergence, setting.kl_weight, setting.divergence_weight, setting.max_iter))
        return train(course, divergence, setting, last)

    monkeypatch.setattr(_amortise, "train", watched)
    CoupledVAE(5, epsilon=1.5, **QUICK).fit(X)
    assert seen == [(None, 1.5, 0.0, QUICK["max_iter"])]


def test_a_fit_is_the_same_each_time_and_leaves_the_generators(X):
    state = torch.get_rng_state()
    fits = [CoupledVAE(5, **QUICK).fit(X).sample(5, random_state=0) for _ in range(2)]
    np.testing.assert_array_equal(*fits)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore")
def test_a_pool_with_a_draw_a_row_grows(digits):
    """Five iterations solve no such plan, on this pool or another of its size."""
    short = Schedule(polish_rounds=1, max_draws=16384)
    model = CoupledVAE(8, hidden_layer_sizes=(64, 64), pool_size=512, schedule=short, random_state=0).fit(digits)
    assert model.coupling_.n_draws >= 4096
    assert model.coupling_.marginal_error < 0.1
    assert model.coupling_.n_iter <= 60


def test_the_course_has_no_layout_more_where_the_time_is_over(X):
    model = CoupledVAE(5, **QUICK)
    problem = problem_of(model, X)
    course = Course(problem, Pace(max_time=1e-9))
    problem.pace = course.pace
    assert len(model._layouts(course)) == 2


@pytest.mark.parametrize("kind", [functools.partial(CoupledVAE, 5), functools.partial(CoupledVAE, 2)], ids=["wide", "narrow"])
def test_a_fit_goes_on_warm_from_what_it_has(kind, X, monkeypatch):
    model = kind(warm_start=True, **QUICK).fit(X)
    assert n_layouts(model, X, monkeypatch) == 1


@pytest.mark.filterwarnings("ignore")
def test_the_largest_pool_that_is_too_small_ends_the_solve(digits):
    """With about one draw a row neither iterations nor other pools of that size get further."""
    short = Schedule(polish_rounds=1, max_draws=512)
    model = CoupledVAE(8, hidden_layer_sizes=(64, 64), pool_size=512, schedule=short, random_state=0).fit(digits)
    assert model.coupling_.n_draws == 512
    assert not model.coupling_.converged
    assert model.coupling_.n_iter <= 40
