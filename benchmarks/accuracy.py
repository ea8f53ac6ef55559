"""Stored views against fresh augmentation: accuracy after each phase, over several seeds.

    python benchmarks/accuracy.py DATASET --epochs 25 10 --seeds 1 2 3

DATASET holds <split>/<class>/ folders. Every training is really run: fresh augmentation sends
every photo of every epoch through the whole network. What is trained already is not trained again.
"""

import argparse
import csv
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pyimagesearch import config, console, files  # noqa: E402

WAYS = {"fresh": ("--fresh",), "stored": ()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--epochs", nargs=2, type=int, default=(25, 10), metavar="N")
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3), metavar="SEED")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=tuple(WAYS))
    arguments = parser.parse_args()
    for way in arguments.ways:
        found = [train(arguments.dataset, way, seed, arguments.epochs) for seed in arguments.seeds]
        for name in found[0]:
            numbers = [each[name] for each in found]
            spread = statistics.stdev(numbers) if len(numbers) > 1 else 0
            console.show(f"{way:<7} {name:<24} {statistics.mean(numbers):.3f} ± {spread:.3f}")


def train(dataset, way, seed, epochs):
    """Train once; return {"<phase>, <split>": accuracy}."""
    schedule = "_".join(map(str, epochs))
    out = ROOT / config.OUTPUT_DIR / "accuracy" / f"{way}_{schedule}_{seed}"
    folder = out / dataset.name / "fine_tune"
    if not (folder / "metrics.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, ROOT / "benchmarks/ours.py", "fine_tune", dataset, out]
        command += ["--seed", seed, "--warmup", epochs[0], "--unfrozen", epochs[1], *WAYS[way]]
        with open(out / "log.txt", "w") as log:
            subprocess.run(list(map(str, command)), check=True, stdout=log, stderr=log)
    with open(folder / "history.csv") as file:
        validation = {row["phase"]: float(row["val_accuracy"]) for row in csv.DictReader(file)}
    evaluation = files.read_json(folder / "metrics.json")["phases"]
    return {
        f"{phase}, {split}": accuracy
        for phase in evaluation
        for split, accuracy in (
            ("validation", validation[phase]),
            ("evaluation", evaluation[phase]),
        )
    }


if __name__ == "__main__":
    main()
