"""Transfer learning with Keras, as five tutorials teach it."""

import os

# TensorFlow reads both when it is imported, and whatever imports it here imports this before.
# It greets every process with a page about CUDA and oneDNN; errors still appear.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# By itself it takes oneDNN's convolutions only where there is AVX-512. With AVX2 alone a step of
# VGG16's block5 took 2.6 s without them and 1.7 with, on a 2-core AMD EPYC.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
