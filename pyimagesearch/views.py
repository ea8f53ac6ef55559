"""What a phase of training sees of each photo: fresh versions, or stored views of them.

What the frozen part says about a picture never changes. So instead of sending a newly augmented
photo through the whole network in every epoch, N augmented versions of it go through the frozen
part once, the results stay on disk, and every epoch takes one of them.
"""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pyimagesearch import cache, console, files, images, machine, networks
from pyimagesearch.recipe import BACKBONES, Recipe

# On a CPU, where the recipe says "auto": views of a photo in each phase, and how many of them the
# next phase learns from too. On 1,000 photos of ten dishes, 25 + 10 epochs: 0.599 of 750 validation
# photos after the warm-up, mean of nine seeds, and 0.678 after the next phase, mean of three; fresh
# augmentation 0.604 and 0.673. Of 600 evaluation photos 0.635 and 0.719; fresh 0.641 and 0.713.
VIEWS, LENT = 3, 1
# A stored map is moved by a fourteenth of its side: one of block4_pool's 14 cells at 224 x 224
# pixels, where a cell is 16 pixels of the photo. A cell that is more than a seventh stays.
CELLS_A_STEP = 14
PLAIN = ("plain",)  # instead of numbers of views: the photos as they are


@dataclass(frozen=True)
class Stage:
    """A phase of a recipe, and what its views are made from and kept in."""

    recipe: Recipe
    number: int  # of the phase, from 0
    seed: int
    folder: Path  # for stored views

    @property
    def phase(self):
        return self.recipe.phases[self.number]


def choose(views, on_gpu):
    """Return the number of stored views a recipe's `views` means here, or None for fresh ones."""
    if views != "auto":
        return views
    return None if on_gpu else VIEWS


def augmenter(recipe, seed, photos):
    """Return a function (position, photo) -> the photo changed, the same for the same position.

    A position counts on through every version of every photo: version * photos + photo.
    `seed` is a tuple of ints.
    """

    def augment(position, photo):
        rng = np.random.default_rng((*seed, *divmod(position, photos)))
        return images.warp(photo, images.draw(recipe.augmentation, recipe.image_size, rng))

    return augment


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


def fresh_batches(recipe, photos, augmented, seed, count, done=0):
    """Yield (uint8 photos, labels) without end, each photo changed anew each time it comes.

    An epoch is `count` photos; every one of its batches is full but the last. The first `done`
    epochs are passed over.
    """
    for epoch in itertools.count(done):
        order = epoch_order(seed, epoch, len(photos), count)
        augment = augmenter(recipe, (*seed, epoch), count) if augmented else None
        paths = [photos.paths[position] for position in order]
        pixels = images.batches(paths, recipe.image_size, recipe.batch_size, augment)
        for number, batch in enumerate(pixels):
            start = number * recipe.batch_size
            yield batch, photos.labels[order[start : start + len(batch)]]


def stored_batches(recipe, photos, stored, seed, count, done=0, augmented=False, mixes=False):
    """Yield (bfloat16 maps, labels) without end: each time a photo comes, another of its views.

    Args:
        recipe: a row.
        photos: images.Photos.
        stored: their cache.Stored.
        seed: a tuple of ints.
        count: photos an epoch.
        done: epochs to pass over.
        augmented: a view seen again would be learned by heart: vary it each time.
        mixes: vary it by mixing another view of the same photo into it, too.
    """
    views = len(stored.paths)
    first = np.random.default_rng(seed).integers(views, size=len(photos))
    for epoch in itertools.count(done):
        order = epoch_order(seed, epoch, len(photos), count)
        rng = np.random.default_rng((*seed, epoch))
        for start in range(0, count, recipe.batch_size):
            positions = order[start : start + recipe.batch_size]
            maps = stored.read((first[positions] + epoch) % views, positions)
            if augmented:
                maps = varied(maps, recipe.augmentation, rng)
            if augmented and mixes:
                others = stored.read(rng.integers(views, size=len(positions)), positions)
                maps = mixed(maps, varied(others, recipe.augmentation, rng), rng)
            yield maps, photos.labels[positions]


def plain_fresh_batches(recipe, photos):
    """Yield (uint8 photos, labels): every photo once, in order, as it is."""
    start = 0
    for batch in images.batches(photos.paths, recipe.image_size, recipe.batch_size):
        yield batch, photos.labels[start : start + len(batch)]
        start += len(batch)


def plain_stored_batches(recipe, photos, stored):
    """Yield (maps, labels): every photo once, in order, from its first view."""
    for start in range(0, len(photos), recipe.batch_size):
        positions = np.arange(start, min(start + recipe.batch_size, len(photos)))
        yield stored.read(np.zeros_like(positions), positions), photos.labels[positions]


def varied(maps, augmentation, rng):
    """Return (n, height, width, channels) maps, each mirrored or not, and moved by a cell or not.

    Only as far as the augmentation mirrors and moves photos. The edge is repeated into the gap.
    """
    # Rows and columns are numbers until the end: so a map is copied once, and cell by cell.
    places = [np.tile(np.arange(side), (len(maps), 1)) for side in maps.shape[1:3]]
    for along, flips in enumerate((augmentation.vertical_flip, augmentation.horizontal_flip)):
        if flips:
            chosen = rng.random(len(maps)) < 0.5
            places[along][chosen] = places[along][chosen, ::-1]
    for along, moves in enumerate((augmentation.height_shift, augmentation.width_shift)):
        side = maps.shape[along + 1]
        cells = (side + CELLS_A_STEP // 2) // CELLS_A_STEP
        if moves and cells:
            steps = rng.integers(-cells, cells + 1, size=len(maps))
            moved = np.clip(np.arange(side) - steps[:, None], 0, side - 1)
            places[along] = np.take_along_axis(places[along], moved, axis=1)
    made = np.empty_like(maps)
    for number, (rows, columns) in enumerate(zip(*places, strict=True)):
        made[number] = maps[number, rows[:, None], columns]
    return made


def mixed(maps, others, rng):
    """Return maps, each mixed with the one in its place in `others` in a random proportion."""
    shares = rng.random((len(maps), *[1] * (maps.ndim - 1)), np.float32)
    whole = np.asarray(maps, np.float32), np.asarray(others, np.float32)
    return (shares * whole[0] + (1 - shares) * whole[1]).astype(maps.dtype)


def stores_views(recipe, phase):
    """Tell whether a phase learns from stored outputs of its frozen part."""
    return not phase.augment or view_count(recipe) is not None


def view_count(recipe):
    """Return how many views of a photo a phase stores on this machine, None for fresh ones."""
    return choose(recipe.views, machine.has_gpu())


def views_of(recipe, number):
    """Return the numbers of the stored views that a phase learns from, or PLAIN.

    Learning goes on better from other views than those by which the head was taught. With the same
    five, 0.653 of 750 validation photos of ten dishes and 0.704 of 600 evaluation photos instead
    of 0.672 and 0.722, in the mean of two seeds. Only by default phases share some.
    """
    count = view_count(recipe)
    if not count or not recipe.phases[number].augment:
        return PLAIN
    first = number * (count - LENT if recipe.views == "auto" else count)
    return tuple(range(first, first + count))


def open_views(classifier, stage, split, photos, seen):
    """Return the stored views of a split at a phase's cut, computing those that are not on disk.

    A view that a later phase wants at an earlier cut is stored there first, and the layers in
    between go on from there: no view passes a frozen layer twice.

    Args:
        classifier: the whole network.
        stage: of the phase.
        split: "training", "validation" or "evaluation".
        photos: images.Photos.
        seen: numbers of views, or PLAIN.
    """
    cut, batch_size = stage.phase.unfreeze_after, stage.recipe.batch_size
    frozen, _ = networks.split_at(classifier, cut)
    paths = view_paths(frozen, stage, split, photos, seen)
    waiting = console.Waiting()
    anew, shared = from_photos(frozen, stage, photos, waiting), {}
    for view, path in zip(seen, paths, strict=True):
        first = first_to_store(stage, split, view)
        if first != stage and not path.is_file():
            stored = open_views(classifier, first, split, photos, (view,))
            between = networks.between(classifier, first.phase.unfreeze_after, cut)
            shared[view] = from_stored(between, batch_size, len(photos), stored)

    def outputs(place, start):
        view = seen[place]
        return shared[view](start) if view in shared else anew(view, start)

    shape = (len(photos), *frozen.output.shape[1:])
    maps = cache.open_stored(paths, shape, kept_of(split), batch_size, outputs)
    if waiting.seconds:
        console.info(f"the network waited for photos {waiting.share:.1%} of the time")
    return maps


def from_photos(frozen, stage, photos, waiting):
    """Return a function (view, start) -> what the frozen part says of that view, from `start`.

    `waiting` counts how long it waits for photos.
    """
    run, recipe = networks.forward(frozen), stage.recipe

    def outputs(view, start):
        paths, augment = photos.paths[start:], None
        if view not in PLAIN:
            change = augmenter(recipe, (stage.seed, view), len(photos))

            def augment(position, photo):
                return change(start + position, photo)

        pixels = images.batches(paths, recipe.image_size, recipe.batch_size, augment)
        return map(run, waiting.over(pixels))

    return outputs


def from_stored(between, batch_size, photos, stored):
    """Return a function of `start` for layers that go on from what is stored of a view."""
    run = networks.forward(between)

    def outputs(start):
        for first in range(start, photos, batch_size):
            positions = range(first, min(first + batch_size, photos))
            yield run(stored.read([0] * len(positions), positions))

    return outputs


def view_paths(frozen, stage, split, photos, seen):
    """Return where stored views lie, a file a view; those made from something else are deleted.

    A name says what its file was made from: photos, weights, size, precision, augmentation, seed.
    """
    recipe, seed = stage.recipe, stage.seed
    made_from = (
        *(photos.stamp, networks.weights_digest(frozen), recipe.image_size),
        *(recipe.backbone, recipe.preprocessing, frozen.output.dtype),
        *(() if seen == PLAIN else (recipe.augmentation, seed)),
    )
    cut = stage.phase.unfreeze_after or "backbone"
    stem = f"{split}_{cut}_{'plain' if seen == PLAIN else 'view'}_"
    name = f"{stem}{files.digest(*made_from)}"
    shape = (len(photos), *frozen.output.shape[1:])
    cache.drop_stale(stage.folder, stem, name, shape, kept_of(split))
    return [stage.folder / f"{name}_{view}.npy" for view in seen]


def kept_of(split):
    """Return in how many bits a split is stored: what is judged is not rounded."""
    return cache.FLOAT32 if split == "evaluation" else cache.BFLOAT16


def first_to_store(stage, split, view):
    """Return the stage, this or a later one, that wants the same view at the earliest cut.

    A phase that holds photos out has other photos.
    """
    recipe, wanting = stage.recipe, [stage]
    for number in range(stage.number + 1, len(recipe.phases)):
        later = replace(stage, number=number)
        shares = split == "validation" or view in views_of(recipe, number)
        if (
            shares
            and stores_views(recipe, later.phase)
            and not (later.phase.held_out or stage.phase.held_out)
        ):
            wanting.append(later)
    return earliest(wanting)


def earliest(stages):
    """Return the stage of a recipe that is cut nearest to the photos."""
    cuts = [*BACKBONES[stages[0].recipe.backbone]["segments"], None]
    return min(stages, key=lambda each: cuts.index(each.phase.unfreeze_after))
