"""
New rows of a data frame
========================

For readers with a table of text, numbers and holes, who want more rows like it. A model finds what each column is, and gives a
frame with the same columns, categories and types.
"""

# %%
# The wines that ship with scikit-learn, with their class as text, the alcohol in three ordered categories, and holes.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine

from skcvae import CoupledVAE
from skcvae.metrics import table_report

wine = load_wine(as_frame=True)
frame = wine.data[["flavanoids", "color_intensity", "hue", "proline"]].copy()
frame["proline"] = frame["proline"].astype(int)
frame["grower"] = np.array(["Barolo", "Grignolino", "Barbera"])[wine.target]
frame["alcohol"] = pd.cut(wine.data["alcohol"], [0, 12.5, 13.5, 20], labels=["light", "medium", "strong"])
rng = np.random.default_rng(0)
frame["hue"] = frame["hue"].mask(rng.random(len(frame)) < 0.1)

# %%
# The fit is told nothing of the columns. `columns_` says what they were taken for.
model = CoupledVAE(random_state=0).fit(frame)
print(model.columns_)

# %%
# New rows have the types of the fitted ones.
new = model.sample(len(frame), random_state=0)
print(new.head())
print(new.dtypes.equals(frame.dtypes))

# %%
# How good are they? The report compares columns and pairs of columns, and lets trees tell the new rows from the real ones.
holes = frame.isna().to_numpy()
print(table_report(frame, new.mask(holes)))

# %%
# One category, one number, and two numbers by the category.
figure, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
shares = pd.DataFrame({"real": frame["alcohol"].value_counts(normalize=True), "new": new["alcohol"].value_counts(normalize=True)})
shares.loc[["light", "medium", "strong"]].plot.bar(ax=axes[0], rot=0, color=["0.6", "C1"], title="alcohol", xlabel="", legend=False)
bins = np.linspace(200, 1800, 17)
axes[1].hist([frame["proline"], new["proline"]], bins, color=["0.6", "C1"], label=["real", "new"])
axes[1].set(title="proline")
axes[1].legend()
for ax, rows, title in ((axes[2], frame, "real rows"), (axes[3], new, "new rows")):
    for grower, group in rows.groupby("grower"):
        ax.scatter(group["flavanoids"], group["color_intensity"], s=12, label=grower)
    ax.set(title=title, xlabel="flavanoids", ylabel="color_intensity", xlim=(0, 5.5), ylim=(0, 14))
axes[3].legend()
plt.show()

# %%
# A partly filled frame asks for rows of a kind: here strong wines of one grower.
asked = pd.DataFrame([{"grower": "Barbera", "alcohol": "strong"}])
print(model.sample_conditional(asked, 5, random_state=0))
