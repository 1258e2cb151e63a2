"""Metrics against independent implementations, closed forms and the laws that they should keep under equal laws."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcvae import _kernels, metrics
from skcvae.divergences import MMD
from skcvae.priors import GaussianPrior

MEANS = np.stack(np.meshgrid(np.arange(-2.0, 3), np.arange(-2.0, 3)), -1).reshape(-1, 2)
#: Every metric of two samples of one width, as a function of both and a seed.
PAIRS = {
    "mmd": lambda x, y, seed: metrics.mmd(x, y),
    "rbf": lambda x, y, seed: metrics.mmd(x, y, kernel="rbf"),
    "mmd_test": lambda x, y, seed: metrics.mmd_test(x, y, n_permutations=20, random_state=seed),
    "sliced_wasserstein": lambda x, y, seed: metrics.sliced_wasserstein(x, y, n_projections=20, random_state=seed),
    "classifier_two_sample": lambda x, y, seed: metrics.classifier_two_sample(x, y, n_splits=2, random_state=seed),
    "precision_recall": lambda x, y, seed: metrics.precision_recall(x, y),
    "density_coverage": lambda x, y, seed: metrics.density_coverage(x, y),
    "memorisation": lambda x, y, seed: metrics.memorisation(x, y, x[:20] + 0.1, random_state=seed),
}
SEEDED = ("mmd_test", "sliced_wasserstein", "classifier_two_sample")
MODES = {
    "ratio": metrics.high_density_ratio,
    "std": metrics.std_within_modes,
    "modes": metrics.modes_recovered,
    "kl": metrics.mode_mass_kl,
}


def normal(n, d=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def grid(n, std, seed=0):
    rng = np.random.default_rng(seed)
    return MEANS[rng.integers(25, size=n)] + std * rng.normal(size=(n, 2))


def numbers(result):
    return [result] if isinstance(result, float) else list(vars(result).values())


def global_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002


# Modes of a known mixture


def by_loop(samples, means, std, n_std=4.0):
    """The four numbers, one sample and one mode at a time."""
    held = [[] for _ in means]
    for sample in samples:
        distances = [math.dist(sample, mean) for mean in means]
        if min(distances) <= n_std * std:
            held[int(np.argmin(distances))].append(sample)
    count = np.array([len(rows) for rows in held])
    variances = [((np.array(rows) - np.mean(rows, axis=0)) ** 2).mean() for rows in held if len(rows) > 1]
    kl = sum(c / count.sum() * math.log(len(means) * c / count.sum()) for c in count if c)
    modes = sum(c >= 0.1 * len(samples) / len(means) for c in count)
    return {"ratio": count.sum() / len(samples), "std": math.sqrt(np.mean(variances)), "modes": modes, "kl": kl}


@pytest.mark.parametrize(("std", "n_std"), [(0.05, 4.0), (0.2, 2.0), (0.02, 1.0)])
@pytest.mark.parametrize("name", MODES)
def test_modes_are_the_loop(name, std, n_std):
    samples = np.vstack([grid(600, 0.08)[:500], np.random.default_rng(1).uniform(-3, 3, size=(200, 2))])
    expected = by_loop(samples, MEANS, std, n_std)[name]
    assert MODES[name](samples, MEANS, std, n_std=n_std) == pytest.approx(expected, rel=1e-12)


def test_draws_from_the_mixture_itself():
    samples = grid(20_000, 0.05)
    assert metrics.high_density_ratio(samples, MEANS, 0.05) == pytest.approx(1 - math.exp(-8), abs=6e-4)
    assert metrics.std_within_modes(samples, MEANS, 0.05) == pytest.approx(0.05, rel=0.02)
    assert metrics.modes_recovered(samples, MEANS, 0.05) == 25
    assert metrics.mode_mass_kl(samples, MEANS, 0.05) == pytest.approx(24 / 40_000, abs=5 * math.sqrt(24 / 2) / 20_000)


@pytest.mark.parametrize("name", MODES)
def test_modes_do_not_depend_on_order_units_or_origin(name):
    samples, order = grid(500, 0.08), np.random.default_rng(1).permutation(500)
    value = MODES[name](samples, MEANS, 0.05)
    moved = MODES[name](8 * samples[order] + 64, 8 * MEANS[::-1] + 64, 0.4)
    assert moved == pytest.approx(8 * value if name == "std" else value, rel=1e-9)


def test_a_mode_needs_a_tenth_of_its_share():
    samples = np.repeat([[0.0], [1.0]], [39, 1], axis=0)
    assert metrics.modes_recovered(samples, [[0.0], [1.0]], 0.1) == 1
    assert metrics.modes_recovered(samples[20:], [[0.0], [1.0]], 0.1) == 2


def test_mode_masses_against_given_weights():
    samples = np.repeat([[0.0], [1.0]], [30, 10], axis=0)
    expected = 0.75 * math.log(0.75 / 0.2) + 0.25 * math.log(0.25 / 0.8)
    assert metrics.mode_mass_kl(samples, [[0.0], [1.0]], 0.1, weights=[1, 4]) == pytest.approx(expected, rel=1e-12)
    assert metrics.mode_mass_kl(samples, [[0.0], [1.0]], 0.1, weights=[1, 0]) == math.inf
    assert metrics.mode_mass_kl(samples[:30], [[0.0], [1.0]], 0.1, weights=[1, 0]) == 0


def test_samples_within_no_mode():
    far = np.full((5, 2), 100.0)
    assert metrics.high_density_ratio(far, MEANS, 0.05) == metrics.modes_recovered(far, MEANS, 0.05) == 0
    assert math.isnan(metrics.std_within_modes(far, MEANS, 0.05))
    assert math.isnan(metrics.mode_mass_kl(far, MEANS, 0.05))


# Maximum mean discrepancy


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
@pytest.mark.parametrize(("n", "m", "d"), [(40, 40, 2), (7, 31, 3), (2, 2, 1)])
def test_mmd_is_the_divergence_of_that_name(kernel, n, m, d):
    x, y = normal(n, d) + 0.3, normal(m, d, seed=1)
    expected = MMD(kernel).begin(d, torch.Generator())(torch.from_numpy(x), torch.from_numpy(y))
    assert metrics.mmd(x, y, kernel=kernel, width=2.0 * d) == pytest.approx(float(expected), rel=1e-9)


def test_default_width_is_the_mean_squared_distance():
    x, y = normal(20, 3), 2 * normal(30, 3, seed=1)
    pooled = np.vstack([x, y])
    width = cdist(pooled, pooled, "sqeuclidean").sum() / (50 * 49)
    assert metrics.mmd(x, y) == pytest.approx(metrics.mmd(x, y, width=width), rel=1e-9)


def test_mmd_of_two_gaussians_is_unbiased():
    n, m, d, shift, std, width = 20, 30, 2, 0.5, 1.5, 3.0

    def similarity(variance, squared_mean):
        """Mean of the kernel of a Gaussian difference."""
        return (1 + 2 * variance / width) ** (-d / 2) * math.exp(-squared_mean / (width + 2 * variance))

    expected = similarity(2, 0) + similarity(2 * std**2, 0) - 2 * similarity(1 + std**2, d * shift**2)
    pairs = ((normal(n, d, seed), std * normal(m, d, 10_000 + seed) + shift) for seed in range(800))
    values = [metrics.mmd(x, y, kernel="rbf", scales=(1.0,), width=width) for x, y in pairs]
    assert abs(np.mean(values) - expected) < 4 * np.std(values) / math.sqrt(len(values))


def test_permuted_values_are_those_of_permuted_rows():
    x, y = normal(12) + 1, normal(9, seed=1)
    result = metrics.mmd_test(x, y, n_permutations=50, random_state=3)
    labels = np.random.default_rng(3).permuted(np.tile(np.repeat([1.0, 0.0], [12, 9]), (50, 1)), axis=1).astype(bool)
    pooled = np.vstack([x, y])
    null = np.array([metrics.mmd(pooled[row], pooled[~row]) for row in labels])
    value = metrics.mmd(x, y)
    expected = [value, null.mean(), null.std(), np.quantile(null, 0.95), (1 + (null >= value).sum()) / 51]
    assert list(vars(result).values()) == pytest.approx(expected, rel=1e-9)


def test_p_values_are_uniform_for_equal_laws():
    p = [metrics.mmd_test(normal(20, 2, s), normal(35, 2, 5000 + s), n_permutations=39, random_state=s).p_value for s in range(400)]
    assert np.mean(p) == pytest.approx(0.5125, abs=4 * math.sqrt(1 / 12 / 400))
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 400))


def test_p_value_of_a_shift_is_small_and_the_null_mean_zero():
    result = metrics.mmd_test(normal(200) + 0.6, normal(200, seed=1), random_state=0)
    assert result.p_value == 1 / 201
    assert abs(result.null_mean) < 4 * result.null_std / math.sqrt(200)
    assert result.value > 5 * result.null_quantile95


def test_equal_splits_count_in_spite_of_rounding():
    result = metrics.mmd_test([[0.1], [0.9]], [[5.3], [6.7]], n_permutations=3000, random_state=0)
    assert result.p_value == pytest.approx(1 / 3, abs=0.04)  # two of the six splits are the one observed


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_keeps_value_in_other_units_and_blocks(kernel, monkeypatch):
    x, y = normal(50), normal(40, seed=1) + 0.5
    value = metrics.mmd(x, y, kernel=kernel)
    assert metrics.mmd(1e-3 * x + 5, 1e-3 * y + 5, kernel=kernel) == pytest.approx(value, rel=1e-9)
    monkeypatch.setattr(_kernels, "PAIRS_PER_CHUNK", 200)
    assert metrics.mmd(x, y, kernel=kernel) == pytest.approx(value, rel=1e-9)


# Sliced Wasserstein


@pytest.mark.parametrize(("n", "m", "d"), [(50, 50, 3), (12, 31, 2), (9, 4, 1)])
def test_sliced_wasserstein_is_pot_s(n, m, d):
    x, y = normal(n, d) + 0.3, 1.5 * normal(m, d, seed=1)
    expected = ot.sliced_wasserstein_distance(x, y, n_projections=5000, seed=0)
    assert metrics.sliced_wasserstein(x, y, n_projections=5000, random_state=0) == pytest.approx(expected, rel=0.02)


def test_sliced_wasserstein_in_one_dimension_is_exact():
    x, y = normal(30, 1), normal(45, 1, seed=1) + 1
    expected = math.sqrt(ot.emd2_1d(x[:, 0], y[:, 0]))
    assert metrics.sliced_wasserstein(x, y, random_state=0) == pytest.approx(expected, rel=1e-9)


def test_sliced_wasserstein_of_a_shift():
    x, shift = normal(200, 4), np.array([3.0, 0, 0, 4])
    value = metrics.sliced_wasserstein(x, x + shift, n_projections=20_000, random_state=0)
    assert value == pytest.approx(5 / math.sqrt(4), rel=0.02)


def test_sliced_wasserstein_in_blocks_of_directions(monkeypatch):
    x, y = normal(40), 2 * normal(60, seed=1)
    whole = metrics.sliced_wasserstein(x, y, n_projections=4000, random_state=0)
    monkeypatch.setattr(_kernels, "PAIRS_PER_CHUNK", 100 * 700)
    assert metrics.sliced_wasserstein(x, y, n_projections=4000, random_state=1) == pytest.approx(whole, rel=0.03)


# Classifier two-sample test


@pytest.mark.parametrize("sizes", [(300, 300), (200, 600)])
def test_classifier_cannot_tell_equal_laws(sizes):
    values = [
        metrics.classifier_two_sample(
            normal(sizes[0], 3, s), normal(sizes[1], 3, 99 + s), classifier=LogisticRegression(), random_state=s
        )
        for s in range(40)
    ]
    error = math.sqrt(1 / (8 * min(sizes)))
    assert np.mean(values) == pytest.approx(0.5, abs=4 * np.std(values) / math.sqrt(40) + 0.005)
    assert 0.5 * error < np.std(values) < 2.5 * error  # folds share their training rows


def test_default_classifier_sees_shape_shift_and_nothing():
    assert metrics.classifier_two_sample(normal(300), normal(300, seed=1), random_state=0) == pytest.approx(0.5, abs=0.08)
    assert metrics.classifier_two_sample(normal(300) + 8, normal(300, seed=1), random_state=0) > 0.99
    assert metrics.classifier_two_sample(grid(400, 0.02), grid(400, 0.3), random_state=0) > 0.8  # not seen by a line
    assert metrics.classifier_two_sample(normal(400, 100) + 0.1, normal(400, 100, 1), random_state=0) > 0.6  # nor by a tree


def test_given_classifier_is_cloned_and_seeded():
    chosen = make_pipeline(StandardScaler(), SGDClassifier())
    state = global_state()
    first, again = (
        metrics.classifier_two_sample(normal(60) + 0.5, normal(60, seed=1), classifier=chosen, n_splits=2, random_state=0)
        for _ in range(2)
    )
    assert first == again
    assert not hasattr(chosen[-1], "coefs_")
    assert chosen[-1].random_state is None
    assert np.array_equal(global_state(), state)


# Weights


def test_effective_sample_size_is_kish_s():
    log_weights = np.random.default_rng(0).normal(size=50)
    weights = np.exp(log_weights)
    expected = weights.sum() ** 2 / (weights**2).sum()
    assert metrics.effective_sample_size(weights) == pytest.approx(expected, rel=1e-12)
    assert metrics.effective_sample_size(1e-300 * weights) == pytest.approx(expected, rel=1e-12)
    assert metrics.effective_sample_size(log_weights=log_weights - 5000) == pytest.approx(expected, rel=1e-12)
    logs = torch.from_numpy(log_weights)
    kernel = _kernels.log_effective_size(logs.logsumexp(0), (2 * logs).logsumexp(0))
    assert float(kernel.exp()) == pytest.approx(expected, rel=1e-12)


def test_chi2_is_the_kernel_s_and_the_inverse_effective_share():
    weights = np.random.default_rng(0).exponential(size=50)
    density = 50 * weights / weights.sum()
    assert metrics.marginal_chi2(density) == pytest.approx(50 / metrics.effective_sample_size(weights) - 1, rel=1e-9)
    density[3] = 1e-30
    assert metrics.marginal_chi2(density) == pytest.approx(_kernels.marginal_error(torch.from_numpy(density).log()), rel=1e-9)
    assert metrics.marginal_chi2(np.full(7, 0.9)) == pytest.approx(0.01)


# Laws over all metrics of two samples


@pytest.mark.parametrize("name", ["mmd", "rbf", "precision_recall", "density_coverage"])
def test_order_of_rows_does_not_matter(name):
    x, y = normal(40), normal(50, seed=1) + 0.2
    order, other = np.random.default_rng(2).permutation(40), np.random.default_rng(3).permutation(50)
    assert numbers(PAIRS[name](x[order], y[other], 0)) == pytest.approx(numbers(PAIRS[name](x, y, 0)), rel=1e-9)


def test_order_of_rows_does_not_matter_to_memorisation():
    generated, train, held_out = normal(40), normal(30, seed=1), normal(20, seed=2)
    assert metrics.memorisation(generated[::-1], train[::-1], held_out[::-1]) == metrics.memorisation(generated, train, held_out)


@pytest.mark.parametrize("name", ["precision_recall", "density_coverage", "classifier_two_sample"])
def test_units_do_not_matter(name):
    x, y = normal(40), normal(50, seed=1) + 0.2
    assert PAIRS[name](4 * x, 4 * y, 0) == PAIRS[name](x, y, 0)


@pytest.mark.parametrize("name", PAIRS)
def test_a_seed_repeats_and_global_generators_stay(name):
    x, y = normal(40), normal(50, seed=1) + 0.2
    state, torch_state = global_state(), torch.random.get_rng_state()
    first, again, other, _ = (PAIRS[name](x, y, seed) for seed in (0, 0, 1, None))
    assert first == again
    assert (first != other) == (name in SEEDED)
    assert np.array_equal(global_state(), state)
    assert torch.equal(torch.random.get_rng_state(), torch_state)


@pytest.mark.parametrize("name", PAIRS)
def test_lists_and_float32_are_arrays_too(name):
    x, y = normal(30).astype(np.float32), normal(30, seed=1).astype(np.float32)
    result = PAIRS[name](x, y, 0)
    assert result == PAIRS[name](x.astype(np.float64), y.astype(np.float64), 0)
    assert all(type(value) is float for value in numbers(result))
    assert type(metrics.mmd(x.tolist(), y.tolist())) is float


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (normal(40, 3), normal(40, 2), r"must have the same number of columns, got 3 and 2.*Give points of one space"),
        (np.full((40, 2), np.nan), normal(40), "must be finite, got NaN"),
        (normal(40)[:, 0], normal(40), "Expected 2D array"),
    ],
)
def test_wrong_samples_say_what_is_expected(name, x, y, message):
    with pytest.raises(ValueError, match=message):
        PAIRS[name](x, y, 0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: metrics.mmd(x[:1], x), ValueError, "x and y must have 2 rows or more, got 1 and 30. Draw more samples"),
        (
            lambda x: metrics.mmd(0 * x, 0 * x),
            ValueError,
            "must be finite and not all 0, got .* 0. Rescale",
        ),
        (lambda x: metrics.mmd(x, x, kernel="laplace"), ValueError, "kernel must be one of 'imq', 'rbf', got 'laplace'"),
        (lambda x: metrics.mmd(x, x, scales=()), ValueError, r"scales must be .*, got \(\)"),
        (lambda x: metrics.mmd(x, x, width=0.0), ValueError, r"width must be a finite number above 0, got 0\.0"),
        (lambda x: metrics.mmd_test(x, x, n_permutations=0), ValueError, "n_permutations must be an integer of at least 1, got 0"),
        (lambda x: metrics.mmd_test(x, x, random_state="a"), ValueError, "random_state must be None, .* got 'a'"),
        (lambda x: metrics.sliced_wasserstein(x, x, n_projections=2.5), TypeError, r"n_projections must be an integer .* 2\.5"),
        (lambda x: metrics.classifier_two_sample(x, x[:3]), ValueError, "x and y must have 5 rows or more, got 30 and 3"),
        (lambda x: metrics.classifier_two_sample(x, x, n_splits=1), ValueError, "n_splits must be an integer of at least 2, got 1"),
        (
            lambda x: metrics.classifier_two_sample(x, x, classifier=GaussianPrior(2)),
            TypeError,
            "must be a scikit-learn",
        ),
        (
            lambda x: metrics.precision_recall(x, x[:5]),
            ValueError,
            "generated must have more rows than n_neighbors=5, got 5.",
        ),
        (lambda x: metrics.density_coverage(x[:5], x), ValueError, "real must have more rows than n_neighbors=5, got 5."),
        (lambda x: metrics.density_coverage(x, x, n_neighbors=0), ValueError, "n_neighbors must be an integer of at least 1"),
        (lambda x: metrics.high_density_ratio(x, MEANS[:, :1], 0.1), ValueError, "samples and means must have the same number"),
        (lambda x: metrics.modes_recovered(x, MEANS, 0), ValueError, "std must be a finite number above 0, got 0"),
        (lambda x: metrics.std_within_modes(x, MEANS, "0.1"), TypeError, r"std must be a finite number above 0, got '0\.1'"),
        (lambda x: metrics.mode_mass_kl(x, MEANS, 0.1, n_std=-1), ValueError, "n_std must be a finite number above 0, got -1"),
        (lambda x: metrics.mode_mass_kl(x, MEANS, 0.1, weights=[1, 2]), ValueError, r"weights must be 25 numbers .* got \[1, 2\]"),
        (lambda x: metrics.effective_sample_size(), ValueError, "Give either weights or log_weights"),
        (lambda x: metrics.effective_sample_size([1], log_weights=[0]), ValueError, "and not both"),
        (lambda x: metrics.effective_sample_size([1, -2]), ValueError, "weights must be .* smallest value -2.*go to log_weights"),
        (lambda x: metrics.effective_sample_size([0, 0]), ValueError, "one entry above 0, got zeros only. Give log_weights"),
        (
            lambda x: metrics.effective_sample_size(log_weights=[-np.inf]),
            ValueError,
            "log_weights must be .*, 0 NaN and 0 inf",
        ),
        (lambda x: metrics.effective_sample_size(log_weights=[np.nan, 0]), ValueError, "log_weights must be .*, 1 NaN"),
        (lambda x: metrics.marginal_chi2([[1.0]]), ValueError, r"density must be a vector .* got shape \(1, 1\)"),
        (lambda x: metrics.marginal_chi2([np.inf]), ValueError, "density contains infinity"),
    ],
)
def test_wrong_arguments_say_what_is_expected(make, error, message):
    with pytest.raises(error, match=message):
        make(normal(30))
