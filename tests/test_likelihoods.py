"""Laws over all likelihoods: they integrate to one, their cost is bilinear, and divergence is a Kullback-Leibler divergence."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import multivariate_normal

from skcvae import CoupledVAE
from skcvae.likelihoods import LIKELIHOODS, AutoLikelihood, BernoulliLikelihood, GaussianLikelihood, noise_scale
from skcvae.likelihoods._gaussian import _distinct

GAUSSIANS = {
    "auto": GaussianLikelihood(),
    "float": GaussianLikelihood(scale=0.3),
    "array": GaussianLikelihood(scale=[0.3, 0.6]),
    "per_feature": GaussianLikelihood(scale="per_feature"),
    "learned": GaussianLikelihood(scale="learned"),
    "learned_per_feature": GaussianLikelihood(scale="learned_per_feature"),
    "network": GaussianLikelihood(scale="network"),
}
ALL = {**GAUSSIANS, "bernoulli": BernoulliLikelihood(), "auto": AutoLikelihood()}


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(200, 2)) * [1.0, 2.0] + [3.0, -1.0]


def bind(name, X):
    data = (X.mean(0) < X).astype(float) if name == "bernoulli" else X
    return ALL[name].bind(data), data


def outputs(family, m=5, seed=1):
    return torch.randn(m, family.n_outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_named_likelihood_is_tested():
    assert {type(likelihood) for likelihood in ALL.values()} == {
        chosen if isinstance(chosen, type) else type(chosen) for chosen in LIKELIHOODS.values()
    }


@pytest.mark.parametrize("epsilon", [1.0, 0.3])
@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussian_integrates_to_one(name, X, epsilon):
    family = bind(name, X)[0].tempered(epsilon)
    axis = torch.linspace(-12, 12, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = family.cost(grid, outputs(family, 3)).neg().exp().sum(0) * (axis[1] - axis[0]) ** 2
    torch.testing.assert_close(mass.detach(), torch.ones_like(mass), rtol=1e-6, atol=0)


def test_bernoulli_sums_to_one(X):
    family, _ = bind("bernoulli", X)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 2)
    mass = family.cost(corners, outputs(family)).neg().exp().sum(0)
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussian_cost_is_scipy_s_density(name, X):
    family, data = bind(name, X)
    x, output = torch.as_tensor(family.standardise(data)), outputs(family)
    deviation = family.deviation(output).expand(5, 2).detach().numpy()
    mean = family.mean(output).numpy()
    expected = stats.norm.logpdf(x.numpy()[:, None], mean, deviation).sum(2)
    np.testing.assert_allclose(-family.cost(x, output).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_divergence_has_the_semi_dual_s_gradient(name, X):
    """d/d(output) of the divergence is that of the plan-averaged cost."""
    family, data = bind(name, X)
    x = torch.as_tensor(family.standardise(data))[:20]
    P = torch.softmax(torch.randn(20, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64), 0)
    barycentre = P.T @ family.statistics(x)
    output = outputs(family).requires_grad_()
    (expected,) = torch.autograd.grad((P * family.cost(x, output)).sum(), output)
    (gradient,) = torch.autograd.grad(family.divergence(output, barycentre).sum(), output)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_divergence_vanishes_only_at_the_barycentre(name, X):
    family, _ = bind(name, X)
    output = outputs(family)
    mean = family.mean(output).detach()
    moments = mean
    if family.statistics(mean).shape[1] == 4:
        moments = torch.cat([mean, mean**2 + family.deviation(output).detach() ** 2], 1)
    torch.testing.assert_close(family.divergence(output, moments), torch.zeros(5).double(), rtol=0, atol=1e-9)
    assert (family.divergence(output + 0.3, moments) > 1e-4).all()


@pytest.mark.parametrize("name", ALL)
def test_noise_has_the_family_s_moments(name, X):
    family, _ = bind(name, X)
    output = outputs(family, 1).expand(40000, -1)
    draws = family.noise(output, np.random.default_rng(0)).detach()
    mean = family.mean(output[:1]).detach()
    variance = mean * (1 - mean) if name == "bernoulli" else family.deviation(output[:1]).detach().square().expand(1, 2)
    standard_error = (variance / 40000).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * standard_error).all()
    torch.testing.assert_close(draws.var(0), variance[0], rtol=0.05, atol=0)


@pytest.mark.parametrize("name", [name for name in GAUSSIANS if "learned" not in name and name != "network"])
def test_tempered_scales_a_fixed_variance_and_keeps_the_mean(name, X):
    family, _ = bind(name, X)
    output = outputs(family)
    tempered = family.tempered(0.25)
    torch.testing.assert_close(tempered.mean(output), family.mean(output))
    torch.testing.assert_close(tempered.deviation(output), 0.5 * family.deviation(output))


@pytest.mark.parametrize("name", ["bernoulli", "learned", "network"])
def test_what_is_fitted_to_the_plan_is_never_tempered(name, X):
    family, _ = bind(name, X)
    assert family.tempered(0.1) is family


@pytest.mark.parametrize("name", GAUSSIANS)
def test_standardise_and_restore_are_inverse_and_equivariant(name, X):
    family, other = ALL[name].bind(X), ALL["auto"].bind(8.0 * X)
    np.testing.assert_allclose(family.restore(family.standardise(X)), X, rtol=1e-12)
    np.testing.assert_array_equal(other.standardise(8.0 * X), ALL["auto"].bind(X).standardise(X))


@pytest.mark.parametrize("std", [0.02, 0.05, 0.15])
def test_noise_scale_is_of_the_order_of_the_modes(std):
    rng = np.random.default_rng(0)
    X = rng.integers(-2, 3, size=(5000, 2)) + std * rng.normal(size=(5000, 2))
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    scale = noise_scale(X)
    assert 0.6 * std < scale < 1.05 * std
    assert noise_scale(7.0 * X @ rotation + 100) == pytest.approx(7 * scale, rel=1e-9)


@pytest.mark.parametrize("n", [300, 5000])
def test_noise_scale_says_nothing_of_the_order_of_rows(n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    assert noise_scale(X[rng.permutation(n)]) == pytest.approx(noise_scale(X), rel=1e-12)


def test_noise_scale_of_a_periodic_table():
    """Every tenth row is at the same place, which a stride of ten would take for all."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 2))
    X[::10] = 1e-3 * X[::10]
    assert noise_scale(X) == pytest.approx(noise_scale(X[rng.permutation(10_000)]), rel=1e-12)
    assert noise_scale(X) > 0.1


def test_copies_of_a_row_are_one_neighbour():
    X = np.random.default_rng(0).normal(size=(200, 3))
    assert noise_scale(X.repeat(50, axis=0)) == pytest.approx(noise_scale(X), rel=1e-12)
    some = np.concatenate([X, X[:20].repeat(30, axis=0)])
    assert noise_scale(some) == pytest.approx(noise_scale(X), rel=0.3)


@pytest.mark.parametrize("X", [np.eye(64), np.eye(64)[:, :1], 2.0 ** np.arange(64)[:, None], np.zeros((3, 2))])
def test_different_rows_are_told_apart(X):
    rows, counts = _distinct(np.concatenate([X, -0.0 + X, X]), np.ones(3 * len(X)))
    assert sorted(map(tuple, rows)) == sorted(set(map(tuple, X)))
    assert counts.sum() == 3 * len(X)


@pytest.mark.parametrize("n", [40, 400])
def test_noise_scale_is_not_below_the_rounding_of_columns(n):
    """A third of the variance of two columns' rounding to whole numbers, where a third column says that rows are near."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 4, n), rng.integers(0, 4, n), 1e-6 * rng.normal(size=n)]).astype(float)
    assert noise_scale(X) >= np.sqrt(2 / 12 / 3) * (1 - 1e-12)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (np.random.default_rng(0).integers(0, 2, (500, 4)).astype(float), 1 / np.sqrt(12)),
        (2 * np.eye(7)[np.random.default_rng(0).integers(0, 7, 500)], 2 / np.sqrt(12)),
    ],
    ids=["flags", "one-hot days"],
)
def test_rows_that_repeat_few_cells_have_the_noise_of_rounding(X, expected):
    with pytest.warns(UserWarning, match=r"X has \d+ different rows among 500.* Give a scale, or likelihood='bernoulli'"):
        assert noise_scale(X) == pytest.approx(expected, rel=1e-12)


def test_a_model_of_flags_is_better_than_one_gaussian():
    X = np.random.default_rng(0).integers(0, 2, (500, 4)).astype(float)
    with pytest.warns(UserWarning, match="X has 16 different rows among 500"):
        model = CoupledVAE(max_iter=200, random_state=0).fit(X)
    gaussian = multivariate_normal(X.mean(0), np.cov(X.T)).logpdf(X).mean()
    assert model.score(X) > gaussian + 0.5
    nearest = model.sample(2000, random_state=0).round()
    assert ((nearest >= 0) & (nearest <= 1)).all(1).mean() > 0.7


def test_noise_scale_of_repeated_rows_is_positive():
    assert noise_scale(np.repeat([[0.0, 0.0], [1.0, 2.0]], 50, axis=0)) > 0


@pytest.mark.parametrize("scale", ["auto", "per_feature"])
def test_a_constant_feature_is_one_whatever_its_value(X, scale):
    """Also 0.1, the mean of which is rounded."""
    exact, rounded = (GaussianLikelihood(scale).bind(np.hstack([X, np.full((200, 1), value)])).scale for value in (0.0, 0.1))
    torch.testing.assert_close(rounded, exact, rtol=1e-9, atol=0)


def test_scales_are_a_list_or_an_array(X):
    scales = np.linspace(0.5, 2.0, X.shape[1])
    torch.testing.assert_close(GaussianLikelihood(scales).bind(X).scale, GaussianLikelihood(scales.tolist()).bind(X).scale)


@pytest.mark.parametrize("scale", ["automatic", -1.0, 0.0, np.nan, [0.1, 0.2, 0.3], np.ones(3), None])
def test_wrong_scales_say_what_is_expected(scale, X):
    with pytest.raises(ValueError, match="scale must be one of"):
        GaussianLikelihood(scale=scale).bind(X)


def test_wrong_floor_and_wrong_range(X):
    with pytest.raises(ValueError, match="floor must be"):
        GaussianLikelihood(scale="learned", floor=2.0).bind(X)
    with pytest.raises(ValueError, match=r"expects values in \[0, 1\].*MinMaxScaler"):
        BernoulliLikelihood().bind(X)


def test_the_range_is_checked_after_the_fit_too(X):
    binary = BernoulliLikelihood().bind((X > 0).astype(float))
    binary.check_support(np.array([[0.0, 1.0, 0.5]], np.float32))
    with pytest.raises(ValueError, match=r"expects values in \[0, 1\], got values from 0 to 1\.5"):
        binary.check_support(np.array([[0.0, 1.5]]))
    GaussianLikelihood().bind(X).check_support(np.array([[-1e9]]))


def test_linear_start_is_the_linear_gaussian_optimum():
    """Decoder means W z + b then have covariance Cov(X) - T I on the encoded directions."""
    X = np.random.default_rng(0).normal(size=(4000, 3)) @ np.diag([3.0, 2.0, 0.5])
    family = GaussianLikelihood(scale=1.0).bind(X)
    x = torch.as_tensor(family.standardise(X))
    weight, _ = family.linear_start(x, 2, 1.0)
    covariance = np.linalg.eigvalsh((weight @ weight.T).numpy())[::-1] * family.unit**2
    expected = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1][:2] - 1.0
    np.testing.assert_allclose(covariance[:2], expected, rtol=1e-8)


@pytest.mark.parametrize("scale", ["learned", "learned_per_feature"])
def test_a_learned_scale_settles_at_the_optimum_of_a_plan(scale):
    """No other scale has a lower mean cost under the plan; below the floor it stays at the floor."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(40, 3, generator=generator, dtype=torch.float64).numpy()
    family = GaussianLikelihood(scale=scale, floor=1e-3).bind(X).double()
    x = torch.as_tensor(family.standardise(X)).double()
    output = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    plan = torch.rand(40, 7, generator=generator, dtype=torch.float64)
    family.settle(output, (plan / plan.sum(0)).T @ family.statistics(x), plan.sum(0))
    settled = family.free.detach().clone()
    lowest = float((plan * family.cost(x, output)).sum().detach())
    for step in (0.3, -0.3):
        for place in range(len(settled)):
            moved = settled.clone()
            moved[place] += step
            family.free.data.copy_(moved)
            assert float((plan * family.cost(x, output)).sum().detach()) > lowest
    exact = family.statistics(x[:1]).expand(7, -1)
    family.settle(x[:1].expand(7, -1), exact, torch.ones(7, dtype=torch.float64))
    assert torch.isfinite(family.scale).all()
    torch.testing.assert_close(family.scale, family.floor, rtol=1e-3, atol=0)
