"""A real Ray cluster of three nodes on this machine: the same bytes as one process, with a node killed on the way."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from far_tasks import die, double, double_slowly, fail_strangely, write_late_or_fail
from made import BOTH, SMALL, YAML, content, prepare

# Nodes listen on every address, and whoever reaches one can run code there: not without the token. Ray reads it once,
# when it is imported.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}

from base.errors import UserError
from data_prep.executors import ray_cluster
from data_prep.executors.attempt import TaskFailed
from data_prep.executors.places import MARK, Places
from data_prep.executors.ray_cluster import RayCluster

COMMON = ("--object-store-memory=80000000", "--disable-usage-stats", "--include-log-monitor=false", "--block")
START_SECONDS = 90


class Cluster:
    """A head without CPUs and nodes with one each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._start("head", "--head", "--port=0", "--num-cpus=0", "--include-dashboard=false")
        self.address = self._said("head", "--address='", "'")

    def add(self, *names: str) -> None:
        """Start nodes, and wait until they are up."""
        for name in names:
            self._start(name, f"--address={self.address}", "--num-cpus=1")
        for name in names:
            self._said(name, "Ray runtime started", ".")

    def kill(self, name: str) -> None:
        """As when its power fails: every process of the node at once."""
        node = psutil.Process(self.nodes.pop(name).pid)
        processes = [node, *node.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGSTOP)  # so that none notices the end of another
        for process in processes:
            process.kill()
        node.wait()

    def close(self) -> None:
        for name in list(self.nodes):
            self.kill(name)

    def _start(self, name: str, *arguments: str) -> None:
        # A folder for each node: two that start at the same time in one would take each other's sockets.
        command = [str(Path(sys.executable).with_name("ray")), "start", *arguments, *COMMON]
        with open(self.folder / f"{name}.log", "wb") as log:
            self.nodes[name] = subprocess.Popen(
                [*command, f"--temp-dir={self.folder / name}"], stdout=log, stderr=log,
                env=os.environ | {"RAY_DISABLE_IMPORT_WARNING": "1"}, start_new_session=True,
            )  # fmt: skip

    def _said(self, name: str, before: str, after: str) -> str:
        deadline = time.monotonic() + START_SECONDS
        while True:
            log = (self.folder / f"{name}.log").read_text()
            if before in log:
                return log.partition(before)[2].partition(after)[0]
            assert time.monotonic() < deadline and self.nodes[name].poll() is None, log
            time.sleep(0.1)


# The nodes take seconds to start: only for the tests that are marked as slow.
@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="the extra [clusters] is not installed")
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: Ray puts sockets deep in it
    started = Cluster(folder)
    try:
        started.add("one", "two")
        yield started
    finally:
        started.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_tasks_run_on_the_nodes_and_failures_come_back_as_they_are(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    with closing(RayCluster(cluster.address, None, Places.of_new_run([tmp_path], []))) as executor:
        assert executor.workers == 2
        results = dict(executor.map(double_slowly, range(20)))
        assert [results[index][0] for index in range(20)] == [2 * number for number in range(20)]
        assert len({pid for _, pid in results.values()}) == 2
        assert len({pid for _, (_, pid) in executor.map(double, range(10), at_most=1)}) <= 2
        out = tmp_path / "files"
        out.mkdir()
        with pytest.raises(UserError, match="cannot be done"):
            list(executor.map(write_late_or_fail, [out / "fails", *(out / f"{number}" for number in range(20))]))
        written = len(list(out.iterdir()))
        time.sleep(0.7)
        assert len(list(out.iterdir())) == written < 20
        with pytest.raises(TaskFailed, match="NeedsTwo: left right"):
            list(executor.map(fail_strangely, range(5)))
        monkeypatch.setattr(ray_cluster, "RETRIES", 1)  # a new worker takes seconds to start
        with pytest.raises(UserError, match="lost with its worker 2 times"):
            list(executor.map(die, range(1)))
        assert (tmp_path / MARK).exists()
    assert not (tmp_path / MARK).exists()


@pytest.mark.slow
def test_nobody_without_the_token_comes_in(cluster: Cluster) -> None:
    script = f"import ray; ray.init(address='{cluster.address}', logging_level='ERROR'); print(ray.nodes())"
    environment = os.environ | {"RAY_AUTH_TOKEN": "another" * 5}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode != 0 and "NodeID" not in result.stdout, result.stdout


@pytest.mark.slow
def test_a_folder_that_the_nodes_do_not_see_is_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Places, "mark", lambda self: None)  # as it is when each node has a folder of its own there
    with pytest.raises(UserError, match=f"{socket.gethostname()} does not see the files .*{tmp_path}"):
        RayCluster(cluster.address, None, Places.of_new_run([tmp_path], []))


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UserError, match=f"executor.address={address}: no Ray cluster"):
            RayCluster(address, None, Places.of_new_run([tmp_path], []))


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what an import of it finds when it is not installed
    with pytest.raises(UserError, match=r"pip install 'biomedlm-recipe\[clusters\]'"):
        prepare("sample", tmp_path, "executor.name=ray")


def test_a_worker_ends_itself_when_another_run_has_begun(tmp_path: Path) -> None:
    places = Places.of_new_run([tmp_path], [])
    places.mark()
    program = (
        "import time; from data_prep.executors.places import Places;"
        "from data_prep.executors.ray_cluster import Setting, _make_ready;"
        f"_make_ready(Setting({places!r}, {{}}, ())); print('ready', flush=True); time.sleep(30)"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    Places.of_new_run([tmp_path], []).mark()  # returns when such workers have had the time to end
    assert worker.wait(timeout=1) == 1
    worker.stdout.close()


def launch(cluster: Cluster, out: Path) -> "subprocess.Popen[str]":
    command = [
        sys.executable, "-m", "data_prep", YAML, "pubmed=sample", f"out={out}", *SMALL, *BOTH, "sample.files=12",
        "executor.name=ray", f"executor.address={cluster.address}", "executor.workers=null",
    ]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_bytes_are_those_of_one_process_with_a_node_and_the_command_killed_on_the_way(
    cluster: Cluster, tmp_path: Path
) -> None:
    prepare("sample", tmp_path / "one", *BOTH, "sample.files=12")
    out = tmp_path / "ray"
    run = launch(cluster, out)
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("parse …"):
            parsed = out / "work" / "parsed"
            while len(list(parsed.rglob("*.json"))) < 3:
                assert run.poll() is None
                time.sleep(0.01)
            cluster.kill("two")
        if line.startswith("shards …"):
            run.kill()
    run.wait()
    run = launch(cluster, out)
    messages = run.communicate(timeout=120)[1]
    assert run.returncode == 0 and "tokenizer: done before" in messages, messages
    assert content(out) == content(tmp_path / "one")
