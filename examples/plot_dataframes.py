"""
Data frames in, data frames out
===============================

For readers who work with pandas. A fit on a data frame remembers its columns and complains of others; ``set_output`` gives frames
back; a ``ColumnTransformer`` hands some columns to the model and leaves the others as they are.
"""

# %%
# Wine: 13 measurements, of which ten go through the model.
import warnings

import matplotlib.pyplot as plt
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcvae import CoupledVAE
from skcvae.schedule import Schedule

warnings.simplefilter("ignore", ConvergenceWarning)  # the fits of this page are short on purpose

X, y = load_wine(return_X_y=True, as_frame=True)
kept = ["alcohol", "hue", "proline"]
encoded = [name for name in X.columns if name not in kept]

# %%
# Names come from the class and the component, as in scikit-learn.
short = Schedule(polish_rounds=2, max_draws=16384)
model = CoupledVAE(hidden_layer_sizes=(32,), max_iter=300, schedule=short, random_state=0)
columns = ColumnTransformer(
    [("latent", make_pipeline(StandardScaler(), model), encoded), ("as it is", "passthrough", kept)],
    verbose_feature_names_out=False,
).set_output(transform="pandas")
frame = columns.fit_transform(X)
print(frame.head(3).round(2))
print("names:", list(columns.get_feature_names_out()))

# %%
# Other columns are refused, and the message names them.
try:
    columns.named_transformers_["latent"].transform(X[encoded].rename(columns={"ash": "ashes"}))
except ValueError as error:
    print(str(error).splitlines()[0], "...")

# %%
# The new columns beside an old one.
figure, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
dots = ax.scatter(frame["coupledvae0"], frame["coupledvae1"], c=frame["proline"], s=24, cmap="cividis")
figure.colorbar(dots, ax=ax, label="proline")
ax.set(xlabel="coupledvae0", ylabel="coupledvae1", title="wines, in the colour of a column that the model did not see")
plt.show()
