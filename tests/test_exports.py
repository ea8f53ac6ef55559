"""Networks for other programs: each export predicts with its own runtime what Keras predicts."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import (
    CLASSES,
    assert_one_error,
    half_unlike,
    make_photo,
    read,
    tiny_phase,
    tiny_recipe,
)
from pages import blocks, read_page
from PIL import ExifTags, Image, ImageOps

from pyimagesearch import classifier, config, datasets, images, networks
from pyimagesearch.recipe import EXPORTS
from pyimagesearch.support import console, exports, files, similarity

FOLDER = Path("output/tiny/fine_tune")


def predict_onnx(path, photos):
    """Return the outputs of ONNX Runtime, as a program without Keras computes them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    # The photos are the only input: means of the preprocessing, for example, are inside.
    assert [each.name for each in session.get_inputs()] == ["photos"]
    return session.run(None, {"photos": photos})


def predict_litert(path, photos):
    """Return the outputs of the LiteRT interpreter, which phones have."""
    from ai_edge_litert.interpreter import Interpreter

    outputs = Interpreter(str(path)).get_signature_runner()(photos=photos)
    return [outputs[name] for name in sorted(outputs)]


def predict_saved_model(path, photos):
    """Return the outputs of TensorFlow alone, as TensorFlow Serving computes them."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return [output.numpy() for output in keras.tree.flatten(loaded.serve(photos))]


RUNTIMES = {"onnx": predict_onnx, "litert": predict_litert, "saved_model": predict_saved_model}


def make_photos(count):
    """Return uint8 noise, (count, 32, 32, 3)."""
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def save(network, classes, folder=FOLDER):
    """Save a finished fine-tuned classifier; return it as it is loaded."""
    classifier.save_network(folder, network, classes)
    files.write_json(folder / classifier.METRICS_FILE, {})
    return classifier.load(folder)


def export(script, method, *kinds):
    """Export the classifier of the tiny recipe; it is trained if it is missing."""
    status, _, messages = script("train", "--method", method, "--export", *kinds)
    assert status == 0, messages


def evaluation_photos():
    """Return (paths, pixels) of the evaluation photos of the tiny recipe."""
    photos = datasets.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST)
    return photos.paths, np.concatenate(list(images.read_batches(photos.paths, 32, 8)))


# What an export computes


@pytest.mark.parametrize(
    "method", ["fine_tune", pytest.param("logistic_regression", marks=pytest.mark.soak)]
)
def test_every_export_predicts_what_the_classifier_predicts_which_is_not_trained_again(
    trained, script, method
):
    folder = trained(method)
    before = (folder / "metrics.json").stat().st_mtime_ns
    export(script, method, *EXPORTS)
    assert (folder / "metrics.json").stat().st_mtime_ns == before
    _, photos = evaluation_photos()
    expected, unlike = classifier.load(folder).predict_and_compare(photos)
    for kind in EXPORTS:
        path = folder / "exports" / exports.FILES[kind]
        probabilities, above_threshold = RUNTIMES[kind](path, photos)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5, err_msg=kind)
        assert (above_threshold[:, 0] < 0).tolist() == unlike, kind
    assert read(folder / "exports" / "classes.json") == read(folder / "classes.json")


def set_normalization(network):
    """Give the Normalization layer of a network the means and variances of ImageNet."""
    is_normalization = keras.layers.Normalization
    layer = next(layer for layer in network.layers if isinstance(layer, is_normalization))
    layer.adapt_mean.assign([0.485, 0.456, 0.406])
    layer.adapt_variance.assign([0.229, 0.224, 0.225])
    layer.finalize_state()


def small_network(units, activation):
    """Return a network that normalizes photos by itself, as EfficientNet does."""
    keras.utils.set_random_seed(0)
    photos = keras.Input((32, 32, 3), dtype="uint8", name="photos")
    x = keras.layers.Normalization()(keras.layers.Rescaling(1 / 255)(photos))
    x = keras.layers.Flatten(name=networks.FEATURES)(keras.layers.AveragePooling2D(16)(x))
    network = keras.Model(photos, keras.layers.Dense(units, activation=activation)(x))
    set_normalization(network)
    return network


@pytest.mark.parametrize("kind", EXPORTS)
def test_export_of_a_network_that_normalizes_reads_photos_alone(kind):
    network = small_network(3, "softmax")
    expected = networks.predict_function(network)(make_photos(3))
    assert np.ptp(expected, axis=0).min() > 1e-3  # photos differ by more than the tolerance
    exports.write(network, kind, Path(exports.FILES[kind]))
    (probabilities,) = RUNTIMES[kind](exports.FILES[kind], make_photos(3))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


@pytest.mark.soak
@pytest.mark.parametrize("kind", EXPORTS)
def test_export_of_efficientnet_reads_photos_alone(kind):
    recipe = tiny_recipe(backbone="EfficientNetB0", image_size=32, phases=(tiny_phase("head"),))
    network = networks.float32_copy(networks.build(recipe, None, seed=0))
    set_normalization(network)
    # With random weights, the features would be about a millionth.
    network.get_layer("top_bn").gamma.assign(np.full(1280, 1e6))
    expected = save(network, recipe.classes).predict(make_photos(3))
    (probabilities,) = RUNTIMES[kind](classifier.export(FOLDER, kind), make_photos(3))
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    assert np.ptp(expected, axis=0).max() > 0.01


def test_export_of_a_sigmoid_predicts_the_second_class_and_its_description_names_it():
    expected = save(small_network(1, "sigmoid"), ["cat", "dog"]).predict(make_photos(3))
    path = classifier.export(FOLDER, "litert")
    (rows,) = predict_litert(path, make_photos(3))
    np.testing.assert_allclose(rows, expected[:, 1:], atol=1e-5)
    text = path.with_name("model.tflite.txt").read_text(encoding="utf-8")
    assert "float32 (photos, 1), the probability of the second class, dog." in text
    # predict.py --fast predicts both.
    fast = classifier.load_litert(FOLDER)
    np.testing.assert_allclose(fast.predict(make_photos(3)), expected, atol=1e-5)
    assert (fast.classes, fast.image_size) == (("cat", "dog"), 32)


# What an export needs to know

SAMPLE = Path("output/sample/fine_tune")
HEIGHT, WIDTH = 224, 160
# (width, height, EXIF orientation, mode). Above 896 pixels, JPEGs are decoded at a reduced size.
PHOTOS = (
    *((224, 224, 1, "RGB"), (307, 172, 1, "RGB"), (172, 307, 6, "RGB"), (640, 480, 3, "RGB")),
    *((1000, 900, 8, "RGB"), (2000, 1500, 1, "RGB"), (1200, 1850, 5, "RGB"), (9, 7, 1, "RGB")),
    *((400, 300, 1, "L"), (500, 150, 1, "P")),
)
# Runs a program in a fresh process and prints what it computed and imported.
RUN_ALONE = """
import json, runpy, sys
del sys.argv[0]
names = runpy.run_path(sys.argv[0])
rows = names["probabilities"].tolist(), names["unlike"].tolist()
imported = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps([names["classes"], *rows, imported]))
"""


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Write a photo of coarse and fine patterns for each row of PHOTOS; return the paths."""
    folder, paths = tmp_path_factory.mktemp("photos"), []
    rng = np.random.default_rng(3)
    for number, (width, height, orientation, mode) in enumerate(PHOTOS):
        pixels = np.zeros((height, width, 3))
        for cells in (2, 8, 40, 200):
            noise = rng.integers(0, 256, (min(cells, height), min(cells, width), 3), dtype=np.uint8)
            pixels += Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        paths.append(str(folder / f"{number}.{'png' if mode == 'P' else 'jpg'}"))
        photo = Image.fromarray((pixels / 4).astype(np.uint8)).convert(mode)
        photo.save(paths[-1], exif=exif, quality=92)
    return paths


def sensitive_network(units, activation, paths):
    """Return a network whose probabilities depend on colours, details and where they are."""
    keras.utils.set_random_seed(0)
    photos = keras.Input((HEIGHT, WIDTH, 3), dtype="uint8", name="photos")
    convolution = keras.layers.Conv2D(8, 3, strides=2, activation="relu")
    x = keras.layers.AveragePooling2D(37)(convolution(keras.layers.Rescaling(1 / 255)(photos)))
    x = keras.layers.Flatten(name=networks.FEATURES)(x)
    head = keras.layers.Dense(units, activation)
    network = keras.Model(photos, head(x))
    # Kernels that add up to 0 see details.
    convolution.kernel.assign(convolution.kernel - convolution.kernel.numpy().mean(axis=(0, 1)))
    # The logits of the photos are around 0, so that no probability is close to 0 or 1.
    pixels = np.stack([images.read_resized(path, (HEIGHT, WIDTH)) for path in paths])
    features = keras.Model(photos, x)(pixels)
    logits = features.numpy() @ head.kernel.numpy()
    head.kernel.assign(2 * head.kernel / logits.std(axis=0))
    head.bias.assign(-2 * logits.mean(axis=0) / logits.std(axis=0))
    return network


def export_sample(kind, units, activation, paths):
    """Save a classifier of `sample` that is sensitive to some photos, and export it."""
    network = sensitive_network(units, activation, paths)
    save(network, CLASSES[: max(2, units)], SAMPLE)
    pixels = np.stack([images.read_resized(path, (HEIGHT, WIDTH)) for path in paths])
    similarity.save(SAMPLE, half_unlike(network, pixels))
    classifier.export(SAMPLE, kind)


def write_program(kind):
    """Write the program on a page of the docs; return its path."""
    (program,) = blocks("python", read_page(f"docs/{kind}.md"))
    Path("program.py").write_text(program, encoding="utf-8")
    return "program.py"


def predict_alone(kind, paths):
    """Run the program on a page of the docs; return (classes, probabilities, unlike, imports)."""
    command = [sys.executable, "-c", RUN_ALONE, write_program(kind), *paths]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    *lines, result = ended.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == paths
    classes, rows, unlike, imported = json.loads(result)
    marked = [line.endswith("(unlike any training photo)") for line in lines]
    assert marked == unlike
    return classes, np.array(rows), unlike, imported


@pytest.mark.parametrize(
    ("kind", "units", "activation"),
    [
        ("onnx", 3, "softmax"),
        ("litert", 1, "sigmoid"),
        # TensorFlow would start once more; the next test runs this program too.
        pytest.param("saved_model", 3, "softmax", marks=pytest.mark.soak),
    ],
)
def test_program_of_the_docs_predicts_alone_what_predict_prints(
    script, photos, kind, units, activation
):
    export_sample(kind, units, activation, photos)
    classes, rows, unlike, imported = predict_alone(kind, photos)
    assert "pyimagesearch" not in imported
    assert kind == "saved_model" or not {"keras", "tensorflow"} & set(imported)
    assert_predict_prints(script, photos, classes, rows, unlike)


def test_program_of_the_docs_predicts_with_tensorflow_what_predict_prints(
    script, photos, monkeypatch
):
    export_sample("saved_model", 3, "softmax", photos)
    program = write_program("saved_model")
    assert not re.search("pyimagesearch|keras", Path(program).read_text(encoding="utf-8"))
    monkeypatch.setattr(sys, "argv", [program, *photos])
    names = runpy.run_path(program)
    rows, unlike = names["probabilities"], names["unlike"].tolist()
    assert_predict_prints(script, photos, names["classes"], rows, unlike)


def assert_predict_prints(script, paths, classes, rows, unlike):
    """Check that predict.py prints these probabilities, and which half of the photos is unlike."""
    assert sum(unlike) == len(paths) // 2
    options = ("--format", "json", "--copies", 0, "--image", *paths)
    status, printed, messages = script("predict", "--recipe", "sample", *options)
    assert status == 0, messages
    for row, is_unlike, line in zip(rows, unlike, printed.splitlines(), strict=True):
        answer = json.loads(line)
        assert answer["unlike_training_photos"] is is_unlike
        expected = {each["class"]: each["probability"] for each in answer["classes"]}
        assert classes[row.argmax()] == next(iter(expected))
        assert dict(zip(classes, row, strict=True)) == pytest.approx(expected, abs=0.01)


def upright(photo):
    """Return the pixels of a Pillow image as they should be prepared."""
    return images.resize(np.asarray(ImageOps.exif_transpose(photo)), (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(
            lambda photo: ImageOps.exif_transpose(photo).resize((WIDTH, HEIGHT)), id="bicubic"
        ),
        pytest.param(
            lambda photo: images.resize(np.asarray(photo), (HEIGHT, WIDTH)), id="not upright"
        ),
        pytest.param(
            lambda photo: upright(photo)[..., ::-1],
            id="blue, green, red",
        ),
    ],
)
def test_photos_that_are_prepared_differently_get_other_probabilities(photos, prepare):
    """Otherwise the tests above would accept them too."""
    loaded = classifier.from_network(sensitive_network(3, "softmax", photos), CLASSES)
    prepared = [np.asarray(prepare(Image.open(path).convert("RGB"))) for path in photos]
    changes = np.abs(loaded.predict(np.stack(prepared)) - loaded.predict(loaded.read(photos)))
    assert changes.max() > 0.05


def names_in_onnx(path):
    """Return the names of the input and the outputs of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [each.name for each in (*session.get_inputs(), *session.get_outputs())]


def names_in_litert(path):
    """Return the names of the input and the outputs of a LiteRT file's signature."""
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(str(path)).get_signature_list()["serving_default"]
    return signature["inputs"] + signature["outputs"]


def names_in_saved_model(path):
    """Return the names of the input and the outputs of a SavedModel's signature."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    return [*signature.structured_input_signature[1], *sorted(signature.structured_outputs)]


NAMES = {"onnx": names_in_onnx, "litert": names_in_litert, "saved_model": names_in_saved_model}


@pytest.mark.parametrize("kind", EXPORTS)
def test_description_of_an_export_has_its_names_shapes_and_classes(capsys, kind):
    network = small_network(3, "softmax")
    save(network, CLASSES)
    similarity.save(FOLDER, half_unlike(network, make_photos(4)))
    path = classifier.export(FOLDER, kind)
    description = path.with_name(f"{path.name}.txt")
    assert f"how to use it: {description}" in capsys.readouterr().err
    text = description.read_text(encoding="utf-8")
    photos, probabilities, above_threshold = NAMES[kind](path)
    assert f"Input, named {photos}: uint8 (photos, 32, 32, 3)" in text
    assert f"Output, named {probabilities}: float32 (photos, 3), the probability of each" in text
    assert f"Output, named {above_threshold}: float32 (photos, 1), by how much" in text
    assert text.endswith("0 zebra\n1 Noodles/Pasta\n2 apple\n")


# When train.py exports


def test_training_again_moves_the_exports_away_and_says_how_to_make_them_again(trained, script):
    folder = trained("logistic_regression")
    for name in ("model.tflite", "model.onnx"):
        files.write_text(folder / "exports" / name, "an export")
    options = ("--method", "logistic_regression", "--force", "--export", "litert")
    status, _, messages = script("train", *options)
    assert status == 0
    names = {path.name for path in (folder / "exports").glob("model.*")}
    assert names == {"model.tflite", "model.tflite.txt"}
    # The one that is written again is not listed.
    command = "python train.py --recipe tiny --method logistic_regression --export onnx"
    moved = f"[INFO] the exports model.onnx are now in {folder / 'previous' / 'exports'}."
    assert f"{moved} Make new ones with: {command}\n" in messages


# predict.py --fast


# What the export of a fine-tuned classifier predicts is compared above.
@pytest.mark.parametrize(
    "method", ["logistic_regression", pytest.param("fine_tune", marks=pytest.mark.soak)]
)
def test_fast_prediction_prints_the_same_as_prediction(trained, script, method):
    trained(method)
    export(script, method, "litert")
    paths, _ = evaluation_photos()
    arguments = ("predict", "--method", method, "--image", *paths)
    status, with_keras, _ = script(*arguments)
    assert status == 0
    status, with_litert, _ = script(*arguments, "--fast")
    assert status == 0
    assert with_litert == with_keras


@pytest.fixture
def fast_error(tiny, script):
    """Return a function that runs predict.py --fast, which must fail, and returns its stderr."""
    save(small_network(3, "softmax"), CLASSES)
    make_photo(Path("photo.jpg"), 0, 0)

    def predict():
        status, out, messages = script("predict", "--fast", "--image", "photo.jpg")
        assert (status, out) == (2, "")
        return messages

    return predict


def test_fast_prediction_without_an_export_is_one_error_with_the_command(fast_error):
    command = "python train.py --recipe tiny --method fine_tune --export litert"
    assert_one_error(fast_error(), "model.tflite or its class names are missing", command)


def test_fast_prediction_with_a_damaged_export_is_one_error_with_the_command(fast_error):
    path = classifier.export(FOLDER, "litert")
    path.write_bytes(path.read_bytes()[:1000])
    command = "python train.py --recipe tiny --method fine_tune --export litert"
    assert_one_error(fast_error(), "model.tflite cannot be loaded", command)


def test_fast_prediction_without_the_runtime_is_one_error_with_what_installs_it(
    fast_error, monkeypatch
):
    classifier.export(FOLDER, "litert")
    find_spec, hidden = console.importlib.util.find_spec, "ai_edge_litert"
    monkeypatch.setattr(
        console.importlib.util,
        "find_spec",
        lambda name, *more: None if name == hidden else find_spec(name, *more),
    )
    assert_one_error(fast_error(), hidden, "pip install -r requirements-extras.txt")
