"""Networks for other programs: uint8 RGB photos in, probabilities out, without Keras."""

import numpy as np

from pyimagesearch.support import console, files
from pyimagesearch.support.errors import UserError

FILES = {"onnx": "model.onnx", "litert": "model.tflite", "saved_model": "saved_model"}
KERAS_NAMES = {"onnx": "onnx", "litert": "litert", "saved_model": "tf_saved_model"}
# The names of the outputs that Keras and tf2onnx choose. That of the input is "photos".
OUTPUT_NAMES = {
    "onnx": ("Identity:0", "Identity_1:0"),
    "litert": ("output_0", "output_1"),
    "saved_model": ("output_0", "output_1"),
}

# The steps are those of images.read_rgb and images.resize.
DESCRIPTION = """\
{file}: an image classifier, exported by train.py --export {kind}

Input, named photos: uint8 (photos, {height}, {width}, 3), which is photo, height, width, colour.
The colours are in the order red, green, blue. The values are from 0 to 255; all other
preprocessing is part of the network.

Prepare each photo in this order. Other ways of resizing give other probabilities.
1. A JPEG with at least {large} pixels along its shorter side is decoded at 1/2, 1/4 or 1/8 of its
   size: the smallest that leaves {decoded} pixels along that side. In full size, its
   probabilities are slightly different.
2. Turn it upright, as its EXIF orientation says.
3. Convert it to RGB with 8 bits per colour. Transparent pixels become white.
4. If its height is above {height} and its width above {width} pixels, or one of them above twice
   that: shrink a height above {height} to {height} and a width above {width} to {width} pixels by
   area averaging (OpenCV: INTER_AREA).
5. Resize it to height {height} and width {width} by linear interpolation without antialiasing
   (OpenCV: INTER_LINEAR). It is squeezed, not cropped.

Output, named {names[0]}: float32 (photos, {outputs}), {meaning}.
{comparison}
The classes are, in this order:
{classes}
"""
COMPARISON = """
Output, named {name}: float32 (photos, 1), by how much the photo is more similar to the training
photos than it has to be. Below 0, it is unlike any of them, and its class means little.
"""


def write(network, kind, target):
    """Write a keras.Model for another program, as a `kind` of FILES; "saved_model" is a folder.

    It takes uint8 RGB (n, height, width, 3) and returns what networks.with_similarity does, or only
    the probabilities. They are (n, classes), or (n, 1) if the last layer is a sigmoid: those of the
    second class.
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            # As tensors they would be inputs of an ONNX file.
            layer.mean, layer.variance = np.array(layer.mean), np.array(layer.variance)
    photos = keras.InputSpec(shape=(None, *network.input_shape[1:]), dtype="uint8", name="photos")
    with files.atomic_write(target) as partial, console.silence_stderr():
        network.export(partial, format=KERAS_NAMES[kind], input_signature=[photos], verbose=False)


def describe(network, kind, target, classes, decode_size, compares):
    """Write a text file beside an export: its input, its outputs, and how to prepare a photo.

    `decode_size` is the `at_least` of images.read_rgb. `compares`: the export has the second output
    of networks.with_similarity. Returns the path: that of the export with ".txt" after it.
    """
    (height, width), outputs = network.input_shape[1:3], network.output_shape[-1]
    meaning = "the probability of each class"
    if outputs == 1:
        meaning = f"the probability of the second class, {classes[1]}. The first has the rest"
    values = {
        **{"file": target.name, "kind": kind, "names": OUTPUT_NAMES[kind]},
        **{"height": height, "width": width},
        **{"decoded": decode_size, "large": 2 * decode_size},
        **{"outputs": outputs, "meaning": meaning},
        "comparison": COMPARISON.format(name=OUTPUT_NAMES[kind][1]) if compares else "",
        "classes": "\n".join(f"{label} {name}" for label, name in enumerate(classes)),
    }
    path = target.with_name(f"{target.name}.txt")
    files.write_text(path, DESCRIPTION.format(**values))
    return path


def open_litert(path, command):
    """Return ((height, width), function) of a LiteRT file; `command` makes it again.

    The function takes uint8 RGB (n, height, width, 3) and returns the list of the file's outputs.
    Raises UserError if the file cannot be loaded, or the LiteRT runtime is not installed.
    """
    console.require_package("ai_edge_litert", "--fast")
    with console.silence_stderr():
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(str(path))
        except ValueError as failure:
            problem = f"{path} cannot be loaded: {files.first_sentence(failure)}"
            raise UserError(f"{problem}. Make it again with: {command}") from failure
        run_signature = interpreter.get_signature_runner()

    def run(photos):
        # One by one: the memory for a batch would not be freed.
        outputs = [run_signature(photos=photo[None]) for photo in photos]
        return [np.concatenate([each[name] for each in outputs]) for name in sorted(outputs[0])]

    (model_input,) = interpreter.get_input_details()
    return tuple(map(int, model_input["shape"][1:3])), run
