"""What a row of config.py may say, and the check that it does."""

import functools
from dataclasses import dataclass, fields, replace

from pyimagesearch.console import UserError

# The layers at which a backbone can be cut in two, first to last. They stand here so that a
# wrong row is refused at once, without waiting seconds for TensorFlow; a test compares them
# with the real networks.
CUTS = {
    "VGG16": (
        *("block1_conv1", "block1_conv2", "block1_pool"),
        *("block2_conv1", "block2_conv2", "block2_pool"),
        *("block3_conv1", "block3_conv2", "block3_conv3", "block3_pool"),
        *("block4_conv1", "block4_conv2", "block4_conv3", "block4_pool"),
        *("block5_conv1", "block5_conv2", "block5_conv3", "block5_pool"),
    )
}
SMALLEST_IMAGE = 32  # pixels; below it VGG16's five poolings leave nothing
METHODS = ("logistic_regression", "fine_tune")
LAYOUTS = ("flat", "folders")
OPTIMIZERS = ("SGD", "Adam", "RMSprop")


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
    """What stands on the backbone: Flatten -> Dense relu -> Dropout -> Dense softmax."""

    units: int = 512
    dropout: float = 0.5


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


@lenient
@dataclass(frozen=True)
class Recipe:
    """Everything about one tutorial. The defaults are Food-11's; a row says what differs."""

    source: str = ""
    classes: tuple = ()
    # Where to get it, for the message that it is missing.
    download: str = ""
    # How the download names its classes; None: recognise it.
    layout: str | None = None
    # Photos a split that the authors of the data give; build_dataset compares.
    official_counts: dict | None = None
    backbone: str = "VGG16"
    # None: the backbone's own. "rescale": divide by 255, as two of the tutorials did.
    preprocessing: str | None = None
    image_size: int = 224
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
    # photo. "auto": None on a GPU, DEFAULT_VIEWS on a CPU.
    views: int | str | None = "auto"
    # "balanced": a photo of a rare class counts more, in inverse proportion to its class.
    class_weights: str | None = None
    phases: tuple = (
        Phase("warmup", epochs=50),
        Phase("unfrozen", unfreeze_after="block4_pool", epochs=20),
    )
    name: str = ""  # filled in by `checked`


def checked(rows):
    """Return the rows with their names filled in.

    Raises:
        UserError: the row, the field, the value and what is allowed.
    """
    for name, row in rows.items():
        for field, value, allowed in wrong_fields(row):
            raise UserError(
                f"pyimagesearch/config.py, recipe {name!r}: {field} is {value!r}; "
                f"allowed: {allowed}"
            )
    return {name: replace(row, name=name) for name, row in rows.items()}


def wrong_fields(row):
    """Yield (field, value, what is allowed) for everything wrong with a row."""
    if not isinstance(row, Recipe):
        yield "the row", row, "Recipe(...)"
        return
    yield from unknown_fields(row, "")
    yield from unknown_fields(row.head, "head.")
    yield from unknown_fields(row.augmentation, "augmentation.")
    yield from wrong_choices(row)
    yield from wrong_numbers(row)
    yield from wrong_classes(row.classes)
    if not row.phases or not isinstance(row.phases, tuple):
        yield "phases", row.phases, "a tuple of at least one Phase(...); mind the last comma"
    names = [phase.name for phase in row.phases]
    for number, phase in enumerate(row.phases):
        yield from wrong_phase(row, phase, f"phases[{number}].")
        if names.count(phase.name) > 1:
            yield f"phases[{number}].name", phase.name, "a name that no other phase has"


def unknown_fields(part, prefix):
    """Yield the misspelt fields of a Recipe, Phase, Head or Augmentation."""
    for name in getattr(part, "misspelt", ()):
        allowed = ", ".join(field.name for field in fields(part) if field.name != "name")
        yield f"a field of {type(part).__name__}", prefix + name, allowed


def wrong_choices(row):
    """Yield the fields of a row that take one of a few values and have another."""
    for field, choices in (
        ("backbone", CUTS),
        ("method", METHODS),
        ("layout", (None, *LAYOUTS)),
        ("preprocessing", (None, "rescale")),
        ("class_weights", (None, "balanced")),
    ):
        if getattr(row, field) not in choices:
            yield field, getattr(row, field), ", ".join(map(repr, choices))
    if row.views not in (None, "auto") and not whole_number(row.views, 0):
        yield "views", row.views, "None, 'auto', or a whole number from 0"
    if not isinstance(row.source, str) or not row.source:
        yield "source", row.source, "the folder of the download"


def wrong_numbers(row):
    """Yield the numbers of a row that are out of range."""
    if not whole_number(row.image_size, SMALLEST_IMAGE):
        yield "image_size", row.image_size, f"pixels, a whole number from {SMALLEST_IMAGE}"
    if not whole_number(row.batch_size, 1):
        yield "batch_size", row.batch_size, "a whole number from 1"
    if not whole_number(row.head.units, 1):
        yield "head.units", row.head.units, "a whole number from 1"
    if not 0 <= row.head.dropout < 1:
        yield "head.dropout", row.head.dropout, "a share from 0 to below 1"
    augmentation = row.augmentation
    low, high = augmentation.zoom_range
    if not 0 < low <= high:
        yield "augmentation.zoom", augmentation.zoom, "a share below 1, or (smallest, largest)"
    for field in ("width_shift", "height_shift"):
        if not 0 <= getattr(augmentation, field) < 1:
            yield f"augmentation.{field}", getattr(augmentation, field), "a share from 0 to below 1"


def wrong_classes(classes):
    """Yield what is wrong with a tuple of class names."""
    if not isinstance(classes, tuple) or len(classes) < 2:
        yield "classes", classes, "a tuple of two names or more"
        return
    for name in classes:
        if not isinstance(name, str) or not name.strip() or name.startswith("."):
            yield "classes", name, "names that are not empty and do not begin with a dot"
    folders = [folder_name(name).casefold() for name in classes if isinstance(name, str)]
    for name, folder in zip(classes, folders, strict=False):
        if folders.count(folder) > 1:
            yield "classes", name, "names whose folders differ by more than upper and lower case"


def wrong_phase(row, phase, prefix):
    """Yield what is wrong with one phase of a row."""
    if not isinstance(phase, Phase):
        yield prefix.rstrip("."), phase, "Phase(...)"
        return
    yield from unknown_fields(phase, prefix)
    if not phase.name.isidentifier():
        yield prefix + "name", phase.name, "letters, digits and _: it names files"
    cuts = CUTS.get(row.backbone, ())
    if phase.unfreeze_after is not None and phase.unfreeze_after not in cuts:
        yield prefix + "unfreeze_after", phase.unfreeze_after, f"None, {', '.join(cuts)}"
    if not whole_number(phase.epochs, 1):
        yield prefix + "epochs", phase.epochs, "a whole number from 1"
    if phase.optimizer not in OPTIMIZERS:
        yield prefix + "optimizer", phase.optimizer, ", ".join(OPTIMIZERS)
    if not phase.learning_rate > 0:
        yield prefix + "learning_rate", phase.learning_rate, "a number above 0"
    if phase.steps_per_epoch is not None and not whole_number(phase.steps_per_epoch, 1):
        yield prefix + "steps_per_epoch", phase.steps_per_epoch, "None, or a whole number from 1"


def whole_number(value, smallest):
    """Tell whether `value` is an int of at least `smallest` (True and False are not)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def folder_name(class_name):
    """Return the folder of a class: Noodles-Pasta for Noodles/Pasta, as in Kaggle's copy."""
    return class_name.replace("/", "-").replace("\\", "-")
