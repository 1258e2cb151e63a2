"""Data sets against the laws that their docstrings state, at k = 4 standard errors; the errors word for word."""

import http.client
import re
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets

import skcvae
from skcvae import datasets, metrics

K = 4
#: Every function that draws, as a function of a seed.
DRAWN = {
    "grid": lambda seed: datasets.make_gaussian_grid(103, random_state=seed),
    "rings": lambda seed: datasets.make_rings(103, random_state=seed),
    "pinwheel": lambda seed: datasets.make_pinwheel(103, random_state=seed),
    "digits": lambda seed: datasets.load_dequantised_digits(random_state=seed),
}
MAKERS = {"grid": datasets.make_gaussian_grid, "rings": datasets.make_rings, "pinwheel": datasets.make_pinwheel}
NUMBER_OF_CLASSES = {"grid": ("n_side", lambda n: n**2), "rings": ("n_rings", lambda n: n), "pinwheel": ("n_arms", lambda n: n)}


def complex_of(X):
    return X[:, 0] + 1j * X[:, 1]


def test_public_names_are_functions_of_the_package():
    assert skcvae.datasets is datasets
    assert "datasets" in skcvae.__all__
    assert all(callable(getattr(datasets, name)) for name in datasets.__all__)


# All that draw


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_seeds_decide_and_the_global_generator_is_left_alone(draw):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    (X, y), again, other = draw(3), draw(3), draw(4)
    np.testing.assert_array_equal(X, again[0])
    np.testing.assert_array_equal(y, again[1])
    assert not np.array_equal(X, other[0])
    assert not np.array_equal(draw(None)[0], draw(None)[0])
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_generators_and_random_states_are_seeds_too(draw):
    for source in (np.random.default_rng, np.random.RandomState):
        np.testing.assert_array_equal(draw(source(0))[0], draw(source(0))[0])


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_shapes_and_types(draw):
    X, y = draw(0)
    assert X.dtype == np.float64
    assert y.dtype.kind == "i"
    assert X.ndim == 2
    assert len(X) == len(y)
    assert np.isfinite(X).all()


@pytest.mark.parametrize("name", MAKERS)
def test_shuffled_rows_have_the_same_classes(name):
    grouped, mixed = (MAKERS[name](1000, shuffle=shuffle, random_state=0)[1] for shuffle in (False, True))
    assert (np.diff(grouped) >= 0).all()
    assert (np.diff(mixed) < 0).any()
    np.testing.assert_array_equal(np.sort(mixed), grouped)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("n_samples", [1, 7, 100, 1003, np.uint64(51), np.int8(100)])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_shares_are_kept_to_within_one_point(name, n_samples, n):
    parameter, total = NUMBER_OF_CLASSES[name]
    X, y = MAKERS[name](n_samples, random_state=0, **{parameter: n})
    shares = np.arange(1, n + 1) if name == "rings" else np.ones(total(n))
    assert X.shape == (n_samples, 2)
    counts = np.bincount(y, minlength=total(n))
    assert len(counts) == total(n)
    assert (np.abs(counts - int(n_samples) * shares / shares.sum()) < 1).all()


def test_the_rest_goes_to_modes_by_chance():
    counts = [np.bincount(datasets.make_gaussian_grid(7, n_side=2, random_state=seed)[1], minlength=4) for seed in range(400)]
    assert {tuple(sorted(c)) for c in counts} == {(1, 2, 2, 2)}
    standard_error = np.sqrt(0.75 * 0.25 / 400)
    np.testing.assert_allclose(np.mean(counts, 0), 1.75, atol=K * standard_error)


# The grid


def test_means_are_the_grid_about_the_origin_in_rows():
    expected = [(x, y) for y in range(-2, 3) for x in range(-2, 3)]
    np.testing.assert_array_equal(datasets.gaussian_grid_means(), expected)
    np.testing.assert_array_equal(datasets.gaussian_grid_means(1, 7.0), [[0, 0]])
    np.testing.assert_allclose(datasets.gaussian_grid_means(4, 0.3).sum(0), 0, atol=1e-15)


@pytest.mark.parametrize(("n_side", "spacing", "std"), [(5, 1.0, 0.05), (2, 3.0, 0.5), (3, 0.1, 0.0)])
def test_modes_have_their_means_and_their_std(n_side, spacing, std):
    n_per_mode = 400
    n = n_side**2 * n_per_mode
    X, y = datasets.make_gaussian_grid(n, n_side=n_side, spacing=spacing, std=std, random_state=0)
    means = datasets.gaussian_grid_means(n_side, spacing)
    np.testing.assert_array_equal(np.bincount(y), n_per_mode)
    found = np.stack([X[y == mode].mean(0) for mode in range(len(means))])
    np.testing.assert_allclose(found, means, atol=K * std / np.sqrt(n_per_mode) + 1e-12)
    residual = X - means[y]
    np.testing.assert_allclose(residual.std(0), std, atol=K * std / np.sqrt(2 * n) + 1e-12)
    assert abs((residual[:, 0] * residual[:, 1]).mean()) <= K * std**2 / np.sqrt(n) + 1e-24


def test_metrics_of_modes_take_the_grid_as_it_comes():
    X, _ = datasets.make_gaussian_grid(random_state=0)
    mixture = {"means": datasets.gaussian_grid_means(), "std": 0.05}
    assert X.shape == (7500, 2)
    assert metrics.modes_recovered(X, **mixture) == 25
    assert metrics.high_density_ratio(X, **mixture) == pytest.approx(1 - np.exp(-8), abs=K * np.exp(-4) / np.sqrt(7500))
    assert metrics.mode_mass_kl(X, **mixture) < 1e-4


# Rings


def test_rings_have_their_radii_and_no_direction():
    n, std = 20000, 0.1
    X, y = datasets.make_rings(n, n_rings=4, spacing=2.0, std=std, random_state=0)
    points = complex_of(X)
    residual = np.abs(points) - 2.0 * (y + 1)
    for ring in range(4):
        inside = y == ring
        assert inside.sum() == n * (ring + 1) / 10
        assert abs(residual[inside].mean()) < K * std / np.sqrt(inside.sum())
        assert abs(residual[inside].std() - std) < K * std / np.sqrt(2 * inside.sum())
        for frequency in (1, 2, 3):
            turned = (points[inside] / np.abs(points[inside])) ** frequency
            standard_error = np.sqrt(0.5 / inside.sum())
            assert max(abs(turned.mean().real), abs(turned.mean().imag)) < K * standard_error


def test_rings_without_noise_are_circles():
    X, y = datasets.make_rings(500, n_rings=3, spacing=0.5, std=0, random_state=0)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 0.5 * (y + 1), rtol=1e-12)


# The pinwheel


@pytest.mark.parametrize("rate", [0.25, 0.0, -0.5])
def test_arms_rotated_back_have_one_law(rate):
    """The first two moments of each arm, the first against Gauss and Hermite's quadrature: E x = E[exp(i rate e^r) r]."""
    n_per_arm, n_arms, radial_std, tangential_std = 4000, 5, 0.3, 0.1
    shape = {"n_arms": n_arms, "radial_std": radial_std, "tangential_std": tangential_std, "rate": rate}
    X, y = datasets.make_pinwheel(n_arms * n_per_arm, random_state=0, **shape)
    back = complex_of(X) * np.exp(-2j * np.pi * y / n_arms)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    r = 1 + radial_std * nodes
    mean = (np.exp(1j * rate * np.exp(r)) * r) @ weights / weights.sum()
    for arm in range(n_arms):
        one = back[y == arm]
        assert len(one) == n_per_arm
        for found, expected in ((one.real, mean.real), (one.imag, mean.imag)):
            assert abs(found.mean() - expected) < K * found.std() / np.sqrt(n_per_arm)
        square = np.abs(one) ** 2
        expected = 1 + radial_std**2 + tangential_std**2
        assert abs(square.mean() - expected) < K * square.std() / np.sqrt(n_per_arm)


def test_arms_without_width_are_the_spiral():
    X, y = datasets.make_pinwheel(500, n_arms=3, radial_std=0.1, tangential_std=0.0, rate=0.5, random_state=0)
    radius = np.linalg.norm(X, axis=1)
    np.testing.assert_allclose(complex_of(X), radius * np.exp(1j * (2 * np.pi * y / 3 + 0.5 * np.exp(radius))), rtol=1e-10)


# Digits


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dequantised_digits_are_within_the_unit_interval_and_keep_the_grey_values(seed):
    grey, digits = sklearn.datasets.load_digits(return_X_y=True)
    X, y = datasets.load_dequantised_digits(drop_constant=False, random_state=seed)
    assert 0 < X.min() < X.max() < 1
    np.testing.assert_array_equal(np.floor(17 * X), grey)
    np.testing.assert_array_equal(y, digits)
    noise = 17 * X - grey
    assert abs(noise.mean() - 0.5) < K * np.sqrt(1 / 12 / noise.size)


def test_digits_are_those_of_the_published_numbers():
    """Bit for bit what examples/digits.py and benchmarks/factors.py have always drawn."""
    grey = sklearn.datasets.load_digits().data
    expected = ((grey + np.random.default_rng(0).random(grey.shape)) / 17)[:, grey.std(0) > 0]
    np.testing.assert_array_equal(datasets.load_dequantised_digits()[0], expected)


def test_the_former_name_of_the_digits_says_the_present_one():
    with pytest.raises(ImportError, match="is load_dequantised_digits now"):
        from skcvae.datasets import load_digits  # noqa: F401
    with pytest.raises(AttributeError, match="has no attribute 'load_numbers'"):
        datasets.load_numbers  # noqa: B018


@pytest.mark.parametrize("drop_constant", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_are_the_published_ones(drop_constant, dtype):
    grey = sklearn.datasets.load_digits().data
    X = (grey[:, grey.std(0) > 0] if drop_constant else grey) / 16
    images = datasets.digit_images(X.astype(dtype))
    assert images.dtype == dtype
    np.testing.assert_array_equal(16 * images, sklearn.datasets.load_digits().images)


def test_images_of_other_rows_are_refused():
    message = "X must have 64 or 61 columns, got 60. Give rows of digits, of 8 x 8 pixels."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        datasets.digit_images(np.zeros((2, 60)))
    with pytest.raises(ValueError, match="X must be finite, got NaN"):
        datasets.digit_images(np.full((2, 61), np.nan))


# MNIST


@pytest.fixture
def openml(monkeypatch):
    """A stand-in for scikit-learn's download: 300 rows of 784 grey values whose first tells the row; the calls that it got."""
    grey = np.random.default_rng(0).integers(256, size=(300, 784)).astype(float)
    grey[:256, 0], digits, calls = np.arange(256), np.array([str(i % 10) for i in range(300)], dtype=object), []

    def fetch(name, **named):
        calls.append((name, named))
        return grey, digits

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return grey, calls


def test_mnist_is_scaled_and_in_its_own_order(openml, tmp_path):
    grey, calls = openml
    X, y = datasets.fetch_mnist(data_home=tmp_path)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, (grey / 255).astype(np.float32))
    np.testing.assert_array_equal(y, np.arange(300) % 10)
    ((name, named),) = calls
    assert name == "mnist_784"
    assert named == {"version": 1, "return_X_y": True, "as_frame": False, "parser": "liac-arff", "data_home": tmp_path}


def test_a_part_of_mnist_is_drawn_without_replacement(openml):
    whole, _ = datasets.fetch_mnist()
    X, y = datasets.fetch_mnist(100, random_state=0)
    rows = [np.flatnonzero((whole == x).all(1)).item() for x in X]
    assert len(set(rows)) == 100
    np.testing.assert_array_equal(y, np.array(rows) % 10)
    np.testing.assert_array_equal(X, datasets.fetch_mnist(100, random_state=0)[0])
    assert not np.array_equal(X, datasets.fetch_mnist(100, random_state=1)[0])


@pytest.mark.parametrize(("threshold", "lowest"), [(0.5, 128), (0.2, 51), (1, 255), (1 / 255, 1)])
def test_the_threshold_is_a_grey_value(openml, threshold, lowest):
    X, _ = datasets.fetch_mnist(threshold=threshold)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, openml[0] >= lowest)


@pytest.mark.parametrize(
    "error",
    [URLError("no route"), TimeoutError("no route"), ConnectionResetError("no route"), http.client.HTTPException("no route")],
)
def test_mnist_without_a_connection_says_what_to_do(monkeypatch, tmp_path, error):
    def fetch(name, **named):
        raise error

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    message = (
        f"fetch_mnist expected 'mnist_784' in the cache {tmp_path / 'openml'}, or a connection to openml.org to download it once, "
        f"got {type(error).__name__}: {error}. Connect, copy that folder from a machine that has it, or use "
        "load_dequantised_digits, which needs no download."
    )
    with pytest.raises(OSError, match=f"^{re.escape(message)}$") as caught:
        datasets.fetch_mnist(data_home=tmp_path)
    assert type(caught.value) is ConnectionError
    assert caught.value.__cause__ is error


def test_other_errors_of_the_download_are_not_called_a_lost_connection(monkeypatch, tmp_path):
    def fetch(name, **named):
        raise PermissionError("read-only")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(PermissionError, match=r"^read-only$"):
        datasets.fetch_mnist(data_home=tmp_path)


# Bad arguments

AT_LEAST_1 = "{} must be an integer of at least 1, got {}."
NOT_NEGATIVE = "{} must be a finite number of at least 0, got {}."
POSITIVE = "{} must be a finite number above 0, got {}."
BAD = [
    (datasets.gaussian_grid_means, "n_side", 0, ValueError, AT_LEAST_1),
    (datasets.gaussian_grid_means, "spacing", 0, ValueError, POSITIVE),
    (datasets.make_gaussian_grid, "n_samples", 0, ValueError, AT_LEAST_1),
    (datasets.make_gaussian_grid, "n_samples", 10.0, TypeError, AT_LEAST_1[:-1] + " (type float)."),
    (datasets.make_gaussian_grid, "n_side", True, TypeError, AT_LEAST_1[:-1] + " (type bool)."),
    (datasets.make_gaussian_grid, "spacing", -1.0, ValueError, POSITIVE),
    (datasets.make_gaussian_grid, "std", -0.1, ValueError, NOT_NEGATIVE),
    (datasets.make_rings, "n_samples", -3, ValueError, AT_LEAST_1),
    (datasets.make_rings, "n_rings", 0, ValueError, AT_LEAST_1),
    (datasets.make_rings, "spacing", np.inf, ValueError, POSITIVE),
    (datasets.make_rings, "std", "0.1", TypeError, NOT_NEGATIVE[:-1] + " (type str)."),
    (datasets.make_pinwheel, "n_samples", None, TypeError, AT_LEAST_1[:-1] + " (type NoneType)."),
    (datasets.make_pinwheel, "n_arms", 0, ValueError, AT_LEAST_1),
    (
        datasets.make_pinwheel,
        "radial_std",
        np.nan,
        ValueError,
        "{} must be a finite number of at least 0 and of at most 50, got {}.",
    ),
    (datasets.make_pinwheel, "tangential_std", -1, ValueError, NOT_NEGATIVE),
    (datasets.make_pinwheel, "rate", np.inf, ValueError, "{} must be a finite number, got {}."),
    (datasets.fetch_mnist, "n_samples", 0, ValueError, "{} must be an integer of at least 1 and of at most 70000, got {}."),
    (datasets.fetch_mnist, "n_samples", 70001, ValueError, "{} must be an integer of at least 1 and of at most 70000, got {}."),
    (datasets.fetch_mnist, "threshold", 0, ValueError, "{} must be a finite number above 0 and of at most 1, got {}."),
    (datasets.fetch_mnist, "threshold", 127, ValueError, "{} must be a finite number above 0 and of at most 1, got {}."),
]


@pytest.mark.parametrize(("function", "name", "value", "error", "message"), BAD)
def test_bad_arguments(openml, function, name, value, error, message):
    with pytest.raises(error, match=f"^{re.escape(message.format(name, repr(value)))}$"):
        function(**{name: value})
    assert openml[1] == []


@pytest.mark.parametrize("function", [*MAKERS.values(), datasets.load_dequantised_digits, datasets.fetch_mnist])
def test_bad_seeds(openml, function):
    message = "random_state must be None, a non-negative integer, a numpy RandomState or Generator, got -1."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(random_state=-1)
    assert openml[1] == []
