"""Laws over all priors."""

import numpy as np
import pytest
from scipy import stats

from skcvae.priors import PRIORS, GaussianPrior


@pytest.mark.parametrize("prior", [build(3) for build in PRIORS.values()], ids=list(PRIORS))
@pytest.mark.parametrize("method", ["sample", "quasi_sample"])
def test_draws_are_finite_deterministic_and_shaped(prior, method):
    draws, again = (getattr(prior, method)(257, np.random.default_rng(0)) for _ in range(2))
    assert draws.shape == (257, 3)
    assert np.isfinite(draws).all()
    np.testing.assert_array_equal(draws, again)


@pytest.mark.parametrize("method", ["sample", "quasi_sample"])
def test_gaussian_moments(method):
    draws = getattr(GaussianPrior(2), method)(20000, np.random.default_rng(1))
    assert np.abs(draws.mean(0)).max() < 5 / np.sqrt(20000)
    assert np.abs(np.cov(draws.T) - np.eye(2)).max() < 5 * np.sqrt(2 / 20000)
    assert stats.kstest(draws[:, 0], "norm").pvalue > 1e-4


def test_quasi_draws_are_more_even():
    plain, quasi = (getattr(GaussianPrior(1), m)(4096, np.random.default_rng(0)) for m in ("sample", "quasi_sample"))
    assert abs((quasi**2).mean() - 1) < 0.2 * abs((plain**2).mean() - 1)


def test_stream_goes_on_where_it_stopped():
    following = GaussianPrior(2).stream(16, np.random.default_rng(0))
    blocks = np.concatenate([following() for _ in range(200)])
    assert blocks.shape == (3200, 2)
    assert len(np.unique(blocks, axis=0)) == 3200
