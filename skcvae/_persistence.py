"""A fitted model as one file: tensors as safetensors, all else as JSON in its header. Loading runs no code that the file brings.

A value is written by what it is: numbers, strings, lists, arrays, torch layers of a fixed list, and objects of this package by the
name of their class and their fields. Objects that occur twice are written once. What is none of these is refused, when it is
written and when it is read.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from skcvae.posteriors import Coordinates

#: What a file says it is; a reader of another one refuses it.
FORMAT = "skcvae 1"
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
#: Rooms whose objects a model holds.
ROOMS = tuple(f"skcvae.{room}" for room in ("priors", "likelihoods", "networks", "posteriors", "transport", "divergences"))
#: Attributes that every module has, an estimator's callbacks and its optimiser: they are of a fit, not of what was fitted.
NOT_KEPT = frozenset({*vars(nn.Module()), "_skl_callbacks", "_part"})
#: Estimators, by name.
ESTIMATORS: dict[str, type] = {}
REMEDY = "Use pickle or joblib, which keep any object and run code on load."


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted model; the file is complete or not there."""
    from safetensors.torch import save_file

    _check_writable(Path(path))
    writer = _Writer()
    content = {"format": FORMAT, "versions": _versions(), "model": writer.written(model)}
    part = Path(path).with_name(f"{Path(path).name}.{os.getpid()}.part")
    save_file(writer.tensors, part, metadata={"skcvae": json.dumps(content, allow_nan=False)})
    os.replace(part, path)


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
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is not one of `save`, is of another format, or holds what this version does not know.

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
    from safetensors import SafetensorError, safe_open

    _check_readable(Path(path))
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {}).get("skcvae", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{os.fspath(path)!r} is no file of skcvae: {error}. Give the path that was given to save.") from error
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{os.fspath(path)!r} has the format {content.get('format')!r}, and this version of skcvae reads {FORMAT!r}. Give a "
            "file that model.save(path) wrote, and load it with the version that wrote it or a later one."
        )
    return _Reader(tensors).read(content["model"])


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder. Give the path of a file in it, such as {str(path / 'model')!r}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{str(path)!r} has no folder to be in: there is no {str(path.parent)!r}. Make it first.")


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder. Give the path of the file that was given to save.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Give the path that was given to save.")


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "scikit-learn", "numpy")}


@functools.cache
def _known() -> dict[str, type]:
    """Classes that a model may hold, by name."""
    modules = [module for name, module in sys.modules.items() if name.startswith(ROOMS)]
    found = [item for module in modules for item in vars(module).values() if isinstance(item, type)]
    return {item.__name__: item for item in found if item.__module__.startswith(ROOMS)}


def _fields(value: Any) -> dict[str, Any]:
    """What makes an object, the prior first: its attributes, but not all; see `NOT_KEPT`, and computed ones."""
    computed = {
        name for owner in type(value).__mro__ for name, a in vars(owner).items() if isinstance(a, functools.cached_property)
    }
    kept = {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set(vars(value)) - computed
    return {name: vars(value)[name] for name in sorted(kept - NOT_KEPT, key=lambda name: (name != "prior_", name))}


class _Writer:
    """JSON of values; their tensors aside, and a number for every object, by which it is named when it comes again."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.numbers: dict[int, int] = {}

    def written(self, value: Any) -> Any:
        """What stands for a value."""
        if value is None or isinstance(value, (bool, str, int)) or (isinstance(value, float) and math.isfinite(value)):
            return value
        for kind, write in self._kinds().items():
            if isinstance(value, kind):
                return write(value)
        return self._object(value)

    def _kinds(self) -> dict[Any, Callable[[Any], Any]]:
        return {
            float: lambda v: {"float": repr(v)},
            np.generic: lambda v: self.written(v.item()),
            np.ndarray: self._array,
            Tensor: lambda v: {"tensor": self._stored(v)},
            torch.dtype: lambda v: {"dtype": str(v).removeprefix("torch.")},
            os.PathLike: os.fspath,
            torch.device: lambda v: {"device": str(v)},
            list: lambda v: [self.written(item) for item in v],
            tuple: lambda v: {"tuple": [self.written(item) for item in v]},
            Coordinates: lambda v: {"coordinates": "of the prior"},
            nn.Sequential: lambda v: {"sequence": [self.written(layer) for layer in v]},
        }

    def _array(self, value: np.ndarray) -> Any:
        if value.dtype.kind in "OU" and all(isinstance(item, str) for item in value.flat):
            return {"strings": value.tolist()}
        return {"array": self._stored(torch.as_tensor(np.ascontiguousarray(value)))}

    def _stored(self, value: Tensor) -> str:
        name = f"{len(self.tensors)}"
        self.tensors[name] = value.detach().cpu().clone().contiguous()
        return name

    def _object(self, value: Any) -> Any:
        if id(value) in self.numbers:
            return {"same": self.numbers[id(value)]}
        name = type(value).__name__
        self.numbers[id(value)] = number = len(self.numbers)
        if isinstance(value, nn.Module) and name in LAYERS and type(value) is getattr(nn, name):
            arguments = {argument: self.written(getattr(value, argument)) for argument in LAYERS[name]}
            return {"layer": name, "number": number, "arguments": arguments, **self._module(value)}
        if _known().get(name, ESTIMATORS.get(name)) is not type(value):
            raise TypeError(
                f"A {type(value).__module__}.{type(value).__qualname__} cannot be saved: save keeps numbers, arrays and the "
                f"objects of skcvae. {REMEDY}"
            )
        fields = {field: self.written(item) for field, item in _fields(value).items()}
        return {"object": name, "number": number, "fields": fields, **self._module(value)}

    def _module(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, nn.Module):
            return {}
        groups: dict[str, Any] = {"parameters": value._parameters, "buffers": value._buffers}
        if type(value).__name__ not in LAYERS:
            groups["modules"] = value._modules
        return {group: {name: self.written(item) for name, item in items.items()} for group, items in groups.items()}


def _unknown(name: object) -> ValueError:
    return ValueError(f"The file holds a {name!r}, which this version of skcvae does not know. Load it with the one that wrote it.")


class _Reader:
    """The values that a writer's JSON stands for."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.objects: dict[int, Any] = {}
        self.prior: Any = None

    def read(self, written: Any) -> Any:
        """The value."""
        if isinstance(written, list):
            return [self.read(item) for item in written]
        if not isinstance(written, dict):
            return written
        kind = next(iter(written), None)
        read = self._kinds().get(kind)  # type: ignore[arg-type]
        if read is None:
            raise _unknown(kind)
        return read(written)

    def _kinds(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        return {
            "float": lambda w: float(w["float"]),
            "array": lambda w: self.tensors[w["array"]].numpy(),
            "strings": lambda w: np.array(w["strings"], dtype=object),
            "tensor": lambda w: self.tensors[w["tensor"]],
            "dtype": lambda w: {"float32": torch.float32, "float64": torch.float64}[w["dtype"]],
            "device": lambda w: torch.device(w["device"]),
            "tuple": lambda w: tuple(self.read(item) for item in w["tuple"]),
            "coordinates": lambda w: Coordinates(self.prior.distribution()),
            "sequence": lambda w: nn.Sequential(*(self.read(layer) for layer in w["sequence"])),
            "same": lambda w: self.objects[w["same"]],
            "layer": self._layer,
            "object": self._object,
        }

    def _layer(self, written: dict[str, Any]) -> nn.Module:
        if written["layer"] not in LAYERS:
            raise _unknown(written["layer"])
        layer: nn.Module = getattr(nn, written["layer"])(**{k: self.read(v) for k, v in written["arguments"].items()})
        self.objects[written["number"]] = layer
        return cast(nn.Module, self._filled(layer, written).to(memory_format=torch.channels_last))

    def _object(self, written: dict[str, Any]) -> Any:
        kind = ESTIMATORS.get(written["object"], _known().get(written["object"]))
        if kind is None:
            raise _unknown(written["object"])
        value: Any = object.__new__(kind)
        self.objects[written["number"]] = value
        if isinstance(value, nn.Module):
            nn.Module.__init__(value)
            self._filled(value, written)
        for name, item in written["fields"].items():
            object.__setattr__(value, name, self.read(item))
            self.prior = value.prior_ if name == "prior_" else self.prior
        return value

    def _filled(self, module: nn.Module, written: dict[str, Any]) -> Any:
        for name, item in written["parameters"].items():
            found = self.read(item)
            module.register_parameter(name, None if found is None else nn.Parameter(found))
        for name, item in written["buffers"].items():
            module.register_buffer(name, self.read(item))
        for name, item in written.get("modules", {}).items():
            module.add_module(name, self.read(item))
        return module.eval()
