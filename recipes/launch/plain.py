"""A bash script to start on every node with its number, where there is no scheduler."""

import shlex

from recipes.launch.node_script import Run, exports, script
from recipes.launch.schema import Plain


def render(job: Plain, run: Run) -> str:
    """The script."""
    numbers = f"0 to {job.nodes - 1}"
    lines = [
        "#!/bin/bash",
        f"# On each node with its own number, {numbers}; node 0 is {job.master_addr}. The same again after a fault.",
        f"node_rank=${{1:?the number of this node, {numbers}}}",
        *exports(job.variables),
    ]
    on_node = script(job, run, node_rank='"$node_rank"', master_addr=shlex.quote(job.master_addr))
    return "\n".join(lines) + "\n" + on_node
