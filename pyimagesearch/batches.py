"""The order of photos in an epoch, and their batches: from the files or from stored outputs."""

import itertools
import shutil
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from pyimagesearch import datasets, frozen, images, networks
from pyimagesearch.frozen import Store, Views
from pyimagesearch.recipe import Recipe, height_and_width
from pyimagesearch.support import array_files, console, fingerprints
from pyimagesearch.support.errors import UserError

# A stored feature map is shifted by up to a fourteenth of its side: by one of block4_pool's 14
# cells at 224 x 224 pixels, where a cell is 16 pixels of the photo. Maps with fewer than 7 cells
# along a side are not shifted: a cell would be too much.
SHIFTS_PER_SIDE = 14

# Decoded photos are stored for a phase of two epochs or more. On an Intel Xeon, decoding takes 1.1
# ms of a core for a photo of 307 x 173 pixels and 28 ms for 12 million pixels; storing it at 224 x
# 224 takes 0.3 ms, reading it back 0.05 ms, and augmenting it 0.8 to 1 ms.
FEWEST_EPOCHS = 2
# How much of the free space decoded photos may take: they only save time.
SHARE_OF_DISK = 0.5
PHOTOS_FOLDER = "photos"  # in output/<recipe>/cache


@dataclass(frozen=True)
class PhaseData:
    """The photos of one phase, and the batches that its epochs read."""

    recipe: Recipe
    number: int  # of the phase, from 0
    splits: datasets.Splits
    seed: int
    views: Views | None  # None: augment afresh in every epoch
    store: Store
    cache: Path | None = None  # output/<recipe>/cache; None: no decoded photos are stored

    @property
    def phase(self):
        """The Phase."""
        return self.recipe.phases[self.number]

    @property
    def is_stored(self):
        """True if the epochs read stored outputs of the frozen layers."""
        return frozen.is_stored(self.phase, self.views)

    @cached_property
    def photos(self):
        """The datasets.Splits of this phase."""
        return datasets.hold_out(self.splits, self.phase.held_out, self.seed)

    @property
    def steps_per_epoch(self):
        """The number of training batches of an epoch."""
        return self.phase.steps_per_epoch or self.count_batches(self.photos.training)

    @property
    def photos_per_epoch(self):
        """The number of training photos that an epoch shows."""
        if self.phase.steps_per_epoch:
            return self.phase.steps_per_epoch * self.recipe.batch_size
        return len(self.photos.training)

    def count_batches(self, photos):
        """Return how many batches show every photo once. The last one may be smaller."""
        return -(-len(photos) // self.recipe.batch_size)

    def model(self, network):
        """Return the model that the epochs train; it shares the layers of the network."""
        if self.is_stored:
            return networks.split_at(network, self.phase.unfreeze_after)[1]
        return networks.with_frozen_part(network, self.phase.unfreeze_after)

    def as_datasets(self, model_input, first_epoch, errors):
        """Return the (endless training, validation) batches as tf.data.Datasets, for `fit`."""
        endless, count = tf.data.INFINITE_CARDINALITY, self.count_batches(self.photos.validation)
        training = partial(self.training_batches, first_epoch)
        return (
            as_dataset(training, model_input, endless, errors),
            as_dataset(self.validation_batches, model_input, count, errors),
        )

    def training_batches(self, first_epoch=0):
        """Return an endless iterator over (inputs, labels), from the start of an epoch on."""
        if not self.is_stored:
            return self.fresh_batches(first_epoch)
        outputs = frozen.training_outputs(self.recipe, self.number, self.views)
        # The same few views in every epoch would be memorized.
        return self.stored_batches(outputs, first_epoch, vary=outputs[0].view is not None)

    def validation_batches(self):
        """Yield (inputs, labels) of every validation photo once, in order, not augmented."""
        recipe, photos = self.recipe, self.photos.validation
        if self.is_stored:
            inputs = self.store.in_order(frozen.validation_output(self.phase), recipe.batch_size)
        else:
            read, positions = self.reader(photos), range(len(photos))
            inputs = images.make_batches(read, positions, recipe.batch_size)
        yield from with_labels(inputs, photos.labels)

    def evaluation_inputs(self, network):
        """Return (model, inputs) that give the output for every evaluation photo, in order.

        Layers that are frozen in every phase give the same output after each, so it is computed
        once and stored, if the disk has room. Otherwise the photos go through the whole network,
        which computes in float32.
        """
        recipe, output = self.recipe, frozen.evaluation_output(self.recipe, self.views)
        if output is not None and output in self.store:
            _, trained_part = networks.split_at(network, output.layer)
            return trained_part, self.store.in_order(output, recipe.batch_size)
        paths = self.photos.evaluation.paths
        return network, images.read_batches(paths, recipe.image_size, recipe.batch_size)

    def comparison_inputs(self, network, positions):
        """Return (model, inputs) for the training photos that predictions are compared with.

        `positions` are theirs. If the epochs read stored outputs, so does the model. They are of
        augmented photos, but docs/unlike.md shows that these serve as well.
        """
        recipe = self.recipe
        if self.is_stored:
            output = frozen.training_outputs(recipe, self.number, self.views)[0]
            return self.model(network), self.store.at(output, positions, recipe.batch_size)
        paths = self.photos.training.take(positions).paths
        return network, images.read_batches(paths, recipe.image_size, recipe.batch_size)

    def fresh_batches(self, first_epoch):
        """Yield (uint8 photos, labels) without end; each photo changes from epoch to epoch."""
        recipe, photos, seed = self.recipe, self.photos.training, (self.seed, self.number)
        for epoch in itertools.count(first_epoch):
            order = epoch_order(seed, epoch, len(photos), self.photos_per_epoch)
            augment = images.augmenter(recipe.augmentation, recipe.image_size, (*seed, epoch))
            read = self.reader(photos)
            pixels = images.make_batches(read, order, recipe.batch_size, augment)
            yield from with_labels(pixels, photos.labels[order])

    def reader(self, photos):
        """Return the function from the position of a photo to its pixels: stored, or decoded."""
        file = self.photo_file(photos)
        if file is not None and file.path.is_file():
            return file.read_row
        size = self.recipe.image_size
        return lambda position: images.read_resized(photos.paths[position], size)

    def photo_file(self, photos):
        """Return the file of the decoded photos, or None."""
        if self.cache is None:
            return None
        size = self.recipe.image_size
        path = self.cache / PHOTOS_FOLDER / f"{fingerprints.digest(photos.digest, size)}.npy"
        return array_files.ArrayFile(path, (len(photos), *height_and_width(size), 3), "uint8")

    def store_photos(self):
        """Decode the photos once and store them, if every epoch would do so and the disk has room.

        Files of other photos are deleted. An interrupted call resumes.
        """
        if self.cache is None:
            return
        folder = self.cache / PHOTOS_FOLDER
        is_used = not self.is_stored and self.phase.epochs >= FEWEST_EPOCHS
        splits = (self.photos.training, self.photos.validation) if is_used else ()
        photos_of = {self.photo_file(photos): photos for photos in splits}
        array_files.delete_others(folder, photos_of)
        needed_bytes = sum(file.missing_bytes for file in photos_of)
        if not needed_bytes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        size = f"{needed_bytes / 1e6:,.0f} MB in {folder}"
        if needed_bytes > shutil.disk_usage(folder).free * SHARE_OF_DISK:
            console.info(f"every epoch decodes the photos again: the disk has no room for {size}")
            return
        console.info(f"decoding the photos once: {size}")
        with console.progress("decoding", sum(map(len, photos_of.values()))) as advance:
            for file, photos in photos_of.items():
                if not file.path.is_file():
                    self.write_photos(file, photos, advance)

    def write_photos(self, file, photos, advance):
        """Write the decoded photos to their file."""
        size, batch_size = self.recipe.image_size, self.recipe.batch_size
        batches_from = partial(images.read_batches, photos.paths, size, batch_size, None)
        file.write(batch_size, batches_from, advance)

    def stored_batches(self, outputs, first_epoch, vary):
        """Yield (feature maps, labels) without end; the epochs take turns with the views.

        There is one Output per view. `vary`: flip, shift and mix the feature maps at random.
        """
        photos, seed = self.photos.training, (self.seed, self.number)
        augmentation = self.recipe.augmentation
        first_view = np.random.default_rng(seed).integers(len(outputs), size=len(photos))
        for epoch in itertools.count(first_epoch):
            order = epoch_order(seed, epoch, len(photos), self.photos_per_epoch)
            rng = np.random.default_rng((*seed, epoch))
            for start in range(0, len(order), self.recipe.batch_size):
                positions = order[start : start + self.recipe.batch_size]
                view = (first_view[positions] + epoch) % len(outputs)
                maps = self.store.read([outputs[each] for each in view], positions)
                if vary:
                    maps = flip_and_shift(maps, augmentation, rng)
                # Mixed maps train a head well. Layers after an earlier cut still need to see where
                # things are in the photo.
                if vary and self.phase.unfreeze_after is None:
                    view = rng.integers(len(outputs), size=len(positions))
                    others = self.store.read([outputs[each] for each in view], positions)
                    maps = mix(maps, flip_and_shift(others, augmentation, rng), rng)
                yield maps, photos.labels[positions]


def epoch_order(seed, epoch, photo_count, count):
    """Return which photos an epoch shows, as (count,) positions.

    The training set is repeated without end and shuffled anew for each repetition. An epoch takes
    the next `count` photos: of 10 photos and a count of 4, the third epoch takes the last two of
    the first repetition and the first two of the second. The seed is a tuple of ints.
    """
    first, start = divmod(epoch * count, photo_count)
    last = (epoch * count + count - 1) // photo_count
    repetitions = [
        np.random.default_rng((*seed, number)).permutation(photo_count)
        for number in range(first, last + 1)
    ]
    return np.concatenate(repetitions)[start : start + count]


def with_labels(inputs, labels):
    """Yield (batch, its labels) for batches in the order of the labels."""
    start = 0
    for batch in inputs:
        yield batch, labels[start : start + len(batch)]
        start += len(batch)


def flip_and_shift(maps, augmentation, rng):
    """Return a copy of feature maps, flipped and shifted at random if the augmentation does so.

    Maps are (n, height, width, channels). A shifted map repeats its edge in the gap.
    """
    # Rows and columns stay indices until the end, so that each map is copied only once.
    indices = [np.tile(np.arange(side), (len(maps), 1)) for side in maps.shape[1:3]]
    for axis, flips in enumerate((augmentation.vertical_flip, augmentation.horizontal_flip)):
        if flips:
            flipped = rng.random(len(maps)) < 0.5
            indices[axis][flipped] = indices[axis][flipped, ::-1]
    for axis, shifts in enumerate((augmentation.height_shift, augmentation.width_shift)):
        side = maps.shape[axis + 1]
        cells = (side + SHIFTS_PER_SIDE // 2) // SHIFTS_PER_SIDE
        if shifts and cells:
            steps = rng.integers(-cells, cells + 1, size=len(maps))
            shifted = np.clip(np.arange(side) - steps[:, None], 0, side - 1)
            indices[axis] = np.take_along_axis(indices[axis], shifted, axis=1)
    result = np.empty_like(maps)
    for number, (rows, columns) in enumerate(zip(*indices, strict=True)):
        result[number] = maps[number, rows[:, None], columns]
    return result


def mix(maps, others, rng):
    """Return each map mixed with the one at its position in `others`, in a random proportion."""
    shares = rng.random((len(maps), *[1] * (maps.ndim - 1)), np.float32)
    maps_float, others_float = np.asarray(maps, np.float32), np.asarray(others, np.float32)
    return (shares * maps_float + (1 - shares) * others_float).astype(maps.dtype)


def as_dataset(batches, model_input, count, errors):
    """Return a tf.data.Dataset that calls `batches()` anew for every pass over it.

    A generator would continue where prefetching left it, and validation would skip photos.

    Args:
        batches: a function that returns an iterator over (inputs, labels).
        model_input: the symbolic input of the model.
        count: the number of batches of a pass, or tf.data.INFINITE_CARDINALITY.
        errors: a list, to which the error is added if a photo cannot be read. tf.data raises an
            error of its own instead, with a page of traceback.
    """

    def read():
        try:
            yield from batches()
        except (UserError, OSError) as failure:
            errors.append(failure)
            raise

    # Photos are uint8, stored outputs bfloat16.
    dtype = "uint8" if model_input.dtype == "uint8" else "bfloat16"
    signature = (tf.TensorSpec(model_input.shape, dtype), tf.TensorSpec((None,), "int64"))
    dataset = tf.data.Dataset.from_generator(read, output_signature=signature)
    dataset = dataset.map(lambda inputs, labels: (tf.cast(inputs, model_input.dtype), labels))
    # tf.data has nothing to tune here. Its tuning thread sleeps 10, 20, 40 ... ms, and the end of
    # a pass can wait for it: for as long again as the pass has taken.
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.with_options(options)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(1)
