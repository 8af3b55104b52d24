"""The job script in a real Slurm: two nodes of one machine, where its programs are installed.

``apt-get install slurmctld slurmd slurm-client munge`` on Debian; they are started here, as root, in a folder of the
test, and need no configuration of the machine.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ["unshare", "munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel"]
# Two nodes that open Streaming's shared memory at the same moment would take the same names there.
OWN_SHARED_MEMORY = ["unshare", "--mount", "bash", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "node"]
PATH = f"{os.environ['PATH']}:/usr/sbin"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(shutil.which(name, path=PATH) for name in PROGRAMS),
        reason="Slurm's programs and root are needed",
    ),
]

# The name of the first is the address of node 0, so it is the machine's own; names are sorted.
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=500
NodeName={host}-2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=500
PartitionName=all Nodes={host},{host}-2 Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands find the cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=host, ports=free_ports(3)))
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log",
             "seed-file": "munge.seed"}  # fmt: skip
    munge = ["munged", "--foreground", "--force", *(f"--{option}={folder / file}" for option, file in files.items())]
    commands = [
        munge,
        ["slurmctld", "-D"],
        *([*OWN_SHARED_MEMORY, "slurmd", "-D", "-N", name] for name in (host, f"{host}-2")),
    ]
    daemons = []
    try:
        for command in commands:
            log = (folder / f"{len(daemons)}.out").open("w")
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
            if command is munge:
                wait_for(lambda: (folder / "munge.socket").exists(), 20)
        wait_for(lambda: told(environment, "sinfo", "--noheader", "--format=%T %D") == "idle 2", 60)
        yield environment
    finally:
        told(environment, "scancel", "--user=root")
        wait_for(lambda: told(environment, "squeue", "--noheader") == "", 60)  # nothing of a job outlives the test
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def told(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()


def wait_for(what, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


@dataclass
class Job:
    """A job of two nodes of one rank each, submitted, with its output in one file."""

    slurm: dict[str, str]
    log: Path
    number: str

    def told(self, field: str) -> str:
        return told(self.slurm, "squeue", "--noheader", "--states=all", f"--jobs={self.number}", f"--Format={field}")

    def wait_until(self, what: Callable[[], bool], seconds: float) -> None:
        try:
            wait_for(what, seconds)
        except AssertionError:
            raise AssertionError(f"{self.told('State')}\n{self.output()}") from None

    def wait_for_its_end(self, seconds: float) -> str:
        """Returns its state."""
        self.wait_until(lambda: self.told("State") in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), seconds)
        return self.told("State")

    def cancel(self, *options: str) -> None:
        subprocess.run(["scancel", *options, self.number], env=self.slurm, check=True)

    def limit_is_near(self) -> None:
        """The signal that Slurm sends then."""
        self.cancel("--batch", "--signal=USR1")

    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else "no log"


@pytest.fixture
def submit(slurm):
    def submit(run, *launch: str, training: tuple[str, ...] = ()) -> Job:
        script = run.folder / "job.sbatch"
        command = [
            sys.executable, "-m", "recipes.launch", "slurm", str(run.folder / "run.yaml"), "nodes=2",
            "ranks_per_node=1", "device=cpu", f"project={ROOT}", "hours=0.2", "activate=null", *launch,
            "--out", str(script), "--", *training,
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True)
        path = f"{Path(sys.executable).parent}:{slurm['PATH']}"
        submitted = subprocess.run(
            ["sbatch", "--parsable", script], env=slurm | {"PATH": path}, cwd=run.folder, capture_output=True, text=True
        )
        assert submitted.returncode == 0, submitted.stderr
        number = submitted.stdout.strip()
        return Job(slurm, run.folder / f"{run.folder.name}-{number}.log", number)

    return submit


def test_a_job_is_queued_again_before_its_limit_and_trains_on_to_the_same_losses(submit, new_run):
    changes = {"max_duration": "600ba", "save_interval": "50ba"}
    alone, run = new_run("alone", **changes), new_run("job", **changes)
    alone.train(2)
    node = f"{run.folder}/node${{oc.env:SLURM_NODEID,0}}"
    job = submit(
        run, f"master_port={free_ports(1)[0]}", "grace_seconds=5", "node_check.matmul_fraction=0.01",
        "node_check.spare_gb=0.001", "environment={OMP_NUM_THREADS: \"1\"}",
        training=(f"run_folder={node}", f"train_loader.dataset.local={node}/cache"),
    )  # fmt: skip
    job.wait_until((run.checkpoints / "ep4-ba50" / "manifest.json").exists, 120)
    job.limit_is_near()
    job.wait_until(lambda: "asking for a restart" in job.output(), 60)
    assert job.wait_for_its_end(200) == "COMPLETED", job.output()
    assert job.output().count("node 1 (") == 2 and "resumed at batch" in job.output()  # checked each time
    metrics = run.folder / "node0" / "metrics.jsonl"
    assert metrics.read_text().count("\n") >= 600
    (run.folder / "run").symlink_to(run.folder / "node0")
    assert run.losses() == alone.losses()


# What stands for composer in the tests below: the check is done at once, and training does what is said of it.
COMPOSER = """\
import os, signal, subprocess, sys, time
node, folder = os.environ["SLURM_NODEID"], os.path.dirname(__file__)
def note(what):
    with open(os.path.join(folder, f"node{node}"), "a") as file:
        file.write(f"{what} ")
def save(number, frame):
    note("saving")
    time.sleep(SAVE)
    note("saved")
    sys.exit(75)
if "recipes.node_check" in sys.argv:
    sys.exit(0)
if "rank" not in sys.argv:
    sys.exit(subprocess.call([sys.executable, __file__, "rank"]))
before = os.path.exists(os.path.join(folder, f"node{node}"))
signal.signal(signal.SIGUSR1, save)
note("begun")
TRAIN
"""


@pytest.fixture
def stand_in(new_run, submit, tmp_path):
    def stand_in(name: str, train: str, save: str = "0") -> tuple[Job, Callable[[int], list[str]]]:
        run = new_run(name)
        program = run.folder / "composer"
        program.write_text(f"#!{sys.executable}\n{COMPOSER.replace('TRAIN', train).replace('SAVE', save)}")
        program.chmod(0o755)
        job = submit(run, f"activate=export PATH={run.folder}:$PATH")

        def noted(node: int) -> list[str]:
            file = run.folder / f"node{node}"
            return file.read_text().split() if file.exists() else []

        return job, noted

    return stand_in


def test_nodes_begin_again_within_the_job_when_training_has_failed(stand_in):
    job, noted = stand_in("again", "sys.exit(0 if before else 1)")
    assert job.wait_for_its_end(60) == "COMPLETED", job.output()
    assert [noted(node) for node in (0, 1)] == [["begun"] * 2] * 2
    assert job.output().count("restart 1 of 5 in 10s") == 2
    assert job.told("RestartCnt") == "0"


def test_a_fault_that_would_repeat_ends_the_job(stand_in):
    job, noted = stand_in("repeats", "sys.exit(2)")
    assert job.wait_for_its_end(60) == "FAILED", job.output()
    assert noted(0) == ["begun"] and job.told("RestartCnt") == "0"


def test_near_the_limit_each_rank_is_told_once_and_may_save_for_longer_than_those_of_another_node(stand_in):
    job, noted = stand_in("uneven", "before and sys.exit(0); time.sleep(300)", save="8 * int(node)")
    job.wait_until(lambda: noted(0) == noted(1) == ["begun"], 60)
    job.limit_is_near()
    job.wait_until(lambda: "asking for a restart" in job.output(), 60)
    assert [noted(node)[:3] for node in (0, 1)] == [["begun", "saving", "saved"]] * 2, job.output()
    assert job.wait_for_its_end(200) == "COMPLETED", job.output()
    assert [noted(node)[3:] for node in (0, 1)] == [["begun"]] * 2 and job.told("RestartCnt") == "1"


def test_a_job_that_is_cancelled_near_its_limit_is_not_queued_again(stand_in):
    job, noted = stand_in("near", "time.sleep(300)", save="300")
    job.wait_until(lambda: noted(0) == noted(1) == ["begun"], 60)
    job.limit_is_near()
    job.wait_until(lambda: noted(0) == noted(1) == ["begun", "saving"], 60)
    job.cancel()
    wait_for(lambda: told(job.slurm, "squeue", "--noheader") == "", 60)
    assert job.told("State") == "CANCELLED" and "asking for a restart" not in job.output()
