"""
A table as it comes
===================

For readers with columns of unlike kinds and units. For tables the default transforms skewed columns, and the noise has the
covariance of what decoders leave of rows that they have not seen. Nothing need be scaled first; scores and samples are in the units
of the table.
"""

# %%
# Breast cancer: 30 measurements of cells, of which areas are a thousand times fractal dimensions, and many are skewed.
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skcvae import CoupledVAE
from skcvae.display import ComponentsDisplay

data = load_breast_cancer()
X_train, X_test = train_test_split(data.data, test_size=0.25, random_state=0)
model = CoupledVAE(random_state=0).fit(X_train)
print(model.noise_)

# %%
# Beside one Gaussian, and noise of one scale, on standardised columns. In other units a score differs by the log of their product.
scaler = StandardScaler().fit(X_train)
units = np.log(scaler.scale_).sum()
gaussian = LedoitWolf().fit(scaler.transform(X_train))
plain = CoupledVAE(likelihood="gaussian", random_state=0).fit(scaler.transform(X_train))
scores = multivariate_normal(gaussian.location_, gaussian.covariance_).logpdf(scaler.transform(X_test))
print(f"one Gaussian       {scores.mean() - units:5.1f} nats a row, held out")
print(f"noise of one scale {plain.score(scaler.transform(X_test)) - units:5.1f}")
print(f"the default        {model.score(X_test):5.1f}")

# %%
# What was chosen: a power of 1 leaves a column as it is.
powers = dict(zip(data.feature_names, model.likelihood_.row_map.powers.round(2), strict=True))
print({name: float(powers[name]) for name in ("mean radius", "mean area", "area error", "worst symmetry")})

# %%
# New rows keep the shape of the columns: areas are never negative, and their errors have the tail that they have in the data. The
# few that lie apart are the share of broad noise, which scores have as well; ``noise="model"`` leaves it out.
samples = model.sample(len(X_train), random_state=0)
i, j = (list(data.feature_names).index(name) for name in ("mean area", "area error"))
figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
for ax, rows, title in zip(axes, (X_train, samples), ("data", "samples"), strict=True):
    ax.loglog(rows[:, i], rows[:, j], ".", markersize=3)
    ax.set(title=title, xlabel="mean area", ylabel="area error")
print("smallest area of a sample:", samples[:, i].min().round(1))

# %%
# How many components? Rows that were not fitted say so, by short fits to halves. The noise has a full covariance, so that
# components are for what is not linear: one or two will do for 13 measurements of wines.
wine, held_out = train_test_split(load_wine().data, test_size=0.25, random_state=0)
counted = CoupledVAE("auto", random_state=0).fit(wine)
ComponentsDisplay.from_estimator(counted)
print(f"{counted.n_components_} components, {counted.score(held_out):.1f} nats a row, held out")

# %%
# Wrong rows do not spoil the rest. Say that in every twentieth row the decimal point of five columns is lost. These rows are far
# from all others and not fitted, as a warning says; in scores and samples there is a share of broad noise instead.
spoiled = wine.copy()
spoiled[::20, :5] *= 100
robust = CoupledVAE(counted.n_components_, random_state=0).fit(spoiled)
print(robust.noise_)
print(f"{robust.score(held_out):.1f} nats a row, held out")
