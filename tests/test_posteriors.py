"""Importance weights: Pareto k-hat against ArviZ."""

import warnings

import numpy as np
import pytest

from skcvae.posteriors import pareto_k

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    arviz = pytest.importorskip("arviz")


@pytest.mark.parametrize("n_draws", [64, 1000, 4096])
@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0, 30.0])
def test_pareto_k_agrees_with_arviz(n_draws, spread):
    log_weights = spread * np.random.default_rng(0).normal(size=(5, n_draws))
    reference = [float(arviz.psislw(row.copy())[1]) for row in log_weights]
    np.testing.assert_allclose(pareto_k(log_weights), reference, rtol=1e-5)


def test_pareto_k_of_few_weights_is_infinite():
    log_weights = np.full((1, 500), -np.inf)
    log_weights[0, :3] = [0.0, -1.0, -2.0]
    assert np.isinf(pareto_k(log_weights)).all()
    assert np.isinf(pareto_k(np.zeros((2, 100)))).all()
