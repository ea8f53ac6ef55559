"""Each export is opened by its own runtime and compared with the classifier photo by photo."""

import numpy as np
import pytest
from conftest import assert_one_error, make_flat_download, read, tiny_phase, tiny_recipe

from pyimagesearch import classifier, config, datasets, images, networks
from pyimagesearch.recipe import EXPORTS, Head
from pyimagesearch.support import console, exports, files

BOTH = pytest.mark.parametrize("method", ["logistic_regression", "fine_tune"])


def export(script, method, *kinds):
    status, _, messages = script("train", "--method", method, "--export", *kinds)
    assert status == 0, messages


def evaluation_pixels():
    photos = datasets.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST)
    return np.concatenate(list(images.read_batches(photos.paths, 32, 8)))


def predict_onnx(path, pixels):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["photos"]
    return session.run(None, {"photos": pixels})[0]


def predict_litert(path, pixels):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.resize_tensor_input(0, pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def predict_saved_model(path, pixels):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return loaded.serve(pixels).numpy()


RUNTIMES = {"onnx": predict_onnx, "litert": predict_litert, "saved_model": predict_saved_model}


def test_a_network_that_normalises_takes_nothing_but_photos(tmp_path):
    recipe = tiny_recipe(backbone="EfficientNetB0", image_size=32, phases=(tiny_phase("head"),))
    network = networks.build(recipe, None)
    classifier.save_network(tmp_path, network, recipe.classes)
    files.write_json(tmp_path / classifier.METRICS_FILE, {})
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    expected = classifier.load(tmp_path).predict(pixels)
    path = classifier.export(tmp_path, "onnx")
    np.testing.assert_allclose(predict_onnx(path, pixels), expected, atol=1e-5)


@BOTH
def test_every_export_answers_as_the_classifier_does(trained, script, method):
    folder = trained(method)
    export(script, method, *EXPORTS)
    pixels = evaluation_pixels()
    expected = classifier.load(folder).predict(pixels)
    for kind in EXPORTS:
        path = folder / "exports" / exports.FILES[kind]
        np.testing.assert_allclose(RUNTIMES[kind](path, pixels), expected, atol=1e-5, err_msg=kind)
    assert read(folder / "exports" / "classes.json") == read(folder / "classes.json")


def test_a_sigmoid_is_exported_as_the_probability_of_the_second_class(tiny, script):
    tiny(
        classes=("cat", "dog"), head=Head(pooling="flatten", units=8, dropout=0.5, output="sigmoid")
    )
    make_flat_download("Tiny", labels=2)
    assert script("build_dataset")[0] == 0
    export(script, "fine_tune", "litert")
    folder = config.OUTPUT_DIR / "tiny" / "fine_tune"
    pixels = evaluation_pixels()
    expected = classifier.load(folder).predict(pixels)
    rows = predict_litert(folder / "exports" / "model.tflite", pixels)
    assert rows.shape == (len(pixels), 1)
    np.testing.assert_allclose(rows[:, 0], expected[:, 1], atol=1e-5)
    np.testing.assert_allclose(classifier.load_litert(folder).predict(pixels), expected, atol=1e-5)


def test_what_is_trained_already_is_only_exported(trained, script):
    folder = trained()
    before = (folder / "metrics.json").stat().st_mtime_ns
    export(script, "fine_tune", "litert")
    assert (folder / "exports" / "model.tflite").is_file()
    assert (folder / "metrics.json").stat().st_mtime_ns == before


def test_training_again_takes_away_what_was_exported_before(trained, script):
    folder = trained()
    export(script, "fine_tune", "litert", "saved_model")
    assert script("train", "--method", "fine_tune", "--force")[0] == 0
    assert not (folder / "exports").exists()


@BOTH
def test_fast_prediction_gives_the_same_answers(trained, script, method):
    trained(method)
    export(script, method, "litert")
    photos = datasets.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST).paths
    arguments = ("predict", "--method", method, "--image", *photos)
    status, slow, _ = script(*arguments)
    assert status == 0
    status, fast, _ = script(*arguments, "--fast")
    assert status == 0
    assert fast == slow


def test_fast_prediction_without_an_export_names_the_command(trained, script):
    trained()
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    status, _, messages = script("predict", "--fast", "--image", photo)
    assert status == 2
    assert_one_error(messages, "model.tflite", "missing", "--export litert")


def test_a_damaged_export_is_one_line(trained, script):
    folder = trained()
    export(script, "fine_tune", "litert")
    path = folder / "exports" / "model.tflite"
    path.write_bytes(path.read_bytes()[:1000])
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    status, _, messages = script("predict", "--fast", "--image", photo)
    assert status == 2
    assert_one_error(messages, "model.tflite cannot be loaded", "python train.py --recipe tiny")


def test_fast_prediction_without_the_runtime_names_what_installs_it(trained, script, monkeypatch):
    trained()
    export(script, "fine_tune", "litert")
    real = console.importlib.util.find_spec
    hidden = "ai_edge_litert"
    monkeypatch.setattr(
        console.importlib.util, "find_spec", lambda name, *_: None if name == hidden else real(name)
    )
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    status, _, messages = script("predict", "--fast", "--image", photo)
    assert status == 2
    assert_one_error(messages, hidden, "pip install -r requirements-extras.txt")
