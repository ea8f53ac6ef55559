"""Frozen outputs on a Ray cluster: time and memory for more photos and more machines.

    python benchmarks/scale.py
    python benchmarks/scale.py --times 1 4 --machines 1 --rounds 3

Build the dataset of the recipe `sample` first. Its photos are read from the disk so many times, and
their features computed and stored, by this computer without Ray and by Ray clusters that it plays:
its cores are divided among the machines. So two machines are not faster than one here; the figures
show what Ray costs. Every run is a process of its own, and the ways take turns.

A table for a million photos on real machines is calculated from these figures and from a network of
10 Gbit/s. It was not measured.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch import config, datasets
from pyimagesearch.support import console, files, machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "scale.json"
PAUSE_SECONDS = 0.1  # between two looks at the memory
NETWORK_BYTES = 1.25e9  # per second: 10 Gbit/s
PHOTOS, MACHINES = 1_000_000, (1, 8, 64)  # of the table
WRITTEN_BYTES = 512_000_000  # for the speed of the disk


def main():
    arguments = read_arguments()
    if arguments.run is not None:
        console.show(json.dumps(measure(arguments.photos, *arguments.run)))
        return
    _, splits = datasets.open_dataset(config.DATASET_DIR, config.RECIPES["sample"], config.SPLITS)
    count = arguments.photos or len(splits.training)
    results = {"machine": machine.description(), "photos": count, "runs": []}
    for _ in range(arguments.rounds):
        for machines in (0, *arguments.machines):
            with played_cluster(machines) as address:
                for times in arguments.times:
                    result = run(count, times, address)
                    results["runs"].append({"machines": machines, "times": times, **result})
                    console.info(f"{machines} machines, {times} x: {result}")
    results["photo_bytes"] = statistics.mean(path.stat().st_size for path in splits.training.paths)
    results["disk_bytes_per_second"] = write_speed()
    files.write_json(RESULTS, results)
    console.show(measured_table(results))
    console.show(calculated_table(results))


def read_arguments():
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    number = console.whole_number(1)
    add = parser.add_argument
    add("--times", nargs="+", type=number, default=(1, 4, 16), help="how often each photo is read")
    add("--machines", nargs="+", type=number, default=(1, 2), help="of the played clusters")
    add("--photos", type=number, help="how many of the sample's training photos (default: all)")
    add("--rounds", type=number, default=1, help="of all runs")
    add("--run", nargs=2, help=argparse.SUPPRESS)  # what a process measures: times, address
    return parser.parse_args()


@contextmanager
def played_cluster(machines):
    """Start a Ray cluster on this computer while the block runs; give its address, or "none"."""
    if not machines:
        yield "none"
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    options = {"num_cpus": max(1, os.cpu_count() // machines), "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        for _ in range(machines - 1):
            cluster.add_node(**options)
        yield cluster.address
    finally:
        cluster.shutdown()


def run(count, times, address):
    """Return what `measure` returns, measured in a process of its own."""
    command = [sys.executable, __file__, "--photos", str(count), "--run", str(times), address]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return json.loads(result.stdout)


def measure(count, times, address):
    """Return the seconds, and the most memory of this process, for computing features.

    The memory of the workers and Ray's shared memory are not in it.
    """
    console.import_tensorflow()
    from pyimagesearch import frozen, networks

    recipe, splits = datasets.open_dataset(
        config.DATASET_DIR, config.RECIPES["sample"], config.SPLITS
    )
    photos = splits.training.take([*range(count)] * int(times))
    splits = splits._replace(training=photos)
    networks.set_precision(config.PRECISION)
    extractor = networks.build_feature_extractor(recipe, config.WEIGHTS)
    outputs = (frozen.feature_output("training", extractor),)
    address = None if address == "none" else address
    with tempfile.TemporaryDirectory(dir=config.OUTPUT_DIR) as folder, peak_memory() as peak:
        stopwatch = console.Stopwatch()
        inputs = (extractor, recipe, splits, config.SEED, folder)
        frozen.compute(outputs, *inputs, address=address)
        seconds = stopwatch.seconds
    return {"seconds": round(seconds, 2), "memory": max(peak)}


@contextmanager
def peak_memory():
    """Give a list to which the bytes of this process's own memory are added, again and again."""
    seen, is_over = [own_memory()], threading.Event()

    def look():
        while not is_over.wait(PAUSE_SECONDS):
            seen.append(own_memory())

    thread = threading.Thread(target=look)
    thread.start()
    yield seen
    is_over.set()
    thread.join()


def own_memory():
    """Return the bytes of memory of this process that it shares with no other, on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return int(kilobytes) * 1024


def write_speed():
    """Return the bytes per second that this disk writes, batch by batch as an ArrayFile."""
    block = os.urandom(32_000_000)
    with tempfile.TemporaryFile(dir=config.OUTPUT_DIR) as file:
        began = time.perf_counter()
        for _ in range(WRITTEN_BYTES // len(block)):
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return WRITTEN_BYTES / (time.perf_counter() - began)


def medians(results, name):
    """Return {(machines, times): the median of a figure}."""
    values = {}
    for each in results["runs"]:
        values.setdefault((each["machines"], each["times"]), []).append(each[name])
    return {key: statistics.median(numbers) for key, numbers in values.items()}


def seconds_per_photo(results):
    """Return {machines: (seconds per photo, seconds of the start)}.

    A line through the smallest and the largest size. With one size, the start is not known: 0.
    """
    seconds, found = medians(results, "seconds"), {}
    for machines in sorted({machines for machines, _ in seconds}):
        sizes = sorted(times for each, times in seconds if each == machines)
        few, many = (sizes[0] if len(sizes) > 1 else 0), sizes[-1]
        start = seconds.get((machines, few), 0)
        slope = (seconds[machines, many] - start) / ((many - few) * results["photos"])
        found[machines] = slope, start - slope * few * results["photos"]
    return found


def measured_table(results):
    """Return the table of what was measured, in Markdown."""
    seconds, memory = medians(results, "seconds"), medians(results, "memory")
    per_photo = seconds_per_photo(results)
    lines = [
        f"Measured on {results['machine']}:",
        "| machines | photos | seconds | memory of the driver | a photo more | against no Ray |",
        "|---|---|---|---|---|---|",
    ]
    for machines, times in sorted(seconds):
        slope, _ = per_photo[machines]
        lines.append(
            f"| {machines or 'no Ray'} | {times * results['photos']:,} "
            f"| {seconds[machines, times]:.0f} | {memory[machines, times] / 1e6:,.0f} MB "
            f"| {1000 * slope:.1f} ms | {slope / per_photo[0][0] - 1:+.1%} |"
        )
    return "\n".join(lines)


def calculated_table(results):
    """Return the table for a million photos on machines like this one, in Markdown."""
    slope, start = seconds_per_photo(results)[1]
    row_bytes = 25_088 * 4
    disk = PHOTOS * row_bytes / results["disk_bytes_per_second"]
    network = PHOTOS * (row_bytes + results["photo_bytes"]) / NETWORK_BYTES
    slowest = max(disk, network)
    lines = [
        f"Calculated for {PHOTOS:,} photos, not measured:",
        "| machines | computing | disk | network | all |",
        "|---|---|---|---|---|",
    ]
    for machines in MACHINES:
        computing = slope * PHOTOS / machines
        times = (computing, disk, network, max(computing, slowest) + start)
        row = [console.duration(seconds) for seconds in times]
        lines.append(f"| {machines} | {' | '.join(row)} |")
    return "\n".join([*lines, f"More than {slope * PHOTOS / slowest:.0f} machines are not faster."])


if __name__ == "__main__":
    console.run(main)
