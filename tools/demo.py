"""The whole road on real photos: fetch, sort, extract, train both ways, predict.

    make demo

Runs the same commands a user types, one after the other, and ends with a table of the results.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A script in tools/ finds the project that it belongs to.
sys.path.insert(0, str(ROOT))

from pyimagesearch import config, console  # noqa: E402
from pyimagesearch.recipe import METHODS  # noqa: E402


def main(argv=None):
    console.Parser(description=__doc__.splitlines()[0]).parse_args(argv)
    clock = console.Stopwatch()
    python("tools/get_weights.py")
    recipe = python("tools/get_sample.py", keep_output=True).split()[-1]
    python("build_dataset.py", "--recipe", recipe)
    python("extract_features.py", "--recipe", recipe)
    for method in METHODS:
        python("train.py", "--recipe", recipe, "--method", method)
    photo = first_photo(recipe)
    for method in METHODS:
        python("predict.py", "--recipe", recipe, "--method", method, "--image", photo)
    console.show(table(recipe))
    console.info(f"the demo took {clock}")


def first_photo(recipe):
    """Return the first evaluation photo, the way a user would type its path."""
    from pyimagesearch import images

    evaluation = ROOT / config.DATASET_DIR / recipe / config.TEST
    return shown(next(filter(images.is_photo, sorted(evaluation.rglob("*")))))


def shown(path):
    """Return a path as a user in the project's folder would type it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def python(script, *arguments, keep_output=False):
    """Run a script of this project as a user would; stop the demo where it fails."""
    command = [script, *map(str, arguments)]
    print(f"\n$ python {shlex.join(command)}", file=sys.stderr, flush=True)
    output = subprocess.PIPE if keep_output else None
    command = [sys.executable, *command]
    result = subprocess.run(command, cwd=ROOT, stdout=output, text=True, check=False)
    if result.returncode:
        sys.exit(result.returncode)
    return result.stdout


def table(recipe):
    """Return what both methods scored, how long each took, and where it is to be seen."""
    folder = ROOT / config.OUTPUT_DIR / recipe
    lines = ["", f"{'method':<22}{'accuracy':>9}{'seconds':>9}"]
    for method in METHODS:
        metrics = json.loads((folder / method / "metrics.json").read_text())
        seconds = metrics["seconds"] + metrics.get("feature_seconds", 0)
        lines.append(f"{method:<22}{metrics['accuracy']:>9.3f}{seconds:>9.0f}")
    made = *sorted(folder.rglob("report.html")), *sorted(folder.glob("predictions/*.png"))
    return "\n".join([*lines, "", "open in a browser:", *(f"  {shown(each)}" for each in made)])


if __name__ == "__main__":
    console.run(main)
