"""scikit-learn's callbacks: they see every task of a fit, may look at the model so far, and may stop it."""

import warnings

import numpy as np
import pytest
from conftest import QUICK
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, load
from skcvae.schedule import Schedule

pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")
pytestmark = pytest.mark.filterwarnings("ignore")
POLISHED = {**QUICK, "max_iter": 120, "schedule": Schedule(polish_rounds=6, max_draws=2048)}
AUTOENCODERS = [
    VAE(**QUICK).set_params(max_iter=170),
    WAE(**QUICK).set_params(max_iter=170),
    InfoVAE(**QUICK).set_params(max_iter=170),
]
MODELS = [CoupledVAE(**POLISHED), *AUTOENCODERS]


class Recorder:
    """Notes what it is told; may look at the fitted model, and may ask to stop at a task of a name."""

    max_propagation_depth = None

    def __init__(self, looks=False, stops_at=None):
        self.looks, self.stops_at, self.begun, self.ended, self.scores = looks, stops_at, [], [], []

    def setup(self, estimator, context):
        self.begun.append("setup")

    def teardown(self, estimator, context):
        self.ended.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append(context.task_name)
        if self.looks and fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X))
        return context.task_name == self.stops_at


class Quiet(Recorder):
    """One that does not look, so that no model is made for it."""

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)
        return context.task_name == self.stops_at


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_callbacks_see_all_tasks_and_change_nothing(model, X):
    recorder = Quiet()
    watched, alone = clone(model).set_callbacks(recorder).fit(X), clone(model).fit(X)
    np.testing.assert_array_equal(watched.sample(9, random_state=0), alone.sample(9, random_state=0))
    assert recorder.begun[:3] == ["setup", "fit", "train"]
    assert recorder.begun.count("train") == -(-watched.n_iter_ // 50)
    assert sorted(recorder.begun[1:]) == sorted(recorder.ended[:-1])
    assert recorder.ended[-2:] == ["fit", "teardown"]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_the_model_so_far_is_a_fitted_model(model, X):
    """Its scores rise towards the final one, and looking changes nothing."""
    recorder = Recorder(looks=True)
    watched, alone = clone(model).set_callbacks(recorder).fit(X), clone(model).fit(X)
    np.testing.assert_array_equal(watched.sample(9, random_state=0), alone.sample(9, random_state=0))
    assert np.isfinite(recorder.scores).all()
    assert recorder.scores[-1] == watched.score(X)
    if not isinstance(model, CoupledVAE):
        assert recorder.scores[-2] == pytest.approx(watched.score(X), abs=0.2)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_a_callback_stops_the_fit(model, X):
    stopped = clone(model).set_callbacks(Quiet(stops_at="train")).fit(X)
    assert stopped.n_iter_ == 50
    assert np.isfinite(stopped.score(X))


def test_a_callback_stops_polishing(X):
    recorder = Quiet(stops_at="polish, stage 1")
    model = CoupledVAE(**POLISHED).set_callbacks(recorder).fit(X)
    assert recorder.ended.count("polish, stage 1") == 1
    assert "polish, stage 2" not in recorder.ended
    assert not model.converged_


def test_callbacks_through_a_grid_search_and_a_pipeline(X):
    recorder, grid = Quiet(), {"vae__beta": [0.5, 1.0]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search = GridSearchCV(make_pipeline(StandardScaler(), AUTOENCODERS[0]), grid, cv=2).set_callbacks(recorder).fit(X)
    assert not [w for w in caught if "VAE does not support callbacks" in str(w.message)]
    assert np.isfinite(search.best_score_)
    assert recorder.ended[-1] == "teardown"


def test_callbacks_within_a_grid_search(X):
    recorder = Quiet()
    GridSearchCV(clone(AUTOENCODERS[0]), {"beta": [0.5, 1.0]}, cv=2).set_callbacks(recorder).fit(X)
    assert recorder.ended.count("train") == 5 * 4


def test_a_failed_fit_tears_down_and_leaves_no_trace(X):
    recorder = Quiet()
    model = clone(AUTOENCODERS[0]).set_callbacks(recorder)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(np.full((5, 2), np.inf))
    assert recorder.ended == ["teardown"]
    assert not [name for name in vars(model) if "ctx" in name or "teardown" in name]


def test_a_saved_model_has_no_callbacks(X, tmp_path):
    model = clone(AUTOENCODERS[0]).set_callbacks(Quiet()).fit(X)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").transform(X), model.transform(X))
