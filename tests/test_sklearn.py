"""scikit-learn's own checks, none expected to fail."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skcvae import CoupledVAE

QUICK = CoupledVAE(max_iter=5, hidden_layer_sizes=(16,), pool_size=256, random_state=0)


@parametrize_with_checks([QUICK], xfail_strict=True)
@pytest.mark.filterwarnings("ignore")
def test_estimator_check(estimator, check):
    check(estimator)


def test_the_checks_were_collected():
    assert len(list(estimator_checks_generator(QUICK, legacy=True))) >= 45
