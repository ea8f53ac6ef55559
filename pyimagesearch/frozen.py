"""Outputs of frozen layers: list what training needs, compute what is missing, read it back.

A frozen layer gives the same output for the same picture in every epoch. So its outputs are
computed once, stored on disk, and read by every epoch. Augmentation goes before the frozen layers:
instead of a newly augmented photo in every epoch, a phase uses a few augmented versions of each
photo, its "views", and the epochs take turns with them.
"""

import functools
import itertools
import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyimagesearch import datasets, images, networks
from pyimagesearch.support import array_files, cluster, console, files, fingerprints, machine
from pyimagesearch.support.array_files import ArrayFile
from pyimagesearch.support.errors import UserError

PHOTOS = networks.PHOTOS
FULL_DISK = 0.95  # how much of the free space the stored outputs may take

# A worker of a cluster computes so many bytes of an Output at once, in whole batches, but less
# where this leaves an Output with fewer tasks.
TASK_BYTES = 32_000_000
TASKS_PER_OUTPUT = 64


class Views(NamedTuple):
    """How many views of each photo a phase stores, and how many the next phase uses again."""

    count: int
    shared: int


class Output(NamedTuple):
    """One file: the output of one layer for every photo of a split."""

    split: str  # training, validation or evaluation
    layer: str | None  # the layer at the cut; None: the whole backbone
    held_out: float = 0  # fraction of the training photos that is left out, or taken
    view: int | None = None  # which augmented version of each photo; None: the photos as they are
    computed_from: str = PHOTOS  # or the layer whose stored output it is computed from
    dtype: str = "bfloat16"  # in which it is stored
    exact: bool = False  # computed by the float32 copy of the network, as evaluation is


def choose_views(setting, stored_views, shared_views):
    """Return the Views that a recipe's `views` stands for, or None for fresh augmentation.

    "auto" stands for config.STORED_VIEWS and config.SHARED_VIEWS on a CPU. A GPU computes the
    frozen layers so fast that storing their outputs does not pay.
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
    # Here views.count is above 0: a phase with views=None stores nothing.
    first = number * (views.count - views.shared)
    return tuple(range(first, first + views.count))


def is_stored(phase, views):
    """Return True if a phase is trained on stored outputs of its frozen layers."""
    return not phase.augment or views is not None


def training_outputs(recipe, number, views):
    """Return the Outputs of the training photos that a phase reads, one per view."""
    phase = recipe.phases[number]
    return [
        Output("training", phase.unfreeze_after, phase.held_out, view)
        for view in view_numbers(recipe, number, views)
    ]


def validation_output(phase):
    """Return the Output that the epochs of a phase read for its validation photos."""
    return Output("validation", phase.unfreeze_after, phase.held_out)


def evaluation_output(recipe, views):
    """Return the Output for the evaluation after each phase, or None if nothing is stored for it.

    The layers that are frozen in every phase end at the cut of the last one. Their output is
    stored in float32: what is evaluated is not rounded.
    """
    # With a single phase it would be read only once.
    if len(recipe.phases) == 1 or not all(is_stored(phase, views) for phase in recipe.phases):
        return None
    return Output("evaluation", recipe.phases[-1].unfreeze_after, dtype="float32", exact=True)


def needed(recipe, views, first=0):
    """Return the Outputs that training needs from phase number `first` on, sources first.

    Only the recipe and the Views decide: nothing is computed or looked up here.
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
    return tuple(sorted(dict.fromkeys(routed), key=lambda output: output.computed_from != PHOTOS))


def feature_output(split, extractor):
    """Return the Output that extract_features.py needs of a split: its features, in float32.

    Those of the evaluation photos are computed as predict.py computes those of a new photo: by
    the float32 copy of the network.
    """
    layer = extractor.layers[-1].name
    return Output(split, layer, dtype="float32", exact=split == "evaluation")


def route(output, outputs):
    """Return an Output with its `computed_from` filled in.

    Where a later phase cuts nearer to the photos, the same view is needed there too. It is
    computed from the photos at that layer only, and the deeper one from what is stored of it: no
    view goes through a frozen layer twice. A phase trains the layers of the one before it or more,
    so the last phase that needs the view is the one that cuts nearest to the photos.
    """
    same_photos = [other for other in outputs if other._replace(layer=output.layer) == output]
    nearest = same_photos[-1].layer
    return output if nearest == output.layer else output._replace(computed_from=nearest)


class Store:
    """The stored Outputs of a training run: one file each, read through memory maps."""

    def __init__(self, stored):
        # Readers need not know what an Output was computed from.
        self.files = {out._replace(computed_from=PHOTOS): file for out, file in stored.items()}

    def __contains__(self, output):
        return output in self.files

    def read(self, outputs, positions):
        """Return an array whose row i is the output of photo positions[i] in outputs[i].

        Its shape is (n, height, width, channels), or (n, features). The files are mapped into
        memory anew each time: pages of a map that stays open would count as memory of this process.
        """
        arrays = {output: self.files[output].read() for output in set(outputs)}
        return np.stack([arrays[o][p] for o, p in zip(outputs, positions, strict=True)])

    def in_order(self, output, batch_size, start=0):
        """Yield batches as from `read`, of every photo once, in order, from photo `start` on."""
        yield from self.at(output, range(start, self.files[output].shape[0]), batch_size)

    def at(self, output, positions, batch_size):
        """Yield batches as from `read`, of the photos at these positions."""
        for start in range(0, len(positions), batch_size):
            batch = positions[start : start + batch_size]
            yield self.read([output] * len(batch), batch)

    def file(self, output):
        """Return the ArrayFile of an Output."""
        return self.files[output._replace(computed_from=PHOTOS)]

    def delete(self, output):
        """Delete the file of an Output."""
        self.files[output].delete()


def compute(outputs, network, recipe, splits, seed, folder, keep=(), address=None):
    """Compute the Outputs that are not on disk yet.

    An interrupted computation resumes after its last whole batch. Room on the disk is checked once
    for all Outputs. If only the evaluation does not fit, it is left out.

    Args:
        outputs: from `needed`, sources first.
        network: from networks.build, with the original weights in its frozen layers.
        recipe, splits: the row of config.RECIPES, and its datasets.Splits.
        seed: of the augmentation and of the photos that are held out.
        folder: for the files. Files there that were made from something else are deleted.
        keep: Outputs whose files stay, although they are not needed now.
        address: of the Ray cluster that computes them, config.CLUSTER; None: this process does.

    Returns a Store. Raises UserError if the disk has no room, and those of cluster.map_in_order.
    """
    computation = Computation(network, recipe, splits, seed)
    stored = {output: computation.array_file(output, Path(folder)) for output in {*outputs, *keep}}
    array_files.delete_others(folder, stored.values())
    outputs = outputs_that_fit(folder, outputs, stored)
    store = Store({output: stored[output] for output in outputs})
    missing = [output for output in outputs if not stored[output].path.is_file()]
    if missing:
        photo_count = sum(stored[output].shape[0] for output in missing)
        with console.progress("outputs of the frozen layers", photo_count) as advance:
            if address is None:
                compute_here(computation, missing, store, advance)
            else:
                compute_on_cluster(address, computation, missing, store, advance)
    return store


def compute_here(computation, missing, store, advance):
    """Compute Outputs and write their files, one after the other."""
    for output in missing:
        batches_from = functools.partial(computation.batches, output, store)
        store.file(output).write(computation.recipe.batch_size, batches_from, advance)


def outputs_that_fit(folder, outputs, stored):
    """Return the Outputs that the disk has room for: all, or all but the evaluation."""
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
            f"computing the outputs of the frozen layers once: {needed_bytes / 1e6:,.0f} MB in "
            f"{folder}"
        )
    return outputs


class Computation:
    """Computes Outputs of one network from the photos of one dataset."""

    def __init__(self, network, recipe, splits, seed):
        self.network, self.recipe, self.splits, self.seed = network, recipe, splits, seed
        self.held_out = {}  # the Splits, by the fraction that is held out
        self.digests = {}  # by layer
        self.functions = {}  # by (computed_from, layer, exact): tracing takes a second

    @functools.cached_property
    def float32_network(self):
        """The float32 copy of the network."""
        return networks.float32_copy(self.network)

    def frozen_digest(self, layer):
        """Return a digest of the weights of the layers up to a cut."""
        if layer not in self.digests:
            frozen_part = networks.part_between(self.network, PHOTOS, layer)
            self.digests[layer] = networks.weights_digest(frozen_part)
        return self.digests[layer]

    def photos(self, output):
        """Return the list of photos of an Output."""
        share = output.held_out
        if share not in self.held_out:
            self.held_out[share] = datasets.hold_out(self.splits, share, self.seed)
        return getattr(self.held_out[share], output.split)

    def array_file(self, output, folder):
        """Return the file of an Output. Its name contains a digest of all it is made from."""
        photos, recipe = self.photos(output), self.recipe
        precision = self.network.get_layer(networks.FEATURES).compute_dtype
        parts = [output, photos.digest, self.frozen_digest(output.layer), precision]
        parts += [recipe.backbone, recipe.preprocessing, recipe.image_size]
        if output.view is not None:
            parts += [recipe.augmentation, self.seed]
        kind = "plain" if output.view is None else f"view{output.view}"
        digest = fingerprints.digest(*parts)
        name = f"{output.split}_{output.layer or 'backbone'}_{kind}_{digest}.npy"
        shape = (len(photos), *networks.cut_tensor(self.network, output.layer).shape[1:])
        return ArrayFile(folder / name, shape, output.dtype)

    def function(self, output):
        """Return the function that computes an Output from a batch of what it is computed from."""
        key = (output.computed_from, output.layer, output.exact)
        if key not in self.functions:
            network = self.float32_network if output.exact else self.network
            part = networks.part_between(network, output.computed_from, output.layer)
            self.functions[key] = networks.predict_function(part)
        return self.functions[key]

    def plan(self, outputs, store, network_file):
        """Return the Plan by which workers compute Outputs with the network in a file."""
        checks, routes = {}, set()
        for number, output in enumerate(outputs):
            route = (output.computed_from, output.layer, output.exact)
            if route not in routes and len(self.photos(output)):
                routes.add(route)
                (checks[number],) = self.batches(output, store, 0, 1)
        return Plan(
            os.getcwd(),
            network_file,
            networks.keras.config.dtype_policy().name,
            *(self.recipe, self.splits, self.seed, outputs, store, checks),
            f"{platform.node()} ({machine.processor_name()})",
        )

    def batches(self, output, store, start, end=None):
        """Return an iterator over the batches of an Output, from photo number `start` on.

        It ends before photo number `end`.
        """
        size, batch_size = self.recipe.image_size, self.recipe.batch_size
        if output.computed_from != PHOTOS:
            source = output._replace(layer=output.computed_from, computed_from=PHOTOS)
            positions = range(*slice(start, end).indices(len(self.photos(output))))
            inputs = store.at(source, positions, batch_size)
        else:
            augment = None
            if output.view is not None:
                seed = (self.seed, output.view)
                augment = images.augmenter(self.recipe.augmentation, size, seed)
            paths = self.photos(output).paths[:end]
            inputs = images.read_batches(paths, size, batch_size, augment, start)
        return map(self.function(output), inputs)


# On a cluster. The tutorials do not need it: docs/cluster.md.


class Plan(NamedTuple):
    """What a worker needs to compute Outputs on another machine."""

    folder: str  # in which paths such as dataset/food11 begin
    network: Path  # the file of the network
    precision: str  # of the network
    recipe: object
    splits: object
    seed: int
    outputs: list
    store: Store
    checks: dict  # number of an Output -> that of its first photo, computed by `processor`
    processor: str


def compute_on_cluster(address, computation, missing, store, advance):
    """Compute Outputs as `compute_here` does, on the machines of a Ray cluster.

    They share the folders of this machine, which writes the files in order.
    """
    batch_size = computation.recipe.batch_size
    folder = store.file(missing[0]).path.parent
    with files.temporary_path(folder, ".keras") as network_file:
        computation.network.save(network_file)
        # Those computed from the photos come first. The others are computed from their files.
        for _, group in itertools.groupby(missing, lambda output: output.computed_from == PHOTOS):
            outputs = list(group)
            written_files = [store.file(output) for output in outputs]
            tasks = [tasks_of(*pair, batch_size) for pair in enumerate(written_files)]
            plan = computation.plan(outputs, store, network_file)
            every_task = list(itertools.chain(*tasks))
            results = cluster.map_in_order(address, make_worker, plan, every_task)
            for array_file, own_tasks in zip(written_files, tasks, strict=True):
                rows = map(array_file.decode, itertools.islice(results, len(own_tasks)))
                array_file.write(batch_size, lambda start, rows=rows: rows, advance)


def tasks_of(number, array_file, batch_size):
    """Return the tasks (number, first row, row after the last) that complete a file of outputs."""
    start, end = array_file.next_row(batch_size), array_file.shape[0]
    largest = TASK_BYTES // (batch_size * array_file.row_bytes)
    batches = min(largest, (end - start) // (batch_size * TASKS_PER_OUTPUT))
    step = batch_size * max(1, batches)
    return [(number, first, min(first + step, end)) for first in range(start, end, step)]


def make_worker(cores, *plan):
    """Return (a function that computes tasks of a Plan, a note if it computes other numbers).

    It runs in a process of its own. `cores` is how many the process may use; None: it has a GPU.
    Raises UserError if this machine does not see the files of the Plan.
    """
    plan = Plan(*plan)
    see_files(plan)
    os.chdir(plan.folder)
    tf = networks.tf
    if cores is not None:
        # Ray sets OMP_NUM_THREADS to 1.
        tf.config.threading.set_intra_op_parallelism_threads(cores)
    console.import_tensorflow()
    networks.set_precision(plan.precision)
    network = networks.load_for_computing(plan.network)
    computation = Computation(network, plan.recipe, plan.splits, plan.seed)

    def compute_task(number, start, end):
        output = plan.outputs[number]
        batches = computation.batches(output, plan.store, start, end)
        return b"".join(map(plan.store.file(output).encode, batches))

    return compute_task, compare(computation, plan)


def see_files(plan):
    """Raise UserError if this machine lacks the files of a Plan."""
    photos = (split.paths[0] for split in plan.splits if len(split))
    for path in (plan.network, *photos):
        if not Path(plan.folder, path).is_file():
            raise UserError(
                f"the machine {platform.node()} cannot see {Path(plan.folder, path).parent}. "
                f"{cluster.SHARED_FOLDERS}"
            )


def compare(computation, plan):
    """Return a sentence if a machine computes other numbers than the one of a Plan, or ""."""
    differences = []
    for number, expected in plan.checks.items():
        (rows,) = computation.batches(plan.outputs[number], plan.store, 0, 1)
        rows, expected = (each.astype(np.float32) for each in (rows, expected))
        differences.append(np.abs(rows - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not any(differences):
        return ""
    return (
        f"{platform.node()} ({machine.processor_name()}) does not compute the same bits as "
        f"{plan.processor}: the outputs of a photo differ by up to {max(differences):.1e} of the "
        f"largest. The results depend on which machine computes which photo"
    )
