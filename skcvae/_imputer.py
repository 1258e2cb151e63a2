"""A fitted model as a step of a pipeline that fills missing cells."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill missing cells by the means that a model gives them, in a pipeline before anything else.

    Parameters
    ----------
    estimator : CoupledVAE, VAE, WAE or InfoVAE
        A clone of it is fitted to the rows with their missing cells.

    Attributes
    ----------
    estimator_ : the fitted clone
    n_features_in_, feature_names_in_ : as in scikit-learn

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skcvae import CoupledVAE, Imputer
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> y = X.sum(1)
    >>> X[::7, 1] = np.nan
    >>> filled = Imputer(CoupledVAE(likelihood="gaussian", max_iter=50, random_state=0))
    >>> make_pipeline(filled, LinearRegression()).fit(X, y).predict(X[:2]).shape
    (2,)
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Fit a clone of the estimator.

        Parameters
        ----------
        X : array-like of shape (n, d), with NaN where cells are missing
        y : ignored

        Returns
        -------
        self
        """
        self.estimator_ = clone(self.estimator).fit(X)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """X with its missing cells filled, see `impute` of the estimator.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        array of shape (n, d)
        """
        check_is_fitted(self, "estimator_")
        filled: NDArray[np.float64] = self.estimator_.impute(X)
        return filled

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
