"""A Keras callback that measures how long single steps take."""

import time

import numpy as np
from keras.callbacks import Callback


class Clock(Callback):
    """Measures the time between the ends of consecutive steps, in every epoch or evaluation.

    The last step of each is left out, because its batch is smaller. So is the first one, because
    nothing marks its start.
    """

    def __init__(self):
        super().__init__()
        # The times at which steps end, in seconds: one list per epoch or evaluation.
        self.step_ends = {"train": [], "test": []}

    def on_epoch_begin(self, epoch, logs=None):
        self.step_ends["train"].append([])

    def on_test_begin(self, logs=None):
        self.step_ends["test"].append([])

    def on_train_batch_end(self, batch, logs=None):
        self.step_ends["train"][-1].append(time.perf_counter())

    def on_test_batch_end(self, batch, logs=None):
        self.step_ends["test"][-1].append(time.perf_counter())

    def median(self, kind):
        """Return the median seconds of a "train" or "test" step."""
        steps = [np.diff(ends)[:-1] for ends in self.step_ends[kind]]
        return float(np.median(np.concatenate(steps)))
