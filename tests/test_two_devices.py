"""Fine-tuning on two devices at once, as on two GPUs, by two logical processors."""

import subprocess
import sys

import pytest
from conftest import ROOT

# Devices are set before TensorFlow starts: a process of its own.
FIT_ON_TWO = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import numpy as np
from conftest import Tuning, tiny_recipe
from pyimagesearch import classifier, images

recipe = tiny_recipe(views=None, batch_size=6)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    tuning = Tuning(recipe)
    before = tuning.network.get_layer("block5_conv3").kernel.numpy()
    tuning.fit_all()
after = tuning.network.get_layer("block5_conv3").kernel.numpy()
assert strategy.num_replicas_in_sync == 2
assert np.any(before != after)
photos = tuning.splits.validation
pixels = np.stack([images.read_resized(path, recipe.image_size) for path in photos.paths])
probabilities = classifier.from_network(tuning.network, recipe.classes).predict(pixels)
accuracy = np.mean(probabilities.argmax(axis=1) == photos.labels)
last = tuning.checkpoint.history[-1]["val_accuracy"]
assert abs(last - accuracy) < 1e-6, (last, accuracy)
print("fitted on two")
"""


@pytest.mark.soak
def test_fresh_augmentation_fits_on_two_devices(built):
    code = FIT_ON_TWO.format(root=str(ROOT), tests=str(ROOT / "tests"))
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "fitted on two" in result.stdout, result.stderr[-3000:]
