"""A JobSet: one indexed Job whose pods are the nodes, and all of them start again when one fails.

JobSet and not PyTorchJob: it leaves the environment alone, where PyTorchJob sets WORLD_SIZE, RANK and MASTER_ADDR for
its own launcher, and Composer's would read them; it restarts the whole, which training by FSDP needs; it can tell exit
codes apart; and Kubeflow has built its own successor of PyTorchJob on it.

The pods have no restart loop of their own: JobSet counts for all of them together, and puts them where nodes are fit.
"""

from typing import Any

import yaml

from base.errors import MENDABLE, START_AGAIN
from recipes.launch.node_script import Run, script
from recipes.launch.one_launch import STOP_SECONDS
from recipes.launch.schema import Kubernetes, job_name

REPLICATED_JOB, CONTAINER = "node", "train"


def render(job: Kubernetes, run: Run) -> str:
    """The manifest."""
    return yaml.safe_dump(manifest(job, run), sort_keys=False, allow_unicode=True, width=120)


def manifest(job: Kubernetes, run: Run) -> dict[str, Any]:
    """The manifest as data."""
    name = job_name(run.config)
    pods = {
        "completionMode": "Indexed",
        "completions": job.nodes,
        "parallelism": job.nodes,
        "backoffLimit": 0,  # a pod is never started alone: its ranks belong to those of the others
        "podFailurePolicy": {
            "rules": [  # the Job says then which exit code it failed by, for the JobSet's failurePolicy
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [MENDABLE, START_AGAIN]},
                }
            ]
        },
        "template": {"spec": _pod(job, run, name)},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": name,
            **({"namespace": job.namespace} if job.namespace else {}),
            **({"labels": {"kueue.x-k8s.io/queue-name": job.queue}} if job.queue else {}),
        },
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": job.max_restarts,  # for what no rule names
                "rules": [
                    _on_exit_code("yoursToMend", MENDABLE, "FailJobSet"),
                    # A run of weeks may be taken away any number of times; the same fault twice training refuses.
                    _on_exit_code("allSaved", START_AGAIN, "RestartJobSetAndIgnoreMaxRestarts"),
                ],
            },
            "replicatedJobs": [{"name": REPLICATED_JOB, "replicas": 1, "template": {"spec": pods}}],
        },
    }


def _on_exit_code(name: str, code: int, action: str) -> dict[str, Any]:
    """A rule of the JobSet. A failed Job tells the exit code in its message alone; its reason is the same for all."""
    return {
        "name": name,
        "action": action,
        "onJobFailureReasons": ["PodFailurePolicy"],
        "onJobFailureMessagePatterns": [f"failed with exit code {code} "],
    }


def _pod(job: Kubernetes, run: Run, name: str) -> dict[str, Any]:
    # The Job's pods are NAME-JOB-0-INDEX in a headless service of the JobSet's name.
    on_node = script(job, run, node_rank='"$JOB_COMPLETION_INDEX"', master_addr=f"{name}-{REPLICATED_JOB}-0-0.{name}")
    volumes: list[dict[str, Any]] = [
        # Streaming keeps its tables in shared memory, and loader workers their batches; a container has 64 MiB of it.
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": job.shared_memory}}
    ]
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}]
    if job.scratch is not None:
        where = {"hostPath": {"path": job.scratch_host_path, "type": "DirectoryOrCreate"}}
        volumes.append({"name": "scratch", **(where if job.scratch_host_path else {"emptyDir": {}})})
        mounts.append({"name": "scratch", "mountPath": job.scratch})
    limits: dict[str, Any] = dict(job.resources)
    limits |= {"nvidia.com/gpu": job.ranks_per_node} if job.device == "gpu" else {}
    limits |= {kind: size for kind, size in {"cpu": job.cpu, "memory": job.memory}.items() if size is not None}
    container = {
        "name": CONTAINER,
        "image": job.image,
        # Kubernetes puts variables in place of $(NAME), $$( is how it is told not to.
        "command": ["bash", "-c", on_node.replace("$(", "$$(")],
        "env": [{"name": key, "value": value.replace("$(", "$$(")} for key, value in job.variables.items()],
        **({"envFrom": [{"secretRef": {"name": job.credentials_secret}}]} if job.credentials_secret else {}),
        "resources": {"limits": limits},
        "volumeMounts": mounts,
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace_seconds + STOP_SECONDS,
        **({"priorityClassName": job.priority_class} if job.priority_class else {}),
        **({"serviceAccountName": job.service_account} if job.service_account else {}),
        **({"nodeSelector": job.node_selector} if job.node_selector else {}),
        "containers": [container],
        "volumes": volumes,
    }
