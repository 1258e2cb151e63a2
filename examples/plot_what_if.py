"""
What if: conditional draws of a mixed table
===========================================

For readers who ask a table questions. A fitted model answers any of them by a partly filled frame: what may stand in the cells
that are empty, given those that are not. The same model is a classifier of any of its columns.
"""

# %%
# The wines that ship with scikit-learn, with their grower as text; a third of the rows is held out.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from skcvae import CoupledVAE

wine = load_wine(as_frame=True)
frame = wine.data[["alcohol", "flavanoids", "color_intensity", "proline"]].copy()
growers = np.array(["Barolo", "Grignolino", "Barbera"])
frame["grower"] = growers[wine.target]
fitted, held_out = train_test_split(frame, test_size=1 / 3, random_state=0, stratify=frame["grower"])
model = CoupledVAE(random_state=0).fit(fitted)

# %%
# A wine with 13 % of alcohol: of which grower may it be, and how dark? What if it were of one of them?
asked = pd.DataFrame({"alcohol": [13.0] * 3, "grower": [None, "Grignolino", "Barbera"]})
draws = model.sample_conditional(asked, 2000, random_state=0)
print(draws.loc[0, "grower"].value_counts(normalize=True).round(2))

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
bins = np.linspace(0, 14, 29)
for row, name in enumerate(("any grower", "Grignolino", "Barbera")):
    axes[0].hist(draws.loc[row, "color_intensity"], bins, histtype="step", linewidth=2, density=True, label=name)
axes[0].set(title="color_intensity given 13 % of alcohol", xlabel="color_intensity")
axes[0].legend()

# %%
# The probability of a grower given all other cells is a conditional score. With ``n_draws=0`` those of all growers sum to 1. The
# most probable one is right in most of the rows that were held out.
scores = np.column_stack([model.score_conditional(held_out.assign(grower=name), "grower", n_draws=0) for name in growers])
probabilities = np.exp(scores)
print("sums of probabilities:", probabilities.sum(1).min().round(6), "to", probabilities.sum(1).max().round(6))
guessed = growers[probabilities.argmax(1)]
print(f"right in {(guessed == held_out['grower']).mean():.0%} of {len(held_out)} rows that were held out")

sure = probabilities.max(1)
axes[1].hist(
    [sure[guessed == held_out["grower"]], sure[guessed != held_out["grower"]]],
    np.linspace(1 / 3, 1, 11),
    stacked=True,
    color=["C0", "C3"],
    label=["right", "wrong"],
)
axes[1].set(title="probability of the most probable grower", xlabel="probability", ylabel="rows held out")
axes[1].legend()
plt.show()

# %%
# A condition that is no single value is a function of new rows.


def is_strong_and_pale(rows):
    return (rows["alcohol"] > 13.5) & (rows["flavanoids"] < 1)


rows, share = model.sample_where(is_strong_and_pale, 5, return_share=True, random_state=0)
print(rows)
print(f"{share:.1%} of new rows are such wines, and {is_strong_and_pale(frame).mean():.1%} of the real ones")
