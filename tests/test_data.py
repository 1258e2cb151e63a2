"""Data that are too many to hold, or to make one plan of, against the same data held."""

import math
import tracemalloc

import numpy as np
import pytest
import torch

from skcvae import VAE, CoupledVAE, _data, _memory
from skcvae._data import Data, Table
from skcvae._phases import Problem, _polish
from skcvae.datasets import make_gaussian_grid
from skcvae.likelihoods import GaussianLikelihood
from skcvae.metrics import high_density_ratio
from skcvae.schedule import Schedule
from skcvae.transport import Source, Target, evaluate

SMALL = {"hidden_layer_sizes": (32,), "max_iter": 60, "random_state": 0}


@pytest.fixture(scope="module")
def X():
    """Rows with a location and a scale of their own."""
    return 3 + 2 * np.random.default_rng(0).standard_normal((1000, 3))


@pytest.fixture
def unheld(monkeypatch):
    """Nothing is held, and rows are read a hundred at once."""
    monkeypatch.setattr(_data, "MOST_HELD", 0)
    monkeypatch.setattr(_memory, "ROWS_AT_ONCE", 100)


def data(X):
    return Data(Table(X), GaussianLikelihood(scale=1.0).bind(X.astype(float)), 1.0, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_read_as_they_are_held(X, unheld, monkeypatch, dtype):
    read = data(X.astype(dtype))
    monkeypatch.setattr(_data, "MOST_HELD", 10**6)
    held = data(X.astype(dtype))
    index = torch.tensor([5, 999, 0])
    assert read.held is None
    assert held.held is not None
    assert len(read) == 1000
    assert read.n_features == 3
    assert torch.equal(read.rows(index), held.rows(index))
    assert torch.equal(read.rows(None), held.rows(None))
    assert torch.equal(torch.cat(list(read.blocks())), held.held)


def test_some_rows_are_different_and_in_order_and_all_where_there_are_no_more(X):
    some = data(X).some(100, np.random.default_rng(0))
    assert len(some) == 100
    assert (some.diff() > 0).all()
    assert some[0] >= 0
    assert some[-1] < 1000
    assert data(X).some(1000, np.random.default_rng(0)) is None


def test_precision_is_what_the_largest_row_needs(unheld):
    X = np.random.default_rng(0).standard_normal((250, 2))
    assert data(X).place.dtype == torch.float32
    X[-1] = 1e4
    assert data(X).place.dtype == torch.float64


@pytest.mark.parametrize("make", [lambda: CoupledVAE(**SMALL), lambda: VAE(**SMALL)], ids=["CoupledVAE", "VAE"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fit_on_a_memory_map_is_that_on_the_array(X, unheld, tmp_path, make, dtype):
    """And that on the array with all rows held, to the last bit."""
    mapped = np.memmap(tmp_path / "rows", dtype, "w+", shape=X.shape)
    mapped[:] = X
    scores = make().fit(np.memmap(tmp_path / "rows", dtype, "r", shape=X.shape)).score_samples(mapped)
    _data.MOST_HELD = 10**6  # put back by the fixture
    np.testing.assert_array_equal(scores, make().fit(X.astype(dtype)).score_samples(X.astype(dtype)))


def test_rows_that_stand_for_all_are_no_more_than_there_is_room_for():
    rng = np.random.default_rng(0)
    assert _data.representative(1000, 10, rng) is None
    assert len(_data.representative(10**6, 10, rng)) == 65536
    assert len(_data.representative(10**6, 10**5, rng)) == 2**24 // 10**5
    assert len(_data.representative(10, 2**25, rng)) == 2


def test_a_fit_copies_no_array(monkeypatch):
    """Numpy allocates a small part of what the rows take."""
    X = np.random.default_rng(0).standard_normal((400_000, 32)).astype(np.float32)
    monkeypatch.setattr(_data, "MOST_HELD", 0)
    monkeypatch.setattr(_data, "MOST_ASKED", 4096)
    model = VAE(hidden_layer_sizes=(8,), max_iter=5, pool_size=64, random_state=0).fit(X[:5000])  # modules are imported
    tracemalloc.start()
    try:
        model.fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.3 * X.nbytes


def grid_fit(max_rows, **params):
    X = make_gaussian_grid(4000, random_state=0)[0]
    short = Schedule(polish_rounds=4, max_rows=max_rows)
    model = CoupledVAE(hidden_layer_sizes=(64, 64), max_iter=400, random_state=0, schedule=short, **params)
    return model.fit(X[:3000]), X[3000:]


@pytest.fixture(scope="module")
def sampled():
    """A fit on plans of a third of the rows, its test rows, and the rows that it took."""
    taken, take = [], Problem.take
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Problem, "take", lambda self, rows: (taken.append(rows), take(self, rows))[1])
        return *grid_fit(1000), taken


def test_plans_of_fresh_rows_learn_what_plans_of_all_rows_do(sampled):
    """Score and samples of the 25 Gaussians from plans of a third of the rows, not below those from plans of all."""
    (some, X_test, _), (whole, _) = sampled, grid_fit(3000)
    assert some.score(X_test) > whole.score(X_test) - 0.15
    ratios = [high_density_ratio(m.sample(3000, random_state=1), *grid()) for m in (some, whole)]
    assert ratios[0] > ratios[1] - 0.05
    assert some.validation_scores_ is None


def grid():
    means = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)], float)
    return means, 0.05


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", GaussianLikelihood(scale="network")])
def test_features_that_do_not_vary_change_no_plan(likelihood, monkeypatch):
    """Products leave them out; potentials, masses and the barycentres of all statistics are those of the whole cost."""
    taken, take = [], Problem.take
    monkeypatch.setattr(Problem, "take", lambda self, rows: (taken.append(self), take(self, rows)))
    X = np.random.default_rng(0).uniform(size=(300, 40)) < 0.3
    X = np.column_stack([np.zeros(300), X[:, :20], np.ones(300), X[:, 20:], np.full(300, 0.3)]).astype(np.float32)
    CoupledVAE(likelihood=likelihood, hidden_layer_sizes=(8,), max_iter=5, pool_size=64, random_state=0).fit(X)
    problem = taken[-1]
    draws = problem.draws(50)
    output = problem.predicted(draws.z)
    potential = torch.linspace(-3, 3, 300)
    few = evaluate(problem.source, problem.target(output, draws), potential, 2.0)
    statistics, (natural, normaliser) = problem.family.statistics(problem.x), problem.family.natural(output)
    whole = Source(statistics, problem.family.carrier(problem.x)), Target(natural, normaliser, draws.log_weights)
    full = evaluate(*whole, potential, 2.0)
    assert problem.source.statistics.shape[1] == len(problem.varying.places) == statistics.shape[1] * 40 // 43
    for name in ("prior_potential", "log_mass", "dual_value"):
        torch.testing.assert_close(getattr(few, name), getattr(full, name), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(problem.varying.filled(few.barycentre), full.barycentre, rtol=1e-4, atol=1e-4)


def test_other_rows_may_vary_in_other_features(monkeypatch):
    """Each of 40 features differs in one row only: a round's rows leave others out; their potential is the formula's."""
    pairs, carry = [], Problem.carry

    def measured(problem, potential, rows):
        draws, epsilon = problem.draws(512), problem.setting.epsilon
        output, before = problem.predicted(draws.z), problem.varying.places
        g = -epsilon * ((potential[:, None] - problem.family.cost(problem.x, output)) / epsilon).logsumexp(0)
        with monkeypatch.context() as patch:
            patch.setattr(problem, "draws", lambda n: draws)
            found = carry(problem, potential, rows)
        weights = draws.log_weights + (g + epsilon * math.log(200) - problem.family.cost(problem.x, output)) / epsilon
        pairs.append((found, -epsilon * weights.logsumexp(1)))
        assert not torch.equal(before, problem.varying.places)
        return found

    monkeypatch.setattr(Problem, "carry", measured)
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(400, 2)), 3 * np.eye(400)[:, :40]])
    short = Schedule(max_rows=200, polish_rounds=2)
    CoupledVAE(likelihood=GaussianLikelihood(0.5), schedule=short, max_iter=50, random_state=0).fit(X)
    assert pairs
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_rounds_of_polishing_see_other_rows(sampled):
    """Each of a thousand, and few of them twice in a row."""
    model, _, taken = sampled
    places = {tuple(rows.tolist()) for rows in taken}
    assert all(len(rows) == 1000 for rows in taken)
    assert len(places) >= 4
    assert model.coupling_.marginal_error < 1


def test_a_killed_fit_of_sampled_rows_ends_alike(sampled, tmp_path, monkeypatch):
    """Killed in the middle of polishing, where the rows are no longer the first ones."""
    whole, X_test, _ = sampled
    regress, calls = _polish._regress, []

    def killed(*args):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return regress(*args)

    monkeypatch.setattr(_polish, "_regress", killed)
    with pytest.raises(KeyboardInterrupt):
        grid_fit(1000, checkpoint=tmp_path / "fit")
    monkeypatch.setattr(_polish, "_regress", regress)
    model = grid_fit(1000, checkpoint=tmp_path / "fit")[0]
    assert (model.loss_curve_, model.score(X_test)) == (whole.loss_curve_, whole.score(X_test))


def test_the_potential_of_fresh_rows_is_nearly_solved(monkeypatch):
    """Where that of the rows before was solved, half a Sinkhorn step from it is far nearer to the solution than zero."""
    errors, carry = [], Problem.carry

    def error(problem, potential):
        draws = problem.draws(4096)
        target = problem.target(problem.predicted(draws.z), draws)
        return evaluate(problem.source, target, potential, problem.setting.epsilon).marginal_error

    def measured(problem, potential, rows):
        before, found = error(problem, potential), carry(problem, potential, rows)
        errors.append((before, error(problem, found), error(problem, torch.zeros_like(found))))
        return found

    monkeypatch.setattr(Problem, "carry", measured)
    grid_fit(1000, learning_rate_init=1e-3)  # at which the decoder moves little in a round
    solved = [(found, zero) for before, found, zero in errors if before < 0.5]
    assert len(solved) >= 3
    assert all(found < 0.2 * zero for found, zero in solved), errors
