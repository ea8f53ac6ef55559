"""Read the fenced blocks of the README and the docs, and run the commands in them."""

import glob
import re
import shlex

from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")

# A test cannot create the environment that it runs in. `make setup` runs the same commands, and
# `make test` depends on it.
SETUP_COMMANDS = ("python3 -m venv", "source ", "pip install -r requirements.txt")


def read_page(path):
    """Return the text of a page, given by its path in the project."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(language, text=README):
    """Return the contents of the fenced blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def table_rows(text, header):
    """Return the rows below a table's header line, each a list of cells."""
    lines = text.split(f"{header}\n")[1].split("\n\n")[0].splitlines()
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in lines[1:]
    ]


def commands(text=README):
    """Return the shell commands of a page without comments and without SETUP_COMMANDS."""
    lines = "".join(blocks("bash", text)).splitlines()
    lines = [line.split(" #")[0].strip() for line in lines]
    return [line for line in lines if line and not line.startswith(SETUP_COMMANDS)]


def run_all(script, text=README):
    """Run the Python commands of a page in order; return {command: (stdout, stderr)}."""
    printed = {}
    for command in commands(text):
        if command.startswith("make "):
            continue
        python, path, *arguments = shlex.split(command)
        assert python == "python"
        assert (ROOT / path).is_file()
        status, out, err = script(path.removesuffix(".py").replace("/", "."), *expand(arguments))
        assert status == 0, f"{command}: {err}"
        printed[command] = out, err
    return printed


def expand(arguments):
    """Expand file name patterns as a shell does; leave an argument that matches no file."""
    return [name for argument in arguments for name in sorted(glob.glob(argument)) or [argument]]
