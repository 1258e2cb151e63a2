"""A fit that is killed goes on from its checkpoint and ends as if nothing had happened."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _files, _training
from skcvae._place import equal
from skcvae.networks import MLP
from skcvae.schedule import Schedule
from skcvae.transport import SemiDualNetwork

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = {**QUICK, "max_iter": 30}
LONGER = {**QUICK, "max_iter": 100}
POLISHED = {**STEPS, "schedule": Schedule(polish_rounds=4, max_draws=4096)}
NETWORK = {**STEPS, "solver": "semi-dual-network", "schedule": Schedule(polish_rounds=2, max_draws=4096)}
MODELS = {
    "CoupledVAE": CoupledVAE(**POLISHED),
    "atoms": CoupledVAE(prior="categorical", **POLISHED),
    "batch normalisation": CoupledVAE(network=MLP((16,), batch_norm=True), **POLISHED),
    "network potential": CoupledVAE(**NETWORK),
    "dual": CoupledVAE(**{**STEPS, "solver": "dual", "schedule": Schedule(polish_rounds=2, max_draws=4096)}),
    "many components": CoupledVAE(n_components=5, **POLISHED),
    "proposal": CoupledVAE(proposal="encoder", **POLISHED),
    "VAE": VAE(network=MLP((16,), batch_norm=True), **LONGER),
    "VAE, planar": VAE(encoder="planar", prior="dirichlet", n_components=3, **LONGER),
    "WAE": WAE(divergence="adversarial", **LONGER),
    "InfoVAE": InfoVAE(**LONGER),
    "CoupledVAE, validated": CoupledVAE(**POLISHED),
    "InfoVAE, validated": InfoVAE(**LONGER),
    "CoupledVAE, weighted": CoupledVAE(**{**POLISHED, "likelihood": "table"}),
    "network potential, weighted": CoupledVAE(**{**NETWORK, "solver": SemiDualNetwork(data_batch_size=32)}),
    "VAE, weighted": VAE(**LONGER),
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
    model, folder = MODELS[name], tmp_path / "fits"
    given = {"X_val": X[:40] + 0.1} if "validated" in name else {}
    if "weighted" in name:  # of which no row has a whole one, so that passes differ in more than their order
        given = {"sample_weight": np.random.default_rng(0).uniform(0.2, 3.0, len(X))}
    whole, kills = clone(model).fit(X, **given), 0
    while True:
        resumed = clone(model).set_params(checkpoint=folder)
        with monkeypatch.context() as patch:
            killed_after(41, patch)
            try:
                resumed.fit(X, **given)
                break
            except Killed:
                kills += 1
                assert not hasattr(resumed, "_fitted")
                assert len(list(folder.iterdir())) <= 2  # and that of a fit to half of the rows
        assert kills < 40, "the checkpoint does not get on"
    assert kills >= 1
    assert list(tmp_path.iterdir()) == []
    assert equal(resumed._fitted, whole._fitted)


@pytest.mark.parametrize("name", MODELS)
def test_a_kill_at_any_step_changes_nothing(name, X, tmp_path, monkeypatch):
    """The kill falls into another step of another phase for every model; the random state is fresh entropy."""
    monkeypatch.setattr(_training.Course.loop, "__defaults__", (7, True))
    folder, killed = tmp_path / "fits", 3 + 5 * list(MODELS).index(name)
    model = clone(MODELS[name]).set_params(random_state=np.random.default_rng(3), checkpoint=folder)
    with monkeypatch.context() as patch:
        killed_after(killed, patch)
        with pytest.raises(Killed):
            model.fit(X)
    assert model.random_state.random() == np.random.default_rng(3).random()
    model.random_state.bit_generator.advance(1000)  # the file says where the fit began
    whole = clone(MODELS[name]).set_params(random_state=np.random.default_rng(3)).fit(X)
    assert equal(model.fit(X)._fitted, whole._fitted)


def test_a_checkpoint_is_small(tmp_path, monkeypatch):
    """Neither data nor plans nor draws: for 500 x 64 rows and the default network at most 5 MB in any phase."""
    X, largest = np.random.default_rng(0).normal(size=(500, 64)), [0]
    write = _files.write

    def measured(path, *args):
        write(path, *args)
        largest.append(path.stat().st_size)

    monkeypatch.setattr(_files, "write", measured)
    monkeypatch.setattr(_training.Course.loop, "__defaults__", (7, True))
    short = Schedule(polish_rounds=6, max_draws=4096, solve_max_iter=5)
    parameters = {**STEPS, "hidden_layer_sizes": (256, 256), "schedule": short, "draws_per_step": 64, "tol": 0.0}
    CoupledVAE(**parameters, checkpoint=tmp_path / "fits").fit(X)
    assert len(largest) > 10
    assert max(largest) < 5e6


def test_a_checkpoint_holds_no_data(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(50000, 4))
    model = VAE(**STEPS, checkpoint=tmp_path / "fits")
    monkeypatch.setattr(_training.Course.loop, "__defaults__", (7, True))
    killed_after(29, monkeypatch)
    with pytest.raises(Killed):
        model.fit(X)
    (file,) = (tmp_path / "fits").iterdir()
    assert file.stat().st_size < 0.3 * X.astype(np.float32).nbytes


def test_each_fit_has_a_file_of_its_own(X, tmp_path, monkeypatch):
    """Other parameters, other data or another sampler are another fit, which neither resumes nor disturbs the first."""
    folder = tmp_path / "fits"
    monkeypatch.setattr(_training.Course.loop, "__defaults__", (7, True))

    def sampler(scale):
        return lambda n, seed: scale * np.random.default_rng(seed).normal(size=(n, 2))

    base = {**STEPS, "divergence": "mmd"}
    others = [{"n_components": 1}, {"random_state": 7}, {"prior": sampler(1.0)}, {"prior": sampler(2.0)}]
    for number, change in enumerate([{}, *others]):
        with monkeypatch.context() as patch:
            killed_after(20, patch)
            with pytest.raises(Killed):
                WAE(**{**base, **change}, checkpoint=folder).fit(X)
        assert len(list(folder.iterdir())) == number + 1
    before = {file: file.read_bytes() for file in folder.iterdir()}
    WAE(**base, checkpoint=folder).fit(X + 1)
    assert before == {file: file.read_bytes() for file in folder.iterdir()}
    resumed = WAE(**base, checkpoint=folder, verbose=False).fit(X)
    assert len(list(folder.iterdir())) == len(others)
    assert equal(resumed._fitted, WAE(**base).fit(X)._fitted)


def test_a_grid_search_shares_a_folder_and_resumes(X, tmp_path, monkeypatch):
    folder, grid = tmp_path / "fits", {"n_components": [1, 2]}
    plain = GridSearchCV(VAE(**STEPS), grid, cv=2).fit(X)
    with monkeypatch.context() as patch:
        killed_after(75, patch)
        with pytest.raises(Killed):
            GridSearchCV(VAE(**STEPS, checkpoint=folder), grid, cv=2).fit(X)
    for n_jobs, tol in ((1, 0.0), (2, 1e-6)):  # processes beside each other have fewer threads, which add in another order
        search = GridSearchCV(VAE(**STEPS, checkpoint=folder), grid, cv=2, n_jobs=n_jobs).fit(X)
        np.testing.assert_allclose(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"], rtol=tol)
    assert list(tmp_path.iterdir()) == []


def test_another_version_is_another_fit(X, tmp_path, monkeypatch):
    from skcvae import _checkpoint

    prints = [_checkpoint.fingerprint(VAE(**STEPS), (X, None))]
    for package in ("skcvae", "torch"):
        with monkeypatch.context() as patch:
            version = _checkpoint._version
            patch.setattr(_checkpoint, "_version", lambda name, p=package, v=version: "99" if name == p else v(name))
            prints.append(_checkpoint.fingerprint(VAE(**STEPS), (X, None)))
    assert len(set(prints)) == 3
    assert _checkpoint.fingerprint(VAE(**STEPS, verbose=True, checkpoint="elsewhere"), (X, None)) == prints[0]


def damages(content):
    """A file's content, damaged in many ways."""
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return {
        "empty": b"",
        "half": content[: len(content) // 2],
        "header only": content[:8],
        "one bit": bytes(flipped),
        "garbage": bytes(range(256)) * 4,
        "pickle": pickle.dumps({"state": 1}),
    }


@pytest.mark.parametrize("model", [VAE, CoupledVAE])
@pytest.mark.parametrize("kind", ["empty", "half", "header only", "one bit", "garbage", "pickle"])
def test_a_damaged_file_is_told_before_any_work(model, kind, X, tmp_path, monkeypatch):
    folder = tmp_path / "fits"
    monkeypatch.setattr(_training.Course.loop, "__defaults__", (7, True))
    with monkeypatch.context() as patch:
        killed_after(20, patch)
        with pytest.raises(Killed):
            model(**STEPS, checkpoint=folder).fit(X)
    (file,) = folder.iterdir()
    file.write_bytes(damages(file.read_bytes())[kind])
    killed_after(0, monkeypatch)
    with pytest.raises(ValueError, match=r"\.checkpoint") as told:
        model(**STEPS, checkpoint=folder).fit(X)
    assert str(file) in str(told.value)


@pytest.mark.parametrize("path", [3, "no/such/folder/fits", __file__])
def test_a_path_that_cannot_be_is_told(path, X, monkeypatch):
    killed_after(0, monkeypatch)
    with pytest.raises((TypeError, ValueError), match=r"checkpoint must be .* folder"):
        VAE(**STEPS, checkpoint=path).fit(X)


SCRIPT = """
import sys
import numpy as np
from skcvae import VAE, _training
from skcvae.schedule import Schedule
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
    while not list(tmp_path.glob("fit/*.checkpoint")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    resumed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    whole = subprocess.run([*command[:-1], str(tmp_path / "other")], env=environment, capture_output=True, text=True, check=True)
    assert resumed == whole.stdout
