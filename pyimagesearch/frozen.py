"""Outputs of frozen layers: list what a training needs, compute what is missing, read it back.

A frozen layer gives the same output for the same picture in every epoch. So its outputs are
computed once, stored on disk, and read by every epoch. Augmentation goes before the frozen layers:
instead of a newly augmented photo in every epoch, a phase uses a few augmented versions of each
photo, its "views", and the epochs take turns with them.
"""

import functools
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyimagesearch import datasets, images, networks
from pyimagesearch.support import array_files, console, fingerprints, machine
from pyimagesearch.support.array_files import ArrayFile
from pyimagesearch.support.errors import UserError

FULL_DISK = 0.95  # how much of the free space the stored outputs may take


class Views(NamedTuple):
    """How many views of each photo a phase stores, and how many the next phase uses again."""

    count: int
    shared: int


class Output(NamedTuple):
    """One file: the output of one layer for every photo of a split."""

    split: str  # training, validation or evaluation
    held_out: float  # fraction of the training photos that is left out, or taken; 0: none
    view: int | None  # which augmented version of each photo; None: the photos as they are
    layer: str | None  # the layer at the cut; None: the whole backbone
    source: str | None  # the layer whose stored output it is computed from; None: the photos
    dtype: str  # in which it is stored
    exact: bool = False  # computed by the float32 copy of the network, as evaluation is


def choose_views(setting, stored_views, shared_views):
    """Return the Views that a recipe's `views` stands for, or None for fresh augmentation.

    A GPU computes the frozen layers so fast that storing their outputs does not pay.

    Args:
        setting: the recipe's `views`.
        stored_views, shared_views: config.STORED_VIEWS and config.SHARED_VIEWS, for "auto".
    """
    if setting == "auto":
        return None if machine.has_gpu() else Views(stored_views, shared_views)
    return None if setting is None else Views(setting, shared=0)


def view_numbers(recipe, number, views):
    """Return the numbers of the views that a phase is trained on; (None,): photos as they are.

    A phase learns better from views that the head has not been trained on. With the same five
    views in both phases, 0.653 on 750 validation photos of ten dishes and 0.704 on 600 evaluation
    photos; with five others 0.672 and 0.722 (means of two seeds).
    """
    if not recipe.phases[number].augment or views.count == 0:
        return (None,)
    first = number * (views.count - views.shared)
    return tuple(range(first, first + views.count))


def is_stored(phase, views):
    """Return True if a phase is trained on stored outputs of its frozen layers."""
    return not phase.augment or views is not None


def training_outputs(recipe, number, views):
    """Return the Outputs of the training photos that a phase reads, one per view."""
    phase = recipe.phases[number]
    return [
        Output("training", phase.held_out, view, phase.unfreeze_after, None, "bfloat16")
        for view in view_numbers(recipe, number, views)
    ]


def validation_output(phase):
    """Return the Output that the epochs of a phase read for its validation photos."""
    return Output("validation", phase.held_out, None, phase.unfreeze_after, None, "bfloat16")


def evaluation_output(recipe, views):
    """Return the Output for the evaluation after each phase, or None if nothing is stored for it.

    The layers that are frozen in every phase end at the cut of the last one. Their output is
    stored in float32: what is evaluated is not rounded.
    """
    # With a single phase it would be read only once.
    if len(recipe.phases) == 1 or not all(is_stored(phase, views) for phase in recipe.phases):
        return None
    layer = recipe.phases[-1].unfreeze_after
    return Output("evaluation", 0, None, layer, None, "float32", exact=True)


def needed(recipe, views, first=0):
    """Return the Outputs that a training needs from phase `first` on, sources first.

    Only the recipe decides: nothing is computed or looked up here.

    Args:
        recipe: a row of config.RECIPES.
        views: from choose_views.
        first: the number of the first phase that is not finished.
    """
    outputs = []
    for number in range(first, len(recipe.phases)):
        if is_stored(recipe.phases[number], views):
            outputs += training_outputs(recipe, number, views)
            outputs.append(validation_output(recipe.phases[number]))
    routed = [route(output, outputs) for output in outputs]
    evaluation = evaluation_output(recipe, views)
    if evaluation is not None and first < len(recipe.phases):
        routed.append(evaluation)
    # Without duplicates. Those computed from the photos come first: others are computed from them.
    return tuple(sorted(dict.fromkeys(routed), key=lambda output: output.source is not None))


def feature_output(split):
    """Return the Output that extract_features.py needs of a split: its features, in float32.

    Those of the evaluation photos are computed as predict.py computes those of a new photo: by
    the float32 copy of the network.
    """
    exact = split == "evaluation"
    return Output(split, 0, None, networks.FEATURES, None, "float32", exact)


def route(output, outputs):
    """Return an Output with its `source` filled in.

    Where a later phase cuts nearer to the photos, the same view is needed there too. It is
    computed from the photos at that layer only, and the deeper one from what is stored of it: no
    view goes through a frozen layer twice. A phase trains the layers of the one before it or more,
    so the last phase that needs the view is the one that cuts nearest to the photos.
    """
    same_photos = [other for other in outputs if other[:3] == output[:3]]
    nearest = same_photos[-1].layer
    return output if nearest == output.layer else output._replace(source=nearest)


class Store:
    """The stored Outputs of a training: one file each, read through memory maps."""

    def __init__(self, stored):
        # Readers need not know from which source an Output was computed.
        self.files = {output._replace(source=None): file for output, file in stored.items()}

    def __contains__(self, output):
        return output in self.files

    def read(self, outputs, positions):
        """Return (n, *cut) numbers: row i is photo positions[i] of outputs[i].

        The files are mapped anew each time. Pages of a map that stays open would count as memory
        of this process.
        """
        maps = {output: self.files[output].read() for output in set(outputs)}
        return np.stack([maps[o][p] for o, p in zip(outputs, positions, strict=True)])

    def in_order(self, output, batch_size, start=0):
        """Yield (batch, *cut) numbers of every photo once, in order, from photo `start` on."""
        photos = self.files[output].shape[0]
        for first in range(start, photos, batch_size):
            positions = range(first, min(first + batch_size, photos))
            yield self.read([output] * len(positions), positions)

    def delete(self, output):
        """Delete the file of an Output."""
        self.files[output].path.unlink()


def compute(outputs, network, recipe, splits, seed, folder, keep=()):
    """Compute the Outputs that are not on disk yet.

    An interrupted computation resumes after its last whole batch. Room on the disk is checked once
    for all Outputs. If only the evaluation does not fit, it is left out.

    Args:
        outputs: from `needed`, sources first.
        network: from networks.build, with the original weights in its frozen layers.
        recipe: a row of config.RECIPES.
        splits: datasets.Splits.
        seed: of the augmentation and of the photos that are held out.
        folder: for the files. Files there that were made from something else are deleted.
        keep: Outputs whose files stay, although they are not needed now.

    Returns:
        A Store.

    Raises:
        UserError: the disk has no room.
    """
    computation = Computation(network, recipe, splits, seed)
    stored = {output: computation.array_file(output, Path(folder)) for output in {*outputs, *keep}}
    array_files.delete_others(folder, stored.values())
    outputs = outputs_that_fit(folder, outputs, stored)
    store = Store({output: stored[output] for output in outputs})
    missing = [output for output in outputs if not stored[output].path.is_file()]
    if missing:
        photos = sum(stored[output].shape[0] for output in missing)
        with console.progress("outputs of the frozen layers", photos) as advance:
            for output in missing:
                batches_from = computation.batches_from(output, store)
                stored[output].write(recipe.batch_size, batches_from, advance)
    return store


def outputs_that_fit(folder, outputs, stored):
    """Return the Outputs that the disk has room for: all, or all but the evaluation.

    Raises:
        UserError: there is no room for the others either.
    """
    if not outputs:
        return outputs
    Path(folder).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    needed_bytes = sum(stored[output].missing_bytes for output in outputs)
    if needed_bytes > free * FULL_DISK:
        outputs = tuple(output for output in outputs if output.split != "evaluation")
        needed_bytes = sum(stored[output].missing_bytes for output in outputs)
        if needed_bytes > free * FULL_DISK or not outputs:
            raise UserError(
                f"the outputs of the frozen layers need {needed_bytes / 1e9:.1f} GB more in "
                f"{folder}, and {free / 1e9:.1f} GB are free. Free some space. Or set the recipe's "
                f"views to a smaller number, or to None; then training starts over"
            )
        console.info(
            "the disk has no room for the evaluation photos' outputs: after each phase the photos "
            "go through the whole network"
        )
    if needed_bytes:
        console.info(
            f"storing outputs of the frozen layers: {needed_bytes / 1e6:,.0f} MB in {folder}"
        )
    return outputs


class Computation:
    """Computes Outputs of one network from the photos of one dataset."""

    def __init__(self, network, recipe, splits, seed):
        self.network, self.recipe, self.splits, self.seed = network, recipe, splits, seed
        self.digests = {}  # by layer
        self.functions = {}  # by (source, layer, exact): tracing takes a second

    @functools.cached_property
    def float32_network(self):
        """The float32 copy of the network."""
        return networks.float32_copy(self.network)

    def weights_digest(self, layer):
        """Return a digest of the weights of the layers up to a cut."""
        if layer not in self.digests:
            frozen_part = networks.part_between(self.network, "photos", layer)
            self.digests[layer] = networks.weights_digest(frozen_part)
        return self.digests[layer]

    def photos(self, output):
        """Return the list of photos of an Output."""
        if not output.held_out:
            return getattr(self.splits, output.split)
        rest, held_out = datasets.hold_out(self.splits.training, output.held_out, self.seed)
        return rest if output.split == "training" else held_out

    def array_file(self, output, folder):
        """Return the file of an Output. Its name contains a digest of all it is made from."""
        photos, recipe = self.photos(output), self.recipe
        precision = self.network.get_layer(networks.FEATURES).compute_dtype
        parts = [output, photos.fingerprint, self.weights_digest(output.layer), precision]
        parts += [recipe.backbone, recipe.preprocessing, recipe.image_size]
        if output.view is not None:
            parts += [recipe.augmentation, self.seed]
        kind = "plain" if output.view is None else f"view{output.view}"
        digest = fingerprints.digest(*parts)
        name = f"{output.split}_{output.layer or 'backbone'}_{kind}_{digest}.npy"
        shape = (len(photos), *networks.cut_tensor(self.network, output.layer).shape[1:])
        return ArrayFile(folder / name, shape, output.dtype)

    def predict_function(self, output):
        """Return a function from a batch of an Output's source to the Output."""
        key = (output.source or "photos", output.layer, output.exact)
        if key not in self.functions:
            network = self.float32_network if output.exact else self.network
            part = networks.part_between(network, *key[:2])
            self.functions[key] = networks.predict_function(part)
        return self.functions[key]

    def batches_from(self, output, store):
        """Return a function from a position to the (batch, *cut) outputs from that photo on."""
        predict, recipe = self.predict_function(output), self.recipe

        def from_store(start):
            source = output._replace(layer=output.source, source=None)
            return map(predict, store.in_order(source, recipe.batch_size, start))

        def from_photos(start):
            paths = self.photos(output).paths[start:]
            augment = None if output.view is None else self.augment_from(start, output.view)
            return map(
                predict, images.read_batches(paths, recipe.image_size, recipe.batch_size, augment)
            )

        return from_store if output.source else from_photos

    def augment_from(self, start, view):
        """Return the function that makes a view of the photos from position `start` on.

        It counts positions from the first photo of the split, so that a photo's view does not
        depend on where an interrupted run resumes.
        """
        recipe = self.recipe
        augment = images.augmenter(recipe.augmentation, recipe.image_size, (self.seed, view))
        return lambda position, photo: augment(start + position, photo)
