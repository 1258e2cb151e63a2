"""Laws over all priors: draws, densities, supports, standardisation, and who may be given as one."""

import numpy as np
import pytest
import torch
from scipy import stats

from skcvae.priors import (
    PRIORS,
    CategoricalPrior,
    DirichletPrior,
    GaussianPrior,
    MixturePrior,
    SamplerPrior,
    TorchPrior,
    UniformPrior,
    as_prior,
    is_discrete,
)

D = torch.distributions
GIVEN = {
    "correlated": GaussianPrior(3, mean=[1, 2, 3], covariance=[[2, 1, 0], [1, 2, 0], [0, 0, 0.1]]),
    "box": UniformPrior(3, low=[-1, 0, 5], high=[1, 2, 6]),
    "spiky dirichlet": DirichletPrior([0.3, 2.0, 5.0]),
    "two clouds": MixturePrior([[-3, 0, 0], [3, 0, 0]], covariances=0.2, weights=[0.25, 0.75]),
    "atoms": CategoricalPrior([0.2, 0.3, 0.5], [[0, 0, 0], [1, 0, 0], [0, 1, 5]]),
    "laplace": TorchPrior(D.Laplace(torch.zeros(3), torch.ones(3))),
    "heavy tails": TorchPrior(D.StudentT(torch.full((3,), 1.5))),
    "counts": TorchPrior(D.Poisson(torch.full((3,), 2.0))),
    "sampler": SamplerPrior(lambda n, seed: np.random.default_rng(seed).exponential(size=(n, 3)).astype(np.float32), 3),
    "tensor sampler": SamplerPrior(lambda n, seed: torch.randn(n, 3), 3),
}
ALL = {**{name: build(3) for name, build in PRIORS.items()}, **GIVEN}
DENSE = {name: prior for name, prior in ALL.items() if prior.distribution() is not None}


def draw(prior, method, n=257, seed=0):
    return getattr(prior, method)(n, np.random.default_rng(seed))


@pytest.mark.parametrize("prior", ALL.values(), ids=list(ALL))
@pytest.mark.parametrize("method", ["sample", "quasi_sample"])
def test_draws_are_finite_deterministic_and_shaped(prior, method):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    draws, again = draw(prior, method), draw(prior, method)
    assert (draws.shape, draws.dtype) == ((257, 3), np.float64)
    assert np.isfinite(draws).all()
    np.testing.assert_array_equal(draws, again)
    assert not np.array_equal(draws, draw(prior, method, seed=1))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("prior", DENSE.values(), ids=list(DENSE))
@pytest.mark.parametrize("method", ["sample", "quasi_sample"])
def test_draws_have_the_distribution(prior, method):
    """Every coordinate against 20000 draws of the torch distribution, by the two-sample Kolmogorov-Smirnov test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = prior.distribution().sample((20000,)).numpy()
    draws = draw(prior, method, 20000)
    assert min(stats.ks_2samp(a, b).pvalue for a, b in zip(draws.T, reference.T, strict=True)) > 1e-4
    assert bool(prior.distribution().support.check(torch.as_tensor(draws)).all())
    assert torch.isfinite(prior.distribution().log_prob(torch.as_tensor(draws))).all()


@pytest.mark.parametrize(
    "prior", [p for n, p in ALL.items() if n not in ("heavy tails",)], ids=[n for n in ALL if n != "heavy tails"]
)
def test_standardisation_gives_identity_covariance(prior):
    draws = draw(prior, "sample", 40000)
    mean, whitening = prior.standardisation() or (np.zeros(3), np.eye(3))
    white = (draws - mean) @ whitening.T
    assert np.abs(white.mean(0)).max() < 0.15
    assert np.abs(np.cov(white.T) - np.eye(len(whitening))).max() < 0.35  # tails are trimmed where moments are estimated


def test_simplex_and_atoms_have_fewer_dimensions_than_coordinates():
    assert DirichletPrior(np.ones(4)).standardisation()[1].shape == (3, 4)
    assert CategoricalPrior(np.full(5, 0.2)).standardisation()[1].shape == (4, 5)


@pytest.mark.parametrize("concentration", [[1.0, 1.0], [0.05, 0.05, 0.05], [1e3, 1.0, 1e-2]])
def test_dirichlet_stays_on_the_simplex(concentration):
    draws = draw(DirichletPrior(concentration), "quasi_sample", 4096)
    assert (draws > 0).all()
    np.testing.assert_allclose(draws.sum(1), 1, rtol=1e-14)
    expected = np.asarray(concentration) / np.sum(concentration)
    np.testing.assert_allclose(draws.mean(0), expected, atol=0.02)


def test_atoms_come_by_their_weights():
    prior = GIVEN["atoms"]
    index = (draw(prior, "sample", 20000)[:, None] == prior.positions()).all(2).argmax(1)
    np.testing.assert_allclose(np.bincount(index) / 20000, prior.weights(), atol=0.02)


@pytest.mark.parametrize("prior", ["gaussian", "uniform", "dirichlet", "mixture"])
def test_quasi_draws_are_more_even(prior):
    """The error of a smooth function's mean, root mean square over ten seeds."""
    prior = as_prior(prior, 2)
    truth = np.cos(draw(prior, "quasi_sample", 2**17, 99)).mean()
    error = {
        method: np.sqrt(np.mean([(np.cos(draw(prior, method, 4096, seed)).mean() - truth) ** 2 for seed in range(10)]))
        for method in ("sample", "quasi_sample")
    }
    assert error["quasi_sample"] < 0.3 * error["sample"]


def test_torch_distributions_with_quantiles_are_drawn_evenly():
    prior = GIVEN["laplace"]
    plain, quasi = (np.cos(draw(prior, m, 4096)).mean() - 0.5 for m in ("sample", "quasi_sample"))  # E cos = 1/(1 + 1)
    assert abs(quasi) < 1e-3 < abs(plain)


def test_stream_goes_on_where_it_stopped():
    following = GaussianPrior(2).stream(16, np.random.default_rng(0))
    blocks = np.concatenate([following() for _ in range(200)])
    assert blocks.shape == (3200, 2)
    assert len(np.unique(blocks, axis=0)) == 3200


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("mixture", MixturePrior),
        (GaussianPrior(2), GaussianPrior),
        (D.Cauchy(torch.zeros(2), 1.0), TorchPrior),
        (D.MultivariateNormal(torch.zeros(2), torch.eye(2)), TorchPrior),
        (D.OneHotCategorical(torch.tensor([0.25, 0.75])), CategoricalPrior),
        (np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]]), CategoricalPrior),
        (([[0.0, 1.0], [1.0, 0.0]], [0.1, 0.9]), CategoricalPrior),
        (lambda n, seed: np.zeros((n, 2)), SamplerPrior),
    ],
)
def test_what_may_be_given_as_a_prior(value, kind):
    prior = as_prior(value, 2)
    assert isinstance(prior, kind)
    assert is_discrete(value) == (kind is CategoricalPrior)


def test_a_distribution_of_numbers_is_one_of_vectors_with_one_coordinate():
    prior = as_prior(D.Normal(1.0, 2.0), 1)
    z = torch.as_tensor(prior.quasi_sample(1000, np.random.default_rng(0)))
    assert z.mean() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(prior.distribution().log_prob(z), D.Normal(1.0, 2.0).log_prob(z[:, 0]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussianPrior(2, covariance=[[1, 2], [2, 1]]), "positive definite.*eigenvalues"),
        (lambda: GaussianPrior(2, mean=[0, 0, 0]), "mean must have 2 entries"),
        (lambda: GaussianPrior(2, mean=[0, np.nan]), "not finite"),
        (lambda: UniformPrior(2, low=1, high=1), "high must be above low"),
        (lambda: DirichletPrior([1.0]), "at least two positive"),
        (lambda: DirichletPrior([1.0, 0.0]), "at least two positive"),
        (lambda: MixturePrior([[0.0], [1.0]], weights=[0.5, 0.6]), "sum to 1"),
        (lambda: MixturePrior([[0.0], [1.0]], covariances=-1.0), "positive definite"),
        (lambda: CategoricalPrior([1.0]), "at least two"),
        (lambda: CategoricalPrior([1.0, 0.0]), "above 0"),
        (lambda: CategoricalPrior([np.nan, 1.0]), "finite"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ValueError, match=message):
        build()
