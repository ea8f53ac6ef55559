"""tools/environment.py makes .venv with any Python, and installs only what has changed."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

TOOLS = ("environment.py", "demo.py", "test.py")


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Import tools/environment.py for a project with two requirements files, in this folder."""
    monkeypatch.syspath_prepend(ROOT)
    from tools import environment

    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "FOLDER", tmp_path / ".venv")
    monkeypatch.setattr(environment, "PYTHON", tmp_path / ".venv" / "python")
    monkeypatch.delenv("PYTHON", raising=False)
    Path("requirements.txt").write_text("one==1\n")
    Path("requirements-dev.txt").write_text("-r requirements.txt\ntwo==2\n")
    Path("constraints.txt").write_text("one==1\ntwo==2\n")
    return environment


@pytest.fixture
def commands(environment, monkeypatch):
    """Let every command succeed; return the list of those that are run."""
    ran = []

    def call(command, **_):
        ran.append(command)
        if "venv" in command:
            environment.FOLDER.mkdir(exist_ok=True)
            environment.PYTHON.touch()
        return 0

    def version_of(command):
        path = Path(command[0])
        return sys.version_info[:2] if path.is_file() or path == Path(sys.executable) else None

    def execv(path, command):
        assert path == command[0]
        sys.exit(call(command))

    monkeypatch.setattr(environment.os, "execv", execv)
    monkeypatch.setattr(environment.subprocess, "call", call)
    monkeypatch.setattr(environment, "version_of", version_of)
    return ran


def installs(commands):
    """Return the names of the requirements files that pip has installed."""
    return [Path(command[-1]).name for command in commands if "install" in command]


@pytest.mark.parametrize("name", TOOLS)
def test_what_runs_before_the_environment_exists_is_valid_in_old_pythons(name):
    ast.parse((ROOT / "tools" / name).read_text(), feature_version=(3, 7))


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
@pytest.mark.parametrize("changed", ["requirements.txt", "constraints.txt"])
def test_packages_are_installed_again_only_when_the_requirements_or_versions_change(
    environment, commands, name, changed
):
    environment.prepare(name)
    # The packages of an included file have been installed with the others.
    environment.prepare("requirements.txt")
    assert installs(commands) == [name]
    Path(changed).write_text("one==2\n")
    environment.prepare(name)
    assert installs(commands) == [name] * 2


def test_environment_is_made_again_only_if_its_python_does_not_work(environment, commands):
    environment.prepare("requirements.txt")
    environment.prepare("requirements-dev.txt")
    environment.PYTHON.unlink()
    environment.prepare("requirements-dev.txt")
    made = [command[0] for command in commands if "venv" in command]
    assert made == [sys.executable] * 2


@pytest.mark.parametrize("system", ["posix", "nt"])
def test_command_is_run_again_in_the_environment_with_its_arguments(
    environment, commands, monkeypatch, system
):
    monkeypatch.setattr(environment, "os", SimpleNamespace(**{**vars(os), "name": system}))
    monkeypatch.setattr(sys, "argv", ["tools/test.py", "-k", "a b"])
    with pytest.raises(SystemExit) as ended:
        environment.use("requirements.txt")
    assert ended.value.code == 0
    assert commands[-1] == [str(environment.PYTHON), "tools/test.py", "-k", "a b"]
    monkeypatch.setattr(sys, "prefix", str(environment.FOLDER))
    environment.use("requirements.txt")


def test_ctrl_c_during_the_installation_says_how_to_continue(environment, commands, monkeypatch):
    def interrupt(command, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(environment.subprocess, "call", interrupt)
    with pytest.raises(SystemExit, match="Run the same command again to continue"):
        environment.prepare("requirements.txt")


@pytest.mark.parametrize("chosen", [None, "no-such-python"])
def test_no_python_that_tensorflow_supports_is_one_error(environment, monkeypatch, chosen):
    monkeypatch.setattr(environment, "version_of", lambda command: (3, 9))
    with pytest.raises(SystemExit) as ended:
        environment.find_python(chosen)
    message = ended.value.code
    assert message.startswith("[ERROR] This project needs Python 3.11, 3.12, 3.13. ")
    assert ("PYTHON is no-such-python" in message) == (chosen is not None)


def test_newest_python_is_taken_if_the_running_one_is_too_old(environment, monkeypatch):
    versions = {"py -3.13": (3, 13), "python3.12": (3, 12)}
    monkeypatch.setattr(environment, "version_of", lambda each: versions.get(" ".join(each)))
    assert environment.find_python() == ["py", "-3.13"]
    del versions["py -3.13"]
    assert environment.find_python() == ["python3.12"]


def test_version_of_a_command_that_does_not_exist_or_fails_is_none(environment):
    assert environment.version_of([sys.executable]) == sys.version_info[:2]
    assert environment.version_of([sys.executable, "no_such_file.py"]) is None
    assert environment.version_of(["no-such-python"]) is None


@pytest.mark.soak
def test_any_tool_makes_the_environment_and_runs_in_it(tmp_path):
    Path("tools").mkdir()
    shutil.copy(ROOT / "tools" / "environment.py", "tools")
    Path("requirements.txt").write_text("# no packages\n")
    Path("constraints.txt").touch()
    Path("tools/tool.py").write_text(
        "import sys\nsys.path.insert(0, '.')\nfrom tools import environment\n"
        "environment.use('requirements.txt')\nprint(sys.prefix, sys.argv[1:])\n"
    )
    # Make passes the variable on, empty.
    variables = {**os.environ, "PYTHON": ""}
    command = [sys.executable, "tools/tool.py", "a b"]
    for is_first in (True, False):
        result = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
        assert result.stdout == f"{tmp_path / '.venv'} ['a b']\n"
        assert ("installing" in result.stderr) == is_first
