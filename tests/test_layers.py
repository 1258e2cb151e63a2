"""Imports only point down: the table of CONTRIBUTING.md, checked from the syntax trees."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from skcvae import CoupledVAE, _kernels, _memory
from skcvae.schedule import Schedule

PACKAGE = Path(__file__).parents[1] / "skcvae"
TABLE = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
#: Rooms of each row of the table, from the highest to the lowest.
ROWS = [re.findall(r"`(\w+)`", rooms) for rooms in re.findall(r"^\| \d+ \| ([^|]*) \|", TABLE, re.MULTILINE)]
FILES = sorted(PACKAGE.rglob("*.py"))
LEVEL = {room: -row for row, rooms in enumerate(ROWS) for room in rooms}


def imports(path):
    """Names of modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    """A file's room: its name, or its folder's."""
    return path.stem if path.parent == PACKAGE else path.parent.name


def rooms(path):
    """Rooms of the package that a file imports."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("skcvae.")}
    return names & set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = room_of(path)
    assert own in LEVEL, f"{own} has no row in the table of layers"
    assert all(LEVEL[room] < LEVEL[own] for room in rooms(path) - {own})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_adapter_imports_pot(path):
    assert path.stem == "_pot" or "ot" not in {name.split(".")[0] for name in imports(path)}


def test_kernels_know_no_numpy_and_no_classes():
    path = PACKAGE / "_kernels.py"
    assert not any(name.startswith("numpy") for name in imports(path))
    assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(path.read_text())))


@pytest.mark.parametrize("path", sorted((PACKAGE / "datasets").glob("*.py")), ids=lambda p: p.stem)
def test_datasets_know_no_torch_and_no_model(path):
    assert rooms(path) <= {"datasets", "_checks", "_random"}
    assert not any(name.startswith("torch") for name in imports(path))


def test_a_row_passes_six_frames_to_the_kernel():
    """From `transform` to `_kernels.attend`, both among them."""
    X, depths = np.random.default_rng(0).normal(size=(50, 3)), []
    model = CoupledVAE(hidden_layer_sizes=(4,), max_iter=5, schedule=Schedule(polish_rounds=0, max_draws=4096), random_state=0).fit(
        X
    )
    transform, attend = CoupledVAE.transform.__wrapped__.__code__, _kernels.attend.__code__

    def profile(frame, event, _):
        if event == "call" and frame.f_code is attend:
            codes = []
            while frame.f_code is not transform:
                codes.append(frame.f_code)
                frame = frame.f_back
            if _memory.in_blocks.__code__ in codes:  # others look at some rows' effective sample size
                depths.append(len(codes) + 1)

    sys.setprofile(profile)
    try:
        model.transform(X)
    finally:
        sys.setprofile(None)
    assert depths
    assert max(depths) <= 6
