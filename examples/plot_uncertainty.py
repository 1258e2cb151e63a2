"""
How sure a posterior is
=======================

For readers who want more than a point in latent space. A coupled posterior is a set of weighted draws and may have any shape: its
covariance says how sure it is, and where data fit two places, draws go to both.
"""

# %%
# Two arcs that cross: at the crossing a point may belong to either.
import matplotlib.pyplot as plt
import numpy as np

from skcvae import CoupledVAE
from skcvae.display import PosteriorDisplay
from skcvae.schedule import Schedule

rng = np.random.default_rng(0)
t = rng.uniform(-1, 1, 600)
X = np.column_stack([t, np.where(rng.random(600) < 0.5, t, -t)]) + 0.04 * rng.normal(size=(600, 2))
short = Schedule(polish_rounds=5, max_draws=16384)
model = CoupledVAE(hidden_layer_sizes=(64, 64), max_iter=500, schedule=short, random_state=0).fit(X)

# %%
# Moments for every row. The size of the covariance is large where a row says little of where it comes from.
rows = np.array([[0.8, 0.8], [0.0, 0.0]])
posterior = model.posterior(rows)
for row, covariance, size in zip(rows, posterior.covariance, posterior.importance_ess, strict=True):
    spread = np.sqrt(np.trace(covariance))
    print(f"row {row}: standard deviation of the posterior {spread:.2f}, {size:.0f} effective draws")

# %%
# The data in the colour of that standard deviation, and the posteriors of the two rows before the prior.
spread = np.sqrt(np.trace(model.posterior(X).covariance, axis1=1, axis2=2))
figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
dots = axes[0].scatter(*X.T, c=spread, s=12, cmap="cividis")
axes[0].scatter(*rows.T, s=120, marker="s", facecolors="none", edgecolors="#D55E00", linewidths=2)
axes[0].set(aspect="equal", xlabel="feature 0", ylabel="feature 1")
figure.colorbar(dots, ax=axes[0], label="standard deviation of the posterior")
for row, ax, title in zip(rows, axes[1:], ("an end: one place", "the crossing: several places"), strict=True):
    PosteriorDisplay.from_estimator(model, row[None], random_state=0, ax=ax)
    ax.set_title(title, pad=28)
plt.show()
