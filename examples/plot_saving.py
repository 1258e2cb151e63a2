"""
Save a model and load it
========================

For readers who fit in one place and use the model in another. ``save`` writes one file of weights and draws, never the training
data, and `skcvae.load` runs no code from it.
"""

# %%
# A model to keep.
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np

import skcvae
from skcvae import CoupledVAE
from skcvae.datasets import make_pinwheel
from skcvae.schedule import Schedule

X, _ = make_pinwheel(800, random_state=0)
short = Schedule(max_draws=16384)
model = CoupledVAE(hidden_layer_sizes=(64, 64), max_iter=500, schedule=short, random_state=0).fit(X)

# %%
# The size of the file is that of the network and of the pool of prior draws behind all inference.
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "pinwheel.safetensors")
    model.save(path)
    size = os.path.getsize(path) / 2**20
    same = skcvae.load(path)
print(f"{size:.1f} MB for a network and {model.coupling_.n_draws} draws")

# %%
# The loaded model is the model: same parameters, same posteriors, same samples.
print("same parameters:", repr(same) == repr(model))
print("same posteriors:", np.array_equal(same.transform(X), model.transform(X)))
samples, again = (m.sample(800, random_state=0) for m in (model, same))
print("same samples:", np.array_equal(samples, again))

# %%
# pickle and joblib work as for any estimator, and are the way to keep a model with torch modules of your own; read them only from
# where you trust.
figure, axes = plt.subplots(1, 3, figsize=(10, 3.8), sharex=True, sharey=True, layout="constrained")
for ax, points, title in zip(axes, (X, samples, again), ("data", "samples", "samples of the loaded model"), strict=True):
    ax.scatter(*points.T, s=6, color="#0072B2")
    ax.set(title=title, aspect="equal", xlabel="feature 0")
axes[0].set_ylabel("feature 1")
plt.show()
