"""The network of a recipe: a backbone with its preprocessing, a new head, and the cut between.

A network is cut at one layer. The layers up to the cut are frozen, the layers after it trained.
"""

import difflib
import hashlib
import itertools
import sys

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.recipe import AUTO, BACKBONES, height_and_width
from pyimagesearch.support import console, convolutions, devices, machine, weights
from pyimagesearch.support.errors import UserError

PHOTOS = "photos"  # the input
FEATURES = "features"  # the layer that turns the last feature map into one row per photo
ALL_FEATURES = "all_features"  # the layer that appends the features of other layers to that row
PROBABILITIES = "probabilities"  # the last layer
POOLINGS = {"flatten": keras.layers.Flatten, "average": keras.layers.GlobalAveragePooling2D}
# Layers with weights that a phase does not train.
NEVER_TRAINED = (keras.layers.BatchNormalization, keras.layers.Normalization)

# The share of a phase in which the learning rate of its schedule rises. At once, the full rate
# would undo what the weights start with.
RISING_SHARE = 0.1

# How many photos a CPU predicts at once. 32 need twice the memory, give the same bits and are not
# faster: 2.0 s for 32 photos through VGG16 in float32 either way, on 2 cores of an AMD EPYC.
PHOTOS_AT_ONCE = 16


def set_precision(setting):
    """Set the precision of the networks that are built from now on; return the policy's name.

    `setting` is one of recipe.PRECISIONS, or "auto": float16 on a GPU with tensor cores, bfloat16
    on a processor with instructions for it, else float32.
    """
    policy = fastest_precision() if setting == AUTO else setting
    keras.config.set_dtype_policy(policy)
    return policy


def fastest_precision():
    """Return the policy that this machine computes fastest with."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # Tensor cores came with compute capability 7.0.
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
        return "mixed_float16" if capability and capability >= (7, 0) else "float32"
    # Without the instructions, bfloat16 is much slower than float32.
    return "mixed_bfloat16" if machine.computes_in_bfloat16() else "float32"


def build(recipe, weights_setting, seed=None, gpus=1):
    """Return the whole network: uint8 RGB (n, height, width, 3) -> probabilities (n, classes).

    With a sigmoid head there is one output, the probability of the second class: (n, 1).

    Args:
        recipe: a row of config.RECIPES.
        weights_setting: config.WEIGHTS, or None for random weights.
        seed: of the head's first weights and of its dropout; None: do not set it.
        gpus: on how many GPUs to train it: config.GPUS.

    Raises UserError if the weights cannot be downloaded or do not fit, or if a phase cuts the
    network where it cannot be cut.
    """
    if seed is not None:
        keras.utils.set_random_seed(seed)
    with devices.choose_strategy(gpus).scope():
        photos, backbone = build_backbone(recipe, weights_setting)
        network = keras.Model(photos, add_head(recipe, backbone.output))
    check_cuts(network, recipe)
    report_cuts(network, recipe)
    return network


def add_head(recipe, feature_map):
    """Return the probabilities that a new head computes from the output of a backbone."""
    x = POOLINGS[recipe.head.pooling](name=FEATURES)(feature_map)
    if recipe.head.units is not None:
        x = keras.layers.Dense(recipe.head.units, activation="relu", name="head_dense")(x)
    if recipe.head.dropout:
        x = keras.layers.Dropout(recipe.head.dropout, name="head_dropout")(x)
    units = 1 if recipe.head.output == "sigmoid" else len(recipe.classes)
    # float32: probabilities of 16 bits would not add up to one.
    probabilities = keras.layers.Dense(
        units, activation=recipe.head.output, dtype="float32", name=PROBABILITIES
    )
    return probabilities(x)


def build_feature_extractor(recipe, weights_setting):
    """Return the frozen network of a recipe: uint8 RGB photos -> (n, features).

    VGG16 has 7 x 7 x 512 = 25,088 features at 224 x 224 pixels, its flattened last pooling. Those
    of the layers in `recipe.regression` come after them. Arguments and errors are those of `build`.
    """
    photos, backbone = build_backbone(recipe, weights_setting)
    pooling = POOLINGS[recipe.head.pooling](name=FEATURES)
    plain = keras.Model(photos, pooling(backbone.output))
    parts = {FEATURES: plain.output}
    for name in recipe.regression.layers:
        average = keras.layers.GlobalAveragePooling2D(name=f"{name}_average")
        parts[name] = average(feature_map(plain, name, recipe))
    if recipe.regression.unit_length:
        for name, part in parts.items():
            unit_length = keras.layers.UnitNormalization(dtype="float32", name=f"{name}_unit")
            parts[name] = unit_length(part)
    joined, *others = parts.values()
    if others:
        joined = keras.layers.Concatenate(name=ALL_FEATURES)([joined, *others])
    extractor = keras.Model(photos, joined, name=f"{recipe.backbone.lower()}_features")
    extractor.trainable = False
    return extractor


def features_of_other_layers(network):
    """Return the tensors that are appended to the features of the last feature map, if any."""
    names = [layer.name for layer in network.layers]
    return network.get_layer(ALL_FEATURES).input[1:] if ALL_FEATURES in names else []


def feature_map(network, layer_name, recipe):
    """Return the output of a layer, or of the one that "auto" stands for.

    Raises UserError if the network has no such layer, or if its output is not a feature map.
    """
    maps = {layer.name: layer.output for layer in network.layers if len(layer.output.shape) == 4}
    name = resolve_cut(network, layer_name)
    if name not in maps:
        similar = difflib.get_close_matches(name, maps, n=3, cutoff=0.3) or list(maps)[-3:]
        raise UserError(
            f"pyimagesearch/config.py, recipe {recipe.name!r}: regression.layers has "
            f"{name!r}; allowed: 'auto', or layers of {recipe.backbone} such as "
            f"{', '.join(similar)}"
        )
    return maps[name]


def build_backbone(recipe, weights_setting):
    """Return (input, backbone without its top), with the backbone's preprocessing in between.

    With the preprocessing inside the network, training and prediction cannot disagree about it.
    """
    shape = (*height_and_width(recipe.image_size), 3)
    photos = keras.Input(shape, dtype="uint8", name=PHOTOS)
    application = getattr(keras.applications, recipe.backbone)
    module = sys.modules[application.__module__]
    if recipe.preprocessing == "rescale":
        x = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescale")(photos)
    else:
        # In uint8, preprocess_input would subtract its means modulo 256: 0 - 104 is 152.
        x = module.preprocess_input(keras.ops.cast(photos, "float32"))
    if weights_setting is not None:
        weights_setting = weights.find_weights(recipe.backbone, weights_setting)
    with weights.explain_errors(recipe.backbone, weights_setting):
        backbone = application(include_top=False, weights=weights_setting, input_tensor=x)
    deviations = getattr(module, "IMAGENET_STDDEV_RGB", None)
    if deviations and weights_setting not in (None, "imagenet"):
        # EfficientNet: only when Keras downloads the weights, it adds a layer that divides by the
        # roots of these deviations. For weights from a file the division is put in here.
        is_normalization = keras.layers.Normalization
        layer = next(each for each in backbone.layers if isinstance(each, is_normalization))
        layer.adapt_variance.assign(layer.adapt_variance * deviations)
        layer.finalize_state()
    convolutions.speed_up(backbone)
    return photos, backbone


def cut_tensor(network, layer_name):
    """Return the tensor at which a network is cut: a layer's output.

    None: the output of the backbone. "auto": that of `last_block_cut`.
    """
    if layer_name is None:
        return network.get_layer(FEATURES).input
    return network.get_layer(resolve_cut(network, layer_name)).output


def resolve_cut(network, layer_name):
    """Return the name of the layer that an `unfreeze_after` stands for, or None."""
    return last_block_cut(network) if layer_name == AUTO else layer_name


def split_at(network, layer_name):
    """Return (frozen part, trained part): two models that share the layers of a network.

    The frozen part ends with the output of `layer_name` (None: of the backbone), where the other
    one begins. One after the other they compute what the network computes.
    """
    cut = cut_tensor(network, layer_name)
    return keras.Model(network.input, cut), keras.Model(cut, network.output)


def part_between(network, first, last):
    """Return the layers after the cut at `first`, up to the cut at `last`, as a model.

    `first` may be PHOTOS.
    """
    start = network.input if first == PHOTOS else cut_tensor(network, first)
    return keras.Model(start, cut_tensor(network, last))


def cut_points(network):
    """Return the names of the layers at which a network can be cut, first to last.

    A network can be cut at a layer if no later layer reads the output of an earlier one.
    """
    operations = network.operations
    position = {id(operation): number for number, operation in enumerate(operations)}
    last_reader = list(range(len(operations)))
    for operation in operations:
        for node in operation._inbound_nodes:
            for parent in node.parent_nodes:
                read, reader = position.get(id(parent.operation)), position[id(operation)]
                if read is not None:
                    last_reader[read] = max(last_reader[read], reader)
    names, needed_until = [], 0
    for number, operation in enumerate(operations):
        # Operations such as the additions of ConvNeXt are not layers, and have no fixed names.
        is_layer = isinstance(operation, keras.layers.Layer)
        if number > 0 and needed_until <= number and is_layer:
            names.append(operation.name)
        needed_until = max(needed_until, last_reader[number])
    return names


def last_block_cut(network):
    """Return the name of the layer after which the last block of a backbone begins.

    The blocks of a backbone make the feature maps smaller and smaller. The last block begins after
    the first map of the size at which the last layers compute. Inside a block with more channels
    than its output, as in MobileNetV2, the map after it is taken instead.

    VGG16: block4_pool. ResNet50: conv5_block1_out. MobileNetV2: block_13_project_BN.
    """
    trained_until = count_trained_layers(network)
    count = max(trained_until.values())
    cuts = [name for name in cut_points(network) if trained_until.get(name, count) < count]
    shapes = {name: network.get_layer(name).output.shape[1:] for name in cuts}
    last_trained = next(name for name, number in trained_until.items() if number == count)
    size = network.get_layer(last_trained).output.shape[1:-1]
    cuts_in_last_block = [name for name in cuts if shapes[name][:-1] == size]
    if not cuts_in_last_block:
        return cuts[-1]  # NASNet: each block also reads the one before the last
    best = cuts_in_last_block[0]
    for name in cuts_in_last_block:
        if shapes[name][-1] > shapes[best][-1]:
            break
        # Of layers with the same trained layers after them, the last one.
        if shapes[name] != shapes[best] or trained_until[name] == trained_until[best]:
            best = name
    return best


def count_trained_layers(network):
    """Return {operation of the backbone: how many layers that can be trained end with it}."""
    counts, count = {}, 0
    for operation in network.operations:
        if operation.name == FEATURES:
            break
        has_weights = bool(getattr(operation, "weights", ()))
        count += has_weights and not isinstance(operation, NEVER_TRAINED)
        counts[operation.name] = count
    return counts


def report_cuts(network, recipe):
    """Print where the last block begins, and warn of a second phase that trains the head alone."""
    if AUTO in [phase.unfreeze_after for phase in recipe.phases]:
        cut, backbone = last_block_cut(network), recipe.backbone
        if backbone.startswith("NASNet"):
            console.warn(f"{backbone} can only be cut near its start: all after {cut} is trained")
        else:
            console.info(f"{backbone}: the last block begins after {cut}")
    for earlier, phase in itertools.pairwise(recipe.phases):
        if phase.unfreeze_after is earlier.unfreeze_after is None:
            console.warn(
                f"{phase.name} trains the head alone, as {earlier.name} does. To train the last "
                f"block of {recipe.backbone} too, add unfreeze_after='auto' to the phase"
            )


def check_cuts(network, recipe):
    """Raise UserError if a phase cuts where the network cannot be cut.

    A phase may also not train fewer layers than the one before it: stored outputs would be out of
    date.
    """
    allowed = cut_points(network)
    allowed = allowed[: allowed.index(FEATURES)]
    earlier = None
    for number, phase in enumerate(recipe.phases):
        setting = phase.unfreeze_after
        if setting is None:
            continue
        field = (
            f"pyimagesearch/config.py, recipe {recipe.name!r}: phases[{number}].unfreeze_after "
            f"is {setting!r}; allowed:"
        )
        cut = resolve_cut(network, setting)
        if cut not in allowed:
            raise UserError(f"{field} {allowed_cuts(network, recipe, cut, allowed)}")
        if earlier is not None:
            before = allowed.index(resolve_cut(network, earlier))
            # Stored outputs are named after the setting, so one layer must not have two names.
            if allowed.index(cut) > before or (allowed.index(cut) == before and setting != earlier):
                raise UserError(
                    f"{field} {earlier!r} or an earlier layer, since a phase trains the layers of "
                    f"the one before it"
                )
        earlier = setting


def allowed_cuts(network, recipe, cut, allowed):
    """Return what to write instead of a layer at which the network cannot be cut."""
    names = [layer.name for layer in network.layers]
    if cut in names:
        before = [name for name in names[: names.index(cut)] if name in allowed]
        after = [name for name in names[names.index(cut) :] if name in allowed]
        nearest = " or ".join(before[-1:] + after[:1])
        return f"{nearest}, where {recipe.backbone} can be cut"
    similar = difflib.get_close_matches(cut, allowed, n=3, cutoff=0.3) or allowed[-3:]
    return f"'auto', or a layer of {recipe.backbone} such as {', '.join(similar)}"


def trained_layers(network, layer_name):
    """Return the layers after the cut that are trained.

    BatchNormalization layers are not: their statistics come from ImageNet, and a batch of 32
    photos would replace them with noise.
    """
    frozen_part, _ = split_at(network, layer_name)
    frozen = {layer.name for layer in frozen_part.layers}
    return [
        layer
        for layer in network.layers
        if layer.name not in frozen and not isinstance(layer, keras.layers.BatchNormalization)
    ]


def unfreeze_after(network, layer_name):
    """Train the layers after the cut at `layer_name`; freeze the others."""
    trained = trained_layers(network, layer_name)
    # One by one: `network.trainable = True` does not reach every layer of a functional model.
    for layer in network.layers:
        layer.trainable = layer in trained


def trained_variables(network, phases):
    """Return the variables that training these phases changes, in a fixed order.

    They are the weights of the layers that are trained, and the random states of dropout.
    """
    layers = [layer for phase in phases for layer in trained_layers(network, phase.unfreeze_after)]
    trained = {id(weight) for layer in layers for weight in layer.weights}
    weights_of_network = {id(weight) for weight in network.weights}
    return [
        variable
        for variable in network.variables
        if id(variable) in trained or id(variable) not in weights_of_network
    ]


class FrozenPart(keras.layers.Layer):
    """Runs its layers in inference mode, even during training.

    Keras would apply the dropout layers of some backbones in training, even if they are frozen.
    """

    def __init__(self, part):
        super().__init__()
        self.part = part

    def call(self, inputs):
        return self.part(inputs, training=False)


def with_frozen_part(network, layer_name):
    """Return a model from photos to probabilities that shares the layers of a network.

    The layers up to the cut run in inference mode.
    """
    frozen_part, trained_part = split_at(network, layer_name)
    return keras.Model(network.input, trained_part(FrozenPart(frozen_part)(network.input)))


def learning_rate(phase, steps_per_epoch):
    """Return the learning rate of a phase, a float or a schedule of Keras."""
    rate = float(phase.learning_rate)  # Keras refuses whole numbers
    if phase.schedule is None:
        return rate
    steps = phase.epochs * steps_per_epoch
    rising = max(1, round(steps * RISING_SHARE))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps - rising),
        warmup_target=rate,
        warmup_steps=rising,
    )


def compile_for(model, phase, steps_per_epoch):
    """Compile a model with the optimizer of a phase."""
    options = {"learning_rate": learning_rate(phase, steps_per_epoch)}
    if phase.optimizer == "SGD":
        options["momentum"] = float(phase.momentum)
    optimizer = getattr(keras.optimizers, phase.optimizer)(**options)
    one_output = model.output_shape[-1] == 1
    model.compile(
        optimizer=optimizer,
        loss="binary_crossentropy" if one_output else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # On a CPU, XLA makes a training step of VGG16 slower: 10.2 s instead of 6.1 s. And what
        # XLA compiles cannot use the weights of several devices.
        jit_compile=machine.has_gpu() and devices.count(model) == 1,
    )


def predict_function(model):
    """Return a function from a NumPy batch to the model's output, a NumPy array, or to its outputs.

    `model.predict` turns XLA on for a model that is not compiled. On a CPU that slows VGG16 down
    from 30 photos per second to 10.
    """
    signature = tf.TensorSpec(model.input.shape, model.input.dtype)
    on_gpu = machine.has_gpu()

    @tf.function(input_signature=[signature])
    def run(batch):
        return model(batch, training=False)

    def predict(batch):
        count = len(batch) if on_gpu else PHOTOS_AT_ONCE
        parts = (batch[start : start + count] for start in range(0, len(batch), count))
        return concatenate([run(tf.cast(part, model.input.dtype)) for part in parts])

    return predict


def concatenate(batches):
    """Return the outputs for several batches as one: an array, or a list of one per output."""
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def with_logits(network):
    """Return a network that gives the logits of a network, and shares its other layers.

    Its second output is that of `pooled_features`.
    """
    last = network.get_layer(PROBABILITIES)
    logits = keras.layers.Dense(last.units, dtype="float32", name="logits")
    model = keras.Model(network.input, [logits(last.input), pooled_features(network)])
    logits.set_weights(last.get_weights())
    return model


def pooled_features(network):
    """Return the backbone's last feature map, averaged over the photo: (n, channels)."""
    pooling = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pooled_features")
    return pooling(cut_tensor(network, None))


def with_similarity(network, reference):
    """Return a network that shares the layers of a network and has two outputs.

    They are its probabilities, and (n, 1) by how much a photo's similarity to the training photos
    is above the threshold of a similarity.Reference: below 0, it is unlike any of them.
    """
    count = len(reference.features)
    unit_rows = keras.layers.UnitNormalization(dtype="float32", name="unit_rows")
    cosine = keras.layers.Dense(count, use_bias=False, dtype="float32", name="cosine")
    nearest, _ = keras.ops.top_k(cosine(unit_rows(pooled_features(network))), reference.neighbours)
    above = keras.layers.Rescaling(1, -reference.threshold, dtype="float32", name="above_threshold")
    # Not nearest[:, -1:]. Keras would call that get_item, which preprocessing is called already.
    similarity = keras.ops.min(nearest, axis=1, keepdims=True)
    model = keras.Model(network.input, [network.output, above(similarity)])
    cosine.set_weights([reference.features.astype(np.float32).T])
    return model


def calibrated_copy(network, temperature):
    """Return a `float32_copy` whose logits are divided by a temperature."""
    copy = float32_copy(network)
    last = copy.get_layer(PROBABILITIES)
    last.set_weights([weights / temperature for weights in last.get_weights()])
    return copy


def float32_copy(network):
    """Return a copy of a network that computes in float32 with plain layers.

    It evaluates, predicts and is saved, so that every machine gives the same answer. 16 bits are
    for training fast: they change a probability by up to a few hundredths.
    """
    config = network.get_config()
    for part in parts_of(config):
        if part.get("class_name") == "DTypePolicy":
            part["config"]["name"] = "float32"
        elif part.get("class_name") == "InputLayer" and "float16" in part["config"]["dtype"]:
            part["config"]["dtype"] = "float32"
        elif part.get("class_name") == "__tensor__":
            # The means of the preprocessing. As a tensor they would be an input of an ONNX file.
            part["class_name"] = "__numpy__"
    copy = keras.Model.from_config(config)
    copy.set_weights(network.get_weights())
    for layer in copy.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # computes its mean and variance from the weights
    return copy


def load_for_computing(path):
    """Return a network that was saved as `build` returned it, with its faster convolutions."""
    network = keras.models.load_model(path, compile=False)
    convolutions.speed_up(network)
    return network


def parts_of(config):
    """Yield every dict in a network's configuration, at any depth."""
    if isinstance(config, dict):
        yield config
        config = config.values()
    elif not isinstance(config, (list, tuple)):
        return
    for part in config:
        yield from parts_of(part)


def weights_digest(model):
    """Return 16 hexadecimal digits that stand for every weight of a model."""
    sha = hashlib.sha256()
    for weight in model.weights:
        sha.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return sha.hexdigest()[:16]


def build_imagenet_classifier(backbone):
    """Return a backbone with its own top, trained on ImageNet, and its 1,000 class names.

    The network takes uint8 RGB (n, size, size, 3) photos and returns (n, 1000) probabilities.
    Raises UserError if the weights or the class names cannot be downloaded.
    """
    application = getattr(keras.applications, backbone)
    module = sys.modules[application.__module__]
    with weights.explain_errors(f"{backbone} with its top", "imagenet"):
        network = application(weights="imagenet")
        # Probabilities that are certain of a class are decoded to its name.
        certain = np.eye(network.output_shape[-1], dtype=np.float32)
        names = [rows[0][1] for rows in module.decode_predictions(certain, top=1)]
    # Some networks take photos of any size. They were trained at one.
    size = network.input_shape[1] or BACKBONES[backbone]
    photos = keras.Input((size, size, 3), dtype="uint8", name=PHOTOS)
    pixels = module.preprocess_input(keras.ops.cast(photos, "float32"))
    return keras.Model(photos, network(pixels)), names
