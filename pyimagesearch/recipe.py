"""What a row of config.py may say, and the check that it does."""

import difflib
import functools
import json
import unicodedata
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pyimagesearch.console import UserError

# Every network of keras.applications: its own image size and the smallest, in pixels, and the
# layers at which it can be cut, first to last, each with the layers behind it at which it cannot.
# It lies in a file so that a wrong row is refused at once, without waiting for TensorFlow.
BACKBONES_FILE = Path(__file__).with_name("backbones.json")
BACKBONES = json.loads(BACKBONES_FILE.read_text(encoding="utf-8"))
# The beginnings of the names of those whose first layers rescale photos.
RESCALING = ("EfficientNet", "MobileNetV3", "ConvNeXt")
METHODS = ("logistic_regression", "fine_tune")
LAYOUTS = ("flat", "folders", "test_inside", "numbered", "unsplit")
OPTIMIZERS = ("SGD", "Adam", "RMSprop")
EXPORTS = ("onnx", "litert", "saved_model")


def lenient(row_class):
    """Let a misspelt field through the constructor; `checked` reports it with its row's name."""
    strict = row_class.__init__
    names = {field.name for field in fields(row_class)}

    @functools.wraps(strict)
    def __init__(self, *values, **named):
        strict(self, *values, **{name: named[name] for name in named if name in names})
        object.__setattr__(self, "misspelt", tuple(name for name in named if name not in names))

    row_class.__init__ = __init__
    return row_class


@lenient
@dataclass(frozen=True)
class Augmentation:
    """The random changes of a training photo. The defaults change nothing.

    A rotation of 30 draws an angle between -30 and 30 degrees. Shifts are fractions of the
    photo's width and height. Zoom draws a factor for each axis on its own, between 1 - zoom and
    1 + zoom or from a (smallest, largest) pair; above 1 the photo shrinks, as in Keras' old
    ImageDataGenerator. What comes in from outside repeats the nearest edge.
    """

    rotation_degrees: float = 0
    width_shift: float = 0
    height_shift: float = 0
    shear_degrees: float = 0
    zoom: float | tuple = 0
    horizontal_flip: bool = False
    vertical_flip: bool = False

    @property
    def zoom_range(self):
        """The (smallest, largest) zoom factor."""
        return self.zoom if isinstance(self.zoom, tuple) else (1 - self.zoom, 1 + self.zoom)


@lenient
@dataclass(frozen=True)
class Head:
    """What stands on the backbone: pooling -> Dense relu -> Dropout -> Dense, one unit a class."""

    # "flatten" keeps every number of the last map, "average" the mean of each channel.
    pooling: str = "flatten"
    units: int | None = 512  # None: no hidden layer
    dropout: float = 0.5
    # "softmax", or for two classes "sigmoid": one unit, the probability of the second class.
    output: str = "softmax"


@lenient
@dataclass(frozen=True)
class Split:
    """How photos that come without splits are shared out, class by class.

    Each part is a number of photos a class (500), a share of the class (0.15), or None: what the
    others leave.
    """

    training: int | float | None = None
    validation: int | float | None = 0.15
    evaluation: int | float | None = 0.15
    # Shuffled from SEED; False: by the number in the file names, training first.
    shuffle: bool = True


@lenient
@dataclass(frozen=True)
class Phase:
    """One stretch of training: what learns, for how long, and how fast."""

    name: str = ""
    # The last layer that stays frozen. None: the whole backbone does, only the head learns.
    unfreeze_after: str | None = None
    epochs: int = 20
    optimizer: str = "SGD"
    learning_rate: float = 1e-4
    momentum: float = 0.9  # of SGD; the others have none
    augment: bool = True
    # Batches an epoch, from a training set repeated without end. None: every photo once.
    steps_per_epoch: int | None = None
    # Share of the training photos that this phase validates on instead of the validation split.
    held_out: float = 0
    # Epochs without a lower validation loss after which the phase ends early; None: it does not.
    patience: int | None = None
    # Go on with the weights of the epoch of the lowest validation loss, not of the last one.
    keep_best: bool = False


@lenient
@dataclass(frozen=True)
class Recipe:
    """Everything about one tutorial. The defaults are Food-11's; a row says what differs."""

    source: str = ""
    classes: tuple = ()
    # Where to get it, for the message that it is missing.
    download: str = ""
    # How the download names its classes; None: recognise it.
    #   flat         <split>/<label>_<id>.jpg
    #   folders      <split>/<class>/
    #   test_inside  <class>/ with a folder test/ inside
    #   numbered     <class>.<number>.jpg, all in one folder
    #   unsplit      <class>/
    layout: str | None = None
    split: Split = Split()  # for the layouts that have none
    # The evaluation photos are also the validation photos, as in two of the tutorials.
    validate_on_evaluation: bool = False
    # Photos a split that the authors of the data give; build_dataset compares.
    official_counts: dict | None = None
    backbone: str = "VGG16"
    # None: the backbone's own. "rescale": divide by 255, as two of the tutorials did.
    preprocessing: str | None = None
    image_size: int | None = None  # pixels along a side; None: the backbone's own
    batch_size: int = 32
    head: Head = Head()
    method: str = "fine_tune"
    augmentation: Augmentation = Augmentation(
        rotation_degrees=30,
        width_shift=0.2,
        height_shift=0.2,
        shear_degrees=0.15,
        zoom=0.15,
        horizontal_flip=True,
    )
    # None: augment afresh every epoch. N: run the frozen part once over N versions of each
    # photo. "auto": None on a GPU, as many as views.py says on a CPU.
    views: int | str | None = "auto"
    # "balanced": a photo of a rare class counts more, in inverse proportion to its class.
    class_weights: str | None = None
    phases: tuple = (
        Phase("warmup", epochs=50),
        Phase("unfrozen", unfreeze_after="block4_pool", epochs=20),
    )
    mistakes: int = 9  # how many of the most confident ones to show
    smoothing: float = 0  # of the curves, in a second picture; 0: none
    name: str = ""  # filled in by `checked`


def checked(rows):
    """Return the rows with their names, and the image sizes they leave open, filled in.

    Raises:
        UserError: the row, the field, the value and what is allowed.
    """
    for name, row in rows.items():
        if not text(name) or name[0] in ".-" or set(name) & set("/\\"):
            raise UserError(
                f"pyimagesearch/config.py: a recipe is named {name!r}; allowed: a name that can be "
                f"a folder's, without / and \\, and that does not begin with . or -"
            )
        # The first one is enough; those after it may only follow from it.
        for field, value, allowed in wrong_fields(row):
            raise UserError(
                f"pyimagesearch/config.py, recipe {name!r}: {field} is {value!r}; "
                f"allowed: {allowed}"
            )
    return {
        name: replace(
            row,
            name=name,
            image_size=row.image_size or BACKBONES[row.backbone]["image_size"],
        )
        for name, row in rows.items()
    }


def wrong_fields(row):
    """Yield (field, value, what is allowed) for everything wrong with a row."""
    yield from broken_rules(row, Recipe, "")
    if not isinstance(row, Recipe):
        return
    yield from broken_rules(row.head, Head, "head")
    yield from broken_rules(row.augmentation, Augmentation, "augmentation")
    yield from broken_rules(row.split, Split, "split")
    yield from wrong_classes(row.classes)
    if row.preprocessing == "rescale" and row.backbone.startswith(RESCALING):
        yield "preprocessing", "rescale", f"None: {row.backbone} rescales photos by itself"
    smallest = BACKBONES[row.backbone]["smallest_image"]
    if row.image_size is not None and row.image_size < smallest:
        yield "image_size", row.image_size, f"a whole number from {smallest}, for {row.backbone}"
    if row.head.output == "sigmoid" and len(row.classes) != 2:
        yield "head.output", "sigmoid", f"'softmax': it has {len(row.classes)} classes, not 2"
    if list(vars(row.split).values()).count(None) > 1:
        yield "split", row.split, "one part None at the most"
    names = [getattr(phase, "name", None) for phase in row.phases]
    for number, phase in enumerate(row.phases):
        prefix = f"phases[{number}]"
        yield from broken_rules(phase, Phase, prefix)
        yield from wrong_cut(row.backbone, phase.unfreeze_after, f"{prefix}.unfreeze_after")
        if names.count(phase.name) > 1:
            yield f"{prefix}.name", phase.name, "a name that no other phase has"


def broken_rules(part, kind, prefix):
    """Yield what is wrong with the single fields of a Recipe or a part of one."""
    if not isinstance(part, kind):
        yield prefix or "the row", part, f"{kind.__name__}(...)"
        return
    dot = f"{prefix}." if prefix else ""
    for name in part.misspelt:
        allowed = ", ".join(RULES[kind])
        yield f"a field of {kind.__name__}", dot + name, allowed
    for field, (fits, allowed) in RULES[kind].items():
        if not fits(getattr(part, field)):
            yield dot + field, getattr(part, field), allowed


def one_of(*choices):
    """Return a rule: one of these values."""
    return lambda value: value in choices, ", ".join(map(repr, choices))


def whole_number(smallest, *others):
    """Return a rule: an int of at least `smallest` (True and False are not), or one of others."""
    words = [f"a whole number from {smallest}", *map(repr, others)]
    return lambda value: value in others or (type(value) is int and value >= smallest), (
        " or ".join(words)
    )


def number(low, high=float("inf"), above=False):
    """Return a rule: a number from `low` (or only above it) to below `high`."""
    words = f"a number {'above' if above else 'from'} {low}"
    words += "" if high == float("inf") else f" to below {high}"
    return (
        lambda value: (
            type(value) in (int, float) and (low < value < high if above else low <= value < high)
        ),
        words,
    )


def text(value):
    """Tell whether a value is a string with something in it."""
    return isinstance(value, str) and bool(value.strip())


def zoom(value):
    """Tell whether a value is a share below 1 or a (smallest, largest) pair of factors."""
    if isinstance(value, tuple):
        return (
            len(value) == 2 and all(map(number(0, above=True)[0], value)) and value[0] <= value[1]
        )
    return number(0, 1)[0](value)


def part_of_a_class(value):
    """Tell whether a value is a number of photos, a share of them, or None."""
    return value is None or whole_number(0)[0](value) or number(0, 1)[0](value)


# For every field of a row: does a value fit, and what is allowed.
RULES = {
    Recipe: {
        "source": (text, "the folder of the download"),
        "classes": (lambda value: isinstance(value, tuple), "a tuple of names"),
        "download": (lambda value: isinstance(value, str), "a text"),
        "layout": one_of(None, *LAYOUTS),
        "split": (lambda value: isinstance(value, Split), "Split(...)"),
        "validate_on_evaluation": one_of(False, True),
        "official_counts": (
            lambda value: value is None or isinstance(value, dict),
            "None, or {split: photos}",
        ),
        "backbone": (
            lambda value: isinstance(value, str) and value in BACKBONES,
            ", ".join(BACKBONES),
        ),
        "preprocessing": one_of(None, "rescale"),
        "image_size": whole_number(1, None),
        "batch_size": whole_number(1),
        "head": (lambda value: isinstance(value, Head), "Head(...)"),
        "method": one_of(*METHODS),
        "augmentation": (lambda value: isinstance(value, Augmentation), "Augmentation(...)"),
        "views": whole_number(0, None, "auto"),
        "class_weights": one_of(None, "balanced"),
        "phases": (
            lambda value: (
                isinstance(value, tuple)
                and bool(value)
                and all(isinstance(phase, Phase) for phase in value)
            ),
            "a tuple of at least one Phase(...); mind the comma after a single one",
        ),
        "mistakes": whole_number(1),
        "smoothing": number(0, 1),
    },
    Head: {
        "pooling": one_of("flatten", "average"),
        "units": whole_number(1, None),
        "dropout": number(0, 1),
        "output": one_of("softmax", "sigmoid"),
    },
    Augmentation: {
        "rotation_degrees": number(0, 361),
        "width_shift": number(0, 1),
        "height_shift": number(0, 1),
        "shear_degrees": number(0, 90),
        "zoom": (zoom, "a share below 1, or (smallest, largest)"),
        "horizontal_flip": one_of(False, True),
        "vertical_flip": one_of(False, True),
    },
    Split: {
        "training": (part_of_a_class, "a number of photos, a share below 1, or None"),
        "validation": (part_of_a_class, "a number of photos, a share below 1, or None"),
        "evaluation": (part_of_a_class, "a number of photos, a share below 1, or None"),
        "shuffle": one_of(False, True),
    },
    Phase: {
        "name": (
            lambda value: isinstance(value, str) and value.isidentifier(),
            "letters, digits and _: it names files",
        ),
        "unfreeze_after": (
            lambda value: value is None or text(value),
            "None, or the name of a layer",
        ),
        "epochs": whole_number(1),
        "optimizer": one_of(*OPTIMIZERS),
        "learning_rate": number(0, above=True),
        "momentum": number(0, 1),
        "augment": one_of(False, True),
        "steps_per_epoch": whole_number(1, None),
        "held_out": number(0, 1),
        "patience": whole_number(1, None),
        "keep_best": one_of(False, True),
    },
}


def wrong_classes(classes):
    """Yield what is wrong with a tuple of class names."""
    if len(classes) < 2:
        yield "classes", classes, "two names or more"
    for name in classes:
        if not text(name) or name.startswith("."):
            yield "classes", name, "names that are not empty and do not begin with a dot"
            return
    folders = [folder_name(name).casefold() for name in classes]
    for name, folder in zip(classes, folders, strict=True):
        if folders.count(folder) > 1:
            yield "classes", name, "names whose folders differ by more than upper and lower case"


def wrong_cut(backbone, layer, field):
    """Yield what is wrong with the name of the layer at which a phase cuts."""
    segments = BACKBONES[backbone]["segments"]
    if layer is None or layer in segments:
        return
    cuts = list(segments)
    for place, (cut, behind) in enumerate(segments.items()):
        if layer in behind:
            nearest = [cut, *cuts[place + 1 : place + 2]]
            yield field, layer, f"{' or '.join(nearest)}; {backbone} cannot be cut in between"
            return
    close = difflib.get_close_matches(str(layer), cuts, n=3, cutoff=0.3) or cuts[-3:]
    yield field, layer, f"None, or a layer of {backbone} such as {', '.join(close)}"


def folder_name(class_name):
    """Return the folder of a class: Noodles-Pasta for Noodles/Pasta, as in Kaggle's copy."""
    return composed(class_name).replace("/", "-").replace("\\", "-")


def composed(name):
    """Return a name with each accent in its letter, as keyboards write it and Macs do not."""
    return unicodedata.normalize("NFC", name)
