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
from pathlib import Path

from pyimagesearch import console
from pyimagesearch.recipe import BACKBONES, METHODS

BATCH_SIZE = 32


def main(argv=None):
    arguments = read_arguments(argv)

    from pyimagesearch import artifacts, config, sources

    if arguments.imagenet:
        pictures = Path(config.OUTPUT_DIR) / "imagenet" / "predictions"
    else:
        recipe = console.find_recipe(arguments.recipe)
        pictures = config.OUTPUT_DIR / recipe.name / "predictions"
        folder = artifacts.find(config.OUTPUT_DIR, recipe, arguments.method)
    names = list(sources.photos_of(arguments.image))
    # A wrong path is said at once, without waiting for TensorFlow.
    if not any(map(sources.is_there, names)):
        return status(sum(1 for _ in readable(names)), len(names))
    if arguments.imagenet:
        classifier = load_untouched(arguments.imagenet)
    else:
        classifier = load(folder, arguments.fast)

    show = FORMATS[arguments.format]
    copies = Copies(pictures, classifier, arguments)
    answered = 0
    for name, pixels, picture, probabilities in answers(classifier, names):
        best = classifier.likeliest(probabilities, arguments.top)
        show(name, best, first=not answered)
        copies.save(name, pixels, picture, probabilities, best[0])
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
    parser.add_argument("--top", type=int, metavar="K", help="likeliest classes (3; ImageNet's 5)")
    parser.add_argument("--format", choices=("table", "json", "csv"), help="of the answers")
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
    if arguments.top is None:
        arguments.top = 5 if arguments.imagenet else 3
    if arguments.format is None:
        arguments.format = "lines" if arguments.imagenet else "table"
    for name, smallest in (("top", 1), ("copies", 0)):
        value = getattr(arguments, name)
        if value < smallest:
            raise console.UserError(f"--{name} is {value}; it takes a whole number from {smallest}")
    chosen = [name for name in ("imagenet", "fast", "explain") if getattr(arguments, name)]
    if len(chosen) > 1:
        raise console.UserError(
            f"--{chosen[0]} and --{chosen[1]} do not go together. Leave one of them out"
        )
    return arguments


def load(folder, fast):
    """Return the classifier of a folder, or its export, which answers without TensorFlow."""
    from pyimagesearch import artifacts, exports

    if fast:
        classifier = exports.open_litert(folder)
    else:
        console.load_tensorflow()
        classifier = artifacts.load(folder)
    console.info(f"asking {folder}, which knows: {', '.join(classifier.classes)}")
    return classifier


def load_untouched(backbone):
    """Return a classifier that knows ImageNet's classes and nothing of ours."""
    console.load_tensorflow()
    from pyimagesearch import artifacts, networks

    classifier = artifacts.from_network(*networks.build_untouched(backbone))
    console.info(f"asking {backbone} without any training here")
    return classifier


def answers(classifier, names):
    """Yield (name, what the network sees, small copy, probabilities) of each that can be read."""
    import numpy as np

    photos = readable(names, classifier.image_size)
    # On a terminal the answers themselves show how far it is.
    with console.progress("photos", None if sys.stdout.isatty() else len(names)) as done:
        while batch := list(itertools.islice(photos, BATCH_SIZE)):
            rows = classifier.probabilities(np.stack([pixels for _, pixels, _ in batch]))
            for photo, probabilities in zip(batch, rows, strict=True):
                yield *photo, probabilities
            done(len(batch))


def readable(names, size=1):
    """Yield (name, photo at `size` pixels, small copy) of each that can be read; report the rest.

    Threads read ahead. They keep no photo as large as it came: there may be ten thousand.
    """
    from pyimagesearch import annotation, images, sources

    def read(name):
        try:
            # As evaluation reads it, so that the same photo gets the same answer.
            photo = sources.read(name, images.enough_for(size))
        except sources.Unreadable as reason:
            return reason
        return name, images.resize(photo, size), annotation.small_copy(photo)

    for photo in images.ahead(read, names, 2 * BATCH_SIZE):
        if isinstance(photo, sources.Unreadable):
            console.error(photo)
        else:
            yield photo


def show_table(name, best, first):
    """Print an answer on a line, for a person."""
    words = ", ".join(f"{label}: {share:.2%}" for label, share in best)
    console.show(f"{' '.join(name.splitlines())}  {words}")


def show_lines(name, best, first):
    """Print an answer as the third tutorial does, a line a class."""
    console.show(name)
    for label, share in best:
        console.show(f"{share:7.2%} : {label}")


def show_json(name, best, first):
    """Print an answer as a line of JSON."""
    classes = [{"class": label, "probability": share} for label, share in best]
    # An escape of any other kind than \uXXXX would be no JSON.
    everything = "utf" in (sys.stdout.encoding or "").lower()
    console.show(json.dumps({"image": name, "classes": classes}, ensure_ascii=not everything))


def show_csv(name, best, first):
    """Print an answer as a row of CSV; the first after a row of names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if first:
        numbers = ["", *(f"_{number}" for number in range(2, len(best) + 1))]
        pairs = [(f"class{number}", f"probability{number}") for number in numbers]
        writer.writerow(["image", *itertools.chain(*pairs)])
    writer.writerow([name, *itertools.chain(*best)])
    console.show(text.getvalue().removesuffix("\n"))


FORMATS = {"table": show_table, "lines": show_lines, "json": show_json, "csv": show_csv}


class Copies:
    """Annotated copies of the first photos of a run."""

    def __init__(self, folder, classifier, arguments):
        self.folder, self.most = folder, arguments.copies
        self.given = set()  # names of copies; some disks do not tell a from A
        self.show = arguments.show and has_display()
        self.heat = None
        if arguments.explain:
            from pyimagesearch import explanation

            self.heat = explanation.heat_of(classifier.network)

    def save(self, name, pixels, picture, probabilities, best):
        """Write the copy of one photo, while there are copies left to write."""
        from pyimagesearch import annotation

        if len(self.given) >= self.most:
            return
        text = "{}: {:.2%}".format(*best)
        if self.heat:
            heat = self.heat(pixels[None], [int(probabilities.argmax())])[0]
            picture = annotation.explain(picture, heat, text)
        else:
            picture = annotation.annotate(picture, text)
        annotation.save(self.folder / self.name_of(name), picture)
        if self.show:
            annotation.show(picture)

    def name_of(self, name):
        """Return the name of a photo's copy, one that no other photo of this run has.

        It is cut to what every file system takes, which counts bytes.
        """
        # What an address has behind the name of its file does not belong to it.
        stem = Path(name.split("?")[0] if "://" in name else name).stem
        stem = os.fsencode(stem)[:150].decode("utf-8", "ignore") or "photo"
        for number in itertools.count(1):
            place = f" ({number})" if number > 1 else ""
            copy = f"{stem}{place}{'_explained' if self.heat else ''}.png"
            if copy.casefold() not in self.given:
                self.given.add(copy.casefold())
                return copy

    def tell(self, answered):
        """Say how many copies there are, and where."""
        count = len(self.given)
        if count:
            copies = "1 annotated copy" if count == 1 else f"{count:,} annotated copies"
            rest = "" if count == answered else f" of {answered:,} photos; --copies N writes more"
            console.info(f"{copies}{rest} -> {self.folder}")


def status(answered, asked):
    """Return the exit status: None when every photo has its answer."""
    if answered < asked:
        return console.PARTLY if answered else console.MISTAKE


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
