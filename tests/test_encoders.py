"""What an encoder's output means: densities against autograd, torch and closed forms; proposals against exact posteriors."""

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from skcvae.likelihoods import GaussianLikelihood
from skcvae.posteriors import POSTERIORS, Coordinates, Encoder, FromEncoder, Laplace, PlanarFlow, Point, robust_gaussian
from skcvae.posteriors._conditional import DiagonalRows, FullRows, MixedRows, free_of, positive
from skcvae.posteriors._flows import _invertible, _zuko_flows
from skcvae.priors import PRIORS, GaussianPrior, TorchPrior

SPREAD = {name: family for name, family in POSTERIORS.items() if name != "point"}
DENSE = {name: build(3) for name, build in PRIORS.items() if build(3).distribution() is not None}
DENSE["shifted"] = GaussianPrior(3, mean=[1.0, 2.0, 3.0], covariance=np.diag([1.0, 4.0, 0.25]))
DENSE["laplace"] = TorchPrior(torch.distributions.Laplace(torch.zeros(3), torch.ones(3)))


def needs_zuko():
    """Without importing it: its import changes torch."""
    if importlib.util.find_spec("zuko") is None:
        pytest.skip("zuko is not installed")


def conditional_of(name, r):
    if name == "spline":
        needs_zuko()
    return POSTERIORS[name]().begin(r, torch.Generator().manual_seed(0)).double()


def rows_of(name, r=2, n=4, seed=0, spread=0.7):
    """Distributions of n random outputs."""
    conditional = conditional_of(name, r)
    output = spread * torch.randn(n, conditional.n_outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return conditional(output)


@pytest.fixture(params=list(SPREAD))
def name(request):
    return request.param


@pytest.mark.parametrize("r", [1, 2, 5])
def test_density_of_a_draw_is_the_density_there(name, r):
    """The inverse map finds the noise back."""
    rows = rows_of(name, r)
    y, log_q = rows.draw(torch.as_tensor(np.random.default_rng(1).normal(size=(50, r))))
    np.testing.assert_allclose(rows.log_prob(y).detach(), log_q.detach(), atol=1e-6)


def test_density_is_the_noise_s_over_the_jacobian(name):
    """log q(y) = log N(noise) - log |det dy/dnoise|, the Jacobian by autograd."""
    rows, noise = rows_of(name, 3, n=1), torch.as_tensor(np.random.default_rng(1).normal(size=3))
    jacobian = torch.autograd.functional.jacobian(lambda e: rows.draw(e[None])[0][0, 0], noise)
    expected = -0.5 * noise.square().sum() - 1.5 * np.log(2 * np.pi) - torch.linalg.slogdet(jacobian)[1]
    assert float(rows.draw(noise[None])[1][0, 0].detach()) == pytest.approx(float(expected), abs=1e-10)


def test_scales_of_any_size_have_free_numbers():
    scale = torch.tensor([1e-3, 0.5, 20.0, 1e3, 1e6])
    torch.testing.assert_close(positive(free_of(scale)), scale, rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-7, 1e-12])
def test_planar_layers_with_small_weights_are_not_rounding(size):
    """u = free + (something of the order of free), also in float32."""
    generator = torch.Generator().manual_seed(0)
    free, w = (scale * torch.randn(500, 1, 1, generator=generator, dtype=torch.float64) for scale in (1.0, size))
    torch.testing.assert_close(_invertible(free.float(), w.float()).double(), _invertible(free, w), rtol=1e-4, atol=1e-5)


def test_density_integrates_to_one(name):
    rows = rows_of(name, 1, n=3)
    y = torch.linspace(-30, 30, 60001, dtype=torch.float64)[:, None]
    np.testing.assert_allclose(torch.trapezoid(rows.log_prob(y).exp(), y[:, 0]).detach(), 1, atol=1e-4)


def test_noise_of_each_row_s_own(name):
    rows, noise = rows_of(name, 2), torch.as_tensor(np.random.default_rng(1).normal(size=(4, 6, 2)))
    y, log_q = rows.draw(noise)
    assert y.shape == (4, 6, 2)
    assert log_q.shape == (4, 6)
    np.testing.assert_allclose(rows.draw(noise[2])[0][2].detach(), y[2].detach(), atol=1e-9)


@pytest.mark.parametrize("kind", [*SPREAD, "point"])
def test_constant_outputs(kind):
    """The output that training starts from has the location and, but for a point, the spread that were asked for."""
    conditional = conditional_of(kind, 2)
    location, scale = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 2.0]).double()
    output = conditional.constant(location, scale)
    assert output.shape == (conditional.n_outputs,)
    y, _ = conditional(output[None]).draw(torch.as_tensor(np.random.default_rng(0).normal(size=(20000, 2))))
    atol = 0.5 if kind == "spline" else 0.05
    np.testing.assert_allclose(y[0].mean(0).detach(), location, atol=atol)
    np.testing.assert_allclose(y[0].std(0).detach(), 0 * scale if kind == "point" else scale, atol=atol)


@pytest.mark.parametrize("kind", [*SPREAD, "point"])
def test_constant_outputs_are_where_their_numbers_are(kind):
    """And as precise; torch's "meta" is a device that every machine has, where a mixture with the CPU is refused."""
    conditional = conditional_of(kind, 2).to("meta", torch.float32)
    location, scale = torch.zeros(2, device="meta"), torch.ones(2, device="meta")
    output = conditional.constant(location, scale)
    assert (output.device.type, output.dtype) == ("meta", torch.float32)
    if kind == "spline":  # which asks a number what it is
        return
    y, log_q = conditional(output[None]).draw(torch.zeros(5, 2, device="meta"))
    assert y.device.type == log_q.device.type == "meta"
    assert y.dtype == log_q.dtype == torch.float32


@pytest.mark.parametrize("kind", [*SPREAD, "point"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_precision_changes_no_family(kind, dtype):
    conditional_of(kind, 2)  # zuko is imported in torch's own state
    before = torch.get_rng_state()
    expected = POSTERIORS[kind]().begin(2, torch.Generator().manual_seed(0))
    output = expected.constant(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0]))
    noise = torch.tensor([[0.5, -1.0]])
    torch.set_default_dtype(dtype)
    try:
        found = POSTERIORS[kind]().begin(2, torch.Generator().manual_seed(0))
        again = found.constant(output[:2], torch.tensor([0.5, 2.0], dtype=torch.float32))
        y = found(again[None]).draw(noise)[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())
    assert torch.equal(again, output)
    assert torch.equal(y, expected(output[None]).draw(noise)[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["gaussian", "full"])
def test_divergence_between_gaussians(kind):
    prior, rows = GaussianPrior(3, [1.0, 0.0, -1.0], np.array([[2.0, 0.5, 0], [0.5, 1.0, 0.3], [0, 0.3, 0.5]])), rows_of(kind, 3)
    factor = rows.factor if isinstance(rows, FullRows) else torch.diag_embed(rows.scale)
    expected = kl_divergence(MultivariateNormal(rows.mean, scale_tril=factor), prior.distribution())
    gaussian = Coordinates(prior.distribution()).gaussian(rows.mean)
    np.testing.assert_allclose(rows.divergence(gaussian), expected, rtol=1e-10)


def test_planar_layers_can_always_be_inverted():
    """w . u > -1 whatever the network says, and the identity where it says nothing."""
    conditional = PlanarFlow(6).begin(3, torch.Generator())
    for spread in (1e-8, 1.0, 30.0):
        output = spread * torch.randn(200, conditional.n_outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        rows = conditional(output)
        assert bool(((rows.u * rows.w).sum(2) > -1 - 1e-9).all())
        assert torch.isfinite(rows.u).all()
    zero = conditional(torch.zeros(1, conditional.n_outputs, dtype=torch.float64))
    noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(zero.draw(noise)[0], zero.base.draw(noise)[0], atol=1e-12)


@pytest.mark.parametrize("prior", DENSE.values(), ids=list(DENSE))
def test_coordinates_are_without_bounds(prior):
    coordinates, z = Coordinates(prior.distribution()), torch.as_tensor(prior.sample(200, np.random.default_rng(0)))
    y = coordinates.of(z)
    assert y.shape[1] == coordinates.width(3)
    np.testing.assert_allclose(coordinates.latent(y), z, atol=1e-8)
    anywhere = coordinates.latent(5 * torch.randn(100, y.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert bool(prior.distribution().support.check(anywhere).all())
    exact = coordinates.gaussian(y)
    if exact is not None:
        white = (y - exact.mean) @ exact.whitening.T
        log_prob = -0.5 * white.square().sum(1) - 1.5 * np.log(2 * np.pi) + exact.whitening.diagonal().log().sum()
        np.testing.assert_allclose(coordinates.log_prior(y), log_prob)


@pytest.mark.parametrize("prior", DENSE.values(), ids=list(DENSE))
def test_coordinates_are_where_their_points_are(prior):
    """On another device than the prior's bounds; torch's "meta" is one that every machine has."""
    coordinates = Coordinates(prior.distribution())
    z = coordinates.latent(torch.zeros(5, 1, coordinates.width(3), device="meta"))
    assert z.shape == (5, 1, 3)
    assert coordinates.of(z).device.type == "meta"


@pytest.mark.parametrize("name", DENSE)
def test_coordinates_that_are_latent(name):
    assert Coordinates(DENSE[name].distribution()).are_latent == (name not in ("uniform", "dirichlet"))


def test_mixed_rows_are_even_mixtures():
    """q = (q1 + q2)/2, and one half of the draws from each."""
    first, second = rows_of("gaussian", 1, seed=0), rows_of("full", 1, seed=1)
    mixed, noise = MixedRows(first, second), torch.as_tensor(np.random.default_rng(1).normal(size=(40, 1)))
    y, log_q = mixed.draw(noise)
    np.testing.assert_allclose(y[:, :20], first.draw(noise[:20])[0])
    np.testing.assert_allclose(y[:, 20:], second.draw(noise[20:])[0])
    np.testing.assert_allclose(log_q.exp(), (first.log_prob(y).exp() + second.log_prob(y).exp()) / 2)


def test_laplace_is_the_posterior_of_a_linear_decoder():
    """N(S W'(x - b)/s^2, S), S = (P + W'W/s^2)^-1, from any code: one Gauss-Newton step is exact."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 4)), torch.as_tensor(rng.normal(size=(1000, 2)) * [1.0, 2.0])
    family, linear = GaussianLikelihood(scale=0.5).bind(X).double(), torch.nn.Linear(2, 4).double()
    variance = float(family.scale[0] ** 2)
    precision = torch.linalg.inv(torch.cov(y.T))
    covariance = torch.linalg.inv(precision + linear.weight.T @ linear.weight / variance).detach()
    encoder = Encoder(torch.nn.Linear(4, 2).double(), Point().begin(2, torch.Generator()))
    found = FromEncoder(encoder, Laplace(linear, family, Coordinates(GaussianPrior(2).distribution()), robust_gaussian(y)))
    x = torch.as_tensor(family.standardise(X[:3]))
    rows = found(x)
    mean = (precision @ y.mean(0) + (x - linear.bias) @ linear.weight / variance) @ covariance
    np.testing.assert_allclose(rows.mean, mean.detach(), atol=1e-10)
    np.testing.assert_allclose(rows.factor @ rows.factor.mT, covariance.expand(3, -1, -1), atol=1e-12)


def test_zuko_leaves_torch_as_it_was(monkeypatch):
    monkeypatch.setattr(Distribution, "_validate_args", True)  # which torch.compile in the same process turns off
    conditional_of("spline", 2)
    with pytest.raises(ValueError, match="to satisfy the constraint"):
        torch.distributions.Normal(0.0, -1.0)


def test_threads_that_import_zuko_at_once_leave_torch_as_it_was(tmp_path, monkeypatch):
    """A second thread must not take for torch's own state what the import of the first has turned off."""
    (tmp_path / "zuko").mkdir()
    switch = "import time, torch.distributions as d\nd.Distribution.set_default_validate_args(False)\ntime.sleep(0.3)\n"
    (tmp_path / "zuko" / "__init__.py").write_text(switch)
    (tmp_path / "zuko" / "flows.py").write_text("")
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "zuko"}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    before = Distribution._validate_args
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(_zuko_flows)
            time.sleep(0.1)
            second = pool.submit(_zuko_flows)
            assert first.result() is second.result()
        assert Distribution._validate_args == before
    finally:
        Distribution.set_default_validate_args(before)
        for name in [name for name in sys.modules if name.partition(".")[0] == "zuko"]:
            del sys.modules[name]
        sys.modules.update(kept)


def test_bad_flows():
    with pytest.raises(ValueError, match="n_layers must be an integer of at least 1, got 0"):
        PlanarFlow(0)


def test_diagonal_rows_know_their_mean():
    rows = rows_of("gaussian")
    assert isinstance(rows, DiagonalRows)
    assert rows.mean is rows.location
    assert rows_of("planar").mean is None
