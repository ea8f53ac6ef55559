"""Run all four scripts on real photos: download, sort, extract, train by both methods, predict.

    python tools/demo.py

Installs the packages into .venv first, unless they are there. Then runs the commands that a user
types, one after the other. Ends with a table of the results.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Scripts in tools/ import the package of the project that they belong to.
sys.path.insert(0, str(ROOT))

from tools import environment  # noqa: E402

if __name__ == "__main__":
    environment.use(environment.BASIC)

from pyimagesearch.recipe import METHODS  # noqa: E402
from pyimagesearch.support import console  # noqa: E402


def main(argv=None):
    console.Parser(__doc__).parse_args(argv)
    clock = console.Stopwatch()
    python("tools/get_weights.py")
    # Without npm there are no food photos. The last line printed names the recipe to use.
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


def python(script, *arguments, keep_output=False):
    """Run a script of this project in a new process, from the project's folder.

    If the script fails, the demo ends with the script's exit status.

    Args:
        script: its path in the project.
        *arguments: its command-line arguments.
        keep_output: return what the script writes to stdout instead of printing it.
    """
    command = [script, *map(str, arguments)]
    print(f"\n$ python {shlex.join(command)}", file=sys.stderr, flush=True)
    stdout = subprocess.PIPE if keep_output else None
    command = [sys.executable, *command]
    result = subprocess.run(command, cwd=ROOT, stdout=stdout, text=True, check=False)
    if result.returncode:
        sys.exit(result.returncode)
    return result.stdout


def first_photo(recipe):
    """Return the path of the first evaluation photo of a recipe's dataset."""
    from pyimagesearch import config
    from pyimagesearch.support import photo_files

    evaluation = ROOT / config.DATASET_DIR / recipe / config.TEST
    return relative(next(filter(photo_files.is_photo, sorted(evaluation.rglob("*")))))


def relative(path):
    """Return a path relative to the project's folder, or unchanged if it is not in there."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def table(recipe):
    """Return the accuracy and training time of both methods and the files to look at, as text."""
    from pyimagesearch import config
    from pyimagesearch.report import intervals

    folder = ROOT / config.OUTPUT_DIR / recipe
    lines = ["", f"{'method':<22}{'accuracy':>9}{'95 % interval':>16}{'seconds':>9}"]
    for method in METHODS:
        metrics = json.loads((folder / method / "metrics.json").read_text(encoding="utf-8"))
        accuracy, count = metrics["accuracy"], metrics["photos"]["evaluation"]
        interval = intervals.interval_text(accuracy, count)
        seconds = metrics["seconds"] + metrics.get("feature_seconds", 0)
        lines.append(f"{method:<22}{accuracy:>9.3f}{interval:>16}{seconds:>9.0f}")
    always = intervals.baseline(metrics["classes"])["accuracy"]
    lines.append(f"{'most frequent class':<22}{always:>9.3f}")
    results = *sorted(folder.glob("*/report.html")), *sorted(folder.glob("predictions/*.png"))
    lines += ["", "open in a browser:", *(f"  {relative(path)}" for path in results)]
    return "\n".join(lines)


if __name__ == "__main__":
    console.run(main)
