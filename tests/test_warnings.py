"""Warnings of a fit and of scores: when they come, and that they name the line that called."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae.schedule import Schedule

X = np.random.default_rng(0).normal(size=(60, 3))
QUICK = {"hidden_layer_sizes": (8,), "pool_size": 256, "random_state": 0}
WITH_ENCODER = [VAE, WAE, InfoVAE]
LAST = "made its last of"


def told(work):
    """The warnings of a piece of work."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return caught


def last_steps(work):
    """Warnings that a fit ended at its last step."""
    return [warning for warning in told(work) if LAST in str(warning.message)]


@pytest.mark.parametrize("kind", WITH_ENCODER)
def test_training_that_ends_at_its_last_step_says_so(kind):
    model = kind(max_iter=60, **QUICK)
    (warning,) = last_steps(lambda: model.fit(X))
    assert warning.category is ConvergenceWarning
    assert "last of max_iter=60 steps, and the loss had not stopped falling. Raise max_iter." in str(warning.message)
    (warning,) = last_steps(lambda: model.fit(X, X_val=X[:10]))
    assert "the score of the rows held out had not stopped rising" in str(warning.message)
    assert not model.converged_


def test_polishing_that_ends_at_its_last_round_says_so():
    model = CoupledVAE(tol=0, schedule=Schedule(polish_rounds=1, max_draws=1024), max_iter=20, **QUICK)
    (warning,) = last_steps(lambda: model.fit(X))
    assert warning.category is ConvergenceWarning
    assert "last of polish_rounds=1 rounds" in str(warning.message)
    assert "Raise polish_rounds: schedule=Schedule(polish_rounds=...)." in str(warning.message)
    assert not model.converged_


@pytest.mark.parametrize("kind", WITH_ENCODER)
def test_training_that_ended_by_itself_says_nothing(kind):
    model = kind(max_iter=3000, tol=0.5, n_iter_no_change=1, **QUICK)
    assert last_steps(lambda: model.fit(X)) == []
    assert model.converged_


def test_polishing_that_ended_by_itself_says_nothing():
    model = CoupledVAE(tol=1.0, max_iter=100, **QUICK)
    assert last_steps(lambda: model.fit(X)) == []
    assert model.converged_


def test_no_rounds_that_were_asked_for_are_none_that_ended():
    assert last_steps(lambda: CoupledVAE(schedule=Schedule(polish_rounds=0), max_iter=20, **QUICK).fit(X)) == []


@pytest.mark.parametrize("kind", [CoupledVAE, *WITH_ENCODER])
def test_a_fit_that_was_asked_to_stop_says_nothing(kind):
    assert last_steps(lambda: kind(max_time=0.01, tol=0, max_iter=10_000, **QUICK).fit(X)) == []


@pytest.mark.parametrize("kind", WITH_ENCODER)
def test_a_part_of_a_stream_says_nothing(kind):
    assert last_steps(lambda: kind(**QUICK).partial_fit(X)) == []


class Stubborn(CoupledVAE):
    """A model of the user's."""


LOST = {"schedule": Schedule(polish_rounds=1, max_draws=64), "epsilon": 0.05, "max_iter": 20, "tol": 0}
FEW = {**QUICK, "pool_size": 64}


@pytest.mark.parametrize(
    "work",
    [
        lambda: CoupledVAE(**LOST, **FEW).fit(X),
        lambda: Stubborn(**LOST, **FEW).fit_transform(X),
        lambda: make_pipeline(StandardScaler(), CoupledVAE(**LOST, **FEW)).fit(X),
        lambda: VAE(max_iter=60, **QUICK).fit(X, X_val=X + 100),
        lambda: clone(VAE(max_iter=60, **QUICK)).fit(X),
        lambda: fitted().score_samples(X),
        lambda: fitted().score(X),
        lambda: make_pipeline(StandardScaler(), fitted()).fit(X).score(X),
    ],
    ids=["fit", "subclass", "pipeline", "validation", "encoder", "scores", "score", "pipeline's score"],
)
def test_warnings_name_the_line_that_called(work):
    caught = told(work)
    assert caught
    assert {warning.filename for warning in caught} == {__file__}


def fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CoupledVAE(proposal="prior", **LOST, **FEW).fit(X)
