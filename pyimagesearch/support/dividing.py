"""Divide the photos of a download into training, validation and evaluation, class by class."""

import math
import random
from itertools import islice

from pyimagesearch.support import layouts
from pyimagesearch.support.errors import UserError


def divide(recipe, originals, split_names, seed, drawn=None, earlier=None):
    """Return the photos of a download with their splits, class by class as in recipe.split.

    Args:
        originals: a list of layouts.Original.
        drawn: the splits that the download does not have; None: all. They are drawn from the photos
            without a split or, if there are none, from the training photos.
        earlier: {path: split} of the photos that stay in the split of an earlier run.
            The others fill the splits up.

    Raises UserError if a class has too few photos.
    """
    drawn = split_names if drawn is None else drawn
    parts = drawn_parts(recipe, drawn, split_names)
    pools = photos_to_divide(recipe, originals, split_names)
    refuse_small_classes(recipe, small_classes(parts, pools))
    divided = [photo for photo in originals if photo.split not in (None, split_names[0])]
    may_stay = {split_names[0], *drawn}
    for pool in pools:
        splits = {photo: (earlier or {}).get(photo.path) for photo in pool}
        new = [photo for photo, split in splits.items() if split not in may_stay]
        if recipe.split.shuffle:
            random.Random(seed).shuffle(new)
        else:
            new.sort(key=lambda photo: layouts.natural_key(photo.path.stem))
        rest = iter(new)
        for split, size in zip(split_names, split_sizes(parts, len(pool)), strict=True):
            same = [photo for photo in pool if splits[photo] == split and split in may_stay]
            added = islice(rest, max(0, size - len(same)))
            divided += [photo._replace(split=split) for photo in (*same, *added)]
    return sorted(divided, key=lambda photo: split_names.index(photo.split))


def photos_to_divide(recipe, originals, split_names):
    """Return, for each class, a list of its photos without a split or for training."""
    pools = [[] for _ in recipe.classes]
    for photo in originals:
        if photo.split in (None, split_names[0]):
            pools[photo.label].append(photo)
    return pools


def small_classes(parts, pools):
    """Return {label: (photos, photos needed)} of the classes with too few photos to divide."""
    counts = {label: len(pool) for label, pool in enumerate(pools)}
    needed = {label: sum(split_sizes(parts, count)) for label, count in counts.items()}
    pairs = {label: (count, needed[label]) for label, count in counts.items()}
    return {label: pair for label, pair in pairs.items() if pair[0] < pair[1]}


def refuse_small_classes(recipe, small):
    """Raise UserError if there are any `small_classes`."""
    if not small:
        return
    words = [
        f"class {recipe.classes[label]!r} has {count:,} and needs {needed:,}"
        for label, (count, needed) in list(small.items())[:5]
    ]
    more = f", and {len(small) - 5:,} more classes have too few" if len(small) > 5 else ""
    raise UserError(
        f"{recipe.source} has too few photos that can be read: {', '.join(words)}{more}. Add "
        f"photos, make the numbers of the recipe's split smaller in pyimagesearch/config.py, or "
        f"leave such classes out with --skip-small-classes"
    )


def split_sizes(parts, count):
    """Return how many of the `count` photos of a class go to (training, validation, evaluation).

    `parts` are those of a recipe.Split. If the photos are too few, the sizes add up to more.
    """
    # A fraction is at least one photo, so that every split has photos of every class.
    sizes = [max(1, round(part * count)) if type(part) is float else part for part in parts]
    others = [size for part, size in zip(parts, sizes, strict=True) if type(part) is not float]
    if not any(others) and None not in others and math.isclose(sum(parts), 1):
        # Each size is rounded on its own, so the sum can be off. Training makes up for it.
        sizes[0] = max(1, count - sum(sizes[1:]))
    rest = max(1, count - sum(size for size in sizes if size is not None))
    return [rest if size is None else size for size in sizes]


def drawn_parts(recipe, drawn, split_names):
    """Return the parts (training, validation, evaluation) of the photos that are to be divided.

    If only some splits are `drawn`, training keeps the other photos. Raises UserError if a split
    would stay empty.
    """
    parts = split_parts(recipe)
    if split_names[0] not in drawn:
        named = dict(zip(split_names, parts, strict=True))
        parts = [part if split in drawn else 0 for split, part in named.items()]
        parts[0] = recipe.split.training if None in parts else None
    fields = ("training", "validation", "evaluation")
    for field, split, part in zip(fields, split_names, parts, strict=True):
        if part == 0 and split in drawn:
            remedy = "Use a fraction such as 0.15, or a number of photos per class"
            if field == "validation":
                remedy += ". Or set validate_on_evaluation=True"
            raise UserError(
                f"recipe {recipe.name!r} has Split({field}={part}), so {split} gets no photos. "
                f"{remedy}"
            )
    return parts


def split_parts(recipe):
    """Return the parts of recipe.split: (training, validation, evaluation)."""
    training, validation = recipe.split.training, recipe.split.validation
    if recipe.validate_on_evaluation:
        # The evaluation photos are also the validation photos; the other validation photos train.
        if validation is None:
            training = None
        elif type(training) is type(validation) is float:
            training += validation
        validation = 0
    return training, validation, recipe.split.evaluation


def part_text(part):
    """Return a part of a recipe.Split in words."""
    if part is None:
        return "the rest"
    return f"{100 * part:.3g} %" if type(part) is float else f"{part:,} per class"
