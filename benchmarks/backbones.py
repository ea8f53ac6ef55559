"""What each network of keras.applications costs: the table of docs/backbones.md.

    python benchmarks/backbones.py                        all of them, in about 40 minutes
    python benchmarks/backbones.py MobileNetV2 ResNet50   these
    python benchmarks/backbones.py --precision float32

Each one computes the features of 32 photos in turns with VGG16, in the size that it was trained
with. Weights are random and photos are noise: neither changes the time. The results are added to
benchmarks/backbones.json, and the table of all results is printed.
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch import config
from pyimagesearch.recipe import BACKBONES, Head, checked
from pyimagesearch.support import console, files

RESULTS = Path(__file__).with_suffix(".json")
BASELINE = "VGG16"
BATCH = 32
REPETITIONS = 3
SLOW_SECONDS = 15  # a network whose batch takes longer is measured once

# Accuracy on ImageNet's validation photos, of the best of 1,000 classes, as published by Keras:
# https://keras.io/api/applications/, and for MobileNetV3 in its documentation.
IMAGENET_ACCURACY = {
    **{"VGG16": 0.713, "VGG19": 0.713, "Xception": 0.790},
    **{"ResNet50": 0.749, "ResNet101": 0.764, "ResNet152": 0.766},
    **{"ResNet50V2": 0.760, "ResNet101V2": 0.772, "ResNet152V2": 0.780},
    **{"InceptionV3": 0.779, "InceptionResNetV2": 0.803},
    **{"MobileNet": 0.704, "MobileNetV2": 0.713},
    **{"MobileNetV3Small": 0.681, "MobileNetV3Large": 0.756},
    **{"DenseNet121": 0.750, "DenseNet169": 0.762, "DenseNet201": 0.773},
    **{"NASNetMobile": 0.744, "NASNetLarge": 0.825},
    **{"EfficientNetB0": 0.771, "EfficientNetB1": 0.791, "EfficientNetB2": 0.801},
    **{"EfficientNetB3": 0.816, "EfficientNetB4": 0.829, "EfficientNetB5": 0.836},
    **{"EfficientNetB6": 0.840, "EfficientNetB7": 0.843},
    **{"EfficientNetV2B0": 0.787, "EfficientNetV2B1": 0.798, "EfficientNetV2B2": 0.805},
    **{"EfficientNetV2B3": 0.820, "EfficientNetV2S": 0.839},
    **{"EfficientNetV2M": 0.853, "EfficientNetV2L": 0.857},
    **{"ConvNeXtTiny": 0.813, "ConvNeXtSmall": 0.823, "ConvNeXtBase": 0.853},
    **{"ConvNeXtLarge": 0.863, "ConvNeXtXLarge": 0.867},
}
HEADER = """\
| network | ImageNet accuracy | weights | photo | photos/s | against VGG16 | features | cut |
|---|---|---|---|---|---|---|---|"""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbones", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--precision", default=config.PRECISION)
    arguments = parser.parse_args(argv)
    unknown = set(arguments.backbones) - set(BACKBONES)
    if unknown:
        raise console.UserError(f"no network of keras.applications: {console.listed(unknown)}")

    console.import_tensorflow()
    from pyimagesearch import networks

    precision = networks.set_precision(arguments.precision)
    results = files.read_json(RESULTS) or {}
    measured = results.setdefault(precision, {})
    for name in arguments.backbones or BACKBONES:
        measured[name] = measure(name)
        files.write_json(RESULTS, results)
        console.info(f"{name}: {measured[name]['photos_per_second']:.2f} photos/s")
    console.show(table(measured))


def measure(name):
    """Build a network and VGG16, time them in turns, and return what the table has of it."""
    import keras

    from pyimagesearch import networks

    keras.backend.clear_session()
    network, size = build(name)
    times, baseline_times = time_in_turns((network, size), build(BASELINE))
    ratios = [base / own for own, base in zip(times, baseline_times, strict=True)]
    return {
        "imagenet_accuracy": IMAGENET_ACCURACY[name],
        "weights_mb": round(4 * network.count_params() / 1e6),
        "image_size": size,
        "photos_per_second": round(BATCH / statistics.median(times), 2),
        "times_as_fast_as_vgg16": round(statistics.median(ratios), 2),
        "features": network.output_shape[-1],
        "last_block_after": networks.last_block_cut(network),
    }


def build(name):
    """Return (feature extractor with random weights, pixels along a side) of a backbone."""
    from pyimagesearch import networks

    head = Head(pooling="average", units=None, dropout=0, output="softmax")
    row = replace(config.FOOD11, backbone=name, head=head)
    recipe = checked({"row": row})["row"]
    return networks.build_feature_extractor(recipe, None), recipe.image_size


def time_in_turns(*networks_and_sizes):
    """Return the seconds of each repetition, one list per network."""
    from pyimagesearch import networks

    runs = []
    for network, size in networks_and_sizes:
        photos = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), np.uint8)
        run = networks.predict_function(network)
        run(photos[: networks.PHOTOS_AT_ONCE])  # the first call traces the network
        runs.append((run, photos, []))
    for _ in range(REPETITIONS):
        for run, photos, times in runs:
            start = time.perf_counter()
            run(photos)
            times.append(time.perf_counter() - start)
        if max(times[-1] for _, _, times in runs) > SLOW_SECONDS:
            break
    return [times for _, _, times in runs]


def table(measured):
    """Return the Markdown table of the results, the fastest network first."""
    lines = [HEADER]
    for name, row in sorted(measured.items(), key=lambda item: -item[1]["times_as_fast_as_vgg16"]):
        size = row["image_size"]
        cells = (
            f"`{name}`",
            f"{row['imagenet_accuracy']:.3f}",
            f"{row['weights_mb']:,} MB",
            f"{size} x {size}",
            f"{row['photos_per_second']:.3g}",
            f"{row['times_as_fast_as_vgg16']:.2g} x",
            f"{row['features']:,}",
            f"`{row['last_block_after']}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    console.run(main)
