"""Measure this project against a plain port of the original tutorials: same photos, same weights.

    make bench
    python benchmarks/race.py --only extract csv
    python benchmarks/race.py --only large --large DATASET
    python benchmarks/race.py --only torch

The two sides run in turns, each as a new process. The figures are medians. They are stored in
benchmarks/results.json, and a figure that is measured again replaces the one before. Use --results
to store the figures of another kind of machine in another file. DATASET is a folder of
<split>/<class>/ photos, larger than the sample. Without it, `large` is not measured. `torch`
compares with PyTorch, which it first installs into an environment of its own (1.1 GB); it is only
measured if --only names it.
"""

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
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from torch_environment import python_with_torch  # noqa: E402

from pyimagesearch import config  # noqa: E402
from pyimagesearch.support import console, files, machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results.json"
WEIGHTS = ROOT / "weights" / "vgg16.weights.h5"
SPLITS = (config.TRAIN, config.VAL, config.TEST)
FOOD11 = (9866, 3430, 3347)  # photos per split
PHASES = {"warmup": 50, "unfrozen": 20}  # epochs of Food-11's phases
BATCH_SIZE = 32
FOOD5K_ROWS = 3000  # of training.csv
# The instruction sets that decide how fast a processor computes a network.
INSTRUCTIONS = {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}


def main(argv=None):
    parser = console.Parser(__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=FIGURES,
        metavar="FIGURE",
        help=f"what to measure, of {', '.join(FIGURES)} (default: all)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs per side (default: 3)")
    parser.add_argument("--large", type=Path, metavar="DATASET", help="photos for `large`")
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FILE",
        help="where to store the figures (default: benchmarks/results.json)",
    )
    arguments = parser.parse_args(argv)
    dataset = ROOT / config.DATASET_DIR / "sample"
    folder = ROOT / config.OUTPUT_DIR / "race"
    folder.mkdir(parents=True, exist_ok=True)
    race = Race(dataset, folder, arguments.rounds, arguments.large)
    by_default = [name for name in FIGURES if name != "torch"]
    for name in arguments.only or by_default:
        if name == "large" and arguments.large is None:
            continue
        console.info(f"measuring {name}")
        store(arguments.results, FIGURES[name](race))
    console.show(table(files.read_json(arguments.results)["figures"]))


def store(path, rows):
    """Add figures to a file of results, or replace them there; record this machine."""
    results = files.read_json(path) or {"figures": {}}
    results["figures"] |= {row.pop("figure"): row for row in rows}
    results["machine"] = measured_on()
    files.write_json(path, results)


class Run(NamedTuple):
    """The cost of a process, and the figures that it wrote."""

    seconds: float
    peak_memory: int  # bytes
    result: dict | None  # the JSON file that it wrote


@dataclass(frozen=True)
class Race:
    """The photos and the folder of a race, and how to run its two sides."""

    dataset: Path
    folder: Path  # for all that both sides write
    rounds: int
    large: Path | None  # a larger dataset

    def plain(self, task, *options):
        """Run a task of plain_port.py. Return its Run."""
        out = self.folder / "plain"
        used = run("benchmarks/plain_port.py", task, self.dataset, WEIGHTS, out, *options)
        return Run(*used, files.read_json(out / f"plain_{task}.json"))

    def torch(self, task):
        """Run a task of torch_port.py in its environment. Return its Run."""
        out, python = self.folder / "torch", python_with_torch(self.folder / "torch_environment")
        precision = "bfloat16" if machine.computes_in_bfloat16() else "float32"
        arguments = (task, self.dataset, WEIGHTS, out, "--precision", precision)
        used = run("benchmarks/torch_port.py", *arguments, python=python)
        return Run(*used, files.read_json(out / f"torch_{task}.json"))

    def ours(self, task, *options, dataset=None, out="ours", clear=False):
        """Run a task of ours.py. Return its Run.

        Args:
            task: the first argument of ours.py.
            options: its last arguments.
            dataset: another dataset than that of the race.
            out: the name of the folder, in the race's folder, that the task writes to.
            clear: delete that folder first, so that the task finds nothing stored.
        """
        out = self.folder / out
        if clear:
            shutil.rmtree(out, ignore_errors=True)
        used = run("benchmarks/ours.py", task, dataset or self.dataset, out, *options)
        return Run(*used, files.read_json(out / f"ours_{task}.json"))


def run(script, *arguments, python=sys.executable):
    """Run a script as a new process. Return (seconds, peak memory in bytes).

    Raises:
        UserError: the script fails.
    """
    command = [*map(str, (python, ROOT / script, *arguments))]
    log = ROOT / config.OUTPUT_DIR / "race" / "log.txt"
    # Importing this project sets the variable. The plain port must run without it.
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    clock = console.Stopwatch()
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = clock.seconds
    if status:
        print(log.read_text()[-3000:], file=sys.stderr)
        raise console.UserError(f"{script} {arguments[0]} failed. Its output is in {log}")
    console.info(f"  {Path(script).stem} {arguments[0]}: {console.duration(seconds)}")
    return seconds, peak_memory(usage)


def peak_memory(usage):
    """Return the peak memory, in bytes, of a resource usage. Linux counts KiB, macOS bytes."""
    return usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


# Features


def measure_extraction(race):
    """Photos -> CSV. The time of a whole process, including the import of TensorFlow.

    If the default precision is bfloat16, extraction is measured in float32 too: that is what a
    processor without bfloat16 gains.
    """
    name = "photos -> CSV, whole process"
    figures = {config.PRECISION: f"{name} (s)"}
    if machine.computes_in_bfloat16():
        figures["float32"] = f"{name}, in float32 (s)"
    plain, ours, speeds = [], {each: [] for each in figures}, {each: [] for each in figures}
    for _ in range(race.rounds):
        plain.append(race.plain("extract").seconds)
        for precision in figures:
            ours[precision].append(race.ours("extract", "--precision", precision).seconds)
            seconds = extraction_seconds(race.folder / "ours" / race.dataset.name)
            speeds[precision].append(sum(count_photos(race.dataset)) / seconds)
    rows = []
    for precision, figure in figures.items():
        forward = race.ours("forward", "--precision", precision).result
        used = forward["precision"]
        rows += [
            compared(figure, plain, ours[precision]),
            ours_only(f"photos/s of the forward pass alone, {used}", [forward["photos_a_second"]]),
            ours_only(f"photos/s of the extraction, {used}", speeds[precision]),
        ]
    return rows


def extraction_seconds(folder):
    """Return the seconds of the extraction that has finished in output/<recipe>/.

    They are without the imports, which take seconds too.
    """
    return files.read_json(folder / "features" / "made_from.json")["seconds"]


def count_photos(dataset):
    """Return the number of photos in each split of a dataset."""
    return [sum(path.is_file() for path in (dataset / split).rglob("*")) for split in SPLITS]


def measure_csv(race):
    """CSV -> arrays, with as many rows as Food-5K has."""
    source = race.folder / "ours" / race.dataset.name / "features" / "training.csv"
    if not source.is_file():
        race.ours("extract")
    for side in ("plain", "ours"):
        (race.folder / side).mkdir(parents=True, exist_ok=True)
        repeat_rows(source, race.folder / side / "training.csv", FOOD5K_ROWS)
    script, result = "benchmarks/plain_regression.py", race.folder / "plain/plain_regression.json"
    plain, ours = [], []
    for _ in range(race.rounds):
        _, memory = run(script, race.folder / "plain", "--load-only")
        plain.append((files.read_json(result)["load_seconds"], memory))
        read = race.ours("read")
        ours.append((read.result["seconds"], read.peak_memory))
    name = f"CSV -> arrays, {FOOD5K_ROWS:,} x 25,088"
    seconds = [[each for each, _ in side] for side in (plain, ours)]
    gigabytes = [[each / 1e9 for _, each in side] for side in (plain, ours)]
    return [compared(f"{name} (s)", *seconds), compared(f"{name}, peak memory (GB)", *gigabytes)]


def repeat_rows(source, target, count):
    """Write a CSV with `count` rows: those of another CSV, repeated."""
    with open(target, "wb") as file, open(source, "rb") as rows:
        file.writelines(itertools.islice(itertools.cycle(rows), count))


# Fine-tuning


def measure_schedule(race):
    """Food-11's 50 + 20 epochs of 9,866 photos. The time is computed from measured parts."""
    plain, ours = [], []
    for _ in range(race.rounds):
        plain.append(race.plain("steps").result)
        ours.append(race.ours("parts", out="parts", clear=True).result)
    files.write_json(race.folder / "plain_steps.json", plain)
    without_evaluation = (*FOOD11[:2], 0)
    rows = []
    for name, sizes in (
        ("Food-11's schedule: views, epochs, validation (h)", without_evaluation),
        ("the same with the evaluation after each phase (h)", FOOD11),
    ):
        plain_hours = [plain_schedule(steps, sizes) / 3600 for steps in plain]
        our_hours = [our_schedule(parts, sizes) / 3600 for parts in ours]
        rows.append(compared(name, plain_hours, our_hours))
    for phase in PHASES:
        plain_steps, our_steps = ([each[phase]["step"] for each in side] for side in (plain, ours))
        rows.append(compared(f"a training step of {phase} (s)", plain_steps, our_steps))
    for name, seconds in (
        ("a photo through the frozen part (s)", [each["warmup"]["frozen"] for each in ours]),
        ("a photo through the whole network in float32 (s)", [each["whole"] for each in ours]),
        ("a photo through block5 and the head in float32 (s)", [each["rest"] for each in ours]),
    ):
        rows.append(ours_only(name, seconds))
    return rows


def plain_schedule(steps, sizes):
    """Return the seconds of both phases of the plain port.

    Args:
        steps: the seconds of a training step and of a validation step of each phase, as
            `plain_port.py steps` measures them.
        sizes: photos for training, validation and evaluation.
    """
    training, validation, evaluation = map(count_batches, sizes)
    return sum(
        epochs * (training * steps[phase]["step"] + validation * steps[phase]["validation_step"])
        + evaluation * steps[phase]["validation_step"]
        for phase, epochs in PHASES.items()
    )


def our_schedule(parts, sizes):
    """Return the seconds of both phases of this project.

    Args:
        parts: the seconds of each part, as `ours.py parts` measures them.
        sizes: photos for training, validation and evaluation.
    """
    training, validation, evaluation = sizes
    # The frozen layers compute each validation photo once, for both phases.
    seconds = validation * parts["warmup"]["frozen"]
    # Evaluation is in float32: the whole network after the first phase, and only the layers after
    # the cut after the second.
    seconds += evaluation * (parts["whole"] + parts["rest"])
    for phase, epochs in PHASES.items():
        part = parts[phase]
        seconds += part["views"] * training * part["frozen"]
        seconds += epochs * count_batches(training) * part["step"]
        seconds += epochs * count_batches(validation) * part["validation_step"]
    return seconds


def count_batches(photos):
    """Return the number of batches that a number of photos makes; the last may be smaller."""
    return -(-photos // BATCH_SIZE)


def train_on_sample(race):
    """The 50 + 20 epochs on the sample. The plain port's time is computed from its steps."""
    return train_ours(race, race.dataset, "the sample")


def train_on_large(race):
    """The 50 + 20 epochs on the larger dataset, as on the sample."""
    return train_ours(race, race.large)


def train_ours(race, dataset, name=None):
    """Train this project on a dataset; compute the plain port's time from its measured steps.

    Raises:
        UserError: the steps have not been measured.
    """
    path = race.folder / "plain_steps.json"
    steps = files.read_json(path, list)
    if steps is None:
        raise console.UserError(
            f"{path} is missing. Make it with: python benchmarks/race.py --only schedule"
        )
    sizes = count_photos(dataset)
    seconds, memory, metrics = fine_tune_ours(race, dataset)
    name = f"50 + 20 epochs on {name or f'{sizes[0]:,} training photos'}"
    plain = statistics.median(plain_schedule(each, sizes) for each in steps)
    return [
        compared(f"{name} (min; plain: from its steps)", [plain / 60], [seconds / 60]),
        ours_only(f"{name}, peak memory (GB)", [memory / 1e9]),
        *(
            ours_only(f"{name}, accuracy after {phase}", [accuracy])
            for phase, accuracy in metrics["phases"].items()
        ),
    ]


def train_both(race):
    """The 50 + 20 epochs on the sample, with a complete training of the plain port too.

    The plain port takes longer than the sum of its steps: the tuner of tf.data delays the end of a
    short epoch, and here an epoch takes seconds. This project switches the tuner off
    (training.as_dataset).
    """
    seconds, _, _ = fine_tune_ours(race, race.dataset)
    plain = race.plain("fine_tune", *epoch_options())
    name = "50 + 20 epochs on the sample, both really run"
    return [
        compared(f"{name} (min)", [plain.seconds / 60], [seconds / 60]),
        *(
            ours_only(
                f"{name}, accuracy of the plain port after {phase}",
                [plain.result[phase]["accuracy"]],
            )
            for phase in PHASES
        ),
    ]


def fine_tune_ours(race, dataset):
    """Train this project with nothing stored. Return (seconds, peak bytes, its metrics)."""
    out = f"trained_{dataset.name}"
    trained = race.ours("fine_tune", *epoch_options(), dataset=dataset, out=out, clear=True)
    metrics = race.folder / out / dataset.name / "fine_tune" / "metrics.json"
    return trained.seconds, trained.peak_memory, files.read_json(metrics)


def epoch_options():
    """Return the options of plain_port.py and ours.py that set the epochs of each phase."""
    return [option for phase, epochs in PHASES.items() for option in (f"--{phase}", epochs)]


# PyTorch


def measure_torch(race):
    """The forward pass, the steps and Food-11's schedule against PyTorch, as fast as it is there.

    PyTorch augments photos afresh in every epoch and computes the frozen layers again, so the
    schedule is that of `plain_schedule`. Its network has to compute the same features as ours.
    """
    race.ours("reference", out="torch")
    forward, steps, our_forward, our_parts = [], [], [], []
    for _ in range(race.rounds):
        forward.append(race.torch("forward").result)
        our_forward.append(race.ours("forward").result)
        steps.append(race.torch("steps").result)
        our_parts.append(race.ours("parts", out="parts", clear=True).result)
    name = f"PyTorch {forward[0]['torch']}, {forward[0]['precision']}"
    seconds = [[1 / each["photos_a_second"] for each in side] for side in (forward, our_forward)]
    rows = [compared(f"{name}: a photo through the frozen network (s)", *seconds)]
    for phase in PHASES:
        both = [[each[phase]["step"] for each in side] for side in (steps, our_parts)]
        rows.append(compared(f"{name}: a training step of {phase} (s)", *both))
    for words, sizes in (("", (*FOOD11[:2], 0)), (" with the evaluation", FOOD11)):
        hours = [plain_schedule(each, sizes) / 3600 for each in steps]
        our_hours = [our_schedule(each, sizes) / 3600 for each in our_parts]
        rows.append(compared(f"{name}: Food-11's schedule{words} (h)", hours, our_hours))
    return rows


# Scaling and memory


def measure_scaling(race):
    """Extraction of 1, 2 and 4 times the sample's photos: time and memory."""
    datasets = {times: copy_photos(race, times) for times in (1, 2, 4)}
    measured = {times: [] for times in datasets}
    for _ in range(race.rounds):
        for times, dataset in datasets.items():
            memory = race.ours("extract", dataset=dataset, out="size").peak_memory
            seconds = extraction_seconds(race.folder / "size" / dataset.name)
            measured[times].append((seconds, memory))
    rows = []
    for times in (2, 4):
        pairs = list(zip(measured[1], measured[times], strict=True))
        name = f"extraction of {times} x the photos"
        seconds = [more[0] / (times * once[0]) for once, more in pairs]
        memory = [more[1] / once[1] for once, more in pairs]
        rows.append(ours_only(f"{name}: time over {times} x the time", seconds))
        rows.append(ours_only(f"{name}: peak memory over that of 1 x", memory))
    return rows


def copy_photos(race, times):
    """Make a dataset with each photo of the sample several times. Return its folder."""
    dataset = race.folder / f"times{times}"
    for photo in sorted(race.dataset.rglob("*.jpg")):
        for number in range(times):
            name = photo.relative_to(race.dataset).with_stem(f"{photo.stem}_{number}")
            (dataset / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo, dataset / name)
    return dataset


def measure_memory(race):
    """Peak memory of each step on the sample."""
    tasks = {
        "extract": (),
        "regression": (),
        "fine_tune": ("--warmup", 2, "--unfrozen", 2),
        "predict": (),
    }
    rows = []
    for task, options in tasks.items():
        # Later tasks need what the first one writes.
        used = race.ours(task, *options, out="memory", clear=task == "extract")
        rows.append(
            ours_only(f"peak memory of {task} on the sample (GB)", [used.peak_memory / 1e9])
        )
    return rows


FIGURES = {
    "extract": measure_extraction,
    "csv": measure_csv,
    "schedule": measure_schedule,
    "size": measure_scaling,
    "memory": measure_memory,
    "sample": train_on_sample,
    "large": train_on_large,
    "run_both": train_both,
    "torch": measure_torch,
}


# Results


def compared(figure, plain, ours):
    """Return a figure of both sides: the medians, and the ratio plain / ours of each round.

    `plain` is the plain port or PyTorch.
    """
    ratios = [a / b for a, b in zip(plain, ours, strict=True)]
    return {
        "figure": figure,
        "plain": statistics.median(plain),
        "ours": statistics.median(ours),
        "ratio": [statistics.median(ratios), min(ratios), max(ratios)],
        "rounds": len(ratios),
    }


def ours_only(figure, ours):
    """Return a figure of this project alone: the median, the minimum and the maximum."""
    return {
        "figure": figure,
        "ours": statistics.median(ours),
        "spread": [min(ours), max(ours)],
        "rounds": len(ours),
    }


def measured_on():
    """Return the machine and the package versions of the figures.

    Versions are read without importing TensorFlow: the peak memory of a child process includes
    what its parent has in memory when it starts the child.
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
    lines = [f"{'figure':<{width}}{'theirs':>10}{'ours':>10}   ratio: median (min-max), rounds"]
    for name, row in figures.items():
        plain = f"{row['plain']:.4g}" if "plain" in row else ""
        line = f"{name:<{width}}{plain:>10}{row['ours']:>10.4g}"
        if "ratio" in row:
            median, low, high = row["ratio"]
            line += f"   {median:.1f} ({low:.1f}-{high:.1f}), {row['rounds']}"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    console.run(main)
