"""Transfer learning with Keras, in five tutorials."""

import os

# Every script imports this package first, because the libraries read these variables while they are
# imported. A notebook, or another project of the user, may have set the first two.
os.environ["MPLBACKEND"] = "agg"  # draw to files
os.environ["KERAS_BACKEND"] = "tensorflow"
# Print no messages on CUDA and oneDNN, a page of them per process. Errors still appear.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Use oneDNN's convolutions. By default TensorFlow does so only on processors with AVX-512. On a
# 2-core AMD EPYC with AVX2 alone, a training step of VGG16's block5 takes 2.6 s without them and
# 1.7 s with them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
