"""Networks for other programs: uint8 RGB photos in, probabilities out, without Keras."""

import numpy as np

from pyimagesearch.support import console, files
from pyimagesearch.support.errors import UserError

FILES = {"onnx": "model.onnx", "litert": "model.tflite", "saved_model": "saved_model"}
KERAS_NAMES = {"onnx": "onnx", "litert": "litert", "saved_model": "tf_saved_model"}


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
