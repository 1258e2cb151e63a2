"""The minima of pyproject.toml are those that `make test-oldest` installs."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OLDEST = [Requirement(line) for line in (ROOT / "constraints-oldest.txt").read_text().splitlines()]
INSTALLED = {canonicalize_name(r.name): Version(str(r.specifier).removeprefix("==")) for r in OLDEST}


@pytest.mark.parametrize("declared", [*PROJECT["dependencies"], *EXTRAS["plot"], *EXTRAS["flows"], *EXTRAS["test"]])
def test_the_minimum_is_the_oldest_that_is_tested(declared):
    requirement = Requirement(declared)
    (minimum,) = (s.version for s in requirement.specifier if s.operator == ">=")
    assert INSTALLED[canonicalize_name(requirement.name)] == Version(minimum)
