"""Laws over all divergences: zero at equality, a gradient that points home, and randomness from the given generator alone."""

import math
import pickle

import numpy as np
import ot
import pytest
import torch

from skcvae.divergences import DIVERGENCES, MMD, Adversarial, SinkhornDivergence, SlicedWasserstein
from skcvae.divergences._sinkhorn import _relaxed

CASES = {
    "mmd": MMD(),
    "rbf": MMD("rbf"),
    "sinkhorn": SinkhornDivergence(),
    "sinkhorn_exact": SinkhornDivergence(tol=1e-12, max_iter=2000),
    "sliced": SlicedWasserstein(),
    "adversarial": Adversarial((16, 16)),
}
#: Those whose value does not depend on the training of a critic.
METRICS = [name for name in CASES if name != "adversarial"]
KERNELS = {"imq": lambda ratio: 1 / (1 + ratio), "rbf": lambda ratio: np.exp(-ratio)}


def normal(n, r=2, seed=0, dtype=torch.float64):
    return torch.randn(n, r, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def begin(divergence, r=2, seed=0):
    """A measure in double precision."""
    return divergence.begin(r, torch.Generator().manual_seed(seed)).double()


def gradient(divergence, codes, draws):
    codes = codes.clone().requires_grad_()
    return torch.autograd.grad(begin(divergence, codes.shape[1])(codes, draws), codes)[0]


def entropic(a, b, epsilon):
    """POT's optimum of the cost plus epsilon times the divergence from the product of the marginals."""
    cost = ot.dist(a.numpy(), b.numpy())
    return ot.solve(cost, reg=epsilon, reg_type="KL", max_iter=100_000, tol=1e-11).value


def test_every_named_divergence_is_tested():
    assert {type(divergence) for divergence in CASES.values()} == set(DIVERGENCES.values())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_names_begin_without_parameters(name):
    value = begin(DIVERGENCES[name](), 3)(normal(20, 3), normal(30, 3, seed=1))
    assert value.shape == ()
    assert torch.isfinite(value)


@pytest.mark.parametrize("shape", [(40, 40, 2), (12, 30, 3), (31, 9, 1)])
@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_finite_difference(name, shape):
    n, m, r = shape
    divergence = CASES["sinkhorn_exact"] if name == "sinkhorn" else CASES[name]
    codes, draws = 0.7 * normal(n, r) + 0.4, normal(m, r, seed=1)
    direction, step = normal(n, r, seed=2), 1e-6
    ahead, behind = (begin(divergence, r)(codes + sign * step * direction, draws) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    torch.testing.assert_close((gradient(divergence, codes, draws) * direction).sum(), expected.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", METRICS)
def test_symmetric(name):
    a, b = normal(20), normal(30, seed=1) + 0.5
    tolerance = 1e-4 if name == "sinkhorn" else 1e-9
    torch.testing.assert_close(begin(CASES[name])(a, b), begin(CASES[name])(b, a), rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", ["sinkhorn", "sinkhorn_exact", "sliced"])
def test_zero_with_zero_gradient_at_equality_and_positive_elsewhere(name):
    a, order = normal(50), torch.randperm(50, generator=torch.Generator().manual_seed(1))
    measure = begin(CASES[name])
    assert abs(measure(a, a[order])) <= 1e-10
    assert gradient(CASES[name], a, a[order]).abs().max() < (1e-3 if name == "sinkhorn" else 1e-10)
    assert measure(a, normal(50, seed=1)) > 1e-3


@pytest.mark.parametrize("name", METRICS)
def test_decreases_as_the_codes_approach(name):
    draws = normal(200, seed=1)
    values = [float(begin(CASES[name])(normal(200) + shift, draws)) for shift in (4.0, 2.0, 1.0, 0.5, 0.0)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", METRICS)
def test_a_step_against_the_gradient_lowers_the_value(name):
    codes, draws = 2 * normal(60) + 1, normal(60, seed=1)
    slope = gradient(CASES[name], codes, draws)
    assert begin(CASES[name])(codes - 0.1 * slope / slope.norm(), draws) < begin(CASES[name])(codes, draws)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_codes_far_off_give_finite_numbers(name, dtype):
    for codes in (normal(30, dtype=dtype) + 1e4, 1e4 * normal(30, dtype=dtype), 0 * normal(30, dtype=dtype)):
        codes.requires_grad_()
        measure, draws = begin(CASES[name]).to(dtype), normal(20, seed=1, dtype=dtype)
        value = measure(codes, draws)
        value.backward()
        assert value.dtype == dtype
        assert torch.isfinite(value)
        assert torch.isfinite(codes.grad).all()


@pytest.mark.parametrize("name", CASES)
def test_randomness_is_the_generator_s(name):
    a, b, state = normal(20), normal(30, seed=1), torch.random.get_rng_state()
    first, again, other = (begin(CASES[name], seed=seed)(a, b) for seed in (0, 0, 1))
    assert first == again
    assert (first != other) == (name in ("sliced", "adversarial"))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", CASES)
def test_a_measure_survives_pickling_with_its_generator(name):
    measure, a, b = begin(CASES[name]), normal(20), normal(30, seed=1)
    measure(a, b)
    copy = pickle.loads(pickle.dumps(measure))
    assert copy(a, b) == measure(a, b)


@pytest.mark.parametrize("name", METRICS)
def test_only_a_critic_has_a_loss_and_parameters(name):
    measure = begin(CASES[name])
    assert measure.critic_loss(normal(5), normal(5)) is None
    assert not list(measure.parameters())


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_is_the_double_loop(kernel):
    scales, a, b = (0.3, 1.0, 4.0), normal(7, 3).numpy(), normal(5, 3, seed=1).numpy()
    within = []
    for z in (a, b):
        pairs = [(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        within.append(np.mean([similarity(kernel, *pair, scales) for pair in pairs]))
    across = np.mean([similarity(kernel, x, y, scales) for x in a for y in b])
    value = begin(MMD(kernel, scales), 3)(torch.as_tensor(a), torch.as_tensor(b))
    assert float(value) == pytest.approx(sum(within) - 2 * across, abs=1e-12)


def similarity(kernel, x, y, scales):
    return sum(KERNELS[kernel](((x - y) ** 2).sum() / (2 * 3 * scale)) for scale in scales)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_is_unbiased(kernel):
    measure = begin(MMD(kernel))
    values = torch.stack([measure(*pair.split([5, 7])) for pair in normal(12 * 3000).reshape(3000, 12, 2)])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(3000)
    assert values.min() < 0


@pytest.mark.parametrize("epsilon", [1.0, 0.2])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_sinkhorn_is_pot_s_debiased_optimum(epsilon, shift):
    a, b = 0.8 * normal(25) + shift, normal(18, seed=1)
    value = begin(SinkhornDivergence(epsilon, tol=1e-12, max_iter=100_000))(a, b)
    expected = entropic(a, b, epsilon) - (entropic(a, a, epsilon) + entropic(b, b, epsilon)) / 2
    assert float(value) == pytest.approx(expected, abs=1e-6)


def test_sinkhorn_s_gradient_is_that_of_pot_s_plans():
    a, b, epsilon = 0.8 * normal(25) + 0.5, normal(18, seed=1), 0.2
    cross, own = (ot.solve(ot.dist(a.numpy(), y.numpy()), reg=epsilon, max_iter=100_000, tol=1e-11).plan for y in (b, a))
    expected = 2 * (torch.as_tensor(own) @ a - torch.as_tensor(cross) @ b)  # each plan's rows sum to 1/n
    found = gradient(SinkhornDivergence(epsilon, tol=1e-12, max_iter=100_000), a, b)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.05, 1.0, 6.0])
def test_sinkhorn_converges_from_any_codes(scale):
    """Codes nearly in a point, and codes far wider than the prior."""
    a, b = scale * normal(40), normal(40, seed=1)
    loose, tight = (begin(SinkhornDivergence(0.05, tol, 20_000))(a, b) for tol in (1e-2, 1e-10))
    assert float(loose) == pytest.approx(float(tight), abs=1e-3)


def test_over_relaxation_never_lowers_the_dual():
    """One coordinate of the dual lies e^x - 1 - x below its maximum at distance x from it, in units of epsilon."""
    step = torch.linspace(-30, 30, 2001, dtype=torch.float64)
    beyond = _relaxed(step) - step
    assert (beyond * step >= 0).all()
    assert (beyond.expm1() - beyond <= (-step).expm1() + step + 1e-15).all()


def test_sinkhorn_of_far_codes_is_the_shift_exactly():
    a = normal(50, dtype=torch.float32)
    value = SinkhornDivergence().begin(2, torch.Generator())(a + 1024, a)
    assert float(value) == pytest.approx(2 * 1024**2, rel=1e-6)


@pytest.mark.parametrize("sizes", [(40, 40), (40, 25), (7, 30), (1, 3)])
def test_sliced_is_the_distance_of_sorted_projections(sizes):
    """Each point as many times as makes both samples of one size, which are then paired in order."""
    a, b = 0.8 * normal(sizes[0], 3) + 0.5, normal(sizes[1], 3, seed=1)
    measure = begin(SlicedWasserstein(20), 3)
    value = measure(a, b)
    directions = begin(SlicedWasserstein(20), 3)._directions(3).numpy()
    both = [np.sort(x.numpy() @ directions, axis=0).repeat(np.lcm(*sizes) // len(x), axis=0) for x in (a, b)]
    assert float(value) == pytest.approx(np.square(both[0] - both[1]).mean(), rel=1e-9)
    assert measure(a, b) != value


def train_critic(codes, draws, n_steps):
    """Losses of a critic on minibatches of 64."""
    critic = begin(Adversarial((32, 32)))
    optimiser, generator, losses = torch.optim.Adam(critic.parameters(), lr=2e-3), torch.Generator().manual_seed(3), []
    for _ in range(n_steps):
        rows, others = (torch.randint(len(z), (64,), generator=generator) for z in (codes, draws))
        loss = critic.critic_loss(codes[rows], draws[others])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return critic, losses


def test_critic_separates_what_differs():
    codes, draws = normal(2000) + 2, normal(2000, seed=1)
    critic, losses = train_critic(codes, draws, 300)
    assert np.mean(losses[-50:]) < 0.4 * math.log(2)
    assert critic(codes, draws) > 1
    assert critic(draws, codes) < 0
    codes = codes.requires_grad_()
    critic(codes, draws).backward()
    assert (codes.grad.mean(0) > 0).all()  # descending leads back to the prior


def test_critic_cannot_separate_what_does_not():
    critic, losses = train_critic(normal(20_000), normal(20_000, seed=1), 300)
    assert np.mean(losses[-50:]) == pytest.approx(math.log(2), abs=0.02)
    assert float(critic(normal(2000, seed=4), normal(2, seed=5))) == pytest.approx(0, abs=0.1)


def test_critic_and_encoder_do_not_reach_into_each_other():
    critic, codes = begin(Adversarial((16,))), normal(20).requires_grad_()
    critic(codes, normal(20, seed=1)).backward()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in critic.parameters())
    codes.grad = None
    critic.critic_loss(codes, normal(20, seed=1)).backward()
    assert codes.grad is None
    assert all(parameter.grad is not None for parameter in critic.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMD("laplace"), r"kernel must be one of 'imq', 'rbf', got 'laplace'"),
        (lambda: MMD(scales=()), r"scales must be .*, got \(\)"),
        (lambda: MMD(scales=1.0), r"scales must be .*, got 1\.0"),
        (lambda: MMD(scales=(1.0, -1.0)), r"scales must be .*finite number.* above 0.*-1\.0"),
        (lambda: SinkhornDivergence(epsilon=0.0), r"epsilon must be a finite number above 0, got 0\.0\. 0\.1 suits"),
        (lambda: SinkhornDivergence(epsilon=math.nan), "epsilon must be .*, got nan"),
        (lambda: SinkhornDivergence(tol=-1.0), "tol must be .*, got -1"),
        (lambda: SinkhornDivergence(max_iter=0), "max_iter must be an integer of at least 1, got 0"),
        (lambda: SlicedWasserstein(0), "n_projections must be an integer of at least 1, got 0"),
        (lambda: SlicedWasserstein(2.5), r"n_projections must be an integer of at least 1, got 2\.5"),
        (lambda: Adversarial((32, 0)), r"each of hidden_layer_sizes must be .*at least 1, got 0"),
        (lambda: Adversarial(activation="step"), "activation must be one of 'steep', 'relu'.*, got 'step'"),
        (lambda: begin(MMD())(normal(1), normal(9)), "MMD needs two rows or more, got 1 codes and 9 draws. Use larger"),
    ],
)
def test_wrong_parameters_say_what_is_expected(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
