"""
Every factor in one grid search
===============================

Every factor of the method is a parameter, and the default score is a log-likelihood in nats of the same kind for all of them, so
that scikit-learn's ``GridSearchCV`` ranges over all at once.
"""

# %%
# Two moons, and a quick fit: a small network and few rounds of polishing.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split

from skcvae import CoupledVAE
from skcvae.schedule import Schedule

warnings.simplefilter("ignore", ConvergenceWarning)  # the fits of this page are short on purpose

X, _ = make_moons(400, noise=0.08, random_state=0)
X_train, X_test = train_test_split(X, test_size=0.25, random_state=0)
short = Schedule(polish_rounds=1, max_draws=4096, marginal_tol=5e-3)
quick = CoupledVAE(hidden_layer_sizes=(32, 32), max_iter=100, pool_size=1024, schedule=short, random_state=0)

# %%
# One grid over four factors. ``varsigma=inf`` holds the aggregate posterior to the prior; 0 is maximum likelihood.
grid = {
    "prior": ["gaussian", "uniform", "mixture"],
    "epsilon": [0.3, 1.0],
    "varsigma": [1.0, np.inf],
    "solver": ["semi-dual", "semi-dual-primal"],
}
search = GridSearchCV(quick, grid, cv=2).fit(X_train)
print(f"best of {len(search.cv_results_['params'])}: {search.best_params_}")

# %%
# The best of them is fitted again, in full.
best = CoupledVAE(hidden_layer_sizes=(64, 64), max_iter=500, random_state=0, **search.best_params_).fit(X_train)
print(f"held-out log-likelihood: {search.score(X_test):.3f} nats quickly, {best.score(X_test):.3f} in full")
samples = best.sample(400, random_state=0)
figure, axes = plt.subplots(1, 2, figsize=(7, 3), sharex=True, sharey=True, layout="constrained")
for ax, points, title in zip(axes, (X_train, samples), ("data", "samples of the best model"), strict=True):
    ax.scatter(*points.T, s=6)
    ax.set(title=title, aspect="equal")
plt.show()
