"""Laws of the semi-dual: its gradient, its invariances, its solution against POT, and the linear-Gaussian closed forms."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from skcvae import _kernels, _pot
from skcvae.transport import (
    SemiDual,
    Source,
    Target,
    _problem,
    c_transform,
    evaluate,
    fresh_marginal_error,
    plan,
    prior_side,
    sinkhorn_step,
    with_products,
)

EPSILON = 0.7


@pytest.fixture
def small():
    """Random cost 12 x 9 with unequal prior weights, in double precision."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(9))
    t, h, eta, normaliser = (torch.as_tensor(rng.normal(size=s)) for s in ((12, 4), 12, (9, 4), 9))
    return Source(t, h), Target(eta, normaliser, torch.as_tensor(weights).log())


def cost(source, target):
    return target.normaliser + source.carrier[:, None] - source.statistics @ target.natural.T


def value(source, target, f):
    """J(f) written out."""
    g = -EPSILON * torch.logsumexp((f[:, None] - cost(source, target)) / EPSILON, 0) + EPSILON * math.log(len(f))
    return f.mean() + (target.log_weights.exp() * g).sum()


def test_c_transform_and_value_are_the_formula(small):
    source, target = small
    f = torch.linspace(-1, 1, 12, dtype=torch.float64)
    g, barycentre = c_transform(source, target, f, EPSILON)
    P = torch.softmax((f[:, None] - cost(source, target)) / EPSILON, 0)
    torch.testing.assert_close(barycentre, P.T @ source.statistics, rtol=1e-12, atol=1e-12)
    state = evaluate(source, target, f, EPSILON)
    torch.testing.assert_close(state.dual_value, value(source, target, f), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(g, state.prior_potential)


def test_held_products_change_no_number(small, monkeypatch):
    source, target = small
    f = torch.linspace(-1, 1, 12, dtype=torch.float64)
    assert with_products(source, target) is target  # too narrow
    streamed = evaluate(source, target, f, EPSILON)
    monkeypatch.setattr("skcvae.transport._problem.HELD_WIDTH", 4)
    assert with_products(source, target).products.shape == (9, 12)
    held = evaluate(source, target, f, EPSILON)
    for name in ("prior_potential", "barycentre", "log_mass", "dual_value"):
        torch.testing.assert_close(getattr(held, name), getattr(streamed, name), rtol=1e-12, atol=1e-12)
    monkeypatch.setattr("skcvae.transport._problem.HELD_PAIRS", 9 * 12 - 1)
    assert with_products(source, target) is target  # too many


def test_plan_columns_sum_to_the_prior_at_any_potential(small):
    source, target = small
    f = torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    columns = plan(evaluate(source, target, f, EPSILON)).sum(0)
    torch.testing.assert_close(columns, target.log_weights.exp(), rtol=1e-12, atol=1e-14)


def test_log_mass_is_the_plan_s_row_sum(small):
    source, target = small
    state = evaluate(source, target, torch.linspace(0, 2, 12, dtype=torch.float64), EPSILON)
    rows = plan(state).sum(1)
    torch.testing.assert_close(state.log_mass, (12 * rows).log(), rtol=1e-11, atol=1e-11)
    assert state.marginal_error == pytest.approx(float((12 * rows - 1).square().mean()), rel=1e-10)


def test_shift_invariance(small):
    source, target = small
    f = torch.linspace(-1, 1, 12, dtype=torch.float64)
    state, shifted = (evaluate(source, target, f + c, EPSILON) for c in (0.0, 5.0))
    torch.testing.assert_close(shifted.dual_value, state.dual_value)
    torch.testing.assert_close(shifted.log_mass, state.log_mass, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(shifted.prior_potential, state.prior_potential - 5.0)


def test_gradient_against_autograd_and_finite_differences(small):
    source, target = small
    f = torch.linspace(-1, 1, 12, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(source, target, f), f)
    state = evaluate(source, target, f.detach(), EPSILON)
    torch.testing.assert_close((1 - state.log_mass.exp()) / 12, gradient, rtol=1e-10, atol=1e-13)
    step = 1e-5 * torch.eye(12, dtype=torch.float64)
    difference = torch.stack([value(source, target, f + s) - value(source, target, f - s) for s in step]) / 2e-5
    torch.testing.assert_close(difference.detach(), gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("softness", [0.0, 0.3])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_passes_at_once_and_in_turn_agree(small, monkeypatch, softness, held, scale, eager):
    """Also for data that are starved by thousands of epsilon, whose masses the sweep cannot know."""
    source, target = small
    products = target.natural @ source.statistics.T if held else None
    target = dataclasses.replace(target, softness=softness, products=products)
    monkeypatch.setattr(_problem, "HELD_WIDTH", 1 if held else 32)  # as if they were wide: no averages on the way
    f = scale * torch.randn(12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    at_once = evaluate(source, target, f, EPSILON, with_barycentres=eager)
    monkeypatch.setattr(_kernels, "MOST_SWEPT", 11)
    in_turn = evaluate(source, dataclasses.replace(target, products=None), f, EPSILON)
    for name in ("prior_potential", "barycentre", "log_mass", "log_density", "dual_value"):
        torch.testing.assert_close(getattr(at_once, name), getattr(in_turn, name), rtol=1e-9, atol=1e-6)


def test_solution_agrees_with_pot(small):
    source, target = small
    solution = SemiDual(marginal_tol=1e-22, max_iter=2000).solve(source, target, EPSILON)
    weights = target.log_weights.exp().numpy()
    f = _pot.semi_relaxed(cost(source, target).numpy(), np.full(12, 1 / 12), weights, np.zeros(12), EPSILON)[0]
    g = c_transform(source, target, torch.as_tensor(f), EPSILON)[0].numpy()
    shift = weights @ g
    f, g = f + shift, g - shift
    state = solution.state
    gauge = float(weights @ state.prior_potential.numpy())
    np.testing.assert_allclose(state.potential.numpy() + gauge, f, rtol=0, atol=1e-8)
    np.testing.assert_allclose(state.prior_potential.numpy() - gauge, g, rtol=0, atol=1e-8)
    theirs = np.exp((f[:, None] + g - cost(source, target).numpy()) / EPSILON) * weights / 12
    np.testing.assert_allclose(plan(state).numpy(), theirs, rtol=0, atol=1e-8)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_any_start_reaches_the_same_solution(small, scale):
    source, target = small
    start = scale * torch.randn(12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    solution = SemiDual(marginal_tol=1e-20, max_iter=2000).solve(source, target, EPSILON, start)
    reference = SemiDual(marginal_tol=1e-20, max_iter=2000).solve(source, target, EPSILON)
    assert solution.converged
    for s in (solution, reference):
        centred = s.state.potential - s.state.potential.mean()
        torch.testing.assert_close(centred, reference.state.potential - reference.state.potential.mean(), rtol=0, atol=1e-8)


def test_failure_to_converge_is_a_value(small):
    solution = SemiDual(marginal_tol=1e-30, max_iter=2).solve(*small, EPSILON)
    assert not solution.converged
    assert solution.n_iter == 2
    assert torch.isfinite(solution.state.potential).all()


def test_a_starved_datum_recovers_at_once(small):
    """One Sinkhorn step raises a potential that is thousands of epsilon too low."""
    source, target = small
    f = torch.zeros(12, dtype=torch.float64)
    f[3] = -5000.0
    after = sinkhorn_step(evaluate(source, target, f, EPSILON))
    assert evaluate(source, target, after, EPSILON).marginal_error < 1


def gaussian_problem(a, s, T, n=2001, m=2001):
    """x ~ N(0, s^2) and z ~ N(0, 1) at quantile midpoints, mu = a z, cost (x - a z)^2/2 at temperature T."""
    x = s * torch.as_tensor(ndtri((np.arange(n) + 0.5) / n))
    z = torch.as_tensor(ndtri((np.arange(m) + 0.5) / m))
    source = Source(x[:, None], 0.5 * x.square())
    target = Target(a * z[:, None], 0.5 * (a * z).square(), torch.full((m,), -math.log(m), dtype=torch.float64))
    return x, z, source, target


@pytest.mark.parametrize("a", [0.5, 1.2, math.sqrt(1.5**2 - 0.4)])
def test_linear_gaussian_coupling(a):
    """z given x ~ N(rho x/s, 1 - rho^2) with rho/(1 - rho^2) = a s/T, at any a."""
    s, T = 1.5, 0.4
    x, z, source, target = gaussian_problem(a, s, T)
    state = SemiDual(marginal_tol=1e-20, max_iter=1000).solve(source, target, T).state
    weights = 2001 * plan(state)
    rho = (math.sqrt(1 + 4 * (a * s / T) ** 2) - 1) / (2 * a * s / T)
    middle = slice(200, -200)
    torch.testing.assert_close((weights @ z)[middle], (rho * x / s)[middle], rtol=0, atol=5e-3)
    variance = weights @ z.square() - (weights @ z).square()
    torch.testing.assert_close(variance[middle], torch.full_like(variance[middle], 1 - rho**2), rtol=0, atol=5e-3)


def test_linear_gaussian_optimum_is_the_bayes_posterior():
    """a^2 = s^2 - T minimises the semi-dual; there and only there the coupling is the posterior under N(a z, T)."""
    s, T = 1.5, 0.4
    best = math.sqrt(s**2 - T)

    def solved(a):
        _, _, source, target = gaussian_problem(a, s, T)
        state = SemiDual(marginal_tol=1e-20, max_iter=1000).solve(source, target, T).state
        return float(state.dual_value)

    assert solved(best) < min(solved(best - 0.05), solved(best + 0.05))
    rho = (math.sqrt(1 + 4 * (best * s / T) ** 2) - 1) / (2 * best * s / T)
    assert rho / s == pytest.approx(best / (best**2 + T), rel=1e-12)


def test_certificate_sees_what_the_solved_draws_hide():
    """On few draws the potential fits them exactly; only fresh draws show the error, and many draws mend it."""
    rng = np.random.default_rng(0)
    x = torch.as_tensor(rng.normal(size=(200, 2)))
    source = Source(x, 0.5 * x.square().sum(1))

    def target(m):
        z = torch.as_tensor(rng.normal(size=(m, 2)))
        return Target(z, 0.5 * z.square().sum(1), torch.full((m,), -math.log(m), dtype=torch.float64))

    errors = []
    for m in (64, 16384):
        solution = SemiDual(marginal_tol=1e-8, max_iter=1000).solve(source, target(m), 0.05)
        assert solution.state.marginal_error <= 1e-8
        errors.append(fresh_marginal_error(source, (target(16384), target(16384)), solution.state.potential, 0.05))
    assert errors[0] > 0.05
    assert errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize("softness", [0.0, 0.3])
@pytest.mark.parametrize("n_averaged", [1, 4, 9, 20])
def test_barycentres_of_the_first_draws_leave_all_else_as_it_is(small, softness, n_averaged):
    source, target = small[0], dataclasses.replace(small[1], softness=softness)
    f = torch.linspace(-1, 1, 12, dtype=torch.float64)
    whole, some = prior_side(source, target, f, EPSILON), prior_side(source, target, f, EPSILON, n_averaged)
    for name in ("prior_potential", "c_transform", "log_density", "dual_value"):
        torch.testing.assert_close(getattr(some, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(some.barycentre, whole.barycentre[:n_averaged], rtol=1e-12, atol=1e-12)
    P = torch.softmax((f[:, None] - cost(source, target)) / EPSILON, 0)
    torch.testing.assert_close(some.barycentre, (P.T @ source.statistics)[:n_averaged], rtol=1e-12, atol=1e-12)


def test_a_certificate_of_fewer_fresh_draws_is_unbiased():
    """Means over many certificates agree with that of very many draws, for a potential that is not solved."""
    rng = np.random.default_rng(0)
    x = torch.as_tensor(rng.normal(size=(50, 2)))
    source, potential = Source(x, 0.5 * x.square().sum(1)), torch.as_tensor(0.3 * rng.normal(size=50))

    def certificate(m):
        z = [torch.as_tensor(rng.normal(size=(m, 2))) for _ in range(2)]
        targets = [Target(y, 0.5 * y.square().sum(1), torch.full((m,), -math.log(m), dtype=torch.float64)) for y in z]
        return fresh_marginal_error(source, (targets[0], targets[1]), potential, 1.0)

    exact = certificate(400_000)
    assert exact > 0.05
    for m in (200, 2000):
        errors = np.array([certificate(m) for _ in range(400)])
        assert abs(errors.mean() - exact) < 4 * errors.std() / 20
