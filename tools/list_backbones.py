"""Write pyimagesearch/backbones.json: sizes and cuts of each network of keras.applications.

    python tools/list_backbones.py

config.py checks its rows against this file, so that a wrong layer is refused at once instead of
after the seconds that TensorFlow takes to load. Run it again when Keras gains a network.
"""

import inspect
import json
import re
import sys
from pathlib import Path

# A script in tools/ finds the project that it belongs to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch import console, files
from pyimagesearch.recipe import BACKBONES_FILE

SMALLEST_IMAGE = 32  # pixels; below it VGG16's five poolings leave nothing


def main(argv=None):
    console.Parser(description=__doc__.splitlines()[0]).parse_args(argv)
    console.load_tensorflow()
    import keras

    backbones = {}
    for name, function in sorted(vars(keras.applications).items()):
        if inspect.isfunction(function):
            # MobileNetV3 takes any size and was trained at 224.
            size = function(weights=None).input_shape[1] or 224
            bodies = [
                function(weights=None, include_top=False, input_shape=(size, size, 3))
                for _ in range(2)
            ]
            # A name that Keras counts up, such as conv2d_94, is another one in the next network.
            stable = set.intersection(*({layer.name for layer in body.layers} for body in bodies))
            backbones[name] = {
                "image_size": size,
                "smallest_image": smallest_image(function),
                "segments": segments(bodies[0], stable),
            }
            keras.backend.clear_session()
            console.info(f"{name}: {size} pixels, {len(backbones[name]['segments'])} cuts")
    lines = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in backbones.items()]
    files.write_text(BACKBONES_FILE, "{\n" + ",\n".join(lines) + "\n}\n")


def smallest_image(function):
    """Return the fewest pixels along a side that Keras builds a network for."""
    side = SMALLEST_IMAGE
    try:
        function(weights=None, include_top=False, input_shape=(side, side, 3))
    except ValueError as failure:
        limit = re.search(r"at least (\d+)x\d+", str(failure))
        if limit is None:
            raise
        side = int(limit[1])
    return side


def segments(body, names):
    """Return {layer at which the network can be cut: the layers up to the next such layer}.

    A network can be cut at a layer when nothing after it reads anything from before it. Only
    layers in `names` are listed.
    """
    position = {id(operation): number for number, operation in enumerate(body.operations)}
    nodes = {id(node) for depth in body._nodes_by_depth.values() for node in depth}
    last_reader = [number for number in range(len(position))]
    for operation in body.operations:
        for node in operation._inbound_nodes:
            if id(node) in nodes:
                for parent in node.parent_nodes:
                    read = position[id(parent.operation)]
                    last_reader[read] = max(last_reader[read], position[id(operation)])
    found, open_until = {}, 0
    for number, operation in enumerate(body.operations):
        if operation.name in names and number > 0:
            if open_until <= number:
                found[operation.name] = []
            elif found:
                found[list(found)[-1]].append(operation.name)
        open_until = max(open_until, last_reader[number])
    return found


if __name__ == "__main__":
    console.run(main)
