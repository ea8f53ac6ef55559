"""How long the steps of a Keras model take."""

import time

import numpy as np
from keras.callbacks import Callback


class Clock(Callback):
    """Takes the time from the end of one step to the end of the next."""

    def __init__(self):
        super().__init__()
        self.ends = {"train": [], "test": []}

    def on_train_batch_end(self, batch, logs=None):
        self.ends["train"].append(time.perf_counter())

    def on_test_batch_end(self, batch, logs=None):
        self.ends["test"].append(time.perf_counter())

    def median(self, kind):
        return float(np.median(np.diff(self.ends[kind])))
