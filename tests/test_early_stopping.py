"""Rows that a fit holds out by itself, and validation rows that lie elsewhere."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae._data import Table
from skcvae._phases import _polish
from skcvae.schedule import Schedule
from tests.conftest import QUICK

MODELS = {
    "CoupledVAE": CoupledVAE(**QUICK, schedule=Schedule(polish_rounds=2, max_draws=4096)),
    **{kind.__name__: kind(**QUICK) for kind in (VAE, WAE, InfoVAE)},
}


@pytest.fixture(params=MODELS)
def model(request):
    return clone(MODELS[request.param]).set_params(early_stopping=True)


def split(model, X):
    """The rows that are fitted and the ones that are not."""
    return tuple(table.X for table in model._split(Table(X)))


def test_the_fit_is_that_on_the_other_rows_with_these_as_validation_rows(model, X):
    fitted, held_out = split(model, X)
    assert (len(fitted), len(held_out)) == (len(X) - -(-len(X) // 10), -(-len(X) // 10))
    assert sorted(map(tuple, [*fitted, *held_out])) == sorted(map(tuple, X))
    expected = clone(model).set_params(early_stopping=False).fit(fitted, X_val=held_out)
    model.fit(X)
    np.testing.assert_array_equal(model.transform(X), expected.transform(X))
    assert model.validation_scores_ == expected.validation_scores_


def test_the_split_is_random_and_the_seed_s(X):
    splits = [split(VAE(early_stopping=True, random_state=seed), X)[1] for seed in (0, 0, 1, None, None)]
    np.testing.assert_array_equal(splits[0], splits[1])
    np.testing.assert_array_equal(splits[3], splits[4])
    assert not np.array_equal(splits[0], splits[2])
    assert not np.array_equal(splits[0], X[: len(splits[0])])


def test_rows_that_are_given_take_the_place_of_the_share(model, X):
    expected = clone(model).set_params(early_stopping=False).fit(X[:50], X_val=X[50:])
    model.fit(X[:50], X_val=X[50:])
    np.testing.assert_array_equal(model.transform(X), expected.transform(X))


def test_off_is_the_default(X):
    assert VAE(**QUICK).fit(X).validation_scores_ is None


@pytest.mark.parametrize(("params", "match"), [
    ({"early_stopping": False, "validation_fraction": -1}, "validation_fraction must be a finite number above 0, got -1"),
    ({"early_stopping": 1}, "early_stopping must be True or False, got 1"),
    ({"validation_fraction": 0.0}, "validation_fraction must be a finite number above 0, got 0"),
    ({"validation_fraction": "a tenth"}, "validation_fraction must be a finite number above 0, got 'a tenth'"),
    ({"validation_fraction": 1.0}, "validation_fraction=1 holds out .* rows, and a fit needs two. Lower it"),
])  # fmt: skip
def test_a_bad_share_is_refused(model, X, params, match):
    with pytest.raises((TypeError, ValueError), match=match):
        model.set_params(**params).fit(X)
    assert not hasattr(model, "_fitted")


def test_validation_rows_in_other_units_are_told(model, X):
    table = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    other = table.iloc[:20].assign(f1=lambda frame: 100 + 50 * frame.f1)
    model.set_params(early_stopping=False)
    with pytest.warns(UserWarning, match=r"median of X_val is .* in column 'f1', and X is from .*transform_input=\['X_val'\]"):
        model.fit(table, X_val=other)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(table, X_val=other)
    assert [warning.filename for warning in told if "median of X_val" in str(warning.message)] == [__file__]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The median of X_val")
        model.fit(table, X_val=table.iloc[:20])


def test_a_killed_fit_that_holds_rows_out_goes_on(X, tmp_path, monkeypatch):
    """Also without a seed: the rows that are held out are the same, so that the fit finds its checkpoint."""
    for seed in (0, None):
        model = clone(MODELS["CoupledVAE"]).set_params(early_stopping=True, random_state=seed, checkpoint=tmp_path / "fits")
        regress, calls = _polish._regress, []

        def killed(*args, regress=regress, calls=calls):
            calls.append(None)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return regress(*args)

        with monkeypatch.context() as patch:
            patch.setattr(_polish, "_regress", killed)
            with pytest.raises(KeyboardInterrupt):
                clone(model).fit(X)
        assert len(list((tmp_path / "fits").iterdir())) == 1
        resumed = clone(model).fit(X)
        if seed == 0:
            whole = clone(model).set_params(checkpoint=None).fit(X)
            np.testing.assert_array_equal(resumed.transform(X), whole.transform(X))
            assert resumed.validation_scores_ == whole.validation_scores_
        assert not (tmp_path / "fits").exists()
