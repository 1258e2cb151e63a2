"""The state of a fit as a file, from which a killed fit goes on.

A state is plain data: dictionaries, lists, tuples, numbers, strings, tensors and arrays. It holds weights, potentials and the
states of random generators. What these give again, plans, data and draws, is not in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skcvae import _files, _processes
from skcvae._checks import shown
from skcvae.distributed import ShardedRows

#: What a file says it is; a reader of another one refuses it.
KIND = "skcvae checkpoint 2"
#: Where an object's representation says at which address it is.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
#: Parameters that do not change what a fit finds, or only by how far it came.
WITHOUT_EFFECT = ("checkpoint", "verbose", "max_time")
#: Names under which a packed state has what is neither a number nor text: tensors, arrays, tuples and mappings.
TAGS = ("tensor", "array", "tuple", "items")


class Checkpoint:
    """The file of one fit in a folder that many fits may share; its name is the fingerprint's hash.

    Parameters
    ----------
    folder : Path, made where it is not there
    fingerprint : str, says which fit this is: of which model, with which parameters, on which data
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        self.path = folder / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:32]}.checkpoint"

    def read(self) -> dict[str, Any] | None:
        """The state that was written last, or None where there is no file. ValueError names a file that is no state of this fit."""
        found = None
        with _processes.together():
            if _processes.rank() == 0 and self.path.exists():
                content, tensors = _files.read(self.path, KIND)
                if not isinstance(content, dict) or content.get("fingerprint") != self.fingerprint:
                    raise self.foreign("it is the state of another fit")
                try:
                    found = _unpacked(content["state"], tensors)
                except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
                    raise self.foreign("it holds no state of a fit") from error
        return _processes.agreed(found)

    def foreign(self, why: str) -> ValueError:
        """What is raised where the file does not fit this fit."""
        return ValueError(f"{os.fspath(self.path)!r} cannot be resumed from: {why}. Remove the file to start anew.")

    def write(self, state: dict[str, Any]) -> None:
        """Put a state in the place of the last one; the file is always whole. OSError names the file.

        Of several processes, whose states are the same, the first one writes.
        """
        if _processes.rank() > 0:
            return
        tensors: dict[str, Tensor] = {}
        content = {"fingerprint": self.fingerprint, "state": _packed(state, tensors)}
        self.folder.mkdir(exist_ok=True)
        try:
            _files.write(self.path, KIND, content, tensors)
        except FileNotFoundError:  # another fit has ended and removed the folder, which was empty
            self.folder.mkdir(exist_ok=True)
            _files.write(self.path, KIND, content, tensors)

    def remove(self) -> None:
        """Forget the fit; the folder goes with its last file."""
        if _processes.rank() == 0 and self.folder.is_dir():
            _files.remove(self.path)
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def open_checkpoint(estimator: BaseEstimator, data: Sequence[NDArray | None]) -> Checkpoint | None:
    """The checkpoint of a fit of an estimator to data, or None. TypeError or ValueError where its path cannot be a folder."""
    value = estimator.checkpoint
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"checkpoint must be the path of a folder or None, got {shown(value)} (type {type(value).__name__}).")
    folder = Path(value)
    with _processes.together():
        if _processes.rank() == 0:  # which alone reads and writes
            _check_folder(folder)
    return Checkpoint(folder, fingerprint(estimator, data))


def _check_folder(folder: Path) -> None:
    """ValueError unless the path can be that of a folder."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"checkpoint must be the path of a folder, in which every fit has a file of its own, and {os.fspath(folder)!r} is a "
            "file. Remove the file, or give another path."
        )
    if not folder.parent.is_dir():
        raise ValueError(f"checkpoint must be a folder in a folder that exists, got {os.fspath(folder)!r}. Make its parent first.")


def fingerprint(estimator: BaseEstimator, data: Sequence[NDArray | None]) -> str:
    """A string that identifies a fit: class, parameters, data and versions. Fits with equal strings give equal results."""
    parameters = estimator.get_params(deep=False).items()
    kept = {name: _described(value, ()) for name, value in parameters if name not in WITHOUT_EFFECT}
    hashes = [None if X is None else (X.shape, X.dtype.str, _hash(X)) for X in data]
    text = repr((type(estimator).__module__, type(estimator).__qualname__, kept, hashes, _version("skcvae"), _version("torch")))
    return hashlib.sha256(text.encode()).hexdigest()


def _described(value: Any, above: tuple[int, ...]) -> Any:
    """What tells a parameter from others of its kind: numbers, weights and code, and no addresses.

    `above` are the identities of the objects that it is a part of.
    """
    if id(value) in above:
        return "itself"
    kind, inner = f"{type(value).__module__}.{type(value).__qualname__}", (*above, id(value))
    if isinstance(value, (np.ndarray, Tensor)):
        array = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value
        return kind, array.shape, repr(array.tolist()) if array.dtype == object else _hash(np.atleast_1d(array))
    if isinstance(value, (np.random.Generator, np.random.RandomState)):
        return kind  # it moves on; the checkpoint says where the fit began
    if isinstance(value, nn.Module):
        return kind, repr(value), _described(dict(value.state_dict()), inner)
    if isinstance(value, Mapping):
        return kind, [(repr(name), _described(item, inner)) for name, item in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, [_described(item, inner) for item in value]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        code = value.__code__
        return value.__module__, value.__qualname__, code.co_code, _described([code.co_names, value.__defaults__, cells], inner)
    if isinstance(value, (str, int, float, complex, bool, type(None), type)) or not hasattr(value, "__dict__"):
        return _ADDRESS.sub("", repr(value))
    return kind, _ADDRESS.sub("", repr(value)), _described(vars(value), inner)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _hash(X: NDArray) -> str:
    """SHA-256 of the rows, read a block at a time. Rows of several processes have a digest that does not depend on their shares."""
    if isinstance(X, ShardedRows):
        return repr(X.digest())
    digest = hashlib.sha256()
    for begin in range(0, len(X), 8192):
        digest.update(np.ascontiguousarray(X[begin : begin + 8192]))
    return digest.hexdigest()


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON has it, its tensors put aside under numbers."""
    if isinstance(value, (Tensor, np.ndarray)):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone() if isinstance(value, Tensor) else torch.tensor(value)
        return {"tensor" if isinstance(value, Tensor) else "array": name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return {"tuple": [_packed(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_packed(item, tensors) for item in value]
    if isinstance(value, dict):
        return {"items": [[_packed(key, tensors), _packed(item, tensors)] for key, item in value.items()]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"A state holds plain data and tensors, got {type(value).__name__}.")


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `_packed`."""
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    (tag, held), *others = value.items()
    if others or tag not in TAGS:
        raise ValueError(f"{shown(value)} is no part of a state")
    if tag == "tensor":
        return tensors[held]
    if tag == "array":
        return tensors[held].numpy()
    if tag == "tuple":
        return tuple(_unpacked(item, tensors) for item in held)
    return {_unpacked(key, tensors): _unpacked(item, tensors) for key, item in held}
