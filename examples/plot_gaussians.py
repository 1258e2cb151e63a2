"""
25 Gaussians in the plane
=========================

For readers who want to know whether a model finds all clusters of their data, and how much it draws between them. 25 narrow
Gaussians on a grid are the usual test, because the truth is known: each sample either belongs to a cluster or it does not.
"""

# %%
# The data: 60 points in each cluster, 20 standard deviations apart.
import matplotlib.pyplot as plt
import numpy as np

from skcvae import CoupledVAE
from skcvae.datasets import gaussian_grid_means, make_gaussian_grid
from skcvae.metrics import high_density_ratio, mode_mass_kl, modes_recovered, std_within_modes
from skcvae.schedule import Schedule

X, _ = make_gaussian_grid(1500, random_state=0)
means = gaussian_grid_means()

# %%
# A shortened fit. ``CoupledVAE(random_state=0).fit(X)`` takes about a minute and draws less between the clusters.
short = Schedule(polish_rounds=15, max_draws=32768)
model = CoupledVAE(hidden_layer_sizes=(128, 128), max_iter=1000, schedule=short, random_state=0).fit(X)

# %%
# `skcvae.metrics` measures samples against the known means. Fresh points from the true law say what is the best to expect.
truth, _ = make_gaussian_grid(5000, random_state=1)
samples = model.sample(5000, random_state=0)
for name, points in {"truth": truth, "samples": samples}.items():
    print(
        f"{name:8s} {modes_recovered(points, means, 0.05)} clusters found, "
        f"{high_density_ratio(points, means, 0.05):.1%} within 4 std, std {std_within_modes(points, means, 0.05):.4f}, "
        f"divergence of the clusters' shares {mode_mass_kl(points, means, 0.05):.4f} nats"
    )

# %%
# Samples beside the data.
inside = np.linalg.norm(samples[:, None] - means, axis=2).min(1) <= 4 * 0.05
figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), sharex=True, sharey=True, layout="constrained")
axes[0].scatter(*X.T, s=4, color="#0072B2")
axes[0].set_title(f"data, {len(X)} points")
axes[1].scatter(*samples[inside].T, s=4, color="#0072B2", label=f"within 4 std ({inside.mean():.1%})")
axes[1].scatter(*samples[~inside].T, s=4, color="#D55E00", label=f"between ({np.mean(~inside):.1%})")
axes[1].set_title(f"samples, {len(samples)} points")
for ax in axes:
    ax.set(aspect="equal", xlabel="feature 0")
axes[0].set_ylabel("feature 1")
figure.legend(loc="outside lower right", ncols=2, frameon=False, markerscale=3)
plt.show()
