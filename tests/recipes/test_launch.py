"""What is rendered for a cluster holds what was asked for, reaches train.py unharmed, and runs where it can be run."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]
NEEDED = {"slurm": [], "kubernetes": ["image=registry/biomedlm:1"], "skypilot": [], "plain": ["master_addr=10.0.0.1"]}
FORMS = list(NEEDED)
# Whatever a shell, YAML, sbatch, Kubernetes or Composer's launcher could take for something else.
HOSTILE = """it's "my" run; touch broken & `touch broken` $(touch broken) $((1)) \\ # {a: b} ${run_name2} * ~ !"""
KUBERNETES_NAME = "it-s-my-run-touch-broken-touch-broken-to"  # what is left of it there: 40 characters
# Two nodes that open Streaming's shared memory at the same moment would take the same names there.
OWN_SHARED_MEMORY = ["unshare", "--mount", "bash", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "node"]


def launch(form: str, *arguments: str, yaml: str = "yamls/biomedlm.yaml", **environment: str):
    return subprocess.run(
        [sys.executable, "-m", "recipes.launch", form, yaml, *NEEDED[form], *arguments],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | environment,
    )  # fmt: skip


def rendered(form: str, *arguments: str, **keywords: str) -> str:
    result = launch(form, *arguments, **keywords)
    assert result.returncode == 0, result.stderr
    return result.stdout


def node_script(form: str, text: str) -> str:
    """What bash will run on a node."""
    if form == "kubernetes":
        container = pod(yaml.safe_load(text))["containers"][0]
        assert container["command"][:2] == ["bash", "-c"]
        return container["command"][2].replace("$$(", "$(")
    return yaml.safe_load(text)["run"] if form == "skypilot" else text


def pod(manifest: dict) -> dict:
    return manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """Programs that only write down how they were called, and srun as one node of its job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = f"import json, os, sys; open({str(tmp_path / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))"
    programs = {
        "composer": f"#!{sys.executable}\n{log}\n",
        "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nSLURM_NODEID=3 exec "$@"\n',
        "scontrol": "#!/bin/bash\necho node-a\necho node-b\n",
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_a_run_name_with_every_special_character_reaches_train_py_as_it_is_and_runs_nothing(form, stubs, tmp_path):
    text = rendered(
        form, "nodes=16", "activate=null", f"project={ROOT}", "--", f"run_name={HOSTILE}", "optimizer.lr=1e-4"
    )
    environment = {"SLURM_JOB_NODELIST": "x", "SLURM_JOB_ID": "1", "JOB_COMPLETION_INDEX": "3",
                   "SKYPILOT_NODE_RANK": "3", "SKYPILOT_NODE_IPS": "node-a\nnode-b"}  # fmt: skip
    path = f"{stubs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", node_script(form, text), "script", "3"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | environment | {"PATH": path},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "broken").exists() and not (ROOT / "broken").exists()
    check, train = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    first = {"plain": "10.0.0.1", "kubernetes": f"{KUBERNETES_NAME}-node-0-0.{KUBERNETES_NAME}"}.get(form, "node-a")
    ranks = ["-n", "8", "--world_size", "128", "--node_rank", "3", "--master_addr", first, "--master_port"]
    run = ["yamls/biomedlm.yaml", f"run_name={HOSTILE}", "optimizer.lr=1e-4"]
    assert check == [*ranks, "29501", "-m", "recipes.node_check", *run]
    assert train == [*ranks, "29500", "train.py", *run]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_rendered_is_sound_bash(form, tmp_path):
    script = tmp_path / "script.sh"
    text = node_script(form, rendered(form, "nodes=16", "scratch=/my scratch", "--", f"run_name={HOSTILE}"))
    script.write_text(text if text.startswith("#!") else f"#!/bin/bash\n{text}")
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        # What it cannot follow: the environment's activation; and it takes ~ and $ in quoted values for mistakes.
        found = subprocess.run(["shellcheck", "--exclude=SC1091,SC2088,SC2016", script], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


def test_a_slurm_job_asks_for_what_was_given_and_is_queued_again_before_its_limit():
    text = rendered(
        "slurm", "nodes=16", "partition=gpu", "account=me", "hours=36.5", "grace_seconds=300", "exclude=n1,n2",
        "container_image=nvcr.io#nvidia/pytorch:25.04-py3", "bucket=s3://x", "node_check.spare_gb=20",
    )  # fmt: skip
    lines = text.splitlines()
    directives = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    assert lines[0] == "#!/bin/bash" and lines[1 : 1 + len(directives)] == [f"#SBATCH --{one}" for one in directives]
    assert dict(one.partition("=")[::2] for one in directives) == {
        "job-name": "biomedlm", "nodes": "16", "ntasks-per-node": "1", "gpus-per-node": "8", "time": "36:30:00",
        "partition": "gpu", "account": "me", "exclude": "n1,n2", "output": "%x-%j.log", "open-mode": "append",
        "signal": "B:USR1@390", "exclusive": "", "requeue": "",
    }  # fmt: skip
    assert "export BIOMEDLM_BUCKET=s3://x" in lines
    (srun,) = [line for line in lines if line.startswith("srun")]
    assert shlex.split(srun)[1:5] == [
        "--ntasks-per-node=1", "--kill-on-bad-exit=0", "--wait=960",
        "--container-image=nvcr.io#nvidia/pytorch:25.04-py3",
    ]  # fmt: skip
    assert 'recipes.node_check "${run[@]}" --spare-gb=20' in text
    assert "gpus-per-node" not in rendered("slurm", "device=cpu", "--", "precision=fp32", "model.init_device=cpu")


def test_the_jobset_starts_all_nodes_or_none_and_does_not_repeat_what_a_restart_cannot_mend():
    manifest = yaml.safe_load(
        rendered("kubernetes", "nodes=16", "queue=research", "scratch_host_path=/mnt/nvme", "credentials_secret=s3",
                 "cpu=\"96\"", "bucket=s3://b", "scratch=/s $(HOME)", "grace_seconds=100", "--", "run_name=My_Run 2")
    )  # fmt: skip
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert manifest["metadata"] == {"name": "my-run-2", "labels": {"kueue.x-k8s.io/queue-name": "research"}}
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"], job["backoffLimit"]) == (
        "Indexed",
        16,
        16,
        0,
    )
    (rule,) = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]) == (
        "FailJob", {"containerName": "train", "operator": "In", "values": [2, 75]},
    )  # fmt: skip
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 20
    rules = manifest["spec"]["failurePolicy"]["rules"]
    assert all(rule["onJobFailureReasons"] == ["PodFailurePolicy"] for rule in rules)
    names = {rule["name"] for rule in rules}
    assert len(names) == 2
    for name in names:
        assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", name)  # as JobSet's own schema has it
    # As the Job controller writes it (kubernetes/pkg/controller/job/pod_failure_policy.go), read as JobSet reads it.
    message = "Container train for pod default/x-node-0-2-75 failed with exit code {} matching FailJob rule at index 0"
    for code, action in ((2, "FailJobSet"), (75, "RestartJobSetAndIgnoreMaxRestarts")):
        told = message.format(code)
        (rule,) = [one for one in rules if any(re.search(each, told) for each in one["onJobFailureMessagePatterns"])]
        assert rule["action"] == action
    spec = pod(manifest)
    assert spec["restartPolicy"] == "Never"  # asked for by podFailurePolicy
    assert spec["terminationGracePeriodSeconds"] == 160
    (container,) = spec["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8, "cpu": "96"}
    assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {
        "shared-memory": "/dev/shm", "scratch": "/s $(HOME)",
    }  # fmt: skip
    assert {volume["name"] for volume in spec["volumes"]} == {"shared-memory", "scratch"}
    assert {"name": "BIOMEDLM_SCRATCH", "value": "/s $$(HOME)"} in container["env"]
    assert "--master_addr my-run-2-node-0-0.my-run-2)" in container["command"][2]
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]


def test_the_skypilot_task_has_the_gpus_of_the_training_yaml_and_only_known_keys():
    task = yaml.safe_load(rendered("skypilot", "nodes=4", "use_spot=true", "infra=aws/us-east-1", "bucket=s3://x"))
    # https://docs.skypilot.co/en/latest/reference/yaml-spec.html
    assert set(task) <= {"name", "workdir", "num_nodes", "resources", "envs", "setup", "run"}
    assert task["num_nodes"] == 4 and task["envs"] == {"BIOMEDLM_BUCKET": "s3://x", "NCCL_DEBUG": "WARN"}
    assert task["resources"] == {
        "accelerators": "A100:8", "infra": "aws/us-east-1", "use_spot": True, "disk_size": 512,
        "job_recovery": {"max_restarts_on_errors": 3, "recover_on_exit_codes": [75]},
    }  # fmt: skip


def test_faults_of_both_configurations_are_told_at_once_with_the_nearest_key():
    result = launch(
        "slurm", "node=16", "hours=3days", "node_check.spare=1", "--", "optimizer.learning=3", "optimizer.lr=a"
    )
    assert result.returncode == 2 and result.stdout == ""
    for said in ("did you mean nodes?", "hours: input should be a valid number", "node_check.spare",
                 "optimizer.lr: ", "optimizer.learning: unknown key"):  # fmt: skip
        assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nodes=3"], "1024 is not divisible by the 24 ranks"),
        (["nodes=1", "--", "device_train_microbatch_size=256"], "256 does not divide the 128 sequences"),
        (["hours=0.1"], "hours: 0.1, and the job begins to end 270 s before"),
        (["--", "autoresume=false"], "autoresume: "),
        (["device=cpu"], "precision: amp_bf16, and device is cpu"),
        (["--", "run_name=a$HOME"], "Composer's launcher puts"),
        (["--", "run_name=a\nb"], "control characters"),
        (["partition=gpu --wrap=x"], "partition: must be letters"),
        (['activate="a\\nb"'], "activate: must be one line"),
        (["environment={A-B: c}"], "not the name of an environment variable"),
        (["environment.HF_TOKEN=${oc.env:PLANTED_TOKEN}"], "HF_TOKEN is a secret, and the job is a file"),
        (["environment.PLACE=${oc.env:PLANTED_PLACE}"], "PLACE is a secret, and the job is a file"),
        (["environment.HF_TOKEN=planted-x"], "a secret, which the process list shows"),
        (["--", "loggers.mlflow.tracking_uri=http://u:planted@host"], "a secret, which the process list shows"),
    ],
)
def test_what_would_not_run_is_not_rendered(arguments, said):
    secrets = {"PLANTED_TOKEN": "planted-x", "PLANTED_PLACE": "https://u:planted-x@host"}
    result = launch("slurm", *arguments, **secrets)
    assert result.returncode == 2 and said in result.stderr, result.stderr
    assert result.stdout == "" and "planted" not in result.stderr


def test_nodes_start_again_by_themselves_where_nothing_around_them_does_it_for_all():
    def options(form: str, *arguments: str) -> str:
        lines = node_script(form, rendered(form, *arguments)).splitlines()
        (line,) = [line for line in lines if line.startswith("exec python -m recipes.launch.run_on_node")]
        return line

    for form in ("slurm", "plain"):
        # After half an hour for a start, and what a hang in the first step takes to be noticed.
        assert "--max-restarts 7 --steady-seconds 2700 " in options(form, "max_restarts=7", "--", "dist_timeout=900")
        assert "--max-restarts" not in options(form, "max_restarts=0")
    for form in ("kubernetes", "skypilot"):
        assert "--max-restarts" not in options(form)


def test_only_a_job_that_never_starts_again_may_be_without_autoresume():
    for form in FORMS:
        result = launch(form, "--", "autoresume=false")
        assert result.returncode == 2 and "autoresume: " in result.stderr
    assert launch("slurm", "max_restarts=0", "--", "autoresume=false").returncode == 2  # queued again before its limit
    assert launch("plain", "max_restarts=0", "--", "autoresume=false").returncode == 0


def test_a_job_is_written_whole_with_the_command_that_takes_it(tmp_path):
    result = launch("slurm", "nodes=4", "--out", str(tmp_path / "run.sbatch"))
    assert result.returncode == 0 and f"sbatch {tmp_path}/run.sbatch" in result.stderr
    assert "hardware.count=128" in result.stderr  # the run sheet is for more
    assert (tmp_path / "run.sbatch").read_text().startswith("#!/bin/bash\n#SBATCH")


# --- real processes ----------------------------------------------------------------------------------------------

RANK = """\
import os, signal, sys, time
def save(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher sends it to the others once one rank has ended
    open(f"saved-{os.environ['RANK']}", "a").write("x")
    time.sleep(1)
    sys.exit(75)
if "catch" in sys.argv:
    signal.signal(signal.SIGUSR1, save)
open(f"up-{os.environ['RANK']}", "w").write(str(os.getpid()))
time.sleep(300)
"""


@pytest.fixture
def supervised(tmp_path):
    """Start two ranks below run_on_node; wait until both are up."""
    started = []

    def start(*arguments: str):
        (tmp_path / "rank.py").write_text(RANK)
        launcher = [sys.executable, "-m", "composer.cli.launcher", "-n", "2", "rank.py", *arguments]
        process = subprocess.Popen(
            [sys.executable, "-m", "recipes.launch.run_on_node", "--grace-seconds", "20",
             "--max-restarts", "3", *launcher, "--then", "touch", "after"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        deadline = time.monotonic() + 60
        while not all((tmp_path / f"up-{rank}").exists() and (tmp_path / f"up-{rank}").read_text() for rank in (0, 1)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        return process, [int((tmp_path / f"up-{rank}").read_text()) for rank in (0, 1)]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_reaches_each_rank_once_and_its_exit_code_comes_back(supervised, tmp_path, number):
    process, ranks = supervised("catch")
    os.killpg(process.pid, number)  # as a terminal does
    assert process.wait(timeout=60) == 75
    assert [(tmp_path / f"saved-{rank}").read_text() for rank in (0, 1)] == ["x", "x"]
    assert not any(psutil.pid_exists(pid) for pid in ranks) and not (tmp_path / "after").exists()


@pytest.mark.slow
def test_ranks_that_save_nothing_at_a_signal_are_ended_at_once(supervised, tmp_path):
    process, ranks = supervised()
    start = time.monotonic()
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=60) == 128 + signal.SIGUSR2
    assert time.monotonic() - start < 15
    assert not any(psutil.pid_exists(pid) for pid in ranks) and not (tmp_path / "after").exists()


@pytest.mark.slow
def test_ranks_do_not_outlive_the_job_when_it_is_killed(supervised):
    process, ranks = supervised()
    process.kill()
    deadline = time.monotonic() + 40
    while any(psutil.pid_exists(pid) for pid in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free_ports() -> int:
    """Two in a row."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                next_one.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run([*OWN_SHARED_MEMORY, "true"], capture_output=True).returncode != 0,
    reason="what each node has for itself can be given to them by root alone",
)
def test_two_nodes_started_by_the_plain_script_train_as_two_ranks_of_one_and_go_on_after_faults(new_run, tmp_path):
    """Two nodes on one machine, each with a scratch folder and shared memory of its own."""
    alone, apart = new_run("alone"), new_run("apart")
    alone.train(2)
    script = tmp_path / "run.sh"
    result = launch(
        "plain", "nodes=2", "ranks_per_node=1", "device=cpu", "master_addr=127.0.0.1", f"master_port={free_ports()}",
        "activate=null", f"project={ROOT}", "node_check.matmul_fraction=0.01", "node_check.spare_gb=0.001", "--out",
        str(script), "--", "run_folder=${oc.env:NODE_SCRATCH}/run",
        "train_loader.dataset.local=${oc.env:NODE_SCRATCH}/cache",
        yaml=str(apart.folder / "run.yaml"), NODE_SCRATCH=str(apart.folder),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr

    def start() -> list[subprocess.Popen]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return [
            subprocess.Popen(
                [*OWN_SHARED_MEMORY, "bash", script, str(node)],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1",
                                  "NODE_SCRATCH": str(apart.folder if node == 0 else apart.folder / "second")},
            )
            for node in (0, 1)
        ]  # fmt: skip

    def wait_until_saved(checkpoint: str, batch: int) -> None:
        deadline = time.monotonic() + 240
        while batch not in apart.metrics() or not (apart.checkpoints / checkpoint / "manifest.json").exists():
            assert all(node.poll() is None for node in nodes) and time.monotonic() < deadline
            time.sleep(0.05)

    nodes = start()
    wait_until_saved("ep0-ba5", 7)
    rank_of(nodes[1]).kill()  # both nodes begin again, by themselves
    wait_until_saved("ep0-ba10", 12)
    for node in nodes:
        node.send_signal(signal.SIGTERM)
    outputs = [node.communicate(timeout=60)[0] for node in nodes]
    for node, output in zip(nodes, outputs, strict=True):
        assert node.returncode not in (0, 2) and "restart 1 of 5" in output, output
        assert "restart 2 of 5" not in output, output
    assert "resumed at batch" in outputs[0]

    nodes = start()
    outputs = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert "node 1 (" in outputs[0] and "resumed at batch" in outputs[0]
    assert apart.losses() == alone.losses()


def rank_of(node: subprocess.Popen) -> psutil.Process:
    """The one rank of Composer's launcher, which run_on_node has started."""
    (launcher,) = psutil.Process(node.pid).children()
    (rank,) = launcher.children()
    return rank
