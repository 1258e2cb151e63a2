"""The classifier two-sample test."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcvae._checks import check_number
from skcvae._random import make_rng
from skcvae.metrics._checks import check_samples


def classifier_two_sample(
    x: ArrayLike,
    y: ArrayLike,
    *,
    classifier: BaseEstimator | None = None,
    n_splits: int = 5,
    random_state: object = None,
) -> float:
    r"""Cross-validated accuracy of a classifier that tells x from y.

    .. math:: \frac1K \sum_{k=1}^K \frac{\#\{x \in F_k : c_{-k}(x) = 0\} + \#\{y \in F_k : c_{-k}(y) = 1\}}{\# F_k}

    with the classifier :math:`c_{-k}` fitted on all folds but :math:`F_k`. The larger sample is sub-sampled to the size of the
    smaller. 0.5 is what equal laws give, with a standard error of about :math:`\sqrt{1/(8 \min(n, m))}`; 1 is disjoint supports.
    A value of 0.5 says that this classifier sees no difference.

    By default gradient-boosted trees and a logistic regression average their probabilities. The trees need no scaling, follow
    boundaries of any shape in a few dimensions and pick out single coordinates of hundreds; small shifts along many coordinates
    are what a linear classifier sees best, and all that it sees.

    Parameters
    ----------
    x : array of shape (n, d)
    y : array of shape (m, d)
    classifier : scikit-learn classifier, optional
        One of your own, such as ``make_pipeline(StandardScaler(), KNeighborsClassifier())``; it is cloned.
    n_splits : int, default=5
        Folds K.
    random_state : int, RandomState, Generator or None
        Source of the sub-sample and of the folds, and of each `random_state` of the classifier that is None.

    Returns
    -------
    float, from 0 to 1

    Raises
    ------
    TypeError, ValueError
        If the samples differ in their columns or have fewer rows than folds, or `classifier` is not one.

    References
    ----------
    D. Lopez-Paz and M. Oquab, Revisiting classifier two-sample tests, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.metrics import classifier_two_sample
    >>> x = np.random.default_rng(0).normal(size=(400, 2))
    >>> near = classifier_two_sample(x[:200], x[200:], random_state=0)
    >>> far = classifier_two_sample(x[:200] + 5, x[200:], random_state=0)
    >>> abs(near - 0.5) < 0.1, far > 0.98
    (True, True)
    """
    check_number("n_splits", n_splits, Integral, 2)
    first, second = check_samples(n_splits, x=x, y=y)
    size, rng = min(len(first), len(second)), make_rng(random_state)
    pooled = np.vstack([rng.permutation(sample)[:size] for sample in (first, second)])
    folds = StratifiedKFold(n_splits, shuffle=True, random_state=int(rng.integers(2**31)))
    if classifier is None:
        line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier = VotingClassifier([("trees", HistGradientBoostingClassifier()), ("line", line)], voting="soft")
    chosen = _seeded(classifier, rng)
    return float(cross_val_score(chosen, pooled, np.repeat([0, 1], size), cv=folds, scoring="accuracy", error_score="raise").mean())


def _seeded(classifier: BaseEstimator, rng: np.random.Generator) -> BaseEstimator:
    """A clone that never turns to numpy's global generator."""
    if not (isinstance(classifier, BaseEstimator) and is_classifier(classifier)):
        raise TypeError(f"classifier must be a scikit-learn classifier such as LogisticRegression(), got {classifier!r}.")
    parameters = clone(classifier).get_params()
    open_states = [name for name, value in parameters.items() if name.split("__")[-1] == "random_state" and value is None]
    return clone(classifier).set_params(**{name: int(rng.integers(2**31)) for name in sorted(open_states)})
