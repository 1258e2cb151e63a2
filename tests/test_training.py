"""The loop: when it stops, by itself and by Ctrl-C."""

import itertools

import numpy as np
import pytest
from conftest import QUICK
from sklearn.base import clone

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae._training import WINDOW, Plateau


def stops(losses, **params):
    """Number of windows after which a plateau is seen, or None; a window has one loss."""
    plateau = Plateau(**params)
    for n_windows, loss in enumerate(losses, 1):
        if [plateau.reached(loss) for _ in range(WINDOW)][-1]:
            return n_windows
    return None


@pytest.mark.parametrize("patience", [1, 3])
def test_a_plateau_is_seen_after_twice_the_patience(patience):
    assert stops(20 * [1.0], tol=0.01, patience=patience, relative=False) == 2 * patience


@pytest.mark.parametrize(("slope", "seen"), [(-0.2, None), (-0.05, 4), (0.2, 4)])
def test_a_loss_falls_by_the_tolerance_or_stops(slope, seen):
    """Averages over two windows, two windows apart: a fall of twice the slope, against 0.2; losses may be negative."""
    assert stops([slope * t - 1 for t in range(20)], tol=0.2, patience=2, relative=False) == seen


def test_a_relative_tolerance_is_a_share():
    assert stops([0.8**t for t in range(20)], tol=0.3, patience=2) is None
    assert stops([0.9**t for t in range(20)], tol=0.3, patience=2) == 4


def test_a_plateau_after_a_fall_is_seen():
    assert stops([*range(10, 0, -1), *(20 * [1.0])], tol=0.01, patience=2, relative=False) == 13


@pytest.mark.parametrize(
    "model", [CoupledVAE(**QUICK), VAE(**QUICK), WAE(**QUICK), InfoVAE(**QUICK)], ids=lambda m: type(m).__name__
)
@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_fit_leaves_what_was_there(model, X, monkeypatch):
    before = model.fit(X).transform(X)
    steps = itertools.count()

    def descend(optimiser, loss):
        if next(steps) % 6 == 5:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr("skcvae._training.descend", descend)
    with pytest.raises(KeyboardInterrupt):
        model.fit(2 * X[:50])
    np.testing.assert_array_equal(model.transform(X), before)
    unfitted = clone(model)
    with pytest.raises(KeyboardInterrupt):
        unfitted.fit(X)
    assert vars(unfitted) == vars(clone(model))
