"""
What may stand in a missing cell
================================

For readers with holes in their table. A regression fills a cell with one number, its mean. Where two quite different numbers are
possible, this mean is neither. A fitted model draws what is missing given what is observed.
"""

# %%
# Two arcs that cross. A third of the second column is hidden, and so is a fifth of the first where the second is known.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from skcvae import CoupledVAE
from skcvae.schedule import Schedule

rng = np.random.default_rng(0)
t = rng.uniform(-1, 1, 600)
X = np.column_stack([t, np.where(rng.random(600) < 0.5, t, -t)]) + 0.04 * rng.normal(size=(600, 2))
holes = X.copy()
holes[rng.random(600) < 1 / 3, 1] = np.nan
holes[~np.isnan(holes[:, 1]) & (rng.random(600) < 1 / 5), 0] = np.nan

# %%
# The model is fitted to the rows as they are.
short = Schedule(polish_rounds=5, max_draws=16384)
model = CoupledVAE(hidden_layer_sizes=(64, 64), max_iter=500, schedule=short, random_state=0).fit(holes)

# %%
# All fill the second column where it is hidden. Draws of the model keep to the arcs; means do not, whoever gives them.
is_hidden = np.isnan(holes[:, 1])
filled = {
    "IterativeImputer": IterativeImputer(random_state=0).fit_transform(holes),
    "KNNImputer": KNNImputer().fit_transform(holes),
    "impute: means": model.impute(holes),
    "sample_conditional: draws": model.sample_conditional(holes, random_state=0)[:, 0],
}
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), sharex=True, sharey=True, layout="constrained")
for ax, (name, rows) in zip(axes, filled.items(), strict=True):
    ax.scatter(*X[~is_hidden].T, s=6, c="0.8", label="observed")
    ax.scatter(*rows[is_hidden].T, s=8, c="#0072B2", label="filled")
    ax.set(title=name, xlabel="first column", aspect="equal")
axes[0].set_ylabel("second column")
axes[0].legend(loc="upper center")

# %%
# How likely the hidden cells are, given the ones beside them, says more of a model than a distance to its means.
known = model.score_conditional(X[is_hidden], target=1)
print(f"log-likelihood of the hidden cells given the others: {known.mean():.2f} nats a cell")
independent = -0.5 * np.log(2 * np.pi * np.e * np.nanvar(holes[:, 1]))
print(f"of a Gaussian that does not see the others: {independent:.2f}")
off = np.abs(np.abs(filled["sample_conditional: draws"][is_hidden, 1]) - np.abs(filled["sample_conditional: draws"][is_hidden, 0]))
print(f"draws within four deviations of an arc: {np.mean(off < 4 * 0.04 * np.sqrt(2)):.0%}")
plt.show()
