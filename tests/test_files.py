"""The container of models and checkpoints: whole or not there, and nothing that it finds is trusted."""

import errno
import os
import stat

import numpy as np
import pytest
import torch
from conftest import QUICK

from skcvae import VAE, _files

KIND = "skcvae trial 1"
CONTENT = {"a": [1, 2.5, None, True, "text", float("inf"), float("-inf")], "b": {"c": {}}}
TENSORS = {
    "weights": torch.arange(6.0).reshape(2, 3),
    "double": torch.tensor([1e-300, torch.inf], dtype=torch.float64),
    "counts": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "nothing": torch.zeros(0, 3),
    "bytes": torch.arange(5, dtype=torch.uint8),
}


@pytest.fixture
def path(tmp_path):
    _files.write(tmp_path / "file", KIND, CONTENT, TENSORS)
    return tmp_path / "file"


def test_what_is_written_is_read(path):
    content, tensors = _files.read(path, KIND)
    assert content == CONTENT
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert os.listdir(path.parent) == ["file"]


def test_any_flipped_bit_is_found(path):
    """Every byte of the file: its length, header, padding and numbers."""
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"file.*(is damaged|is no file of skcvae)"):
            _files.read(path, KIND)


def test_any_truncation_is_found(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"file.*(is damaged|is no file of skcvae)"):
            _files.read(path, KIND)


def test_another_kind_or_version_is_told(path):
    with pytest.raises(ValueError, match=r"file.* is a 'skcvae trial 1', and this version of skcvae reads a 'skcvae trial 2'"):
        _files.read(path, "skcvae trial 2")
    with pytest.raises(ValueError, match=r"file.* is a 'skcvae trial 1', and a 'skcvae model 1' is expected"):
        _files.read(path, "skcvae model 1")


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as told:
        _files.write(path, KIND, {}, TENSORS)
    assert told.value.errno == errno.ENOSPC
    assert told.value.filename == str(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["file"]
    model = VAE(**QUICK).fit(np.random.default_rng(0).random((40, 3)))
    with pytest.raises(OSError, match="No space left on device") as told:
        model.save(path)
    assert told.value.filename == str(path)
    assert path.read_bytes() == before


def test_what_killed_writers_left_is_removed(path):
    left = [path.with_name(f"{_files._beginning(path)}{number}.part") for number in range(3)]
    other = path.with_name(f"{_files._beginning(path.with_name('other'))}0.part")
    for file in (*left, other):
        file.write_text("half")
    _files.write(path, KIND, {}, {})
    assert sorted(os.listdir(path.parent)) == sorted(["file", other.name])


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs links")
def test_a_link_is_not_followed(path, tmp_path, monkeypatch):
    """Neither at the path, which is replaced, nor at the temporary name, for which another is taken."""
    treasure = tmp_path / "treasure"
    treasure.write_text("precious")
    path.unlink()
    path.symlink_to(treasure)
    names = iter(["planted", "free"])
    path.with_name(f"{_files._beginning(path)}planted.part").symlink_to(treasure)
    monkeypatch.setattr(_files.secrets, "token_hex", lambda _: next(names))
    _files.write(path, KIND, CONTENT, {})
    assert treasure.read_text() == "precious"
    assert not path.is_symlink()
    assert _files.read(path, KIND)[0] == CONTENT


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_permissions_are_the_umask_s(tmp_path):
    before = os.umask(0o022)
    try:
        _files.write(tmp_path / "file", KIND, {}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("content", [{1: 2}, {"a": object()}, {"float": 1.0}, {"a": (1, 2)}])
def test_what_is_not_plain_is_refused(content, tmp_path):
    with pytest.raises((TypeError, ValueError), match="The content of a file"):
        _files.write(tmp_path / "file", KIND, content, {})
    assert os.listdir(tmp_path) == []


def test_a_file_with_a_right_checksum_may_still_lie(tmp_path):
    """Shapes beyond the bytes, overlapping tensors and unknown types: the container itself refuses them."""
    import hashlib
    import json

    path = tmp_path / "file"
    _files.write(path, KIND, {}, {"a": torch.zeros(4)})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    lies = [
        {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 10**12]},
        {"dtype": "F32"},
        None,
    ]
    for lie in lies:
        entries["a"], entries["__metadata__"]["sha256"] = lie, "0" * 64
        header = json.dumps(entries, separators=(",", ":")).encode()
        made = bytearray(len(header).to_bytes(8, "little") + header + rest)
        made[_files.CHECKSUM] = hashlib.sha256(bytes(made)).hexdigest().encode()
        path.write_bytes(made)
        with pytest.raises(ValueError, match=r"file.*is damaged"):
            _files.read(path, KIND)
