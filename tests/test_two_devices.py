"""Fine-tuning on two devices at once, as on two GPUs, by two logical processors."""

import subprocess
import sys

from conftest import ROOT

# Devices are set before TensorFlow starts: a process of its own.
FIT_ON_TWO = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from pathlib import Path
import numpy as np
from conftest import tiny_recipe
from pyimagesearch import artifacts, checkpoint, config, images, networks, training, views

# The estimate of minutes times a step on one device.
training.say_minutes = lambda *_: None
recipe = tiny_recipe(views=None, batch_size=6)
photos = [images.list_photos("dataset", recipe, each) for each in (config.TRAIN, config.VAL)]
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    classifier = networks.build(recipe, None)
    before = classifier.get_layer("block5_conv3").kernel.numpy()
    done = checkpoint.Checkpoint(Path(), {{}}, classifier, recipe.phases)
    for number, phase in enumerate(recipe.phases):
        stage = views.Stage(recipe, number, 1, Path("cache"))
        training.fit(classifier, stage, photos, done, Path("history.csv"))
        done.finish_phase(phase.name, {{}}, "")
after = classifier.get_layer("block5_conv3").kernel.numpy()
assert strategy.num_replicas_in_sync == 2
assert np.any(before != after)
batches = images.batches(photos[1].paths, recipe.image_size, 5)
probabilities = artifacts.from_network(classifier, recipe.classes).ask(batches)
accuracy = np.mean(probabilities.argmax(axis=1) == photos[1].labels)
last = done.rows[-1]["val_accuracy"]
assert abs(last - accuracy) < 1e-6, (last, accuracy)
print("fitted on two")
"""


def test_fresh_augmentation_fits_on_two_devices(built):
    code = FIT_ON_TWO.format(root=str(ROOT), tests=str(ROOT / "tests"))
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "fitted on two" in result.stdout, result.stderr[-3000:]
