"""`max_time` ends every phase of a fit, and one bar shows all of it."""

import functools
import re

import numpy as np
import pytest
from conftest import QUICK

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _training

MODELS = [CoupledVAE, VAE, WAE, InfoVAE]


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 5)) + 3 * rng.integers(2, size=(300, 1))


class Clock:
    """A clock that moves by one second whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("seconds", [1.0, 7.0, 60.0, 250.0, 700.0])
@pytest.mark.parametrize("kind", [*MODELS, functools.partial(CoupledVAE, 5)])
def test_a_fit_ends_with_the_best_so_far_when_its_time_is_over(kind, seconds, X, monkeypatch):
    """Whatever phase it is over in: the model answers, is not called converged, and no loop makes a further step."""
    clock, steps, adam = Clock(), [], _training.descend
    monkeypatch.setattr(_training.time, "monotonic", clock)
    monkeypatch.setattr(_training, "descend", lambda *a: (steps.append(clock.now), adam(*a))[1])
    model = kind(max_time=seconds, random_state=0, hidden_layer_sizes=(8,)).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.sample(10, random_state=0)).all()
    late = sum(moment > 1.0 + seconds for moment in steps)
    assert late <= 2  # a stage that has begun makes one step
    if not model.converged_:
        assert len(steps) <= seconds + 2


def test_without_a_limit_the_clock_says_nothing(X, monkeypatch):
    plain = CoupledVAE(**QUICK).fit(X).sample(5, random_state=0)
    monkeypatch.setattr(_training.time, "monotonic", Clock())
    np.testing.assert_array_equal(CoupledVAE(**QUICK, max_time=1e9).fit(X).sample(5, random_state=0), plain)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("seconds", [0, -1.0, "a minute", np.nan])
def test_a_limit_is_a_positive_number(kind, seconds, X):
    with pytest.raises((TypeError, ValueError), match="max_time"):
        kind(max_time=seconds).fit(X)


@pytest.mark.parametrize("kind", MODELS)
def test_a_verbose_fit_has_one_bar_with_stage_and_value(kind, X, capsys, monkeypatch):
    """Its lines are drawn over each other: one newline, at the end."""
    import tqdm.auto

    made, bar = [], tqdm.auto.tqdm
    monkeypatch.setattr(tqdm.auto, "tqdm", lambda **options: made.append(bar(**{**options, "mininterval": 0})) or made[-1])
    kind(verbose=True, **QUICK).fit(X)
    shown = capsys.readouterr().err
    assert len(made) == 1
    assert shown.count("\n") == 1
    assert "train: " in shown
    assert re.search(r"value -?\d", shown)
    if kind is CoupledVAE:
        assert re.search(r"layout 2 of 2.*polish, stage 1, round 1 of at most \d+.*freeze, \d+ draws", shown, re.DOTALL)


def interrupted(*_):
    raise KeyboardInterrupt


def test_the_bar_is_closed_when_a_fit_is_interrupted(X, capsys, monkeypatch):
    monkeypatch.setattr(_training, "descend", interrupted)
    with pytest.raises(KeyboardInterrupt) as held:  # with the frames of the fit, so that no collection closes the bar
        CoupledVAE(verbose=True, **QUICK).fit(X)
    assert capsys.readouterr().err.endswith("\n")
    assert held.tb is not None


def test_a_silent_fit_writes_nothing(X, capsys):
    for kind in MODELS:
        kind(**QUICK).fit(X)
    assert capsys.readouterr() == ("", "")
