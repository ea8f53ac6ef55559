"""What a phase of training sees of each photo: fresh versions, or stored views of them.

What the frozen part says about a picture never changes. So instead of sending a newly augmented
photo through the whole network in every epoch, N augmented versions of it go through the frozen
part once, the results stay on disk, and every epoch takes one of them.
"""

import itertools
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from pyimagesearch import console, features, files, images, networks
from pyimagesearch.console import UserError

# On a CPU, where the recipe says "auto".
DEFAULT_VIEWS = 5
# A stored map is moved by up to a fourteenth of its side each time it is seen again: one of
# block4_pool's 14 cells at 224 x 224 pixels, where a cell is 16 pixels of the photo.
CELLS_A_STEP = 14


def choose(views, on_gpu):
    """Return the number of stored views a recipe's `views` means here, or None for fresh ones."""
    if views == "auto":
        return None if on_gpu else DEFAULT_VIEWS
    return views


@dataclass(frozen=True)
class Stored:
    """Outputs of the frozen part on disk."""

    maps: np.memmap  # (views, photos, *cut) uint16: the bits of bfloat16 numbers

    def read(self, views, positions):
        """Return (n, *cut) float32: view views[i] of photo positions[i]."""
        bits = np.stack([self.maps[v, p] for v, p in zip(views, positions, strict=True)])
        return bits.view(ml_dtypes.bfloat16).astype(np.float32)


def augmenter(recipe, seed, photos):
    """Return a function (position, photo) -> the photo changed, the same for the same position.

    A position counts on through every version of every photo: version * photos + photo.
    `seed` is a tuple of ints.
    """

    def augment(position, photo):
        rng = np.random.default_rng((*seed, *divmod(position, photos)))
        return images.warp(photo, images.draw(recipe.augmentation, recipe.image_size, rng))

    return augment


def store(path, classifier, phase, recipe, photos, views, seed):
    """Compute `views` versions of each photo up to the phase's cut, or find them on disk.

    Args:
        path: the .npy file; its name must say what it was made from, for a file that is there
            is taken as it is.
        classifier: the whole network.
        photos: images.Photos.
        views: versions of each photo; 0 stores the plain photo.
        seed: a tuple of ints.

    Raises:
        UserError: the disk has no room for it.
    """
    if not path.is_file():
        frozen, _ = networks.split_at(classifier, phase.unfreeze_after)
        versions = max(views, 1)
        shape = (versions, len(photos), *frozen.output.shape[1:])
        refuse_if_too_large(path, shape)
        augment = augmenter(recipe, seed, len(photos)) if views else None
        with files.whole(path) as partial:
            maps = np.lib.format.open_memmap(partial, "w+", dtype=np.uint16, shape=shape)
            reserve(partial)
            fill(maps.reshape(-1, *shape[2:]), frozen, recipe, photos.paths * versions, augment)
            maps.flush()
            del maps
    return Stored(np.load(path, mmap_mode="r"))


def reserve(path):
    """Take the disk space of a sparse file now, so that a full disk is an error and no crash.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))


def fill(rows, frozen, recipe, paths, augment):
    """Write what the frozen part says about each path into (n, *cut) uint16 rows."""
    run = networks.forward(frozen)
    outputs = features.frozen_outputs(run, paths, recipe.image_size, recipe.batch_size, augment)
    start = 0
    with console.progress("what the frozen part says", len(paths)) as done:
        for batch in outputs:
            rows[start : start + len(batch)] = batch.astype(ml_dtypes.bfloat16).view(np.uint16)
            start += len(batch)
            done(len(batch))


def refuse_if_too_large(path, shape):
    """Say what the stored views need, and stop before they fill the disk."""
    needed = math.prod(shape) * 2
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if needed > free * 0.95:
        raise UserError(
            f"the stored views need {needed / 1e9:.1f} GB in {path.parent}, where "
            f"{free / 1e9:.1f} GB are free. Free some, or set the recipe's views to a smaller "
            f"number (now {shape[0]}) or to None"
        )
    views = "1 view" if shape[0] == 1 else f"{shape[0]} views"
    console.info(f"{path.stem}: {views} of {shape[1]:,} photos, {needed / 1e6:,.0f} MB on disk")


def epoch_order(seed, epoch, photos, count):
    """Return which photos an epoch sees, as (count,) positions.

    The training set is repeated without end, shuffled anew each time round; an epoch takes the
    next `count` of it. With count == photos every epoch sees every photo once.
    """
    rounds, places = np.divmod(np.arange(epoch * count, (epoch + 1) * count), photos)
    shuffled = {
        each: np.random.default_rng((*seed, int(each))).permutation(photos)
        for each in np.unique(rounds)
    }
    return np.array([shuffled[r][p] for r, p in zip(rounds, places, strict=True)])


def fresh_batches(recipe, photos, augmented, seed, count):
    """Yield (uint8 photos, labels) without end, each photo changed anew each time it comes.

    An epoch is `count` photos; every one of its batches is full but the last.
    """
    for epoch in itertools.count():
        order = epoch_order(seed, epoch, len(photos), count)
        augment = augmenter(recipe, (*seed, epoch), count) if augmented else None
        paths = [photos.paths[position] for position in order]
        pixels = images.batches(paths, recipe.image_size, recipe.batch_size, augment)
        for number, batch in enumerate(pixels):
            start = number * recipe.batch_size
            yield batch, photos.labels[order[start : start + len(batch)]]


def stored_batches(recipe, photos, stored, seed, count, shift):
    """Yield (float32 maps, labels) without end: each time a photo comes, another of its views.

    With `shift` each map is moved at random, as `shifted` does, by up to 1/14 of its side.
    """
    views = len(stored.maps)
    cells = stored.maps.shape[2] // CELLS_A_STEP if shift else 0
    first = np.random.default_rng(seed).integers(views, size=len(photos))
    for epoch in itertools.count():
        order = epoch_order(seed, epoch, len(photos), count)
        rng = np.random.default_rng((*seed, epoch))
        for start in range(0, count, recipe.batch_size):
            positions = order[start : start + recipe.batch_size]
            maps = stored.read((first[positions] + epoch) % views, positions)
            yield shifted(maps, cells, rng) if cells else maps, photos.labels[positions]


def plain_fresh_batches(recipe, photos):
    """Yield (uint8 photos, labels): every photo once, in order, as it is."""
    start = 0
    for batch in images.batches(photos.paths, recipe.image_size, recipe.batch_size):
        yield batch, photos.labels[start : start + len(batch)]
        start += len(batch)


def plain_stored_batches(recipe, photos, stored):
    """Yield (float32 maps, labels): every photo once, in order, from its first view."""
    for start in range(0, len(photos), recipe.batch_size):
        positions = np.arange(start, min(start + recipe.batch_size, len(photos)))
        yield stored.read(np.zeros_like(positions), positions), photos.labels[positions]


def shifted(maps, cells, rng):
    """Return (n, height, width, channels) maps, each moved by -cells..cells each way at random.

    The edge is repeated into the gap. A map never seen in quite the same place is not learned
    by heart.
    """
    height, width = maps.shape[1:3]
    padded = np.pad(maps, ((0, 0), (cells, cells), (cells, cells), (0, 0)), mode="edge")
    corners = rng.integers(0, 2 * cells + 1, size=(len(maps), 2))
    windows = zip(padded, corners, strict=True)
    return np.stack([each[y : y + height, x : x + width] for each, (y, x) in windows])


def cache_path(folder, phase, split, *parts):
    """Return where the views of a phase lie: the name says what they were made from."""
    return Path(folder) / f"{phase.name}_{split}_{files.digest(phase.unfreeze_after, *parts)}.npy"


def drop_stale(path):
    """Delete the stored views of the same phase and split that were made from something else."""
    stem = path.stem.rsplit("_", 1)[0]
    for other in path.parent.glob(f"{stem}_????????????????.npy"):
        if other != path:
            other.unlink()
