"""Sizes that people have: many components, images, large pools, arrays that are read from files."""

import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skcvae import VAE, WAE, CoupledVAE
from skcvae._place import HOST, Place, moved
from skcvae.likelihoods._gaussian import FixedGaussian
from skcvae.posteriors import Pool, PoolInference
from skcvae.posteriors._inference import weighted_moments
from skcvae.priors import PRIORS
from skcvae.schedule import Schedule

pytestmark = pytest.mark.filterwarnings("ignore")
IMAGES = {"hidden_layer_sizes": (16,), "max_iter": 3, "pool_size": 256, "random_state": 0}
SHORT = Schedule(polish_rounds=1, max_draws=512, solve_max_iter=3)
LAPLACE = "torch's Laplace"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((40, 784))


def prior_of(name, k):
    return torch.distributions.Laplace(torch.zeros(k), torch.ones(k)) if name == LAPLACE else PRIORS[name](k)


@pytest.mark.parametrize("k", [64, 128])
@pytest.mark.parametrize("name", [*PRIORS, LAPLACE])
def test_images_with_many_components(name, k, images):
    """The decoder has an input for every dimension of the support, and all answers are finite."""
    for model in (CoupledVAE(schedule=SHORT, draws_per_step=32, **IMAGES), WAE(batch_size=32, **IMAGES)):
        fitted = model.set_params(prior=prior_of(name, k)).fit(images)
        width = fitted.module_.inputs(torch.zeros(1, k)).shape[1]
        assert width == k - (name in ("dirichlet", "categorical"))
        assert fitted.transform(images[:3]).shape == (3, k)
        assert np.isfinite(fitted.score_samples(images[:3])).all()
        assert np.isfinite(fitted.sample(2, random_state=0)).all()
        assert fitted.posterior(images[:2]).covariance.shape == (2, k, k)


def test_weighted_images_with_many_components(images):
    """A fit is that of the repeated images, as far as single precision goes."""
    counts = np.random.default_rng(1).integers(0, 4, 40)
    for model in (CoupledVAE(64, schedule=SHORT, draws_per_step=32, **IMAGES), WAE(64, batch_size=32, **IMAGES)):
        weighted = clone(model).fit(images, sample_weight=counts)
        repeated = clone(model).fit(images.repeat(counts, axis=0))
        fitted = images[counts > 0]
        np.testing.assert_allclose(weighted.score_samples(fitted), repeated.score_samples(fitted), rtol=5e-3)


@pytest.mark.parametrize("k", [64, 128])
def test_the_laplace_approximation_of_images(k, images):
    model = CoupledVAE(k, proposal="encoder", schedule=SHORT, draws_per_step=32, **IMAGES).fit(images)
    score, error = model.score_samples(images[:3], return_std=True)
    assert np.isfinite(score).all()
    assert np.isfinite(error).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_covariances_of_draws_far_from_zero(dtype):
    """131072 draws of 16 components about 100.5, against numpy's two passes; in single precision the squares alone say nothing."""
    rng = np.random.default_rng(0)
    draws, logits = 100 + rng.random((131072, 16)), rng.normal(size=(3, 131072))
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mean, covariance = weighted_moments(torch.as_tensor(weights).to(dtype), torch.as_tensor(draws).to(dtype))
    for row in range(3):
        expected = np.cov(draws.T, aweights=weights[row], bias=True)
        np.testing.assert_allclose(covariance[row], expected, atol=2e-5 if dtype == torch.float32 else 1e-12)
        np.testing.assert_allclose(mean[row], weights[row] @ draws, rtol=1e-6)


def large_inference(place):
    """A pool of 16384 draws of 784 features, whose keys are in single precision."""
    generator = torch.Generator().manual_seed(0)
    key = torch.randn(16384, 784, generator=generator)
    family = FixedGaussian(np.zeros(784), 1.0, torch.full((1,), 2.0, dtype=torch.float64))
    draws = torch.randn(16384, 8, generator=generator).double()
    logs = [torch.randn(16384, generator=generator).double() for _ in range(3)]
    return moved(PoolInference(Pool(draws, key, *logs), family, 1.5), place), key, draws, logs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_either_precision_against_a_large_pool(dtype):
    """Against the formulae in double precision, written out."""
    inference, key, draws, logs = large_inference(Place(dtype))
    assert inference.pool.key.dtype == torch.float32
    x = torch.randn(5, 784, generator=torch.Generator().manual_seed(1)).double()
    scores = x @ key.double().T / 1.5
    coupling, density = torch.softmax(scores + logs[0], 1), torch.logsumexp(scores + logs[1], 1)
    tol = {"rtol": 1e-3, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    with torch.no_grad():
        np.testing.assert_allclose(inference.mean(x.to(dtype)), coupling @ draws, **tol)
        carrier = inference.mixture.family.carrier(x.to(dtype)).double()
        np.testing.assert_allclose(inference.density().log_density(x.to(dtype))[0] + carrier, density, **tol)
        np.testing.assert_allclose(inference.reconstruction(x.to(dtype)), coupling @ (4 * key.double()), **tol)
        np.testing.assert_allclose(inference.effective_size(x.to(dtype)), 1 / coupling.square().sum(1), rtol=tol["rtol"])


def test_a_fitted_model_is_its_pool(images, tmp_path):
    """The file has the pool's keys once, and they stay in single precision."""
    model = CoupledVAE(
        schedule=Schedule(polish_rounds=1, max_draws=4096, solve_max_iter=2), **{**IMAGES, "pool_size": 4096, "draws_per_step": 32}
    ).fit(images)
    model.transform(images)
    model.save(tmp_path / "model")
    keys = model._fitted.pool.key.numel() * 4
    assert keys == 4096 * 784 * 4
    assert (tmp_path / "model").stat().st_size < keys + 4 * 2**20 + 6e5
    assert "planes" not in vars(model)
    assert model._fitted.at(HOST).inference.pool.key.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("estimator", [CoupledVAE, VAE])
def test_an_array_on_disk_is_not_copied_whole(estimator, dtype, order, tmp_path, monkeypatch):
    """Neither when it is fitted nor when it is asked about: blocks of it are converted."""
    monkeypatch.setattr("skcvae._memory.ROWS_AT_ONCE", 500)
    monkeypatch.setattr("skcvae._data.MOST_HELD", 10)
    monkeypatch.setattr("skcvae._data.MOST_ASKED", 500)
    monkeypatch.setattr("skcvae._phases._problem.N_JUDGES", 500)
    monkeypatch.setattr("skcvae._amortise.PRIOR_DRAWS", 500)
    rows = np.memmap(tmp_path / "rows", dtype, "w+", shape=(20000, 400), order=order)
    rows[:] = np.random.default_rng(0).integers(0, 255, size=rows.shape)
    short = Schedule(polish_rounds=1, max_draws=64, solve_max_iter=2, max_rows=200)
    params = {"schedule": short, "draws_per_step": 64} if estimator is CoupledVAE else {"batch_size": 64}
    model = estimator(hidden_layer_sizes=(4,), max_iter=2, pool_size=64, random_state=0, **params)
    model.fit(rows[:200]).score(rows[:200])  # imports what it needs
    tracemalloc.start()
    model.fit(rows).transform(rows)
    model.score(rows[:2000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7e6  # of blocks of 500 rows; all of them are 8e6 as bytes and 32e6 in single precision
