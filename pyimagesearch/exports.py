"""A classifier for other programs: plain RGB photos in, probabilities out, no Keras needed."""

from pathlib import Path

import numpy as np

from pyimagesearch import console, files
from pyimagesearch.console import UserError

FILES = {"onnx": "model.onnx", "litert": "model.tflite", "saved_model": "saved_model"}
KERAS_NAMES = {"saved_model": "tf_saved_model"}  # where Keras has another name for one


def export(folder, kind):
    """Write the classifier of a folder as another program reads it; return the path.

    The file takes uint8 RGB (n, size, size, 3) and gives (n, classes) probabilities, or (n, 1)
    where the last layer is a sigmoid: that of the second class. The class names lie beside it in
    classes.json.

    Args:
        folder: of a finished classifier, of either method.
        kind: onnx, litert or saved_model.

    Raises:
        UserError: there is no classifier.
    """
    console.load_tensorflow()
    import keras

    from pyimagesearch import artifacts

    network, classes = artifacts.load_whole(folder)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            # As tensors they would be inputs of an ONNX file.
            layer.mean, layer.variance = np.array(layer.mean), np.array(layer.variance)
    target = Path(folder) / artifacts.EXPORTED / FILES[kind]
    photos = keras.InputSpec(shape=(None, *network.input_shape[1:]), dtype="uint8", name="photos")
    with files.whole(target) as partial, console.silenced():
        network.export(
            partial, format=KERAS_NAMES.get(kind, kind), input_signature=[photos], verbose=False
        )
    files.write_json(target.with_name(artifacts.CLASSES), classes)
    return target


def open_litert(folder):
    """Return an artifacts.Classifier that asks the LiteRT file of a folder, without TensorFlow.

    Raises:
        UserError: nothing was exported there, or the runtime is not installed.
    """
    from pyimagesearch import artifacts

    path = Path(folder) / artifacts.EXPORTED / FILES["litert"]
    recipe, method = Path(folder).parts[-2:]
    command = console.command("train", recipe, "--method", method, "--export", "litert")
    classes = files.read_json(path.with_name(artifacts.CLASSES), list)
    if classes is None or not path.is_file():
        raise UserError(f"{path} or its class names are missing. Make it with: {command}")
    console.require("ai_edge_litert", "--fast")
    with console.silenced():
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(str(path))
        except ValueError as failure:
            raise UserError(
                f"{path} cannot be loaded: {files.first_sentence(failure)}. "
                f"Make it again with: {command}"
            ) from failure
        interpreter.allocate_tensors()
    photos, answers = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def probabilities(batch):
        rows = []
        for photo in batch:
            interpreter.set_tensor(photos["index"], photo[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(answers["index"])[0].copy())
        return artifacts.both_classes(np.stack(rows))

    return artifacts.Classifier(tuple(classes), int(photos["shape"][1]), probabilities)
