"""Where tensors are and how precise they are, as a value; and copies of records there."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from skcvae._checks import shown

Record = TypeVar("Record")
Module = TypeVar("Module", bound=nn.Module)
CPU = torch.device("cpu")
#: Kinds of device on which all operations exist. Apple's "mps" has no double precision, which certificates and scores need.
SUPPORTED = ("cpu", "cuda")


@dataclass(frozen=True)
class Place:
    """A precision and a device.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skcvae._place import Place
    >>> Place(torch.float32).tensor(np.zeros(2)).dtype
    torch.float32
    """

    dtype: torch.dtype = torch.float64
    device: torch.device = CPU

    @classmethod
    def of(cls, tensor: Tensor) -> Place:
        """The place of a tensor."""
        return cls(tensor.dtype, tensor.device)

    def tensor(self, array: Any) -> Tensor:
        """An array or a tensor here; an array's memory is shared where it can be."""
        given = array if isinstance(array, Tensor) else torch.as_tensor(array)
        return given.to(self.device, self.dtype)

    def module(self, module: Module) -> Module:
        """A new module, put here in place."""
        return module.to(self.device, self.dtype)


#: Where fitted models are kept and arrays come from.
HOST = Place()


def make_device(device: object) -> torch.device:
    """The torch device of a user's value; "auto" is a GPU where there is one. ValueError where it cannot be used."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.empty(0, device=device).device  # type: ignore[call-overload]
    except (RuntimeError, TypeError, AssertionError) as error:
        devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(
            f"device must be 'auto' or a device that torch finds here ({', '.join(map(repr, devices))}), got {shown(device)}. "
            "Use device='auto', or install a torch and a driver that see the device."
        ) from error
    if found.type not in SUPPORTED:
        why = "which has no double precision" if found.type == "mps" else "on which no fit can run"
        raise ValueError(f"device must be 'auto', 'cpu' or a CUDA device, got {shown(device)}, {why}. Use device='cpu'.")
    return found


def moved(record: Record, place: Place) -> Record:
    """A record at a place: tensors, modules, and dataclasses, tuples, lists and mappings of them; anything else as it is.

    Nothing is changed in place. What is at the place already is shared and not copied. A record that says how it moves, by a
    method `moved`, is asked.
    """
    return _Mover(place).moved(record)


class _Mover:
    """One pass over a record; an object that occurs twice is moved once."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.found: dict[int, tuple[Any, Any]] = {}

    def moved(self, record: Any) -> Any:
        if id(record) not in self.found:
            self.found[id(record)] = record, self._made(record)
        return self.found[id(record)][1]

    def _made(self, record: Any) -> Any:
        if isinstance(record, Tensor):
            return self.place.tensor(record) if record.is_floating_point() else record.to(self.place.device)
        if isinstance(record, nn.Module):
            return self._module(record)
        if hasattr(record, "moved"):
            return record.moved(self.place)
        if is_dataclass(record) and not isinstance(record, type):
            new = {f.name: self.moved(getattr(record, f.name)) for f in fields(record) if f.init}
            changed = any(value is not getattr(record, name) for name, value in new.items())
            return replace(record, **new) if changed else record
        if isinstance(record, Mapping):
            return {name: self.moved(value) for name, value in record.items()}
        if type(record) in (tuple, list):
            return type(record)(self.moved(value) for value in record)
        return record

    def _module(self, module: nn.Module) -> nn.Module:
        """The module itself where all of it is at the place, otherwise a copy."""
        tensors = [*module.parameters(), *module.buffers()]
        if all(t.device == self.place.device and (t.dtype == self.place.dtype or not t.is_floating_point()) for t in tensors):
            return module
        return copy.deepcopy(module).to(self.place.device, self.place.dtype)


def equal(first: Any, second: Any) -> bool:
    """Whether two records are the same in every number, name and class, bit for bit."""
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and first.shape == second.shape and _same_bytes(as_array(first), as_array(second))
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and _same_bytes(first, second)
    if isinstance(first, nn.Module):
        parts = [{name: (type(part), _plain(part)) for name, part in module.named_modules()} for module in (first, second)]
        return equal(*parts) and equal(dict(first.state_dict()), dict(second.state_dict()))
    if isinstance(first, functools.partial):
        return all(equal(getattr(first, part), getattr(second, part)) for part in ("func", "args", "keywords"))
    if is_dataclass(first):
        return all(equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    if isinstance(first, Mapping):
        return list(first) == list(second) and all(equal(first[name], second[name]) for name in first)
    if isinstance(first, (tuple, list)):
        return len(first) == len(second) and all(map(equal, first, second))
    if first is second or callable(first) or not hasattr(first, "__dict__"):
        return first is second or bool(first == second)
    return equal(vars(first), vars(second))


def _plain(module: nn.Module) -> dict[str, Any]:
    """What a module holds that is neither in its state nor torch's."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def _same_bytes(first: np.ndarray, second: np.ndarray) -> bool:
    if first.dtype == object:
        return first.tolist() == second.tolist()
    return np.ascontiguousarray(first).tobytes() == np.ascontiguousarray(second).tobytes()


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor's numbers as a numpy array on the CPU."""
    return tensor.detach().cpu().numpy()
