"""Jacobians by reverse-mode passes, Gauss-Newton steps and the Fisher information, against torch's own and closed forms."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from skcvae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from skcvae.networks import Decoder, LinearPlus
from skcvae.posteriors import Coordinates, Encoder, FromEncoder, FullGaussian, Laplace, Point, Refined, check_differentiable
from skcvae.posteriors import _encoder as encoders
from skcvae.posteriors._encoder import decoder_jacobian, normal_scores, robust_gaussian
from skcvae.priors import PRIORS, GaussianPrior

N_COORDINATES, N_OUTPUTS = 3, 5
GAUSSIAN = Coordinates(GaussianPrior(N_COORDINATES).distribution())


def seeded_linear(n_inputs, n_outputs, seed=0):
    layer = nn.Linear(n_inputs, n_outputs, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return layer


def smooth(n_outputs=N_OUTPUTS):
    return nn.Sequential(seeded_linear(N_COORDINATES, 8), nn.Tanh(), seeded_linear(8, n_outputs, 1))


class Filling(nn.Module):
    """Fills a buffer, branches on its data and changes its input in place."""

    def __init__(self, n_outputs=N_OUTPUTS):
        super().__init__()
        self.inner = smooth(n_outputs)
        self.register_buffer("last", torch.zeros(n_outputs, dtype=torch.float64))

    def forward(self, z):
        z.mul_(2.0)
        output = self.inner(z)
        self.last.copy_(output.detach().mean(0))
        return output if float(output.detach().sum()) > -1e9 else 2 * output


class Cubed(torch.autograd.Function):
    """Can be differentiated once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope


class Hidden(Cubed):
    """Its backward is computed where torch does not see it, so that a second one finds nothing."""

    @staticmethod
    def backward(ctx, slope):
        return torch.as_tensor(3 * ctx.saved_tensors[0].detach().numpy() ** 2 * slope.detach().numpy())


class OneWay(Cubed):
    @staticmethod
    def backward(ctx, slope):
        raise NotImplementedError("no backward")


class Through(nn.Module):
    """A hidden part that is `function` of a linear map, beside a linear part, as the estimators' decoders are made."""

    def __init__(self, function, n_outputs=N_OUTPUTS, with_linear=True):
        super().__init__()
        self.inner, self.function = seeded_linear(N_COORDINATES, n_outputs), function
        self.linear = seeded_linear(N_COORDINATES, n_outputs, 1)
        if not with_linear:
            self.linear.weight.data.zero_()

    def forward(self, z):
        return self.linear(z) + self.function(self.inner(z))


DECODERS = {
    "smooth": smooth,
    "filling": Filling,
    "once differentiable": lambda p=N_OUTPUTS: Through(Cubed.apply, p),
    "a hidden backward": lambda p=N_OUTPUTS: Through(Hidden.apply, p),
    "a softmax": lambda p=N_OUTPUTS: nn.Sequential(smooth(p), nn.Softmax(1)),
    "a convolution": lambda p=N_OUTPUTS: nn.Sequential(
        smooth(4), nn.Unflatten(1, (1, 2, 2)), nn.ConvTranspose2d(1, 2, 2, dtype=torch.float64), nn.Flatten(), seeded_linear(18, p)
    ),
}


def points(n=4, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(n, N_COORDINATES)))


def slow_jacobian(decoder, coordinates, y):
    """Row by row, by torch's own."""
    rows = [torch.autograd.functional.jacobian(lambda one: decoder(coordinates.latent(one[None].clone()))[0], row) for row in y]
    return torch.stack(rows)


@pytest.mark.parametrize("n_outputs", [1, 2, 5, 40])
@pytest.mark.parametrize("name", DECODERS)
def test_jacobians_are_torch_s(name, n_outputs):
    torch.manual_seed(0)
    decoder, y = DECODERS[name](n_outputs), points()
    output, jacobian = decoder_jacobian(decoder, GAUSSIAN, y)
    np.testing.assert_allclose(output, decoder(y.clone()).detach(), rtol=1e-12)
    np.testing.assert_allclose(jacobian, slow_jacobian(decoder, GAUSSIAN, y), rtol=1e-10, atol=1e-12)
    assert not output.requires_grad
    assert not jacobian.requires_grad


@pytest.mark.parametrize("prior", ["uniform", "dirichlet"])
def test_jacobians_in_the_coordinates_of_a_bounded_prior(prior):
    coordinates, decoder = Coordinates(PRIORS[prior](N_COORDINATES).distribution()), smooth()
    y = points()[:, : coordinates.width(N_COORDINATES)]
    np.testing.assert_allclose(decoder_jacobian(decoder, coordinates, y)[1], slow_jacobian(decoder, coordinates, y), rtol=1e-10)


@pytest.mark.parametrize("n_outputs", [2, 5])
def test_no_slope_where_nothing_depends_on_the_input(n_outputs):
    class Constant(nn.Module):
        def forward(self, z):
            return torch.ones(len(z), n_outputs, dtype=z.dtype)

    assert decoder_jacobian(Constant(), GAUSSIAN, points())[1].shape == (4, n_outputs, N_COORDINATES)
    assert not decoder_jacobian(Constant(), GAUSSIAN, points())[1].any()
    still = Through(torch.zeros_like, n_outputs, with_linear=False)
    assert not decoder_jacobian(still, GAUSSIAN, points())[1].any()


def bound(kind, d, n=60):
    rng = np.random.default_rng(0)
    X = (rng.random((n, d)) < 0.4).astype(float) if kind == "bernoulli" else rng.normal(size=(n, d)) * np.arange(1, d + 1)
    likelihood = BernoulliLikelihood() if kind == "bernoulli" else GaussianLikelihood("network" if kind == "network" else 0.5)
    family = likelihood.bind(X).double()
    return family, torch.as_tensor(family.standardise(X))


def laplace_of(decoder, family, prior=None, n_draws=500, start=0.3):
    prior = GaussianPrior(N_COORDINATES) if prior is None else prior
    coordinates = Coordinates(prior.distribution())
    y = coordinates.of(torch.as_tensor(prior.sample(n_draws, np.random.default_rng(1))))
    network = seeded_linear(family.n_features, y.shape[1])
    network.weight.data.mul_(start)
    encoder = Encoder(network, Point().begin(y.shape[1], torch.Generator()))
    return FromEncoder(encoder, Laplace(decoder, family, coordinates, robust_gaussian(y)))


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli", "network"])
def test_the_information_is_fisher_s(kind):
    """J' F J: F = 1/s^2 of a Gaussian, p(1 - p) of a Bernoulli; else the curvature of the mean statistics' cost."""
    family, _ = bound(kind, 4)
    decoder, y = smooth(family.n_outputs), points()
    laplace = laplace_of(decoder, family)
    output, jacobian = decoder_jacobian(decoder, GAUSSIAN, y)
    if kind == "gaussian":
        fisher = (1 / family.scale.square()).expand(4).diag().expand(len(y), -1, -1)
    elif kind == "bernoulli":
        mean = family.mean(output)
        fisher = (mean * (1 - mean)).diag_embed()
    else:

        def cost(row, statistics):
            eta, normaliser = family.natural(row[None])
            return normaliser[0] - eta[0] @ statistics

        statistics = family.mean_statistics(output)
        rows = zip(output, statistics, strict=True)
        fisher = torch.stack([torch.autograd.functional.hessian(lambda o, s=s: cost(o, s), row) for row, s in rows]).detach()
    np.testing.assert_allclose(
        laplace.laplace._information(output, jacobian), jacobian.mT @ fisher @ jacobian, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli", "network"])
def test_steps_lead_to_the_mode(kind, monkeypatch):
    """Where the gradient of the energy is zero; no step raises the energy; the covariance is the inverse of the precision there."""
    monkeypatch.setattr(encoders, "NEWTON_STEPS", 40)
    family, x = bound(kind, 4)
    decoder = nn.Sequential(nn.Tanh(), seeded_linear(N_COORDINATES, family.n_outputs))
    with torch.no_grad():
        decoder[1].weight.mul_(0.3)
    laplace = laplace_of(decoder, family)
    rows, statistics = laplace(x[:6]), family.statistics(x[:6])
    y = rows.location.requires_grad_()
    slope = torch.autograd.grad(laplace.laplace._energy(y, statistics).sum(), y)[0]
    np.testing.assert_allclose(slope, 0, atol=1e-3)
    begun = laplace.encoder.centre(x[:6]).detach()
    assert (laplace.laplace._energy(y, statistics) <= laplace.laplace._energy(begun, statistics)).all()
    y = y.detach()
    precision = laplace.laplace.whitening.T @ laplace.laplace.whitening + laplace.laplace._information(
        *decoder_jacobian(decoder, GAUSSIAN, y)
    )
    np.testing.assert_allclose(rows.factor @ rows.factor.mT, torch.linalg.inv(precision), rtol=1e-8, atol=1e-12)
    np.testing.assert_array_equal(rows.factor, rows.factor.tril())


def test_blocks_of_rows_change_nothing(monkeypatch):
    family, x = bound("bernoulli", 4)
    laplace = laplace_of(smooth(4), family)
    whole = laplace(x)
    monkeypatch.setattr(encoders, "NUMBERS_PER_JACOBIAN", 7 * 4 * N_COORDINATES)
    parts = laplace(x)
    np.testing.assert_allclose(parts.location, whole.location, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(parts.factor, whole.factor, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "decoder", [Through(torch.log, 4), Through(lambda x: x / 0, 4), nn.Sequential(smooth(4), nn.Threshold(9, 1e200))]
)
def test_a_row_without_finite_numbers_has_the_prior_s_width(decoder):
    family, x = bound("gaussian", 4)
    laplace = laplace_of(decoder, family)
    rows = laplace(x)
    assert torch.isfinite(rows.location).all()
    assert torch.isfinite(rows.factor).all()
    assert (rows.factor.diagonal(dim1=1, dim2=2) > 0).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e200])
def test_a_centre_that_is_no_number_is_the_prior_s(number):
    family, x = bound("gaussian", 4)
    laplace = laplace_of(smooth(4), family)
    with torch.no_grad():
        laplace.encoder.network.bias.fill_(number)
    rows = laplace(x[:3])
    assert torch.isfinite(rows.location).all()
    assert torch.isfinite(rows.factor).all()


MODES = [torch.no_grad, torch.inference_mode, torch.enable_grad, lambda: torch.autocast("cpu", torch.bfloat16)]


@pytest.mark.parametrize("mode", MODES)
def test_modes_of_the_caller_change_nothing(mode):
    """Also where the modules or the rows were made in them."""
    family, x = bound("bernoulli", 4)
    expected = laplace_of(Filling(4), family)(x)
    with mode():
        laplace = laplace_of(Filling(4), bound("bernoulli", 4)[0])
        inside = laplace(bound("bernoulli", 4)[1])
    for found in (inside, laplace(x)):
        np.testing.assert_array_equal(found.location, expected.location)
        np.testing.assert_array_equal(found.factor, expected.factor)
        assert not any(part.is_inference() or part.requires_grad for part in (found.location, found.factor))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_precision_changes_nothing(dtype):
    family, x = bound("bernoulli", 4)
    expected, scores = laplace_of(smooth(4), family)(x), normal_scores(8, 2)
    torch.set_default_dtype(dtype)
    try:
        found = laplace_of(smooth(4), bound("bernoulli", 4)[0])(x)
        conditional = FullGaussian().begin(2, torch.Generator())
        output = conditional.constant(torch.zeros(2).double(), torch.ones(2).double())
        encoders._normal_scores.cache_clear()
        again = normal_scores(8, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found.location, expected.location)
    np.testing.assert_array_equal(found.factor, expected.factor)
    assert output.dtype == conditional(output[None]).factor.dtype == torch.float64
    assert torch.equal(again, scores)


def test_threads_share_a_laplace_approximation():
    """Eight at once, of one module and of others."""
    family, x = bound("bernoulli", 4)
    shared, own = laplace_of(smooth(4), family), [laplace_of(smooth(4), family) for _ in range(8)]
    expected, barrier = shared(x), threading.Barrier(8)

    def work(number):
        barrier.wait(60)
        return [laplace(x).factor for _ in range(4) for laplace in (shared, own[number])]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert all(torch.equal(factor, expected.factor) for factors in found for factor in factors)


def test_a_mixture_of_an_encoder_and_its_laplace_approximation():
    family, x = bound("gaussian", 4)
    laplace = laplace_of(smooth(4), family)
    conditional = FullGaussian().begin(N_COORDINATES, torch.Generator())
    encoder = Encoder(seeded_linear(4, conditional.n_outputs), conditional)
    rows = Refined(encoder, laplace.laplace)(x)
    np.testing.assert_array_equal(rows.second.factor, laplace.laplace(x, encoder.centre(x)).factor)
    np.testing.assert_array_equal(rows.first.factor.detach(), encoder(x).factor.detach())


class Buffered(nn.Module):
    """Its outputs are entries of its own buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("buffer", torch.zeros(2, N_OUTPUTS, dtype=torch.float64))

    def forward(self, z):
        self.buffer[:] = z.sum(1, keepdim=True)
        return self.buffer * self.buffer


REFUSED = {
    "no backward": Through(OneWay.apply),
    "numpy": Through(lambda x: torch.as_tensor(np.tanh(x.numpy()))),
    "leaves autograd": Through(lambda x: torch.tanh(x.detach()), with_linear=False),
    "leaves autograd by numpy": Through(lambda x: torch.as_tensor(np.tanh(x.detach().numpy())), with_linear=False),
    "without gradients": Through(torch.no_grad()(torch.tanh), with_linear=False),
    "rounds": Through(torch.round, with_linear=False),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_decoder_that_cannot_be_differentiated_is_refused(name):
    with pytest.raises(ValueError, match=r"The decoder must be .* differentiate by its input, and it.*\. Write it with torch's"):
        check_differentiable(REFUSED[name], GAUSSIAN, points(2))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_that_can_be_differentiated_is_not_refused(name, mode):
    with mode():
        check_differentiable(DECODERS[name](), GAUSSIAN, points(2))


def test_the_dry_run_moves_nothing():
    """Neither running moments nor the mode, the gradients or torch's generator."""
    generator = torch.Generator().manual_seed(0)
    hidden = nn.Sequential(nn.Linear(N_COORDINATES, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, N_OUTPUTS))
    decoder = Decoder(LinearPlus(N_COORDINATES, N_OUTPUTS, hidden, generator), None).train()
    before, state = {name: value.clone() for name, value in decoder.state_dict().items()}, torch.get_rng_state()
    check_differentiable(decoder, GAUSSIAN, points(2).float())
    assert decoder.training
    assert hidden.training
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    assert all(parameter.grad is None for parameter in decoder.parameters())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("r", [1, 3, 40])
def test_moments_of_many_gaussian_draws_are_theirs(r):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(4096, r)) @ rng.normal(size=(r, r)) * np.logspace(-3, 3, r) + 5
    found = robust_gaussian(torch.as_tensor(y))
    np.testing.assert_allclose(found.mean, y.mean(0), rtol=1e-10)
    np.testing.assert_allclose(
        found.whitening.numpy() @ np.atleast_2d(np.cov(y.T)) @ found.whitening.numpy().T, np.eye(r), atol=1e-8
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.standard_cauchy((1000, 3)),
        lambda rng: np.where(rng.random((1000, 3)) < 0.1, np.inf, rng.normal(size=(1000, 3))),
        lambda rng: np.where(rng.random((1000, 3)) < 0.1, np.nan, rng.normal(size=(1000, 3))),
        lambda rng: np.full((1000, 3), np.nan),
        lambda rng: np.ones((1000, 3)),
        lambda rng: rng.normal(size=(1000, 1)) * np.ones(3),
        lambda rng: rng.normal(size=(2, 3)),
        lambda rng: rng.normal(size=(1, 3)),
        lambda rng: np.eye(3)[rng.integers(3, size=1000)],
    ],
    ids=["Cauchy", "infinite", "NaN", "all NaN", "constant", "one line", "two", "one", "one-hot"],
)
def test_moments_of_any_draws_are_finite(draw, dtype):
    found = robust_gaussian(torch.as_tensor(draw(np.random.default_rng(0))).to(dtype))
    assert torch.isfinite(found.mean).all()
    assert torch.isfinite(found.whitening).all()
    assert torch.linalg.cholesky_ex(found.whitening.T.double() @ found.whitening.double())[1] == 0


def test_moments_of_heavy_tails_are_of_the_bulk():
    """A Cauchy's bulk is some deviations wide, however far its farthest draw is."""
    found = robust_gaussian(torch.as_tensor(np.random.default_rng(0).standard_cauchy((4096, 2))))
    assert (found.mean.abs() < 0.5).all()
    deviations = found.whitening.inverse().square().sum(1).sqrt()
    assert ((deviations > 1) & (deviations < 10)).all()


def test_moments_of_few_draws_have_no_direction_without_width():
    """100 draws in 64 dimensions: the condition number stays moderate where the draws' own covariance has 1e3."""
    y = torch.as_tensor(np.random.default_rng(0).normal(size=(100, 64)))
    assert float(torch.linalg.cond(robust_gaussian(y).whitening)) ** 2 < 30


def test_a_prior_on_a_line_keeps_its_widths_in_single_precision():
    """1 along the line and nearly 0 across, also where a matrix of precisions would have lost the 1."""
    y = torch.as_tensor(np.random.default_rng(0).normal(size=(4096, 1)) * np.ones(3))
    family, x = bound("gaussian", 4)
    laplace = laplace_of(seeded_linear(N_COORDINATES, 4), family)
    laplace.laplace.decoder.weight.data.zero_()
    found = robust_gaussian(y.float())
    laplace.laplace.mean, laplace.laplace.whitening = found.mean, found.whitening
    factor = laplace.float()(x.float()).factor[0].double()
    widths = torch.linalg.eigvalsh(factor @ factor.T).sqrt()
    np.testing.assert_allclose(widths[-1], y.std(0).norm(), rtol=0.02)
    assert widths[1] < 1e-3
