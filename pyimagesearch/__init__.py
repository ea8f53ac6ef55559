"""Transfer learning with Keras, as five tutorials teach it."""

import os

# TensorFlow greets every process with a page about CUDA and oneDNN; errors still appear.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
