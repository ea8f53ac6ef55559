"""How long the steps of a Keras model take."""

import time

import numpy as np
from keras.callbacks import Callback


class Clock(Callback):
    """Takes the time from the end of one step to the end of the next, pass by pass.

    Without the last of a pass, whose batch is what photos were left.
    """

    def __init__(self):
        super().__init__()
        self.passes = {"train": [], "test": []}

    def on_epoch_begin(self, epoch, logs=None):
        self.passes["train"].append([])

    def on_test_begin(self, logs=None):
        self.passes["test"].append([])

    def on_train_batch_end(self, batch, logs=None):
        self.passes["train"][-1].append(time.perf_counter())

    def on_test_batch_end(self, batch, logs=None):
        self.passes["test"][-1].append(time.perf_counter())

    def median(self, kind):
        return float(np.median(np.concatenate([np.diff(e)[:-1] for e in self.passes[kind]])))
