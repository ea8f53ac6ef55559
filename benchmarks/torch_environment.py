"""The environment of torch_port.py: PyTorch's packages, apart from this project's.

race.py makes it when its PyTorch figures are wanted. It takes 1.1 GB.
"""

import platform
import shutil
import subprocess
import sys
import venv

from pyimagesearch.support import console, files

# The build for CPUs: PyPI's own build for Linux brings several gigabytes for GPUs.
TORCH = "torch==2.13.0+cpu" if platform.system() == "Linux" else "torch==2.13.0"
PACKAGES = (TORCH, "torchvision==0.28.0", "h5py==3.16.0")
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"


def python_with_torch(folder):
    """Return the path of the Python of an environment; make it in that folder first if needed.

    Raises UserError if the packages cannot be installed.
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = folder / "installed.json"
    if files.read_json(stamp, list) == list(PACKAGES):
        return python
    console.info(f"installing {', '.join(PACKAGES)} into {folder}, 1.1 GB")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--retries", "1"]
    if subprocess.call([*pip, "--extra-index-url", CPU_BUILDS, *PACKAGES]):
        raise console.UserError(f"PyTorch could not be installed from PyPI and {CPU_BUILDS}")
    files.write_json(stamp, PACKAGES)
    return python
