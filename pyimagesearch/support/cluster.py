"""Tasks for the machines of a Ray cluster: Ray Data computes them, and gives the results in order.

Ray is an optional package. It is imported when the first task is computed.
"""

import logging
import warnings
from contextlib import contextmanager
from pathlib import Path

from pyimagesearch.support import console, files
from pyimagesearch.support.errors import UserError

# Workers import the project from here: every machine has it under this path.
ROOT = Path(__file__).resolve().parent.parent.parent
# The most cores of a worker. The network computes 16 photos at once, so each core has one.
WORKER_CORES = 16
# How many bytes of results may wait for the driver, for each worker.
WAITING_BYTES = 256_000_000
MOST_LOSSES = 3  # of workers, without a result in between
SHARED_FOLDERS = (
    "Every machine of the cluster needs this project, DATASET_DIR and OUTPUT_DIR on a shared disk, "
    "under the same paths"
)


def map_in_order(address, make_worker, arguments, tasks):
    """Yield the bytes that workers return for tasks, in the order of the tasks.

    Results that have been yielded are not computed again. If a worker or a machine is lost, the
    others start anew at the first task without a result. A worker's note is printed once.

    Args:
        address: of a Ray cluster; "auto": the one that this machine belongs to.
        make_worker: a function (cores, *arguments) -> (worker, note). It is called in a process on
            each machine, or for each GPU if the cluster has some; there `cores` is None. The worker
            is a function (*task) -> bytes, and the note is a text, or "".
        tasks: a list of tuples of ints.

    Raises UserError: there is no cluster, the workers get lost again and again, or one of them
    raised UserError or OSError.
    """
    finished, losses, notes = 0, 0, {""}
    if tasks:
        console.require_package("ray", "CLUSTER", "requirements-cluster.txt")
    while finished < len(tasks):
        with connection(address) as ray:
            try:
                for data, error, note in results(make_worker, arguments, tasks[finished:]):
                    if error:
                        raise UserError(error)
                    if note not in notes:
                        console.warn(note)
                        notes.add(note)
                    yield data
                    finished, losses = finished + 1, 0
            except ray.exceptions.RayTaskError:
                raise  # a bug
            except ray.exceptions.RayError as failure:
                losses += 1
                report_loss(failure, losses)


@contextmanager
def connection(address):
    """Connect to a Ray cluster while the block runs; give the module ray."""
    import ray

    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            job_config=ray.job_config.JobConfig(_py_driver_sys_path=[str(ROOT)]),
        )
    except (ConnectionError, RuntimeError, ValueError) as failure:
        raise UserError(
            f"CLUSTER in {console.CONFIG} is {address!r}, and there is no Ray cluster "
            f"({files.first_sentence(failure)}). Start one with: ray start --head"
        ) from failure
    try:
        yield ray
    finally:
        # Also ends the workers. After an error, Ray Data leaves some of them running.
        ray.shutdown()


def results(make_worker, arguments, tasks):
    """Yield (data, error, note) for each task, in order, from the workers of one Ray Data job."""
    import ray.data

    count, cores, gpus = plan_workers(node["Resources"] for node in ray.nodes() if node["Alive"])
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    # Otherwise workers would run ahead of a slow one until half of the cluster's memory is full.
    limits = ray.data.ExecutionResources.for_limits(object_store_memory=count * WAITING_BYTES)
    context.execution_options.resource_limits = limits
    # The tasks are in Ray's memory from the start. Reading them from a source would take a core,
    # and the workers may have taken all.
    data = ray.data.from_items(
        [{"task": list(task)} for task in tasks], override_num_blocks=len(tasks)
    )
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        # Ray 2.60 announces another form of `max_restarts`, and does not have it yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = data.map_batches(
            Actor,
            fn_constructor_args=(make_worker, None if gpus else cores, arguments),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=cores,
            num_gpus=gpus,
            # Otherwise Ray waits for a free place for the worker of a lost machine, and there may
            # be none.
            max_restarts=0,
        )
    options = {"batch_size": None, "batch_format": "pyarrow", "prefetch_batches": 0}
    for table in data.iter_batches(**options):
        for row, task in enumerate(table["data"]):
            yield task.as_buffer(), table["error"][row].as_py(), table["note"][row].as_py()


def plan_workers(machines):
    """Return (how many workers there are, the cores of each, the GPUs of each).

    `machines` are dicts with the "CPU" and "GPU" of each machine. All workers get the same number
    of cores, that of the smallest machine or WORKER_CORES. If there are GPUs, each has a worker,
    and machines without one have none: their outputs would differ in the last bits.
    """
    machines = list(machines)
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if gpus:
        return gpus, 1, 1
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    cores = [count for count in cores if count]
    if not cores:
        raise UserError("no machine of the Ray cluster offers a core. Start one with: ray start")
    each = min(*cores, WORKER_CORES)
    return sum(count // each for count in cores), each, 0


class Actor:
    """What Ray Data runs in each process: it makes a worker, and returns errors as results.

    An exception would end the job, as a lost machine does.
    """

    def __init__(self, make_worker, cores, arguments):
        self.compute, self.error, self.note = None, "", ""
        try:
            self.compute, self.note = make_worker(cores, *arguments)
        except (UserError, OSError) as failure:
            self.error = console.describe(failure)

    def __call__(self, batch):
        """Return a table of one row for a batch of one task."""
        import pyarrow

        data, error = b"", self.error
        if not error:
            try:
                data = self.compute(*map(int, batch["task"][0]))
            except (UserError, OSError) as failure:
                error = console.describe(failure)
        columns = {
            "data": pyarrow.array([data], pyarrow.large_binary()),
            "error": pyarrow.array([error]),
            "note": pyarrow.array([self.note]),
        }
        return pyarrow.table(columns)


def report_loss(failure, losses):
    """Print that a worker was lost; raise UserError if the work cannot go on.

    `losses` is how many were lost since the last result.
    """
    if f"No module named {__name__.partition('.')[0]!r}" in str(failure):
        message = f"a machine of the cluster cannot see {ROOT}. {SHARED_FOLDERS}"
        raise UserError(message) from failure
    reason = files.first_sentence(failure)
    if losses == MOST_LOSSES:
        raise UserError(
            f"the cluster lost a worker {losses} times without a result ({reason}). The logs are "
            f"in /tmp/ray on each machine. Run the same command again to resume"
        ) from failure
    console.warn(f"the cluster lost a worker ({reason}); the machines that are left continue")
