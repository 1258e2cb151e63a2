"""Modes, precisions, generators, threads and processes of the caller change no result and are left as they were found."""

import importlib.util
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from conftest import QUICK
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae._context import computing, float32_by_default, without_warnings
from skcvae._place import equal
from skcvae._random import seeded
from skcvae.networks import MLP, Conv
from skcvae.priors import PRIORS, SamplerPrior, TorchPrior
from skcvae.schedule import Schedule

FAST = {**QUICK, "max_iter": 20, "pool_size": 256}
SHORT = Schedule(polish_rounds=1, max_draws=1024)


def sampler(n_samples, seed):
    """A prior of the user's, which draws from the global generators of torch and numpy."""
    return torch.randn(n_samples, 2).numpy() + 0.1 * np.random.normal(size=(n_samples, 2))  # noqa: NPY002


def drawing(n_inputs, n_outputs):
    """A network whose layers draw from torch's global generator."""
    return nn.Sequential(nn.Linear(n_inputs, 8), nn.Dropout(0.5), nn.Linear(8, n_outputs))


def linear(n_inputs, n_outputs):
    """A layer whose weights are the same in every run of the tests."""
    with seeded(0):
        return nn.Linear(n_inputs, n_outputs)


class Filling(nn.Module):
    """A decoder that fills a buffer and branches on its data, which functional transforms cannot trace."""

    def __init__(self):
        super().__init__()
        self.linear = linear(2, 4)
        self.register_buffer("last", torch.zeros(4))

    def forward(self, z):
        output = self.linear(z)
        self.last.copy_(output.detach().mean(0))
        return output if float(output.detach().sum()) > -1e9 else 2 * output


MODELS = {
    "CoupledVAE": CoupledVAE(**FAST, schedule=SHORT),
    "CoupledVAE, encoder": CoupledVAE(proposal="encoder", **FAST, schedule=SHORT),
    "CoupledVAE, sampler": CoupledVAE(prior=sampler, **FAST, schedule=SHORT),
    "CoupledVAE, networks": CoupledVAE(solver="dual-network", prior="mixture", **FAST),
    "VAE": VAE(**FAST),
    "VAE, planar": VAE(encoder="planar", **FAST),
    "VAE, full": VAE(encoder="full", prior=torch.distributions.Laplace(torch.zeros(2), torch.ones(2)), **FAST),
    "VAE, layers that draw": VAE(network=(drawing, drawing), **FAST),
    "WAE": WAE(**FAST),
    "WAE, sampler": WAE(prior=sampler, **FAST),
    "WAE, adversarial": WAE(divergence="adversarial", network=MLP((16,), batch_norm=True), **FAST),
    "InfoVAE": InfoVAE(alpha=1.0, divergence="sliced", **FAST),
    "WAE, filling": WAE(network=(linear(4, 2), Filling()), **FAST),
}
if importlib.util.find_spec("zuko") is not None:
    MODELS["VAE, spline"] = VAE(encoder="spline", **FAST)


@contextmanager
def by_default(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def many_modes():
    """Inference mode, autocast and a default device that holds no numbers."""
    with ExitStack() as stack:
        for mode in (torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta")):
            stack.enter_context(mode)
        yield


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
    settings = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), warnings.filters[:]
    return torch.default_generator.get_state(), np.random.get_state()[1], settings  # noqa: NPY002


def assert_as_found(before):
    after = globals_now()
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]


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
@pytest.mark.parametrize("mode", [torch.no_grad, many_modes])
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
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_the_default_precision_changes_nothing(X, fitted, name, dtype):
    with by_default(dtype):
        model = clone(MODELS[name]).fit(X)
        found = answers(model, X)
    assert equal(model._fitted, fitted[name]._fitted)
    for inside, outside in zip(found, answers(fitted[name], X), strict=True):
        np.testing.assert_array_equal(inside, outside)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_default_precision_changes_no_prior(dtype):
    """Also a torch distribution that was made in it, which is then as exact as its numbers are."""
    for build in [*PRIORS.values(), lambda k: SamplerPrior(sampler, 2)]:
        expected = build(3).sample(20, np.random.default_rng(0))
        with by_default(dtype):
            prior = build(3)
            found = prior.sample(20, np.random.default_rng(0))
            moments = prior.standardisation()
        np.testing.assert_array_equal(found, expected)
        for inside, outside in zip(moments or (), build(3).standardisation() or (), strict=True):
            np.testing.assert_array_equal(inside, outside)
    with by_default(dtype):
        made = TorchPrior(torch.distributions.Normal(torch.zeros(2), torch.tensor([1.0, 2.0])))
        found = made.sample(20, np.random.default_rng(0))
    again = TorchPrior(torch.distributions.Normal(torch.zeros(2), torch.tensor([1.0, 2.0])))
    np.testing.assert_array_equal(found, again.sample(20, np.random.default_rng(0)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("network", [MLP((16,), batch_norm=True), Conv((8, 8), channels=(4,))], ids=["mlp", "conv"])
def test_the_default_precision_changes_no_network(network, dtype):
    expected = network.bind(64).decoder(2, 64, torch.Generator().manual_seed(0)).state_dict()
    with by_default(dtype):
        found = network.bind(64).decoder(2, 64, torch.Generator().manual_seed(0)).state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in expected.items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_global_generators_are_as_found(X, name):
    before = globals_now()
    model = clone(MODELS[name]).fit(X)
    answers(model, X)
    assert_as_found(before)


class Rounded(torch.autograd.Function):
    """Has no backward."""

    @staticmethod
    def forward(ctx, x):
        return x.round()


class Through(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(2, 4), function

    def forward(self, z):
        return self.linear(self.function(z))


@pytest.mark.parametrize("function", [Rounded.apply, torch.round, torch.detach, lambda z: torch.as_tensor(z.numpy())])
def test_a_decoder_that_cannot_be_differentiated_is_refused_before_training(X, monkeypatch, function):
    decoder = Through(function)
    monkeypatch.setattr("skcvae._training.adam", lambda *args: pytest.fail("the training has begun"))
    with pytest.raises(ValueError, match=r"The decoder must be a module that torch can differentiate.*, and it.*backward"):
        WAE(network=(nn.Linear(4, 2), decoder), **FAST).fit(X)
    with pytest.raises(ValueError, match=r"The decoder must be a module that torch can differentiate.*, and it.*backward"):
        CoupledVAE(network=(None, decoder), proposal="encoder", **FAST).fit(X)


def in_a_fork(work, seconds=120):
    """Whether a child made by fork returns True from a function in time."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(not work())
        finally:
            os._exit(status)
    deadline = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
def test_a_forked_child_answers_and_fits(X, fitted):
    """Also where torch has threads of its own, which stay behind in the parent."""
    before, names = torch.get_num_threads(), ("CoupledVAE", "VAE, planar", "WAE")
    large = np.repeat(X, 5, 0)
    expected = [answers(fitted[name], large) for name in names]
    torch.set_num_threads(2)
    try:
        torch.ones(2**20).exp().sum()  # starts them

        def work():
            for name, alone in zip(names, expected, strict=True):
                refitted = clone(MODELS[name]).fit(X)
                for found in (answers(fitted[name], large), answers(refitted, large)):
                    for inside, outside in zip(found, alone, strict=True):
                        np.testing.assert_allclose(inside, outside, rtol=1e-3, atol=1e-3)
            return True

        assert in_a_fork(work)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_that_is_held_does_not_stop_a_forked_child():
    """Another thread of the parent held it, and is not there in the child."""
    entered, done = threading.Event(), threading.Event()

    def hold():
        with seeded(0):
            entered.set()
            done.wait(60)

    def work():
        with seeded(0):
            return True

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert entered.wait(60)
        assert in_a_fork(work, seconds=20)
    finally:
        done.set()
        holder.join()


@pytest.mark.parametrize("name", MODELS)
def test_no_warning_of_torch_s_own_is_seen(X, name):
    """Only this package's own are, which have a remedy."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = clone(MODELS[name]).fit(X)
        answers(model, X)
    raised = [str(warning.message) for warning in seen]
    assert all(any(word in text for word in ("Raise", "Lower", "Make")) for text in raised), raised


def test_warnings_of_others_are_ignored_in_threads_that_overlap():
    """The first to come is the first to go, and the filters are those from before."""
    before = warnings.filters[:]
    first, second = without_warnings(r"ot\."), without_warnings(r"ot\.")
    first.__enter__()
    inside = warnings.filters[:]
    second.__enter__()
    first.__exit__(None, None, None)
    assert warnings.filters == inside != before
    second.__exit__(None, None, None)
    assert warnings.filters == before


def test_modes_are_put_back():
    """Also after an error, and where they were none of torch's own choices."""

    def fail():
        with computing(with_gradients=True), float32_by_default():
            assert torch.ones(1, requires_grad=True).exp().requires_grad
            assert (torch.ones(1) @ torch.ones(1, 1)).dtype == torch.float32
            assert torch.ones(1).device.type == "cpu"
            raise KeyError

    with many_modes(), by_default(torch.float64):
        with pytest.raises(KeyError):
            fail()
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.ones(1).device.type == "meta"
        assert torch.get_default_dtype() == torch.float64
    with computing(with_gradients=False):
        assert not torch.ones(1, requires_grad=True).exp().requires_grad


def test_threads_that_draw_from_global_generators_do_not_meet():
    """Eight draw what each draws alone, and both generators are as found."""
    priors = [SamplerPrior(sampler, 2), TorchPrior(torch.distributions.Laplace(torch.zeros(2), torch.ones(2)))]

    def draws(seed):
        return [prior.sample(500, np.random.default_rng(seed)) for prior in priors for _ in range(20)]

    before, expected = globals_now(), [draws(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(draws, range(8)))
    np.testing.assert_array_equal(found, expected)
    assert_as_found(before)


@pytest.mark.filterwarnings("ignore")
def test_no_gpu_is_touched_by_a_fit_on_the_cpu(X, monkeypatch):
    """Its generators are none of this package's, and starting it takes memory and breaks processes that fork."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("_lazy_init", "get_rng_state", "set_rng_state", "manual_seed", "manual_seed_all", "_lazy_call"):
        monkeypatch.setattr(torch.cuda, name, lambda *args, name=name, **options: pytest.fail(f"torch.cuda.{name} was called"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # of which torch's Adam asks the driver
    for name in ("CoupledVAE, sampler", "VAE, layers that draw", "WAE", "VAE, spline"):
        if name in MODELS:
            answers(clone(MODELS[name]).set_params(device="cpu").fit(X), X)


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
