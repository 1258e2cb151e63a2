"""
Imputation beside scikit-learn's imputers
=========================================

For readers who fill holes before an analysis. Imputers are compared by their errors in cells that were hidden. Where the analysis
is to know how sure the filled cells are, one number for each is not enough: draws are.
"""

# %%
# The 13 measurements of wines that ship with scikit-learn. A quarter of the cells is hidden, at random.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

from skcvae import CoupledVAE

warnings.simplefilter("ignore", ConvergenceWarning)  # of IterativeImputer

X = load_wine().data
hidden = np.random.default_rng(0).random(X.shape) < 0.25
holes = np.where(hidden, np.nan, X)

# %%
# The model takes the table as it is. Neighbours and regressions need columns of one unit, which a scaler gives and takes back.
model = CoupledVAE(random_state=0).fit(holes)
scaler = StandardScaler().fit(holes)
filled = {"CoupledVAE": model.impute(holes)}
for imputer in (IterativeImputer(random_state=0), KNNImputer(), SimpleImputer()):
    rows = imputer.fit_transform(scaler.transform(holes))
    filled[type(imputer).__name__] = scaler.inverse_transform(rows)

# %%
# The error of a column is the root mean square over its hidden cells, in standard deviations of the column. That of an imputer is
# the mean over the columns.
errors = {}
for name, rows in filled.items():
    squares = np.where(hidden, ((rows - X) / X.std(0)) ** 2, np.nan)
    errors[name] = np.sqrt(np.nanmean(squares, axis=0))
    print(f"{name:16s} {errors[name].mean():.3f}")

figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
names = list(errors)
ax.barh(names, [errors[name].mean() for name in names], color="0.8")
for place, name in enumerate(names):
    ax.plot(errors[name], np.full(13, place), "o", color="#0072B2", markersize=4, alpha=0.7, label=None if place else "a column")
ax.invert_yaxis()
ax.set(xlabel="error in hidden cells, standard deviations", title="wines, a quarter of the cells hidden")
ax.legend()
plt.show()

# %%
# A mean is the best single number, and a bad substitute for a cell: columns of means vary too little. Draws vary about as the
# columns do, and their spread says how sure a cell is. Ranges that hold 90 % of the draws should hold 90 % of the hidden values.
draws = model.sample_conditional(holes, 50, random_state=0)
unit = X.std(0)
deviations = [
    (X[cells, j].std() / unit[j], filled["CoupledVAE"][cells, j].std() / unit[j], draws[cells, :, j].std(0).mean() / unit[j])
    for j, cells in enumerate(hidden.T)
]
of_hidden, of_means, of_draws = np.mean(deviations, axis=0)
print(f"deviation of hidden cells {of_hidden:.2f}, of their means {of_means:.2f}, of draws {of_draws:.2f}")
low, high = np.quantile(draws, [0.05, 0.95], axis=1)
is_within = (X - low) * (high - X) >= 0
print(f"hidden cells within 90 % of their draws: {is_within[hidden].mean():.0%}")

# %%
# Multiple imputation repeats an analysis on several completed tables, here that of the mean of a column. By Rubin's rules the
# variance of the estimate is that within a table, plus that between the m tables times 1 + 1/m. A table that is filled once takes
# its filled cells for measured ones, and its standard error is too small.
column = load_wine().feature_names.index("alcohol")
cells = hidden[:, column]
n, m = len(X), draws.shape[1]
estimates = draws[:, :, column].mean(0)
within = (draws[:, :, column].var(0, ddof=1) / n).mean()
between = estimates.var(ddof=1)
observed, once = X[~cells, column], filled["CoupledVAE"][:, column]
results = {
    "all cells, before any was hidden": (X[:, column].mean(), X[:, column].std(ddof=1) / np.sqrt(n)),
    "observed cells alone": (observed.mean(), observed.std(ddof=1) / np.sqrt(len(observed))),
    "filled once, by means": (once.mean(), once.std(ddof=1) / np.sqrt(n)),
    "multiple imputation": (estimates.mean(), np.sqrt(within + (1 + 1 / m) * between)),
}
for name, (mean, error) in results.items():
    print(f"{name:33s} {mean:.3f} +- {error:.3f}")
print(f"share of the variance that is due to hidden cells: {(1 + 1 / m) * between / (within + (1 + 1 / m) * between):.0%}")

# %%
# The draws are those of one fitted model. That the model itself is an estimate is in neither number, so that ranges of draws are
# somewhat too narrow. Fits to bootstrap samples of the rows, with a draw from each, would add it.
