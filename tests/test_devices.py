"""Training on several GPUs, with logical processors in the place of GPUs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, read

from pyimagesearch.support import devices

# 4 full batches of 5 photos and a last batch of one photo.
PHOTOS, BATCH_SIZE = 21, 5
CLASS_WEIGHTS = {0: 0.5, 1: 2.0, 2: 1.0}


def dense_network(classes):
    """Return a small classifier with fixed weights, (n, 4) -> (n, classes); 1: a sigmoid."""
    inputs = keras.Input((4,))
    activation = "sigmoid" if classes == 1 else "softmax"
    output = keras.layers.Dense(classes, activation=activation, dtype="float32")(inputs)
    model = keras.Model(inputs, output)
    model.set_weights([np.linspace(-1, 1, 4 * classes).reshape(4, classes), np.zeros(classes)])
    return model


def random_batches(classes):
    """Return a tf.data.Dataset of (inputs, labels)."""
    rng = np.random.default_rng(1)
    inputs = rng.random((PHOTOS, 4), np.float32)
    labels = rng.integers(max(2, classes), size=PHOTOS)
    return tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(BATCH_SIZE)


def fit(model, classes, **data):
    """Train a model for two epochs; return its history and its weights."""
    loss = "binary_crossentropy" if classes == 1 else "sparse_categorical_crossentropy"
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], jit_compile=False)
    return model.fit(**data, epochs=2, shuffle=False, verbose=0).history, model.get_weights()


def assert_same_training(ours, theirs):
    """Check that two results of `fit` are the same up to rounding."""
    assert ours[0].keys() == theirs[0].keys()
    for name, values in ours[0].items():
        np.testing.assert_allclose(values, theirs[0][name], rtol=1e-5, err_msg=name)
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.fixture
def named_strategy(monkeypatch):
    """Let a MirroredStrategy be the list of its devices."""
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", list)


@pytest.mark.parametrize(
    ("gpus", "setting", "used"),
    [(4, "all", 4), (4, 3, 3), (2, 8, 2), (2, 1, None), (1, "all", None), (0, "all", None)],
)
def test_strategy_is_that_of_as_many_gpus_as_there_are_and_as_the_setting_allows(
    named_strategy, monkeypatch, capsys, gpus, setting, used
):
    names = [f"GPU:{number}" for number in range(gpus)]
    monkeypatch.setattr(devices, "gpu_names", lambda: names)
    strategy = devices.choose_strategy(setting)
    if used is None:
        assert strategy is tf.distribute.get_strategy()
        assert capsys.readouterr().err == ""
    else:
        assert strategy == names[:used]
        assert capsys.readouterr().err == f"[INFO] training on {used} GPUs\n"


def test_model_of_one_device_is_trained_as_it_is():
    model = dense_network(3)
    assert devices.for_devices(model) is model


@pytest.mark.parametrize(("parts", "sizes"), [(2, [6, 6, 6, 6, 2]), (3, [6, 6, 6, 6, 3])])
def test_batches_are_padded_to_equal_parts_and_padding_has_no_weight(parts, sizes):
    plain = list(random_batches(3))
    batches = list(devices.padded(random_batches(3), parts, CLASS_WEIGHTS))
    assert [len(inputs) for inputs, _, _ in batches] == sizes
    for batch, (inputs, labels) in zip(batches, plain, strict=True):
        count = len(labels)
        np.testing.assert_array_equal(batch[0][:count], inputs)
        np.testing.assert_array_equal(batch[1][:count, 0], labels)
        np.testing.assert_array_equal(batch[2][:count], [CLASS_WEIGHTS[int(n)] for n in labels])
        assert np.all(batch[2][count:] == 0)


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float16", "float32"])
def test_photos_and_stored_outputs_can_be_padded(dtype):
    rows = tf.ones((3, 2, 2, 1), dtype)
    padded = devices.pad_rows(rows, 1)
    assert padded.dtype == dtype
    np.testing.assert_array_equal(tf.cast(padded, "float32")[:, 0, 0, 0], [1, 1, 1, 0])


@pytest.mark.parametrize(("classes", "weights"), [(1, None), (3, CLASS_WEIGHTS)])
def test_every_photo_counts_once_although_batches_are_padded(untraced, classes, weights):
    batches = random_batches(classes)
    data = {"x": batches, "validation_data": batches, "class_weight": weights}
    expected = fit(dense_network(classes), classes, **data)
    padded = devices.padded(batches, 4, weights)
    validation = devices.padded(batches, 4)
    model = dense_network(classes)
    divided = devices.DividedModel(model.input, model.output)
    found = fit(divided, classes, x=padded, validation_data=validation)
    assert_same_training(found, expected)


# Devices are set before TensorFlow starts: a process of its own. A strategy of two processors is
# used as that of two GPUs would be.
ON_TWO = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pyimagesearch.support import console
console.import_tensorflow()
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
from pyimagesearch.support import devices
TWO = ["CPU:0", "CPU:1"]
"""

DENSE_ON_TWO = """
from test_devices import *
expected = fit(dense_network(3), 3, x=random_batches(3), class_weight=CLASS_WEIGHTS)
devices.gpu_names = lambda: TWO
with devices.choose_strategy("all").scope():
    model = devices.for_devices(dense_network(3))
    assert devices.count(model) == 2
    found = fit(model, 3, x=devices.padded(random_batches(3), 2, CLASS_WEIGHTS))
assert_same_training(found, expected)
print("the same")
"""

OVERFLOW_ON_TWO = """
from test_devices import *
devices.gpu_names = lambda: TWO
# The gradients of one device overflow, in float16, in every step.
for rows in (slice(0, 2), slice(2, 4)):
    inputs = np.ones((4, 4), np.float32)
    inputs[rows] = 1e6
    batches = tf.data.Dataset.from_tensor_slices((inputs, [0, 1, 0, 1])).batch(4)
    keras.config.set_dtype_policy("mixed_float16")
    with devices.choose_strategy("all").scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), dense_network(3)])
        model = devices.for_devices(keras.Model(model.inputs[0], model.outputs[0]))
        before = model.get_weights()
        _, after = fit(model, 3, x=devices.padded(batches, 2))
    assert "LossScaleOptimizer" in type(model.optimizer).__name__
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one, other)
print("no change")
"""


def run_on_two(code):
    """Run code in a process with two logical processors; return (stdout, stderr)."""
    command = [sys.executable, "-c", ON_TWO + code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout, run.stderr


@pytest.mark.soak
def test_two_devices_train_what_one_device_trains():
    assert "the same" in run_on_two(DENSE_ON_TWO)[0]


@pytest.mark.soak
def test_step_is_left_out_if_the_gradients_of_any_device_overflow():
    assert "no change" in run_on_two(OVERFLOW_ON_TWO)[0]


PHASES_ON_TWO = """
from conftest import Head, Tuning, put_thin_vgg16, tiny_phase, tiny_recipe
put_thin_vgg16()
# Dropout draws other numbers on two devices. 21 photos end with a batch of one.
head = Head(pooling="flatten", units=8, dropout=0, output="softmax")
started = Head(
    pooling="average", units=None, dropout=0, output="softmax", start="logistic_regression"
)
cosine = tiny_phase("cosine", epochs=3, unfreeze_after="block4_pool", schedule="cosine")
two_phases = {"head": head}
started_phase = {"head": started, "phases": (cosine,)}
recipe = tiny_recipe(views=VIEWS, batch_size=5, class_weights="balanced", **PHASES)
trainings = []
for gpus in ([], TWO):
    devices.gpu_names = lambda gpus=gpus: gpus
    tuning = Tuning(recipe, f"on_{len(gpus)}", gpus="all")
    trainings.append((tuning.checkpoint.history, tuning.fit_all()))
(history, weights), (history_of_two, weights_of_two) = trainings
assert len(history) == 3
for row, row_of_two in zip(history, history_of_two, strict=True):
    assert row["accuracy"] == row_of_two["accuracy"]
    assert row["val_accuracy"] == row_of_two["val_accuracy"]
    for name in ("loss", "val_loss"):
        assert abs(row[name] / row_of_two[name] - 1) < 1e-5, (row, row_of_two)
for one, other in zip(weights, weights_of_two, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)
print("the same")
"""


@pytest.mark.soak
@pytest.mark.parametrize("phases", ["two_phases", "started_phase"])
@pytest.mark.parametrize("views", [None, 2])
def test_phases_on_two_devices_have_the_loss_and_accuracy_of_one_device(built, views, phases):
    """Each in a process of its own: TensorFlow mixes up the gradients of two strategies."""
    code = PHASES_ON_TWO.replace("VIEWS", repr(views)).replace("PHASES", phases)
    assert "the same" in run_on_two(code)[0]


TRAIN_ON = """
from pathlib import Path
import conftest
from pyimagesearch import checkpoint, config
import train

def save_and_stop(self):
    save(self)
    if len(self.history) == last_epoch:
        raise KeyboardInterrupt

conftest.put_thin_vgg16()
config.OUTPUT_DIR, devices.gpu_names, last_epoch = Path({output!r}), lambda: {gpus}, {last_epoch}
head = conftest.Head(pooling="flatten", units=8, dropout=0, output="softmax")
config.RECIPES = {{"tiny": conftest.tiny_recipe(views=None, batch_size=5, head=head)}}
config.RECIPE, config.PRECISION, config.WEIGHTS = "tiny", "float32", Path({weights!r})
save = checkpoint.Checkpoint.save
checkpoint.Checkpoint.save = save_and_stop
try:
    train.main([])
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def train_on(built, random_weights):
    """Return a function that runs train.py on one or two devices, in a process of its own.

    `last_epoch`: interrupt it once this epoch is on the disk. The function returns the folder of
    the classifier, and what was printed about an interrupted training.
    """

    def train(output, count, last_epoch=None):
        gpus = ["CPU:0", "CPU:1"][:count] if count > 1 else []
        settings = {"output": output, "gpus": gpus, "last_epoch": last_epoch}
        code = TRAIN_ON.format(weights=str(random_weights), **settings)
        printed, messages = run_on_two(code)
        assert ("interrupted" in printed) == (last_epoch is not None)
        words = ("resuming after", "starting over")
        lines = [line for line in messages.splitlines() if any(each in line for each in words)]
        return Path(output, "tiny", "fine_tune"), "".join(lines)

    return train


def saved_network(folder):
    """Return the configuration of a saved network and its weights."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        configuration = archive.read("config.json")
    return configuration, keras.saving.load_model(folder / "model.keras").get_weights()


@pytest.mark.soak
def test_script_saves_on_two_devices_what_it_saves_on_one(train_on):
    """The weights up to rounding, and nothing about the devices."""
    (one, _), (two, _) = train_on("one", 1), train_on("two", 2)
    assert read(one / "metrics.json")["phases"] == read(two / "metrics.json")["phases"]
    (configuration, weights), (configuration_of_two, weights_of_two) = map(
        saved_network, (one, two)
    )
    assert configuration == configuration_of_two
    for array, array_of_two in zip(weights, weights_of_two, strict=True):
        np.testing.assert_allclose(array, array_of_two, rtol=0, atol=1e-5)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (2, 2, "resuming after epoch 1 of warmup"),
        (2, 1, "starting over after the interrupted training: devices was 2 and is now 1"),
        (1, 2, "starting over after the interrupted training: devices was 1 and is now 2"),
    ],
)
def test_interrupted_script_ends_like_one_that_ran_through(train_on, before, after, says):
    """It resumes on as many devices only: with another number, it could not."""
    expected, _ = train_on("whole", after)
    train_on("interrupted", before, last_epoch=1)
    resumed, said = train_on("interrupted", after)
    assert says in said
    for one, other in zip(saved_network(expected)[1], saved_network(resumed)[1], strict=True):
        np.testing.assert_array_equal(one, other)
