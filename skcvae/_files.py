"""The container of models and checkpoints: plain data and tensors in one safetensors file, with a checksum over all of it.

A file begins with eight bytes, the length of its header. The header is JSON. Its first entry is the metadata: the checksum, the
kind of the file and the plain data as JSON text. The bytes of the tensors follow. The checksum is the SHA-256 of all bytes of the
file, its own 64 digits taken for zeros, so that it stands at a fixed place and a reader verifies it before it parses anything. It
finds damage. It is no signature: whoever can write the file can write a fitting checksum, so a reader trusts no value it finds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

#: Bytes of a header, at most.
MOST_HEADER = 2**24
#: What a file begins with, after the eight bytes of the header's length. The checksum follows.
START = b'{"__metadata__":{"sha256":"'
#: The bytes of the checksum.
CHECKSUM = slice(8 + len(START), 8 + len(START) + 64)
#: The checksum, while it is computed.
BLANK = b"0" * 64
#: What the files of the first version have in their first bytes: a model's header, or a checkpoint's pickle.
FIRST_VERSION = re.compile(rb"skcvae (checkpoint )?1")
#: Numbers that JSON has not, as {"float": ...}.
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
#: Types of numbers, by their names in the file.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
#: How often a file is written anew when another writer of the same path has removed the temporary file.
MOST_TRIES = 10
#: What to do with a file that cannot be read.
REMEDIES = {
    "model": "Give the path of a file that model.save(path) wrote.",
    "checkpoint": "Remove the file to start anew, or give another path.",
}


def write(path: str | os.PathLike[str], kind: str, content: Any, tensors: dict[str, Tensor]) -> None:
    """Write a file; it is complete or it is not there, and an older file stays until the new one is complete.

    Parameters
    ----------
    path : str or path
        A link at this path is replaced, not followed.
    kind : str
        What the file is, and the version of its format: "skcvae model 2".
    content : dict, list, str, int, float, bool or None
        Dictionaries and lists may be nested. Keys are strings. The key "float" alone is reserved.
    tensors : dict of Tensor

    Raises
    ------
    OSError
        When the file cannot be written. The error has the system's number and names `path`.
    TypeError, ValueError
        When the content is not plain, is too large for a header, or a tensor has a type that a file cannot hold.

    Examples
    --------
    >>> import tempfile, torch
    >>> from skcvae import _files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _files.write(f"{folder}/model", "skcvae model 2", {"scale": float("inf")}, {"weight": torch.ones(2)})
    ...     _files.read(f"{folder}/model", "skcvae model 2")
    ({'scale': inf}, {'weight': tensor([1., 1.])})
    """
    target = Path(path)
    _check_writable(target)
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header = _header(kind, content, ordered)
    digest = hashlib.sha256(header)
    for _, tensor in ordered:
        digest.update(_bytes(tensor))
    header[CHECKSUM] = digest.hexdigest().encode()
    try:
        _replace(target, header, ordered)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
    _remove_leftovers(target)


def read(path: str | os.PathLike[str], kind: str) -> tuple[Any, dict[str, Tensor]]:
    """The content and the tensors of a file that `write` wrote, on the CPU.

    Parameters
    ----------
    path : str or path
    kind : str, as it was written

    Raises
    ------
    OSError
        When there is no file, or it may not be read.
    ValueError
        When the file is damaged, is of another kind or another version, or is none that `write` wrote. It names the file.
    """
    file = _File(path, kind)
    data = file.checked_bytes()
    metadata = file.metadata(data)
    try:
        found = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise file.damaged(str(error)) from error
    del data
    tensors = {}
    while found:
        name, entry = found.pop()
        tensors[name] = file.tensor(name, entry)
    return file.content(metadata), dict(sorted(tensors.items()))


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a file and what killed writers of it left; it need not be there."""
    Path(path).unlink(missing_ok=True)
    _remove_leftovers(Path(path))


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder. Give the path of a file in it, such as {str(path / 'model')!r}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{str(path)!r} has no folder to be in: there is no {str(path.parent)!r}. Make it first.")


def _header(kind: str, content: Any, tensors: list[tuple[str, Tensor]]) -> bytearray:
    """The first bytes of a file, up to the tensors', with a blank checksum."""
    try:
        text = json.dumps(_plain(content), allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("The content of a file must be plain data, got data that are nested too deeply.") from None
    entries: dict[str, Any] = {"__metadata__": {"sha256": BLANK.decode(), "kind": kind, "content": text}}
    end = 0
    for name, tensor in tensors:
        if tensor.dtype not in NAMES or tensor.layout != torch.strided or name in entries:
            raise TypeError(f"A file holds dense tensors of real numbers, got {name!r} of {tensor.dtype}, {tensor.layout}.")
        begin, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(entries, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > MOST_HEADER:
        raise ValueError(
            f"A file holds at most {MOST_HEADER} bytes of data that are no tensors, got {len(encoded)}. Shorten names of columns."
        )
    return bytearray(len(encoded).to_bytes(8, "little") + encoded)


def _plain(value: Any) -> Any:
    """The value as JSON has it; TypeError or ValueError where it has no such value."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"The content of a file must be plain data with strings for keys, got {type(value).__name__}.")
    if value.keys() == {"float"}:
        raise ValueError("The content of a file has a dictionary whose only key is 'float', which is reserved.")
    return {key: _plain(item) for key, item in value.items()}


def _bytes(tensor: Tensor) -> Any:
    """The bytes of a tensor in the order of its indices; of a dense tensor on the CPU they are not copied."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if len(flat) else b""


def _replace(target: Path, header: bytearray, tensors: list[tuple[str, Tensor]]) -> None:
    """Write to a temporary file and rename it.

    Its name is drawn anew where it is taken. It is written anew where another writer, who finished first, has taken it for a
    leftover.
    """
    for left in reversed(range(MOST_TRIES)):
        try:
            return _try_to_replace(target, header, tensors)
        except (FileExistsError, FileNotFoundError):
            if left == 0 or not target.parent.is_dir():
                raise


def _try_to_replace(target: Path, header: bytearray, tensors: list[tuple[str, Tensor]]) -> None:
    temporary = target.with_name(f"{_beginning(target)}{secrets.token_hex(8)}.part")
    # O_EXCL refuses a name that is taken, also by a link. The umask says who may read the file.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(header)
            for _, tensor in tensors:
                file.write(_bytes(tensor))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _beginning(target: Path) -> str:
    """What the names of all temporary files of a path begin with; it is short, however long the path's name is."""
    return f".skcvae-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}-"


def _remove_leftovers(target: Path) -> None:
    """Remove temporary files of writers that were killed."""
    with contextlib.suppress(OSError):
        with os.scandir(target.parent) as entries:
            names = [entry.path for entry in entries if entry.name.startswith(_beginning(target)) and entry.name.endswith(".part")]
        for temporary in names:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


class _File:
    """A file that is read, and what is said of it where it cannot be."""

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        self.path, self.kind, self.name = Path(path), kind, repr(os.fspath(path))
        self.stem, _, self.version = kind.rpartition(" ")
        self.remedy = REMEDIES.get(self.stem.rpartition(" ")[2], "Give another path.")

    def damaged(self, why: str) -> ValueError:
        """The error of a file that is not as it was written."""
        return ValueError(f"{self.name} is damaged: {why.rstrip('.')}. Use an undamaged copy. {self.remedy}")

    def foreign(self) -> ValueError:
        """The error of a file that another program wrote."""
        return ValueError(f"{self.name} is no file of skcvae: it does not begin as one, or its beginning is damaged. {self.remedy}")

    def other(self, kind: str) -> ValueError:
        """The error of another kind of file, or of another version."""
        if kind.rpartition(" ")[0] != self.stem:
            return ValueError(f"{self.name} is a {kind!r}, and a {self.kind!r} is expected. {self.remedy}")
        return ValueError(
            f"{self.name} is a {kind!r}, and this version of skcvae reads a {self.kind!r}. Load it with the version of skcvae that "
            f"wrote it. {self.remedy}"
        )

    def checked_bytes(self) -> bytes:
        """All bytes, once the checksum is verified."""
        found = self._stat()
        if not stat.S_ISREG(found.st_mode):
            raise self.foreign()
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(max(CHECKSUM.stop, 200))
            self._check_start(start, size)
            file.seek(0)
            data = file.read(size)
        digest = hashlib.sha256(data[: CHECKSUM.start] + BLANK)
        digest.update(memoryview(data)[CHECKSUM.stop :])
        if digest.hexdigest().encode() != data[CHECKSUM]:
            raise self.damaged("its bytes do not agree with its checksum")
        return data

    def metadata(self, data: bytes) -> dict[str, Any]:
        """The header's metadata, once the kind is verified."""
        try:
            metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise self.damaged("its header is not as skcvae writes it") from error
        kind = metadata.get("kind") if isinstance(metadata, dict) else None
        if not isinstance(kind, str) or not isinstance(metadata.get("content"), str):
            raise self.damaged("its header is not as skcvae writes it")
        if kind != self.kind:
            raise self.other(kind)
        return metadata

    def content(self, metadata: dict[str, Any]) -> Any:
        """The plain data."""
        try:
            return json.loads(metadata["content"], object_hook=_number_or_dictionary, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise self.damaged("its content is not as skcvae writes it") from error

    def tensor(self, name: str, entry: dict[str, Any]) -> Tensor:
        """One tensor, in memory that torch has laid out."""
        if entry["dtype"] not in DTYPES:
            raise self.damaged(f"the numbers of {name!r} are of an unknown type, {entry['dtype']!r}")
        dtype = DTYPES[entry["dtype"]]
        try:
            if not entry["data"]:
                return torch.empty(entry["shape"], dtype=dtype)
            held = torch.uint8 if dtype == torch.bool else dtype
            return torch.frombuffer(entry["data"], dtype=held).reshape(entry["shape"]).to(dtype, copy=True)
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise self.damaged(f"{name!r} has an impossible shape") from error

    def _stat(self) -> os.stat_result:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no file {self.name}. {self.remedy}") from None
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{self.name} is a folder. {self.remedy}")
        return found

    def _check_start(self, start: bytes, size: int) -> None:
        """ValueError unless a file of this size may begin like this."""
        if start[8 : CHECKSUM.start] != START:
            first = FIRST_VERSION.search(start)
            if first is None:
                raise self.damaged("it is empty") if size == 0 else self.foreign()
            raise self.other("skcvae checkpoint 1" if first[1] else "skcvae model 1")
        if int.from_bytes(start[:8], "little") > min(MOST_HEADER, size - 8):
            raise self.damaged("it ends within its header, or says a wrong length of it")


def _number_or_dictionary(found: dict[str, Any]) -> Any:
    if found.keys() != {"float"}:
        return found
    if not isinstance(found["float"], str) or found["float"] not in NOT_FINITE:
        raise ValueError(f"{found!r} is no number")
    return NOT_FINITE[found["float"]]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
