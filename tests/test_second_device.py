"""What is right on the CPU is right on another device; see `second_device`, which is simulated, for what that is."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from second_device import DeviceTensor, PlacedGenerator, simulated
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F

import skcvae
from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae.divergences import Divergence, Measure
from skcvae.likelihoods import CategoricalLikelihood, GaussianLikelihood, MixedLikelihood, PoissonLikelihood
from skcvae.networks import MLP, Conv
from skcvae.posteriors import SplineFlow
from skcvae.priors import CategoricalPrior
from skcvae.schedule import Schedule
from skcvae.transport import Dual, DualNetwork, SemiDualNetwork

pytestmark = pytest.mark.filterwarnings("ignore")

# ---------------------------------------------------------------------------------------------------------------------
# The simulation
# ---------------------------------------------------------------------------------------------------------------------

MIXED = "Expected all tensors to be on the same device"


def on_cpu():
    return torch.arange(12.0).reshape(4, 3)


def on_device():
    return on_cpu().to("cuda")


def place():
    return torch.tensor([2, 0])


def assign(target, index, value):
    target[index] = value


#: Operations that CUDA refuses, and what it says.
REFUSED = {
    "a sum": (lambda: on_device() + on_cpu(), MIXED),
    "a sum, the other way round": (lambda: on_cpu() + on_device(), MIXED),
    "a scalar of the device": (lambda: on_cpu() + on_device().sum(), MIXED),
    "an update of the device": (lambda: on_device().add_(on_cpu()), MIXED),
    "an update of the CPU": (lambda: on_cpu().add_(on_device()), MIXED),
    "an update of a CPU scalar": (lambda: on_cpu().sum().add_(on_device().sum()), MIXED),
    "a result in the other's memory": (lambda: torch.add(on_device(), 1, out=on_cpu()), MIXED),
    "a product": (lambda: on_device() @ on_cpu().T, MIXED),
    "a layer": (lambda: nn.Linear(3, 2)(on_device()), MIXED),
    "a layer of the device": (lambda: nn.Linear(3, 2).to("cuda")(on_cpu()), MIXED),
    "a condition": (lambda: torch.where(on_cpu() > 1, on_device(), 0.0), MIXED),
    "a mask": (lambda: on_device().masked_fill(on_cpu() > 1, 0.0), MIXED),
    "a list": (lambda: torch.cat([on_device(), on_cpu()]), MIXED),
    "a list of scalars": (lambda: torch.stack([on_device().sum(), on_cpu().sum()]), MIXED),
    "a comparison": (lambda: torch.equal(on_device(), on_cpu()), MIXED),
    "a loss": (lambda: F.mse_loss(on_device(), on_cpu()), MIXED),
    "indices of the device": (lambda: on_cpu()[place().to("cuda")], MIXED),
    "a mask of the device": (lambda: on_cpu()[on_device()[:, 0] > 1], MIXED),
    "values to indices": (lambda: assign(on_device(), place(), on_cpu()[:2]), MIXED),
    "values to a mask": (lambda: assign(on_device(), on_device() > 8, on_cpu()[0]), MIXED),
    "a selection": (lambda: on_device().index_select(0, place()), MIXED),
    "a gathering": (lambda: on_device().gather(0, place()[:, None]), MIXED),
    "an embedding": (lambda: F.embedding(place(), on_device()), MIXED),
    "a generator of the CPU": (
        lambda: torch.randn(3, generator=torch.Generator(), device="cuda"),
        "Expected a 'cuda'.*found 'cpu'",
    ),
    "a generator in place": (lambda: on_device().normal_(generator=torch.Generator()), "Expected a 'cuda'.*found 'cpu'"),
    "a generator of the device": (lambda: torch.randperm(3, generator=torch.Generator("cuda")), "Expected a 'cpu'.*found 'cuda'"),
    "numpy": (lambda: on_device().numpy(), "can't convert cuda:0 device type tensor to numpy"),
    "an array": (lambda: np.asarray(on_device()), "can't convert cuda:0 device type tensor to numpy"),
    "a function of numpy": (lambda: np.exp(on_device()), "can't convert cuda:0 device type tensor to numpy"),
    "a third device": (lambda: on_device() + nowhere, "which the simulated device did not make"),
}
nowhere = torch.zeros(4, 3, device="meta")

#: Operations that both devices do, of either one's tensor and, where they draw, generator.
ALIKE = {
    "a scalar of the CPU": lambda x, _: x * torch.tensor(2.0) + torch.tensor(1.0, dtype=torch.float64),
    "indices of the CPU": lambda x, _: x[place()],
    "a mask of the CPU": lambda x, _: x[torch.tensor([True, False, True, False])],
    "a list of places": lambda x, _: x[[2, 0]] + x[:, [0, 0, 1]].sum(),
    "a copy": lambda x, _: x.clone().copy_(on_cpu() + 1),
    "numbers": lambda x, _: torch.tensor([1.0, 2.0, float(x.sum())], device=x.device),
    "numbers of its kind": lambda x, _: x.new_tensor([1, 2, 3]),
    "an array": lambda x, _: torch.as_tensor(np.ones(3), device=x.device),
    "values to places": lambda x, _: (assign(y := x.clone(), (0, [1, 2]), 7.0), y)[1],
    "a view that is written to": lambda x, _: (y := x.clone(), y[0].mul_(3), y.T[1].zero_())[0],
    "a result in memory": lambda x, _: torch.add(x, 1, out=torch.empty_like(x)),
    "a new shape in place": lambda x, _: torch.quantile(x, 0.3, dim=0),
    "a decomposition": lambda x, _: torch.linalg.cholesky(x.T @ x + torch.eye(3, device=x.device)),
    "a convolution": lambda x, _: nn.Conv2d(1, 2, 2).to(x)(x.view(1, 1, 4, 3)).detach() * 0,
    "normal draws": lambda x, rng: torch.randn(2, 3, generator=rng, device=x.device),
    "integers": lambda x, rng: torch.randint(9, (5,), generator=rng, device=rng.device).to(x),
    "draws in place": lambda x, rng: x.clone().normal_(generator=rng),
    "draws of a category": lambda x, rng: torch.multinomial(x, 2, generator=rng),
    "the second derivative": lambda x, _: torch.func.vmap(torch.func.hessian(lambda row: (row**3).prod()))(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_a_gpu_refuses(second_device, name):
    operation, message = REFUSED[name]
    with pytest.raises((RuntimeError, TypeError), match=message):
        operation()


@pytest.mark.parametrize("name", ALIKE)
def test_it_computes_what_the_cpu_computes(second_device, name):
    expected = ALIKE[name](on_cpu(), torch.Generator().manual_seed(0))
    found = ALIKE[name](on_device(), torch.Generator("cuda").manual_seed(0))
    assert found.device == second_device
    assert isinstance(found, DeviceTensor)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0)


def test_it_says_where_a_tensor_is(second_device):
    x = on_device()
    assert (x.device, x.is_cuda, x.is_cpu, str(x.device)) == (torch.device("cuda", 0), True, False, "cuda:0")
    assert x.cpu().device.type == x.to("cpu").device.type == "cpu"
    assert x.double().device == torch.zeros_like(x).device == torch.zeros(1, device="cuda").device == second_device
    assert (x.tolist(), x[1, 1].item(), f"{x[1, 1]:.1f}", bool((x >= 0).all())) == (on_cpu().tolist(), 4.0, "4.0", True)


def test_what_nobody_wrote_is_no_number(second_device):
    assert torch.empty(3, device="cuda").isnan().all()
    assert torch.empty_like(on_device(), dtype=torch.int64).max() < 0


def trained(device):
    """A network after some steps of Adam, and its losses."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).to(device)
    optimiser, losses = torch.optim.Adam(network.parameters(), lr=0.1, fused=True), []
    for _ in range(5):
        optimiser.zero_grad()
        losses.append(network(on_cpu().to(device)).square().mean())
        losses[-1].backward()
        optimiser.step()
    return network, [loss.item() for loss in losses]


def test_it_trains_as_the_cpu_does(second_device):
    """By Adam's fused operation, to the last bit."""
    (network, losses), (expected, expected_losses) = trained("cuda"), trained("cpu")
    assert losses == expected_losses
    assert all(isinstance(p, nn.Parameter) and p.device == second_device for p in network.parameters())
    for name, value in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name].cpu(), value)


def test_a_gradient_has_a_gradient(second_device):
    x = on_device().requires_grad_()
    (slope,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert torch.equal(curvature.cpu(), 6 * on_cpu())


def test_modules_move_and_are_copied(second_device):
    """In either direction, in either precision; what is copied or pickled stays where it was."""
    module = nn.BatchNorm1d(3).to("cuda").double()
    module(on_device().double())
    for same in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert same.weight.device == second_device
        assert isinstance(same.weight, nn.Parameter)
        assert same.weight is not module.weight
        assert torch.equal(same.cpu().running_mean, module.running_mean.cpu())
    assert type(module.cpu().weight) is nn.Parameter


def test_a_generator_is_of_its_device(second_device):
    """Also after pickling; and what is a generator otherwise is one here."""
    generator = torch.Generator("cuda").manual_seed(3)
    same = pickle.loads(pickle.dumps(generator))
    assert same.device.type == "cuda"
    assert torch.equal(torch.rand(3, generator=same, device="cuda"), torch.rand(3, generator=generator, device="cuda"))
    assert isinstance(torch.default_generator, torch.Generator)
    assert torch.Generator().device.type == "cpu"


def test_it_is_gone_afterwards():
    before = torch.Generator
    with simulated():
        assert torch.zeros(1, device="cuda").is_cuda
    assert torch.Generator is before
    assert torch.zeros(1, device="meta").is_meta
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            torch.zeros(1, device="cuda")


class Wrong(nn.Module):
    """A decoder with one operation on the CPU, whatever the rest is on."""

    def __init__(self, mistake, n_inputs, n_outputs):
        super().__init__()
        self.mistake, self.linear = mistake, nn.Linear(n_inputs, n_outputs)

    def forward(self, z):
        return self.linear(z) + 0 * self.mistake(z)


class WrongLoss(Measure):
    """A divergence that compares with a point on the CPU."""

    def forward(self, codes, draws):
        return (codes - torch.zeros(codes.shape[1])).square().mean()


class WrongDivergence(Divergence):
    def begin(self, n_coordinates, generator):
        return WrongLoss()


#: Operations of a decoder at z that are right on the CPU alone.
MISTAKES = {
    "forward": lambda z: torch.ones(len(z), 1),
    "an index": lambda z: z.gather(1, torch.zeros(len(z), 1, dtype=torch.int64)),
    "a mask": lambda z: torch.ones(len(z), 1)[z[:, 0] == z[:, 0]],
    "a generator": lambda z: torch.randn(len(z), 1, generator=torch.Generator().manual_seed(0), device=z.device),
    "numpy": lambda z: torch.as_tensor(np.ones_like(z.detach().numpy()))[:, :1],
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("kind", [CoupledVAE, VAE])
def test_a_mistake_in_a_decoder_shows(second_device, kind, mistake):
    network = (nn.Linear, functools.partial(Wrong, MISTAKES[mistake]))
    params = COUPLED if kind is CoupledVAE else QUICK
    kind(**{**params, "network": network, "device": "cpu"}).fit(X)
    with pytest.raises((RuntimeError, TypeError, ValueError), match=r"same device|type for generator|device type tensor to numpy"):
        kind(**{**params, "network": network, "device": "cuda"}).fit(X)


def test_a_mistake_in_a_loss_shows(second_device):
    WAE(divergence=WrongDivergence(), device="cpu", **QUICK).fit(X)
    with pytest.raises(RuntimeError, match=MIXED):
        WAE(divergence=WrongDivergence(), device="cuda", **QUICK).fit(X)


# ---------------------------------------------------------------------------------------------------------------------
# The estimators
# ---------------------------------------------------------------------------------------------------------------------


def exponential(n_samples, random_state):
    """Draws of a prior that is a function."""
    return np.random.default_rng(random_state).exponential(size=(n_samples, 2))


X = np.random.default_rng(0).random((60, 4)) * 0.4 + 0.5 * np.random.default_rng(1).integers(0, 2, size=(60, 1))
ROWS = X[::4]
#: The same with missing cells, and a row of nothing else.
HOLES = np.where(np.random.default_rng(3).random(ROWS.shape) < 0.3, np.nan, ROWS)
HOLES[1] = np.nan
QUICK = {"max_iter": 20, "hidden_layer_sizes": (8,), "random_state": 0, "pool_size": 256, "likelihood": "gaussian"}
SHORT = {"polish_rounds": 1, "max_draws": 2048}
STEPS = {"max_iter": 10, "hidden_layer_sizes": (8,)}
COUPLED = {**QUICK, "schedule": Schedule(**SHORT)}
LAPLACE = torch.distributions.Independent(torch.distributions.Laplace(torch.zeros(2), torch.ones(2)), 1)
MODELS = {
    "coupled": CoupledVAE(**COUPLED),
    "coupled, soft": CoupledVAE(varsigma=1.0, **COUPLED),
    "coupled, primal": CoupledVAE(solver="semi-dual-primal", **COUPLED),
    "coupled, atoms": CoupledVAE(3, prior=CategoricalPrior([0.2, 0.3, 0.5]), **COUPLED),
    "coupled, dirichlet": CoupledVAE(3, prior="dirichlet", **COUPLED),
    "coupled, mixture": CoupledVAE(prior="mixture", **COUPLED),
    "coupled, uniform": CoupledVAE(prior="uniform", **COUPLED),
    "coupled, torch's Laplace": CoupledVAE(prior=LAPLACE, **COUPLED),
    "coupled, sampler": CoupledVAE(prior=exponential, **COUPLED),
    "coupled, batch norm": CoupledVAE(network=MLP((8,), batch_norm=True), **COUPLED),
    "coupled, conv": CoupledVAE(network=Conv((2, 2), channels=(3,), batch_norm=True), **COUPLED),
    "coupled, many components": CoupledVAE(5, **COUPLED),
    "coupled, dual": CoupledVAE(solver=Dual(**STEPS), **COUPLED),
    "coupled, dual, atoms": CoupledVAE(3, prior="categorical", solver=Dual(**STEPS), **COUPLED),
    "coupled, dual networks": CoupledVAE(solver=DualNetwork(**STEPS), learning_rate_init=1e-3, **COUPLED),
    "coupled, network": CoupledVAE(solver=SemiDualNetwork(**STEPS), **COUPLED),
    "coupled, encoder": CoupledVAE(proposal="encoder", **COUPLED),
    "coupled, encoder, uniform": CoupledVAE(proposal="encoder", prior="uniform", **{**COUPLED, "likelihood": "bernoulli"}),
    "coupled, bernoulli": CoupledVAE(**{**COUPLED, "likelihood": "bernoulli"}),
    "coupled, learned": CoupledVAE(**{**COUPLED, "likelihood": GaussianLikelihood("learned")}),
    "coupled, network's scale": CoupledVAE(**{**COUPLED, "likelihood": GaussianLikelihood("network")}),
    "coupled, scales": CoupledVAE(**{**COUPLED, "likelihood": GaussianLikelihood([0.1, 0.2, 0.3, 0.4])}),
    "coupled, many rows": CoupledVAE(**{**QUICK, "schedule": Schedule(max_rows=32, **SHORT)}),
    "coupled, many rows, network": CoupledVAE(
        solver=SemiDualNetwork(data_batch_size=16, **STEPS), **{**COUPLED, "schedule": Schedule(max_rows=32, **SHORT)}
    ),
    "vae": VAE(**QUICK),
    "vae, steep": VAE(activation="steep", **QUICK),
    "vae, full": VAE(encoder="full", **QUICK),
    "vae, planar": VAE(encoder="planar", **QUICK),
    "vae, spline": VAE(encoder=SplineFlow(n_transforms=1), **QUICK),
    "vae, dirichlet": VAE(3, prior="dirichlet", **QUICK),
    "vae, bernoulli": VAE(network=MLP((8,), batch_norm=True), **{**QUICK, "likelihood": "bernoulli"}),
    "vae, learned": VAE(prior="mixture", **{**QUICK, "likelihood": GaussianLikelihood("learned")}),
    "vae, network's scale": VAE(**{**QUICK, "likelihood": GaussianLikelihood("network")}),
    "wae, mmd": WAE(divergence="mmd", **QUICK),
    "wae, sinkhorn": WAE(divergence="sinkhorn", **QUICK),
    "wae, sliced": WAE(divergence="sliced", prior=exponential, **QUICK),
    "wae, adversarial": WAE(divergence="adversarial", **QUICK),
    "infovae": InfoVAE(alpha=0.5, **QUICK),
    "infovae, alpha=1": InfoVAE(alpha=1.0, **QUICK),
}
#: What is computed in double precision, and what is fitted or computed in single precision; kernels differ by rounding.
EXACT, CLOSE = {"rtol": 1e-6, "atol": 1e-7}, {"rtol": 1e-2, "atol": 2e-2}
ENCODERS = [name for name in MODELS if not name.startswith("coupled")]


@functools.cache
def fitted(name, device):
    """A model that was fitted on one device."""
    return clone(MODELS[name]).set_params(device=device).fit(X)


@pytest.mark.parametrize("name", ["coupled", "coupled, atoms", "coupled, dual", "coupled, many rows, network", "vae", "wae, mmd"])
def test_weighted_rows_are_fitted_on_the_device(second_device, name):
    weights = np.random.default_rng(2).random(60) * 3
    found, expected = (clone(MODELS[name]).set_params(device=d).fit(X, sample_weight=weights) for d in ("cuda", "cpu"))
    np.testing.assert_allclose(found.score_samples(ROWS), expected.score_samples(ROWS), **CLOSE)


#: Two numbers, a category and a count.
TABLE = np.column_stack([X[:, :2], (4 * X[:, 2]).round() // 2, (5 * X[:, 3]).round()])
COLUMNS = MixedLikelihood((GaussianLikelihood(), CategoricalLikelihood(), PoissonLikelihood()), ((0, 1), (2,), (3,)))


@pytest.mark.parametrize("name", ["coupled", "vae, full", "wae, mmd"])
@pytest.mark.parametrize("epsilon", [1.0, 0.5])
def test_columns_of_several_kinds_on_the_device(second_device, name, epsilon):
    settings = {"likelihood": COLUMNS, **({"epsilon": epsilon} if name == "coupled" else {})}
    rows = np.where(np.random.default_rng(3).random(TABLE.shape) < 0.3, np.nan, TABLE)
    answers = []
    for device in ("cuda", "cpu"):
        model = clone(MODELS[name]).set_params(device=device, **settings).fit(TABLE)
        parts = [model.score_samples(rows), model.transform(rows), model.impute(rows), model.reconstruct(TABLE)]
        answers.append([*parts, model.score_samples(TABLE), model.sample(5, random_state=0).mean(0)])
    for found, expected in zip(*answers, strict=True):
        assert np.isclose(found, expected, rtol=1e-2, atol=5e-2).mean() > 0.97


def on(model, device):
    """A copy that answers on another device."""
    return pickle.loads(pickle.dumps(model)).set_params(device=device)


def blocks(iterator):
    return np.concatenate(list(iterator))


def sampled(noise, source):
    return lambda model: model.sample(7, noise=noise, source=source, random_state=0)


#: What a fitted model is asked.
QUESTIONS = {
    "transform": lambda model: model.transform(ROWS),
    "transform, float32": lambda model: model.transform(ROWS.astype(np.float32)),
    "inverse_transform": lambda model: model.inverse_transform(model.prior_.sample(9, np.random.default_rng(0))),
    "reconstruct": lambda model: model.reconstruct(ROWS),
    "posterior": lambda model: np.column_stack(
        [(p := model.posterior(ROWS)).mean, p.covariance.reshape(len(ROWS), -1), p.importance_ess, p.log_normaliser]
    ),
    "posterior, weights": lambda model: blocks(model.posterior(ROWS).weights()),
    "posterior, draws": lambda model: blocks(model.posterior(ROWS).draws()),
    "posterior, pareto_k": lambda model: model.posterior(ROWS).pareto_k(),
    "posterior, sample": lambda model: model.posterior(ROWS).sample(3, random_state=0),
    "sample_posterior": lambda model: model.sample_posterior(ROWS, 3, random_state=0),
    "score_samples": lambda model: np.column_stack(model.score_samples(ROWS, return_std=True)),
    "score_samples of partial rows": lambda model: model.score_samples(HOLES),
    "impute": lambda model: model.impute(HOLES),
    "sample_conditional": lambda model: model.sample_conditional(HOLES, 3, random_state=0),
    "transform of partial rows": lambda model: model.transform(HOLES),
    **{
        f"sample, {noise}, {source}": sampled(noise, source)
        for noise in ("matched", "model", "mean")
        for source in ("prior", "aggregate")
    },
}
ASKED = [(name, question) for name in MODELS for question in QUESTIONS]
ASKED += [(name, "hole_score") for name in MODELS if name not in ENCODERS]
ASKED += [(name, "predict") for name in MODELS if name.endswith("atoms")]
QUESTIONS["hole_score"] = lambda model: model.hole_score(model.prior_.sample(9, np.random.default_rng(0)))
QUESTIONS["predict"] = lambda model: model.predict(ROWS)


@pytest.mark.parametrize(("name", "question"), ASKED)
def test_it_answers_on_the_device(other_device, name, question):
    """As on the CPU, where it was fitted; and is on the CPU afterwards."""
    model = on(fitted(name, "cpu"), "cuda")
    found, expected = QUESTIONS[question](model), QUESTIONS[question](fitted(name, "cpu"))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, **(CLOSE if found.dtype == np.float32 else EXACT))
    assert left_on_device(model) == []


def left_on_device(value):
    """Names of the tensors and generators of the device that an object holds, in whatever it consists of."""
    found, left, seen = [], [("model", value)], {id(None)}
    while left:
        name, part = left.pop()
        if id(part) in seen or isinstance(part, (type, str, np.ndarray)):
            continue
        seen.add(id(part))
        if isinstance(part, (torch.Tensor, PlacedGenerator)) and part.device.type != "cpu":
            found.append(name)
        elif isinstance(part, dict):
            left += [(f"{name}[{key!r}]", item) for key, item in part.items()]
        elif isinstance(part, (list, tuple, set)):
            left += [(f"{name}[{i}]", item) for i, item in enumerate(part)]
        left += [(f"{name}.{key}", item) for key, item in getattr(part, "__dict__", {}).items()]
    return found


@pytest.mark.parametrize("name", MODELS)
def test_it_is_fitted_on_the_device(other_device, name):
    """As on the CPU; and is on the CPU afterwards, as pickled and as saved as well."""
    model = fitted(name, "cuda")
    agree(model, fitted(name, "cpu"))
    same = on(model, "cpu")
    assert left_on_device(same) == []
    np.testing.assert_allclose(same.transform(X), model.transform(X), **EXACT)


def test_a_model_of_the_device_is_saved(other_device, tmp_path):
    for name in ("coupled", "coupled, batch norm", "vae", "wae, adversarial"):
        model = fitted(name, "cuda")
        model.save(tmp_path / "model")
        same = skcvae.load(tmp_path / "model")
        assert left_on_device(same) == []
        np.testing.assert_array_equal(same.transform(X), model.transform(X))
        np.testing.assert_allclose(same.set_params(device="cpu").transform(X), model.transform(X), **EXACT)


def agree(model, expected):
    """Fits of the two devices, whose kernels differ by rounding, in what both say and in where they keep it."""
    assert left_on_device(model) == []
    if torch.cuda.is_available() and isinstance(model, CoupledVAE):  # whose regressions draw on the GPU's own generator
        assert abs(model.score(X) - expected.score(X)) < 0.3
        return
    np.testing.assert_allclose(model.loss_curve_, expected.loss_curve_, **CLOSE)
    mean, expected_mean = model.transform(X), expected.transform(X)
    if isinstance(model, CoupledVAE) and model.proposal == "encoder":  # is fitted to draws, of which rounding exchanges a few
        assert np.isclose(mean, expected_mean, **CLOSE).mean() > 0.95
    else:
        np.testing.assert_allclose(mean, expected_mean, **CLOSE)
    np.testing.assert_allclose(model.score_samples(X), expected.score_samples(X), **CLOSE)


@pytest.mark.parametrize("name", ["coupled", "vae", "wae, adversarial"])
def test_rows_that_are_not_fitted(other_device, name):
    """`X_val` on the device."""
    fits = [clone(MODELS[name]).set_params(device=d, max_iter=60).fit(X[:40], X_val=X[40:]) for d in ("cuda", "cpu")]
    agree(*fits)
    np.testing.assert_allclose(fits[0].validation_scores_, fits[1].validation_scores_, **CLOSE)


@pytest.mark.parametrize("name", ["coupled", "coupled, learned", "coupled, encoder", "vae", "vae, learned", "wae, adversarial"])
def test_a_warm_fit(other_device, name):
    """From the weights of a fit on the same device, and of one on the other."""
    cold = {device: fitted(name, device) for device in ("cuda", "cpu")}
    warm = {(a, b): on(cold[a], b).set_params(warm_start=True).fit(X[::-1]) for a, b in FROM_TO}
    for model in warm.values():
        agree(model, warm["cpu", "cpu"])


FROM_TO = [("cpu", "cpu"), ("cuda", "cuda"), ("cpu", "cuda")]


@pytest.mark.parametrize("devices", ["cuda cuda cuda", "cuda cpu cuda", "cpu cuda cpu"])
@pytest.mark.parametrize("name", ENCODERS)
def test_parts_that_go_from_device_to_device(other_device, name, devices):
    model, expected = clone(MODELS[name]), clone(MODELS[name]).set_params(device="cpu")
    for device in devices.split():
        model.set_params(device=device).partial_fit(X)
        expected.partial_fit(X)
    agree(model, expected)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_part_after_a_fit_and_after_pickling(other_device, name):
    model, expected = (on(fitted(name, device), device).partial_fit(X) for device in ("cuda", "cpu"))
    agree(on(model, "cuda").partial_fit(X), on(expected, "cpu").partial_fit(X))


@pytest.mark.parametrize("name", ["coupled", "coupled, network", "vae", "wae, adversarial"])
def test_a_fit_with_a_checkpoint(other_device, name, tmp_path):
    agree(clone(MODELS[name]).set_params(device="cuda", checkpoint=tmp_path / "state").fit(X), fitted(name, "cpu"))


def test_rows_that_are_read_as_they_are_asked_for(other_device, monkeypatch):
    for name in ("coupled", "vae", "wae, mmd"):
        expected = fitted(name, "cpu")
        with monkeypatch.context() as patch:
            patch.setattr("skcvae._data.MOST_HELD", 10)
            agree(clone(MODELS[name]).set_params(device="cuda").fit(X), expected)


def test_auto_is_the_device(other_device):
    model = clone(MODELS["vae"]).set_params(device="auto").fit(X)
    agree(model, fitted("vae", "cpu"))
