"""The paper's propositions in their corrected form, and its slips, each shown by a computation."""

import math

import numpy as np
import pytest
import torch

from skcvae import objectives
from skcvae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from skcvae.transport import SemiDual, Source, Target, dual_columns, evaluate, from_cost, plan

EPSILON = 0.7


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    cost = torch.as_tensor(rng.normal(size=(12, 9)))
    return cost, *from_cost(cost, torch.as_tensor(rng.dirichlet(np.ones(9))))


LIKELIHOODS = {
    "fixed": GaussianLikelihood(0.5),
    "learned": GaussianLikelihood("learned_per_feature"),
    "network": GaussianLikelihood("network"),
    "bernoulli": BernoulliLikelihood(),
}


@pytest.mark.parametrize("softness", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=list(LIKELIHOODS))
def test_gradient_of_the_decoder_is_inside_the_expectation(likelihood, softness):
    """Proposition 3.2: dJ/dtheta = E_z[sum_i w P_i dC_i/dtheta] at fixed f; the regression onto barycentres has this gradient."""
    rng = np.random.default_rng(1)
    X = rng.random((20, 3))
    family = likelihood.bind(X)
    x = torch.as_tensor(family.standardise(X))
    z = torch.as_tensor(rng.normal(size=(15, 2)))
    weight = torch.as_tensor(rng.normal(size=(2, family.n_outputs))).requires_grad_()
    f = torch.as_tensor(rng.normal(size=20))
    cost = family.cost(x, z @ weight)
    log_s = torch.logsumexp((f[:, None] - cost) / EPSILON, 0) - math.log(20)
    gain = -EPSILON * log_s if softness == 0 else EPSILON / softness * (1 - (softness * log_s).exp())
    (expected,) = torch.autograd.grad(gain.mean() / EPSILON, weight)

    source = Source(family.statistics(x), family.carrier(x))
    eta, normaliser = (t.detach() for t in family.natural(z @ weight))
    target = Target(eta, normaliser, torch.full((15,), -math.log(15), dtype=torch.float64), softness=softness)
    columns = dual_columns(evaluate(source, target, f, EPSILON))
    loss = objectives.coupled(family, z @ weight, columns.barycentre.detach(), columns.mass.detach(), EPSILON)
    (gradient,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)


def test_scale_of_the_decoder_is_the_plan_s_conditional_deviation():
    """Proposition 3.1: at a fixed plan the best mean and scale are the columns' mean and standard deviation, if above the floor."""
    rng = np.random.default_rng(2)
    family = GaussianLikelihood("network", floor=0.01).bind(rng.normal(size=(50, 2)))
    x = torch.as_tensor(rng.normal(size=(50, 2)))
    P = torch.softmax(torch.as_tensor(rng.normal(size=(50, 4))), 0)
    barycentre = P.T @ family.statistics(x)
    output = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([output], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = objectives.coupled(family, output, barycentre, torch.full((4,), 0.25, dtype=torch.float64), 1.0)
        loss.backward()
        return loss

    optimiser.step(closure)
    mean = P.T @ x
    torch.testing.assert_close(family.mean(output).detach(), mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(family.deviation(output).detach(), (P.T @ x.square() - mean**2).sqrt(), rtol=0, atol=1e-3)
    assert closure().item() < 1e-6


def test_scale_without_a_floor_has_no_optimum():
    """A column that holds one datum: the cost falls without bound as the scale does."""
    X, x = np.random.default_rng(0).normal(size=(9, 1)), torch.zeros(1, 1, dtype=torch.float64)
    families = [GaussianLikelihood("network", floor=floor).bind(X) for floor in (1.0, 1e-2, 1e-4)]
    smallest = torch.tensor([[0.0, -1e5]], dtype=torch.float64)
    costs = [float(family.cost(x, smallest)) for family in families]
    np.testing.assert_allclose(np.diff(costs), np.log(1e-2), rtol=1e-6)


def test_minus_one_of_the_printed_posterior_loses_mass(problem):
    """Equations 12, 19 and 20 with their -1: the plan's mass is exp(-1) instead of 1."""
    cost, source, target = problem
    state = SemiDual(marginal_tol=1e-20, max_iter=2000).solve(source, target, EPSILON).state
    assert float(plan(state).sum()) == pytest.approx(1.0, abs=1e-9)
    printed = ((state.potential[:, None] + state.prior_potential - cost) / EPSILON - 1 + target.log_weights).exp() / 12
    assert float(printed.sum()) == pytest.approx(math.exp(-1), abs=1e-9)


def test_constant_of_the_printed_dual(problem):
    """Equations 9 and 16 without + epsilon: at the optimum the dual is that much below the primal E_pi C + epsilon KL."""
    cost, source, target = problem
    state = SemiDual(marginal_tol=1e-20, max_iter=2000).solve(source, target, EPSILON).state
    coupling = plan(state)
    product = target.log_weights.exp() / 12
    primal = float((coupling * cost).sum() + EPSILON * (coupling * (coupling / product).log()).sum())
    assert float(state.dual_value) == pytest.approx(primal, abs=1e-8)
    mass = float((coupling / product * product).sum())
    printed = float(state.potential.mean() + (target.log_weights.exp() * state.prior_potential).sum()) - EPSILON * mass
    assert printed == pytest.approx(primal - EPSILON, abs=1e-8)


def test_one_shared_sample_for_all_data_is_not_the_posterior(problem):
    """Algorithm 1 as printed averages the cost over the product of the marginals; with each datum's own weights, over the plan."""
    cost, source, target = problem
    state = SemiDual(marginal_tol=1e-20, max_iter=2000).solve(source, target, EPSILON).state
    coupling, weights = plan(state), target.log_weights.exp()
    own = torch.softmax(target.log_weights + (state.prior_potential - cost) / EPSILON, 1)
    torch.testing.assert_close((own * cost).sum(1).mean(), (coupling * cost).sum(), rtol=1e-7, atol=1e-9)
    shared = float((cost * weights).sum(1).mean())
    assert shared > float((coupling * cost).sum()) + 0.3


def test_tempering_bernoulli_logits_moves_the_mean():
    """The stationary decoder has sigmoid(logits) = O at every epsilon, so logits are never divided by epsilon."""
    family = BernoulliLikelihood().bind(np.random.default_rng(0).integers(0, 2, size=(30, 3)).astype(float))
    barycentre = torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64)
    output = torch.logit(barycentre)
    for epsilon in (0.1, 1.0, 10.0):
        assert float(objectives.coupled(family, output, barycentre, torch.ones(1), epsilon)) == pytest.approx(0.0, abs=1e-9)
        torch.testing.assert_close(family.tempered(epsilon).mean(output), barycentre)
    assert not torch.allclose(torch.sigmoid(output / 10), barycentre, atol=0.05)


@pytest.mark.parametrize("scale", ["learned", "network"])
def test_a_trained_scale_is_the_dispersion_of_the_plan_at_every_temperature(scale):
    """Where the decoder is stationary its second moment is the barycentre's, so that matched noise is the plan's dispersion."""
    family = GaussianLikelihood(scale, floor=0.01).bind(np.random.default_rng(0).normal(size=(30, 2)))
    output = torch.linspace(-0.5, 0.5, 3 * family.n_outputs, dtype=torch.float64).reshape(3, -1)
    barycentre = family.mean_statistics(output).detach()
    dispersion = (barycentre[:, 2:] - barycentre[:, :2].square()).sqrt()
    for epsilon in (0.1, 1.0, 10.0):
        loss = objectives.coupled(family, output, barycentre, torch.ones(3), epsilon)
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-9)
        torch.testing.assert_close(family.tempered(epsilon).deviation(output).expand(3, 2).detach(), dispersion)


def test_robust_regression_is_the_plain_one_near_its_minimum_and_its_root_far_from_it():
    """Its value at decoders that are off by a small and by a large distance, of unit scale: D/epsilon, and sqrt(2 D/epsilon)."""
    family = GaussianLikelihood(1.0).bind(np.array([[-1.0], [1.0]]))
    barycentre = torch.zeros(3, 1, dtype=torch.float64)
    weight = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    for distance, expected in ((1e-3, 0.5e-6 / EPSILON), (1e4, 1e4 / math.sqrt(EPSILON))):
        output = torch.full_like(barycentre, distance)
        value = float(objectives.robust_coupled(family, output, barycentre, weight, EPSILON))
        assert value == pytest.approx(expected, rel=1e-3)
    small = torch.full_like(barycentre, 1e-3)
    plain = float(objectives.coupled(family, small, barycentre, weight / 3, EPSILON))
    assert float(objectives.robust_coupled(family, small, barycentre, weight, EPSILON)) == pytest.approx(plain, rel=1e-5)


def test_the_loss_of_a_model_with_an_encoder_is_its_three_terms_with_their_weights():
    """Equations 2 to 5: 2 + 2 x 1 + 3 x 4, and without the rows' divergence where its weight is 0."""
    log_likelihood, kl, divergence = torch.tensor([-1.0, -3.0]), torch.tensor([0.5, 1.5]), torch.tensor(4.0)
    assert float(objectives.autoencoding(log_likelihood, kl, divergence, 2.0, 3.0)) == 16.0
    assert float(objectives.autoencoding(log_likelihood, kl, divergence, 0.0, 3.0)) == 14.0
