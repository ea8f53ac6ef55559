"""A trained classifier: save it, load it, predict with it.

It contains everything that training and prediction must agree about: the class names in the order
of the probabilities, the size of the photos, and the preprocessing, which is part of the network.
"""

import shutil
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pyimagesearch import features, images
from pyimagesearch.recipe import METHODS, side_or_sides
from pyimagesearch.support import console, exports, files, fingerprints, machine, similarity
from pyimagesearch.support.errors import UserError

NETWORK_FILE, REGRESSION_FILE, BACKBONE_FILE = "model.keras", "model.skops", "backbone.keras"
CLASSES_FILE, METRICS_FILE, REPORT_FILE = "classes.json", "metrics.json", "report.txt"
EXPORTS_FOLDER = "exports"
PREVIOUS_FOLDER = "previous"  # the classifier before, with its report and its exports
CHECKPOINT_FILES = ("checkpoint.npz", "seconds.json")  # what checkpoint.py leaves in a killed run

# The settings of config.py that a classifier depends on, by method.
SETTINGS = {
    "logistic_regression": ("PRECISION", "WEIGHTS", "SEED", "MAX_ITERATIONS"),
    "fine_tune": ("PRECISION", "WEIGHTS", "SEED", "STORED_VIEWS", "SHARED_VIEWS"),
}
# The fields of a recipe that logistic regression depends on; its features depend on others.
REGRESSION_FIELDS = ("calibrate", "class_weights", "mistakes", "regression")
# Fields of a recipe that only say where the photos come from, or which script to run.
DOWNLOAD_FIELDS = {
    *("source", "download", "layout", "labels", "split", "official_counts"),
    *("validate_on_evaluation", "method", "name"),
}


@dataclass(frozen=True)
class Classifier:
    """Photos in, probabilities out."""

    classes: tuple  # their names, in the order of the probabilities
    image_size: int | tuple  # pixels along a side, or (height, width)
    # uint8 RGB (n, height, width, 3) -> [probabilities], or networks.with_similarity's outputs.
    run: Callable
    network: Any = None  # the keras.Model, or None for an export

    def predict(self, photos):
        """Return the (n, classes) probabilities of uint8 RGB photos, (n, height, width, 3)."""
        return self.predict_and_compare(photos)[0]

    def predict_and_compare(self, photos):
        """Return (probabilities, unlike) of photos as for `predict`.

        `unlike` is a list with True for each photo that is unlike any training photo: its class
        means little. It has None for each if the classifier has nothing to compare with.
        """
        probabilities, *above_threshold = self.run(photos)
        unlike = [None] * len(photos)
        if above_threshold:
            unlike = (above_threshold[0][:, 0] < 0).tolist()
        return both_classes(probabilities), unlike

    def read(self, names):
        """Return the photos at paths or web addresses, as `predict` takes them.

        Raises sources.Unreadable if a file does not exist or is not a photo.
        """
        size = self.image_size
        photos = (images.read_photo(str(name), images.decode_size(size)) for name in names)
        return np.stack([images.resize(photo, size) for photo in photos])

    def top(self, probabilities, count):
        """Return the `count` most probable classes as [(class name, probability), ...]."""
        order = (-probabilities).argsort(kind="stable")[:count]
        return [(self.classes[label], float(probabilities[label])) for label in order]


def from_network(network, classes, reference=None):
    """Return a Classifier around a network from photos to probabilities.

    `reference` is the similarity.Reference of its training photos, or None.
    """
    import keras

    from pyimagesearch import networks

    predict = networks.predict_function(add_comparison(network, reference))

    def run(photos):
        return keras.tree.flatten(predict(photos))

    return Classifier(tuple(classes), side_or_sides(*network.input_shape[1:3]), run, network)


def add_comparison(network, reference):
    """Return networks.with_similarity, or the network as it is if `reference` is None."""
    from pyimagesearch import networks

    return network if reference is None else networks.with_similarity(network, reference)


def both_classes(probabilities):
    """Return (n, classes) probabilities; a sigmoid gives only that of the second class."""
    if probabilities.shape[1] > 1:
        return probabilities
    return np.concatenate([1 - probabilities, probabilities], axis=1)


def save_network(folder, network, classes):
    """Save a fine-tuned network, from photos to probabilities, and its class names."""
    with files.atomic_write(Path(folder) / NETWORK_FILE) as partial:
        network.save(partial)
    files.write_json(Path(folder) / CLASSES_FILE, list(classes))


def save_regression(folder, regression, classes, features_folder):
    """Save logistic regression, its class names, and the network that computed its features."""
    import skops.io

    with files.atomic_write(Path(folder) / REGRESSION_FILE) as partial:
        skops.io.dump(regression, partial)
    with files.atomic_write(Path(folder) / BACKBONE_FILE) as partial:
        shutil.copy2(Path(features_folder) / features.BACKBONE_FILE, partial)
    files.write_json(Path(folder) / CLASSES_FILE, list(classes))


def finish(folder, metrics, report, fingerprint, splits, seed):
    """Write report.txt and metrics.json, the last file of a classifier, and put it in place.

    `folder` is <folder>.partial, where a classifier is made while the one before stays usable.
    """
    files.write_text(Path(folder) / REPORT_FILE, report)
    environment = {
        "photos": {split: len(photos) for split, photos in splits._asdict().items()},
        "seed": seed,
        "versions": fingerprints.versions(),
        "processor": machine.description(),
    }
    metrics = {**metrics, **environment, "made_from": fingerprint}
    files.write_json(Path(folder) / METRICS_FILE, metrics)
    put_in_place(Path(folder).with_suffix(""))


def put_in_place(folder):
    """Move a finished classifier from <folder>.partial to `folder`; do nothing if there is none.

    The classifier that was in `folder` moves to <folder>/previous, and the one there is deleted.
    If the process is killed between two moves, the next call does the rest.
    """
    folder = Path(folder)
    for new in (files.partial_path(folder), restored_path(folder)):
        if (new / METRICS_FILE).is_file():
            for name in CHECKPOINT_FILES:
                files.remove(new / name)
            if folder.is_dir():
                files.remove(folder / PREVIOUS_FOLDER)
                files.replace(folder, new / PREVIOUS_FOLDER)
            files.replace(new, folder)


def restored_path(folder):
    """Return where a previous classifier is stored while it is put back."""
    return folder.with_suffix(".restored")


def restore_previous(folder, wanted):
    """Exchange the classifier of a folder with the previous one; raise UserError if there is none.

    `wanted` is the fingerprint of the present settings: other settings would train it again.
    """
    previous = folder / PREVIOUS_FOLDER
    if not restored_path(folder).is_dir():  # otherwise the same command was killed
        put_in_place(folder)
        if not (previous / METRICS_FILE).is_file():
            raise UserError(
                f"{previous} has no classifier to put back. It gets one when the recipe is "
                f"trained again"
            )
        files.replace(previous, restored_path(folder))
    put_in_place(folder)
    metrics = files.read_json(folder / METRICS_FILE) or {}
    console.info(f"{folder} is the previous classifier again; the other one is in {previous}")
    if changes := fingerprints.differences(metrics.get("made_from"), wanted):
        console.warn(f"train.py would train it again: {'; '.join(changes)}")


def fingerprint(recipe, splits, folder, settings):
    """Return what the classifier in output/<recipe>/<method> is made from, with its SETTINGS."""
    parts = features.fingerprint(recipe, splits, settings["PRECISION"], settings["WEIGHTS"])
    parts |= {name: value for name, value in settings.items() if name not in parts}
    fields = asdict(recipe)
    if Path(folder).name == "logistic_regression":
        recorded = files.read_json(Path(folder).parent / "features" / features.FINGERPRINT_FILE)
        parts |= {name: fields[name] for name in REGRESSION_FIELDS}
        parts |= {"the features": fingerprints.digest(recorded)}
    else:
        del parts["layers"], parts["unit_length"]
        parts |= {name: value for name, value in fields.items() if name not in DOWNLOAD_FIELDS}
        if recipe.head.start is None:
            del parts["regression"]
    return fingerprints.fingerprint(parts)


def is_up_to_date(folder, wanted, force=False):
    """Return True if the classifier in a folder was made from what is wanted now.

    If so, its report is printed. If it is out of date, the reasons are. With `force` it always is.
    """
    put_in_place(folder)  # the last run may have been killed before
    metrics = files.read_json(Path(folder) / METRICS_FILE)
    if metrics is None or force:
        return False
    if changes := fingerprints.differences(metrics.get("made_from"), wanted):
        console.info(f"training again: {'; '.join(changes)}")
        return False
    console.show((Path(folder) / REPORT_FILE).read_text(encoding="utf-8"))
    console.info(f"{folder} is up to date; --force trains again")
    return True


def check_accuracy(folder, minimum):
    """Return the exit status of train.py: 1 if the accuracy is below `minimum`, else None."""
    accuracy = files.read_json(Path(folder) / METRICS_FILE)["accuracy"]
    if minimum is not None and accuracy < minimum:
        console.error(f"accuracy is {accuracy:.4f}, which is less than {minimum}")
        return console.PARTLY
    return None


def find(output_dir, recipe, method=None):
    """Return the folder of a recipe's finished classifier, or raise UserError.

    Without a `method`, it is the one of the recipe's own method, or else of the other.
    """
    methods = [method] if method else sorted(METHODS, key=lambda name: name != recipe.method)
    folders = [Path(output_dir) / recipe.name / name for name in methods]
    for folder in folders:
        if (folder / METRICS_FILE).is_file():
            return folder
    raise unfinished(folders[0])


def load(folder):
    """Return the Classifier that train.py left in a folder. No file in it can run code.

    Raises UserError if training has not finished there, or a file is damaged.
    """
    console.import_tensorflow()
    network, classes = load_network_and_classes(folder)
    return from_network(network, classes, load_reference(folder, network))


def load_network_and_classes(folder):
    """Return (network from photos to probabilities, class names) for either method."""
    folder = Path(folder)
    if not (folder / METRICS_FILE).is_file():
        raise unfinished(folder)
    classes = files.read_json(folder / CLASSES_FILE, list)
    if classes is None or not all(isinstance(name, str) for name in classes):
        path = folder / CLASSES_FILE
        raise UserError(f"{path} is missing or damaged. {remedy(path)}")
    # Each of the two files shows that this is logistic regression, if the other one is missing.
    if any((folder / name).is_file() for name in (REGRESSION_FILE, BACKBONE_FILE)):
        regression = load_regression(folder / REGRESSION_FILE)
        backbone = load_network(folder / BACKBONE_FILE)
        computed, read = backbone.output_shape[-1], regression.n_features_in_
        if computed != read:
            raise UserError(
                f"{folder / REGRESSION_FILE} reads {read} features, and {BACKBONE_FILE} computes "
                f"{computed}. {remedy(folder / REGRESSION_FILE)}"
            )
        network = append_regression(backbone, regression)
    else:
        network = load_network(folder / NETWORK_FILE)
    outputs = max(2, network.output_shape[-1])
    if len(classes) != outputs:
        raise UserError(
            f"{folder / CLASSES_FILE} has {len(classes)} class names, and the classifier has "
            f"{outputs} outputs. {remedy(folder / CLASSES_FILE)}"
        )
    return network, classes


def append_regression(backbone, regression):
    """Return a network that ends with logistic regression, as a dense layer with its weights."""
    import keras

    from pyimagesearch import networks

    # Two classes have one output, the probability of the second.
    outputs = len(regression.coef_)
    activation = "sigmoid" if outputs == 1 else "softmax"
    dense = keras.layers.Dense(outputs, activation, dtype="float32", name=networks.PROBABILITIES)
    network = keras.Model(backbone.input, dense(backbone.output))
    dense.set_weights([regression.coef_.T, regression.intercept_])
    return network


def load_network(path):
    """Return a saved Keras network, loaded in safe mode."""
    import keras

    with explain_loading_errors(path):
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def load_regression(path):
    """Return a saved LogisticRegression; skops refuses types that it does not know."""
    import skops.io
    from sklearn.linear_model import LogisticRegression

    with explain_loading_errors(path):
        regression = skops.io.load(path, trusted=[])
        if not isinstance(regression, LogisticRegression):
            raise TypeError(f"it contains a {type(regression).__name__}")
        return regression


def load_reference(folder, network):
    """Return the similarity.Reference of a classifier, or None: earlier versions stored none."""
    from pyimagesearch import networks

    path = Path(folder) / similarity.FILE
    if not path.is_file():
        return None
    with explain_loading_errors(path):
        reference = similarity.load(folder)
    stored, computed = reference.features.shape[1], networks.pooled_features(network).shape[-1]
    if stored != computed:
        raise UserError(
            f"{path} has {stored} features per photo, and the network {computed}. {remedy(path)}"
        )
    return reference


@contextmanager
def explain_loading_errors(path):
    """Turn the errors of Keras, skops and NumPy for a damaged or strange file into one line."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is missing or damaged. {remedy(path)}")
    try:
        yield
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as failure:
        reason = files.first_sentence(failure)
        raise UserError(
            f"{path} cannot be loaded: {reason}. {other_versions(path.parent)}{remedy(path)}"
        ) from failure


def other_versions(folder):
    """Return which packages had other versions when a classifier was trained, as a sentence."""
    trained_with = (files.read_json(folder / METRICS_FILE) or {}).get("versions", {})
    others = [
        f"{package} {trained_with[package]} (here {version(package)})"
        for package in fingerprints.PACKAGES
        if package in trained_with and trained_with[package] != version(package)
    ]
    return f"It was trained with {', '.join(others)}. " if others else ""


def unfinished(folder):
    """Return the error for a folder in which no training has finished."""
    command = train_command(folder)
    return UserError(f"{folder} has no finished classifier. Make it with: {command}")


def remedy(path):
    """Return how to make a file of a classifier again."""
    return f"Make it again with: {train_command(path.parent, '--force')}"


def train_command(folder, *options):
    """Return the command that trains the classifier of a folder."""
    recipe, method = Path(folder).parts[-2:]
    return console.command("train", recipe, "--method", method, *options)


def from_imagenet(backbone):
    """Return a Classifier of ImageNet's 1,000 classes: a backbone without any training here."""
    console.import_tensorflow()
    from pyimagesearch import networks

    return from_network(*networks.build_imagenet_classifier(backbone))


def export(folder, kind):
    """Write the classifier of a folder for another program, and what that needs to know beside it.

    Prints both paths and returns the first. `kind` is "onnx", "litert" or "saved_model". The errors
    are those of `load`.
    """
    console.import_tensorflow()
    network, classes = load_network_and_classes(folder)
    target = Path(folder) / EXPORTS_FOLDER / exports.FILES[kind]
    reference = load_reference(folder, network)
    exports.write(add_comparison(network, reference), kind, target)
    files.write_json(target.with_name(CLASSES_FILE), classes)
    console.info(f"exported: {target}")
    decode_size = images.decode_size(network.input_shape[1:3])
    compares = reference is not None
    description = exports.describe(network, kind, target, classes, decode_size, compares)
    console.info(f"how to use it: {description}")
    return target


def load_litert(folder):
    """Return the Classifier that `train.py --export litert` wrote. It needs no TensorFlow.

    Raises UserError if there is no export, or the LiteRT runtime is not installed.
    """
    path = Path(folder) / EXPORTS_FOLDER / exports.FILES["litert"]
    command = train_command(folder, "--export", "litert")
    classes = files.read_json(path.with_name(CLASSES_FILE), list)
    if classes is None or not path.is_file():
        raise UserError(f"{path} or its class names are missing. Make it with: {command}")
    sides, run = exports.open_litert(path, command)
    return Classifier(tuple(classes), side_or_sides(*sides), run)
