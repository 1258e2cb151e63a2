"""Modes, precisions, generators, threads and processes of the caller change no result and are left as they were found."""

import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import QUICK
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae._place import equal
from skcvae.transport import SemiDual

FAST = {**QUICK, "max_iter": 20, "pool_size": 256}
SOLVER = SemiDual(polish_rounds=1, max_draws=1024)


def sampler(n_samples, seed):
    """A prior of the user's, which draws from torch's global generator."""
    return torch.randn(n_samples, 2)


class Filling(nn.Module):
    """A decoder that fills a buffer and branches on its data, which functional transforms cannot trace."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 4)
        self.register_buffer("last", torch.zeros(4))

    def forward(self, z):
        output = self.linear(z)
        self.last.copy_(output.detach().mean(0))
        return output if float(output.detach().sum()) > -1e9 else 2 * output


MODELS = {
    "CoupledVAE": CoupledVAE(**FAST, formulation=SOLVER),
    "CoupledVAE, encoder": CoupledVAE(proposal="encoder", **FAST, formulation=SOLVER),
    "CoupledVAE, sampler": CoupledVAE(prior=sampler, **FAST, formulation=SOLVER),
    "VAE": VAE(**FAST),
    "VAE, planar": VAE(posterior="planar", **FAST),
    "WAE": WAE(**FAST),
    "WAE, sampler": WAE(prior=sampler, **FAST),
    "InfoVAE": InfoVAE(alpha=1.0, divergence="sliced", **FAST),
    "WAE, filling": WAE(network=(nn.Linear(4, 2), Filling()), **FAST),
}


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(60, 4)) @ np.diag([2.0, 1.0, 0.5, 0.5])


@pytest.fixture(scope="module")
def fitted(X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: clone(model).fit(X) for name, model in MODELS.items()}


def answers(model, X):
    return [
        model.transform(X),
        model.score_samples(X),
        model.sample(7, random_state=0),
        model.sample_posterior(X, 3, random_state=0),
    ]


def globals_now():
    return torch.get_rng_state(), np.random.get_state()[1], torch.get_num_threads(), torch.is_grad_enabled()  # noqa: NPY002


def assert_as_found(before):
    after = globals_now()
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


@pytest.mark.filterwarnings("ignore")
def test_threads_infer_from_one_model_and_fit_others(X, fitted):
    """All at once, two threads each; every answer is that of one thread alone."""
    before, expected = globals_now(), {name: answers(model, X) for name, model in fitted.items()}
    barrier = threading.Barrier(2)

    def work(number):
        barrier.wait(60)
        names = list(MODELS) if number == 0 else list(MODELS)[::-1]
        for name in names:
            for found, alone in zip(answers(fitted[name], X), expected[name], strict=True):
                np.testing.assert_array_equal(found, alone)
            assert equal(clone(MODELS[name]).fit(X)._fitted, fitted[name]._fitted), name
        return True

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(work, range(2)))
    assert_as_found(before)


@pytest.mark.filterwarnings("ignore")
def test_a_grid_search_in_threads(X):
    from joblib import parallel_config

    with parallel_config("threading", n_jobs=2):
        search = GridSearchCV(WAE(**FAST), {"n_components": [1, 2]}, cv=2, n_jobs=2).fit(X)
    alone = GridSearchCV(WAE(**FAST), {"n_components": [1, 2]}, cv=2).fit(X)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
@pytest.mark.parametrize("name", MODELS)
def test_modes_of_the_caller_change_nothing(X, fitted, name, mode):
    with mode():
        model = clone(MODELS[name]).fit(X)
        found = answers(model, X)
    assert equal(model._fitted, fitted[name]._fitted)
    for inside, outside in zip(found, answers(fitted[name], X), strict=True):
        np.testing.assert_array_equal(inside, outside)
    if hasattr(model, "partial_fit"):
        with mode():
            model.partial_fit(X)
        assert equal(model._fitted, clone(MODELS[name]).fit(X).partial_fit(X)._fitted)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in MODELS if "sampler" not in name])
def test_the_default_precision_changes_nothing(X, fitted, name):
    torch.set_default_dtype(torch.float64)
    try:
        model = clone(MODELS[name]).fit(X)
        found = answers(model, X)
    finally:
        torch.set_default_dtype(torch.float32)
    if "filling" not in name:  # whose own layers the user has made in single precision
        assert equal(model._fitted, fitted[name]._fitted)
    for inside, outside in zip(found, answers(fitted[name], X), strict=True):
        np.testing.assert_allclose(inside, outside, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_global_generators_are_as_found(X, name):
    before = globals_now()
    model = clone(MODELS[name]).fit(X)
    answers(model, X)
    assert_as_found(before)


def test_a_decoder_that_cannot_be_differentiated_is_refused_before_training(X, monkeypatch):
    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 4)

        def forward(self, z):
            return self.linear(Rounded.apply(z))

    monkeypatch.setattr("skcvae._training.adam", lambda *args: pytest.fail("the training has begun"))
    with pytest.raises(ValueError, match=r"The decoder must be a module that torch can differentiate.*backward"):
        WAE(network=(nn.Linear(4, 2), Decoder()), **FAST).fit(X)
    with pytest.raises(ValueError, match=r"The decoder must be a module that torch can differentiate.*backward"):
        CoupledVAE(network=(None, Decoder()), proposal="encoder", **FAST).fit(X)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
def test_a_forked_child_answers(X, fitted):
    """Also where torch has threads of its own, which stay behind in the parent."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(400, 400) @ torch.ones(400, 400)  # starts them
    large = np.repeat(X, 50, 0)
    expected = [model.transform(large) for model in fitted.values()]
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            found = [model.transform(large) for model in fitted.values()]
            status = int(not all(np.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True)))
        finally:
            os._exit(status)
    torch.set_num_threads(before)
    deadline = time.monotonic() + 120
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def test_no_warning_of_torch_s_own_is_seen(X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="sklearn")
        for name in ("VAE", "WAE"):
            model = clone(MODELS[name]).set_params(pool_size=4096).fit(X)
            model.transform(X)
            model.sample(3)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_read_while_it_is_fitted_again_is_whole(X, fitted):
    """What is read is the old model or the new one, and no mixture of both."""
    model = clone(MODELS["VAE"]).fit(X)
    old = model.transform(X)
    done = threading.Event()

    def refit():
        model.set_params(max_iter=200).fit(X + 1.0)
        done.set()

    thread = threading.Thread(target=refit)
    thread.start()
    seen = [model.transform(X)]
    while not done.is_set():
        seen.append(model.transform(X))
    thread.join()
    new = model.transform(X)
    assert all(np.array_equal(found, old) or np.array_equal(found, new) for found in seen)
