"""The state of a fit as a file, from which a killed fit goes on."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

#: What a file says it is; a reader of another one refuses it.
FORMAT = "skcvae checkpoint 1"
#: Where an object's representation says at which address it is.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Checkpoint:
    """A file that holds the state of one fit: a pickle, for nobody but the program that writes it.

    Parameters
    ----------
    path : path of the file
    fingerprint : str, says which fit this is: of which model, with which parameters, on which data
    held : dict of Tensor, what a resumed fit has anyway, such as the data; it is not written
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: str, held: dict[str, Tensor]) -> None:
        self.path, self.fingerprint, self.held = Path(path), fingerprint, held

    def read(self) -> Any | None:
        """The state that was written last, or None where there is no file; ValueError for another fit's file."""
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            if pickle.load(file) != (FORMAT, self.fingerprint):
                raise ValueError(
                    f"checkpoint={os.fspath(self.path)!r} is the checkpoint of a fit with other parameters or other data. Remove "
                    "the file to start anew, or give another path."
                )
            return _Unpickler(file, self.held).load()

    def write(self, state: Any) -> None:
        """Put a state in the place of the last one; the file is always whole."""
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        part.write_bytes(pickle.dumps((FORMAT, self.fingerprint)) + self._pickled(state))
        os.replace(part, self.path)

    def remove(self) -> None:
        """Forget the fit."""
        self.path.unlink(missing_ok=True)

    def _pickled(self, state: Any) -> bytes:
        buffer = io.BytesIO()
        try:
            _Pickler(buffer, self.held).dump(state)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"checkpoint={os.fspath(self.path)!r} needs a model that can be pickled, and it cannot: {error}. Define your own "
                "functions and classes in a module instead of as lambdas or local ones, or leave checkpoint=None."
            ) from error
        return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, held: dict[str, Tensor]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.names = {id(tensor): name for name, tensor in held.items()}

    def persistent_id(self, value: object) -> str | None:
        """The name of a tensor that is held; others are written."""
        return self.names.get(id(value))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, held: dict[str, Tensor]) -> None:
        super().__init__(file)
        self.held = held

    def persistent_load(self, name: str) -> Tensor:
        """The tensor of this name."""
        return self.held[name]


def check_path(name: str, value: object) -> Path | None:
    """The path of a file in a folder that is there, or None."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be the path of a file or None, got {value!r} (type {type(value).__name__}).")
    path = Path(value)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{name} must be the path of a file in a folder that exists, got {os.fspath(value)!r}.")
    return path


def fingerprint(estimator: BaseEstimator, data: Sequence[NDArray | None]) -> str:
    """What two fits have in common that must end alike: the class, the parameters but some, and the data."""
    with np.printoptions(threshold=sys.maxsize):
        parameters = {name: _ADDRESS.sub("", repr(value)) for name, value in estimator.get_params(deep=False).items()}
    kept = {name: value for name, value in parameters.items() if name not in ("checkpoint", "verbose")}
    hashes = [None if X is None else (X.shape, hashlib.sha256(np.ascontiguousarray(X)).hexdigest()) for X in data]
    return repr((type(estimator).__name__, kept, hashes))
