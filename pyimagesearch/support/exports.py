"""Networks for other programs: uint8 RGB photos in, probabilities out, without Keras."""

import numpy as np

from pyimagesearch.support import console, files
from pyimagesearch.support.errors import UserError

FILES = {"onnx": "model.onnx", "litert": "model.tflite", "saved_model": "saved_model"}
KERAS_NAMES = {"onnx": "onnx", "litert": "litert", "saved_model": "tf_saved_model"}
# The names of the input and the output that Keras and tf2onnx choose.
SIGNATURE = "photos and output_0 of the signature serving_default"
TENSOR_NAMES = {"onnx": "photos and Identity:0", "litert": SIGNATURE, "saved_model": SIGNATURE}

# The steps are those of images.read_rgb and images.resize.
DESCRIPTION = """\
{file}: an image classifier, exported by train.py --export {kind}

The names of the input and the output are {names}.

Input: uint8 (photos, {size}, {size}, 3), which is photo, height, width, colour. The colours
are in the order red, green, blue. The values are from 0 to 255; all other preprocessing is part
of the network.

Prepare each photo in this order. Other ways of resizing give other probabilities.
1. A JPEG with at least {large} pixels along its shorter side is decoded at 1/2, 1/4 or 1/8 of its
   size: the smallest that leaves {decoded} pixels along that side. In full size, its
   probabilities are slightly different.
2. Turn it upright, as its EXIF orientation says.
3. Convert it to RGB with 8 bits per colour. Transparent pixels become white.
4. If its shorter side is above {size} pixels, or its longer side above {twice}: shrink each side
   that is above {size} pixels to {size} by area averaging (OpenCV: INTER_AREA).
5. Resize it to {size} x {size} pixels by linear interpolation without antialiasing (OpenCV:
   INTER_LINEAR). It is squeezed into a square, not cropped.

Output: float32 (photos, {outputs}), {meaning}.

The classes are, in this order:
{classes}
"""


def write(network, kind, target):
    """Write a keras.Model for another program, as a `kind` of FILES; "saved_model" is a folder.

    It takes uint8 RGB (n, size, size, 3) and returns (n, classes) probabilities, or (n, 1) if the
    last layer is a sigmoid: that of the second class.
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            # As tensors they would be inputs of an ONNX file.
            layer.mean, layer.variance = np.array(layer.mean), np.array(layer.variance)
    photos = keras.InputSpec(shape=(None, *network.input_shape[1:]), dtype="uint8", name="photos")
    with files.atomic_write(target) as partial, console.silence_stderr():
        network.export(partial, format=KERAS_NAMES[kind], input_signature=[photos], verbose=False)


def describe(network, kind, target, classes, decode_size):
    """Write a text file beside an export: its input, its output, and how to prepare a photo.

    `decode_size` is the `at_least` of images.read_rgb. Returns the path: that of the export with
    ".txt" after it.
    """
    size, outputs = network.input_shape[1], network.output_shape[-1]
    meaning = "the probability of each class"
    if outputs == 1:
        meaning = f"the probability of the second class, {classes[1]}. The first has the rest"
    values = {
        **{"file": target.name, "kind": kind, "names": TENSOR_NAMES[kind]},
        **{"size": size, "twice": 2 * size, "decoded": decode_size, "large": 2 * decode_size},
        **{"outputs": outputs, "meaning": meaning},
        "classes": "\n".join(f"{label} {name}" for label, name in enumerate(classes)),
    }
    path = target.with_name(f"{target.name}.txt")
    files.write_text(path, DESCRIPTION.format(**values))
    return path


def open_litert(path, command):
    """Return (image size, predict function) of a LiteRT file; `command` makes it again.

    The function takes uint8 RGB (n, size, size, 3) and returns (n, outputs). Raises UserError if
    the file cannot be loaded, or the LiteRT runtime is not installed.
    """
    console.require_package("ai_edge_litert", "--fast")
    with console.silence_stderr():
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(str(path))
        except ValueError as failure:
            problem = f"{path} cannot be loaded: {files.first_sentence(failure)}"
            raise UserError(f"{problem}. Make it again with: {command}") from failure
        interpreter.allocate_tensors()
    (model_input,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(batch):
        rows = []
        for photo in batch:
            interpreter.set_tensor(model_input["index"], photo[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(output["index"])[0].copy())
        return np.stack(rows)

    return int(model_input["shape"][1]), predict
