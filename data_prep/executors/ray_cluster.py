"""A Ray cluster that is there already. The command runs on one of its nodes, its tasks on all of them.

The project must be installed on all nodes, or lie at the same path on all of them with the command started in it: Ray
lets its workers import from the folder where the command was started. The work folder, OUT and the input must be at
the same paths too. Credentials are not handed on: each node must have its own (a role, or a profile in a shared home).
The endpoint of the object storage is.
"""

import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from base.errors import UserError
from data_prep.executors.attempt import Outcome, attempt
from data_prep.executors.local import prepare_for_tasks
from data_prep.executors.places import Places

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # tasks given out for each CPU
RETRIES = 5  # of a task whose worker or node was lost; one that raises is not tried again
CONNECT_SECONDS = 5.0
CHECK_SECONDS = 90.0  # for all nodes to answer whether they see the folders; a first worker takes seconds to start
COUNT_SECONDS = 10.0  # between two counts of the cluster's CPUs
LOOK_SECONDS = 1.0  # a worker looks so often whether its run has been replaced
HANDED_ON = ("S3_ENDPOINT_URL",)


class RayCluster:
    """The CPUs of a Ray cluster, one task on each.

    Args:
        address: ``host:port`` of the cluster's head, ``auto`` for the cluster to which this machine belongs; None for
            ``RAY_ADDRESS``, or auto without it.
        workers: at most so many tasks at a time; None for as many as the cluster has CPUs, while it grows and shrinks.
        places: what all nodes must see; marked by this class.

    Raises:
        UserError: Ray is not installed; the cluster cannot be reached; a node does not see one of the places.
    """

    def __init__(self, address: str | None, workers: int | None, places: Places):
        self._ray = _import_ray()
        self._workers = workers
        self._places = places
        environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
        self._setting = Setting(
            places, environment, tuple(path for path in sys.path if not path.startswith(sys.prefix))
        )
        _connect(self._ray, address or os.environ.get("RAY_ADDRESS") or "auto")
        try:
            places.mark()
            self._check_nodes()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """Tasks that can run at this moment."""
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        return min(cpus, self._workers or cpus)

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], at_most: int | None = None
    ) -> Iterator[tuple[int, R]]:
        """See :class:`data_prep.executors.executor.Executor`."""
        remote = self._ray.remote(num_cpus=1, max_retries=RETRIES)(attempt_on_node)
        limits = [limit for limit in (self._workers, at_most) if limit is not None]
        running: dict[Any, int] = {}
        left = iter(enumerate(tasks))
        count_again = 0.0
        try:
            while True:
                if time.monotonic() >= count_again:  # a cluster may have grown
                    window = min([max(1, AHEAD * self.workers), *limits])
                    count_again = time.monotonic() + COUNT_SECONDS
                while len(running) < window and (following := next(left, None)) is not None:
                    what = pickle.dumps((function, following[1]))
                    running[remote.remote(self._setting, what)] = following[0]
                if not running:
                    return
                ended, _ = self._ray.wait(list(running), num_returns=1, timeout=COUNT_SECONDS)
                for reference in ended:
                    yield running.pop(reference), self._outcome(reference).get()
        finally:
            for reference in running:
                self._ray.cancel(reference)
            if running:
                self._ray.wait(list(running), num_returns=len(running))

    def _outcome(self, reference: Any) -> Outcome[Any]:
        errors = self._ray.exceptions
        try:
            return self._get(reference)
        except (*_lost(errors), errors.OutOfMemoryError, errors.ObjectLostError) as error:
            raise UserError(
                f"a task was lost with its worker {RETRIES + 1} times, most often for want of memory; give the nodes "
                f"fewer CPUs (ray start --num-cpus) and run the same command again. Ray says: {_first_line(error)}"
            ) from None

    def _get(self, reference: Any) -> Outcome[Any]:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # attempt_on_node cannot be imported there
            raise UserError(
                f"a node of the Ray cluster cannot run the project's code: {_last_line(error)}; "
                "the project and what it needs must be installed alike on all nodes"
            ) from error

    def _check_nodes(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if not nodes:
            raise UserError("no node of the Ray cluster has a CPU; start some with: ray start --address=… --num-cpus=…")
        look = self._ray.remote(num_cpus=0, max_retries=0)(attempt_on_node)
        waiting = {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                self._setting, pickle.dumps((_nothing, None))
            ): node["NodeManagerHostname"]
            for node in nodes
        }
        ended, late = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=CHECK_SECONDS)
        if late:
            names = ", ".join(sorted(waiting[reference] for reference in late))
            raise UserError(f"no answer from nodes of the Ray cluster in {CHECK_SECONDS:.0f} s: {names}")
        for reference in ended:
            try:
                self._get(reference).get()
            except _lost(self._ray.exceptions):
                continue  # the node has gone meanwhile

    def close(self) -> None:
        """Leave the cluster, which goes on."""
        self._ray.shutdown()
        self._places.unmark()


@dataclass(frozen=True)
class Setting:
    """What a worker on a node needs to stand where the command stands."""

    places: Places
    environment: dict[str, str]
    paths: tuple[str, ...]  # where Python looks for modules, besides what is installed


def attempt_on_node(setting: Setting, what: bytes) -> Outcome[Any]:
    """Do a task in a worker on a node. ``what``: function and task, pickled."""
    return attempt(_do, (setting, what), f"a Ray worker on {socket.gethostname()}")


def _do(given: tuple[Setting, bytes]) -> Any:
    setting, what = given
    _make_ready(setting)
    function, task = pickle.loads(what)  # noqa: S301 (from the user's own command, as all that Ray runs)
    return function(task)


_ready_for: Setting | None = None  # this worker process


def _make_ready(setting: Setting) -> None:
    """The first task in a worker makes sure that it can do them all."""
    global _ready_for
    if _ready_for == setting:
        return
    setting.places.require_seen()
    os.chdir(setting.places.here)
    os.environ.update(setting.environment)
    sys.path += [path for path in setting.paths if path not in sys.path]
    prepare_for_tasks()
    threading.Thread(target=_end_when_replaced, args=(setting.places,), daemon=True).start()
    _ready_for = setting


def _end_when_replaced(places: Places) -> None:
    """Ray ends the workers of a command that was killed, but late; on a node that is cut off it cannot."""
    while not places.replaced():
        time.sleep(LOOK_SECONDS)
    os._exit(1)


def _nothing(_: None) -> None:
    """The task of a look at a node."""


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UserError(
            "executor.name=ray needs Ray, of the version that the cluster has: "
            "pip install 'biomedlm-recipe[clusters]' (or, in the project's folder, pip install '.[clusters]')"
        ) from None
    return ray


def _connect(ray: Any, address: str) -> None:
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()  # Ray itself tries for 80 s
        except (OSError, ValueError) as error:
            raise UserError(
                f"executor.address={address}: no Ray cluster can be reached there: {error}; "
                "it must be host:port of the head node, as ray start --head says it"
            ) from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"executor.address={address}: cannot join this Ray cluster: {_first_line(error)}; "
            "the command must run on one of the cluster's nodes, with the same versions of Ray and Python"
        ) from None


def _lost(errors: Any) -> tuple[type[Exception], ...]:
    """What Ray raises when a worker or its node has gone."""
    return errors.WorkerCrashedError, errors.NodeDiedError, errors.TaskUnschedulableError


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _last_line(error: BaseException) -> str:
    return str(error).strip().rpartition("\n")[2]
