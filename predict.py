"""Say what is on a photo, or on many.

    python predict.py --recipe food11 --image photo.jpg

Prints a line a photo and writes an annotated copy of each to output/<recipe>/predictions/.
Messages go to stderr, so the answers can be piped.
"""

import os
from collections import Counter
from pathlib import Path

from pyimagesearch import console
from pyimagesearch.recipe import BACKBONES, METHODS

BATCH_SIZE = 32


def main(argv=None):
    parser = console.parser(__doc__.splitlines()[0])
    parser.add_argument("--image", nargs="+", required=True, type=Path, metavar="PATH")
    parser.add_argument("--method", choices=METHODS, help="which of a recipe's classifiers")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="likeliest classes (3)")
    parser.add_argument("--show", action="store_true", help="open a window with each photo")
    parser.add_argument(
        "--imagenet",
        nargs="?",
        const="VGG16",
        choices=sorted(BACKBONES),
        metavar="NETWORK",
        help="ask the untouched network, with its own 1,000 classes (VGG16)",
    )
    arguments = parser.parse_args(argv)
    if arguments.top < 1:
        raise console.UserError(f"--top is {arguments.top}; it takes a whole number from 1")

    if arguments.imagenet:
        return ask_imagenet(arguments.imagenet, arguments.image)

    from pyimagesearch import artifacts, config, images, report

    recipe = console.find_recipe(arguments.recipe)
    folder = artifacts.find(config.OUTPUT_DIR, recipe, arguments.method)
    show = arguments.show and has_display()
    pictures = config.OUTPUT_DIR / recipe.name / "predictions"

    classifier, answered, names = None, 0, Counter()
    for start in range(0, len(arguments.image), BATCH_SIZE):
        paths = arguments.image[start : start + BATCH_SIZE]
        # A wrong path is said at once, without waiting for TensorFlow.
        if classifier is None and any(path.is_file() for path in paths):
            console.load_tensorflow()
            classifier = artifacts.load(folder)
            console.info(f"asking {folder}, which knows: {', '.join(classifier.classes)}")
        photos = list(readable(paths, classifier and images.DETAIL * classifier.image_size))
        if not photos:
            continue
        for path, photo, words in answers(classifier, photos, arguments.top):
            console.show(f"{path}  {', '.join(words)}")
            answered += 1
            picture = report.annotate(photo, words[0])
            report.save_picture(pictures / name_of_copy(path, names), picture)
            if show:
                report.show_picture(picture)
    if answered:
        copies = "1 annotated copy" if answered == 1 else f"{answered:,} annotated copies"
        console.info(f"{copies} -> {pictures}")
    return status(answered, len(arguments.image))


def status(answered, asked):
    """Return the exit status: None when every photo has its answer."""
    if answered < asked:
        return console.PARTLY if answered else console.MISTAKE


def name_of_copy(path, names):
    """Return the name of a photo's annotated copy, one that no other photo of this run has.

    `names` counts the names given so far: photos of one name may come from several folders. The
    name is cut to what every file system takes, which counts bytes.
    """
    name = os.fsencode(path.stem)[:150].decode("utf-8", "ignore")
    names[name] += 1
    return f"{name}.png" if names[name] == 1 else f"{name} ({names[name]}).png"


def ask_imagenet(backbone, paths):
    """Print the five ImageNet classes that the untouched network finds likeliest in each photo."""
    photos = list(readable(paths))
    if photos:
        console.load_tensorflow()
        from pyimagesearch import networks

        answers = networks.ask_imagenet(backbone, [photo for _, photo in photos])
        for (path, _), classes in zip(photos, answers, strict=True):
            console.show(f"{path}, {backbone} without any training here:")
            for name, share in classes:
                console.show(f"{share:7.2%} : {name}")
    return status(len(photos), len(paths))


def has_display():
    """Tell whether a window can open; say so when it cannot."""
    if os.name != "posix" or os.uname().sysname == "Darwin":
        return True
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return True
    console.warn("--show needs a display and there is none; the annotated copies are written")
    return False


def readable(paths, at_least=None):
    """Yield (path, photo as images.read_rgb gives it) of each that can be read; report the rest."""
    from pyimagesearch import images

    for path in paths:
        try:
            yield path, images.read_rgb(path, at_least)
        except images.BrokenPhoto as broken:
            console.error(f"{path} cannot be read as a photo: {broken}. Give another file")
        except OSError as failure:
            console.error(f"{path}: {failure.strerror}. Check the path after --image")


def answers(classifier, photos, top):
    """Yield (path, photo, ["label: 64.32%", ...]), the likeliest class first, of each photo."""
    import numpy as np

    from pyimagesearch import images

    batch = np.stack([images.resize(photo, classifier.image_size) for _, photo in photos])
    rows = classifier.probabilities(batch)
    for (path, photo), probabilities in zip(photos, rows, strict=True):
        best = np.argsort(-probabilities)[:top]
        yield path, photo, [f"{classifier.classes[i]}: {probabilities[i]:.2%}" for i in best]


if __name__ == "__main__":
    console.run(main)
