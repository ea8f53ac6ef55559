"""Predict the class of one photo, or of many.

    python predict.py --recipe food11 --image photo.jpg
    python predict.py --recipe food11 --image a_folder "more/*.png" https://example.org/photo.jpg

Prints a line for each photo, and writes annotated copies to output/<recipe>/predictions/.
"""

import itertools
import sys
from pathlib import Path

from pyimagesearch.recipe import BACKBONES, METHODS, find_recipe
from pyimagesearch.support import console

BATCH_SIZE, FORMATS = 32, ("table", "json", "jsonl", "csv")


def main(argv=None):
    arguments = read_arguments(argv)

    from pyimagesearch.report.annotation import AnnotatedCopies
    from pyimagesearch.report.answers import Answers
    from pyimagesearch.support import sources

    names = list(sources.expand(arguments.image))
    # A wrong path is reported at once, without waiting for TensorFlow.
    if not any(map(sources.exists, names)):
        list(read_photos(names, size=1))  # reports each of them
        return console.MISTAKE
    classifier, folder = load_classifier(arguments)
    heatmap_function = None
    if arguments.explain:
        from pyimagesearch.report import heatmaps

        heatmap_function = heatmaps.heatmap_function(classifier.network)
    copies = AnnotatedCopies(folder, arguments.copies, arguments.show, heatmap_function)
    answers = Answers(arguments.format, names, classifier.classes, sys.stdout.encoding)
    for (name, pixels, small_copy), probabilities, unlike in predictions(classifier, names):
        top_classes = classifier.top(probabilities, arguments.top)
        console.show(answers.add(name, top_classes, unlike))
        copies.add(name, pixels, small_copy, probabilities, top_classes[0], unlike)
    copies.report(answers.count)
    answers.report()
    return exit_status(answers.count, len(names))


def read_arguments(argv):
    """Return the parsed command line."""
    parser = console.argument_parser(__doc__)
    add, positive, count = parser.add_argument, console.whole_number(1), console.whole_number(0)
    add("--image", nargs="+", required=True, metavar="PHOTO", help="files, folders, patterns, URLs")
    add("--method", choices=METHODS, help="which of the recipe's classifiers")
    add("--top", type=positive, metavar="K", help="most likely classes to print (3; ImageNet: 5)")
    add("--format", choices=FORMATS, default="table", help="json, jsonl: one JSON object per line")
    add("--copies", type=count, default=100, metavar="N", help="annotate the first N photos (100)")
    add("--show", action="store_true", help="open a window with each annotated copy")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--fast", action="store_true", help="use the export of train.py --export litert")
    add("--explain", action="store_true", help="draw which parts of a photo count for its class")
    imagenet = {"nargs": "?", "const": "VGG16", "choices": sorted(BACKBONES), "metavar": "NETWORK"}
    add("--imagenet", **imagenet, help="use a network with its own 1,000 classes (VGG16)")
    arguments = parser.parse_args(argv)
    arguments.top = arguments.top or (5 if arguments.imagenet else 3)
    if arguments.imagenet and arguments.format == "table":
        arguments.format = "lines"  # as in the third tutorial
    return arguments


def load_classifier(arguments):
    """Return (classifier, folder for annotated copies)."""
    from pyimagesearch import classifier, config

    console.info("loading model...")
    if arguments.imagenet:
        copies = Path(config.OUTPUT_DIR) / "imagenet" / "predictions"
        return classifier.from_imagenet(arguments.imagenet), copies
    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    folder = classifier.find(config.OUTPUT_DIR, recipe, arguments.method)
    loaded = classifier.load_litert(folder) if arguments.fast else classifier.load(folder)
    console.info(f"{folder}, with the classes {console.listed(loaded.classes)}")
    return loaded, folder.parent / "predictions"


def predictions(classifier, names):
    """Yield ((name, network input, small copy), probabilities, unlike) of each readable photo."""
    import numpy as np

    photos = read_photos(names, classifier.image_size)
    # On a terminal the printed predictions show the progress.
    total = None if sys.stdout.isatty() else len(names)
    with console.progress("photos", total) as advance:
        while batch := list(itertools.islice(photos, BATCH_SIZE)):
            pixels = np.stack([pixels for _, pixels, _ in batch])
            yield from zip(batch, *classifier.predict_and_compare(pixels), strict=True)
            advance(len(batch))


def read_photos(names, size):
    """Yield (name, photo of this size, small copy); report those that cannot be read."""
    from pyimagesearch import images
    from pyimagesearch.report import annotation
    from pyimagesearch.support import sources

    def read(name):
        try:
            # As in evaluation, so that the same photo gets the same prediction.
            photo = images.read_photo(name, images.decode_size(size))
        except sources.Unreadable as failure:
            return failure
        # Keep a small copy: ten thousand full-size photos would fill the memory.
        return name, images.resize(photo, size), annotation.shrink(photo)

    for photo in images.read_ahead(read, names, 2 * BATCH_SIZE):
        if isinstance(photo, sources.Unreadable):
            console.error(photo)
        else:
            yield photo


def exit_status(predicted, wanted):
    """Return the exit status: None if every photo has a prediction."""
    if predicted == wanted:
        return None
    return console.PARTLY if predicted else console.MISTAKE


if __name__ == "__main__":
    console.run(main)
