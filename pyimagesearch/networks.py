"""The network of a recipe: backbone with its preprocessing, head, the cut, what learns."""

import hashlib
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import convolutions, files, machine
from pyimagesearch.console import UserError
from pyimagesearch.recipe import BACKBONES

WEIGHTS_DIR = Path(__file__).resolve().parent.parent / "weights"

# The layer that makes one row of numbers of a photo: what a CSV holds and the head reads.
FEATURES = "features"
PROBABILITIES = "probabilities"  # the last layer

# How many photos go through a network together on a CPU. 32 take twice the memory for the same
# bits, and no less time: 2.0 s for 32 photos through VGG16 in float32 either way, on a 2-core EPYC.
PHOTOS_AT_ONCE = 16

# How that layer does it: every number of the last map, or the mean of each channel.
POOLINGS = {
    "flatten": keras.layers.Flatten,
    "average": keras.layers.GlobalAveragePooling2D,
}


def set_precision(setting):
    """Set the numbers that networks built from now on compute with; return the policy's name.

    `setting` is float32, mixed_float16, mixed_bfloat16, or "auto": float16 on a GPU with tensor
    cores, bfloat16 on a processor with instructions for it (without them it is slower than
    float32), else float32.
    """
    policies = ("float32", "mixed_float16", "mixed_bfloat16")
    if setting not in ("auto", *policies):
        raise UserError(
            f"pyimagesearch/config.py: PRECISION is {setting!r}; "
            f"allowed: 'auto', {', '.join(map(repr, policies))}"
        )
    policy = fastest_precision() if setting == "auto" else setting
    keras.config.set_dtype_policy(policy)
    return policy


def fastest_precision():
    """Return the policy this machine computes fastest with, by what the machine is."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # Tensor cores came with compute capability 7.0.
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
        return "mixed_float16" if capability and capability >= (7, 0) else "float32"
    return "mixed_bfloat16" if machine.computes_in_bfloat16() else "float32"


def weights_file(backbone):
    """Return where tools/get_weights.py puts the ImageNet weights of a backbone."""
    return WEIGHTS_DIR / f"{backbone.lower()}.weights.h5"


def find_weights(backbone, setting):
    """Return what Keras takes as `weights`: a file's path, or "imagenet" to download them.

    Args:
        backbone: a name in keras.applications.
        setting: config.WEIGHTS, "imagenet" or a path.

    Raises:
        UserError: `setting` is a path and there is no such file.
    """
    if setting == "imagenet":
        local = weights_file(backbone)
        return str(local) if local.is_file() else "imagenet"
    if not Path(setting).is_file():
        raise UserError(
            f"WEIGHTS in pyimagesearch/config.py names {str(setting)!r}, which is not a file. "
            f"Correct the path, or set it to 'imagenet'"
        )
    return str(setting)


def build(recipe, weights):
    """Return the whole classifier: uint8 RGB (n, size, size, 3) to probabilities (n, classes).

    A head with a sigmoid has one output, the probability of the second class: (n, 1).

    Args:
        recipe: a row of config.RECIPES.
        weights: what find_weights returned, or None for random numbers.

    Raises:
        UserError: the weights cannot be had or do not fit.
    """
    photos = keras.Input((recipe.image_size, recipe.image_size, 3), dtype="uint8", name="photos")
    backbone = build_backbone(recipe, photos, weights)
    x = POOLINGS[recipe.head.pooling](name=FEATURES)(backbone.output)
    if recipe.head.units is not None:
        x = keras.layers.Dense(recipe.head.units, activation="relu", name="head_dense")(x)
    if recipe.head.dropout:
        x = keras.layers.Dropout(recipe.head.dropout, name="head_dropout")(x)
    output = recipe.head.output
    units = 1 if output == "sigmoid" else len(recipe.classes)
    # Sixteen-bit probabilities would not add up to one.
    last = keras.layers.Dense(units, activation=output, dtype="float32", name=PROBABILITIES)
    return keras.Model(photos, last(x))


def build_feature_extractor(recipe, weights):
    """Return the frozen network of a recipe: uint8 RGB photos to rows of features.

    At VGG16 and 224 x 224 pixels a row is the flattened last pooling, 7 x 7 x 512 = 25,088 numbers.
    """
    photos = keras.Input((recipe.image_size, recipe.image_size, 3), dtype="uint8", name="photos")
    backbone = build_backbone(recipe, photos, weights)
    rows = POOLINGS[recipe.head.pooling](name=FEATURES)(backbone.output)
    extractor = keras.Model(photos, rows, name=f"{recipe.backbone.lower()}_features")
    extractor.trainable = False
    return extractor


def build_backbone(recipe, photos, weights):
    """Put a backbone without its top, and the preprocessing it was trained with, on `photos`."""
    application = getattr(keras.applications, recipe.backbone)
    module = sys.modules[application.__module__]
    if recipe.preprocessing == "rescale":
        x = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescale")(photos)
    else:
        # Given uint8, preprocess_input would subtract its means in uint8, where 0 - 104 is 152.
        x = module.preprocess_input(keras.ops.cast(photos, "float32"))
    with weights_errors_explained(recipe.backbone, weights):
        backbone = application(include_top=False, weights=weights, input_tensor=x)
    deviations = getattr(module, "IMAGENET_STDDEV_RGB", None)
    if deviations and weights not in (None, "imagenet"):
        # Only with "imagenet" Keras divides by their roots too, in a layer behind this one.
        layer = next(e for e in backbone.layers if isinstance(e, keras.layers.Normalization))
        layer.adapt_variance.assign(layer.adapt_variance * deviations)
        layer.finalize_state()
    convolutions.speed_up(backbone)
    return backbone


@contextmanager
def weights_errors_explained(backbone, weights):
    """Turn what Keras raises when it cannot download or load weights into one line."""
    try:
        with warnings.catch_warnings():
            # Keras warns of every layer it passes over before it raises.
            warnings.simplefilter("ignore")
            yield
    except (ValueError, OSError, KeyError) as failure:
        if weights is None:
            raise
        if weights == "imagenet":
            raise UserError(
                f"the download of {backbone}'s ImageNet weights is damaged "
                f"({files.first_sentence(failure)}). Delete it from ~/.keras/models and run the "
                f"same command again"
            ) from failure
        if weights == str(weights_file("VGG16")):
            remedy = "Make it again with: python tools/get_weights.py --force"
        elif Path(weights).parent == WEIGHTS_DIR:
            remedy = "Put one that does in its place, or delete it"
        else:
            remedy = (
                "Set WEIGHTS in pyimagesearch/config.py to the path of one that does, "
                "or to 'imagenet'"
            )
        raise UserError(
            f"{weights} does not hold the weights of {backbone} without its top "
            f"({files.first_sentence(failure)}). {remedy}"
        ) from failure
    except Exception as failure:
        # Keras raises a bare Exception when a download fails.
        if "URL fetch failure" not in str(failure):
            raise
        print()  # ends the line that Keras began
        remedy = "Set WEIGHTS in pyimagesearch/config.py to the path of a .weights.h5 file of it"
        if backbone == "VGG16":
            remedy = f"Try: python tools/get_weights.py. Or: {remedy}"
        elif backbone not in BACKBONES:  # with its top
            remedy = "Look at the connection: they come from nowhere else"
        raise UserError(
            f"the ImageNet weights of {backbone} cannot be downloaded ({failure}). {remedy}"
        ) from failure


def cut_tensor(model, layer_name):
    """Return the tensor at which a phase cuts: a layer's output, or the backbone's for None."""
    if layer_name is None:
        return model.get_layer(FEATURES).input
    return model.get_layer(layer_name).output


def split_at(model, layer_name):
    """Return (frozen part, rest): two models that share the layers of `model`.

    The frozen part ends in the output of `layer_name` (None: in the backbone's), where the
    rest begins. One after the other they compute what `model` computes.
    """
    cut = cut_tensor(model, layer_name)
    return keras.Model(model.input, cut), keras.Model(cut, model.output)


class Frozen(keras.layers.Layer):
    """A part of a network that in training says what it says when it is asked.

    In training Keras runs every dropout, also of layers that do not learn.
    """

    def __init__(self, part):
        super().__init__()
        self.part = part

    def call(self, inputs):
        return self.part(inputs, training=False)


def learner_of(model, layer_name):
    """Return a model from photos to probabilities around the layers of `model`.

    What is behind the cut may learn; what is before it is asked only.
    """
    frozen, rest = split_at(model, layer_name)
    return keras.Model(model.input, rest(Frozen(frozen)(model.input)))


def between(model, first, last):
    """Return the layers of a model behind the cut at `first`, up to the cut at `last`."""
    return keras.Model(cut_tensor(model, first), cut_tensor(model, last))


def open_for(model, phase):
    """Let the head learn, and the backbone after `phase.unfreeze_after`; freeze the rest.

    BatchNormalization layers stay frozen: their statistics come from ImageNet, and a batch of
    32 photos would replace them with noise.
    """
    frozen, _ = split_at(model, phase.unfreeze_after)
    stays = {layer.name for layer in frozen.layers}
    # One by one: `model.trainable = True` does not reach every layer of a functional model.
    for layer in model.layers:
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name not in stays and not normalises


def changing(model, phases):
    """Return the variables of a model that change while these phases learn, in a fixed order.

    They are the weights that learn in any of them, and the random states of dropout.
    """
    learned = set()
    for phase in phases:
        open_for(model, phase)
        learned |= {id(weight) for weight in model.trainable_weights}
    weights = {id(weight) for weight in model.weights}
    return [v for v in model.variables if id(v) in learned or id(v) not in weights]


def trainable_layers(model):
    """Return the names of the layers that learn, first to last."""
    return [layer.name for layer in model.layers if layer.trainable_weights]


def count_trainable(model):
    """Return how many single numbers learn."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def in_float32(model):
    """Return a copy of a model that computes in float32, and so says the same on every machine.

    Sixteen bits are for learning fast; they move a probability by up to some hundredths.
    """
    config = model.get_config()
    for part in parts_of(config):
        if part.get("class_name") == "DTypePolicy":
            part["config"]["name"] = "float32"
        elif part.get("class_name") == "InputLayer" and "float16" in part["config"]["dtype"]:
            part["config"]["dtype"] = "float32"
        elif part.get("class_name") == "__tensor__":
            # The means of the preprocessing: as a tensor they would be an input of an ONNX file.
            part["class_name"] = "__numpy__"
    copy = keras.Model.from_config(config)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with what this takes from its weights
    return copy


def parts_of(config):
    """Yield every dict in a model's configuration, however deep."""
    if isinstance(config, dict):
        yield config
        config = config.values()
    elif not isinstance(config, (list, tuple)):
        return
    for each in config:
        yield from parts_of(each)


def compile_for(model, phase):
    """Compile a model, or the rest behind a cut, with a phase's optimizer."""
    options = {"momentum": phase.momentum} if phase.optimizer == "SGD" else {}
    optimizer = getattr(keras.optimizers, phase.optimizer)(phase.learning_rate, **options)
    one_output = model.output_shape[-1] == 1
    model.compile(
        optimizer=optimizer,
        loss="binary_crossentropy" if one_output else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # On a CPU, XLA makes a training step of VGG16 slower: 10.2 s against 6.1 s.
        jit_compile=machine.has_gpu(),
    )


def weights_digest(model):
    """Return 16 hexadecimal digits that stand for every number in a model's weights."""
    sha = hashlib.sha256()
    for weight in model.weights:
        sha.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return sha.hexdigest()[:16]


def build_untouched(backbone):
    """Return a network with its own top, as it was trained on ImageNet, and its class names.

    The network takes uint8 RGB (n, size, size, 3) photos and gives (n, 1000) probabilities.

    Args:
        backbone: a name in keras.applications.

    Raises:
        UserError: the weights or the class names cannot be downloaded.
    """
    application = getattr(keras.applications, backbone)
    module = sys.modules[application.__module__]
    with weights_errors_explained(f"{backbone} with its top", "imagenet"):
        network = application(weights="imagenet")
        # The name of a class is what a row that is sure of it is decoded to.
        certain = np.eye(network.output_shape[-1], dtype=np.float32)
        names = [answer[0][1] for answer in module.decode_predictions(certain, top=1)]
    # Some take photos of any size, and were trained on one.
    size = network.input_shape[1] or BACKBONES[backbone]["image_size"]
    photos = keras.Input((size, size, 3), dtype="uint8", name="photos")
    pixels = module.preprocess_input(keras.ops.cast(photos, "float32"))
    return keras.Model(photos, network(pixels)), names


def gradients(model):
    """Return a function from a numpy batch that does what a training step does, all but learn."""
    signature = tf.TensorSpec(model.input.shape, model.input.dtype)

    @tf.function(input_signature=[signature])
    def run(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(batch, training=False))
        # The sum keeps every gradient from being left out as unused.
        return tf.add_n([tf.reduce_sum(g) for g in tape.gradient(loss, model.trainable_weights)])

    return lambda batch: run(tf.cast(batch, model.input.dtype)).numpy()


def forward(model):
    """Return a function from a numpy batch to the model's output as a numpy array.

    `model.predict` would do, but it turns XLA on for a model that is not compiled, and on a CPU
    that takes VGG16 from 30 photos a second to 10.
    """
    signature = tf.TensorSpec(model.input.shape, model.input.dtype)
    on_gpu = machine.has_gpu()

    @tf.function(input_signature=[signature])
    def run(batch):
        return model(batch, training=False)

    def ask(batch):
        count = len(batch) if on_gpu else PHOTOS_AT_ONCE
        parts = (batch[start : start + count] for start in range(0, len(batch), count))
        return np.concatenate([run(tf.cast(part, model.input.dtype)).numpy() for part in parts])

    return ask
