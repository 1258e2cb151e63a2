"""Bad input: it works, or a ValueError or TypeError says what was expected, what came and what to do."""

import numpy as np
import pytest
import torch
from conftest import QUICK

from skcvae import CoupledVAE, _phases
from skcvae._training import Diverged
from skcvae.priors import GaussianPrior
from skcvae.transport import SemiDualNetwork


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda X: np.where(np.arange(X.size).reshape(X.shape) == 5, np.nan, X), "NaN"),
        (lambda X: np.where(np.arange(X.size).reshape(X.shape) == 5, np.inf, X), "infinity"),
        (lambda X: X[:1], "minimum of 2 is required"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X[:, 0], "Expected 2D array"),
        (lambda X: X[:, :0], "0 feature"),
        (lambda X: np.ones_like(X), "zero variance"),
        (lambda X: 1e9 + np.zeros_like(X), "zero variance"),
        (lambda X: 1e200 * X, "Rescale"),
        (lambda X: X.astype(complex), "Complex"),
        (lambda X: X.astype(str).astype(object) + "a", "could not convert"),
    ],
)
def test_bad_data(X, bad, message):
    with pytest.raises((ValueError, TypeError), match=message):
        CoupledVAE(**QUICK).fit(bad(X))


@pytest.mark.parametrize(
    ("parameter", "value", "error", "message"),
    [
        ("n_components", 0, ValueError, "n_components must be an integer of at least 1"),
        ("n_components", 2.0, TypeError, "n_components must be an integer"),
        ("epsilon", 0.0, ValueError, "epsilon must be a finite number above 0"),
        ("epsilon", "1", TypeError, "epsilon"),
        ("epsilon", np.nan, ValueError, "epsilon"),
        ("batch_size", -1, ValueError, "batch_size"),
        ("max_iter", 0, ValueError, "max_iter"),
        ("max_iter", True, TypeError, "max_iter"),
        ("pool_size", 0, ValueError, "pool_size"),
        ("learning_rate_init", -1e-3, ValueError, "learning_rate_init"),
        ("tol", -1.0, ValueError, "tol"),
        ("n_iter_no_change", 0, ValueError, "n_iter_no_change"),
        ("prior", "gauss", ValueError, "prior must be one of 'gaussian'"),
        ("prior", [[0.0, 1.0]], ValueError, "at least two"),
        ("prior", ([[0.0, 1.0], [1.0, 0.0]], [0.5, 0.6]), ValueError, "sum to 1, got a sum of 1.1. Divide"),
        ("prior", ([[0.0, 1.0], [1.0, 0.0]], [1.5, -0.5]), ValueError, "not negative"),
        ("prior", ([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [0.5, 0.5]), ValueError, "3 atoms and 2 probs"),
        ("prior", ([[0.0, 1.0], [0.0, 1.0]], [0.5, 0.5]), ValueError, "differ from each other"),
        ("prior", lambda n, seed: np.zeros(n), ValueError, r"shape \(16, 2\), \(n_samples, n_components\), got \(16,\)"),
        ("prior", lambda n, seed: np.full((n, 2), np.nan), ValueError, "NaN or infinity"),
        ("prior", lambda n, seed: np.zeros((n, 2), dtype=complex), TypeError, "real numbers, got dtype complex"),
        ("prior", torch.distributions.Normal(torch.zeros(3, 2), 1.0), ValueError, "must be vectors"),
        ("prior", torch.distributions.Normal(torch.zeros(3), 1.0), ValueError, "3 components and n_components is 2"),
        ("varsigma", -1.0, ValueError, "varsigma must be a number of at least 0, got -1.0"),
        ("varsigma", np.nan, ValueError, "varsigma must be a number"),
        ("strategy", "both", ValueError, "strategy must be one of 'dual', 'primal'"),
        ("potential", "scalar", ValueError, "potential must be one of 'vector', 'network'"),
        ("formulation", SemiDualNetwork(), ValueError, "has a network potential and potential is 'vector'. Make them agree"),
        ("prior", 3, TypeError, "prior must be one of"),
        ("prior", GaussianPrior(5), ValueError, "Make them equal"),
        ("likelihood", "normal", ValueError, "likelihood must be one of 'gaussian', 'bernoulli'"),
        ("likelihood", "bernoulli", ValueError, r"expects values in \[0, 1\]"),
        ("formulation", "primal", ValueError, "formulation must be one of 'semi-dual', 'dual'"),
        ("activation", "logistic", ValueError, "activation must be one of 'relu'"),
        ("hidden_layer_sizes", (0,), ValueError, "hidden_layer_sizes"),
        ("hidden_layer_sizes", "big", TypeError, "hidden_layer_sizes"),
        ("random_state", "seed", ValueError, "random_state must be None"),
        ("random_state", -1, ValueError, "random_state must be None"),
        ("device", "abacus", ValueError, "device must be 'auto'"),
    ],
)
def test_bad_parameters(X, parameter, value, error, message):
    with pytest.raises(error, match=message):
        CoupledVAE(**{**QUICK, parameter: value}).fit(X)


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


def test_bad_arguments_of_methods(model, X):
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.transform(X[:, :3])
    with pytest.raises(ValueError, match="n_components=2 columns, got 3"):
        model.inverse_transform(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 1"):
        model.sample(0)
    with pytest.raises(TypeError, match="n_samples"):
        model.sample_posterior(X, 1.5)
    with pytest.raises(ValueError, match="noise must be one of 'matched', 'model', 'mean'"):
        model.sample(noise="none")


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
