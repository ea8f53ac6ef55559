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
# More training photos are not compared: predictions would become slower and files larger.
MAX_PHOTOS = 2000
NEIGHBOURS = 10  # a photo's similarity is that to its 10th nearest training photo
FLAGGED = 0.05  # the share of the validation photos that are below the threshold

TINY = 1e-12  # a row of zeros has no direction


class Reference(NamedTuple):
    """What a photo is compared with."""

    features: np.ndarray  # (n, features) float16: of training photos, each row of length 1
    threshold: float  # a photo with a lower similarity is unlike any training photo

    @property
    def neighbours(self):
        """The rank of the training photo whose similarity counts."""
        return min(NEIGHBOURS, len(self.features))

    def similarities(self, features):
        """Return the (n,) similarities of photos to their 10th nearest training photo."""
        cosines = unit_rows(features) @ self.features.astype(np.float32).T
        return np.sort(cosines, axis=1)[:, -self.neighbours]

    def are_unlike(self, features):
        """Return an (n,) array that is True for photos that are unlike any training photo."""
        return self.similarities(features) < self.threshold


def choose_photos(labels):
    """Return the sorted positions of the training photos to compare with: at most MAX_PHOTOS.

    Only classes with many photos are thinned out. Their photos are chosen at equal distances:
    neighbouring files often show the same scene.
    """
    counts, limit = np.bincount(labels), MAX_PHOTOS
    while limit > 1 and np.minimum(counts, limit).sum() > MAX_PHOTOS:
        limit -= 1
    chosen = []
    for label in np.flatnonzero(counts):
        positions = np.flatnonzero(labels == label)
        count = min(len(positions), limit)
        chosen.append(positions[np.linspace(0, len(positions) - 1, count).astype(int)])
    return np.sort(np.concatenate(chosen))


def fit(training_features, validation_features):
    """Return the Reference for (n, features) of the chosen training and the validation photos."""
    rows = unit_rows(training_features).astype(np.float16)
    similarities = Reference(rows, threshold=0).similarities(validation_features)
    return Reference(rows, float(np.quantile(similarities, FLAGGED)))


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
