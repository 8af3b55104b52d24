"""The launch configuration of each form: yamls/launch/FORM.yaml explains the keys. Imports nothing heavy."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from base.configuration import Schema
from base.masking import names_secret, without_secrets
from recipes.launch.one_launch import STOP_SECONDS
from recipes.node_check.thresholds import Thresholds
from recipes.schema import Positive, Training

EARLY_SECONDS = 30  # for Slurm, and for a node that is slow to answer


def _text(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must be one line, without control characters")
    return text


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9/][A-Za-z0-9._,:@/+=#-]*", text):
        raise ValueError(f"must be letters, digits and . _ , : @ / + = # - alone; it is {text!r}")
    return text


def _variables(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is not the name of an environment variable")
        if names_secret(name) or without_secrets(value) != value:
            raise ValueError(
                f"{name} is a secret, and the job is a file that others may read; give the nodes a role, a profile "
                "in a shared home, or on Kubernetes credentials_secret"
            )
        _text(value)
    return variables


Text = Annotated[str, AfterValidator(_text)]
Word = Annotated[str, AfterValidator(_word)]
Restarts = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=1024, le=65534)]  # the check of the nodes takes the next one


class Job(Schema):
    """What every form asks for."""

    nodes: Positive = 1
    ranks_per_node: Positive = 8
    device: Literal["gpu", "cpu"] = "gpu"
    project: Text = "."
    activate: Text | None = None
    bucket: Text | None = None
    scratch: Text | None = None
    environment: Annotated[dict[str, str], AfterValidator(_variables)] = {}
    master_port: Port = 29500
    grace_seconds: Positive = 180
    node_check: Thresholds = Thresholds()

    @property
    def world_size(self) -> int:
        return self.nodes * self.ranks_per_node

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the ranks: what the training YAMLs read by ``oc.env`` first."""
        places = {"BIOMEDLM_BUCKET": self.bucket, "BIOMEDLM_SCRATCH": self.scratch}
        return {name: place for name, place in places.items() if place is not None} | self.environment

    @property
    def restarts_on_node(self) -> int:
        """How often each node starts its ranks again by itself; 0 where what is around it does so for all of them."""
        return 0

    @property
    def starts_again(self) -> bool:
        """Without anybody asking."""
        return True


class Slurm(Job):
    hours: Annotated[float, Field(gt=0)] = 24.0
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    exclude: Word | None = None
    cpus_per_node: Positive | None = None
    container_image: Word | None = None
    container_mounts: Word | None = None
    max_restarts: Restarts = 5

    @property
    def restarts_on_node(self) -> int:
        return self.max_restarts

    @classmethod
    def cross_checks(cls) -> list[Callable[[Any], Iterable[tuple[str, str]]]]:
        return [_time_to_train]


class Kubernetes(Job):
    image: Word
    namespace: Word | None = None
    queue: Word | None = None
    priority_class: Word | None = None
    service_account: Word | None = None
    credentials_secret: Word | None = None
    node_selector: dict[str, str] = {}
    cpu: Word | None = None
    memory: Word | None = None
    resources: dict[str, str] = {}
    shared_memory: Word = "64Gi"
    scratch_host_path: Text | None = None
    max_restarts: Restarts = 20


class SkyPilot(Job):
    workdir: Text = "."
    accelerator: Word | None = None
    infra: Word | None = None
    use_spot: bool = False
    disk_size: Positive = 512
    image_id: Word | None = None
    setup: str | None = None
    max_restarts_on_errors: Restarts = 3


class Plain(Job):
    master_addr: Word
    max_restarts: Restarts = 5

    @property
    def restarts_on_node(self) -> int:
        return self.max_restarts

    @property
    def starts_again(self) -> bool:
        return self.max_restarts > 0


def seconds_before_limit(job: Slurm) -> int:
    """When a job is told that its limit is near: ranks save, what did not end is ended, Slurm is asked."""
    return job.grace_seconds + STOP_SECONDS + EARLY_SECONDS


def _time_to_train(job: Slurm) -> Iterable[tuple[str, str]]:
    early = seconds_before_limit(job)
    if job.hours * 3600 < 2 * early:
        yield "hours", f"{job.hours:g}, and the job begins to end {early} s before its limit; give it more hours"


def job_name(config: Training) -> str:
    """The run's name as Kubernetes, SkyPilot and Slurm's directives take it: lower case, digits and hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", config.run_name.lower()).strip("-")[:40].rstrip("-")
    return name if name[:1].isalpha() else f"run-{name}".rstrip("-")
