"""The state of a training run after each epoch on disk, and how the next run resumes from it."""

import json
import zipfile
from pathlib import Path

import numpy as np

from pyimagesearch import networks
from pyimagesearch.support import console, devices, files, fingerprints

CHECKPOINT_FILE, SECONDS_FILE = "checkpoint.npz", "seconds.json"
# What NumPy raises for a file that is damaged or of another kind.
DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
# Fields of a recipe that only change the figures of the report.
FIGURE_FIELDS = {"mistakes", "smoothing"}
# Attributes of a Checkpoint on disk: those in JSON, and those with arrays.
STATE = ("finished_phases", "finished_epochs", "history", "evaluations")
ARRAYS = ("weights", "best", "optimizer")


def load_checkpoint(folder, fingerprint, precision, network, phases):
    """Return the Checkpoint of an interrupted training run, or a new one.

    It resumes only on the same kind of machine with the same packages and as many GPUs, so that its
    result is that of an uninterrupted one. Fields that only change the figures do not matter.
    `precision` is the name of the policy that PRECISION stands for on this machine.
    """
    parts = {name: part for name, part in fingerprint.items() if name not in FIGURE_FIELDS}
    parts |= {"precision": precision, "versions": fingerprints.versions()}
    parts |= {"devices": devices.count(network)}
    checkpoint = Checkpoint(Path(folder), parts, network, phases)
    checkpoint.load()
    return checkpoint


class Checkpoint:
    """The progress of a training run, in memory and after every epoch on disk.

    Attributes:
        finished_phases: their number, which is also the position of the next phase.
        finished_epochs: how many epochs of the next phase are finished.
        history: the rows of history.csv.
        evaluations: {phase name: {"metrics": ..., "report": ...}} of the finished phases.
        stopwatch: counts the seconds, with those of the interrupted runs.
    """

    def __init__(self, folder, fingerprint, network, phases):
        self.folder, self.path = folder, folder / CHECKPOINT_FILE
        self.fingerprint = fingerprint
        self.stopwatch = console.Stopwatch(
            folder / SECONDS_FILE, key=fingerprints.digest(fingerprint)
        )
        self.phase_names = [phase.name for phase in phases]
        # For each phase, the variables that it and the phases before it change.
        ends = range(1, len(phases) + 1)
        self.trained_variables = [networks.trained_variables(network, phases[:end]) for end in ends]
        self.finished_phases, self.finished_epochs = 0, 0
        self.history, self.evaluations = [], {}
        # Arrays: of the trained variables, of the variables after the epoch with the lowest
        # val_loss, and of the optimizer.
        self.weights, self.best, self.optimizer = [], [], []

    @property
    def variables(self):
        """The variables that training has changed so far."""
        return self.trained_variables[min(self.finished_phases, len(self.trained_variables) - 1)]

    def load(self):
        """Read the progress of an interrupted run, if there is one; print where it resumes."""
        state, arrays = self.read()
        if state is None:
            return
        changes = fingerprints.differences(state.get("fingerprint"), self.fingerprint)
        if changes:
            console.info(f"starting over after the interrupted training: {'; '.join(changes)}")
            return
        for name in STATE:
            setattr(self, name, state[name])
        for name in ARRAYS:
            group = [array for key, array in arrays.items() if key.startswith(f"{name}_")]
            setattr(self, name, group)
        console.info(f"resuming after {self.position()}; to start over, delete {self.path}")

    def read(self):
        """Return (state, arrays) from the disk, or (None, None) if there is nothing complete."""
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return json.loads(str(arrays.pop("state"))), arrays
        except FileNotFoundError:
            return None, None
        except DAMAGE as failure:
            reason = files.first_sentence(failure)
            console.warn(f"{self.path} is damaged ({reason}): starting over")
            return None, None

    def position(self):
        """Return what was finished last, in words."""
        if self.finished_epochs:
            return f"epoch {self.finished_epochs} of {self.phase_names[self.finished_phases]}"
        return self.phase_names[self.finished_phases - 1]

    def restore_weights(self):
        """Give the network the weights of the interrupted run."""
        if self.weights:
            assign(self.variables, self.weights)

    def restore_optimizer(self, model):
        """Give the optimizer of a compiled model its state back, if an epoch is finished."""
        model.optimizer.build(model.trainable_variables)
        if self.finished_epochs:
            assign(model.optimizer.variables, self.optimizer)

    def restore_best(self):
        """Give the network the weights of the best epoch, if the phase keeps them."""
        if self.best:
            assign(self.variables, self.best)

    def finish_epoch(self, model, is_best):
        """Record an epoch as finished; `is_best`: keep its weights for `restore_best`."""
        self.finished_epochs += 1
        if is_best:
            self.best = values(self.variables)
        self.optimizer = values(model.optimizer.variables)
        self.save()

    def finish_phase(self, metrics, report):
        """Record a phase as finished, with its metrics and the text of its report."""
        name = self.phase_names[self.finished_phases]
        self.evaluations[name] = {"metrics": metrics, "report": report}
        self.finished_phases += 1
        self.finished_epochs, self.best, self.optimizer = 0, [], []
        self.save()

    def save(self):
        """Write everything to the disk."""
        self.weights = values(self.variables)
        state = {name: getattr(self, name) for name in ("fingerprint", *STATE)}
        arrays = {
            f"{group}_{position}": array
            for group in ARRAYS
            for position, array in enumerate(getattr(self, group))
        }
        with files.atomic_write(self.path) as partial, open(partial, "wb") as file:
            np.savez(file, state=np.array(json.dumps(state)), **arrays)
        self.stopwatch.save()

    def metrics(self):
        """Return the metrics of the finished training run, as metrics.json has them."""
        metrics = {name: each["metrics"] for name, each in self.evaluations.items()}
        return {
            **metrics[self.phase_names[-1]],
            "phases": {name: metrics[name]["accuracy"] for name in self.phase_names},
            "seconds": round(self.stopwatch.seconds, 3),
        }

    def report(self):
        """Return the reports of all phases as one text."""
        reports = [f"After {name}\n\n{each['report']}" for name, each in self.evaluations.items()]
        return "\n".join(reports)

    def remove(self):
        """Delete the files: the next run starts over."""
        files.remove(self.path)
        self.stopwatch.remove()


def values(variables):
    """Return the arrays of Keras variables."""
    return [np.array(variable) for variable in variables]


def assign(variables, arrays):
    """Assign the arrays of `values` to Keras variables."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
