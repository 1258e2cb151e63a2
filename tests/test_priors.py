"""Laws over all priors: draws, densities, supports, standardisation, and who may be given as one."""

import numpy as np
import pytest
import torch
from scipy import stats

from skcvae import WAE, CoupledVAE
from skcvae.priors import (
    PRIORS,
    CategoricalPrior,
    DirichletPrior,
    GaussianPrior,
    MixturePrior,
    Prior,
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


#: Priors of any number of components k whose moments are known, with the dimension of their support.
KNOWN = {
    **{name: (build, 1 if name in ("dirichlet", "categorical") else 0) for name, build in PRIORS.items()},
    "correlated": (lambda k: GaussianPrior(k, np.arange(k), np.eye(k) + np.ones((k, k))), 0),
    "box": (lambda k: UniformPrior(k, low=-np.arange(1.0, k + 1), high=2), 0),
    "spiky dirichlet": (lambda k: DirichletPrior(np.linspace(0.3, 5, k)), 1),
    "uneven mixture": (
        lambda k: MixturePrior([np.full(k, -3), np.arange(k)], [0.2 * np.eye(k), np.diag(np.geomspace(1, 1e-10, k))], [0.25, 0.75]),
        0,
    ),
    "atoms": (lambda k: CategoricalPrior(np.full(2 * k, 0.5 / k), np.random.default_rng(0).normal(size=(2 * k, k))), 0),
    "torch laplace": (lambda k: TorchPrior(D.Laplace(torch.arange(k) * 1.0, torch.ones(k))), 0),
    "torch bernoulli": (lambda k: TorchPrior(D.Bernoulli(torch.linspace(0.1, 0.6, k))), 0),
    "torch poisson": (lambda k: TorchPrior(D.Poisson(torch.linspace(0.5, 3, k))), 0),
    "torch gaussian": (lambda k: TorchPrior(D.MultivariateNormal(torch.ones(k), torch.eye(k) + torch.ones(k, k))), 0),
    "torch dirichlet": (lambda k: TorchPrior(D.Dirichlet(torch.linspace(0.5, 4, k))), 1),
    "torch multinomial": (lambda k: TorchPrior(D.Multinomial(20, torch.linspace(1, 4, k))), 1),
    "torch mixture": (lambda k: TorchPrior(torch_mixture(k)), 0),
}


def torch_mixture(k):
    components = D.Independent(D.Normal(torch.stack([-torch.ones(k), torch.linspace(0, 2, k)]), 0.5), 1)
    return D.MixtureSameFamily(D.Categorical(torch.tensor([0.3, 0.7])), components)


@pytest.mark.parametrize("k", [3, 128, 300])
@pytest.mark.parametrize("name", KNOWN)
def test_standardisation_by_known_moments(name, k):
    """Means are 0 and covariances the identity to five standard errors, of as many inputs as the support has dimensions."""
    build, lost = KNOWN[name]
    prior = build(k)
    draws = draw(prior, "sample", 20000)
    mean, whitening = prior.standardisation() or (np.zeros(k), np.eye(k))
    assert whitening.shape == (k - lost, k)
    white = (draws - mean) @ whitening.T
    error = 5.5 / np.sqrt(len(white))  # largest of 90000 entries
    assert (abs(white.mean(0)) < error).all()
    squares = white**2
    covariance, spread = white.T @ white / len(white), squares.T @ squares / len(white)
    spread = np.sqrt(np.maximum(spread - np.eye(k - lost), 0))
    assert (abs(covariance - np.eye(k - lost)) < error * spread + 1e-3).all()


#: Priors of k components whose moments are not known or not finite.
UNKNOWN = {
    "cauchy": lambda k: TorchPrior(D.Cauchy(torch.arange(k) * 1.0, torch.full((k,), 2.0))),
    "half cauchy": lambda k: TorchPrior(D.HalfCauchy(torch.ones(k))),
    "student": lambda k: TorchPrior(D.StudentT(torch.full((k,), 1.5))),
    "circle": lambda k: TorchPrior(D.VonMises(torch.zeros(k), torch.ones(k))),
    "sampler": lambda k: SamplerPrior(lambda n, seed: np.random.default_rng(seed).exponential(size=(n, k)), k),
    "correlated sampler": lambda k: SamplerPrior(
        lambda n, seed: (draws := np.random.default_rng(seed).normal(size=(n, k))) + draws[:, :1], k
    ),
}


@pytest.mark.parametrize("k", [3, 128, 300])
@pytest.mark.parametrize("name", UNKNOWN)
def test_other_priors_are_scaled_coordinate_by_coordinate(name, k):
    """To a median of 0 and a Gaussian's interquartile range, with the errors of order statistics."""
    mean, whitening = UNKNOWN[name](k).standardisation()
    assert np.count_nonzero(whitening) == k
    assert whitening.shape == (k, k)
    white = (draw(UNKNOWN[name](k), "sample", 20000) - mean) @ whitening.T
    low, median, high = np.quantile(white, [0.25, 0.5, 0.75], axis=0)
    assert (abs(median) < 0.1).all()  # five standard errors of both samples' medians where densities are above 0.35
    assert (abs(high - low - 1.349) < 0.2).all()


def subspace(n, seed):
    """Coordinates that are constant, twice another, mostly 0, or the rest of a sum."""
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(n, 2))
    spiked = np.where(rng.random(n) < 0.9, 0.0, rng.normal(size=n))
    return np.column_stack([np.full(n, 0.1), free[:, 0], 2 * free[:, 0] + 1, spiked, free[:, 1], 1 - free.sum(1)])


def test_constant_and_dependent_coordinates_are_no_inputs():
    mean, whitening = SamplerPrior(subspace, 6).standardisation()
    np.testing.assert_array_equal(whitening.nonzero()[1], [1, 3, 4])
    white = (subspace(20000, 1) - mean) @ whitening.T
    assert ((white.std(0) > 0.2) & (white.std(0) < 2)).all()


def test_a_prior_on_a_subspace_can_be_fitted():
    X = np.random.default_rng(0).normal(size=(100, 4))
    model = WAE(6, prior=subspace, hidden_layer_sizes=(8,), max_iter=20, batch_size=32, random_state=0).fit(X)
    assert np.isfinite(model.inverse_transform(subspace(5, 0))).all()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (SamplerPrior(lambda n, seed: np.full((n, 2), 0.3), 2), r"must vary, got 4096 draws that are all \[0.3, 0.3\]. Mend"),
        (UniformPrior(2, low=1e10, high=1e10 + 1), "centres up to 1e[+]10. Rescale or shift"),
        (GaussianPrior(1, covariance=[[1e-60]]), "scales from 1e-30 to 1e-30.*Rescale"),
        (TorchPrior(D.Normal(torch.full((2,), 1e9), 1.0)), "centres up to 1e[+]09. Rescale"),
        (CategoricalPrior([0.5, 0.5], [[0.0], [1e-30]]), "scales from 5e-31"),
        (TorchPrior(D.Bernoulli(torch.zeros(2))), "must vary, got one whose variance is 0"),
    ],
)
def test_priors_that_single_precision_cannot_tell(prior, message):
    with pytest.raises(ValueError, match=message):
        prior.standardisation()


@pytest.mark.parametrize(
    "build",
    [
        lambda: SamplerPrior(lambda n, seed: np.full((n, 2), 1e200), 2),
        lambda: GaussianPrior(2, mean=[0, 1e200]),
        lambda: UniformPrior(2, high=1e200),
        lambda: MixturePrior([[0.0], [-1e200]]),
        lambda: CategoricalPrior([0.5, 0.5], [[0.0], [1e200]]),
        lambda: TorchPrior(D.Normal(torch.zeros(2).double(), 1e200)),
    ],
)
def test_values_that_overflow_are_refused(build):
    with pytest.raises(ValueError, match=r"values up to \d.*at most 1e[+]18 in size. Rescale it"):
        build()


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


class Bare(D.Distribution):
    """Draws of a Gaussian, in single precision, and nothing else."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, *shape, device="cpu"):
        self.device = device
        super().__init__(torch.Size(shape), validate_args=False)

    def sample(self, sample_shape=()):
        return torch.randn((*sample_shape, *self.batch_shape), dtype=torch.float32, device=self.device)


def test_a_distribution_without_support_has_no_density():
    prior = as_prior(Bare(3))
    assert prior.distribution() is None
    assert prior.n_components == 3
    assert draw(prior, "sample").dtype == np.float64
    with pytest.raises(ValueError, match=r"must have a method sample.*expand.*Add it, or give a function"):
        as_prior(Bare())


def test_a_distribution_on_another_device_is_moved_or_refused():
    moved = TorchPrior(D.Normal(torch.zeros(2, dtype=torch.bfloat16), torch.ones(2)))
    assert moved.distribution().base_dist.loc.dtype == torch.float64
    with pytest.raises(ValueError, match=r"must be on the CPU.*'meta'\. Make it"):
        TorchPrior(Bare(2, device="meta"))


def test_what_torch_takes_for_the_default_precision_is_no_matter():
    def made():
        return [
            as_prior(D.Laplace(torch.zeros(2), torch.ones(2))),
            as_prior(
                D.TransformedDistribution(
                    D.Normal(torch.zeros(2), 1.0), [D.ExpTransform(), D.AffineTransform(1.0, 2.0), D.ExpTransform().inv]
                )
            ),
            as_prior(D.TransformedDistribution(D.Normal(torch.zeros(2), 1.0), D.SigmoidTransform())),
            as_prior(D.OneHotCategorical(torch.tensor([0.25, 0.75]))),
            MixturePrior([[0.0], [1.0]]),
        ]

    expected = [draw(prior, "quasi_sample") if i != 1 else None for i, prior in enumerate(made()[:1])]
    torch.set_default_dtype(torch.bfloat16)
    try:
        for prior in made()[::2]:
            assert np.isfinite(draw(prior, "quasi_sample")).all()
            assert np.isfinite(draw(prior, "sample")).all()
            assert prior.standardisation() is not None
        np.testing.assert_array_equal(draw(made()[0], "quasi_sample"), expected[0])
    finally:
        torch.set_default_dtype(torch.float32)


def test_samplers_may_return_any_real_tensor():
    for kind in (torch.bfloat16, torch.float16, torch.int64, torch.bool):
        assert (
            SamplerPrior(lambda n, seed, kind=kind: (2 * torch.rand(n, 2)).to(kind), 2).sample(3, np.random.default_rng(0)).dtype
            == float
        )
    with pytest.raises(TypeError, match="must return real numbers, got dtype complex64"):
        SamplerPrior(lambda n, seed: torch.zeros(n, 2, dtype=torch.complex64), 2)


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


def test_a_prior_says_its_dimension():
    assert {name: as_prior(name).n_components for name in PRIORS} == dict.fromkeys(PRIORS, 2)
    assert as_prior(GaussianPrior(5)).n_components == 5
    assert as_prior(np.eye(4)).n_components == 4
    assert as_prior(D.Laplace(torch.zeros(3), 1.0)).n_components == 3
    assert as_prior("uniform", np.int64(7)).n_components == 7
    assert as_prior(subspace).n_components == subspace(3, 0).shape[1]
    with pytest.raises(ValueError, match=r"must return draws of shape \(n_samples, n_components\), got \(16,\)"):
        as_prior(lambda n, seed: np.zeros(n))
    with pytest.raises(ValueError, match=r"prior has 5 components and n_components is 2\. Make them equal"):
        as_prior(GaussianPrior(5), 2)
    with pytest.raises(TypeError, match="n_components must be an integer"):
        as_prior("uniform", True)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (D.Bernoulli(0.25), [[0], [1]]),
        (D.Binomial(2, 0.5), [[0], [1], [2]]),
        (D.Categorical(torch.tensor([0.2, 0.0, 0.8])), [[0], [2]]),
        (D.OneHotCategorical(torch.tensor([0.2, 0.0, 0.8])), [[1, 0, 0], [0, 0, 1]]),
    ],
)
def test_torch_distributions_of_finitely_many_values_are_atoms(given, values):
    prior = as_prior(given)
    assert is_discrete(given)
    assert prior.is_atomic
    np.testing.assert_array_equal(prior.positions(), values)
    log_prob = given.log_prob(torch.tensor(values).squeeze(-1).float() if len(values[0]) == 1 else torch.tensor(values).float())
    np.testing.assert_allclose(prior.weights(), log_prob.exp(), rtol=1e-6)


class Own(Prior):
    """Atoms of a user's own."""

    is_atomic = True
    n_components = 2
    atoms, weights = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]), np.array([0.7, 0.2, 0.1])

    def sample(self, n_samples, rng):
        return self.atoms[rng.choice(3, n_samples, p=self.weights)]

    def weighted(self, n_samples, rng):
        return self.atoms, np.log(self.weights)


def test_atoms_of_one_s_own_are_trained_with_their_weights():
    X = np.random.default_rng(0).normal(size=(120, 3)) + 4 * (np.arange(120) % 3 == 0)[:, None]
    own, named = (
        CoupledVAE(prior=prior, hidden_layer_sizes=(8,), max_iter=40, random_state=0, device="cpu").fit(X)
        for prior in (Own(), CategoricalPrior(Own.weights, Own.atoms))
    )
    np.testing.assert_array_equal(own.transform(X), named.transform(X))
    np.testing.assert_array_equal(own.predict(X), named.predict(X))
    np.testing.assert_allclose(np.bincount(own.predict(X), minlength=3) / 120, Own.weights, atol=0.1)
    assert is_discrete(Own())


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
        (lambda: MixturePrior([[0.0], [1.0]], covariances=[[[1.0]]] * 3), r"of shape \(2, 1, 1\).*got shape \(3, 1, 1\). Give as"),
        (lambda: MixturePrior([[0.0], [1.0]], covariances=[[[1.0]]]), r"of shape \(2, 1, 1\).*got shape \(1, 1, 1\). Give as"),
        (lambda: MixturePrior([[0.0], [1.0 + 2.0j]]), "must be real, got dtype complex"),
        (lambda: UniformPrior(2, high=1 + 1j), "must be real, got dtype complex"),
        (lambda: CategoricalPrior([0.5, 0.5], [[0.0], [1.0j]]), "must be real, got dtype complex"),
        (lambda: CategoricalPrior([1.0]), "at least two"),
        (lambda: CategoricalPrior([1.0, 0.0]), "above 0"),
        (lambda: CategoricalPrior([np.nan, 1.0]), "finite"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ValueError, match=message):
        build()
