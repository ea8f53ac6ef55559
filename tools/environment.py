"""Make the project's virtual environment, .venv, and install the packages into it.

    python tools/environment.py                          the packages of the scripts
    python tools/environment.py requirements-dev.txt     those of the tests too

Any Python 3 on Linux, macOS or Windows can run this file: it uses the standard library alone. It
finds a Python that TensorFlow supports. To choose one, set PYTHON to its path. Packages that are
installed already are not installed again until the requirements change.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv"
PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
SUPPORTED = ((3, 11), (3, 12), (3, 13))  # by TensorFlow 2.21
BASIC = "requirements.txt"
VERSIONS = "constraints.txt"  # the exact version of every package


def use(requirements):
    """Go on in the virtual environment: make it if needed, and run the same command again in it.

    `requirements` is the file of the packages that the command needs.
    """
    is_inside = Path(sys.prefix).resolve() == FOLDER.resolve()
    if is_inside and is_ready(requirements):
        return
    prepare(requirements)
    command = [str(PYTHON), *sys.argv]
    if os.name == "nt":  # the shell would not wait for a program that execv starts
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)


def prepare(requirements):
    """Make .venv if there is none that works, and install the packages of a requirements file."""
    chosen = os.environ.get("PYTHON")
    version = version_of([str(PYTHON)])
    if version not in SUPPORTED or (chosen and version_of([chosen]) != version):
        run([*find_python(chosen), "-m", "venv", "--clear", str(FOLDER)])
    if is_ready(requirements):
        return
    print(f"[INFO] installing {requirements} into .venv, a minute or more", file=sys.stderr)
    pip = [str(PYTHON), "-m", "pip"]
    if subprocess.call([*pip, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        run([str(PYTHON), "-m", "ensurepip"])
    options = ["--quiet", "--disable-pip-version-check", "-c", str(ROOT / VERSIONS)]
    run([*pip, "install", *options, "-r", str(ROOT / requirements)])
    for name in (requirements, *included(requirements)):
        stamp_of(name).write_text(digest(name))


def is_ready(requirements):
    """Return True if these packages have been installed since the requirements last changed."""
    stamp = stamp_of(requirements)
    return PYTHON.is_file() and stamp.is_file() and stamp.read_text() == digest(requirements)


def stamp_of(requirements):
    """Return the file that is written after the packages of a requirements file are installed."""
    return FOLDER / f"installed-{requirements}"


def included(requirements):
    """Return the requirements files that another one includes."""
    lines = (ROOT / requirements).read_text(encoding="utf-8").splitlines()
    return [line.split()[1] for line in lines if line.startswith("-r ")]


def digest(requirements):
    """Return the SHA-256 of a requirements file, of those that it includes, and of VERSIONS."""
    names = (requirements, *included(requirements), VERSIONS)
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in names)).hexdigest()


def find_python(chosen=None):
    """Return the command of a Python that TensorFlow supports; end the program if there is none.

    `chosen` is the only one that is considered, if it is given.
    """
    commands = [[chosen]]
    if not chosen:
        commands = [[sys.executable], ["python3"], ["python"]]
        for major, minor in reversed(SUPPORTED):
            # The second one is that of Windows.
            commands += [[f"python{major}.{minor}"], ["py", f"-{major}.{minor}"]]
    for command in commands:
        if version_of(command) in SUPPORTED:
            return command
    versions = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
    found = f"PYTHON is {chosen}, which is none of them" if chosen else "None of them was found"
    sys.exit(
        f"[ERROR] This project needs Python {versions}. {found}. Install one, or set the variable "
        f"PYTHON to its path"
    )


def version_of(command):
    """Return the (major, minor) version of the Python that a command runs, or None."""
    if shutil.which(command[0]) is None:
        return None
    code = "import sys; print(*sys.version_info[:2])"
    result = subprocess.run([*command, "-c", code], capture_output=True, text=True, check=False)
    return tuple(map(int, result.stdout.split())) if result.returncode == 0 else None


def run(command):
    """Run a command; end the program with its status if it fails."""
    try:
        status = subprocess.call(command)
    except KeyboardInterrupt:
        sys.exit("\n[INFO] stopped. Run the same command again to continue")
    if status:
        print(f"[ERROR] this command failed: {' '.join(command)}", file=sys.stderr)
        sys.exit(status)


if __name__ == "__main__":
    if sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    prepare((sys.argv[1:] or [BASIC])[0])
