"""Laws of the solvers: the soft marginal, the dual with two potentials, the strategies, atoms by POT, and networks."""

import itertools
import math
from dataclasses import replace

import numpy as np
import ot
import pytest
import torch

from skcvae import _kernels, _pot
from skcvae.transport import (
    Dual,
    DualNetwork,
    GradientAscent,
    SemiDual,
    SemiDualNetwork,
    Sinkhorn,
    Source,
    Target,
    c_transform,
    dual_columns,
    dual_gradients,
    evaluate,
    from_cost,
    plan,
    primal_columns,
    two_potentials,
)

EPSILON = 0.7
SOFTNESS = [0.0, 0.3, 0.9, 1.0]


def varsigma(softness):
    return math.inf if softness == 0 else EPSILON * (1 / softness - 1)


@pytest.fixture
def problem():
    """Random cost 12 x 9 with unequal weights, in double precision."""
    rng = np.random.default_rng(0)
    cost = torch.as_tensor(rng.normal(size=(12, 9)))
    return cost, *from_cost(cost, torch.as_tensor(rng.dirichlet(np.ones(9))))


def soft(target, softness):
    return replace(target, softness=softness)


@pytest.mark.parametrize("softness", SOFTNESS)
def test_value_and_gradient_of_the_soft_semi_dual(problem, softness):
    """Equations 14 and 15: J = mean f + (epsilon + varsigma)(1 - E[s^(epsilon/(epsilon + varsigma))]), and q(z)/p(z) = w."""
    cost, source, target = problem
    f, b = torch.linspace(-1, 1, 12, dtype=torch.float64, requires_grad=True), target.log_weights.exp()
    log_s = torch.logsumexp((f[:, None] - cost) / EPSILON, 0) - math.log(12)
    if softness == 0:
        value = f.mean() - EPSILON * (b * log_s).sum()
    else:
        value = f.mean() + (EPSILON + varsigma(softness)) * (1 - (b * (softness * log_s).exp()).sum())
    (gradient,) = torch.autograd.grad(value, f)
    state = evaluate(source, soft(target, softness), f.detach(), EPSILON)
    torch.testing.assert_close(state.dual_value, value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((1 - state.log_mass.exp()) / 12, gradient, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(state.log_density, softness * log_s.detach(), rtol=1e-10, atol=1e-12)
    columns = plan(state).sum(0)
    torch.testing.assert_close(columns, b * state.log_density.exp(), rtol=1e-11, atol=1e-14)
    q = plan(state).sum(1)
    chi2 = 12 * (q**2).sum() - 2 * columns.sum() + 1
    assert state.marginal_error == pytest.approx(float(chi2), rel=1e-9)
    assert _kernels.marginal_error(state.log_mass, state.log_mass) == pytest.approx(float(chi2), rel=1e-9)


@pytest.mark.parametrize("softness", [0.05, 0.3, 0.9])
def test_soft_solution_agrees_with_pot_s_unbalanced_sinkhorn(problem, softness):
    cost, source, target = problem
    solution = SemiDual(marginal_tol=1e-24, max_iter=5000).solve(source, soft(target, softness), EPSILON)
    weights = target.log_weights.exp().numpy()
    reference = ot.unbalanced.sinkhorn_unbalanced(
        np.full(12, 1 / 12), weights, cost.numpy(), EPSILON, (math.inf, varsigma(softness)), reg_type="kl", stopThr=1e-14,
        numItermax=100000,
    )  # fmt: skip
    assert solution.converged
    np.testing.assert_allclose(plan(solution.state).numpy(), reference, rtol=0, atol=1e-10)


def test_limits_of_varsigma(problem):
    """Nearly hard meets the hard solution, and fully soft is exact maximum likelihood in one step."""
    cost, source, target = problem
    solver = SemiDual(marginal_tol=1e-22, max_iter=20000)
    hard, nearly = (solver.solve(source, soft(target, s), EPSILON).state for s in (0.0, 1e-7))
    torch.testing.assert_close(plan(nearly), plan(hard), rtol=1e-5, atol=1e-9)
    free = SemiDual(marginal_tol=1e-22).solve(source, soft(target, 1.0), EPSILON)
    evidence = -EPSILON * torch.logsumexp(-cost / EPSILON + target.log_weights, 1)
    torch.testing.assert_close(free.state.potential, evidence)
    assert free.n_iter == 2
    assert float(free.state.dual_value) == pytest.approx(float(evidence.mean()), rel=1e-12)


@pytest.mark.parametrize("softness", SOFTNESS)
def test_sinkhorn_over_atoms_agrees_with_the_semi_dual(problem, softness):
    _, source, target = problem
    target = soft(target, softness)
    ours = SemiDual(marginal_tol=1e-24, max_iter=5000).solve(source, target, EPSILON).state
    theirs = Sinkhorn(marginal_tol=1e-20, max_iter=100000).solve(source, target, EPSILON)
    assert theirs.converged
    torch.testing.assert_close(plan(theirs.state), plan(ours), rtol=0, atol=1e-9)


@pytest.mark.parametrize("softness", [0.0, 0.5])
@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_a_large_cost_over_epsilon_is_solved_or_reported(problem, scale, softness):
    cost, _, target = problem
    source, hard = from_cost(scale * cost, target.log_weights.exp())
    solution = Sinkhorn(max_iter=3000).solve(source, soft(hard, softness), EPSILON)
    assert torch.isfinite(solution.state.potential).all()
    assert solution.converged == (solution.state.marginal_error <= 1e-3)


def test_a_failure_of_pot_is_not_passed_on(problem, monkeypatch):
    _, source, target = problem
    monkeypatch.setattr(_pot, "semi_relaxed", lambda *_, **__: None)
    solution = Sinkhorn(marginal_tol=1e-12, max_iter=2000).solve(source, target, EPSILON)
    assert solution.converged


def test_warm_start_of_the_adapter_changes_nothing_but_time(problem):
    cost, _, target = problem
    weights = target.log_weights.exp().numpy()
    for v in (math.inf, 0.8):
        cold, n_cold = _pot.semi_relaxed(cost.numpy(), np.full(12, 1 / 12), weights, np.zeros(12), EPSILON, v)
        warm, n_warm = _pot.semi_relaxed(cost.numpy(), np.full(12, 1 / 12), weights, cold, EPSILON, v)
        np.testing.assert_allclose(warm - warm.mean(), cold - cold.mean(), atol=1e-9)
        assert n_warm < n_cold


@pytest.mark.parametrize("softness", SOFTNESS)
def test_primal_columns_are_the_importance_weights(problem, softness):
    """W_ij = softmax_j(log b + (g - C)/epsilon): masses and barycentres of mean_i sum_j W_ij."""
    cost, source, target = problem
    target = soft(target, softness)
    state = evaluate(source, target, torch.linspace(-1, 1, 12, dtype=torch.float64), EPSILON)
    W = torch.softmax(target.log_weights + (state.prior_potential - cost) / EPSILON, 1) / 12
    columns = primal_columns(state)
    torch.testing.assert_close(columns.mass, W.sum(0), rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(columns.barycentre, (W / W.sum(0)).T @ source.statistics, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("softness", SOFTNESS)
def test_strategies_coincide_at_the_solution_and_differ_before(problem, softness):
    _, source, target = problem
    target = soft(target, softness)
    start = torch.linspace(-1, 1, 12, dtype=torch.float64)
    before = evaluate(source, target, start, EPSILON)
    solved = SemiDual(marginal_tol=1e-24, max_iter=5000).solve(source, target, EPSILON, start).state
    for state, coincide in ((solved, True), (before, False)):
        dual, primal = dual_columns(state), primal_columns(state)
        assert torch.allclose(dual.mass, primal.mass, atol=1e-10) == coincide
        assert torch.allclose(dual.barycentre, primal.barycentre, atol=1e-9) == coincide


def dual_objective(u, v, cost, b, softness):
    """Equation 16, with the soft side's conjugate."""
    gain = v if softness == 0 else varsigma(softness) * (1 - (-v / varsigma(softness)).exp())
    mass = ((u[:, None] + v - cost) / EPSILON).exp().mean(0)
    return u.mean() + (b * gain).sum() - EPSILON * (b * mass).sum() + EPSILON


@pytest.mark.parametrize("softness", [0.0, 0.3, 0.9])
def test_dual_with_two_potentials(problem, softness):
    cost, source, target = problem
    target, b = soft(target, softness), target.log_weights.exp()
    u = torch.linspace(-1, 1, 12, dtype=torch.float64, requires_grad=True)
    v = torch.linspace(0.5, -0.5, 9, dtype=torch.float64, requires_grad=True)
    value = dual_objective(u, v, cost, b, softness)
    gradients = torch.autograd.grad(value, [u, v])
    state = two_potentials(source, target, u.detach(), v.detach(), EPSILON)
    torch.testing.assert_close(state.dual_value, value.detach(), rtol=1e-12, atol=1e-12)
    for got, expected in zip(dual_gradients(state), gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-13)


def test_dual_is_unbiased_under_minibatches_of_both_sides():
    """The gradients of all pairs of minibatches average to the whole gradient; the semi-dual's do not."""
    rng = np.random.default_rng(0)
    cost = torch.as_tensor(rng.normal(size=(4, 4)))
    u, v = torch.as_tensor(rng.normal(size=4)), torch.as_tensor(rng.normal(size=4))

    def gradient(rows, cols, semi):
        source, target = from_cost(cost[rows][:, cols])
        free = c_transform(source, target, u[rows], EPSILON)[0] if semi else v[cols]
        state = two_potentials(source, target, u[rows], free, EPSILON)
        whole = torch.zeros(4, dtype=torch.float64)
        whole[rows] = dual_gradients(state)[0]
        return whole

    def error(semi):
        pairs = [(list(r), list(c)) for r in itertools.combinations(range(4), 2) for c in itertools.combinations(range(4), 2)]
        mean = sum(gradient(r, c, semi) for r, c in pairs) / len(pairs)
        return float((mean - gradient([0, 1, 2, 3], [0, 1, 2, 3], semi)).abs().max())

    assert error(semi=False) < 1e-14
    assert error(semi=True) > 1e-3


def test_gradient_ascent_is_the_printed_update(problem):
    cost, source, target = problem
    f = torch.linspace(-1, 1, 12, dtype=torch.float64)
    P = torch.softmax((f[:, None] - cost) / EPSILON, 0)
    expected = f + 0.5 * 12 * EPSILON * (1 / 12 - P @ target.log_weights.exp())
    solver = GradientAscent(step_size=0.5)
    torch.testing.assert_close(solver.following(evaluate(source, target, f, EPSILON)), expected)


@pytest.fixture(scope="module")
def line():
    """Two uneven clusters on a line against Gaussian draws, with points for networks."""
    rng = np.random.default_rng(0)
    x = torch.as_tensor(np.concatenate([rng.normal(-2, 0.4, 250), rng.normal(1.5, 0.4, 150)])[:, None]).float()
    z = torch.as_tensor(rng.normal(size=(300, 1))).float()
    source = Source(x, 0.5 * x[:, 0] ** 2, points=x)
    return source, Target(1.5 * z, 0.5 * (1.5 * z[:, 0]) ** 2, torch.full((300,), -math.log(300)), points=z)


@pytest.mark.parametrize("softness", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("solver", [SemiDualNetwork(), Dual(), DualNetwork(), GradientAscent()], ids=lambda s: type(s).__name__)
def test_every_solver_finds_the_semi_dual_s_solution(line, solver, softness):
    """To a chi-square of 2e-3, and the potential to 0.15 epsilon in root mean square."""
    source, target = line[0], soft(line[1], softness)
    reference = SemiDual(marginal_tol=1e-8).solve(source, target, 1.0).state
    solution = replace(solver, marginal_tol=2e-3, batch_marginal_tol=0.0, max_iter=2000).solve(source, target, 1.0)
    assert solution.converged
    difference = solution.state.potential - reference.potential
    difference = difference - difference.mean() if softness == 0 else difference
    assert float(difference.square().mean().sqrt()) < 0.15


def test_solver_s_results_repeat(line):
    for solver in (SemiDualNetwork(max_iter=3), DualNetwork(max_iter=3)):
        first, second = (solver.solve(*line, 1.0).state.potential for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("solver", [SemiDualNetwork(), DualNetwork()])
def test_network_potentials_need_points(problem, solver):
    with pytest.raises(ValueError, match="give Source its `points`"):
        solver.solve(problem[1], problem[2], EPSILON)


def test_minibatches_of_data_keep_to_their_size(line):
    running = SemiDualNetwork(data_batch_size=32).begin(line[0], 1, torch.Generator().manual_seed(0))
    solution = running.improve(line[1], 1.0)
    assert solution.state.source.statistics.shape == (32, 1)
    assert running.vector().shape == (400,)
