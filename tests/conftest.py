"""Data and models that several tests share."""

import numpy as np
import pytest
import second_device as simulation
import torch

from skcvae import CoupledVAE

#: A fit of a fraction of a second: with noise of one scale, as that of tables takes four fits more, see test_noise.py.
QUICK = {"max_iter": 30, "hidden_layer_sizes": (16,), "random_state": 0, "pool_size": 1024, "likelihood": "gaussian"}


@pytest.fixture(scope="session")
def X():
    """Two clusters in four dimensions, 150 rows."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(150, 4)) + 3 * rng.integers(0, 2, size=(150, 1))


@pytest.fixture(scope="session")
def model(X):
    return CoupledVAE(**QUICK).fit(X)


@pytest.fixture
def second_device(monkeypatch):
    """A device that "cuda" and "auto" mean, on any machine; see the module of this name."""
    monkeypatch.setattr("skcvae._place.make_device", simulation.make_device)
    with simulation.simulated() as device:
        yield device


@pytest.fixture
def other_device(request):
    """The machine's GPU, where it has one; otherwise the simulated device."""
    return torch.device("cuda") if torch.cuda.is_available() else request.getfixturevalue("second_device")
