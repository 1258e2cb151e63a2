"""A second device without a GPU: tensors that report ``cuda:0``, hold CPU data, and mix with CPU tensors only as CUDA's do.

While `simulated` is entered, ``device="cuda"`` means this device in every function of torch. Its kernels are the CPU's, so a
computation that is right on both devices gives the same numbers on both, and one that forgets a device raises what CUDA raises:

- an operation takes tensors of one device, and beside the device's tensors CPU tensors of no dimensions, which it may not write to;
- CPU tensors may be indices into the device's tensors, but not the other way round, and neither may be looked up by
  `torch.gather`, `torch.index_select` or another of `LOOKUPS`;
- a generator draws on its own device alone;
- numpy takes no tensor of the device;
- `torch.empty` holds NaN, or the least integer, so that nobody reads what nobody wrote.

A device tensor is a wrapper around a CPU tensor. Two modes stand behind it: one at the functions' names reads ``"cuda"`` as the
device, one at the operations below autograd does the work. Autograd, twice over as well, and `torch.func` see any tensors.

What it is not:

- Below Python a device tensor is a "meta" tensor. Only its Python attributes say ``cuda:0``; `torch.cuda` knows nothing of it, and
  a GPU of the machine is out of sight meanwhile.
- `Module.to` between devices makes new parameters, where a GPU would keep them; and ``tensor.data = ...`` stays on one device.
- A result of another shape than its ``out=`` is refused, as is `resize_`; and nothing is asynchronous.
- A function of torch that is written in Python and names a tensor's device to another one is not followed: where there is no GPU it
  raises torch's own error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map_only

#: What the tensors report.
DEVICE = torch.device("cuda:0")
#: What torch's own code, below Python, takes them for: of all devices the only one that autograd treats as it does the CPU.
BELOW = torch.device("meta")
CPU = torch.device("cpu")

aten = torch.ops.aten
#: What reads or writes across devices.
CROSSINGS = {aten._to_copy, aten.copy_, aten._local_scalar_dense}
#: What takes CPU tensors as indices into the device's.
INDEXING = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index_put}
#: What takes no CPU tensor, not even one of no dimensions.
LOOKUPS = {
    aten.index_select,
    aten.gather,
    aten.scatter,
    aten.scatter_,
    aten.take,
    aten.embedding,
    aten.searchsorted,
    aten.bucketize,
}
ALL_ON_ONE = LOOKUPS | {aten._fused_adam_, aten.cat, aten.stack, aten.masked_select}
#: What makes memory without writing to it.
UNWRITTEN = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
#: What reads Python's numbers or numpy's arrays.
READERS = {torch.tensor, torch.as_tensor, torch.asarray}

_Generator = torch.Generator


class DeviceTensor(Tensor):
    """A tensor of the second device.

    Parameters
    ----------
    held : Tensor on the CPU, its data, without a gradient
    """

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    is_cuda, is_cpu, is_meta = True, False, False  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        return Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=BELOW
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The second device."""
        return DEVICE

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        """The tensor without its history."""
        return self.detach()

    @data.setter
    def data(self, value: DeviceTensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = value.held

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """Numpy takes CPU tensors only."""
        raise TypeError(
            f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        """The numbers, by way of the CPU."""
        return self.cpu().tolist()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def __repr__(self, **_: Any) -> str:
        return f"DeviceTensor({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceTensor:
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment."
            )
        if id(self) not in memo:
            memo[id(self)] = _restored(self.held.clone(), self.requires_grad, isinstance(self, torch.nn.Parameter))
            memo[id(self)].grad = None if self.grad is None else self.grad.clone()
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _restored, (self.held, self.requires_grad, isinstance(self, torch.nn.Parameter))


def _restored(held: Tensor, requires_grad: bool, is_parameter: bool) -> DeviceTensor:
    """A leaf of these data."""
    made = DeviceTensor(held).requires_grad_(requires_grad)
    if is_parameter:
        made._is_param = True  # what makes a tensor of another class an nn.Parameter
    return made


class _AnyGenerator(type(_Generator)):  # type: ignore[misc]
    """Makes isinstance(value, torch.Generator) true of the generators that were made without the simulation."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _Generator)


class PlacedGenerator(_Generator, metaclass=_AnyGenerator):
    """A generator of either device; it draws what the CPU's draws.

    Parameters
    ----------
    device : torch.device or str, default="cpu"
    """

    _place: torch.device

    def __new__(cls, device: torch.device | str = "cpu") -> PlacedGenerator:
        made = super().__new__(cls)
        made._place = DEVICE if _is_ours(device) else torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        """Where it draws."""
        return self._place

    def __reduce__(self) -> Any:
        return _generator, (str(self.device), self.get_state())


def _generator(device: str, state: Tensor) -> torch.Generator:
    return torch.Generator(device).set_state(state)


def _is_ours(device: object) -> bool:
    """Whether this names the second device, above or below Python."""
    if isinstance(device, str):
        return device.split(":")[0] in (DEVICE.type, BELOW.type)
    return isinstance(device, torch.device) and device.type in (DEVICE.type, BELOW.type)


class _Names(TorchFunctionMode):
    """Reads the device's name in the arguments of torch's functions, and checks generators, which operations see without it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = list(args), dict(kwargs or {})
        if func is Tensor.to and len(args) > 1 and isinstance(args[1], str):
            args[1] = torch.device(args[1])
        args = [BELOW if isinstance(arg, torch.device) and _is_ours(arg) else arg for arg in args]
        if _is_ours(kwargs.get("device")):
            kwargs["device"] = BELOW
        _check_generators(args, kwargs)
        if func in READERS and kwargs.get("device") == BELOW:  # torch reads no values for "meta"
            return func(*args, **{**kwargs, "device": None}).to(BELOW)
        if func is Tensor.new_tensor and isinstance(args[0], DeviceTensor):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(BELOW)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], DeviceTensor):
            args[1] = tuple(map(_index, args[1])) if isinstance(args[1], tuple) else _index(args[1])
        return func(*args, **kwargs)


def _index(index: Any) -> Any:
    """A list of places as a tensor of them, for the same reason."""
    return torch.tensor(index) if isinstance(index, list) else index


def _check_generators(args: list[Any], kwargs: dict[str, Any]) -> None:
    """A generator draws on its own device."""
    used = [value for value in (*args, *kwargs.values()) if isinstance(value, _Generator)]
    if used:
        is_ours = any(isinstance(value, DeviceTensor) or _is_ours(value) for value in (*args, *kwargs.values()))
        expected = DEVICE.type if is_ours else CPU.type
        for generator in used:
            if generator.device.type != expected:
                raise RuntimeError(f"Expected a '{expected}' device type for generator but found '{generator.device.type}'")


class _Operations(TorchDispatchMode):
    """Runs the operations, below autograd."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation, on either device; or the error of one that mixes them."""
    tensors = [leaf for leaf in (*_flat(args), *_flat(kwargs.values())) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    others = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor)]
    _check_known(func, others)
    if func is aten._efficientzerotensor.default:  # without memory, which operations here would read
        func = aten.zeros.default
    asked = kwargs.get("device")
    if not (ours or _is_ours(asked)):
        return func(*args, **kwargs)
    if ours and others and func.overloadpacket not in CROSSINGS:
        _check_devices(func, args, kwargs)
    result = func(*map(_held, args), **{name: _held(value) for name, value in kwargs.items()})
    if func._schema.is_mutable:
        return _written(func, args, kwargs, ours, result)
    if asked is not None and not _is_ours(asked):
        return result
    if func.overloadpacket in UNWRITTEN:
        _fill(result)
    return _on_device(result)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """Values and those in their lists; an operation has no deeper ones."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


def _held(value: Any) -> Any:
    """What stands for an argument where the work is done."""
    if isinstance(value, DeviceTensor):
        return value.held
    if isinstance(value, (list, tuple)):
        return [_held(item) for item in value]
    return CPU if isinstance(value, torch.device) else value


def _on_device(result: Any) -> Any:
    """A result, or the results, as tensors of the device."""
    if isinstance(result, Tensor):
        return DeviceTensor(result)
    return type(result)(map(_on_device, result)) if isinstance(result, (list, tuple)) else result


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], ours: list[DeviceTensor], result: Any) -> Any:
    """The result of an operation that wrote to its arguments: these, and what else it gave."""
    if torch.Tag.inplace_view in func.tags and isinstance(args[0], DeviceTensor):
        return return_and_correct_aliasing(func, args, kwargs, args[0])  # gives the wrapper its new shape
    if any(tensor.shape != tensor.held.shape or tensor.stride() != tensor.held.stride() for tensor in ours):
        raise NotImplementedError(f"{func} changed a shape in place, which the simulated device does not follow.")
    if func.overloadpacket is aten.copy_:
        return args[0]
    wrappers = {id(tensor.held): tensor for tensor in ours}
    return tree_map_only(Tensor, lambda held: wrappers[id(held)] if id(held) in wrappers else DeviceTensor(held), result)


def _fill(held: Tensor) -> None:
    """Write what nobody can take for a result."""
    if held.dtype.is_floating_point or held.dtype.is_complex:
        held.fill_(torch.nan)
    elif held.dtype != torch.bool:
        held.fill_(torch.iinfo(held.dtype).min)


def _check_known(func: Any, others: list[Tensor]) -> None:
    """No third device takes part."""
    for other in others:
        if not other.is_cpu:
            raise RuntimeError(f"{func} met a tensor of {other.device}, which the simulated device did not make.")


def _check_devices(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Whether CUDA takes the CPU's tensors beside its own."""
    for argument, value in _arguments(func, args, kwargs):
        others = [leaf for leaf in _flat([value]) if isinstance(leaf, Tensor) and not isinstance(leaf, DeviceTensor)]
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        is_index = func.overloadpacket in INDEXING and argument.name == "indices" and isinstance(args[0], DeviceTensor)
        may_be_scalar = not is_written and func.overloadpacket not in ALL_ON_ONE
        if not is_index and any(other.dim() > 0 or not may_be_scalar for other in others):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and cpu! "
                f"({func}, argument {argument.name})"
            )


def _arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The arguments that were given, each beside its declaration."""
    declared = func._schema.arguments
    yield from zip(declared, args, strict=False)
    yield from ((argument, kwargs[argument.name]) for argument in declared if argument.name in kwargs)


@contextmanager
def simulated() -> Iterator[torch.device]:
    """Make ``device="cuda"`` mean the second device in this thread, and `torch.Generator` know it."""
    with mock.patch.object(torch, "Generator", PlacedGenerator), _Operations(), _Names():
        yield DEVICE


def make_device(device: object) -> torch.device:
    """What stands in the place of the library's own choice of a device: "auto" is the second device as well."""
    return DEVICE if device == "auto" or _is_ours(device) else torch.device(device)  # type: ignore[call-overload]
