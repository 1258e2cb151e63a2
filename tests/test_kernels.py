"""The fused, the chunked and the swept kernel against the formula in float64."""

import functools
import math

import pytest
import torch

from skcvae import _kernels


def problem(n, m, p, r, scale, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query, key, value, bias = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((m, p), (n, p), (n, r), (n,)))
    return tuple(t.to(dtype) for t in (scale * query, key, value, scale * bias))


def reference(query, key, value, bias):
    query, key, value, bias = (t.double() for t in (query, key, value, bias))
    scores = query @ key.T + bias
    log_sum = scores.logsumexp(1)
    return log_sum, (scores - log_sum[:, None]).exp() @ value


@pytest.mark.parametrize("kernel", [_kernels.attend_fused, _kernels.attend_chunked, _kernels.attend_swept, _kernels.attend])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("shape", [(50, 7, 2, 2), (300, 130, 61, 3), (33, 257, 3, 9), (1, 5, 4, 4)])
@pytest.mark.parametrize("scale", [0.1, 5.0])
def test_attend_is_the_formula(kernel, dtype, tolerance, shape, scale):
    if kernel is _kernels.attend_fused and not _kernels.fused_is_available("cpu", dtype):
        pytest.skip("this torch has no fused attention on the CPU")
    arguments = problem(*shape, scale, dtype)
    for result, expected in zip(kernel(*arguments), reference(*arguments), strict=True):
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), expected, rtol=tolerance, atol=tolerance * (1 + scale) ** 2)


def test_chunks_do_not_change_the_result(monkeypatch):
    arguments = problem(40, 30, 3, 2, 1.0, torch.float64)
    whole = _kernels.attend_chunked(*arguments)
    monkeypatch.setattr(_kernels, "PAIRS_PER_CHUNK", 100)
    for a, b in zip(_kernels.attend_chunked(*arguments), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_log_sum_reaches_far_below_the_smallest_number():
    """A starved datum's mass is a log, thousands below zero, never the log of an underflowed sum."""
    query = torch.tensor([[1.0]])
    key = torch.tensor([[-3000.0], [-5000.0]])
    assert _kernels.log_sum_scores(query, key, torch.zeros(2)).item() == pytest.approx(-3000.0)


@pytest.mark.parametrize("width", [3, _kernels.WIDE])
def test_log_sums_are_the_same_with_and_without_the_fused_operation(width):
    query, key, _, bias = arguments = problem(40, 30, width, 2, 0.3, torch.float64)
    torch.testing.assert_close(_kernels.log_sum_scores(query, key, bias), reference(*arguments)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pairs", [1, 100, 2**20])
def test_sums_of_held_products_are_the_formula(monkeypatch, pairs):
    monkeypatch.setattr(_kernels, "PAIRS_PER_SUM", pairs)
    query, key, value, bias = problem(40, 30, 3, 2, 1.0, torch.float64)
    products, down, epsilon = query @ key.T, torch.linspace(-900, 900, 30, dtype=torch.float64), 0.3
    log_sum, average = reference(query / epsilon, key, value, bias)
    torch.testing.assert_close(_kernels.row_log_sums(products, bias, epsilon), log_sum, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(_kernels.row_averages(products, bias, value, epsilon), average, rtol=1e-12, atol=1e-12)
    expected = reference(key / epsilon, query, query, down)[0]
    torch.testing.assert_close(_kernels.column_log_sums(products, down, epsilon), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("pairs", [1, 100, 2**20])
@pytest.mark.parametrize("softness", [0.0, 0.4, 1.0])
def test_both_passes_are_the_formula_where_they_know(monkeypatch, pairs, softness, n_threads):
    """Columns that hold less than exp(-64) of the mass are told; of the others both sums are right, at any size of the weights."""
    monkeypatch.setattr(_kernels, "PAIRS_PER_CHUNK", pairs)
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    query, key, _, bias = problem(40, 30, 3, 2, 1.0, torch.float64)
    bias[:4] -= torch.tensor([20.0, 40.0, 200.0, 5000.0])
    offset = torch.linspace(-900, 900, 30, dtype=torch.float64)
    values = key.T.contiguous()
    length = _kernels.part_length(query, len(key))
    blocks = [functools.partial(_kernels.swept, rows, key, bias) for rows in query.split(length)]
    parts = list(zip(blocks, offset.split(length), strict=True))
    log_sum, log_total, log_weight, average, shares = _kernels.both_passes(parts, softness, values)
    known = log_total > log_weight + _kernels.KNOWN_ABOVE
    scores = query @ key.T + bias
    expected = scores.logsumexp(1)
    log_weights = offset + softness * expected
    total = (scores + (log_weights - expected)[:, None]).logsumexp(0)
    torch.testing.assert_close(log_sum, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(average, (scores - expected[:, None]).exp() @ key, rtol=1e-12, atol=1e-12)
    if shares is not None:
        torch.testing.assert_close(shares, (scores - expected[:, None]).exp(), rtol=1e-12, atol=1e-30)
    assert (shares is None) == (pairs < scores.numel())
    torch.testing.assert_close(log_total[known], total[known], rtol=0, atol=2e-7)
    assert known[total > log_weights.logsumexp(0) - 63].all()
    assert not known[total < log_weights.logsumexp(0) - 65].any()
    assert not known[2:4].any()


def test_marginal_error_is_chi_square():
    density = torch.tensor([0.5, 1.5, 1.2, 0.8], dtype=torch.float64)
    other = torch.tensor([0.6, 1.4, 0.9, 1.1], dtype=torch.float64)
    assert _kernels.marginal_error(density.log()) == pytest.approx(float((density - 1).square().mean()), rel=1e-12)
    expected = float((density * other).mean() - 1)
    assert _kernels.marginal_error(density.log(), other.log()) == pytest.approx(expected, rel=1e-12)


def test_effective_size_of_equal_and_single_weights():
    for weights, expected in ((torch.full((8,), 0.3), 8.0), (torch.tensor([1.0, 1e-30]), 1.0)):
        size = _kernels.log_effective_size(weights.sum().log(), weights.square().sum().log()).exp()
        assert float(size) == pytest.approx(expected, rel=1e-5)


def test_softmin_is_the_formula_with_its_gradient():
    scores, potential = (
        30 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        torch.arange(5.0).double(),
    )
    scores.requires_grad_()
    expected = math.log(5) - torch.logsumexp(scores + potential, 1)
    found = _kernels.softmin(scores, potential)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    gradients = (torch.autograd.grad(value.sum(), scores)[0] for value in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-30)


def test_squared_distances_are_exact_far_from_the_origin():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]]) + 4096
    assert _kernels.squared_distances(points, points).tolist() == [[0.0, 25.0], [25.0, 0.0]]
