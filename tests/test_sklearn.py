"""scikit-learn's own checks, one expected to fail."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skcvae import VAE, WAE, CoupledVAE, InfoVAE
from skcvae.priors import PRIORS
from skcvae.schedule import Schedule

QUICK = CoupledVAE(max_iter=5, hidden_layer_sizes=(16,), pool_size=256, random_state=0)
SMALLEST = {"max_iter": 2, "hidden_layer_sizes": (), "pool_size": 64, "schedule": Schedule(polish_rounds=1, max_draws=64)}
OTHER_PRIORS = [CoupledVAE(prior=name, random_state=0, **SMALLEST) for name in PRIORS if name != "gaussian"]
TINY = {"max_iter": 2, "hidden_layer_sizes": (), "pool_size": 64, "random_state": 0}
WITH_ENCODER = [
    *(model(max_iter=5, hidden_layer_sizes=(16,), pool_size=256, random_state=0) for model in (VAE, WAE, InfoVAE)),
    *(VAE(encoder=name, **TINY) for name in ("full", "planar")),
    *(WAE(divergence=name, **TINY) for name in ("sinkhorn", "sliced", "adversarial")),
    *(VAE(prior=name, **TINY) for name in PRIORS if name not in ("gaussian", "categorical")),
    *(WAE(prior=name, **TINY) for name in PRIORS if name != "gaussian"),
    InfoVAE(prior="dirichlet", **TINY),
]
ESTIMATORS = [QUICK, *OTHER_PRIORS, *WITH_ENCODER]
#: Checks of an estimator in scikit-learn 1.6, one fewer than in 1.9; `predict` brings a few more.
FEWEST_CHECKS = 46


def expected_failures(estimator):
    """The check asks for equal means to 1e-7, with rows in another order."""
    if isinstance(estimator, CoupledVAE):
        reason = "sums over weighted and over repeated rows are rounded differently in single precision: means differ by up to 1e-5"
    else:
        reason = "minibatches of rows in another order are others: fits agree in expectation"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
@pytest.mark.filterwarnings("ignore")
def test_estimator_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_the_checks_were_collected(estimator):
    assert len(list(estimator_checks_generator(estimator, legacy=True))) >= FEWEST_CHECKS
