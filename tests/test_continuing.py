"""`warm_start` and `partial_fit`: what goes on from the last fit, and what does not."""

import pickle

import numpy as np
import pytest
import torch
from conftest import QUICK
from sklearn.datasets import make_moons

import skcvae
from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _amortise
from skcvae.divergences import Adversarial
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP
from skcvae.schedule import Schedule

SHORT = {"schedule": Schedule(polish_rounds=2, max_draws=4096)}
MODELS = {
    "CoupledVAE": CoupledVAE(**QUICK, **SHORT),
    "VAE": VAE(**QUICK),
    "VAE, learned scale": VAE(**{**QUICK, "likelihood": GaussianLikelihood(scale="learned")}),
    "VAE, normalised": VAE(**{**QUICK, "network": MLP((16,), batch_norm=True)}),
    "WAE": WAE(**QUICK),
    "InfoVAE": InfoVAE(**QUICK),
}
AMORTISED = {name: model for name, model in MODELS.items() if name != "CoupledVAE"}


def copy_of(model, **params):
    return pickle.loads(pickle.dumps(model)).set_params(**params)


def weights(model):
    return torch.cat([p.flatten() for p in model.module_.parameters()])


@pytest.mark.parametrize("name", MODELS)
def test_a_warm_fit_starts_from_the_last_weights(X, name):
    """With steps too small to move them they stay; a cold fit would start anew."""
    model = copy_of(MODELS[name]).fit(X)
    warm = copy_of(model, warm_start=True, learning_rate_init=1e-12, random_state=1).fit(X)
    cold = copy_of(model, learning_rate_init=1e-12, random_state=1).fit(X)
    torch.testing.assert_close(weights(warm), weights(model), atol=1e-6, rtol=0)
    assert not torch.allclose(weights(cold), weights(model), atol=1e-2)


@pytest.mark.parametrize("name", ["CoupledVAE", "VAE", "WAE"])
def test_warm_fits_get_better(X, name):
    model = copy_of(MODELS[name], warm_start=True, max_iter=100)
    scores = [model.fit(X).score(X) for _ in range(4)]
    assert scores[-1] > scores[0] + 0.02


@pytest.mark.parametrize("name", MODELS)
def test_a_warm_fit_keeps_units(X, name):
    """Rows elsewhere are scored in the units of the first fit, of which the decoder is a function."""
    model = copy_of(MODELS[name], warm_start=True).fit(X)
    offset, unit = model.likelihood_.offset, model.likelihood_.unit
    model.fit(X + 1)
    np.testing.assert_array_equal(model.likelihood_.offset, offset)
    assert model.likelihood_.unit == unit


@pytest.mark.parametrize("name", ["CoupledVAE", "VAE"])
@pytest.mark.parametrize("change", [{"hidden_layer_sizes": (8,)}, {"n_components": 1}, {"likelihood": "bernoulli"}], ids=str)
def test_a_warm_fit_that_does_not_match_says_so_and_loses_nothing(X, name, change):
    model = copy_of(MODELS[name], warm_start=True).fit(X)
    before = model.score(X)
    with pytest.raises(ValueError, match=r"goes on from the weights of the last one.*warm_start=False"):
        model.set_params(**change).fit(X)
    assert model.score(X) == before
    with pytest.raises(ValueError, match="X has 3 features and the likelihood is GaussianLikelihood, and had 4"):
        copy_of(MODELS[name], warm_start=True).fit(X).fit(X[:, :3])


def test_a_warm_coupled_fit_may_have_another_epsilon(X):
    model = copy_of(MODELS["CoupledVAE"], warm_start=True).fit(X)
    model.set_params(epsilon=2.0).fit(X)
    assert model.coupling_.epsilon == 2.0
    assert model.n_iter_ == len(model.loss_curve_) == QUICK["max_iter"]
    assert model.coupling_.converged


@pytest.mark.parametrize("name", AMORTISED)
def test_parts_are_one_pass_each(X, name):
    """Steps are counted on; whole minibatches where there are enough rows, one smaller otherwise."""
    model = copy_of(AMORTISED[name], batch_size=40)
    assert model.partial_fit(X).n_iter_ == 3
    assert model.partial_fit(X[:100]).n_iter_ == 5
    assert model.partial_fit(X[:10]).n_iter_ == 6 == len(model.loss_curve_)
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize("name", AMORTISED)
def test_many_parts_are_as_good_as_a_fit(name):
    """On two moons, of which the start along straight axes knows nothing."""
    X = 2 * make_moons(200, noise=0.05, random_state=0)[0]
    parts = copy_of(AMORTISED[name], batch_size=50, learning_rate_init=1e-2)
    first = parts.partial_fit(X).score(X)
    for _ in range(99):
        parts.partial_fit(X)
    assert parts.n_iter_ == 400
    whole = copy_of(parts).set_params(max_iter=400).fit(X)
    assert parts.score(X) > max(whole.score(X) - 0.02, first + 0.01)


def test_every_part_has_its_own_noise(X, monkeypatch):
    """Also where the random state is a number: two parts of one step each draw differently."""
    seen, randn = [], torch.randn
    monkeypatch.setattr(_amortise.torch, "randn", lambda *args, **kw: (seen.append(randn(*args, **kw)), seen[-1])[1])
    model = VAE(**QUICK)
    for _ in range(2):
        model.partial_fit(X)
    assert not torch.equal(seen[0], seen[1])


def test_parts_are_reproducible(X):
    scores = []
    for _ in range(2):
        model = VAE(**QUICK).partial_fit(X[:100])
        scores.append(model.partial_fit(X[50:]).score(X))
    assert scores[0] == scores[1]


def test_the_optimiser_and_the_critic_go_on(X):
    model = WAE(divergence=Adversarial((8,)), **QUICK).partial_fit(X)
    first = model._streaming
    model.partial_fit(X)
    second = model._streaming
    assert float(next(iter(second.optimiser["state"].values()))["step"]) == 2
    assert float(next(iter(second.penalty["optimiser"]["state"].values()))["step"]) == 2
    moved = [not torch.equal(value, second.penalty["measure"][name]) for name, value in first.penalty["measure"].items()]
    assert any(moved)


def test_a_fit_forgets_the_parts(X):
    model = VAE(**QUICK)
    expected = VAE(**QUICK).fit(X).score(X)
    assert model.partial_fit(X).fit(X).score(X) == expected
    assert model.n_iter_ == QUICK["max_iter"]


def test_a_model_of_parts_is_saved_without_its_optimiser(X, tmp_path):
    model = WAE(**QUICK).partial_fit(X)
    model.save(tmp_path / "model")
    same = skcvae.load(tmp_path / "model")
    np.testing.assert_array_equal(same.transform(X), model.transform(X))
    assert same.partial_fit(X).n_iter_ == 2


def test_a_part_that_fails_changes_nothing(X):
    model = VAE(**QUICK).partial_fit(X)
    before = model.score(X)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :2])
    with pytest.raises(FloatingPointError, match="diverged"):
        model.set_params(learning_rate_init=1e30).partial_fit(np.repeat(X, 20, 0))
    assert model.score(X) == before
    with pytest.raises(ValueError, match="zero variance"):
        VAE(**QUICK).partial_fit(np.ones((10, 2)))


@pytest.mark.parametrize("name", AMORTISED)
@pytest.mark.parametrize("network", ["mlp", MLP((8,), batch_norm=True)], ids=["mlp", "batch normalisation"])
def test_a_part_has_two_rows(X, name, network):
    """Neither a divergence between samples nor batch normalisation can do with one."""
    model = copy_of(AMORTISED[name], network=network).partial_fit(X)
    with pytest.raises(ValueError, match=r"1 sample.*a minimum of 2 is required"):
        model.partial_fit(X[:1])
    assert model.partial_fit(X[:2]).n_iter_ == 2


def test_a_coupled_model_has_no_parts():
    """Its potential belongs to rows, all of which it weighs."""
    assert not hasattr(CoupledVAE(), "partial_fit")
