r"""Entropic optimal transport between data and draws from a prior.

The cost is bilinear, :math:`C_{ij} = A_j + h_i - t_i \cdot \eta_j`, as every exponential family's is (a given cost matrix is the
case t = -C, eta = I: `from_cost`). With data weights a (1/n unless rows are weighted), data potential f, prior weights b and
temperature epsilon, the semi-dual

.. math::
    J(f) = \sum_i a_i f_i + \sum_j b_j g_j, \qquad
    g_j = -\epsilon \log \sum_i a_i e^{(f_i - C_{ij})/\epsilon}

is maximised; :math:`P_{ij} = \mathrm{softmax}_i (\log a_i + (f_i - C_{ij})/\epsilon)` is the plan's column of draw j, and the
density of the plan with respect to the product of the marginals is :math:`e^{(f_i + g_j - C_{ij})/\epsilon}`. Potentials are in
cost units. The prior's marginal may be soft, held by :math:`\varsigma\, \mathrm{KL}(q(z) \| p(z))` (``Target.softness``).

A solver is a frozen configuration with `solve` (a fixed set of draws) and `begin` (potentials that follow a training):
`SemiDual`, `SemiDualNetwork`, `Dual`, `DualNetwork`, `Sinkhorn` (atoms, by POT) and `GradientAscent` (as printed).
``SOLVERS`` has the paper's eight by name: "semi-dual", "semi-dual-network", "dual", "dual-network", and each of them with "-primal"
at the end. `State` is one evaluation and knows its problem, `Solution` is the result and `Coupling` the frozen record of a fitted
model.
"""

from skcvae.transport._networks import Dual, DualNetwork, NetworkSolver, SemiDualNetwork, dual_gradients, two_potentials
from skcvae.transport._problem import (
    Columns,
    Coupling,
    PriorSide,
    Solution,
    Source,
    State,
    Target,
    c_transform,
    dual_columns,
    evaluate,
    fresh_marginal_error,
    from_cost,
    log_mass,
    plan,
    primal_columns,
    prior_side,
    sinkhorn_step,
    with_products,
)
from skcvae.transport._semidual import GradientAscent, SemiDual, Sinkhorn
from skcvae.transport._solver import Potentials, Solver, VectorSolver

#: The paper's eight solvers by name: formulation, what the potentials are, and the strategy where it is not the dual one.
SOLVERS: dict[str, Solver] = {
    "semi-dual": SemiDual(),
    "semi-dual-network": SemiDualNetwork(),
    "dual": Dual(),
    "dual-network": DualNetwork(),
    "semi-dual-primal": SemiDual(strategy="primal"),
    "semi-dual-network-primal": SemiDualNetwork(strategy="primal"),
    "dual-primal": Dual(strategy="primal"),
    "dual-network-primal": DualNetwork(strategy="primal"),
}

__all__ = [
    "SOLVERS",
    "Columns",
    "Coupling",
    "Dual",
    "DualNetwork",
    "GradientAscent",
    "NetworkSolver",
    "Potentials",
    "PriorSide",
    "SemiDual",
    "SemiDualNetwork",
    "Sinkhorn",
    "Solution",
    "Solver",
    "Source",
    "State",
    "Target",
    "VectorSolver",
    "c_transform",
    "dual_columns",
    "dual_gradients",
    "evaluate",
    "fresh_marginal_error",
    "from_cost",
    "log_mass",
    "plan",
    "primal_columns",
    "prior_side",
    "sinkhorn_step",
    "two_potentials",
    "with_products",
]
