"""Every package that is imported is in the requirements, and constraints.txt has its version."""

import ast
import re
from importlib import metadata

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OPTIONAL = ("requirements-extras.txt", "requirements-cluster.txt")
FILES = ("requirements.txt", *OPTIONAL, "requirements-dev.txt")
SCRIPTS = ("*.py", "pyimagesearch/**/*.py", "tools/*.py")
# What they are for, since no file of the project imports them.
NOT_IMPORTED = {
    "backports-strenum": "ai-edge-litert imports it",
    "codespell": "a program",
    "ipykernel": "started by nbclient",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a program",
}


def lines(name):
    """Return the lines of a requirements file without comments and included files."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith(("#", "-r"))]


def requirements(*names):
    """Return {name of the package: Requirement} of the lines for this system in these files."""
    found = [Requirement(line.split(" #")[0]) for name in names for line in lines(name)]
    found = [each for each in found if each.marker is None or each.marker.evaluate()]
    return {canonicalize_name(each.name): each for each in found}


def imported_packages(*patterns):
    """Return the names of the packages whose modules the matching files import."""
    modules = set()
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module.partition(".")[0])
    packages = metadata.packages_distributions()
    found = [name for module in modules for name in packages.get(module, ())]
    return set(map(canonicalize_name, found))


def test_scripts_import_no_package_that_is_not_in_the_requirements():
    imported = imported_packages(*SCRIPTS)
    assert len(imported) > 10
    assert imported <= set(requirements("requirements.txt", *OPTIONAL))


def test_every_requirement_is_imported_or_has_a_reason_here():
    imported = imported_packages(*SCRIPTS, "benchmarks/*.py", "tests/*.py")
    required = set(requirements(*FILES))
    assert imported - required == set()
    assert required - imported == set(NOT_IMPORTED)


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_says_what_it_is_for(name):
    for line in lines(name):
        assert re.search(r"  # \w.{4,}", line), line


def test_exact_versions_are_within_the_ranges():
    exact = requirements("constraints.txt")
    for name, requirement in requirements(*FILES).items():
        (version,) = (each.version for each in exact[name].specifier)
        assert requirement.specifier.contains(version), name


def with_all_they_need(names):
    """Return the names of packages and of all that they need on this system."""
    found, waiting = set(), set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        needed = map(Requirement, metadata.requires(name) or ())
        here = (each for each in needed if not each.marker or each.marker.evaluate({"extra": ""}))
        waiting |= {canonicalize_name(each.name) for each in here} - found
    return found


def test_every_installed_package_has_its_exact_version():
    installed, exact = with_all_they_need(requirements(*FILES)), requirements("constraints.txt")
    assert len(installed) > 100
    for name in installed:
        assert exact[name].specifier.contains(metadata.version(name)), name
