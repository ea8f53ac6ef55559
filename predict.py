"""Say what is on a photo, or on many.

    python predict.py --recipe food11 --image photo.jpg
    python predict.py --recipe food11 --image a_folder "more/*.png" https://example.org/photo.jpg

Prints a line a photo and writes annotated copies to output/<recipe>/predictions/. Messages go to
stderr, so the answers can be piped.
"""

import csv
import io
import itertools
import json
import os
import sys
from collections import Counter
from pathlib import PurePath

from pyimagesearch import console
from pyimagesearch.recipe import BACKBONES, METHODS

BATCH_SIZE = 32


def main(argv=None):
    arguments = read_arguments(argv)
    if arguments.imagenet:
        return ask_imagenet(arguments.imagenet, arguments.image)

    from pyimagesearch import artifacts, config, sources

    recipe = console.find_recipe(arguments.recipe)
    folder = artifacts.find(config.OUTPUT_DIR, recipe, arguments.method)
    names = list(sources.photos_of(arguments.image))
    # A wrong path is said at once, without waiting for TensorFlow.
    if not any(map(sources.is_there, names)):
        return status(len(list(readable(names))), len(names))
    classifier = load(folder, arguments.fast)
    console.info(f"asking {folder}, which knows: {', '.join(classifier.classes)}")

    show = FORMATS[arguments.format]
    copies = Copies(config.OUTPUT_DIR / recipe.name / "predictions", classifier, arguments)
    answered = 0
    for name, photo, pixels, probabilities in answers(classifier, names):
        best = classifier.likeliest(probabilities, arguments.top)
        show(name, best, first=not answered)
        copies.save(name, photo, pixels, probabilities, best[0])
        answered += 1
    copies.tell(answered)
    return status(answered, len(names))


def read_arguments(argv):
    """Return what the user typed."""
    parser = console.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--image", nargs="+", required=True, metavar="PHOTO", help="files, folders, patterns, URLs"
    )
    parser.add_argument("--method", choices=METHODS, help="which of a recipe's classifiers")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="likeliest classes (3)")
    parser.add_argument("--format", choices=FORMATS, default="table", help="of the answers")
    parser.add_argument("--fast", action="store_true", help="ask what --export litert made")
    parser.add_argument("--explain", action="store_true", help="draw where the classifier looks")
    parser.add_argument(
        "--copies", type=int, default=100, metavar="N", help="annotate the first N photos (100)"
    )
    parser.add_argument("--show", action="store_true", help="open a window with each copy")
    parser.add_argument(
        "--imagenet",
        nargs="?",
        const="VGG16",
        choices=sorted(BACKBONES),
        metavar="NETWORK",
        help="ask the untouched network, with its own 1,000 classes (VGG16)",
    )
    arguments = parser.parse_args(argv)
    for name, smallest in (("top", 1), ("copies", 0)):
        value = getattr(arguments, name)
        if value < smallest:
            raise console.UserError(f"--{name} is {value}; it takes a whole number from {smallest}")
    if arguments.fast and arguments.explain:
        raise console.UserError(
            "--explain needs the whole network, which --fast does without. Leave one of them out"
        )
    return arguments


def load(folder, fast):
    """Return the classifier of a folder, or its export, which answers without TensorFlow."""
    from pyimagesearch import artifacts, exports

    if fast:
        return exports.open_litert(folder)
    console.load_tensorflow()
    return artifacts.load(folder)


def answers(classifier, names):
    """Yield (name, photo, what the network saw of it, probabilities) of each that can be read."""
    import numpy as np

    from pyimagesearch import images

    # As evaluation reads them, so that the same photo gets the same answer.
    photos = readable(names, images.DETAIL * classifier.image_size)
    # On a terminal the answers themselves show how far it is.
    with console.progress("photos", None if sys.stdout.isatty() else len(names)) as done:
        while batch := list(itertools.islice(photos, BATCH_SIZE)):
            pixels = np.stack([images.resize(photo, classifier.image_size) for _, photo in batch])
            rows = classifier.probabilities(pixels)
            for (name, photo), small, probabilities in zip(batch, pixels, rows, strict=True):
                yield name, photo, small, probabilities
            done(len(batch))


def readable(names, at_least=None):
    """Yield (name, photo as images.read_rgb gives it) of each that can be read; report the rest."""
    from pyimagesearch import images, sources

    def read(name):
        try:
            return name, sources.read(name, at_least), None
        except sources.Unreadable as reason:
            return name, None, reason

    for name, photo, reason in images.ahead(read, names, 2 * BATCH_SIZE):
        if reason is None:
            yield name, photo
        else:
            console.error(reason)


def show_line(name, best, first):
    """Print an answer for a person."""
    words = ", ".join(f"{label}: {share:.2%}" for label, share in best)
    console.show(f"{' '.join(name.splitlines())}  {words}")


def show_json(name, best, first):
    """Print an answer as a line of JSON."""
    classes = [{"class": label, "probability": share} for label, share in best]
    console.show(json.dumps({"image": name, "classes": classes}, ensure_ascii=False))


def show_csv(name, best, first):
    """Print an answer as a row of CSV; the first after a row of names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="")
    if first:
        numbers = ["", *(f"_{number}" for number in range(2, len(best) + 1))]
        pairs = [(f"class{number}", f"probability{number}") for number in numbers]
        writer.writerow(["image", *itertools.chain(*pairs)])
        text.write("\n")
    writer.writerow([name, *itertools.chain(*best)])
    console.show(text.getvalue())


FORMATS = {"table": show_line, "json": show_json, "csv": show_csv}


class Copies:
    """Annotated copies of the first photos of a run."""

    def __init__(self, folder, classifier, arguments):
        self.folder, self.left = folder, arguments.copies
        self.names = Counter()  # photos of one name may come from several folders
        self.show = arguments.show and has_display()
        self.heat = None
        if arguments.explain:
            from pyimagesearch import explanation

            self.heat = explanation.heat_of(classifier.network)

    def save(self, name, photo, pixels, probabilities, best):
        """Write the copy of one photo, while there are copies left to write."""
        from pyimagesearch import annotation

        if not self.left:
            return
        self.left -= 1
        text = "{}: {:.2%}".format(*best)
        if self.heat:
            heat = self.heat(pixels[None], [int(probabilities.argmax())])[0]
            picture = annotation.explain(photo, heat, text)
        else:
            picture = annotation.annotate(photo, text)
        annotation.save(self.folder / self.name_of(name), picture)
        if self.show:
            annotation.show(picture)

    def name_of(self, name):
        """Return the name of a photo's copy, one that no other photo of this run has.

        It is cut to what every file system takes, which counts bytes.
        """
        # What an address has behind the name of its file does not belong to it.
        stem = PurePath(name.split("?")[0] if "://" in name else name).stem
        stem = os.fsencode(stem)[:150].decode("utf-8", "ignore") or "photo"
        self.names[stem] += 1
        number = f" ({self.names[stem]})" if self.names[stem] > 1 else ""
        return f"{stem}{number}{'_explained' if self.heat else ''}.png"

    def tell(self, answered):
        """Say how many copies there are, and where."""
        count = self.names.total()
        if count:
            copies = "1 annotated copy" if count == 1 else f"{count:,} annotated copies"
            rest = "" if count == answered else f" of {answered:,}; --copies N writes more"
            console.info(f"{copies}{rest} -> {self.folder}")


def status(answered, asked):
    """Return the exit status: None when every photo has its answer."""
    if answered < asked:
        return console.PARTLY if answered else console.MISTAKE


def ask_imagenet(backbone, names):
    """Print the five ImageNet classes that the untouched network finds likeliest in each photo."""
    from pyimagesearch import sources

    names = list(sources.photos_of(names))
    photos = list(readable(names))
    if photos:
        console.load_tensorflow()
        from pyimagesearch import networks

        rows = networks.ask_imagenet(backbone, [photo for _, photo in photos])
        for (name, _), classes in zip(photos, rows, strict=True):
            console.show(f"{name}, {backbone} without any training here:")
            for label, share in classes:
                console.show(f"{share:7.2%} : {label}")
    return status(len(photos), len(names))


def has_display():
    """Tell whether a window can open; say so when it cannot."""
    if os.name != "posix" or os.uname().sysname == "Darwin":
        return True
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return True
    console.warn("--show needs a display and there is none; the annotated copies are written")
    return False


if __name__ == "__main__":
    console.run(main)
