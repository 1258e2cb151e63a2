"""
A transport solver on its own
=============================

``skcvae.transport`` solves entropic optimal transport for any cost matrix. Here 300 points are shared out between five depots of
given capacity, and then between depots whose capacity is only a wish.
"""

# %%
# Points, depots and the squared distance as cost.
import matplotlib.pyplot as plt
import numpy as np
import torch

from skcvae.transport import SemiDual, Sinkhorn, from_cost, plan

rng = np.random.default_rng(0)
points = rng.normal(size=(300, 2)) + rng.choice([-1.5, 1.5], size=(300, 1), p=[0.7, 0.3])
depots = np.array([[-2.0, -2.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 1.0], [2.0, 2.0]])
cost = torch.as_tensor(((points[:, None] - depots) ** 2).sum(2))

# %%
# Equal capacities, held exactly: both solvers give the same plan, POT's Sinkhorn and the accelerated semi-dual.
source, target = from_cost(cost)
solutions = [
    solver.solve(source, target, epsilon=0.05)
    for solver in (SemiDual(marginal_tol=1e-10), Sinkhorn(marginal_tol=1e-10, max_iter=10000))
]
plans = [plan(solution.state) for solution in solutions]
print(f"largest difference: {float((plans[0] - plans[1]).abs().max()):.1e}")
print("shares:", plans[0].sum(0).numpy().round(4))

# %%
# Soft capacities: a softness of 0.5 weighs the divergence from equal shares as much as the entropy.
_, soft = from_cost(cost)
soft = type(soft)(soft.natural, soft.normaliser, soft.log_weights, softness=0.5)
solution = SemiDual(marginal_tol=1e-10).solve(source, soft, epsilon=0.05)
plans.append(plan(solution.state))
print("soft shares:", plans[-1].sum(0).numpy().round(4))

# %%
# Every point in the colour of the depot that serves most of it.
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharex=True, sharey=True, layout="constrained")
for ax, coupling, title in zip(axes, plans[1:], ("equal shares", "soft shares"), strict=True):
    ax.scatter(*points.T, c=coupling.argmax(1), s=12, cmap="viridis")
    ax.scatter(*depots.T, c=range(5), s=120, marker="s", edgecolor="black", cmap="viridis")
    ax.set(title=title, aspect="equal")
plt.show()
