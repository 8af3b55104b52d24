"""A task for ``sky jobs launch``, which finds the machines, and new ones when they are taken away."""

from typing import Any

import yaml

from base.errors import START_AGAIN
from recipes.launch.node_script import Run, script
from recipes.launch.schema import SkyPilot, job_name

NAMES = {"a100_40gb": "A100", "a100_80gb": "A100-80GB", "h100_80gb": "H100", "h200_141gb": "H200"}


def render(job: SkyPilot, run: Run) -> str:
    """The task."""
    return yaml.safe_dump(task(job, run), sort_keys=False, allow_unicode=True, width=120)


def task(job: SkyPilot, run: Run) -> dict[str, Any]:
    """The task as data."""
    resources: dict[str, Any] = {}
    accelerator = job.accelerator or (NAMES[run.config.hardware.gpu] if run.config.hardware else None)
    if job.device == "gpu":
        resources["accelerators"] = f"{accelerator}:{job.ranks_per_node}"
    for key in ("infra", "image_id"):
        if getattr(job, key) is not None:
            resources[key] = getattr(job, key)
    resources |= {
        "use_spot": job.use_spot,
        "disk_size": job.disk_size,
        "job_recovery": {
            "max_restarts_on_errors": job.max_restarts_on_errors,
            "recover_on_exit_codes": [START_AGAIN],  # without counting
        },
    }
    master_addr = '"$(head -n 1 <<< "$SKYPILOT_NODE_IPS")"'
    return {
        "name": job_name(run.config),
        "workdir": job.workdir,
        "num_nodes": job.nodes,
        "resources": resources,
        **({"envs": job.variables} if job.variables else {}),
        **({"setup": job.setup} if job.setup else {}),
        "run": script(job, run, node_rank='"$SKYPILOT_NODE_RANK"', master_addr=master_addr),
    }
