"""A saved model answers as the fitted one, and a file can bring no code."""

import copy
import dataclasses
import pickle
import resource
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import QUICK
from safetensors.torch import save_file
from sklearn import config_context
from sklearn.exceptions import NotFittedError

import skcvae
from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _files, _persistence
from skcvae._place import equal
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP, Conv
from skcvae.priors import CategoricalPrior
from skcvae.schedule import Schedule

COUPLED = {**QUICK, "schedule": Schedule(polish_rounds=1, max_draws=4096)}
MODELS = {
    "coupled": CoupledVAE(**COUPLED),
    "coupled, encoder": CoupledVAE(proposal="encoder", **COUPLED),
    "coupled, soft": CoupledVAE(varsigma=1.0, **{**COUPLED, "likelihood": GaussianLikelihood("learned_per_feature")}),
    "coupled, atoms": CoupledVAE(3, prior=CategoricalPrior([0.2, 0.3, 0.5]), **COUPLED),
    "coupled, dirichlet": CoupledVAE(3, prior="dirichlet", **{**COUPLED, "likelihood": GaussianLikelihood("network")}),
    "coupled, conv": CoupledVAE(prior="mixture", network=Conv((2, 2), channels=(3,), batch_norm=True), **COUPLED),
    "coupled, steep": CoupledVAE(activation="steep", **COUPLED),
    "vae": VAE(**QUICK),
    "vae, full": VAE(encoder="full", network=MLP((8,), "tanh", batch_norm=True), **QUICK),
    "vae, planar": VAE(encoder="planar", prior="uniform", **QUICK),
    "vae, bernoulli": VAE(**{**QUICK, "likelihood": "bernoulli"}),
    "wae": WAE(**{**QUICK, "likelihood": GaussianLikelihood([0.1, 0.2, 0.3, 0.4])}),
    "infovae": InfoVAE(lambd=3.0, **QUICK),
}
X = np.random.default_rng(0).random((60, 4))
#: A number, a category, a count, and an amount that is often 0.
FRAME = pd.DataFrame(X[:, :1], columns=["number"]).assign(
    kind=np.where(X[:, 1] < 0.5, "a", "b"), count=(9 * X[:, 2]).astype(int), amount=np.maximum(X[:, 3] - 0.4, 0)
)


def answers(model):
    drawn = [model.sample(5, random_state=0), model.sample(5, source="aggregate", random_state=0)]
    if isinstance(model, CoupledVAE):
        drawn.append(model.hole_score(model.transform(X)))
    return [model.transform(X), model.reconstruct(X), model.score_samples(X), model.sample_posterior(X, 2, random_state=0), *drawn]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_is_the_saved_one(name, tmp_path):
    """Bit for bit, in all that it holds and answers."""
    model, state = MODELS[name].fit(X), torch.get_rng_state()
    model.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    same = skcvae.load(tmp_path / "model")
    assert torch.equal(state, torch.get_rng_state())
    assert equal(same._fitted, model._fitted)
    for mine, loaded in zip(answers(model), answers(same), strict=True):
        np.testing.assert_array_equal(mine, loaded)
    assert repr(same) == repr(model)
    assert sorted(vars(same)) == sorted(vars(model))
    assert same.loss_curve_ == model.loss_curve_
    assert pickle.loads(pickle.dumps(same)).transform(X).tolist() == model.transform(X).tolist()


@pytest.mark.filterwarnings("ignore")
def test_what_scikit_learn_sets_is_no_hindrance(tmp_path):
    """The output's container comes back with the names of the columns; what belongs to one run does not."""
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = VAE(**{**QUICK, "random_state": np.random.default_rng(0)}, checkpoint=tmp_path / "fits")
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(X_val=True)
    model.set_output(transform="pandas").fit(frame).save(tmp_path / "model")
    same = skcvae.load(tmp_path / "model")
    assert same.feature_names_in_.tolist() == list("abcd")
    pd.testing.assert_frame_equal(same.transform(frame), model.transform(frame))
    assert same.random_state is None
    assert same.checkpoint is None
    assert CoupledVAE(**COUPLED).set_output(transform="pandas").fit(frame).save(tmp_path / "model") is None


@pytest.mark.filterwarnings("ignore")
def test_a_stream_of_many_steps_is_saved(tmp_path):
    """The curve is no part of the header."""
    model = VAE(**QUICK).fit(X)
    curve = model._fitted.losses.extended(np.arange(2e6))
    model._fitted = dataclasses.replace(model._fitted, losses=curve)
    model.save(tmp_path / "model")
    assert skcvae.load(tmp_path / "model").n_iter_ == len(curve)


@pytest.mark.filterwarnings("ignore")
def test_the_file_is_the_weights_and_the_pool(tmp_path):
    """A hundred times as many rows of training data change the size of the file by no row."""
    sizes = []
    for rows in (60, 6000):
        model = CoupledVAE(**{**COUPLED, "schedule": Schedule(polish_rounds=1, max_draws=1024)})
        model.fit(np.random.default_rng(1).random((rows, 4))).save(tmp_path / "m")
        sizes.append((tmp_path / "m").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 1000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"prior": torch.distributions.Laplace(torch.zeros(2), torch.ones(2))}, "Laplace"),
        ({"network": (None, lambda n_in, n_out: torch.nn.Linear(n_in, n_out))}, "function"),
    ],
)
def test_what_is_not_ours_is_refused_and_nothing_is_written(params, what, tmp_path):
    model = CoupledVAE(**{**COUPLED, **params}).fit(X)
    (tmp_path / "model").write_text("before")
    with pytest.raises(TypeError, match=rf"{what}.*Use pickle or joblib"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_class_of_the_user_s_of_the_same_name_changes_nothing(tmp_path):
    model = VAE(**QUICK).fit(X)
    model.save(tmp_path / "model")
    own = type("VAE", (VAE,), {"__init__": VAE.__init__})
    assert type(skcvae.load(tmp_path / "model")) is VAE
    model.save(tmp_path / "again")
    with pytest.raises(TypeError, match=r"a class of your own.*Use pickle or joblib"):
        own(**QUICK).fit(X).save(tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_an_unfitted_model_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        VAE().save(tmp_path / "model")


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """What the files of three models hold."""
    folder, found = tmp_path_factory.mktemp("models"), {}
    models = {
        "VAE": VAE(**QUICK),
        "CoupledVAE": CoupledVAE(prior="mixture", **COUPLED),
        "mixed": CoupledVAE(2, **{**COUPLED, "likelihood": {"count": "poisson"}}),
    }
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(FRAME if name == "mixed" else X).save(folder / name)
        found[name] = _files.read(folder / name, _persistence.KIND)
    return found


def everywhere(content, path=()):
    """The places of all values in plain data."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from everywhere(value, (*path, key))


def put(content, path, value):
    """A copy of plain data with another value in one place."""
    new = copy.deepcopy(content)
    part = new
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return new


def loaded(folder, content, tensors):
    """What `load` makes of a file with a right checksum; an estimator, or the ValueError."""
    _files.write(folder / "changed", _persistence.KIND, content, tensors)
    try:
        model = skcvae.load(folder / "changed")
    except ValueError as error:
        model = error
    if isinstance(model, ValueError):
        assert repr(str(folder / "changed")) in str(model)
        assert "damaged" in str(model)
        return model
    assert type(model) in _persistence.ESTIMATORS.values()
    return model


@pytest.mark.parametrize("name", ["VAE", "CoupledVAE", "mixed"])
def test_load_returns_an_estimator_or_says_that_the_file_is_damaged(name, contents, tmp_path):
    """Any value of the header may be any other; a model that is returned answers."""
    content, tensors = contents[name]
    random, refused = np.random.default_rng(0), 0
    places = [path for path in everywhere(content) if path]
    others = [None, -1, 0, 10**12, 0.5, "transform", [], {}, {"tensor": "0"}, {"record": "os.system", "fields": {}}, True]
    for _ in range(250):
        path, value = places[random.integers(len(places))], others[random.integers(len(others))]
        found = loaded(tmp_path, put(content, path, value), tensors)
        if isinstance(found, Exception):
            refused += 1
        else:
            assert np.isfinite(found.transform(found.sample(3, random_state=0) if name == "mixed" else X)).all()
            assert callable(found.transform)
    assert refused > 100


def test_an_output_that_is_none_is_refused(contents, tmp_path):
    content, tensors = contents["VAE"]
    assert "is no output of transform" in str(loaded(tmp_path, put(content, ["output"], "transform"), tensors))
    assert isinstance(loaded(tmp_path, put(content, ["output"], "pandas"), tensors).transform(X), pd.DataFrame)


@pytest.mark.parametrize("device", [True, 3, "transform", None])
def test_a_device_that_is_none_is_refused(contents, tmp_path, device):
    content, tensors = contents["VAE"]
    assert isinstance(loaded(tmp_path, put(content, ["parameters", "device"], device), tensors), ValueError)
    assert loaded(tmp_path, put(content, ["parameters", "device"], "cuda:7"), tensors).device == "cuda:7"


@pytest.mark.parametrize("name", ["VAE", "CoupledVAE", "mixed"])
@pytest.mark.parametrize("damage", ["NaN", "infinity", "transposed", "shorter", "missing", "integers"])
def test_every_weight_is_validated(name, damage, contents, tmp_path):
    content, tensors = contents[name]
    changes = {
        "NaN": lambda t: torch.full_like(t, torch.nan),
        "infinity": lambda t: torch.full_like(t, torch.inf),
        "transposed": lambda t: t.mT.contiguous() if t.ndim > 1 and t.shape[-1] != t.shape[-2] else t[..., :0],
        "shorter": lambda t: t[: len(t) // 2],
        "integers": lambda t: t.to(torch.int64),
    }
    fields = content["fit"]["fields"]
    exempt = {fields[name]["fields"]["parts"]["tuple"][0]["array"] for name in ("losses", "marginal_errors") if name in fields}
    if damage in ("integers", "shorter"):  # a prior's parameters may be
        exempt |= {item["array"] for item in fields["prior"]["fields"].values() if isinstance(item, dict)}
    if damage == "shorter" and name == "VAE":  # so may the number of draws be any
        exempt.add(fields["aggregate"]["array"])
    for tensor in set(tensors) - exempt:
        if not tensors[tensor].is_floating_point() or (damage == "shorter" and len(tensors[tensor]) < 2):
            continue
        new = dict(tensors)
        if damage == "missing":
            del new[tensor]
        else:
            new[tensor] = changes[damage](tensors[tensor])
        assert isinstance(loaded(tmp_path, content, new), ValueError), (tensor, tensors[tensor].shape)


def test_a_layer_that_would_take_memory_is_refused_before_it_does(contents, tmp_path):
    """A small file that names a large layer."""
    content, tensors = contents["VAE"]
    (linear, *_) = [path for path in everywhere(content["fit"]) if path and path[-1] == "in_features"]
    for size in (27000, 10**9):
        new = put(content, ("fit", *linear), size)
        new = put(new, ("fit", *linear[:-1], "out_features"), size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB
        tracemalloc.start()
        assert isinstance(loaded(tmp_path, new, tensors), ValueError)
        assert tracemalloc.get_traced_memory()[1] < 2e7
        tracemalloc.stop()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 3e5


@pytest.mark.parametrize("where", [3, 40, 200, 0.3, 0.6, 0.99])
def test_a_flipped_bit_is_found(where, tmp_path):
    VAE(**QUICK).fit(X).save(tmp_path / "model")
    data = bytearray((tmp_path / "model").read_bytes())
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "short").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"short.*(damaged|no file of skcvae)"):
            skcvae.load(tmp_path / "short")
    data[where if isinstance(where, int) else int(where * len(data))] ^= 4
    (tmp_path / "model").write_bytes(data)
    with pytest.raises(ValueError, match=r"model.*(damaged|no file of skcvae)"):
        skcvae.load(tmp_path / "model")


def test_files_that_are_none_of_ours(tmp_path):
    with pytest.raises(FileNotFoundError):
        skcvae.load(tmp_path / "missing")
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(ValueError, match=r"is no file of skcvae.*Give the path"):
        skcvae.load(tmp_path / "text")
    save_file({"a": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"is no file of skcvae"):
        skcvae.load(tmp_path / "other")
    _files.write(tmp_path / "newer", "skcvae model 99", {}, {})
    with pytest.raises(ValueError, match=r"skcvae model 99.*reads a 'skcvae model 2'.*Load it with the version"):
        skcvae.load(tmp_path / "newer")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["VAE", "CoupledVAE"])
def test_a_file_of_the_first_format_version_is_read(name):
    """Files that this version wrote; later ones must read them. `python tests/kept/make.py` makes them anew."""
    kept = Path(__file__).parent / "kept"
    model, expected = skcvae.load(kept / f"{name}.skcvae"), np.load(kept / f"{name}.npy")
    np.testing.assert_allclose(model.score_samples(X[:5]), expected, rtol=1e-6)
