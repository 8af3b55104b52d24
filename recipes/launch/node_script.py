"""What every form runs on each node: the check of the nodes, then training, both by Composer's launcher."""

import shlex
from dataclasses import dataclass

from recipes.launch.schema import Job
from recipes.node_check.thresholds import Thresholds
from recipes.schema import Training

START_SECONDS = 1800  # from a checkpoint, compiling


@dataclass(frozen=True)
class Run:
    """What is launched: the training YAML, its checked content, and the changes as they were given."""

    yaml: str
    overrides: tuple[str, ...]
    config: Training

    @property
    def arguments(self) -> str:
        """YAML and changes as words of a shell."""
        return shlex.join([self.yaml, *self.overrides])


def exports(variables: dict[str, str]) -> list[str]:
    """Lines of bash."""
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def script(job: Job, run: Run, node_rank: str, master_addr: str) -> str:
    """The bash script of a node.

    Args:
        job: the launch configuration.
        run: what is launched.
        node_rank: a word of bash that gives this node's number.
        master_addr: a word of bash that gives the address of node 0.
    """
    limits = [
        f"--{name.replace('_', '-')}={value:g}"
        for name, value in job.node_check.model_dump().items()
        if value != Thresholds.model_fields[name].default
    ]
    ranks = f"-n {job.ranks_per_node} --world_size {job.world_size}"
    check = " ".join([f"--master_port {job.master_port + 1}", "-m recipes.node_check", '"${run[@]}"', *limits])
    train = f'--master_port {job.master_port} train.py "${{run[@]}}"'
    options = f"--grace-seconds {job.grace_seconds}"
    if job.restarts_on_node:  # what hangs in its first step has not run long, whatever the hang itself takes
        steady = run.config.dist_timeout + START_SECONDS
        options += f" --max-restarts {job.restarts_on_node} --steady-seconds {steady:g}"
    lines = [
        "set -euo pipefail",
        f"cd {shlex.quote(job.project)}",
        *([job.activate] if job.activate else []),
        f"composer=(composer {ranks} --node_rank {node_rank} --master_addr {master_addr})",
        f"run=({run.arguments})",
        f"exec python -m recipes.launch.run_on_node {options} \\",
        f'  "${{composer[@]}}" {check} \\',
        f'  --then "${{composer[@]}}" {train}',
    ]
    return "\n".join(lines) + "\n"
