"""A trained classifier on disk: save it, load it, ask it."""

import json
import platform
import shutil
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pyimagesearch import console, features, files
from pyimagesearch.console import UserError
from pyimagesearch.recipe import METHODS

NETWORK, REGRESSION, BACKBONE = "model.keras", "model.skops", "backbone.keras"
CLASSES, METRICS, REPORT = "classes.json", "metrics.json", "report.txt"
HISTORY = "history.csv"
CHECKPOINT = "checkpoint.npz"  # of a training that is not at its end
EXPORTED = "exports"  # a folder in a classifier's
# Whose versions a classifier depends on.
PACKAGES = ("tensorflow", "keras", "scikit-learn", "numpy", "opencv-python", "pillow")
# Fields of a row that only say where photos come from, or which script to run.
ABOUT_THE_DOWNLOAD = {
    *("source", "download", "layout", "split", "official_counts", "validate_on_evaluation"),
    "method",
}
# Fields that only say how many pictures are drawn, and which.
ABOUT_THE_PICTURES = {"mistakes", "smoothing"}


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: photos in, probabilities out.

    It brings all it needs from training: the class names in the order of the probabilities, the
    size of the photos, and the preprocessing, which is inside the network.
    """

    classes: tuple
    image_size: int  # pixels along a side
    probabilities: Callable  # uint8 RGB (n, size, size, 3) -> (n, classes) floats
    network: Any = None  # the keras.Model, where there is one

    def ask(self, batches, done=lambda count: None):
        """Return (n, classes) probabilities, in order, of all that `batches` gives it."""
        rows = []
        for batch in batches:
            rows.append(self.probabilities(batch))
            done(len(batch))
        return np.concatenate(rows)

    def likeliest(self, probabilities, top):
        """Return [(class name, probability)] of the `top` likeliest classes, likeliest first."""
        order = (-probabilities).argsort(kind="stable")[:top]
        return [(self.classes[each], float(probabilities[each])) for each in order]


def from_network(network, classes):
    """Return a Classifier around a network from photos to probabilities."""
    from pyimagesearch import networks

    run = networks.forward(network)

    def probabilities(batch):
        return both_classes(run(batch))

    return Classifier(tuple(classes), network.input_shape[1], probabilities, network)


def both_classes(rows):
    """Return (n, classes) probabilities; one sigmoid unit gives only that of the second class."""
    return rows if rows.shape[1] > 1 else np.concatenate([1 - rows, rows], axis=1)


def made_from(recipe, method, splits, config):
    """Return what a classifier depends on, as JSON gives it back: the same again means trained.

    Args:
        recipe: a row.
        method: logistic_regression or fine_tune.
        splits: {split: images.Photos}.
        config: the module; its SEED, PRECISION and WEIGHTS count.
    """
    parts = {**features.origin(recipe, splits, config), "SEED": config.SEED}
    if method == "logistic_regression":
        made = config.OUTPUT_DIR / recipe.name / "features" / features.MADE_FROM
        parts["features"] = files.digest(files.read_json(made))
        parts["mistakes"] = recipe.mistakes
    else:
        # Where the photos came from does not matter: their stamps are among the parts.
        row = asdict(recipe)
        parts |= {name: value for name, value in row.items() if name not in ABOUT_THE_DOWNLOAD}
    return json.loads(json.dumps(parts))


def versions():
    """Return {package: version} of what a classifier depends on, Python too."""
    return {"python": platform.python_version()} | {each: version(each) for each in PACKAGES}


def changes(folder, wanted):
    """Return the names of what has changed since a classifier was trained; None: none there is."""
    metrics = files.read_json(Path(folder) / METRICS)
    if metrics is None:
        return None
    made = metrics.get("made_from", {})
    changed = [name for name, value in wanted.items() if made.get(name) != value]
    # It is written before metrics.json. Later, an interrupted training has replaced it, and curves.
    history, finished = Path(folder) / HISTORY, Path(folder) / METRICS
    if history.is_file() and files.file_stamp(history)[1] > files.file_stamp(finished)[1]:
        changed.append(HISTORY)
    return changed


def open_folder(folder):
    """Mark a classifier's folder as unfinished before its files are replaced.

    What was exported of the one before goes: it would answer for a classifier that is no more.
    """
    files.remove(Path(folder) / METRICS)
    files.remove(Path(folder) / EXPORTED)


def finish(folder, metrics, made_from, splits, seed):
    """Write metrics.json, the last file of a classifier: it says that the others are whole."""
    environment = {
        "photos": {split: len(photos) for split, photos in splits.items()},
        "seed": seed,
        "versions": versions(),
        "processor": f"{platform.system()} {platform.machine()}",
    }
    files.write_json(Path(folder) / METRICS, {**metrics, **environment, "made_from": made_from})


def find(output_dir, recipe, method=None):
    """Return the folder of a recipe's finished classifier.

    Args:
        output_dir: config.OUTPUT_DIR.
        recipe: a row.
        method: which classifier; None: the recipe's own method, or else the other.

    Raises:
        UserError: there is none.
    """
    wanted = [method] if method else sorted(METHODS, key=lambda each: each != recipe.method)
    folders = [Path(output_dir) / recipe.name / each for each in wanted]
    for folder in folders:
        if (folder / METRICS).is_file():
            return folder
    raise unfinished(folders[0])


def save_network(folder, network, classes):
    """Save a network, pixels to probabilities, with its class names."""
    with files.whole(Path(folder) / NETWORK) as partial:
        network.save(partial)
    files.write_json(Path(folder) / CLASSES, list(classes))


def save_regression(folder, regression, classes, backbone_path):
    """Save a scikit-learn classifier with its class names and the network that feeds it."""
    import skops.io

    folder = Path(folder)
    with files.whole(folder / REGRESSION) as partial:
        skops.io.dump(regression, partial)
    with files.whole(folder / BACKBONE) as partial:
        shutil.copy2(backbone_path, partial)
    files.write_json(folder / CLASSES, list(classes))


def load(folder):
    """Return the Classifier that training left in a folder. Nothing in it can run code.

    Raises:
        UserError: training has not finished there, or a file is damaged.
    """
    network, classes = load_whole(folder)
    return from_network(network, classes)


def load_whole(folder):
    """Return (network from pixels to probabilities, class names) of either method.

    Raises:
        UserError: as `load`.
    """
    folder = Path(folder)
    if not (folder / METRICS).is_file():
        raise unfinished(folder)
    classes = files.read_json(folder / CLASSES, list)
    if classes is None or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{folder / CLASSES} is missing or damaged. {remake(folder / CLASSES)}")
    # Either of the two tells what was trained, should the other be lost.
    if any((folder / name).is_file() for name in (REGRESSION, BACKBONE)):
        regression = load_regression(folder / REGRESSION)
        network = put_behind(load_network(folder / BACKBONE), regression)
    else:
        network = load_network(folder / NETWORK)
    outputs = network.output_shape[-1]
    refuse_other_count(folder, classes, 2 if outputs == 1 else outputs)
    return network, classes


def put_behind(backbone, regression):
    """Return a network that ends in a scikit-learn classifier, as a dense layer of its weights.

    Args:
        backbone: a network from photos to features.
        regression: what regression.fit returned.
    """
    import keras
    from sklearn.pipeline import Pipeline

    from pyimagesearch import networks

    rows = backbone.output
    if isinstance(regression, Pipeline):
        rows = keras.layers.UnitNormalization(name="length_one")(rows)
        regression = regression[-1]
    # Two classes are one number, the probability of the second.
    outputs = len(regression.coef_)
    activation = "sigmoid" if outputs == 1 else "softmax"
    dense = keras.layers.Dense(outputs, activation, dtype="float32", name=networks.PROBABILITIES)
    network = keras.Model(backbone.input, dense(rows))
    dense.set_weights([regression.coef_.T, regression.intercept_])
    return network


def refuse_other_count(folder, classes, outputs):
    """Refuse class names that cannot be those of the classifier beside them."""
    if len(classes) != outputs:
        raise UserError(
            f"{folder / CLASSES} has {len(classes)} class names and the classifier beside it "
            f"{outputs} outputs. Make both again with: {retrain(folder)}"
        )


def load_network(path):
    """Return a saved Keras network, loaded in safe mode."""
    import keras

    with loading_errors_explained(path):
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def load_regression(path):
    """Return a saved scikit-learn classifier; skops refuses every type it does not know."""
    import skops.io

    with loading_errors_explained(path):
        return skops.io.load(path, trusted=[])


@contextmanager
def loading_errors_explained(path):
    """Turn what Keras and skops raise on a damaged or strange file into one line."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is missing or damaged. {remake(path)}")
    try:
        yield
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as failure:
        reason = files.first_sentence(failure)
        raise UserError(
            f"{path} cannot be loaded: {reason}. {other_versions(path.parent)}{remake(path)}"
        ) from failure


def other_versions(folder):
    """Say which packages a classifier was made with that are others here, or nothing."""
    made = (files.read_json(folder / METRICS) or {}).get("versions", {})
    others = [
        f"{package} {made[package]} (here {version(package)})"
        for package in PACKAGES
        if package in made and made[package] != version(package)
    ]
    return f"It was made with {', '.join(others)}. " if others else ""


def unfinished(folder):
    """Return the error for a folder in which no training has come to its end."""
    command = retrain(folder, force=False)
    return UserError(f"{folder} holds no finished classifier. Make it with: {command}")


def remake(path):
    """Say how a file of a classifier is made again."""
    return f"Make it again with: {retrain(path.parent)}"


def retrain(folder, force=True):
    """Return the command that fills a classifier's folder."""
    again = ("--force",) if force else ()
    return console.command("train", folder.parent.name, "--method", folder.name, *again)
