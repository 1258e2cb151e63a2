"""
Holes in a latent space
=======================

For readers whose samples look worse than their reconstructions. Samples decode draws of the prior, reconstructions draws of
posteriors. Where these leave parts of the prior empty, samples come from holes. A coupled model holds the two equal.
"""

# %%
# Four clusters, a VAE, and a coupled model with the same networks.
import matplotlib.pyplot as plt
import numpy as np

from skcvae import VAE, CoupledVAE
from skcvae.display import AggregatePosteriorDisplay, HoleDisplay
from skcvae.metrics import high_density_ratio, mmd_test
from skcvae.schedule import Schedule

means = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
rng = np.random.default_rng(0)
X = np.repeat(means, 200, axis=0) + 0.1 * rng.normal(size=(800, 2))
short = Schedule(polish_rounds=8, max_draws=16384)
models = {
    "VAE": VAE(hidden_layer_sizes=(64, 64), random_state=0).fit(X),
    "CoupledVAE": CoupledVAE(hidden_layer_sizes=(64, 64), max_iter=500, schedule=short, random_state=0).fit(X),
}

# %%
# Is the aggregate posterior the prior? A permutation test on the discrepancy of their draws; and how many samples are near data.
for name, model in models.items():
    prior, codes = model.prior_.sample(len(X), rng), model.sample_posterior(X, random_state=0)[:, 0]
    test = mmd_test(prior, codes, random_state=0)
    near = high_density_ratio(model.sample(5000, random_state=0), means, 0.1)
    print(f"{name:10s} MMD {test.value:.4f} (p = {test.p_value:.2f}), samples within 4 std of a cluster: {near:.1%}")

# %%
# The aggregate posteriors of both before the prior.
figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), sharex=True, sharey=True, layout="constrained")
for (name, model), ax in zip(models.items(), axes, strict=True):
    AggregatePosteriorDisplay.from_estimator(model, X, random_state=0, ax=ax)
    ax.set_title(name, pad=28)
plt.show()

# %%
# A coupled model also says how far each latent point is from decoding to data. What is left of holes are the thin borders between
# the clusters; leaving out the draws with the worst tenth of the scores leaves most of them out.
model = models["CoupledVAE"]
Z = model.prior_.sample(5000, rng)
kept = model.hole_score(Z) < np.quantile(model.hole_score(Z), 0.9)
for name, points in {"all draws": Z, "without the worst tenth": Z[kept]}.items():
    print(f"{name:24s} {high_density_ratio(model.inverse_transform(points), means, 0.1):.1%} decode to within 4 std of a cluster")
figure, ax = plt.subplots(figsize=(6.4, 5), layout="constrained")
HoleDisplay.from_estimator(model, random_state=0, ax=ax)
plt.show()
