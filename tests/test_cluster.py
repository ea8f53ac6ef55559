"""Tasks on a Ray cluster: results in order, each once, also if workers and machines are lost.

Most tests of frozen outputs on a cluster are in test_frozen.py, without Ray. Those with Ray are
slow, because it takes half a minute to start two machines.
"""

import ast
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, SPLIT_NAMES, assert_one_error, read, user_error

from pyimagesearch import config
from pyimagesearch.support import cluster

TASKS = [(number, 10 * number) for number in range(12)]


def test_ray_is_imported_in_functions_of_one_module_only():
    """A learner with one machine neither installs it nor waits for it."""
    for path in ROOT.glob("pyimagesearch/**/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [
            alias.name
            for node in (ast.walk(tree) if path.stem != "cluster" else tree.body)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        ]
        assert not [name for name in names if name.split(".")[0] in ("ray", "pyarrow")], path


@pytest.mark.parametrize(
    ("machines", "expected"),
    [
        # (how many workers, the cores of each, the GPUs of each)
        ([{"CPU": 8.0}, {"CPU": 8.0}], (2, 8, 0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}, {"CPU": 9.0}], (5, 4, 0)),
        ([{"CPU": 64.0}], (4, 16, 0)),
        ([{"CPU": 1.0}, {}], (1, 1, 0)),  # the second one only starts the scripts
        ([{"CPU": 64.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 1.0}], (3, 1, 1)),
    ],
)
def test_every_machine_has_a_worker_for_its_cores_or_every_gpu_has_one(machines, expected):
    assert cluster.plan_workers(machines) == expected


def test_cluster_without_cores_is_an_error():
    assert "offers a core" in user_error(cluster.plan_workers, [{"memory": 1e9}])


# Losses, played by a stand-in of Ray


class Lost(Exception):
    """Stands for ray.exceptions.RayError."""


class Bug(Lost):
    """Stands for ray.exceptions.RayTaskError."""


@pytest.fixture
def jobs(monkeypatch):
    """Let each Ray job do what the next item of a list says; return the list.

    An item is the number of results before the exception that follows it, such as (3, Lost("")).
    The tasks at which the jobs began are in `began`.
    """
    planned, began = [], []

    @contextmanager
    def connection(address):
        yield SimpleNamespace(exceptions=SimpleNamespace(RayError=Lost, RayTaskError=Bug))

    def results(make_worker, arguments, tasks):
        began.append(tasks[0])
        count, failure = planned.pop(0) if planned else (len(tasks), None)
        for task in tasks[:count]:
            yield repr(task).encode(), "", "a note"
        if failure:
            raise failure

    monkeypatch.setattr(cluster, "connection", connection)
    monkeypatch.setattr(cluster, "results", results)
    return SimpleNamespace(planned=planned, began=began)


def in_order(tasks=TASKS):
    return [bytes(data) for data in cluster.map_in_order("auto", None, (), tasks)]


EXPECTED = [repr(task).encode() for task in TASKS]


def test_work_goes_on_at_the_first_task_without_a_result_after_a_loss(jobs, capsys):
    jobs.planned[:] = [(5, Lost("it is dead. More text")), (0, Lost("again")), (4, Lost("again"))]
    assert in_order() == EXPECTED
    assert jobs.began == [TASKS[0], TASKS[5], TASKS[5], TASKS[9]]
    messages = capsys.readouterr().err.splitlines()
    assert messages.count("[WARN] a note") == 1
    (first, *_) = [line for line in messages if "lost a worker" in line]
    assert first == (
        "[WARN] the cluster lost a worker (it is dead); the machines that are left continue"
    )


def test_three_losses_without_a_result_in_between_are_an_error(jobs):
    jobs.planned[:] = [(1, Lost("a")), (0, Lost("b")), (0, Lost("out of memory. More"))]
    message = user_error(in_order)
    assert "lost a worker 3 times without a result (out of memory)" in message
    jobs.planned[:] = [(1, Lost(""))] * len(TASKS)
    assert in_order() == EXPECTED


def test_bug_of_a_worker_keeps_its_traceback(jobs):
    jobs.planned[:] = [(1, Bug("NameError"))]
    with pytest.raises(Bug):
        in_order()


def test_machine_without_the_project_is_reported_at_once(jobs):
    jobs.planned[:] = [(0, Lost("ModuleNotFoundError: No module named 'pyimagesearch'"))]
    message = user_error(in_order)
    assert f"cannot see {cluster.ROOT}. Every machine of the cluster needs" in message


def test_without_tasks_there_is_no_connection(monkeypatch):
    monkeypatch.setattr(cluster, "connection", None)
    assert in_order([]) == []


def test_missing_package_is_an_error_with_the_command(monkeypatch):
    monkeypatch.setattr(cluster.console.importlib.util, "find_spec", lambda name: None)
    message = user_error(in_order)
    assert "CLUSTER needs the package ray, which is not installed" in message
    assert message.endswith("pip install -r requirements-cluster.txt")


# With Ray


@pytest.fixture(scope="module")
def machines():
    """Return a Ray cluster of two machines with one core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    # The processes of workers cannot import this file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    ray_cluster.add_node(num_cpus=1)
    yield ray_cluster
    ray_cluster.shutdown()


def make_slow_worker(cores, folder):
    """Return (a worker that writes its process and machine into a file per task, a note)."""
    import ray

    machine = ray.get_runtime_context().get_node_id()

    def compute(number, size):
        files = Path(folder, f"{number}.{os.getpid()}")
        files.write_text(machine)
        # The first task is slow: those after it have to wait for it.
        time.sleep(2 if number == 0 else 0.2)
        return bytes([number]) * size

    return compute, ""


def processes(folder):
    """Return {number of a task: processes that have begun it}."""
    found = {}
    for path in Path(folder).iterdir():
        number, process = path.name.split(".")
        found.setdefault(int(number), []).append(int(process))
    return found


def run_tasks(machines, folder, sizes, after=None):
    """Return the sizes of the results of tasks; call `after(number)` after each result."""
    folder.mkdir()
    found, tasks = [], list(enumerate(sizes))
    worker = make_slow_worker
    for number, data in enumerate(
        cluster.map_in_order(machines.address, worker, (str(folder.resolve()),), tasks)
    ):
        assert set(bytes(data)) <= {number}
        found.append(len(data))
        if after is not None:
            after(number)
    return found


@pytest.mark.soak
def test_two_machines_give_results_in_order_each_once(machines):
    sizes = [0, 3, 1, *range(40)]
    assert run_tasks(machines, Path("tasks"), sizes) == sizes
    began = processes("tasks")
    assert {len(each) for each in began.values()} == {1}
    assert len({process for (process,) in began.values()}) == 2
    assert len({path.read_text() for path in Path("tasks").iterdir()}) == 2


@pytest.mark.soak
def test_killed_worker_loses_nothing(machines, capsys):
    def kill(number):
        if number == 8:
            os.kill(processes("tasks")[8][0], signal.SIGKILL)

    sizes = [7] * 40
    assert run_tasks(machines, Path("tasks"), sizes, kill) == sizes
    assert "[WARN] the cluster lost a worker" in capsys.readouterr().err
    # The results that had arrived are not computed again.
    assert {len(processes("tasks")[number]) for number in range(9)} == {1}


@pytest.mark.soak
def test_workers_wait_for_a_slow_reader(machines, monkeypatch):
    monkeypatch.setattr(cluster, "WAITING_BYTES", 10_000_000)
    ahead = []

    def wait(number):
        time.sleep(0.5)
        ahead.append(max(processes("tasks")) - number)

    sizes = [2_000_000] * 40
    assert run_tasks(machines, Path("tasks"), sizes, wait) == sizes
    # Two workers have 20 MB, and each computes one more.
    assert max(ahead) <= 14


def extract(script, folder, address, monkeypatch):
    """Run extract_features.py; return (status, messages, {name: bytes of the CSV})."""
    monkeypatch.setattr(config, "OUTPUT_DIR", Path(folder))
    monkeypatch.setattr(config, "CLUSTER", address)
    status, _, messages = script("extract_features")
    found = Path(folder, "tiny", "features").glob("*.csv")
    return status, messages, {path.name: path.read_bytes() for path in found}


@pytest.mark.soak
def test_features_from_a_cluster_are_the_same_bytes(machines, built, script, monkeypatch):
    _, _, expected = extract(script, "here", None, monkeypatch)
    assert len(expected) == len(SPLIT_NAMES)
    status, messages, found = extract(script, "there", machines.address, monkeypatch)
    assert status == 0, messages
    assert found == expected
    assert "WARN" not in messages


@pytest.mark.soak
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_fine_tuning_with_a_cluster_has_the_same_history(
    machines, built, script, monkeypatch, precision
):
    monkeypatch.setattr(config, "PRECISION", precision)
    histories = []
    for folder, address in (("here", None), ("there", machines.address)):
        monkeypatch.setattr(config, "OUTPUT_DIR", Path(folder))
        monkeypatch.setattr(config, "CLUSTER", address)
        status, _, messages = script("train")
        assert status == 0, messages
        metrics = read(f"{folder}/tiny/fine_tune/metrics.json")
        rows = Path(folder, "tiny/fine_tune/history.csv").read_text().splitlines()
        histories.append((metrics["accuracy"], [row.rsplit(",", 1)[0] for row in rows]))
    assert histories[0] == histories[1]


@pytest.mark.soak
def test_photo_that_a_worker_cannot_read_is_named(machines, built, script, monkeypatch):
    photo = Path("dataset/tiny/training/apple/2_0.jpg")
    photo.write_bytes(b"no photo")
    status, messages, _ = extract(script, "there", machines.address, monkeypatch)
    assert status == 2
    assert_one_error(messages, f"{photo} cannot be read", "put it back or delete it")


@pytest.mark.soak
def test_machine_that_does_not_find_the_project_is_one_error(
    machines, built, script, monkeypatch, tmp_path
):
    # Ray also looks in the current folder and in that of the script.
    monkeypatch.setattr(cluster, "ROOT", tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "script.py")])
    status, messages, _ = extract(script, "there", machines.address, monkeypatch)
    assert status == 2
    assert_one_error(messages, f"cannot see {tmp_path / 'elsewhere'}", "on a shared disk")


@pytest.mark.soak
def test_no_cluster_is_one_error(built, script, monkeypatch):
    status, messages, _ = extract(script, "there", "127.0.0.1:9", monkeypatch)
    assert status == 2
    assert_one_error(messages, "CLUSTER in pyimagesearch/config.py is '127.0.0.1:9'", "ray start")


# A script that takes its time on a cluster: each batch waits.
SLOW_EXTRACTION = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from conftest import put_thin_vgg16, tiny_recipe
from pyimagesearch import config
from pyimagesearch.support import console
config.RECIPES, config.RECIPE = {{"tiny": tiny_recipe(batch_size=1)}}, "tiny"
config.PRECISION, config.WEIGHTS, config.CLUSTER = "float32", {weights!r}, {address!r}
put_thin_vgg16()
import extract_features
console.run(lambda: extract_features.main([]))
"""


@pytest.mark.soak
def test_killed_script_resumes_with_what_was_finished(
    machines, built, tiny, script, monkeypatch, random_weights
):
    tiny(batch_size=1)
    _, _, expected = extract(script, "here", None, monkeypatch)
    code = SLOW_EXTRACTION.format(
        root=str(ROOT),
        tests=str(ROOT / "tests"),
        weights=str(random_weights),
        address=machines.address,
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    outputs = Path("output/tiny/features/outputs")
    while not (partial := next(outputs.glob("training*.partial"), None)) or (
        partial.stat().st_size < 1000
    ):
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    status, messages, found = extract(script, "output", machines.address, monkeypatch)
    assert status == 0, messages
    assert found == expected


@pytest.mark.soak
def test_machine_that_is_lost_loses_nothing(machines, capsys):
    """The last test: one machine is left."""
    (second,) = [node for node in machines.list_all_nodes() if not node.head]

    def remove(number):
        if number == 8:
            machines.remove_node(second, allow_graceful=False)

    sizes = [7] * 40
    assert run_tasks(machines, Path("tasks"), sizes, remove) == sizes
    assert "[WARN] the cluster lost a worker" in capsys.readouterr().err
