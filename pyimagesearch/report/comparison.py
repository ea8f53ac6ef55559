"""What a new classifier is worth: compared with the one before, and with guessing."""

from pyimagesearch import classifier
from pyimagesearch.report import intervals
from pyimagesearch.support import console, exports, files, fingerprints

# The parts of a fingerprint that decide whether two accuracies can be compared.
EVALUATION_PARTS = ("format", "classes", "the evaluation photos")


def report(folder, kinds=()):
    """Print how the classifier in a folder compares, and which exports it has no longer.

    `kinds` are the exports that are about to be written.
    """
    metrics = files.read_json(folder / classifier.METRICS_FILE)
    previous = files.read_json(folder / classifier.PREVIOUS_FOLDER / classifier.METRICS_FILE)
    warn_if_guessing(metrics)
    if previous is not None:
        report_stale_exports(folder, kinds)
        compare_accuracies(folder, previous, metrics)


def warn_if_guessing(metrics):
    """Print a warning if always answering the most frequent class is as often right."""
    always = intervals.baseline(metrics["classes"])
    if metrics["accuracy"] <= always["accuracy"]:
        remedy = "change learning_rate and epochs" if "phases" in metrics else "add photos"
        console.warn(
            f"accuracy {metrics['accuracy']:.3f} is no better than always answering "
            f"{always['class']}, the most frequent class of the evaluation photos "
            f"({always['accuracy']:.3f}). Check the labels in first_look.png, or {remedy}"
        )


def report_stale_exports(folder, kinds):
    """Print which exports have moved to the previous classifier, and how to make them again."""
    moved = folder / classifier.PREVIOUS_FOLDER / classifier.EXPORTS_FOLDER
    stale = {kind: name for kind, name in exports.FILES.items() if (moved / name).exists()}
    missing = [kind for kind in stale if kind not in kinds]
    if missing:
        names = ", ".join(stale[kind] for kind in missing)
        command = classifier.train_command(folder, "--export", *missing)
        console.info(f"the exports {names} are now in {moved}. Make new ones with: {command}")


def compare_accuracies(folder, previous, metrics):
    """Print both accuracies, and how to put the previous classifier back."""
    wanted = {name: metrics["made_from"].get(name) for name in EVALUATION_PARTS}
    command = classifier.train_command(folder, "--restore-previous")
    remedy = f"The earlier classifier is kept; put it back with: {command}"
    before, after = previous["accuracy"], metrics["accuracy"]
    if changes := fingerprints.differences(previous.get("made_from"), wanted):
        accuracies = f"accuracy {before:.3f} and {after:.3f} cannot be compared"
        console.info(f"{accuracies}: {'; '.join(changes)}. {remedy}")
    else:
        photos = metrics["photos"]["evaluation"]
        message = f"accuracy {before:.3f} -> {after:.3f} on the same {photos:,} photos. {remedy}"
        (console.warn if after < before else console.info)(message)
