"""Where the weights of a backbone come from, and what to do if they cannot be loaded."""

import warnings
from contextlib import contextmanager
from pathlib import Path

from pyimagesearch.support import files
from pyimagesearch.support.errors import UserError

FOLDER = Path(__file__).resolve().parent.parent.parent / "weights"


def weights_file(backbone):
    """Return the path at which tools/get_weights.py puts the ImageNet weights of a backbone."""
    return FOLDER / f"{backbone.lower()}.weights.h5"


def find_weights(backbone, setting):
    """Return what Keras takes as `weights`: a file's path, or "imagenet" to download them.

    `setting` is config.WEIGHTS: "imagenet" or a path. Raises UserError if there is no such file.
    """
    if setting == "imagenet":
        local = weights_file(backbone)
        return str(local) if local.is_file() else "imagenet"
    if not Path(setting).is_file():
        raise UserError(
            f"WEIGHTS in pyimagesearch/config.py is {str(setting)!r}, which is not a file. "
            f"Correct the path, or set it to 'imagenet'"
        )
    return str(setting)


@contextmanager
def explain_errors(backbone, weights):
    """Turn Keras' errors about weights into one line with a remedy; None: random weights."""
    try:
        # Keras warns of every layer that it skips before it raises.
        with warnings.catch_warnings(action="ignore"):
            yield
    except (ValueError, OSError, KeyError) as failure:
        if weights is None:
            raise
        raise UserError(damaged_weights(backbone, weights, failure)) from failure
    except Exception as failure:
        # Keras raises a bare Exception when a download fails.
        if "URL fetch failure" not in str(failure):
            raise
        print()  # Keras has begun a line.
        raise UserError(failed_download(backbone, failure)) from failure


def damaged_weights(backbone, weights, failure):
    """Return the message for weights that Keras cannot load into a backbone."""
    problem = f"{weights} does not contain the weights of {backbone} without its top"
    remedy = "Set WEIGHTS in pyimagesearch/config.py to another file, or to 'imagenet'"
    if weights == "imagenet":
        problem = f"the download of {backbone}'s ImageNet weights is damaged"
        remedy = "Delete it from ~/.keras/models and run the same command again"
    elif weights == str(weights_file("VGG16")):
        remedy = "Make it again with: python tools/get_weights.py --force"
    elif Path(weights).parent == FOLDER:
        remedy = "Replace it, or delete it"
    return f"{problem} ({files.first_sentence(failure)}). {remedy}"


def failed_download(backbone, failure):
    """Return the message for ImageNet weights that cannot be downloaded."""
    # Keras looks for the file there before it downloads it.
    remedy = "Download this file on another computer and put it into ~/.keras/models"
    if backbone == "VGG16":
        remedy = "Try: python tools/get_weights.py"
    return f"the ImageNet weights of {backbone} cannot be downloaded ({failure}). {remedy}"
