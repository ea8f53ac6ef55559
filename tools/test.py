"""Run the tests, in the project's virtual environment; make that first if there is none.

    python tools/test.py
    python tools/test.py -m soak               the slow tests: kills, races and big sizes
    python tools/test.py tests/test_recipe.py

All arguments are passed on to pytest.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import environment  # noqa: E402


def main(arguments):
    """Fetch the weights that the tests need, then run pytest. Return its exit status."""
    weights = [sys.executable, str(ROOT / "tools" / "get_weights.py")]
    return subprocess.call(weights, cwd=ROOT) or subprocess.call(
        [sys.executable, "-m", "pytest", *arguments], cwd=ROOT
    )


if __name__ == "__main__":
    try:
        environment.use("requirements-dev.txt")
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\n[INFO] stopped")
