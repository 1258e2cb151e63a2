"""The loop: when it stops, by itself and by Ctrl-C."""

import itertools

import numpy as np
import pytest
from conftest import QUICK
from sklearn.base import clone

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae._training import WINDOW, Plateau
from skcvae.schedule import Schedule


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

    def descend(*_):
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


OVERFITTING = {"likelihood": "gaussian", "hidden_layer_sizes": (128, 128), "random_state": 0, "pool_size": 1024}
AUTOENCODERS = [VAE, WAE, InfoVAE]


@pytest.fixture(scope="module")
def few():
    """Thirty rows to fit, with noise in eight features, and two hundred of the same kind to look at."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(230, 2)) @ rng.normal(size=(2, 8)) + 0.5 * rng.normal(size=(230, 8))
    return rows[:30], rows[30:]


@pytest.mark.parametrize("model", AUTOENCODERS)
@pytest.mark.filterwarnings("ignore")
def test_validation_rows_stop_an_autoencoder_and_choose_its_weights(model, few):
    """The network fits thirty rows ever better; what it then says of others gets worse."""
    X, X_val = few
    params = {**OVERFITTING, "max_iter": 1500, "learning_rate_init": 3e-3, "n_iter_no_change": 5}
    whole, stopped = model(**{**params, "tol": 0.0, "n_iter_no_change": 10**6}).fit(X), model(**params).fit(X, X_val=X_val)
    assert whole.validation_scores_ is None
    assert stopped.converged_
    assert len(stopped.validation_scores_) == stopped.n_iter_ // WINDOW < 1500 // WINDOW
    best = int(np.argmax(stopped.validation_scores_))
    assert best < len(stopped.validation_scores_) - 5
    assert stopped.score(X_val) > whole.score(X_val) + 0.1
    again = model(**{**params, "n_iter_no_change": 10**6, "max_iter": 1500}).fit(X, X_val=X_val)
    before = 2 * stopped.n_iter_ // 3 // WINDOW  # then the learning rate began to fall
    assert again.validation_scores_[:before] == stopped.validation_scores_[:before]


@pytest.mark.filterwarnings("ignore")
def test_validation_rows_choose_the_round_of_polishing(few):
    X, X_val = few
    params = {**OVERFITTING, "max_iter": 200, "schedule": Schedule(polish_rounds=12, max_draws=4096)}
    whole, chosen = CoupledVAE(**params).fit(X), CoupledVAE(**params).fit(X, X_val=X_val)
    assert whole.validation_scores_ is None
    assert len(chosen.validation_scores_) <= 12
    assert chosen.score(X_val) > whole.score(X_val)
    assert chosen.score(X_val) == pytest.approx(max(chosen.validation_scores_), abs=0.1)


@pytest.mark.filterwarnings("ignore")
def test_validation_scores_weigh_atoms(X):
    """Over atoms of unequal weight nothing is drawn: the score of the best round is the model's own."""
    model = CoupledVAE(3, prior=(np.eye(3), [0.7, 0.2, 0.1]), max_iter=50, random_state=0).fit(X[::2], X_val=X[1::2])
    assert model.score(X[1::2]) == pytest.approx(max(model.validation_scores_), rel=1e-5)


@pytest.mark.parametrize("model", [CoupledVAE, *AUTOENCODERS])
def test_validation_rows_are_checked(model, X):
    with pytest.raises(ValueError, match="3 features"):
        model(**QUICK).fit(X, X_val=X[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        model(**QUICK).fit(X, X_val=np.full((2, 4), np.nan))


@pytest.mark.parametrize("model", [CoupledVAE, *AUTOENCODERS])
def test_validation_rows_are_in_the_support(model, X):
    with pytest.raises(ValueError, match="BernoulliLikelihood expects values in"):
        model(**{**QUICK, "likelihood": "bernoulli"}).fit(X > 1, X_val=X)
