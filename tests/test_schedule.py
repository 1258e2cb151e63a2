"""The schedule of a coupled fit: what is asked for is what is done."""

import dataclasses
from unittest import mock

import numpy as np
import pytest
import torch

from skcvae import CoupledVAE
from skcvae._checks import check_X
from skcvae._data import Table
from skcvae._phases import _polish, _train
from skcvae.schedule import Schedule, Stage
from skcvae.transport import SOLVERS, Dual, DualNetwork, SemiDual, SemiDualNetwork, dual_columns, from_cost, primal_columns
from tests.conftest import QUICK

SHORT = Schedule(polish_rounds=3, max_draws=4096)


def regressions(X, **params):
    """A fit and the regressions that it made."""
    with mock.patch.object(_polish, "_regress", wraps=_polish._regress) as regress:
        model = CoupledVAE(**{**QUICK, **params}).fit(X)
    return model, regress.call_count


@pytest.mark.parametrize("n_rounds", [1, 2, 5])
def test_rounds_are_counted(X, n_rounds):
    model, n_made = regressions(X, schedule=dataclasses.replace(SHORT, polish_rounds=n_rounds), tol=0.0)
    assert model.n_rounds_ == n_made - 2  # one for each layout
    assert 1 <= model.n_rounds_ <= n_rounds


def test_no_rounds_leave_the_decoder_as_it_was_trained(X):
    none = dataclasses.replace(SHORT, polish_rounds=0)
    model, n_made = regressions(X, schedule=none)
    assert (n_made, model.n_rounds_, model.converged_) == (0, 0, False)
    assert model.coupling_.converged
    assert len(model.loss_curve_) == model.n_iter_ > 0
    warm = CoupledVAE(**{**QUICK, "warm_start": True, "schedule": SHORT}).fit(X)
    before = warm.inverse_transform([[0.5, -0.5]])
    np.testing.assert_array_equal(warm.set_params(schedule=none).fit(X).inverse_transform([[0.5, -0.5]]), before)


def test_validation_rows_have_a_score_without_rounds(X):
    model = CoupledVAE(**{**QUICK, "schedule": dataclasses.replace(SHORT, polish_rounds=0)}).fit(X, X_val=X[:20])
    assert model.validation_scores_ == [pytest.approx(model.score(X[:20]), abs=1e-3)]


def test_the_training_is_as_long_as_asked_for(X):
    model = CoupledVAE(**{**QUICK, "schedule": dataclasses.replace(SHORT, training_steps=7)}).fit(X)
    assert model.n_iter_ == 7


def test_the_training_has_as_many_rows_as_asked_for(X):
    with mock.patch.object(SemiDual, "solve_batch", autospec=True, side_effect=SemiDual.solve_batch) as solve:
        CoupledVAE(**{**QUICK, "schedule": dataclasses.replace(SHORT, training_rows=30)}).fit(X)
    assert {len(call.args[1].carrier) for call in solve.call_args_list} == {30}


def test_the_training_starts_as_hot_and_cools_as_long_as_asked_for(X):
    """The start's temperature is a share of one variance; without anything to hold it the target's is reached by the share."""
    temperatures, cooled = [], []
    for share in (0.25, 0.5):
        model = CoupledVAE(epsilon=1e-3, schedule=Schedule(hot_share=share, cooling_share=share), random_state=0)
        check_X(model, X, fitting=True)
        problem = model._problem(Table(X), None, np.random.default_rng(0))
        temperatures.append(_train.start(problem).temperature)
        cooled.append(_train._Steps(problem, 8.0, 100).cooling ** (100 * share))
    assert temperatures[1] == pytest.approx(2 * temperatures[0], rel=1e-5)
    np.testing.assert_allclose(cooled, 1e-3 / 8.0)


def test_stages_are_those_that_are_given(X):
    only = Stage(share=1.0, draws=300, batch=1, rate=0.5, visits=1.0, fewest=3, moves=False)
    with mock.patch.object(_polish, "_regress", wraps=_polish._regress) as regress:
        CoupledVAE(**{**QUICK, "tol": 0.0, "schedule": dataclasses.replace(SHORT, stages=(only,))}).fit(X)
    plans, stages = zip(*((call.args[1], call.args[2]) for call in regress.call_args_list[2:]), strict=True)
    assert {len(plan.z) for plan in plans} == {300}
    assert set(stages) == {only}


def test_no_schedule_is_the_default_one(X):
    one, other = (CoupledVAE(hidden_layer_sizes=(8,), schedule=s, random_state=0).fit(X) for s in (None, Schedule()))
    assert one.score(X) == other.score(X)


def test_the_eight_names_are_the_papers(X):
    kinds = {"semi-dual": SemiDual, "semi-dual-network": SemiDualNetwork, "dual": Dual, "dual-network": DualNetwork}
    expected = {name: kind() for name, kind in kinds.items()}
    expected |= {f"{name}-primal": kind(strategy="primal") for name, kind in kinds.items()}
    assert expected == SOLVERS
    for name, solver in SOLVERS.items():
        by_name, by_object = (CoupledVAE(**{**QUICK, "max_iter": 5, "schedule": SHORT, "solver": s}).fit(X) for s in (name, solver))
        assert by_name.score(X) == by_object.score(X)


def test_a_strategy_chooses_the_columns():
    generator = torch.Generator().manual_seed(0)
    source, target = from_cost(torch.rand(6, 4, generator=generator, dtype=torch.float64))
    unsolved = SemiDual(marginal_tol=0.0, max_iter=1).solve(source, target, 0.3)
    dual, primal = (SemiDual(strategy=name).columns(unsolved.state) for name in ("dual", "primal"))
    torch.testing.assert_close(dual.mass, dual_columns(unsolved.state).mass)
    torch.testing.assert_close(primal.mass, primal_columns(unsolved.state).mass)
    assert (dual.mass - primal.mass).abs().max() > 1e-3
    solved = SemiDual(marginal_tol=1e-24, max_iter=2000).solve(source, target, 0.3)
    dual, primal = (SemiDual(strategy=name).columns(solved.state) for name in ("dual", "primal"))
    torch.testing.assert_close(dual.mass, primal.mass, rtol=1e-8, atol=1e-10)
