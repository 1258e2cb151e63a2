"""A fitted model as one file: what `_files` holds, made of and into an estimator. Reading runs no code that the file brings.

A file has the estimator's parameters and the record of its fit. A value is written by what it is: numbers, strings, arrays, and
objects of this package by the name of their class and what makes them. The checksum finds damage, and whoever can write a file can
write a checksum, so that a reader trusts nothing it finds: objects are made by their own constructors, which check, layers are made
without memory and their weights must have the shapes that they ask for, every number must be finite where the model needs it, and
a model must answer for one row before it is given out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skcvae import _files
from skcvae._checks import shown
from skcvae._columns import BACKENDS, KINDS, Column, Columns
from skcvae._context import computing
from skcvae._fitted import AutoencoderFit, CoupledFit, Curve, Evidence, Fit, Holes
from skcvae._place import HOST
from skcvae.likelihoods import UNKNOWN, Background, Categorical, Family, Poisson, Product, RowMap
from skcvae.networks import Decoder, LinearPlus, Steep
from skcvae.posteriors import Conditional, Encoder, Pool, Scores
from skcvae.priors import Prior
from skcvae.transport import Coupling

#: What a file says it is; a reader of another one refuses it.
KIND = "skcvae model 2"
#: Rooms of whose classes a model holds objects that a user gives: frozen records of parameters.
ROOMS = tuple(
    f"skcvae.{room}" for room in ("priors", "likelihoods", "networks", "posteriors", "transport", "schedule", "divergences")
)
#: Records of a fit.
RECORDS = (CoupledFit, AutoencoderFit, Pool, Scores, Holes, Coupling, Curve, Evidence, Columns, Column)
#: The estimators that a file may hold, by name.
ESTIMATORS: dict[str, type[BaseEstimator]] = {}
#: Torch's layers that a network of this package may hold, with the attributes that make them.
LAYERS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features"),
    "Conv2d": ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    "ConvTranspose2d": ("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding"),
    "BatchNorm1d": ("num_features", "eps", "momentum"),
    "BatchNorm2d": ("num_features", "eps", "momentum"),
    "Unflatten": ("dim", "unflattened_size"),
    **dict.fromkeys(("Flatten", "ReLU", "Tanh", "ELU", "SiLU", "GELU", "Softplus"), ()),
}
#: What `set_output` takes.
OUTPUTS = ("default", "pandas", "polars")
#: Parameters that belong to a machine or to one run, and are None in a loaded model.
NOT_KEPT = ("checkpoint",)
REMEDY = "Use pickle or joblib, which keep any object and run code on load."


def save(model: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted model; the file is complete or not there.

    A `random_state` that is a generator is written as None, and so is `checkpoint`; callbacks and metadata requests are left out.
    """
    name = next((name for name, kind in ESTIMATORS.items() if kind is type(model)), None)
    if name is None:
        raise TypeError(f"save keeps {', '.join(ESTIMATORS)}, got a class of your own, {_class_name(type(model))}. {REMEDY}")
    writer = _Writer()
    parameters: dict[str, Any] = {}
    for key, value in model.get_params(deep=False).items():
        is_generator = isinstance(value, (np.random.Generator, np.random.RandomState)) or value is np.random
        parameters[key] = None if key in NOT_KEPT or is_generator else value
    names = getattr(model, "feature_names_in_", None)
    content = {
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "scikit-learn", "numpy")},
        "estimator": name,
        "parameters": {key: writer.written(value) for key, value in parameters.items()},
        "n_features": int(model.n_features_in_),
        "feature_names": None if names is None else [str(item) for item in names],
        "columns": writer.written(getattr(model, "columns_", None)),
        "output": getattr(model, "_sklearn_output_config", {}).get("transform"),
        "fit": writer.written(model._fitted),
    }
    _files.write(path, KIND, content, writer.tensors)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model that `save` wrote, onto the CPU.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    CoupledVAE, VAE, WAE or InfoVAE, as it was saved

    Raises
    ------
    OSError
        When there is no such file, or it may not be read.
    ValueError
        When the file is damaged, is not one of `save`, or is of another format. It names the file.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import skcvae
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> model = skcvae.VAE(max_iter=20, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.safetensors")
    ...     same = skcvae.load(f"{folder}/model.safetensors")
    >>> bool((same.transform(X) == model.transform(X)).all())
    True
    """
    content, tensors = _files.read(path, KIND)
    try:
        with computing(with_gradients=False):
            return _made(content, tensors)
    except _FAULTS as error:
        why = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ValueError(
            f"{os.fspath(path)!r} is damaged, or another program wrote it: {why}. Give the path of a file that model.save(path) "
            "wrote."
        ) from error


#: What goes wrong where a file does not hold what a model is made of.
_FAULTS = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, NotImplementedError, AssertionError),
    *(OverflowError, ZeroDivisionError, FloatingPointError, RecursionError, MemoryError, StopIteration),
)


def _class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@functools.cache
def _records() -> dict[str, Any]:
    """Classes of records that a model may hold, by module and name."""
    modules = [module for name, module in sys.modules.items() if name.startswith(ROOMS)]
    found = {item for module in modules for item in vars(module).values() if isinstance(item, type)}
    ours: list[Any] = [item for item in found if item.__module__.startswith(ROOMS) and dataclasses.is_dataclass(item)]
    return {_class_name(kind): kind for kind in (*ours, *RECORDS)}


@functools.cache
def _modules() -> dict[str, type[nn.Module]]:
    """Classes of modules that a model may hold, without torch's layers, by module and name."""
    kinds: list[Any] = [Decoder, LinearPlus, Steep, Encoder, *_subclasses(Family), *_subclasses(Conditional)]
    return {_class_name(kind): kind for kind in kinds if kind.__module__.startswith(ROOMS)}


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


class _Writer:
    """Plain data of values, and their tensors aside."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def written(self, value: Any) -> Any:
        """What stands for a value."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return self.written(value.item())
        for kind, write in self._kinds().items():
            if isinstance(value, kind):
                return write(value)
        if _records().get(_class_name(type(value))) is type(value):
            fields = {f.name: self.written(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
            return {"record": _class_name(type(value)), "fields": fields}
        raise TypeError(
            f"A {_class_name(type(value))} cannot be saved: save keeps numbers, arrays and the objects of skcvae. {REMEDY}"
        )

    def _kinds(self) -> dict[Any, Callable[[Any], Any]]:
        return {
            np.ndarray: self._array,
            Tensor: lambda v: {"tensor": self._stored(v)},
            torch.dtype: lambda v: {"dtype": str(v).removeprefix("torch.")},
            torch.device: lambda v: {"device": str(v)},
            os.PathLike: lambda v: os.fspath(v),
            list: lambda v: {"list": [self.written(item) for item in v]},
            Mapping: lambda v: {"mapping": [[_text(key), self.written(item)] for key, item in v.items()]},
            tuple: lambda v: {"tuple": [self.written(item) for item in v]},
            nn.Module: self._module,
        }

    def _array(self, value: NDArray) -> Any:
        if value.dtype.kind in "OU" and all(isinstance(item, str) for item in value.flat):
            return {"strings": value.tolist()}
        return {"array": self._stored(torch.as_tensor(np.ascontiguousarray(value)).reshape(value.shape))}

    def _stored(self, value: Tensor) -> str:
        name = f"{len(self.tensors)}"
        self.tensors[name] = value.detach().cpu().contiguous()
        return name

    def _module(self, module: nn.Module) -> Any:
        name = type(module).__name__
        if type(module) is nn.Sequential:
            return {"sequence": [self.written(layer) for layer in module]}
        if name in LAYERS and type(module) is getattr(nn, name):
            arguments = {argument: getattr(module, argument) for argument in LAYERS[name]}
        elif _modules().get(_class_name(type(module))) is type(module):
            name, arguments = _class_name(type(module)), _arguments(module)
        else:
            raise TypeError(
                f"A {_class_name(type(module))} cannot be saved: save keeps the networks of skcvae, and not your own. {REMEDY}"
            )
        own = {**module._parameters, **module._buffers}
        return {
            "module": name,
            "arguments": {key: self.written(value) for key, value in arguments.items()},
            "state": {key: {"tensor": self._stored(value)} for key, value in own.items() if value is not None},
        }


def _arguments(module: Any) -> dict[str, Any]:
    """What makes a module of this package, but for its weights and buffers."""
    if isinstance(module, Product):
        return {"parts": list(module.parts), "columns": list(module.columns), "background": module.background}
    if isinstance(module, Categorical):
        return {"sizes": module.sizes}
    if isinstance(module, Poisson):
        return {}
    if isinstance(module, Family):
        return {"offset": module.offset, "unit": module.unit, "row_map": module.row_map, "background": module.background}
    if isinstance(module, LinearPlus):
        return {"linear": module.linear, "hidden": module.hidden}
    if isinstance(module, Decoder):
        return {"network": module.network}
    if isinstance(module, Encoder):
        return {"network": module.network, "conditional": module.conditional}
    return {name: getattr(module, name) for name in ("n_coordinates", "n_layers", "n_units") if hasattr(module, name)}


class _Reader:
    """The values that a writer's plain data stand for."""

    def __init__(self, tensors: dict[str, Tensor], n_components: int) -> None:
        self.tensors, self.n_components = tensors, n_components

    def read(self, written: Any) -> Any:
        """The value."""
        if written is None or isinstance(written, (bool, int, float, str)):
            return written
        if not isinstance(written, dict):
            raise ValueError(f"{shown(written)} stands for no value")
        read = self._kinds().get(next(iter(written), ""))
        if read is None:
            raise ValueError(f"{shown(written)} is of no kind that this version of skcvae knows")
        return read(written)

    def _kinds(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        return {
            "array": lambda w: self.tensors[w["array"]].numpy(),
            "strings": lambda w: np.array([_text(item) for item in w["strings"]], dtype=object),
            "tensor": lambda w: self.tensors[w["tensor"]],
            "dtype": lambda w: {"float32": torch.float32, "float64": torch.float64}[w["dtype"]],
            "device": lambda w: torch.device(_text(w["device"])),
            "list": lambda w: [self.read(item) for item in w["list"]],
            "mapping": lambda w: {_text(key): self.read(item) for key, item in w["mapping"]},
            "tuple": lambda w: tuple(self.read(item) for item in w["tuple"]),
            "sequence": lambda w: nn.Sequential(*(self._layer(layer) for layer in w["sequence"])),
            "module": self._module,
            "record": self._record,
        }

    def _record(self, written: dict[str, Any]) -> Any:
        kind = _records().get(written["record"])
        if kind is None:
            raise ValueError(f"{shown(written['record'])} is no record that this version of skcvae knows")
        expected = {f.name: f.default is dataclasses.MISSING for f in dataclasses.fields(kind) if f.init}
        needed = {name for name, is_needed in expected.items() if is_needed}
        if not needed <= set(written["fields"]) <= set(expected):
            raise ValueError(f"a {kind.__name__} has other fields than {', '.join(sorted(expected))}")
        if issubclass(kind, Prior) and written["fields"].get("n_components", self.n_components) != self.n_components:
            raise ValueError("the prior has another dimension than its draws")
        return kind(**{name: self.read(item) for name, item in written["fields"].items()})

    def _layer(self, written: dict[str, Any]) -> nn.Module:
        layer = self.read(written)
        if not isinstance(layer, nn.Module):
            raise ValueError(f"{shown(written)} is no layer")
        return layer

    def _module(self, written: dict[str, Any]) -> nn.Module:
        """A module that is made without memory, with the weights of the file, whose shapes must be those it asks for."""
        name, arguments = written["module"], {key: self.read(item) for key, item in written["arguments"].items()}
        state = {key: self.read(item) for key, item in written["state"].items()}
        with torch.device("meta"):
            if name in LAYERS:
                if set(arguments) != set(LAYERS[name]):
                    raise ValueError(f"a layer {name} has other arguments than {', '.join(LAYERS[name])}")
                module: nn.Module = getattr(nn, name)(**arguments)
            elif name in _modules():
                module = _skeleton(_modules()[name], arguments, state)
            else:
                raise ValueError(f"{shown(name)} is no module that this version of skcvae knows")
        own = {key: value for key, value in {**module._parameters, **module._buffers}.items() if value is not None}
        if set(own) != set(state):
            raise ValueError(f"a {name} has other weights than {', '.join(sorted(own)) or 'none'}")
        for key, value in state.items():
            _fill(module, name, key, value)
        return cast(nn.Module, module.to(memory_format=torch.channels_last)).eval()  # type: ignore[call-overload]


def _skeleton(kind: type[nn.Module], arguments: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    """A module of this package with empty weights; those whose shapes no argument says have the shapes of the state."""
    if issubclass(kind, Product | Categorical | Poisson):
        return _of_mixed(kind, arguments, state)
    module: Any = kind.__new__(kind)
    nn.Module.__init__(module)
    if issubclass(kind, Family):
        module.offset, module.unit = _row(arguments.pop("offset")), _positive(arguments.pop("unit"))
        module.row_map = arguments.pop("row_map", None)  # files of before have none
        if module.row_map is not None:
            if not isinstance(module.row_map, RowMap):
                raise ValueError("the map of rows is none")
            module.row_map.check(len(module.offset))
        background = arguments.pop("background", None)  # nor these
        if background is not None:
            if not isinstance(background, Background) or module.row_map is None:
                raise ValueError("the broad noise is none")
            background.check(len(module.offset))
        module.background = background
        for key, value in state.items():
            if value.shape not in ((1,), (len(module.offset),)):
                raise ValueError(f"{key} of a {kind.__name__} must have one number or one for each feature")
            if key == "free":
                module.register_parameter(key, nn.Parameter(torch.empty(value.shape)))
            else:
                module.register_buffer(key, torch.empty(value.shape))
        if set(state) != set(_FAMILY_STATE[kind.__name__]):
            raise ValueError(f"a {kind.__name__} has other numbers than {', '.join(_FAMILY_STATE[kind.__name__]) or 'none'}")
    elif kind is LinearPlus:
        module.linear, module.hidden = arguments.pop("linear"), arguments.pop("hidden")
    elif kind is Decoder:
        module.network = arguments.pop("network")
        for key in ("mean", "whitening"):
            module.register_buffer(key, torch.empty(state[key].shape) if key in state else None)
    elif kind is Encoder:
        module.network, module.conditional = arguments.pop("network"), arguments.pop("conditional")
    else:
        return kind(**{key: _count(value) for key, value in arguments.items()})
    if arguments:
        raise ValueError(f"a {kind.__name__} has the surplus arguments {', '.join(arguments)}")
    return cast(nn.Module, module)


def _of_mixed(kind: Any, arguments: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    """A likelihood of categories, of counts or of several kinds of columns."""
    if kind is Categorical:
        sizes = [_count(size) for size in arguments["sizes"]]
        module: nn.Module = Categorical(sizes, torch.empty(sum(sizes)))
    elif kind is Poisson:
        module = Poisson(torch.empty(len(state["rate"])))
    else:
        parts, columns, background = arguments["parts"], arguments["columns"], arguments["background"]
        if not all(isinstance(part, Family) and not isinstance(part, Product) for part in parts) or len(parts) != len(columns):
            raise ValueError("the parts of a likelihood are none")
        widths = [part.n_columns for part in parts]
        places = np.concatenate(columns)
        if [len(group) for group in columns] != widths or sorted(places.tolist()) != list(range(sum(widths))):
            raise ValueError("the columns of a likelihood are not those of its parts")
        if background is not None:
            if not isinstance(background, Background) or not isinstance(parts[0].background, Background):
                raise ValueError("the broad noise is none")
            background.check(widths[0])
        module = Product(parts, columns, background)
    for name, numbers in (("rate", "rates"), ("frequencies", "frequencies")):
        if name in state and not bool((state[name] > 0).all()):
            raise ValueError(f"the {numbers} are not positive")
    return module


#: Numbers of each likelihood.
_FAMILY_STATE = {
    "FixedGaussian": ("scale",),
    "LearnedGaussian": ("floor", "free"),
    "NetworkGaussian": ("floor", "start"),
    "Bernoulli": (),
}


def _fill(module: nn.Module, name: str, key: str, value: Tensor) -> None:
    """Put a weight of the file into a module."""
    expected = getattr(module, key)
    if value.shape != expected.shape or value.is_floating_point() != expected.is_floating_point():
        raise ValueError(f"{key} of a {name} has the shape {tuple(value.shape)}, and {tuple(expected.shape)} is expected")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{key} of a {name} has NaN or infinity")
    if key in module._parameters:
        module._parameters[key] = nn.Parameter(value, requires_grad=False)
    else:
        module._buffers[key] = value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**24:
        raise ValueError(f"{shown(value)} is no count")
    return value


def _positive(value: Any) -> float:
    if not isinstance(value, float) or not 0 < value < math.inf:
        raise ValueError(f"{shown(value)} is no positive number")
    return value


def _row(value: Any) -> NDArray[np.float64]:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype != np.float64 or not np.isfinite(value).all():
        raise ValueError("the location of the data is no row of finite numbers")
    return value


def _made(content: Any, tensors: dict[str, Tensor]) -> Any:
    """The estimator."""
    kind = ESTIMATORS[_text(content["estimator"])]
    fields = content["fit"]["fields"]  # its draws say the dimension of the latent space
    draws = fields["pool"]["fields"]["draws"]["tensor"] if "pool" in fields else fields["aggregate"]["array"]
    n_components = int(tensors[draws].shape[1])
    fit: Fit = _Reader(tensors, n_components).read(content["fit"])
    _check_fit(fit)
    reader = _Reader(tensors, fit.prior.n_components)
    names, given = set(kind().get_params(deep=False)), content["parameters"]
    if not set(given) <= names:  # those that came later have their defaults
        raise ValueError(f"the parameters are not those of a {kind.__name__}")
    given_number = given.get("n_components")
    reader.n_components = given_number if isinstance(given_number, int) else fit.prior.n_components
    model: Any = kind(**{name: reader.read(item) for name, item in given.items()})
    _check_device(model.device)
    columns = reader.read(content.get("columns"))  # files of before have none
    if columns is not None:
        model.columns_ = _checked_columns(columns)
    n_numbers = _count(content["n_features"]) if columns is None else len(columns.places)
    if n_numbers != fit.family.n_columns or (columns is not None and len(columns.columns) != content["n_features"]):
        raise ValueError("the number of features is not that of the likelihood")
    model.n_features_in_ = content["n_features"]
    if content["feature_names"] is not None:
        model.feature_names_in_ = np.array([_text(item) for item in content["feature_names"]], dtype=object)
        if len(model.feature_names_in_) != model.n_features_in_:
            raise ValueError("there are not as many names as features")
        if columns is not None and model.feature_names_in_.tolist() != columns.names:
            raise ValueError("the columns have other names than the features")
    if content["output"] is not None:
        output = _text(content["output"])
        if output not in OUTPUTS:
            raise ValueError(f"{shown(output)} is no output of transform")
        model.set_output(transform=output)
    model._fitted, model._streaming = fit, None
    _check_answers(fit)
    if columns is not None:
        with contextlib.suppress(ImportError):  # a frame of a library that is not here
            row = fit.family.restore(np.zeros((1, fit.family.n_features)))
            if columns.encoded(columns.decoded(row)).shape != row.shape:
                raise ValueError("its columns do not come back")
    return model


def _checked_columns(columns: Any) -> Columns:
    """ValueError unless they say what columns of a frame hold."""
    if not isinstance(columns, Columns) or not isinstance(columns.columns, tuple) or columns.backend not in BACKENDS:
        raise ValueError("the columns are none")
    for column in columns.columns:
        if not isinstance(column, Column) or column.kind not in KINDS or not isinstance(column.categories, tuple):
            raise ValueError("a column is none")
        if (column.kind == "categorical") != bool(column.categories):
            raise ValueError("a column has categories and numbers, or neither")
        for text in (column.name, column.dtype, column.note, *([] if column.time_zone is None else [column.time_zone])):
            _text(text)
        kinds = {type(category) for category in column.categories}
        if not kinds <= {str, bool, int, float} or len(kinds) > 1 or len(set(column.categories)) < len(column.categories):
            raise ValueError("the categories of a column are no different values of one kind")
        if column.step is not None:
            _positive(column.step)
        if (column.kind == "hurdle") != isinstance(column.atom, float) or not isinstance(column.is_ordered, bool):
            raise ValueError("a column has a value with a mass of its own, or none, of another kind")
    if columns.unknown not in UNKNOWN:
        raise ValueError(f"{shown(columns.unknown)} says nothing of unknown categories")
    return columns


def _check_device(device: Any) -> None:
    """ValueError unless it is "auto" or names a device of torch, which need not be one of this machine."""
    if device != "auto" and not isinstance(device, torch.device):
        try:
            torch.device(_text(device))
        except RuntimeError as error:
            raise ValueError(f"{shown(device)} is no device") from error


def _check_fit(fit: Any) -> None:
    """ValueError unless a record of a fit has parts of the right kinds and shapes, and finite numbers."""
    kinds = {"prior": Prior, "decoder": Decoder, "family": Family, "losses": Curve, "temperature": float, "dtype": torch.dtype}
    more: dict[str, Any] = {"kind": str, "converged": bool}
    if isinstance(fit, CoupledFit):
        more |= {"pool": Pool, "coupling": Coupling, "softness": float, "holes": Holes, "marginal_errors": Curve}
        more |= {"encoder": (Encoder, type(None)), "planes": (Scores, type(None)), "is_local": bool}
    elif isinstance(fit, AutoencoderFit):
        more |= {"encoder": Encoder, "trained_family": Family, "aggregate": np.ndarray, "n_draws": int, "seed": int}
        more |= {"is_taught": bool}
    else:
        raise ValueError("it holds no record of a fit")
    for name, kind in (kinds | more).items():
        if not isinstance(getattr(fit, name), kind):
            raise ValueError(f"{name} of the fit is a {type(getattr(fit, name)).__name__}")
    _positive(fit.temperature)
    if fit.last_family.n_columns != fit.family.n_columns or fit.last_family.n_features != fit.family.n_features:
        raise ValueError("the likelihoods have different numbers of features")
    if fit.decoder.mean is not None:
        _check_tensor("the prior's means", fit.decoder.mean, (fit.prior.n_components,))
        _check_tensor("the prior's whitening", fit.decoder.whitening, (None, fit.prior.n_components))
    for curve in (fit.losses, getattr(fit, "marginal_errors", Curve())):
        if not all(isinstance(part, np.ndarray) and part.ndim == 1 and part.dtype == np.float64 for part in curve.parts):
            raise ValueError("the curves are no numbers")
    scores = fit.validation_scores
    if not (scores is None or (isinstance(scores, tuple) and all(isinstance(score, float) for score in scores))):
        raise ValueError("the validation scores are no numbers")
    if fit.evidence is not None:
        _check_evidence(fit.evidence, fit.prior.n_components)
    if isinstance(fit, CoupledFit):
        _check_pool(fit)
    else:
        _count(fit.n_draws)
        _check_tensor("the aggregate posterior", torch.as_tensor(fit.aggregate), (None, fit.prior.n_components))


def _check_evidence(evidence: Any, n_components: int) -> None:
    """ValueError unless the evidence of a number of components is of numbers, and for the one that the model has."""
    if not isinstance(evidence, Evidence) or not isinstance(evidence.n_components, tuple) or evidence.chosen != n_components:
        raise ValueError("the evidence of the number of components is none")
    for number in evidence.n_components:
        _count(number)
    for name in ("scores", "errors"):
        if not isinstance(getattr(evidence, name), np.ndarray):
            raise ValueError(f"the {name} of the evidence are no numbers")
        _check_tensor(f"{name} of the evidence", torch.as_tensor(getattr(evidence, name)), (len(evidence.n_components),))


def _check_pool(fit: CoupledFit) -> None:
    pool, p = fit.pool, fit.pool.key.shape[-1]
    m = len(pool.draws)
    _check_tensor("the pool's draws", pool.draws, (m, fit.prior.n_components))
    _check_tensor("the pool's keys", pool.key, (m, p))
    for name in ("log_coupling", "log_density", "log_aggregate"):
        _check_tensor(f"{name} of the pool", getattr(pool, name), (m,), finite=False)
    for planes in (fit.holes.planes, fit.planes):
        if planes is not None:
            _check_tensor("planes", planes.key, (None, p))
            _check_tensor("planes", planes.bias, (len(planes.key),))


def _check_tensor(name: str, tensor: Tensor, shape: tuple[int | None, ...], finite: bool = True) -> None:
    """ValueError unless a tensor has a shape and finite numbers; those of weights may be minus infinity."""
    if tensor.ndim != len(shape) or any(size not in (None, found) for size, found in zip(shape, tensor.shape, strict=True)):
        raise ValueError(f"{name} have the shape {tuple(tensor.shape)}")
    if tensor.numel() == 0 or not tensor.is_floating_point() or bool((torch.isnan(tensor) | (tensor == math.inf)).any()):
        raise ValueError(f"{name} hold NaN, infinity or nothing")
    if finite and not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} hold infinity")


def _check_answers(fit: Fit) -> None:
    """ValueError unless a model answers for one row and one latent point."""
    model = fit.at(HOST)
    x = model.standardised(fit.family.restore(np.zeros((1, fit.family.n_features))))
    z = model.inference.mean(x)
    for name, numbers, shape in (
        ("posterior means", z, (1, fit.prior.n_components)),
        ("scores", model.inference.density().log_density(x)[0], (1,)),
        ("decoder means", torch.as_tensor(model.mean(np.zeros((1, fit.prior.n_components)))), (1, fit.family.n_columns)),
    ):
        if tuple(numbers.shape) != shape or bool(torch.isnan(numbers).any()):
            raise ValueError(f"its {name} are NaN or of another shape")
