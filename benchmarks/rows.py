"""Logistic regression on many rows: how long it takes, and how much memory.

    python benchmarks/rows.py 30000 in_memory
    python benchmarks/rows.py 300000 in_blocks

The rows are those of output/sample/features/training.csv, repeated, so the time means something
and the accuracy does not. 300,000 rows take 18.5 GB on the disk, and in_blocks 30 GB more; they
are deleted afterwards.
"""

import argparse
import resource
import tempfile
from pathlib import Path

from ours import photos_of
from race import ROOT, peak_memory, repeat_rows

from pyimagesearch import config, regression
from pyimagesearch.support import console

WAYS = ("in_memory", "in_blocks")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=int)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--iterations", type=int, default=config.MAX_ITERATIONS)
    arguments = parser.parse_args()
    recipe = config.RECIPES["sample"]
    source = ROOT / config.OUTPUT_DIR / recipe.name / "features" / f"{config.TRAIN}.csv"
    photos = photos_of(source, recipe.classes, arguments.rows)
    with open(source, "rb") as csv:
        columns = csv.readline().count(b",")
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        path = Path(folder) / source.name
        repeat_rows(source, path, arguments.rows)
        stopwatch = console.Stopwatch()
        in_memory = arguments.way == "in_memory"
        fit = regression.fit_in_memory if in_memory else regression.fit_in_blocks
        (fitted,) = fit(path, photos, columns, recipe, arguments.iterations)
    peak = peak_memory(resource.getrusage(resource.RUSAGE_SELF))
    console.show(
        f"{len(photos):,} rows {arguments.way}: {fitted.n_iter_[0]} iterations, {stopwatch}, "
        f"{peak / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    console.run(main)
