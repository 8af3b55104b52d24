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
from collections.abc import Iterator
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


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands find the cluster."""
    folder = tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
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


def test_a_job_is_queued_again_before_its_limit_and_trains_on_to_the_same_losses(slurm, new_run, tmp_path):
    changes = {"max_duration": "600ba", "save_interval": "50ba"}
    alone, job = new_run("alone", **changes), new_run("job", **changes)
    alone.train(2)
    node = f"{job.folder}/node${{oc.env:SLURM_NODEID,0}}"
    script = job.folder / "job.sbatch"
    command = [
        sys.executable, "-m", "recipes.launch", "slurm", str(job.folder / "run.yaml"), "nodes=2", "ranks_per_node=1",
        "device=cpu", f"master_port={free_ports(1)[0]}", "activate=null", f"project={ROOT}", "hours=0.2",
        "grace_seconds=5", "node_check.matmul_fraction=0.01", "node_check.spare_gb=0.001",
        "environment={OMP_NUM_THREADS: \"1\"}",
        "--out", str(script), "--", f"run_folder={node}", f"train_loader.dataset.local={node}/cache",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)
    path = f"{Path(sys.executable).parent}:{slurm['PATH']}"
    submitted = subprocess.run(
        ["sbatch", "--parsable", script], env=slurm | {"PATH": path}, cwd=job.folder, capture_output=True, text=True
    )
    assert submitted.returncode == 0, submitted.stderr
    number = submitted.stdout.strip()
    log = job.folder / f"job-{number}.log"

    def state() -> str:
        return told(slurm, "squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T")

    try:
        wait_for(lambda: (job.checkpoints / "ep4-ba50" / "manifest.json").exists(), 120)
        subprocess.run(["scancel", "--batch", "--signal=USR1", number], env=slurm, check=True)  # as before the limit
        wait_for(lambda: "asking for a restart" in log.read_text(), 60)
        wait_for(lambda: state() in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), 200)
    except AssertionError:
        raise AssertionError(f"{state()}\n{log.read_text() if log.exists() else 'no log'}") from None
    output = log.read_text()
    assert state() == "COMPLETED", output
    assert output.count("node 1 (") == 2 and "resumed at batch" in output  # checked each time
    metrics = job.folder / "node0" / "metrics.jsonl"
    assert metrics.read_text().count("\n") >= 600
    (job.folder / "run").symlink_to(job.folder / "node0")
    assert job.losses() == alone.losses()
