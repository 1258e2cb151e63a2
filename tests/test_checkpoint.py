"""A fit that is killed goes on from its checkpoint and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK
from sklearn.base import clone

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _training
from skcvae.networks import MLP
from skcvae.transport import Dual, SemiDual, SemiDualNetwork

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = {**QUICK, "max_iter": 30}
LONGER = {**QUICK, "max_iter": 100}
POLISHED = {**STEPS, "formulation": SemiDual(polish_rounds=4, max_draws=4096)}
NETWORK = {**STEPS, "formulation": SemiDualNetwork(polish_rounds=2, max_draws=4096), "potential": "network"}
MODELS = {
    "CoupledVAE": CoupledVAE(**POLISHED),
    "atoms": CoupledVAE(prior="categorical", **POLISHED),
    "batch normalisation": CoupledVAE(network=MLP((16,), batch_norm=True), **POLISHED),
    "network potential": CoupledVAE(**NETWORK),
    "dual": CoupledVAE(**{**STEPS, "formulation": Dual(polish_rounds=2, max_draws=4096)}),
    "proposal": CoupledVAE(proposal="encoder", **POLISHED),
    "VAE": VAE(network=MLP((16,), batch_norm=True), **LONGER),
    "VAE, planar": VAE(posterior="planar", prior="dirichlet", n_components=3, **LONGER),
    "WAE": WAE(divergence="adversarial", **LONGER),
    "InfoVAE": InfoVAE(**LONGER),
    "CoupledVAE, validated": CoupledVAE(**POLISHED),
    "InfoVAE, validated": InfoVAE(**LONGER),
}


class Killed(BaseException):
    """What stands for a kill."""


def killed_after(n_steps, monkeypatch):
    """Let the descent stop with `Killed` after this many steps."""
    left, descend = [n_steps], _training.descend

    def counted(*args):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return descend(*args)

    monkeypatch.setattr(_training, "descend", counted)


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_that_is_killed_again_and_again_ends_as_the_uninterrupted_one(name, X, tmp_path, monkeypatch):
    monkeypatch.setattr(_training.Course.loop, "__defaults__", (7, True))
    model, path = MODELS[name], tmp_path / "fit.checkpoint"
    X_val = X[:40] + 0.1 if "validated" in name else None
    whole, kills = clone(model).fit(X, X_val=X_val), 0
    while True:
        resumed = clone(model).set_params(checkpoint=path)
        with monkeypatch.context() as patch:
            killed_after(41, patch)
            try:
                resumed.fit(X, X_val=X_val)
                break
            except Killed:
                kills += 1
                assert path.exists()
        assert kills < 40, "the checkpoint does not get on"
    assert kills >= 1
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(resumed.sample(20, random_state=0), whole.sample(20, random_state=0))
    np.testing.assert_array_equal(resumed.score_samples(X), whole.score_samples(X))
    assert resumed.loss_curve_ == whole.loss_curve_
    assert resumed.n_iter_ == whole.n_iter_
    assert resumed.validation_scores_ == whole.validation_scores_


def test_a_checkpoint_holds_no_data(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(50000, 4))
    model = VAE(**STEPS, checkpoint=tmp_path / "fit")
    killed_after(29, monkeypatch)
    with pytest.raises(Killed):
        model.fit(X)
    assert (tmp_path / "fit").stat().st_size < 0.8 * X.astype(np.float32).nbytes


@pytest.mark.parametrize("change", [{"n_components": 1}, {"random_state": 7}, {}])
def test_another_fit_s_checkpoint_is_refused(change, X, tmp_path, monkeypatch):
    path = tmp_path / "fit"
    with monkeypatch.context() as patch:
        killed_after(20, patch)
        with pytest.raises(Killed):
            VAE(**STEPS, checkpoint=path).fit(X)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="is the checkpoint of a fit with other parameters or other data"):
        VAE(**{**STEPS, **change}, checkpoint=path).fit(X if change else X + 1)
    assert path.read_bytes() == content
    assert VAE(**STEPS, checkpoint=path, verbose=False).fit(X).n_iter_ == 30


def test_what_cannot_be_pickled_is_told_before_training(X, tmp_path, monkeypatch):
    killed_after(0, monkeypatch)
    model = CoupledVAE(prior=lambda n, seed: np.random.default_rng(seed).normal(size=(n, 2)), **POLISHED, checkpoint=tmp_path / "f")
    with pytest.raises(TypeError, match="needs a model that can be pickled"):
        model.fit(X)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("path", "error"), [(3, TypeError), ("no/such/folder/file", ValueError), (".", ValueError)])
def test_a_path_that_cannot_be_is_told(path, error, X):
    with pytest.raises(error, match=r"checkpoint must be the path of a file"):
        VAE(**STEPS, checkpoint=path).fit(X)


SCRIPT = """
import sys
import numpy as np
from skcvae import VAE, _training
_training.Course.loop.__defaults__ = (5, True)
X = np.random.default_rng(0).normal(size=(300, 4))
model = VAE(max_iter={steps}, n_iter_no_change={steps}, hidden_layer_sizes=(16,), random_state=0, checkpoint=sys.argv[1]).fit(X)
print(repr(model.score(X)))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_that_is_killed_goes_on(tmp_path):
    """The same from outside, where the kill may come in the middle of writing."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(_training.__file__).parents[1]), *sys.path])}
    command = [sys.executable, "-c", SCRIPT.format(steps=600), str(tmp_path / "fit")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    while not (tmp_path / "fit").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    resumed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    whole = subprocess.run([*command[:-1], str(tmp_path / "other")], env=environment, capture_output=True, text=True, check=True)
    assert resumed == whole.stdout
