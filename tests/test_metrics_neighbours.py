"""Metrics of nearest neighbours against brute force, and what they are for equal laws."""

import math

import numpy as np
import pytest

from skcvae import _kernels, metrics


def normal(n, d=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


# Precision, recall, density, coverage


def brute_force(real, generated, k):
    """All four by their definitions, one pair of points at a time."""
    radius = {}
    for name, sample in (("real", real), ("generated", generated)):
        radius[name] = [sorted(math.dist(a, b) for j, b in enumerate(sample) if j != i)[k - 1] for i, a in enumerate(sample)]
    held = np.array([[math.dist(a, b) <= r for b in generated] for a, r in zip(real, radius["real"], strict=True)])
    back = np.array([[math.dist(a, b) <= r for a in real] for b, r in zip(generated, radius["generated"], strict=True)])
    return held.any(0).mean(), back.any(0).mean(), held.sum() / (k * len(generated)), held.any(1).mean()


@pytest.mark.parametrize(("n", "m", "d", "k"), [(60, 60, 2, 5), (40, 75, 3, 3), (30, 20, 40, 1), (6, 7, 1, 5)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_precision_recall_density_coverage_are_the_brute_force(n, m, d, k, offset, monkeypatch):
    monkeypatch.setattr(_kernels, "PAIRS_PER_CHUNK", 200)
    real, generated = normal(n, d) + offset, 0.8 * normal(m, d, seed=1) + 0.3 + offset
    both = metrics.precision_recall(real, generated, n_neighbors=k), metrics.density_coverage(real, generated, n_neighbors=k)
    found = both[0].precision, both[0].recall, both[1].density, both[1].coverage
    assert found == pytest.approx(brute_force(real, generated, k), rel=1e-12)


def test_equal_laws_have_the_density_and_coverage_of_the_lemma():
    n, m, k = 60, 40, 3
    pairs = [metrics.density_coverage(normal(n, 3, s), normal(m, 3, 7000 + s), n_neighbors=k) for s in range(300)]
    lemma = 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    for name, expected in (("density", 1.0), ("coverage", lemma)):
        values = [getattr(pair, name) for pair in pairs]
        assert abs(np.mean(values) - expected) < 4 * np.std(values) / math.sqrt(300), name


@pytest.mark.parametrize("d", [2, 50])
def test_balls_are_closed_so_that_copies_hold_k_neighbours_and_one(d):
    real = np.random.default_rng(0).integers(0, 2, size=(60, d)) + normal(60, d) * (d == 2)
    assert metrics.precision_recall(real, real) == metrics.PrecisionRecall(1.0, 1.0)
    found = metrics.density_coverage(real, real)
    assert found.coverage == 1
    assert found.density == pytest.approx(1.2) if d == 2 else found.density >= 1.2  # ties of binary rows add to it


def test_precision_and_recall_swap_with_the_samples():
    x, y = normal(80), 0.5 * normal(90, seed=1)
    there, back = metrics.precision_recall(x, y), metrics.precision_recall(y, x)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert there.precision > 0.9 > there.recall


# Memorisation


@pytest.mark.parametrize(("g", "n", "h"), [(50, 60, 60), (400, 90, 30)])
@pytest.mark.parametrize("scale", [1.0, 0.2])  # a good model and a bad one
def test_no_memorisation_without_knowledge_of_the_training_data(g, n, h, scale):
    results = [
        metrics.memorisation(scale * normal(g, 2, s), normal(n, 2, 3000 + s), normal(h, 2, 6000 + s), random_state=0)
        for s in range(400)
    ]
    z = [(result.share - result.expected) / result.standard_error for result in results]
    assert results[0].expected == n / (n + h)
    assert abs(np.mean(z)) < 4 / math.sqrt(400)
    assert np.std(z) == pytest.approx(1, abs=4 / math.sqrt(800))


def test_standard_error_is_that_of_a_random_split():
    generated, data = normal(30), normal(25, seed=1)
    splits = [np.random.default_rng(s).permutation(25) for s in range(1500)]
    results = [metrics.memorisation(generated, data[split[:10]], data[split[10:]], random_state=0) for split in splits]
    assert len({round(result.standard_error, 12) for result in results}) == 1
    assert np.std([result.share for result in results]) == pytest.approx(results[0].standard_error, rel=0.08)


def test_copies_are_found_at_any_offset():
    train, held_out = normal(200, 5) + 1e4, normal(200, 5, seed=1) + 1e4
    assert metrics.memorisation(train[:150] + 1e-6, train, held_out).share == 1
    assert metrics.memorisation(held_out, train, held_out).share == 0
    half = metrics.memorisation(np.vstack([train[:100], normal(100, 5, seed=2) + 1e4]), train, held_out)
    assert half.share == pytest.approx(0.75, abs=4 * half.standard_error)


def test_ties_are_broken_at_random():
    train = held_out = np.random.default_rng(0).integers(0, 2, size=(200, 3)).astype(float)
    shares = [metrics.memorisation(train, train, held_out, random_state=s).share for s in range(60)]
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * np.std(shares) / math.sqrt(60))
