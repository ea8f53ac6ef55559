"""The shape of the code: which modules there are, what imports what, and how long things are."""

import ast

import pytest
from conftest import ROOT

SCRIPTS = ("build_dataset", "extract_features", "train", "predict")
# The first level of pyimagesearch/. A module imports only modules that are further up in this list.
# For a reader, config.py comes before recipe.py and datasets.py before images.py.
MODULES = (
    *("recipe", "config", "images", "datasets", "networks", "frozen"),
    *("batches", "features", "regression", "training", "checkpoint", "classifier"),
)
FOLDERS = ("report", "support")
# Short words with several meanings.
FORBIDDEN_NAMES = {"of", "done", "held", "ask"}


def module_name(path):
    """Return "train", "frozen" or "support.files"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[parts[0] == "pyimagesearch" :])


PATHS = [ROOT / f"{name}.py" for name in SCRIPTS] + [
    path for path in sorted((ROOT / "pyimagesearch").rglob("*.py")) if path.stem != "__init__"
]
TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in PATHS}


def imports(tree):
    """Return {name in this code: module of the project} of all imports, also inside functions.

    A function or class counts as its module, under a name with a colon.
    """
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        package, *rest = node.module.split(".")
        if package != "pyimagesearch":
            continue
        for alias in node.names:
            inner = ".".join([*rest, alias.name])
            if inner in TREES:
                found[alias.asname or alias.name] = inner
            else:
                found[f"{'.'.join(rest)}:{alias.name}"] = ".".join(rest)
    return found


IMPORTS = {name: set(imports(tree).values()) for name, tree in TREES.items()}


def level(name):
    """Return how far up a module is: scripts, report/, the first level from its end, support/."""
    order = ("support", *MODULES, "report", "script")
    return order.index("script" if name in SCRIPTS else name.split(".")[0])


def functions(tree):
    """Return the functions and methods in some code."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def with_visible_modules(tree):
    """Yield (function, names under which it can use modules of the project)."""
    at_the_top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    for function in functions(tree):
        code = ast.Module([*at_the_top, *function.body], [])
        yield function, {name for name in imports(code) if ":" not in name}


# Modules


def test_first_level_of_the_package_has_exactly_these_twelve_modules():
    found = {path.stem for path in (ROOT / "pyimagesearch").glob("*.py")}
    assert found == {*MODULES, "__init__"}
    assert len(MODULES) == 12
    folders = {path.parent.name for path in (ROOT / "pyimagesearch").glob("*/*.py")}
    assert folders == set(FOLDERS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_has_at_most_130_lines(name):
    assert len((ROOT / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("name", TREES)
def test_function_has_at_most_40_lines(name):
    lengths = {each.name: each.end_lineno - each.lineno + 1 for each in functions(TREES[name])}
    assert {each: length for each, length in lengths.items() if length > 40} == {}


# Imports


def test_imports_are_found_at_the_top_and_inside_functions():
    """Otherwise the tests below would find nothing wrong in anything."""
    assert {"config", "frozen", "report.evaluation", "support.console"} <= IMPORTS["train"]
    assert "networks" in IMPORTS["frozen"]
    assert all(name in TREES for found in IMPORTS.values() for name in found)


@pytest.mark.parametrize("name", TREES)
def test_modules_are_imported_with_from(name):
    """Neither `import pyimagesearch.frozen` nor `from . import frozen`, which `imports` ignores."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            assert not [alias for alias in node.names if alias.name.startswith("pyimagesearch")]
        assert not isinstance(node, ast.ImportFrom) or node.level == 0


@pytest.mark.parametrize("name", TREES)
def test_modules_can_be_imported_on_windows(name):
    """Python has these modules on Linux and macOS only."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
            assert not names & {"fcntl", "grp", "pwd", "resource", "termios"}


def test_imports_have_no_circle():
    without_imports, rest = set(), dict(IMPORTS)
    while free := [name for name, found in rest.items() if found <= without_imports]:
        without_imports.update(free)
        rest = {name: found for name, found in rest.items() if name not in free}
    assert rest == {}


@pytest.mark.parametrize("name", TREES)
def test_imports_go_one_way(name):
    """Scripts import report/, which imports the first level, and everything imports support/."""
    if name in (*SCRIPTS, *MODULES):
        wrong = {other for other in IMPORTS[name] if level(other) >= level(name)}
    else:
        # Modules of a folder may import each other. The test above forbids circles.
        wrong = {other for other in IMPORTS[name] if level(other) > level(name)}
    assert wrong == set()


def test_recipe_imports_only_the_error_class():
    assert IMPORTS["recipe"] == {"support.errors"}


# Names and arguments


@pytest.mark.parametrize("name", TREES)
def test_no_function_has_a_name_with_several_meanings(name):
    assert {each.name for each in functions(TREES[name])} & FORBIDDEN_NAMES == set()


@pytest.mark.parametrize("name", TREES)
def test_no_module_is_passed_as_an_argument(name):
    for function, modules in with_visible_modules(TREES[name]):
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            # getattr(config, name) passes nothing on but the value of one setting.
            if ast.unparse(call.func) != "getattr":
                values = [*call.args, *(keyword.value for keyword in call.keywords)]
                passed = {value.id for value in values if isinstance(value, ast.Name)}
                assert passed & modules == set(), ast.unparse(call)


@pytest.mark.parametrize("name", TREES)
def test_no_function_changes_a_global_of_a_module(name):
    for function, modules in with_visible_modules(TREES[name]):
        for node in ast.walk(function):
            assert not isinstance(node, ast.Global)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                assert ast.unparse(node.value) not in modules, ast.unparse(node)
