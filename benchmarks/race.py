"""The original tutorials, made to run, against this project: the same photos, the same weights.

    make bench
    python benchmarks/race.py --only extract csv
    python benchmarks/race.py --only large --large DATASET

Both run in turn, each as a process of its own; the table gives medians. The figures stay in
benchmarks/results.json, so that one can be measured again alone; those of another kind of machine
go to a file of their own (--results). DATASET is another folder of <split>/<class>/ photos, larger
than the sample: what it takes is only measured where it is given.
"""

import argparse
import itertools
import os
import platform
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pyimagesearch import config, console, files, machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results.json"
WEIGHTS = ROOT / "weights" / "vgg16.weights.h5"
SPLITS = (config.TRAIN, config.VAL, config.TEST)
FOOD11 = (9866, 3430, 3347)  # photos a split
EPOCHS = (50, 20)  # of Food-11's two phases
BATCH = 32
ROWS = 3000  # of Food-5K's training.csv
# What decides how fast a processor computes.
INSTRUCTIONS = {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=None, metavar="FIGURE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=Path, metavar="DATASET")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    arguments = parser.parse_args()
    dataset = ROOT / config.DATASET_DIR / "sample"
    work = ROOT / config.OUTPUT_DIR / "race"
    work.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or FIGURES:
        if name == "large" and arguments.large is None:
            continue
        console.info(f"measuring: {name}")
        rows = FIGURES[name](Race(dataset, work, arguments.rounds, arguments.large))
        results = files.read_json(arguments.results) or {"figures": {}}
        results["figures"] |= {row.pop("figure"): row for row in rows}
        results["machine"] = measured_on()
        files.write_json(arguments.results, results)
    console.show(table(files.read_json(arguments.results)["figures"]))


@dataclass(frozen=True)
class Race:
    """Where a race takes place, and how its two sides are run."""

    dataset: Path
    work: Path  # for what both write
    rounds: int
    large: Path | None

    def plain(self, what, *options, dataset=None):
        """Run the plain port; return (seconds, peak bytes, what it wrote)."""
        out = self.work / "plain"
        script = "benchmarks/plain_port.py"
        used = run(script, what, dataset or self.dataset, WEIGHTS, out, *options)
        return *used, files.read_json(out / f"plain_{what}.json")

    def ours(self, what, *options, dataset=None, out="ours", anew=False):
        """Run this project, with nothing stored if `anew`: (seconds, peak bytes, what it wrote)."""
        folder = self.work / out
        if anew:
            shutil.rmtree(folder, ignore_errors=True)
        used = run("benchmarks/ours.py", what, dataset or self.dataset, folder, *options)
        return *used, files.read_json(folder / f"ours_{what}.json")


def run(script, *arguments):
    """Run a script as a process; return (its seconds, its largest memory in bytes)."""
    arguments = [str(each) for each in (ROOT / script, *arguments)]
    log = ROOT / config.OUTPUT_DIR / "race" / "log.txt"
    # Importing this project asks for oneDNN. The plain port does not, and ours asks for itself.
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    clock = console.Stopwatch()
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(arguments)} failed:\n{log.read_text()[-3000:]}")
    seconds = clock.seconds
    console.info(f"  {Path(script).stem} {arguments[1]}: {console.duration(seconds)}")
    return seconds, peak_memory(usage)


def peak_memory(usage):
    """Return the bytes of a process' resource usage: Linux counts in KiB, macOS in bytes."""
    return usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def extract(race):
    """Photos -> CSV, the whole process, import of TensorFlow and all.

    By default, and where that is bfloat16 in float32 too: what a processor without it gains.
    """
    name = "photos -> CSV, whole process"
    precisions = {config.PRECISION: f"{name} (s)"}
    if machine.computes_in_bfloat16():
        precisions["float32"] = f"{name}, in float32 (s)"
    made_from = race.work / "ours" / "sample" / "features" / "made_from.json"
    plain, ours, made = [], {each: [] for each in precisions}, {each: [] for each in precisions}
    for _ in range(race.rounds):
        plain.append(race.plain("extract")[0])
        for precision in precisions:
            ours[precision].append(race.ours("extract", "--precision", precision)[0])
            made[precision].append(files.read_json(made_from))
    rows = []
    for precision, figure in precisions.items():
        limit = race.ours("forward", "--precision", precision)[2]
        of = limit["precision"]
        rows += [
            compared(figure, plain, ours[precision]),
            alone(f"photos/s of the forward pass alone, {of}", [limit["photos_a_second"]]),
            alone(
                f"photos/s of the extraction, {of}",
                [sum(each["photos"].values()) / each["seconds"] for each in made[precision]],
            ),
            alone(
                f"share of extraction that the network waits for photos, {of}",
                [each["waiting_share"] or 0 for each in made[precision]],
            ),
        ]
    return rows


def csv(race):
    """CSV -> arrays, on as many rows as Food-5K has."""
    source = race.work / "ours" / "sample" / "features" / "training.csv"
    if not source.is_file():
        race.ours("extract")
    for side in ("plain", "ours"):
        (race.work / side).mkdir(parents=True, exist_ok=True)
        repeat_rows(source, race.work / side / "training.csv", ROWS)
    plain, ours = [], []
    for _ in range(race.rounds):
        _, peak = run("benchmarks/plain_regression.py", race.work / "plain", "--load-only")
        seconds = files.read_json(race.work / "plain" / "plain_regression.json")["load_seconds"]
        plain.append((seconds, peak))
        _, peak, result = race.ours("read")
        ours.append((result["seconds"], peak))
    name = f"CSV -> arrays, {ROWS:,} x 25,088"
    seconds = [[each for each, _ in side] for side in (plain, ours)]
    peaks = [[each / 1e9 for _, each in side] for side in (plain, ours)]
    return [compared(f"{name} (s)", *seconds), compared(f"{name}, peak memory (GB)", *peaks)]


def repeat_rows(source, target, count):
    """Write the rows of a CSV again and again, until there are `count`."""
    with open(target, "wb") as file, open(source, "rb") as rows:
        file.writelines(itertools.islice(itertools.cycle(rows), count))


def schedule(race):
    """Food-11's 50 + 20 epochs of 9,866 photos, put together from measured parts."""
    plain, ours = [], []
    for _ in range(race.rounds):
        plain.append(race.plain("steps")[2])
        ours.append(race.ours("parts", out="parts", anew=True)[2])
    files.write_json(race.work / "plain_steps.json", plain)
    rows = []
    for name, sizes in (
        ("Food-11's schedule: views, epochs, validation (h)", (*FOOD11[:2], 0)),
        ("the same with the evaluation after each phase (h)", FOOD11),
    ):
        rows.append(
            compared(
                name,
                [plain_schedule(each, sizes) / 3600 for each in plain],
                [our_schedule(each, sizes) / 3600 for each in ours],
            )
        )
    for phase in ("warmup", "unfrozen"):
        rows.append(
            compared(
                f"a training step of {phase} (s)",
                [each[phase]["step"] for each in plain],
                [each[phase]["step"] for each in ours],
            )
        )
    for name, seconds in (
        ("a photo through the frozen part (s)", [each["warmup"]["frozen"] for each in ours]),
        ("a photo through the whole network in float32 (s)", [each["whole"] for each in ours]),
        ("a photo through block5 and the head in float32 (s)", [each["rest"] for each in ours]),
    ):
        rows.append(alone(name, seconds))
    return rows


def batches(photos):
    """Return how many batches show every photo once."""
    return -(-photos // BATCH)


def plain_schedule(steps, sizes):
    """Return the seconds of both phases of the plain port, from its measured steps."""
    training, validation, evaluation = map(batches, sizes)
    return sum(
        epochs * (training * steps[phase]["step"] + validation * steps[phase]["validation_step"])
        + evaluation * steps[phase]["validation_step"]
        for phase, epochs in zip(("warmup", "unfrozen"), EPOCHS, strict=True)
    )


def our_schedule(parts, sizes):
    """Return the seconds of both phases of this project, from its measured parts."""
    training, validation, evaluation = sizes
    # Validation photos pass the network once for both phases. So do evaluation photos, in float32,
    # and what is behind the cut is asked once more.
    seconds = validation * parts["warmup"]["frozen"]
    seconds += evaluation * (parts["whole"] + parts["rest"])
    for phase, epochs in zip(("warmup", "unfrozen"), EPOCHS, strict=True):
        part = parts[phase]
        seconds += part["views"] * training * part["frozen"]
        seconds += epochs * batches(training) * part["step"]
        seconds += epochs * batches(validation) * part["validation_step"]
    return seconds


def sample(race):
    """The same schedule on the sample: ours run, the plain port from its measured steps."""
    return trained(race, race.dataset, "the sample")


def large(race):
    """The same on a larger dataset."""
    return trained(race, race.large, None)


def trained(race, dataset, words):
    """Train ours on a dataset, photos to final report; take the plain port's steps for its time."""
    steps = files.read_json(race.work / "plain_steps.json", list)
    if steps is None:
        sys.exit("this figure needs 'schedule' measured before")
    sizes = [sum(1 for each in (dataset / split).rglob("*") if each.is_file()) for split in SPLITS]
    ours, peak, metrics = train_ours(race, dataset)
    name = f"50 + 20 epochs on {words or f'{sizes[0]:,} training photos'}"
    plain = statistics.median(plain_schedule(each, sizes) for each in steps)
    return [
        compared(f"{name} (min; plain: from its steps)", [plain / 60], [ours / 60]),
        alone(f"{name}, peak memory (GB)", [peak / 1e9]),
        *(alone(f"{name}, accuracy after {p}", [a]) for p, a in metrics["phases"].items()),
    ]


def train_ours(race, dataset):
    """Train ours with nothing stored; return (seconds, peak bytes, what its metrics.json says)."""
    out = f"trained_{dataset.name}"
    options = ("--warmup", EPOCHS[0], "--unfrozen", EPOCHS[1])
    seconds, peak, _ = race.ours("fine_tune", *options, dataset=dataset, out=out, anew=True)
    metrics = race.work / out / dataset.name / "fine_tune" / "metrics.json"
    return seconds, peak, files.read_json(metrics)


def run_both(race):
    """The same on the sample, the plain port really run too.

    It takes longer than its steps: tf.data's tuner lets the end of a short pass wait, and here
    a pass takes seconds. Ours has it switched off (training.as_dataset).
    """
    ours, _, _ = train_ours(race, race.dataset)
    options = ("--warmup", EPOCHS[0], "--unfrozen", EPOCHS[1])
    plain, _, result = race.plain("fine_tune", *options)
    name = "50 + 20 epochs on the sample, both really run"
    return [
        compared(f"{name} (min)", [plain / 60], [ours / 60]),
        *(
            alone(f"{name}, accuracy of the plain port after {p}", [result[p]["accuracy"]])
            for p in ("warmup", "unfrozen")
        ),
    ]


def size(race):
    """Extraction of 1, 2 and 4 times the sample's photos: time and memory."""
    measured = {}
    for times in (1, 2, 4):
        dataset = race.work / f"times{times}"
        for photo in sorted(race.dataset.rglob("*.jpg")):
            for copy in range(times):
                target = dataset / photo.relative_to(race.dataset).with_stem(f"{photo.stem}_{copy}")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(photo, target)
        measured[times] = []
    for _ in range(race.rounds):
        for times, each in measured.items():
            _, peak, _ = race.ours("extract", dataset=race.work / f"times{times}", out="size")
            folder = race.work / "size" / f"times{times}" / "features"
            each.append((files.read_json(folder / "made_from.json")["seconds"], peak))
    rows = []
    for times in (2, 4):
        pairs = list(zip(measured[1], measured[times], strict=True))
        rows.append(
            alone(
                f"extraction of {times} x the photos: time over {times} x the time",
                [several[0] / (times * one[0]) for one, several in pairs],
            )
        )
        rows.append(
            alone(
                f"extraction of {times} x the photos: peak memory over that of 1 x",
                [several[1] / one[1] for one, several in pairs],
            )
        )
    return rows


def memory(race):
    """Peak memory of every step on the sample."""
    rows = []
    for what, options in (
        ("extract", ()),
        ("regression", ()),
        ("fine_tune", ("--warmup", 2, "--unfrozen", 2)),
        ("predict", ()),
    ):
        _, peak, _ = race.ours(what, *options, out="memory", anew=what == "extract")
        rows.append(alone(f"peak memory of {what} on the sample (GB)", [peak / 1e9]))
    return rows


FIGURES = {
    each.__name__: each for each in (extract, csv, schedule, size, memory, sample, large, run_both)
}


def compared(figure, plain, ours):
    """Return a figure of both sides: medians, and how many times less ours takes, pair by pair."""
    ratios = [a / b for a, b in zip(plain, ours, strict=True)]
    return {
        "figure": figure,
        "plain": statistics.median(plain),
        "ours": statistics.median(ours),
        "ratio": [statistics.median(ratios), min(ratios), max(ratios)],
        "rounds": len(ratios),
    }


def alone(figure, ours):
    """Return a figure that only this project has."""
    return {
        "figure": figure,
        "ours": statistics.median(ours),
        "spread": [min(ours), max(ours)],
        "rounds": len(ours),
    }


def measured_on():
    """Say on what the figures were measured.

    Without TensorFlow: what this process has in memory counts as its children's first memory.
    """
    packages = ("tensorflow", "keras", "scikit-learn", "numpy", "polars")
    return {
        "processor": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "instructions": sorted(machine.processor_flags() & INSTRUCTIONS),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


def table(figures):
    """Return the figures as text."""
    width = max(map(len, figures))
    lines = [f"{'figure':<{width}}{'plain':>10}{'ours':>10}   ratio: median (min-max), rounds"]
    for name, row in figures.items():
        plain = f"{row['plain']:.4g}" if "plain" in row else ""
        line = f"{name:<{width}}{plain:>10}{row['ours']:>10.4g}"
        if "ratio" in row:
            median, low, high = row["ratio"]
            line += f"   {median:.1f} ({low:.1f}-{high:.1f}), {row['rounds']}"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
