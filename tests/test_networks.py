"""Laws of the architectures: shapes, seeds, copies, the user's own modules, and plans computed as prediction does."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from conftest import QUICK
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from skcvae import VAE, WAE, CoupledVAE
from skcvae._phases import Problem
from skcvae._random import seeded
from skcvae._training import set_learning_rate
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP, NETWORKS, Conv, Given, LinearPlus, Steep, as_network, fewest_rows, has_modes
from skcvae.schedule import Schedule

#: Every architecture that a name stands for, with batch normalisation, and the user's own.
ARCHITECTURES = {
    **{name: build((8,), "relu") for name, build in NETWORKS.items()},
    "mlp, batch norm": MLP((8,), batch_norm=True),
    "conv, batch norm": Conv(channels=(4, 8), batch_norm=True),
    "conv, one layer": Conv(channels=4, activation="tanh"),
    "mlp, steep": MLP((9, 8), "steep"),
    "conv, steep": Conv(channels=4, stem=(9, 8), activation="steep"),
    "given functions": Given(nn.Linear, nn.Linear),
    "given modules": Given(nn.Linear(16, 3), nn.Linear(2, 16)),
}
IMAGES = [(28, 28), (8, 8), (7, 5), (3, 32, 32), (1, 1), (2, 9, 1)]
#: A fit of a fraction of a second whose polishing is short too.
ROUND = Schedule(polish_rounds=1, max_draws=2048)
SHORT = {"max_iter": 5, "pool_size": 256, "random_state": 0, "schedule": ROUND, "likelihood": "gaussian"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(module):
    return torch.cat([tensor.flatten().double() for tensor in module.state_dict().values()])


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:100] / 16


@pytest.fixture(params=ARCHITECTURES, ids=str)
def network(request):
    return ARCHITECTURES[request.param]


def test_both_parts_have_their_widths(network):
    z, x = torch.randn(5, 2, generator=generator()), torch.randn(5, 16, generator=generator())
    decoder, encoder = network.decoder(2, 16, generator()), network.encoder(16, 3, generator())
    assert isinstance(decoder, LinearPlus)
    assert isinstance(encoder, LinearPlus)
    assert decoder(z).shape == (5, 16)
    assert encoder(x).shape == (5, 3)


def test_weights_come_from_the_generator_alone(network):
    before = torch.get_rng_state()
    for build in (lambda g: network.decoder(2, 16, g), lambda g: network.encoder(16, 3, g)):
        first, second, other = (weights(build(generator(seed))) for seed in (0, 0, 1))
        assert torch.equal(first, second)
        assert isinstance(network, Given) or not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_copies_build_the_same(network):
    built = weights(network.decoder(2, 16, generator()))
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), clone(CoupledVAE(network=network)).network):
        assert torch.equal(weights(other.decoder(2, 16, generator())), built)


def test_modules_copy_and_cast(network):
    decoder, z = network.decoder(2, 16, generator()).eval(), torch.randn(5, 2, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(decoder).double()(z.double()).float(), decoder(z), rtol=1e-4, atol=1e-5)
        assert torch.equal(pickle.loads(pickle.dumps(decoder))(z), decoder(z))


@pytest.mark.parametrize("network", [a for a in ARCHITECTURES.values() if not isinstance(a, Given)], ids=str)
def test_the_hidden_part_starts_small(network):
    z = torch.randn(500, 2, generator=generator())
    decoder = network.decoder(2, 16, generator()).eval()
    assert decoder.hidden(z).std() < 0.3 * decoder.linear(z).std()


@pytest.mark.parametrize("image_shape", IMAGES, ids=str)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_convolutions_take_any_image(image_shape, batch_norm):
    d, network = math.prod(image_shape), Conv(image_shape, channels=(4, 6, 8), batch_norm=batch_norm)
    for n_blocks in (1, 2):
        assert network.bind(d).decoder(3, n_blocks * d, generator())(torch.zeros(2, 3)).shape == (2, n_blocks * d)
    assert network.encoder(d, 5, generator()).eval()(torch.zeros(2, d)).shape == (2, 5)


@pytest.mark.parametrize("image_shape", [(7, 5), (3, 4, 6)], ids=str)
def test_outputs_of_a_pixel_are_blocks_of_images(image_shape):
    """The bias of one map of the last layer shows in one channel's stretch of one block."""
    d, n_pixels = math.prod(image_shape), math.prod(image_shape[-2:])
    decoder = Conv(image_shape, channels=(4,)).decoder(2, 2 * d, generator())
    last, z = decoder.hidden[-2], torch.zeros(1, 2)
    before = decoder(z)[0].detach()
    for j in range(2 * d // n_pixels):
        with torch.no_grad():
            last.bias[j] += 1
            changed = (decoder(z)[0] - before).abs() > 0.5
            last.bias[j] -= 1
        assert changed.nonzero()[:, 0].tolist() == list(range(j * n_pixels, (j + 1) * n_pixels))


def test_image_shape_is_inferred_from_the_features():
    assert Conv().bind(49).image_shape == (1, 7, 7)
    assert Conv((7, 5)).bind(35).image_shape == (1, 7, 5)
    assert Conv().bind(64).decoder(2, 128, generator())(torch.zeros(1, 2)).shape == (1, 128)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steep_units_are_the_formula(dtype):
    """Half of them tanh with a slope each, half ReLU; slopes are bounded and every number is finite."""
    layer, h = Steep(5).to(dtype), torch.randn(7, 5, generator=generator()).to(dtype)
    layer.log_slope.data += torch.tensor([0.0, 1.0, 20.0])
    slope = torch.tensor([4.0, 4.0 * np.e, 1e3]).to(dtype)
    torch.testing.assert_close(layer(h), torch.cat([torch.tanh(slope * h[:, :3]), h[:, 3:].clamp(min=0)], 1))
    layer(1e30 * h).sum().backward()
    assert torch.isfinite(layer.log_slope.grad).all()


def test_steep_layers_make_borders():
    """A staircase of eight steps, from which ReLU layers are further after as many steps of Adam."""
    z = torch.rand(4096, 1, generator=generator())
    stairs = (8 * z).floor()
    loss = {}
    for activation in ("steep", "relu"):
        network = MLP((64, 64), activation).decoder(1, 1, generator())
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
        for t in range(1000):
            set_learning_rate(optimiser, 5e-3 * (1 - t / 1000))
            optimiser.zero_grad()
            rows = slice(256 * (t % 16), 256 * (t % 16 + 1))
            (network(2 * z[rows] - 1) - stairs[rows]).square().mean().backward()
            optimiser.step()
        with torch.no_grad():
            loss[activation] = float((network(2 * z - 1) - stairs).square().mean())
    assert loss["steep"] < 0.7 * loss["relu"]


def test_steep_convolutions_have_a_stem_by_name():
    """Where there would be no steep layer otherwise; an explicit stem is the stem."""
    named = as_network("conv", (256, 256), "steep").bind(64).decoder(2, 64, generator()).hidden
    assert [layer.n_units for layer in named if type(layer) is Steep] == [256, 256, 256]
    for network in (Conv(), Conv(stem=(), activation="steep")):
        assert Steep not in map(type, network.bind(64).decoder(2, 64, generator()).hidden)


def test_convolutions_are_behind_the_stem():
    hidden = Conv((6, 6), channels=(4,), stem=(8, 7), activation="steep").decoder(2, 36, generator()).hidden
    kinds = [type(layer) for layer in hidden]
    assert kinds[:5] == [nn.Linear, Steep, nn.Linear, Steep, nn.Linear]
    assert nn.ReLU in kinds[5:]
    assert Steep not in kinds[5:]
    assert [layer.out_features for layer in hidden if type(layer) is nn.Linear] == [8, 7, 4 * 3 * 3]


def test_names_stand_for_the_estimator_s_parameters():
    assert repr(as_network("mlp", (16, 8), "tanh")) == repr(MLP((16, 8), "tanh"))
    assert repr(as_network("conv", (16, 8), "tanh")) == repr(Conv(activation="tanh"))
    assert as_network(chosen := Conv((2, 2)), (16,), "relu") is chosen
    pair = as_network((None, nn.Linear), (16,), "relu")
    assert pair.decoder(2, 3, generator())(torch.zeros(1, 2)).shape == (1, 3)


def test_a_given_module_is_where_its_network_starts():
    own = nn.Sequential(nn.Linear(2, 4), nn.Tanh())
    z = torch.randn(5, 2, generator=generator())
    assert torch.equal(Given(decoder=own).decoder(2, 4, generator())(z), own(z))


def test_lazy_layers_get_their_shapes():
    decoder = Given(decoder=nn.LazyLinear(16)).decoder(2, 16, generator())
    assert decoder.hidden.weight.shape == (16, 2)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Conv().bind(35), ValueError, r"square.*35 features are no square. Give Conv\(image_shape=\(height, width\)\)"),
        (lambda: Conv((8, 8)).bind(60), ValueError, "64 values and the data have 60 features. Make them agree"),
        (lambda: Conv((8, 8)).decoder(2, 65, generator()), ValueError, "64 values, of which 65 outputs are no multiple"),
        (lambda: Conv((8, 8)).encoder(63, 2, generator()), ValueError, "64 values and the data have 63"),
        (lambda: Conv((8,)), ValueError, r"must be \(height, width\) or \(channels, height, width\), got \(8,\)"),
        (lambda: Conv((8, 0)), ValueError, "each of image_shape must be .*at least 1, got 0"),
        (lambda: Conv("8x8"), TypeError, "image_shape must be a sequence of integers"),
        (lambda: Conv(channels=()), ValueError, r"channels must have at least one entry, got \(\)"),
        (lambda: Conv(channels=(8, -1)), ValueError, "each of channels must be .*at least 1, got -1"),
        (lambda: Conv(channels=(8, 2.5)), TypeError, "each of channels must be an integer.*, got 2.5"),
        (lambda: Conv(activation="logistic"), ValueError, "activation must be one of 'steep', 'relu'"),
        (lambda: Conv(batch_norm=1), TypeError, "batch_norm must be True or False, got 1"),
        (lambda: MLP(batch_norm="yes"), TypeError, "batch_norm must be True or False, got 'yes'"),
        (lambda: MLP((True,)), TypeError, "must be an integer.*, got True"),
        (lambda: MLP(activation=nn.ReLU), TypeError, "activation must be one of 'steep', 'relu'"),
        (lambda: Given(3), TypeError, "encoder must be a torch module, a function"),
        (lambda: Given().decoder(2, 4, generator()), ValueError, r"needs the network's decoder.*Give Given\(decoder=...\)"),
        (lambda: Given(decoder=nn.Linear).encoder(4, 2, generator()), ValueError, r"needs the network's encoder"),
        (lambda: Given(None, nn.Linear(2, 5)).decoder(2, 4, generator()), ValueError, r"\(2, 2\) to \(2, 4\), got \(2, 5\). Give"),
        (
            lambda: Given(None, nn.Linear(3, 4)).decoder(2, 4, generator()),
            ValueError,
            r"\(2, 2\) to \(2, 4\), and it failed.*3x4",
        ),
        (lambda: Given(None, nn.LSTM(2, 4)).decoder(2, 4, generator()), ValueError, "got tuple"),
        (lambda: Given(None, lambda a, b: None).decoder(2, 4, generator()), TypeError, "return a torch.nn.Module.*got None"),
    ],
)
def test_bad_architectures(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"network": "resnet"}, ValueError, "network must be one of 'mlp', 'conv', a skcvae.networks.Network or a tuple"),
        ({"network": 3}, TypeError, "network must be one of"),
        ({"network": Conv}, TypeError, "network must be one of"),
        ({"network": (nn.Linear,)}, TypeError, "network must be one of"),
        ({"network": (None, "mlp")}, TypeError, "decoder must be a torch module, a function"),
        ({"network": (nn.Linear, None)}, ValueError, "needs the network's decoder"),
        ({"network": "conv", "likelihood": GaussianLikelihood(1.0)}, ValueError, "63 features are no square"),
        ({"network": Conv((8, 8))}, ValueError, "64 values and the data have 63 features"),
        ({"network": Conv((9, 7)), "activation": "logistic"}, ValueError, "activation must be one of"),
        (
            {"network": MLP(batch_norm=True), "draws_per_step": 1},
            ValueError,
            "draws_per_step with batch norm.* at least 2, got 1",
        ),
    ],
)
def test_bad_networks_of_an_estimator(digits, params, error, message):
    with pytest.raises(error, match=message):
        CoupledVAE(**{**SHORT, **params}).fit(digits[:, 1:])


@pytest.mark.parametrize("likelihood", ["bernoulli", GaussianLikelihood("network")], ids=["bernoulli", "gaussian with scales"])
def test_convolutions_fit_images(digits, likelihood):
    model = CoupledVAE(network="conv", **{**SHORT, "likelihood": likelihood}).fit(digits)
    z = model.transform(digits)
    assert model.sample(3, random_state=0).shape == (3, 64)
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(digits), z)
    np.testing.assert_array_equal(clone(model).fit(digits).transform(digits), z)


def test_given_modules_are_never_trained_in_place(X):
    own = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4))
    before, global_state = weights(own), torch.get_rng_state()
    fits = [CoupledVAE(network=(None, own), **SHORT).fit(X) for _ in range(2)]
    assert torch.equal(weights(own), before)
    assert own.training
    assert torch.equal(torch.get_rng_state(), global_state)
    np.testing.assert_array_equal(*(model.transform(X) for model in fits))
    assert not torch.equal(weights(fits[0].module_.network.hidden), before)


@pytest.mark.parametrize("estimator", [CoupledVAE, WAE])
def test_layers_that_are_given_in_evaluation_mode_stay_in_it(X, estimator):
    """Their running moments are those that were given; the other layers' move."""
    own = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    own[1].eval()
    params = SHORT if estimator is CoupledVAE else {**QUICK, "max_iter": 60}
    hidden = estimator(network=(nn.Linear(4, 2), own), **params).fit(X).module_.network.hidden
    assert torch.equal(hidden[1].running_mean, own[1].running_mean)
    assert hidden[1].num_batches_tracked == 0
    assert hidden[4].num_batches_tracked > 0
    assert not torch.equal(hidden[1].weight, own[1].weight)
    assert [part.training for part in own] == [True, False, True, True, True, True]


def test_a_compiled_module_is_the_module(X, monkeypatch):
    """But for its modes, of which nothing is known; the backend that compiles nothing needs no compiler here."""
    validates = torch.distributions.Distribution._validate_args  # which torch.compile turns off for the process
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", validates)
    compiled = Given(decoder=lambda *widths: torch.compile(nn.Linear(*widths), backend="eager"))
    plain, fast = (CoupledVAE(network=network, **SHORT).fit(X) for network in (Given(decoder=nn.Linear), compiled))
    np.testing.assert_allclose(fast.transform(X), plain.transform(X), rtol=0, atol=5e-3)


def test_batch_norm_predicts_by_running_statistics(X):
    model = CoupledVAE(network=MLP((16,), batch_norm=True), **{**QUICK, "max_iter": 60}).fit(X)
    norm = model.module_.network.hidden[1]
    assert not any(part.training for part in model.module_.modules())
    assert norm.num_batches_tracked > 60
    assert norm.running_var.sub(1).abs().max() > 0.01
    z = model.transform(X)
    np.testing.assert_allclose(model.transform(X[7:9]), z[7:9], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(model.inverse_transform(z[:1]), model.inverse_transform(z)[:1], rtol=1e-9)
    with torch.no_grad():
        output = model.module_(model._fitted.pool.draws.float())
    expected = model.likelihood_.natural(output)[0]
    np.testing.assert_allclose(model._fitted.pool.key.numpy(), expected.numpy(), atol=1e-5 * float(expected.abs().max()))


def test_batch_norm_fits_as_well(X):
    params = {**QUICK, "max_iter": 150, "schedule": Schedule(polish_rounds=3)}
    scores = [CoupledVAE(network=MLP((16,), batch_norm=flag), **params).fit(X).score(X) for flag in (False, True)]
    assert scores[1] > scores[0] - 0.1


class Recorded(nn.Module):
    """A layer of the user's own that notes the mode and the gradient of every call."""

    calls: list  # shared by all copies

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 4)

    def forward(self, z):
        self.calls.append((self.training, torch.is_grad_enabled()))
        return self.linear(z)


def test_plans_are_computed_as_prediction_does(X, monkeypatch):
    """Outside the gradient step every call is in eval mode; a training step makes one of each."""
    monkeypatch.setattr(Recorded, "calls", [], raising=False)
    CoupledVAE(network=(None, Recorded()), proposal="prior", **SHORT).fit(X)
    assert {training for training, graded in Recorded.calls if not graded} == {False}
    assert {training for training, graded in Recorded.calls if graded} == {True}
    in_training = Recorded.calls[2 : 2 + 2 * SHORT["max_iter"]]  # after the dry run and the count of a step's operations
    assert in_training == [(False, False), (True, True)] * SHORT["max_iter"]


def test_every_plan_is_of_predicted_outputs(X, monkeypatch):
    predicted, same, original = [], [], (Problem.predicted, Problem.target)

    def target(problem, output, draws):
        same.append(torch.equal(output, predicted[-1][: len(output)]))
        return original[1](problem, output, draws)

    monkeypatch.setattr(Problem, "predicted", lambda problem, z: (predicted.append(original[0](problem, z)), predicted[-1])[1])
    monkeypatch.setattr(Problem, "target", target)
    CoupledVAE(network=MLP((8,), batch_norm=True), **SHORT).fit(X)
    assert len(same) > SHORT["max_iter"]
    assert all(same)


@pytest.mark.parametrize(("batch_norm", "n_calls"), [(False, 1), (True, 2)])
def test_one_evaluation_a_step_where_modes_agree(X, monkeypatch, batch_norm, n_calls):
    calls, forward = [], LinearPlus.forward
    monkeypatch.setattr(LinearPlus, "forward", lambda module, z: (calls.append(len(z)), forward(module, z))[1])
    CoupledVAE(network=MLP((8,), batch_norm=batch_norm), **SHORT).fit(X)
    n_steps, calls = SHORT["max_iter"], calls[1:]  # after the count of a step's operations
    assert calls[: n_calls * n_steps] == [256] * (n_calls * n_steps)
    assert calls[n_calls * n_steps] > 256  # polishing


def test_modes_are_known_of_known_layers_only():
    plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.LayerNorm(2))
    assert not has_modes(plain)
    assert all(has_modes(nn.Sequential(plain, layer)) for layer in (nn.Dropout(), nn.BatchNorm1d(2), Recorded()))
    assert (fewest_rows(plain), fewest_rows(nn.Sequential(nn.BatchNorm2d(2)))) == (1, 2)


def test_seeded_restores_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(IndexError), seeded(3):
        torch.rand(2)[2]
    assert torch.equal(before, torch.get_rng_state())
    with seeded(3):
        assert torch.equal(torch.rand(2), torch.rand(2, generator=generator(3)))


@pytest.mark.parametrize("kind", [CoupledVAE, VAE])
def test_a_linear_map_beside_a_given_network_can_be_left_out(X, kind):
    """The fitted decoder is then the user's trained module alone, here without a bias; otherwise both are trained."""
    modules = nn.Linear(X.shape[1], 2 * 2), nn.Linear(2, X.shape[1], bias=False)
    params = {name: value for name, value in SHORT.items() if name in kind().get_params()}
    alone, beside = (kind(2, network=Given(*modules, linear=flag), **params).fit(X) for flag in (False, True))
    network = alone.module_.network
    assert not any(p.any() for p in network.linear.parameters())
    assert all(p.any() for p in beside.module_.network.linear.parameters())
    assert not torch.equal(network.hidden.weight, modules[1].weight)
    z = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    expected = torch.as_tensor(z) @ network.hidden.weight.T
    np.testing.assert_allclose(network(torch.as_tensor(z)), expected, rtol=1e-6, atol=1e-7)
    again = pickle.loads(pickle.dumps(alone)).set_params(warm_start=True).fit(X)
    assert not any(p.any() for p in again.module_.network.linear.parameters())


def test_a_given_network_says_whether_a_linear_map_is_beside_it():
    assert repr(Given(linear=False)) == "Given(encoder=None, decoder=None, linear=False)"
    with pytest.raises(TypeError, match="linear of Given must be True or False, got 1"):
        Given(linear=1)
