"""What a row of config.py may contain, and the check that it does."""

import difflib
import functools
import os
import re
import unicodedata
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pyimagesearch.support.errors import UserError

METHODS = ("logistic_regression", "fine_tune")
LAYOUTS = ("flat", "folders", "test_inside", "numbered", "unsplit")
OPTIMIZERS = ("SGD", "Adam", "RMSprop")
EXPORTS = ("onnx", "litert", "saved_model")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
AUTO = "auto"


@dataclass(frozen=True)
class Augmentation:
    """The random changes of a training photo. The defaults change nothing."""

    rotation_degrees: float = 0  # 30 draws an angle between -30 and 30 degrees
    width_shift: float = 0  # fraction of the photo's width
    height_shift: float = 0  # fraction of the photo's height
    shear_degrees: float = 0
    # 0.15 draws a factor between 0.85 and 1.15 for each axis; a pair gives the two ends. Above 1
    # the photo gets smaller, as in Keras' old ImageDataGenerator.
    zoom: float | tuple | list = 0
    horizontal_flip: bool = False
    vertical_flip: bool = False

    @property
    def zoom_range(self):
        """The (smallest, largest) zoom factor."""
        ends = isinstance(self.zoom, (tuple, list))
        return tuple(self.zoom) if ends else (1 - self.zoom, 1 + self.zoom)


@dataclass(frozen=True)
class Head:
    """The new layers after the backbone: pooling -> Dense relu -> Dropout -> Dense."""

    pooling: str  # "flatten" keeps the whole last feature map, "average" the mean of each channel
    units: int | None  # of the hidden Dense layer; None: no hidden layer
    dropout: float
    # "softmax" has one unit per class. "sigmoid" is for two classes: one unit, which gives the
    # probability of the second class.
    output: str
    # Where the weights of the last layer start. None: they are random. "logistic_regression": they
    # are those of logistic regression on the outputs of the frozen backbone, with the C of
    # `regression`. Then no phase is needed that trains the head alone.
    start: str | None = None


@dataclass(frozen=True)
class Regression:
    """Logistic regression on features: the last feature map of the backbone, pooled as in Head.

    The defaults are the tutorial's, and scikit-learn's.
    """

    # Layers whose outputs, averaged over the photo, are features too: ("block4_pool",). "auto":
    # the layer after which the last block of the backbone begins.
    layers: tuple | list = ()
    # Divide the features of each layer by their length, photo by photo. Otherwise the layer with
    # the largest numbers and the photos with the strongest contrasts count most.
    unit_length: bool = False
    # The smaller C is, the closer to 0 the coefficients stay. Of several values, the one with the
    # lowest log loss on the validation photos is used.
    C: float | tuple | list = 1

    @property
    def candidates(self):
        """The values of C to fit with."""
        return tuple(self.C) if isinstance(self.C, (tuple, list)) else (self.C,)


@dataclass(frozen=True)
class Download:
    """The archive of a recipe's photos, which tools/get_dataset.py unpacks into `source`."""

    # The address of a .zip, .tar or .tar.gz file, or the page of a data set on Kaggle.
    url: str
    size: int | None = None  # in bytes; None: not known
    # Such as "sha256:b7974b...", also md5, sha1 and sha512. "git:..." is the name of the file in a
    # repository of git. "": not known.
    checksum: str = ""


@dataclass(frozen=True)
class Split:
    """How photos are divided, class by class, into the splits that the download does not have.

    Each part is a number of photos per class (500), a fraction of the class (0.15), or None: all
    photos that the other parts leave.
    """

    training: int | float | None = None
    validation: int | float | None = 0.15
    evaluation: int | float | None = 0.15
    shuffle: bool = True  # with SEED; False: in the order of the numbers in the file names


@dataclass(frozen=True)
class Phase:
    """One stretch of training: which layers are trained, for how long, and how fast."""

    name: str
    epochs: int
    optimizer: str
    learning_rate: float
    momentum: float = 0  # for SGD only
    # How the learning rate changes. None: not at all. "cosine": it rises to `learning_rate` in the
    # first tenth of the phase, then falls to 0 along a cosine.
    schedule: str | None = None
    # The last layer that stays frozen. None: the whole backbone is frozen, the head is trained.
    # "auto": the layer after which the last block of the backbone begins.
    unfreeze_after: str | None = None
    augment: bool = True
    steps_per_epoch: int | None = None  # batches; None: as many as show every photo once
    # Fraction of the training photos to validate on, instead of the validation split.
    held_out: float = 0
    patience: int | None = None  # epochs without a lower val_loss before the phase ends early
    keep_best: bool = False  # continue with the weights of the epoch with the lowest val_loss


@dataclass(frozen=True)
class Recipe:
    """Every setting of one tutorial."""

    source: str | Path  # the folder of the download
    method: str
    backbone: str  # a network of keras.applications
    batch_size: int
    head: Head
    phases: tuple | list
    regression: Regression = Regression()
    # The names in the order of the labels. None: the names of the folders; build_dataset.py prints
    # them.
    classes: tuple | list | None = None
    augmentation: Augmentation = Augmentation()
    download: Download | str = ""  # the archive of the photos; a text: how to get them by hand
    # How the download marks the class of a photo; None: build_dataset.py finds out.
    #   flat         <split>/<label>_<id>.jpg
    #   folders      <split>/<class>/
    #   test_inside  <class>/ with a folder test/ inside
    #   numbered     <class>.<number>.jpg, all in one folder
    #   unsplit      <class>/
    layout: str | None = None
    # A CSV file in the source with the classes of photos that are not in folders of classes, its
    # column with the photos' names, and that with the classes: ("train.csv", "id", "label")
    labels: tuple | None = None
    split: Split = Split()  # for the splits that the download does not have
    # The evaluation photos are also the validation photos, as in two of the tutorials.
    validate_on_evaluation: bool = False
    official_counts: dict | None = None  # photos in each split of the official download
    preprocessing: str | None = None  # None: the backbone's own; "rescale": divide by 255
    # Pixels along a side of a square, or (height, width); None: the backbone's own.
    image_size: int | tuple | list | None = None
    # How many augmented versions ("views") of each photo a phase stores the frozen outputs of.
    # A number shares none of them with the next phase. 0: the photos as they are. None: augment
    # afresh in every epoch. "auto": None on a GPU, config.STORED_VIEWS on a CPU.
    views: int | str | None = "auto"
    # "balanced": the loss of a photo counts in inverse proportion to the size of its class.
    class_weights: str | None = None
    # Divide the logits by a temperature that is fitted on the validation photos: of the photos that
    # are predicted with 70 %, about 70 % are right then. The predicted classes stay the same.
    calibrate: bool = True
    mistakes: int = 9  # how many of the most confident mistakes the report shows
    smoothing: float = 0  # factor of a moving average for a second plot of the curves; 0: no plot
    name: str = ""  # filled in by `checked` with the row's key


# The rest of this file finds mistakes in the recipes. You can skip it on a first reading.


def reports_wrong_fields(row_class):
    """Let a dataclass report a misspelt or missing field in one sentence, with the remedy."""
    plain_init = row_class.__init__
    names = [field.name for field in fields(row_class)]

    @functools.wraps(plain_init)
    def __init__(self, *values, **named):
        for name in named:
            if name not in names:
                raise UserError(unknown_field(row_class, name, names))
        for field in fields(row_class)[len(values) :]:
            if field.default is MISSING and field.name not in named:
                message = f"{row_class.__name__}(...) needs the field {field.name!r}, which has no "
                hint = ". A row derived from another has it: replace(FOOD11, ...)"
                raise UserError(f"{message}default{hint if row_class is Recipe else ''}")
        plain_init(self, *values, **named)

    row_class.__init__ = __init__
    return row_class


def unknown_field(row_class, name, names):
    """Return the message for a field that a dataclass does not have."""
    message = f"{row_class.__name__} has no field {name!r}"
    owners = {field: other for other in reversed(PARTS) for field in RULES[other]}
    if name in owners:
        return f"{message}; it belongs in {owners[name].__name__}(...)"
    if similar := difflib.get_close_matches(name, names, n=1):
        return f"{message}. Did you mean {similar[0]!r}?"
    if similar := difflib.get_close_matches(name, owners, n=1, cutoff=0.7):
        owner = owners[similar[0]].__name__
        return f"{message}. Did you mean {similar[0]!r}? It belongs in {owner}(...)"
    return f"{message}; it has: {', '.join(RULES[row_class])}"


PARTS = (Augmentation, Head, Regression, Download, Split, Phase, Recipe)
for _row_class in PARTS:
    reports_wrong_fields(_row_class)

# The networks of keras.applications by the image size, in pixels, that they were trained with.
# They are listed here so that a misspelt backbone is reported without waiting for TensorFlow.
BACKBONES_BY_SIZE = {
    224: """ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge DenseNet121
        DenseNet169 DenseNet201 EfficientNetB0 EfficientNetV2B0 MobileNet MobileNetV2
        MobileNetV3Small MobileNetV3Large NASNetMobile ResNet50 ResNet101 ResNet152 ResNet50V2
        ResNet101V2 ResNet152V2 VGG16 VGG19""",
    240: "EfficientNetB1 EfficientNetV2B1",
    260: "EfficientNetB2 EfficientNetV2B2",
    299: "InceptionResNetV2 InceptionV3 Xception",
    300: "EfficientNetB3 EfficientNetV2B3",
    331: "NASNetLarge",
    380: "EfficientNetB4",
    384: "EfficientNetV2S",
    456: "EfficientNetB5",
    480: "EfficientNetV2M EfficientNetV2L",
    528: "EfficientNetB6",
    600: "EfficientNetB7",
}
BACKBONES = {name: size for size, names in BACKBONES_BY_SIZE.items() for name in names.split()}
# The fewest pixels along a side for which Keras builds a network.
SMALLEST_IMAGE = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
SMALLEST_IMAGE_OF_OTHERS = 32
# The last block of VGG16 and VGG19 begins after this layer. In a row for another backbone that is
# derived from FOOD11, it stands for the start of that backbone's last block.
LAST_BLOCK_OF_VGG = "block4_pool"
# Networks whose first layer rescales the pixels. Dividing by 255 before it would do so twice.
RESCALING_BACKBONES = ("EfficientNet", "MobileNetV3", "ConvNeXt")


def find_recipe(recipes, name):
    """Return the recipe with a name, or raise UserError."""
    if name not in recipes:
        similar = difflib.get_close_matches(str(name), recipes, n=1)
        hint = f" Did you mean {similar[0]!r}?" if similar else ""
        raise UserError(
            f"there is no recipe {name!r}.{hint} pyimagesearch/config.py has: {', '.join(recipes)}"
        )
    return recipes[name]


def checked_settings(recipes, **settings):
    """Return DATASET_DIR, OUTPUT_DIR and WEIGHTS of config.py, with the home folder for ~.

    `settings` are all settings that are not in a row. Raises UserError if one of them is wrong.
    """
    rules = {"RECIPE": one_of(*recipes), **SETTINGS}
    for name, value in settings.items():
        is_valid, allowed = rules[name]
        if not is_valid(value):
            raise UserError(f"pyimagesearch/config.py: {name} is {value!r}; allowed: {allowed}")
    stored, shared = settings["STORED_VIEWS"], settings["SHARED_VIEWS"]
    if 0 < stored < shared:
        raise UserError(
            f"pyimagesearch/config.py: SHARED_VIEWS is {shared}; allowed: a whole number up to "
            f"STORED_VIEWS, which is {stored}"
        )
    folders = (in_home_folder(settings[name]) for name in ("DATASET_DIR", "OUTPUT_DIR"))
    weights = settings["WEIGHTS"]
    return *folders, weights if weights == "imagenet" else in_home_folder(weights)


def in_home_folder(path):
    """Return a path from config.py, with the home folder for a ~ at its start."""
    return Path(path).expanduser()


def checked(rows):
    """Return the rows of config.py as `completed` does.

    Raises UserError if a setting is wrong; the message names the recipe, the field, the value and
    what is allowed.
    """
    for name, row in rows.items():
        if not is_text(name) or name[0] in ".-" or set(name) & set("/\\"):
            raise UserError(
                f"pyimagesearch/config.py: {name!r} cannot name a recipe; allowed: the name of a "
                f"folder, without / and \\, that does not begin with . or -"
            )
        refuse_wrong_fields(name, row)
    refuse_inherited_downloads(rows)
    return {name: completed(name, row) for name, row in rows.items()}


def completed(name, row):
    """Return a row with its `name`, and with what it leaves open or writes in another way."""
    renamed = {} if row.backbone.startswith("VGG") else {LAST_BLOCK_OF_VGG: AUTO}
    phases = tuple(
        replace(phase, unfreeze_after=renamed.get(phase.unfreeze_after, phase.unfreeze_after))
        for phase in row.phases
    )
    layers = tuple(renamed.get(name, name) for name in row.regression.layers)
    return replace(
        row,
        name=name,
        source=str(in_home_folder(row.source)),
        classes=row.classes and tuple(row.classes),
        phases=phases,
        regression=replace(row.regression, layers=layers),
        image_size=side_or_sides(*height_and_width(row.image_size or BACKBONES[row.backbone])),
    )


def refuse_wrong_fields(name, row):
    """Raise UserError if a setting of a row is wrong."""
    # Only the first error is reported: the others may follow from it.
    for field, value, allowed in wrong_fields(row):
        choices = set(re.findall(r"'(\w+)'", allowed)) - {value} if is_text(value) else ()
        similar = difflib.get_close_matches(value, sorted(choices), n=1) if choices else ()
        hint = f" (did you mean {similar[0]!r}?)" if similar else ""
        raise UserError(
            f"pyimagesearch/config.py, recipe {name!r}: {field} is {value!r}{hint}; allowed: "
            f"{allowed}"
        )


def with_classes(recipe, classes):
    """Return a recipe with the classes of its dataset, or raise UserError if they do not fit."""
    recipe = replace(recipe, classes=tuple(classes))
    refuse_wrong_fields(recipe.name, recipe)
    return recipe


def refuse_inherited_downloads(rows):
    """Refuse a row that still has the `download` or `official_counts` of the row it came from."""
    for field in ("download", "official_counts"):
        owners = {}
        for name, row in rows.items():
            value = getattr(row, field)
            owner = owners.setdefault(str(value), name)
            if value and row.source != rows[owner].source:
                default = "None" if field == "official_counts" else "''"
                raise UserError(
                    f"pyimagesearch/config.py, recipe {name!r}: {field} is that of recipe "
                    f"{owner!r}, but source is another. Add {field}={default} to the row, or "
                    f"give its own"
                )


def wrong_fields(row):
    """Yield (field, value, what is allowed) for every wrong setting of a row."""
    yield from broken_rules(row, Recipe, "")
    if not isinstance(row, Recipe):
        return
    yield from broken_rules(row.head, Head, "head")
    yield from broken_rules(row.augmentation, Augmentation, "augmentation")
    yield from broken_rules(row.regression, Regression, "regression")
    yield from broken_rules(row.split, Split, "split")
    if isinstance(row.download, Download):
        yield from broken_rules(row.download, Download, "download")
    if row.classes is not None:
        yield from wrong_classes(row.classes)
    yield from wrong_combinations(row)
    yield from wrong_phases(row.phases)


def broken_rules(part, kind, prefix):
    """Yield what is wrong with the single fields of a Recipe or of one of its parts."""
    if not isinstance(part, kind):
        yield prefix or "the row", part, f"{kind.__name__}(...)"
        return
    dot = f"{prefix}." if prefix else ""
    for field, (is_valid, allowed) in RULES[kind].items():
        if not is_valid(getattr(part, field)):
            yield dot + field, getattr(part, field), allowed


def wrong_classes(classes):
    """Yield what is wrong with the class names of a row."""
    if len(classes) < 2:
        yield "classes", classes, "two names or more, with a comma between them"
    for name in classes:
        if not isinstance(name, str):
            yield "classes", name, f"names in quotes, such as {str(name)!r}"
            return
        if not is_text(name) or name.startswith("."):
            yield "classes", name, "names that are not empty and do not begin with a dot"
            return
    folders = [folder_name(name).casefold() for name in classes]
    for name, folder in zip(classes, folders, strict=True):
        if folders.count(folder) > 1:
            yield "classes", name, "names whose folders differ by more than upper and lower case"


def wrong_combinations(row):
    """Yield settings that are valid alone but not together."""
    if row.preprocessing == "rescale" and row.backbone.startswith(RESCALING_BACKBONES):
        yield "preprocessing", "rescale", f"None: {row.backbone} rescales photos by itself"
    smallest = SMALLEST_IMAGE.get(row.backbone, SMALLEST_IMAGE_OF_OTHERS)
    if row.image_size is not None and min(height_and_width(row.image_size)) < smallest:
        yield "image_size", row.image_size, f"a whole number from {smallest}, for {row.backbone}"
    if row.head.output == "sigmoid" and row.classes is not None and len(row.classes) != 2:
        yield "head.output", "sigmoid", f"'softmax': it has {len(row.classes)} classes, not 2"
    if row.head.start and (row.head.pooling, row.head.units) != ("average", None):
        allowed = "None, unless pooling='average' and units=None: it starts a single layer"
        yield "head.start", row.head.start, allowed
    if len(row.regression.candidates) > 1 and row.validate_on_evaluation:
        allowed = "a single number: the best of several cannot be chosen on the evaluation photos"
        yield "regression.C", row.regression.C, allowed
    if [row.split.training, row.split.validation, row.split.evaluation].count(None) > 1:
        yield "split", row.split, "at most one part that is None"


def wrong_phases(phases):
    """Yield what is wrong with the phases of a row.

    The names of layers are checked once the network is built: networks.check_cuts.
    """
    names = [getattr(phase, "name", None) for phase in phases]
    for number, phase in enumerate(phases):
        prefix = f"phases[{number}]"
        yield from broken_rules(phase, Phase, prefix)
        if names.count(phase.name) > 1:
            yield f"{prefix}.name", phase.name, "a name that no other phase has"
        earlier = phases[number - 1].unfreeze_after if number else None
        if earlier is not None and phase.unfreeze_after is None:
            # The stored outputs of the frozen layers would be out of date.
            yield (
                f"{prefix}.unfreeze_after",
                None,
                f"{earlier!r} or an earlier layer: a phase trains the layers of the one before it",
            )


def one_of(*choices):
    """Return a rule: one of these values."""
    return lambda value: value in choices, ", ".join(map(repr, choices))


def whole_number(smallest, *others):
    """Return a rule: an int of at least `smallest` (not True or False), or one of `others`."""
    words = [f"a whole number from {smallest}", *map(repr, others)]
    return lambda value: value in others or (type(value) is int and value >= smallest), (
        " or ".join(words)
    )


def number(low, high=float("inf"), above=False):
    """Return a rule: a number from `low` (or only above it) to below `high`."""
    words = f"a number {'above' if above else 'from'} {low}"
    words += "" if high == float("inf") else f" to below {high}"

    def is_valid(value):
        if type(value) not in (int, float):
            return False
        return (low < value if above else low <= value) and value < high

    return is_valid, words


def is_strength(value):
    """Return True for a positive number, or a tuple or list of them."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    return bool(values) and all(map(number(0, above=True)[0], values))


def is_names(value):
    """Return True for a tuple or list of strings that are not blank, each once."""
    is_list = isinstance(value, (tuple, list)) and all(map(is_text, value))
    return is_list and len(set(value)) == len(value)


def is_text(value):
    """Return True for a string that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def is_zoom(value):
    """Return True for a fraction below 1 and for a (smallest, largest) pair of factors."""
    if not isinstance(value, (tuple, list)):
        return number(0, 1)[0](value)
    return len(value) == 2 and all(map(number(0, above=True)[0], value)) and value[0] <= value[1]


def is_url(value):
    """Return True for an http or https address without a password in it."""
    return isinstance(value, str) and bool(re.fullmatch(r"https?://[^\s/@]+/[^\s]+", value))


def is_checksum(value):
    """Return True for "" and for the name of an algorithm, a colon and the digits it gives."""
    algorithm, _, digits = value.partition(":") if isinstance(value, str) else ("", "", "-")
    lengths = {"": 0, "md5": 32, "sha1": 40, "git": 40, "sha256": 64, "sha512": 128}
    is_hexadecimal = not set(digits) - set("0123456789abcdef")
    return len(digits) == lengths.get(algorithm) and is_hexadecimal


def is_labels(value):
    """Return True for None, and for the names of a CSV file and two of its columns."""
    return value is None or (
        isinstance(value, tuple | list) and len(value) == 3 and all(map(is_text, value))
    )


def is_image_size(value):
    """Return True for a number of pixels, a (height, width) pair of them, or None."""
    sides = value if isinstance(value, (tuple, list)) else (value, value)
    return value is None or (len(sides) == 2 and all(map(whole_number(1)[0], sides)))


def is_part_of_class(value):
    """Return True for a number of photos, a fraction below 1, or None."""
    return value is None or whole_number(0)[0](value) or number(0, 1)[0](value)


def instance_of(kind, words):
    """Return a rule: an instance of a class, or of one of several classes."""
    return lambda value: isinstance(value, kind), words


def is_phases(value):
    """Return True for a tuple or list of at least one Phase."""
    is_list = isinstance(value, (tuple, list))
    return is_list and bool(value) and all(isinstance(part, Phase) for part in value)


def is_path(value):
    """Return True for a path as text or as a Path."""
    return is_text(value) or isinstance(value, os.PathLike)


def is_counts(value):
    """Return True for None and for {split: number of photos}."""
    return value is None or (
        isinstance(value, dict) and all(map(whole_number(0)[0], value.values()))
    )


def is_splits(value):
    """Return True for three names of folders that differ."""
    names = value if isinstance(value, (tuple, list)) else ()
    return len(names) == 3 and all(map(is_text, names)) and len(set(names)) == 3


def is_address(value):
    """Return True for None, "auto", and a host with a port."""
    return value in (None, AUTO) or (
        isinstance(value, str) and bool(re.fullmatch(r"[^\s/]+:\d+", value))
    )


PART_OF_CLASS = (is_part_of_class, "a number of photos, a fraction below 1, or None")


def is_seed(value):
    """Return True for a number that NumPy and Keras take as a seed."""
    return whole_number(0)[0](value) and value < 2**32


# For every setting of config.py but RECIPE, as for the fields of a row below.
SETTINGS: dict[str, Any] = {
    "SPLITS": (is_splits, "the names TRAIN, VAL and TEST of three different folders"),
    "DATASET_DIR": (is_path, "the path of a folder"),
    "OUTPUT_DIR": (is_path, "the path of a folder"),
    "WEIGHTS": (is_path, "'imagenet', or the path of a .weights.h5 file"),
    "SEED": (is_seed, "a whole number from 0 to 4294967295"),
    "PRECISION": one_of(AUTO, *PRECISIONS),
    "GPUS": whole_number(1, "all"),
    "MAX_ITERATIONS": whole_number(1),
    "STORED_VIEWS": whole_number(0),
    "SHARED_VIEWS": whole_number(0),
    "CLUSTER": (is_address, "None, 'auto', or the address of a Ray cluster: '10.0.0.1:6379'"),
}
# For every field of a row: a function that returns True if a value is valid, and what is valid.
RULES: dict[type, dict[str, Any]] = {
    Recipe: {
        "source": (is_path, "the folder of the download, in quotes"),
        "classes": instance_of(
            (tuple, list, type(None)), 'None, or a tuple of names, such as ("cat", "dog")'
        ),
        "download": instance_of((Download, str), "Download(...), or a text"),
        "layout": one_of(None, *LAYOUTS),
        "labels": (is_labels, 'None, or ("file.csv", "column of names", "column of classes")'),
        "split": instance_of(Split, "Split(...)"),
        "validate_on_evaluation": one_of(False, True),
        "official_counts": (is_counts, "None, or {split: photos}"),
        "backbone": one_of(*sorted(BACKBONES)),
        "preprocessing": one_of(None, "rescale"),
        "image_size": (is_image_size, "a whole number from 1, (height, width), or None"),
        "batch_size": whole_number(1),
        "head": instance_of(Head, "Head(...)"),
        "regression": instance_of(Regression, "Regression(...)"),
        "method": one_of(*METHODS),
        "augmentation": instance_of(Augmentation, "Augmentation(...)"),
        "views": whole_number(0, None, "auto"),
        "class_weights": one_of(None, "balanced"),
        "phases": (
            is_phases,
            "a tuple of at least one Phase(...); a single one needs a comma after it",
        ),
        "calibrate": one_of(False, True),
        "mistakes": whole_number(1),
        "smoothing": number(0, 1),
    },
    Head: {
        "pooling": one_of("flatten", "average"),
        "units": whole_number(1, None),
        "dropout": number(0, 1),
        "output": one_of("softmax", "sigmoid"),
        "start": one_of(None, "logistic_regression"),
    },
    Regression: {
        "layers": (is_names, "names of layers, such as ('block3_pool', 'block4_pool')"),
        "C": (is_strength, "a number above 0, or several in brackets"),
        "unit_length": one_of(False, True),
    },
    Augmentation: {
        "rotation_degrees": number(0, 361),
        "width_shift": number(0, 1),
        "height_shift": number(0, 1),
        "shear_degrees": number(0, 90),
        "zoom": (is_zoom, "a fraction below 1, or (smallest, largest)"),
        "horizontal_flip": one_of(False, True),
        "vertical_flip": one_of(False, True),
    },
    Download: {
        "url": (is_url, "an address that begins with https:// or http://, without a password"),
        "size": whole_number(1, None),
        "checksum": (
            is_checksum,
            "'', or such as 'sha256:' and 64 hexadecimal digits",
        ),
    },
    Split: {
        "training": PART_OF_CLASS,
        "validation": PART_OF_CLASS,
        "evaluation": PART_OF_CLASS,
        "shuffle": one_of(False, True),
    },
    Phase: {
        "name": (
            lambda value: isinstance(value, str) and value.isidentifier(),
            "letters, digits and _, since it is part of file names",
        ),
        "unfreeze_after": (
            lambda value: value is None or is_text(value),
            "None, 'auto', or the name of a layer",
        ),
        "epochs": whole_number(1),
        "optimizer": one_of(*OPTIMIZERS),
        "learning_rate": number(0, above=True),
        "momentum": number(0, 1),
        "schedule": one_of(None, "cosine"),
        "augment": one_of(False, True),
        "steps_per_epoch": whole_number(1, None),
        "held_out": number(0, 1),
        "patience": whole_number(1, None),
        "keep_best": one_of(False, True),
    },
}


def height_and_width(image_size):
    """Return the (height, width) of an `image_size`; a number stands for a square."""
    return tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)


def side_or_sides(height, width):
    """Return the `image_size` of a height and a width: a number if they are the same."""
    return height if height == width else (height, width)


def folder_name(class_name):
    """Return the folder of a class: Noodles-Pasta for Noodles/Pasta, as in Kaggle's copy.

    The name is in Unicode's composed form (NFC), as keyboards type it.
    """
    return unicodedata.normalize("NFC", class_name).replace("/", "-").replace("\\", "-")
