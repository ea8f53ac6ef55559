"""Time and memory of every script for a large number of photos, without the network's part.

    python benchmarks/many_photos.py 100000

The photos are made: tiny, and all different. A network of one cheap layer takes the place of VGG16.
So this measures everything else: listing, checking, dividing, copying, reading, the CSV files,
fitting and evaluating. A million photos take 8 GB on most disks; they are deleted afterwards.
"""

import argparse
import importlib
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from race import peak_memory

from pyimagesearch import config
from pyimagesearch.recipe import checked
from pyimagesearch.support import console

NAME = "many"
CLASSES = 10
SIDE = 8  # pixels
STEPS = ("make_photos", "build_dataset", "build_dataset again", "extract_features", "train")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=int)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where to make the photos and the dataset")
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments.step, arguments.folder, arguments.photos)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for step in STEPS:
            command = [sys.executable, __file__, str(arguments.photos), "--folder", folder]
            subprocess.run([*command, "--step", step], check=True)


def run_step(step, folder, count):
    """Run one step in this process, and print its time and its peak memory."""
    stopwatch = console.Stopwatch()
    if step == "make_photos":
        make_photos(folder / "photos", count)
    else:
        use_folder(folder)
        if step in ("extract_features", "train"):
            use_cheap_network()
        arguments = ["--recipe", NAME]
        importlib.import_module(step.split()[0]).main(arguments)
    peak = peak_memory(resource.getrusage(resource.RUSAGE_SELF))
    console.show(
        f"{step}: {stopwatch}, {stopwatch.seconds / count * 1000:.2f} ms a photo; "
        f"{peak / 1e6:,.0f} MB at most, {peak / count:,.0f} bytes a photo"
    )


def make_photos(folder, count):
    """Write `count` tiny JPEGs in class folders. The first row of pixels makes each different."""
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        pixels[0] = 16 * ((number >> (4 * np.arange(SIDE))) & 15)
        path = folder / f"class_{number % CLASSES}" / f"IMG_{number:07}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


def use_folder(folder):
    """Put a row into config that has the made photos, and let everything be written there."""
    row = replace(
        config.RECIPES["food5k"],
        source=str(folder / "photos"),
        download="",
        official_counts=None,
        classes=None,
        image_size=32,
    )
    config.RECIPES = checked({NAME: row})
    config.DATASET_DIR, config.OUTPUT_DIR = folder / "dataset", folder / "output"


def use_cheap_network():
    """Let the scripts build a network of one cheap layer."""
    console.import_tensorflow()
    import keras

    from pyimagesearch import networks

    def build(recipe, weights):
        photos = keras.Input((32, 32, 3), dtype="uint8")
        maps = keras.layers.Rescaling(1 / 255)(photos)
        return keras.Model(
            photos, keras.layers.GlobalAveragePooling2D(name=networks.FEATURES)(maps)
        )

    networks.build_feature_extractor = build


if __name__ == "__main__":
    console.run(main)
