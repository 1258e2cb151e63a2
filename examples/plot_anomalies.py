"""
Anomalies by their score
========================

For readers who look for rows unlike the rest. A fitted model is a density: ``score_samples`` is low where it draws little. Unlike a
distance to the mean, it also finds what lies between clusters, close to the centre of all.
"""

# %%
# Rings, and two kinds of rows that do not belong: some far outside, some between the rings.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.covariance import EllipticEnvelope
from sklearn.metrics import RocCurveDisplay, roc_auc_score

from skcvae import CoupledVAE
from skcvae.datasets import make_rings
from skcvae.schedule import Schedule

X, _ = make_rings(1200, n_rings=2, random_state=0)
rng = np.random.default_rng(0)
X_train, normal = np.split(rng.permutation(X), [800])
angle = rng.uniform(0, 2 * np.pi, 60)
radius = np.concatenate([rng.uniform(1.4, 1.6, 30), rng.uniform(2.5, 3.0, 30)])
strange = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
X_test = np.vstack([normal, strange])
is_strange = np.repeat([0, 1], [len(normal), len(strange)])

# %%
# A fit on rows that are taken for normal, and for comparison one Gaussian around all of them.
short = Schedule(polish_rounds=5, max_draws=16384)
model = CoupledVAE(hidden_layer_sizes=(64, 64), max_iter=500, schedule=short, random_state=0).fit(X_train)
envelope = EllipticEnvelope(random_state=0).fit(X_train)
scores = {"CoupledVAE": -model.score_samples(X_test), "one Gaussian": -envelope.score_samples(X_test)}
for name, score in scores.items():
    print(f"{name:12s} area under the ROC curve {roc_auc_score(is_strange, score):.3f}")

# %%
# A threshold: the score that 1 % of held-out normal rows fall below.
threshold = np.quantile(model.score_samples(normal), 0.01)
print(f"strange rows below the threshold: {np.mean(-scores['CoupledVAE'][len(normal) :] < threshold):.0%}")

# %%
# Every row in the colour of its score; crosses are the strange ones.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
colour = {"c": np.maximum(-scores["CoupledVAE"], -8), "cmap": "cividis", "vmin": -8, "vmax": 1}
dots = left.scatter(*normal.T, s=12, **{**colour, "c": colour["c"][: len(normal)]}, label="normal")
left.scatter(*strange.T, s=36, marker="x", **{**colour, "c": colour["c"][len(normal) :]}, label="strange")
left.set(aspect="equal", xlabel="feature 0", ylabel="feature 1")
figure.colorbar(dots, ax=left, label="log-likelihood in nats, cut at -8", extend="min")
left.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2, frameon=False)
for (name, score), look in zip(scores.items(), ({"color": "#0072B2"}, {"color": "#D55E00", "linestyle": "--"}), strict=True):
    RocCurveDisplay.from_predictions(is_strange, score, name=name, ax=right, curve_kwargs=look)
right.set(xlabel="normal rows that are called strange", ylabel="strange rows that are found")
plt.show()
