"""benchmarks/torch_environment.py installs PyTorch once, apart from this project's packages."""

import importlib

import pytest
from conftest import ROOT

from pyimagesearch.support.errors import UserError


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("torch_environment")


@pytest.fixture
def commands(environment, monkeypatch):
    """Record the commands that install packages instead of running them. Return their list."""
    commands = []
    monkeypatch.setattr(environment.venv, "create", lambda folder, **_: folder.mkdir())
    monkeypatch.setattr(environment.subprocess, "call", lambda command: commands.append(command))
    return commands


def test_packages_are_installed_once_and_again_when_other_versions_are_wanted(
    environment, commands, tmp_path, monkeypatch
):
    folder = tmp_path / "torch_environment"
    python = environment.python_with_torch(folder)
    assert folder in python.parents
    assert environment.python_with_torch(folder) == python
    assert len(commands) == 1
    assert commands[0][0] == python
    assert set(environment.PACKAGES) < set(commands[0])
    monkeypatch.setattr(environment, "PACKAGES", ("torch==0",))
    (folder / "of the other versions").touch()
    environment.python_with_torch(folder)
    assert commands[1][-1] == "torch==0"
    assert not (folder / "of the other versions").exists()


def test_installation_that_fails_is_one_error_and_is_tried_again(
    environment, commands, tmp_path, monkeypatch
):
    monkeypatch.setattr(environment.subprocess, "call", lambda command: 1)
    for _ in range(2):
        with pytest.raises(UserError, match="PyTorch could not be installed"):
            environment.python_with_torch(tmp_path / "torch_environment")
