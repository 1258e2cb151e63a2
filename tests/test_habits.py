"""scikit-learn's compositions, with all four estimators."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import QUICK
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae.schedule import Schedule

MODELS = {
    "CoupledVAE": CoupledVAE(schedule=Schedule(polish_rounds=1, max_draws=1024), **QUICK),
    **{kind.__name__: kind(**QUICK) for kind in (VAE, WAE, InfoVAE)},
}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=MODELS)
def model(request):
    return clone(MODELS[request.param])


@pytest.fixture(scope="module")
def y(X):
    return (X[:, 0] > 1.5).astype(int)


def test_between_a_scaler_and_a_classifier(X, y, model):
    """And in a search over its parameters; the clusters are told apart."""
    pipeline = make_pipeline(StandardScaler(), model, LogisticRegression())
    assert cross_val_score(pipeline, X, y, cv=2).mean() > 0.9
    name = f"{type(model).__name__.lower()}__n_components"
    search = GridSearchCV(pipeline, {name: [1, 2]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.9


def test_at_the_end_of_a_pipeline_it_is_a_density(X, model):
    """Of the scaled rows, as if they had been scaled by hand; rows far from all others are the least likely."""
    density, scaled = make_pipeline(StandardScaler(), model).fit(X), StandardScaler().fit_transform(X)
    alone = clone(model).fit(scaled)
    np.testing.assert_array_equal(density.score_samples(X), alone.score_samples(scaled))
    assert density.score(X) == alone.score(scaled)
    assert density.score_samples(X[:1] + 100)[0] < density.score_samples(X).min()


def test_in_a_feature_union(X, model):
    """Its columns beside those of the scaler, under names of their own."""
    union = FeatureUnion([("scaled", StandardScaler()), ("latent", model)]).set_output(transform="pandas")
    frame = union.fit_transform(pd.DataFrame(X, columns=list("abcd")))
    prefix = type(model).__name__.lower()
    assert list(frame.columns) == [*(f"scaled__{c}" for c in "abcd"), f"latent__{prefix}0", f"latent__{prefix}1"]
    alone = clone(model).fit(X).transform(X)
    np.testing.assert_allclose(frame.iloc[:, 4:].to_numpy(), alone)


def test_in_a_column_transformer(X, model):
    columns = ColumnTransformer([("latent", model, ["a", "b"])], remainder="passthrough").set_output(transform="pandas")
    frame = columns.fit_transform(pd.DataFrame(X, columns=list("abcd")))
    prefix = type(model).__name__.lower()
    assert list(frame.columns) == [f"latent__{prefix}0", f"latent__{prefix}1", "remainder__c", "remainder__d"]


def test_it_is_shown_as_a_diagram(X, model):
    """Before the fit and after, alone and in a pipeline."""
    for estimator in (model, make_pipeline(StandardScaler(), model)):
        assert type(model).__name__ in estimator._repr_html_()
        assert type(model).__name__ in estimator.fit(X)._repr_html_()


def test_rows_to_stop_on_are_routed(X, model):
    """`set_fit_request(X_val=True)` takes them through a pipeline, whose `transform_input` scales them as the others."""
    scaler, alone = StandardScaler().fit(X[:120]), clone(model).set_params(max_iter=60)
    alone.fit(scaler.transform(X[:120]), X_val=scaler.transform(X[120:]))
    with sklearn.config_context(enable_metadata_routing=True):
        last = model.set_params(max_iter=60).set_fit_request(X_val=True)
        pipeline = make_pipeline(StandardScaler(), last, transform_input=["X_val"]).fit(X[:120], X_val=X[120:])
    assert len(pipeline[-1].validation_scores_) > 0
    np.testing.assert_array_equal(pipeline[-1].validation_scores_, alone.validation_scores_)


def parameters(kind):
    """The paragraph of each parameter in an estimator's docstring."""
    text = inspect.getdoc(kind).split("Parameters\n----------\n")[1].split("\n\nAttributes\n")[0]
    return dict(paragraph.split(" : ", 1) for paragraph in re.split(r"\n(?=\S)", text))


def test_what_docstrings_share_is_the_same():
    """They are written out, so that every tool reads them."""
    shared = {name: text for name, text in parameters(VAE).items() if name not in ("encoder", "beta", "annealing")}
    for kind in (WAE, InfoVAE):
        own = parameters(kind)
        assert {name: own[name] for name in shared} == shared


@pytest.mark.parametrize("kind", [CoupledVAE, VAE, WAE, InfoVAE])
def test_an_estimator_has_its_own_parameters_only(kind):
    """Each is documented, and none is another model's that a common base brings."""
    assert set(parameters(kind)) == set(kind().get_params())
    names = {name for other in (CoupledVAE, VAE, WAE, InfoVAE) for name in other().get_params()}
    assert not [name for name in names - set(kind().get_params()) if hasattr(kind(), name)]
