"""Imports only point down: the table of CONTRIBUTING.md, checked from the syntax trees."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skcvae"
ROWS = [
    ["__init__"],
    ["_coupled", "_vae", "_wae", "_infovae"],
    ["display"],
    ["_autoencoder"],
    ["_base", "metrics", "datasets"],
    ["_fitting"],
    ["_phases"],
    ["_amortise", "_persistence"],
    ["_training", "_callbacks", "_fitted"],
    ["_data", "objectives", "posteriors"],
    ["priors", "likelihoods", "transport", "divergences"],
    ["networks", "_pot", "schedule"],
    ["_context"],
    ["_kernels", "_checkpoint", "_random", "_place"],
    ["_files"],
    ["_checks", "_threads"],
    ["_memory"],
]
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
