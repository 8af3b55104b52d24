"""A job script for ``sbatch``: it is queued again before its time limit, and by Slurm after the fault of a node."""

import math
import shlex

from recipes.launch.node_script import Run, exports, script
from recipes.launch.one_launch import STOP_SECONDS
from recipes.launch.schema import Slurm, job_name, seconds_before_limit

BEGIN = """\
set -euo pipefail

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST") # into `head` it could end by a broken pipe
MASTER_ADDR=${hosts%%$'\\n'*}
export MASTER_ADDR

on_each_node=$(cat <<'ON_EACH_NODE'
"""

END = """\
ON_EACH_NODE
)

# Slurm sends SIGUSR1 to this shell alone, some time before the limit. The nodes get SIGUSR2 then, for srun hands a
# signal to every process there, and recipes.launch.run_on_node alone heeds this one: it has the ranks save and end.
# Then the job is put into the queue again. SIGTERM means that somebody has cancelled the job, which queueing it would
# undo, or that another job takes its place: Slurm queues it again by itself then, as after the fault of a node
# (--requeue).
limit_is_near=
taken_away=
trap 'limit_is_near=yes; kill -USR2 "$step"' USR1
trap 'taken_away=yes' TERM

# In the background, for a shell heeds no signal while it waits for a command in front.
{srun} bash -c "$on_each_node" &
step=$!
while kill -0 "$step" 2>/dev/null; do
  wait "$step" || true # comes back at every signal
done
code=0
wait "$step" || code=$?

if [ -n "$limit_is_near" ] && [ -z "$taken_away" ] && [ "$code" -ne 0 ]; then
  echo "asking for a restart: the time limit is near" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def render(job: Slurm, run: Run) -> str:
    """The script, with its directives."""
    minutes = math.ceil(job.hours * 60)
    directives = {
        "job-name": job_name(run.config),
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": job.ranks_per_node if job.device == "gpu" else None,
        "cpus-per-task": job.cpus_per_node,
        "time": f"{minutes // 60}:{minutes % 60:02d}:00",
        "partition": job.partition,
        "account": job.account,
        "qos": job.qos,
        "constraint": job.constraint,
        "exclude": job.exclude,
        "output": "%x-%j.log",
        "open-mode": "append",
        "signal": f"B:USR1@{seconds_before_limit(job)}",
    }
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{name}={value}" for name, value in directives.items() if value is not None]
    lines += ["#SBATCH --exclusive", "#SBATCH --requeue", ""]
    lines += exports(job.variables)
    # When one node has ended the others may still be saving, or have yet to see that its ranks are gone.
    others = math.ceil(max(job.grace_seconds, run.config.dist_timeout / 2)) + STOP_SECONDS
    srun = ["srun", "--ntasks-per-node=1", "--kill-on-bad-exit=0", f"--wait={others}"]
    if job.container_image is not None:  # pyxis
        srun.append(f"--container-image={job.container_image}")
        if job.container_mounts is not None:
            srun.append(f"--container-mounts={job.container_mounts}")
    on_node = script(job, run, node_rank='"$SLURM_NODEID"', master_addr='"$MASTER_ADDR"')
    return "\n".join(lines) + "\n" + BEGIN + on_node + END.replace("{srun}", shlex.join(srun))
