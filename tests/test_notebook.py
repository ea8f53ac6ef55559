"""docs/run_in_colab.ipynb runs from top to bottom, and is in git without outputs."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
from conftest import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "run_in_colab.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
# The settings of the recipe, for a test that takes a minute.
QUICK = """
RECIPES["sample"] = replace(
    RECIPES["sample"],
    image_size=64,
    views=1,
    phases=tuple(replace(phase, epochs=1) for phase in RECIPES["sample"].phases),
)
"""


def test_notebook_is_in_git_without_outputs():
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_notebook_runs_the_commands_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^!(python \w.*\.py.*)$", "\n".join(CODE), re.MULTILINE)
    scripts = {shlex.split(command)[1] for command in commands}
    assert scripts >= {"build_dataset.py", "extract_features.py", "train.py", "predict.py"}
    for command in commands:
        assert command.replace("--explain ", "") in readme


def copy_of_the_project(folder):
    """Copy the project, with quick settings, to a new git repository. Return its folder."""
    files = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(files, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.strip("\0").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    config = folder / "pyimagesearch" / "config.py"
    config.write_text(config.read_text(encoding="utf-8") + QUICK, encoding="utf-8")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "copy"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.mark.soak
def test_notebook_runs_from_top_to_bottom_in_a_new_clone(tmp_path):
    import nbclient
    import nbformat

    repository = copy_of_the_project(tmp_path / "repository")
    notebook = nbformat.reads(json.dumps(NOTEBOOK), as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        cell.source = cell.source.replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')
    (tmp_path / "notebooks").mkdir()
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": tmp_path / "notebooks"}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "[ERROR]" not in printed
    assert "dataset/sample/evaluation/Fruit/2_E013.jpg" in printed
    pictures = [output for output in outputs if "image/png" in output.get("data", ())]
    assert len(pictures) == "\n".join(CODE).count("display(Image(")
