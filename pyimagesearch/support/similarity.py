"""Whether a photo is unlike any training photo: how similar it is to the nearest of them.

A classifier answers with one of its classes, whatever the photo shows. But the features of a photo
of something else are far from those of the training photos. The similarity of two photos is the
cosine of the angle between their features, from -1 to 1.

Source: Sun, Ming, Zhu and Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML
2022, arXiv 2204.06507.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyimagesearch.support import files

FILE = "similarity.npz"
# With more photos to compare with, predictions would become slower and files larger.
MAX_TRAINING, MAX_VALIDATION = 1500, 500
NEIGHBOURS = 10  # a photo's similarity is that to the 10th nearest of them
FLAGGED = 0.05  # the share of the validation photos that are below the threshold

TINY = 1e-12  # a row of zeros has no direction


class Reference(NamedTuple):
    """What a photo is compared with."""

    # (n, features) float16: of training and validation photos, each row of length 1.
    features: np.ndarray
    threshold: float  # a photo with a lower similarity is unlike any training photo

    @property
    def neighbours(self):
        """The rank of the photo whose similarity counts. Of few photos, it is the last but one."""
        return max(1, min(NEIGHBOURS, len(self.features) - 1))

    def similarities(self, features):
        """Return the (n,) similarities of photos to the 10th nearest photo."""
        return self.nearest(self.cosines(features))

    def cosines(self, features):
        """Return the (n, photos) similarities of photos to all that they are compared with."""
        return unit_rows(features) @ self.features.astype(np.float32).T

    def nearest(self, cosines):
        """Return the (n,) similarities to the 10th nearest photo of (n, photos)."""
        return np.sort(cosines, axis=1)[:, -self.neighbours]

    def are_unlike(self, features):
        """Return an (n,) array that is True for photos that are unlike any training photo."""
        return self.similarities(features) < self.threshold


def choose_photos(labels, count):
    """Return the sorted positions of the photos of a split to compare with: at most `count`.

    Only classes with many photos are thinned out. Their photos are chosen at equal distances:
    neighbouring files often show the same scene.
    """
    counts, limit = np.bincount(labels), count
    while limit > 1 and np.minimum(counts, limit).sum() > count:
        limit -= 1
    chosen = []
    for label in np.flatnonzero(counts):
        positions = np.flatnonzero(labels == label)
        taken = min(len(positions), limit)
        chosen.append(positions[np.linspace(0, len(positions) - 1, taken).astype(int)])
    return np.sort(np.concatenate(chosen))


def fit(training_features, validation_features, validation_labels):
    """Return the Reference of a classifier.

    Args:
        training_features: (n, features) of the chosen training photos.
        validation_features: (n, features) of all validation photos. Some of them are compared with
            too: their features are those of photos that the network has not been trained on.
        validation_labels: (n,) ints.
    """
    chosen = choose_photos(validation_labels, MAX_VALIDATION)
    rows = unit_rows(np.concatenate([training_features, validation_features[chosen]]))
    reference = Reference(rows.astype(np.float16), threshold=0)
    cosines = reference.cosines(validation_features)
    # No photo is compared with itself.
    cosines[chosen, np.arange(len(training_features), len(rows))] = -1
    threshold = float(np.quantile(reference.nearest(cosines), FLAGGED))
    return reference._replace(threshold=threshold)


def unit_rows(features):
    """Return (n, features) divided by the length of each row, as float32."""
    features = np.asarray(features, np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), TINY)


def save(folder, reference):
    """Write a Reference into the folder of a classifier."""
    with files.atomic_write(Path(folder) / FILE) as partial, open(partial, "wb") as file:
        np.savez(file, **reference._asdict())


def load(folder):
    """Return the Reference in the folder of a classifier."""
    with np.load(Path(folder) / FILE, allow_pickle=False) as stored:
        return Reference(stored["features"], float(stored["threshold"]))
