"""A saved model answers as the fitted one, and a file can bring no code."""

import copy
import json
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import QUICK
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.exceptions import NotFittedError

import skcvae
from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _persistence
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP, Conv
from skcvae.priors import CategoricalPrior
from skcvae.transport import SemiDual

COUPLED = {**QUICK, "formulation": SemiDual(polish_rounds=1, max_draws=4096)}
MODELS = {
    "coupled": CoupledVAE(**COUPLED),
    "coupled, encoder": CoupledVAE(proposal="encoder", **COUPLED),
    "coupled, soft": CoupledVAE(varsigma=1.0, likelihood=GaussianLikelihood("learned_per_feature"), **COUPLED),
    "coupled, atoms": CoupledVAE(3, prior=CategoricalPrior([0.2, 0.3, 0.5]), **COUPLED),
    "coupled, dirichlet": CoupledVAE(3, prior="dirichlet", likelihood=GaussianLikelihood("network"), **COUPLED),
    "coupled, conv": CoupledVAE(prior="mixture", network=Conv((2, 2), channels=(3,), batch_norm=True), **COUPLED),
    "vae": VAE(**QUICK),
    "vae, full": VAE(posterior="full", network=MLP((8,), "tanh", batch_norm=True), **QUICK),
    "vae, planar": VAE(posterior="planar", prior="uniform", **QUICK),
    "vae, bernoulli": VAE(likelihood="bernoulli", **QUICK),
    "wae": WAE(likelihood=GaussianLikelihood([0.1, 0.2, 0.3, 0.4]), **QUICK),
    "infovae": InfoVAE(lambd=3.0, **QUICK),
}
X = np.random.default_rng(0).random((60, 4))


def answers(model):
    drawn = [model.sample(5, random_state=0), model.sample(5, source="aggregate", random_state=0)]
    if isinstance(model, CoupledVAE):
        drawn.append(model.hole_score(model.transform(X)))
    return [model.transform(X), model.reconstruct(X), model.score_samples(X), model.sample_posterior(X, 2, random_state=0), *drawn]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_is_the_saved_one(name, tmp_path):
    model = MODELS[name].fit(X)
    model.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    same = skcvae.load(tmp_path / "model")
    for mine, loaded in zip(answers(model), answers(same), strict=True):
        np.testing.assert_array_equal(mine, loaded)
    assert repr(same) == repr(model)
    assert sorted(vars(same)) == sorted(vars(model))
    assert same.loss_curve_ == model.loss_curve_
    assert pickle.loads(pickle.dumps(same)).transform(X).tolist() == model.transform(X).tolist()


@pytest.mark.filterwarnings("ignore")
def test_names_of_columns_and_gradients_come_back(tmp_path):
    frame = pd.DataFrame(X, columns=list("abcd"))
    VAE(**QUICK).fit(frame).save(tmp_path / "model")
    same = skcvae.load(tmp_path / "model")
    assert same.feature_names_in_.tolist() == list("abcd")
    assert same.set_output(transform="pandas").transform(frame).columns.tolist() == ["vae0", "vae1"]
    assert all(p.requires_grad for p in same.module_.parameters())


@pytest.mark.filterwarnings("ignore")
def test_the_file_is_the_weights_and_the_pool(tmp_path):
    """A hundred times as many rows of training data change the size of the file by no row."""
    sizes = []
    for rows in (60, 6000):
        model = CoupledVAE(**{**COUPLED, "formulation": SemiDual(polish_rounds=1, max_draws=1024)})
        model.fit(np.random.default_rng(1).random((rows, 4))).save(tmp_path / "m")
        sizes.append((tmp_path / "m").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 1000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"prior": torch.distributions.Laplace(torch.zeros(2), torch.ones(2))}, "Laplace"),
        ({"network": (None, lambda n_in, n_out: torch.nn.Linear(n_in, n_out))}, "function"),
        ({"random_state": np.random.default_rng(0)}, "Generator"),
    ],
)
def test_what_is_not_ours_is_refused_and_nothing_is_written(params, what, tmp_path):
    model = CoupledVAE(**{**COUPLED, **params}).fit(X)
    (tmp_path / "model").write_text("before")
    with pytest.raises(TypeError, match=f"{what}.*Use pickle or joblib"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unfitted_model_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        VAE().save(tmp_path / "model")


@pytest.fixture
def saved(tmp_path):
    VAE(**QUICK).fit(X).save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="pt") as file:
        content = json.loads(file.metadata()["skcvae"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def changed(change):
        new = copy.deepcopy(content)
        change(new)
        save_file(tensors, tmp_path / "changed", metadata={"skcvae": json.dumps(new)})
        return tmp_path / "changed"

    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="skcvae 99"), "has the format 'skcvae 99', and this version of skcvae reads 'skcvae 1'"),
        (lambda c: c["model"].update(object="Popen"), "holds a 'Popen', which this version of skcvae does not know"),
        (lambda c: c["model"]["fields"].update(x={"eval": "1"}), "holds a 'eval', which this version"),
        (lambda c: c["model"]["fields"].update(x={"layer": "Module", "arguments": {}}), "holds a 'Module', which this version"),
    ],
)
def test_what_is_unknown_is_refused(saved, change, message):
    with pytest.raises(ValueError, match=message):
        skcvae.load(saved(change))


def test_files_that_are_none_of_ours(tmp_path):
    with pytest.raises(FileNotFoundError):
        skcvae.load(tmp_path / "missing")
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(ValueError, match=r"is no file of skcvae.*Give the path that was given to save"):
        skcvae.load(tmp_path / "text")
    save_file({"a": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="has the format None"):
        skcvae.load(tmp_path / "other")


def test_names_of_classes_are_unique():
    modules = [module for name, module in sys.modules.items() if name.startswith(_persistence.ROOMS)]
    found = {v for m in modules for v in vars(m).values() if isinstance(v, type) and v.__module__.startswith(_persistence.ROOMS)}
    assert len({v.__name__ for v in found}) == len(found) > 50
