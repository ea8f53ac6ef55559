"""Where a training stands: on disk after every epoch, for the next run to go on from."""

import json
import zipfile
from pathlib import Path

import numpy as np

from pyimagesearch import artifacts, console, files, networks

# What numpy raises on a file that is damaged or not its own.
DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Checkpoint:
    """What a training has done so far, in memory and, after every epoch, on disk.

    Attributes:
        phase, epoch: the number of the phase under way, and of its epochs that are finished.
        rows: of history.csv.
        evaluations: {phase: {"numbers": ..., "text": ...}} of the phases that are finished.
        seconds: what the runs before this one took.
    """

    def __init__(self, folder, made_from, classifier, phases):
        self.path, self.made_from = Path(folder) / artifacts.CHECKPOINT, made_from
        self.names = [phase.name for phase in phases]
        # By phase, what has learned until its end: the rest is as the weights file has it.
        ends = range(1, len(phases) + 1)
        self.learned = [networks.changing(classifier, phases[:end]) for end in ends]
        self.clock = console.Stopwatch()
        self.phase, self.epoch, self.seconds = 0, 0, 0
        self.rows, self.evaluations = [], {}
        # Numbers of the epoch with the lowest validation loss, and of the optimizer.
        self.best, self.optimizer = {}, {}

    @property
    def changing(self):
        """The variables that may no longer be what they were at the start."""
        return self.learned[min(self.phase, len(self.learned) - 1)]

    @property
    def total_seconds(self):
        """The seconds of this run and of those that it goes on from."""
        return self.seconds + self.clock.seconds

    def resume(self):
        """Go on from what is on disk; say so, or say why not."""
        stored = None if self.is_left_over() else self.read()
        if stored is None:
            return
        facts, arrays = stored
        changed = [name for name, value in self.made_from.items() if facts["of"].get(name) != value]
        if changed:
            console.info(
                f"starting over: {', '.join(changed)} changed since the run that was interrupted"
            )
            return
        for name in ("phase", "epoch", "rows", "evaluations", "seconds"):
            setattr(self, name, facts[name])
        assign(self.changing, part(arrays, "weight"))
        self.best, self.optimizer = part(arrays, "best"), part(arrays, "optimizer")
        if self.phase or self.epoch:
            console.info(
                f"going on after {self.where()}; to start over instead, delete {self.path}"
            )

    def where(self):
        """Say what was finished last."""
        if self.epoch:
            return f"epoch {self.epoch} of {self.names[self.phase]}"
        return self.names[self.phase - 1]

    def is_left_over(self):
        """Tell whether the training it is of has come to its end since."""
        metrics = self.path.with_name(artifacts.METRICS)
        both = self.path.is_file() and metrics.is_file()
        return both and files.file_stamp(metrics)[1] >= files.file_stamp(self.path)[1]

    def read(self):
        """Return (facts, arrays) from the disk, or None where there is nothing whole."""
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return json.loads(str(arrays.pop("facts"))), arrays
        except FileNotFoundError:
            return None
        except DAMAGE as failure:
            console.warn(f"{self.path} is damaged ({files.first_sentence(failure)}): starting over")
            return None

    def restore_optimizer(self, learner):
        """Give a compiled learner's optimizer back what it knew, when an epoch was finished."""
        learner.optimizer.build(learner.trainable_variables)
        if self.epoch:
            assign(learner.optimizer.variables, self.optimizer)

    def finish_epoch(self, learner, best):
        """Note an epoch as finished; `best`: it is the best so far and is to be kept."""
        self.epoch += 1
        if best:
            self.best = values(self.changing)
        self.optimizer = values(learner.optimizer.variables)
        self.save()

    def take_best(self):
        """Go back to the numbers of the best epoch, where one was kept."""
        if self.best:
            assign(self.changing, self.best)

    def finish_phase(self, name, numbers, text):
        """Note a phase as finished and evaluated."""
        self.evaluations[name] = {"numbers": numbers, "text": text}
        self.phase, self.epoch, self.best, self.optimizer = self.phase + 1, 0, {}, {}
        self.save()

    def remove(self):
        """Delete what is on the disk: the training has come to its end."""
        files.remove(self.path)

    def save(self):
        """Write everything to the disk."""
        facts = {
            "of": self.made_from,
            "phase": self.phase,
            "epoch": self.epoch,
            "rows": self.rows,
            "evaluations": self.evaluations,
            "seconds": self.total_seconds,
        }
        groups = {"weight": values(self.changing), "best": self.best, "optimizer": self.optimizer}
        arrays = {
            f"{kind}_{n}": each for kind, group in groups.items() for n, each in group.items()
        }
        with files.whole(self.path) as partial, open(partial, "wb") as file:
            np.savez(file, facts=np.array(json.dumps(facts)), **arrays)


def values(variables):
    """Return {position: numbers} of Keras variables."""
    return {str(number): np.array(each) for number, each in enumerate(variables)}


def assign(variables, numbers):
    """Give Keras variables the numbers of `values`."""
    for number, variable in enumerate(variables):
        variable.assign(numbers[str(number)])


def part(arrays, kind):
    """Return the arrays of one kind under the names that `values` gave them."""
    start = f"{kind}_"
    return {n.removeprefix(start): each for n, each in arrays.items() if n.startswith(start)}
