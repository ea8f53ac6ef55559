"""What the project's pages show in fenced blocks, and how their commands are run."""

import glob
import re
import shlex

from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")

# Cannot be tried inside a test; `make setup` does the same, and `make test` stands on it.
SETTING_UP = ("python3 -m venv", "source ", "pip install -r requirements.txt")


def blocks(language, text=README):
    """Return the contents of a page's fenced blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text=README):
    """Return a page's shell commands, without remarks."""
    lines = "".join(blocks("bash", text)).splitlines()
    lines = [line.split(" #")[0].strip() for line in lines]
    return [line for line in lines if line and not line.startswith(SETTING_UP)]


def run_all(script, text=README):
    """Run a page's Python commands in their order; return {command: (stdout, stderr)}."""
    printed = {}
    for command in commands(text):
        if command.startswith("make "):
            continue
        python, path, *arguments = shlex.split(command)
        assert python == "python"
        assert (ROOT / path).is_file()
        arguments = [name for each in arguments for name in sorted(glob.glob(each)) or [each]]
        status, out, said = script(path.removesuffix(".py").replace("/", "."), *arguments)
        assert status == 0, f"{command}: {said}"
        printed[command] = out, said
    return printed
