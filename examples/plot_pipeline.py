"""
A classifier on the latent space
================================

For readers who have many features, few labels, and a pipeline to put a model in. The model is a transformer: it stands between
preprocessing and classifier, and everything in front of the classifier is fitted within each fold, so that no label or held-out row
leaks.
"""

# %%
# Wine: 178 rows of 13 chemical measurements from three growers. A quick fit is enough here.
import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcvae import CoupledVAE
from skcvae.display import LatentDisplay
from skcvae.schedule import Schedule

warnings.simplefilter("ignore", ConvergenceWarning)  # the fits of this page are short on purpose

X, y = load_wine(return_X_y=True, as_frame=True)
short = Schedule(polish_rounds=2, max_draws=8192, marginal_tol=1e-2)
latent = CoupledVAE(hidden_layer_sizes=(32,), max_iter=150, pool_size=2048, schedule=short, random_state=0)
pipeline = make_pipeline(StandardScaler(), latent, LogisticRegression())

# %%
# Nested cross-validation: the inner search chooses the number of components for the classifier, the outer folds say how well the
# whole procedure does on rows that it has not seen.
search = GridSearchCV(pipeline, {"coupledvae__n_components": [1, 2]}, cv=3)
scores = cross_val_score(search, X, y, cv=3)
print(f"accuracy of the classifier on the latent space: {scores.mean():.2f}, by fold {scores.round(2)}")
direct = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), X, y, cv=3)
print(f"on all 13 features: {direct.mean():.2f}")

# %%
# What the classifier sees. The model was not given the labels.
search.fit(X, y)
print("chosen:", search.best_params_)
scaled = search.best_estimator_[0].set_output(transform="default").transform(X)
model = search.best_estimator_[1].fit(scaled) if search.best_params_["coupledvae__n_components"] == 2 else latent.fit(scaled)
figure, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
LatentDisplay.from_estimator(model, scaled, y, ax=ax)
ax.set_title("wines by grower")
plt.show()
