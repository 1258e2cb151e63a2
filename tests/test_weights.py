"""Laws of weights of rows: a row of weight 2 counts as the same row twice."""

import math

import numpy as np
import ot
import pytest
import torch

from skcvae.transport import (
    Dual,
    SemiDual,
    SemiDualNetwork,
    Sinkhorn,
    Source,
    Target,
    dual_columns,
    dual_gradients,
    evaluate,
    fresh_marginal_error,
    from_cost,
    plan,
    primal_columns,
    prior_side,
    sinkhorn_step,
    two_potentials,
)

EPSILON = 0.4
COUNTS = np.array([1, 3, 2, 1, 5, 2, 1, 1, 4])


@pytest.fixture(params=[0.0, 0.3, 1.0], ids=["hard", "soft", "free"])
def problems(request):
    """Weighted rows and the same rows repeated, with one prior side and a potential each."""
    rng = np.random.default_rng(3)
    x, z = torch.as_tensor(rng.normal(size=(9, 2))), torch.as_tensor(rng.normal(size=(14, 2)))
    log_b = torch.as_tensor(rng.dirichlet(np.ones(14))).log()
    target = Target(z, 0.5 * z.square().sum(1), log_b, points=z, softness=request.param)
    counts = torch.as_tensor(COUNTS)
    tilt = (9 * counts.double() / counts.sum()).log()
    carrier, f = 0.5 * x.square().sum(1), torch.as_tensor(0.2 * rng.normal(size=9))
    weighted = Source(x, carrier, x, tilt)
    repeated = Source(*(part.repeat_interleave(counts, 0) for part in (x, carrier, x)))
    return weighted, repeated, target, f, f.repeat_interleave(counts)


@pytest.mark.parametrize("with_barycentres", [False, True])
def test_an_evaluation_is_that_of_the_repeated_rows(problems, with_barycentres):
    weighted, repeated, target, f, f_repeated = problems
    ours = evaluate(weighted, target, f, EPSILON, with_barycentres)
    theirs = evaluate(repeated, target, f_repeated, EPSILON, with_barycentres)
    for name in ("prior_potential", "log_density", "dual_value", "barycentre"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-12, atol=1e-13)
    assert ours.marginal_error == pytest.approx(theirs.marginal_error, rel=1e-11)
    per_row = COUNTS.cumsum() - 1
    torch.testing.assert_close(ours.log_mass, theirs.log_mass[per_row], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(sinkhorn_step(ours), sinkhorn_step(theirs)[per_row], rtol=1e-12, atol=1e-13)
    one_pass = prior_side(weighted, target, f, EPSILON)
    torch.testing.assert_close(one_pass.barycentre, ours.barycentre, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(one_pass.dual_value, ours.dual_value, rtol=1e-12, atol=1e-13)
    for columns in (dual_columns, primal_columns):
        for name in ("mass", "barycentre"):
            torch.testing.assert_close(getattr(columns(ours), name), getattr(columns(theirs), name), rtol=1e-11, atol=1e-13)
    mass = plan(ours)
    torch.testing.assert_close(mass[0], plan(theirs)[0], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(mass[1], plan(theirs)[1:4].sum(0), rtol=1e-12, atol=1e-13)


def test_masses_that_underflow_are_those_of_the_repeated_rows():
    x, z, counts = torch.tensor([[0.0], [1.0], [80.0]]), torch.linspace(-1, 1, 20)[:, None], torch.tensor([1, 2, 3])
    target = Target(z, 0.5 * z.square().sum(1), torch.full((20,), 1 / 20).log())
    carrier = 0.5 * x.square().sum(1)
    weighted = Source(x, carrier, log_weights=(counts / 2).log())
    repeated = Source(x.repeat_interleave(counts, 0), carrier.repeat_interleave(counts))
    ours, theirs = (evaluate(s, target, torch.zeros(len(s.carrier)), 1.0).log_mass for s in (weighted, repeated))
    assert float(ours[2]) < -1000
    torch.testing.assert_close(ours, theirs[[0, 2, 5]], rtol=1e-5, atol=1e-5)


def test_a_solution_has_the_weights_as_its_marginal(problems):
    weighted, repeated, target = problems[:3]
    solution = SemiDual(marginal_tol=1e-22, max_iter=3000).solve(weighted, target, EPSILON)
    same = SemiDual(marginal_tol=1e-22, max_iter=3000).solve(repeated, target, EPSILON)
    np.testing.assert_allclose(plan(solution.state).sum(1), COUNTS / COUNTS.sum(), atol=1e-10)
    torch.testing.assert_close(solution.state.dual_value, same.state.dual_value, rtol=1e-11, atol=0)
    assert solution.n_iter == same.n_iter


@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_weights_of_both_sides_agree_with_pot(softness):
    rng = np.random.default_rng(1)
    cost, a, b = rng.random((6, 4)), rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(4))
    source, target = from_cost(*map(torch.as_tensor, (cost, b, a)))
    if softness:
        target = Target(target.natural, target.normaliser, target.log_weights, softness=softness)
        varsigma = EPSILON * (1 / softness - 1)
        reference = ot.unbalanced.sinkhorn_unbalanced(a, b, cost, EPSILON, (math.inf, varsigma), numItermax=10000, stopThr=1e-14)
    else:
        reference = ot.sinkhorn(a, b, cost, EPSILON, method="sinkhorn_log", numItermax=10000, stopThr=1e-14)
    for solver in (SemiDual(marginal_tol=1e-20, max_iter=3000), Sinkhorn(marginal_tol=1e-18, max_iter=10000)):
        np.testing.assert_allclose(plan(solver.solve(source, target, EPSILON).state), reference, rtol=0, atol=1e-8)


def test_gradients_of_two_potentials_are_those_of_the_repeated_rows(problems):
    weighted, repeated, target, f, f_repeated = problems
    v = torch.linspace(-0.1, 0.2, 14).double()
    ours, theirs = two_potentials(weighted, target, f, v, EPSILON), two_potentials(repeated, target, f_repeated, v, EPSILON)
    torch.testing.assert_close(ours.dual_value, theirs.dual_value, rtol=1e-12, atol=0)
    (u_ours, v_ours), (u_theirs, v_theirs) = dual_gradients(ours), dual_gradients(theirs)
    torch.testing.assert_close(v_ours, v_theirs, rtol=1e-11, atol=1e-14)
    per_row = [block.sum() for block in u_theirs.split(COUNTS.tolist())]
    torch.testing.assert_close(u_ours, torch.stack(per_row), rtol=1e-11, atol=1e-14)


def test_certificates_are_those_of_the_repeated_rows(problems):
    weighted, repeated, target, f, f_repeated = problems
    other = Target(target.natural + 0.3, target.normaliser, target.log_weights, softness=target.softness)
    ours = fresh_marginal_error(weighted, (target, other), f, EPSILON)
    assert ours == pytest.approx(fresh_marginal_error(repeated, (target, other), f_repeated, EPSILON), rel=1e-11)
    assert ours > 0


@pytest.mark.parametrize("solver", [SemiDualNetwork, Dual])
def test_minibatches_of_a_solver_are_drawn_by_the_weights(solver):
    x, counts = torch.arange(4.0)[:, None], torch.tensor([1.0, 2.0, 3.0, 10.0])
    source = Source(x, torch.zeros(4), x, (counts / 4).log())
    generator = torch.Generator().manual_seed(0)
    running = solver(data_batch_size=3).begin(source, 1, generator)
    drawn = torch.cat([running._minibatch() for _ in range(8000)]).bincount(minlength=4) / 24000
    error = (counts / 16 * (1 - counts / 16) / 24000).sqrt()
    assert ((drawn - counts / 16).abs() < 4 * error).all()
    whole = solver().begin(source, 1, generator)
    assert whole._rows(whole._minibatch()) is source


def test_weights_that_are_no_distribution_are_refused():
    with pytest.raises(ValueError, match=r"row_weights must be 3 positive numbers with sum 1, got \[1.0, 2.0, 3.0\]. Divide them"):
        from_cost(torch.zeros(3, 2), row_weights=torch.tensor([1.0, 2.0, 3.0]))
