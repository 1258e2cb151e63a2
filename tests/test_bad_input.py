"""Unusual input works, and what fails loses nothing; the messages are in `test_errors`."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import QUICK
from sklearn.exceptions import NotFittedError

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _phases
from skcvae import _memory as check
from skcvae._training import Diverged

ESTIMATORS = [CoupledVAE, VAE, WAE, InfoVAE]
ROWWISE = ("transform", "reconstruct", "posterior", "sample_posterior", "score_samples", "score", "inverse_transform", "hole_score")


@pytest.mark.parametrize(
    "change",
    [
        lambda X: 1e-8 * X,
        lambda X: 1e8 * X,
        lambda X: X + 1e6,
        lambda X: np.hstack([X, np.full((len(X), 1), 7.0)]),
        lambda X: X[:, :1],
        lambda X: X[:2],
        lambda X: np.round(X).astype(int),
        lambda X: X > 0,
        lambda X: X.astype(np.float32),
        lambda X: np.asfortranarray(X),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X[:, ::-1],
        lambda X: X.tolist(),
    ],
)
def test_unusual_data_works(X, change):
    data = change(X)
    model = CoupledVAE(**QUICK).fit(data)
    size = np.abs(np.asarray(data, dtype=float)).max()
    for result in (model.transform(data), model.reconstruct(data) / size, model.sample(9) / size, model.score_samples(data)):
        assert np.isfinite(result).all()
    assert np.abs(model.reconstruct(data) / size).max() < 10


def test_read_only_data_is_left_alone(X):
    data = X.copy()
    data.flags.writeable = False
    model = CoupledVAE(**QUICK).fit(data)
    model.transform(data)
    model.inverse_transform(np.broadcast_to(np.zeros(2), (3, 2)))
    np.testing.assert_array_equal(data, X)


def test_divergence_is_reported_and_the_earlier_fit_kept(X, monkeypatch):
    model = CoupledVAE(**QUICK).fit(X)
    before = model.transform(X)

    def diverge(*_):
        raise Diverged("the loss became nan")

    monkeypatch.setattr(_phases, "train", diverge)
    with pytest.raises(FloatingPointError, match=r"the loss became nan.* Lower learning_rate_init"):
        model.fit(X[:, :2])
    monkeypatch.undo()
    np.testing.assert_array_equal(model.transform(X), before)


def test_an_absurd_learning_rate_never_returns_nonsense(X):
    model = CoupledVAE(**{**QUICK, "learning_rate_init": 1e18})
    with pytest.raises(FloatingPointError, match="diverged"):
        model.fit(X)
    assert not hasattr(model, "coupling_")


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_every_method_asks_for_a_fit(X, kind):
    message = f"This {kind.__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before using this estimator."
    calls = {**dict.fromkeys(ROWWISE, X), "sample": 1, "save": "model", "get_feature_names_out": None}
    for name in filter(lambda name: hasattr(kind, name), calls):
        with pytest.raises(NotFittedError, match=f"^{re.escape(message)}$"):
            getattr(kind(), name)(calls[name])


def test_predict_says_what_it_needs(X, model):
    """The cause stands above scikit-learn's message, which has no remedy."""
    with pytest.raises(AttributeError) as caught:
        model.predict(X)
    expected = "predict needs a prior on atoms, got GaussianPrior(n_components=2, mean=None, covariance=None). Fit with "
    assert str(caught.value.__cause__) == expected + "prior='categorical', or atoms."


@pytest.mark.parametrize("text", ["CUDA out of memory. Tried to allocate 2.00 GiB.", "Unable to allocate 2.00 GiB for an array"])
def test_what_cannot_be_allocated_has_a_remedy(X, model, text, monkeypatch):
    def moments(*_):
        raise RuntimeError(text)

    monkeypatch.setattr(type(model._fitted.inference()), "moments", moments)
    with pytest.raises(MemoryError) as caught:
        model.posterior(X)
    remedy = "Give fewer rows at a time, or use transform, which gives means only."
    assert str(caught.value) == f"There is not enough memory: {text.rstrip('.')}. {remedy}"


def test_other_errors_of_torch_are_not_called_a_want_of_memory():
    with pytest.raises(RuntimeError, match=r"^CUDA error: an illegal memory access was encountered$"), check.enough_memory(""):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.fixture(scope="module", params=ESTIMATORS)
def fitted(request, X):
    return request.param(**QUICK).fit(X)


@pytest.mark.parametrize(
    ("spoil", "params", "error"),
    [
        (lambda X: np.where(X.max() - 1 < X, np.inf, X), {}, ValueError),
        (lambda X: pd.DataFrame(X).assign(colour="red"), {}, ValueError),
        (lambda X: X[:, :2], {"max_iter": 0}, ValueError),
        (lambda X: X[:, :2], {"n_components": 3, "hidden_layer_sizes": (10**6, 10**8)}, MemoryError),
        (lambda X: X[:, :2], {"learning_rate_init": 1e30}, FloatingPointError),
    ],
    ids=["infinity", "text", "no steps", "memory", "divergence"],
)
def test_a_failed_fit_leaves_the_earlier_one(X, fitted, spoil, params, error):
    earlier, kept = answers(fitted, X), {name: fitted.get_params()[name] for name in params}
    with pytest.raises(error):
        fitted.set_params(**params).fit(spoil(X))
    for now, before in zip(answers(fitted.set_params(**kept), X), earlier, strict=True):
        np.testing.assert_array_equal(now, before)


def answers(model, X):
    """What a fitted model answers."""
    rows = [model.transform(X), model.reconstruct(X), model.score_samples(X), model.inverse_transform(X[:, :2])]
    return [*rows, model.sample(9, random_state=0), model.sample_posterior(X, 3, random_state=0), model.loss_curve_]
