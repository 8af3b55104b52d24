"""``python -m recipes.launch FORM YAML [key=value …] [-- key=value …]``: a training YAML as a job of a cluster.

What comes before ``--`` changes the launch configuration, what comes after it the training YAML. The job is printed, or
written with ``--out``. What ``train.py --check`` would refuse is not rendered.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from base import storage
from base.configuration import load_configuration
from base.errors import UserError, run_command
from base.progress import say
from recipes.findings import require_sound, tell_warnings
from recipes.launch import kubernetes, plain, skypilot, slurm
from recipes.launch.node_script import Run
from recipes.launch.schema import Job, Kubernetes, Plain, SkyPilot, Slurm
from recipes.preflight import preflight
from recipes.schema import Training


class Form(NamedTuple):
    """One way to launch; ``start`` is the command that takes what was rendered."""

    schema: type[Job]
    render: Callable[[Any, Run], str]
    start: str


FORMS = {
    "slurm": Form(Slurm, slurm.render, "sbatch {}"),
    "kubernetes": Form(Kubernetes, kubernetes.render, "kubectl apply -f {}"),
    "skypilot": Form(SkyPilot, skypilot.render, "sky jobs launch {}"),
    "plain": Form(Plain, plain.render, "bash {} NODE_RANK (on each node)"),
}


def main() -> None:
    before, after = _split_at_dashes(sys.argv[1:])
    parser = argparse.ArgumentParser(prog="python -m recipes.launch", description=__doc__)
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("yaml", help="the run's configuration, such as yamls/biomedlm.yaml")
    parser.add_argument("launch", nargs="*", metavar="key=value", help="changes to the launch configuration: nodes=16")
    parser.add_argument("--launch-yaml", help="the launch configuration; by default yamls/launch/FORM.yaml")
    parser.add_argument("--out", help="write the job there instead of printing it")
    arguments = parser.parse_intermixed_args(before)
    form = FORMS[arguments.form]

    job, run = load(form, arguments.launch_yaml or f"yamls/launch/{arguments.form}.yaml", arguments.launch,
                    arguments.yaml, after)  # fmt: skip
    found = preflight(run.config, job.world_size, probe_writing=False, nodes=job.nodes)
    require_sound(found, missing_too=False)
    tell_warnings(found)
    text = form.render(job, run)
    if arguments.out is None:
        sys.stdout.write(text)
        return
    with storage.write_aside(arguments.out) as aside:
        aside.write_text(text, encoding="utf-8")
    say(f"{arguments.out}: {form.start.format(arguments.out)}")


def load(form: Form, launch_yaml: str, changes: list[str], yaml: str, overrides: list[str]) -> tuple[Job, Run]:
    """Both configurations, checked, with the launch configuration's environment for the training YAML.

    Raises:
        UserError: with the faults of both.
    """
    faults, config = [], None
    try:
        job = load_configuration(launch_yaml, changes, form.schema)
        os.environ.update(job.variables)
    except UserError as error:
        faults.append(str(error))
    try:
        config = load_configuration(yaml, overrides, Training)
    except UserError as error:
        faults.append(str(error))
    if not faults and config is not None:
        faults += _faults_between(job, config)
    faults += _faults_of_words([yaml, *overrides])
    if faults or config is None:
        raise UserError("\n".join(faults))
    return job, Run(yaml, tuple(overrides), config)


def _faults_between(job: Job, config: Training) -> Iterator[str]:
    """What is wrong with one configuration in sight of the other."""
    if job.starts_again and not config.autoresume:
        yield "autoresume: false, and a job that starts again would be refused beside its own checkpoints; set it true"
    if job.device == "cpu" and config.precision != "fp32":
        yield f"precision: {config.precision}, and device is cpu; set precision=fp32 (and model.init_device=cpu)"
    if isinstance(job, SkyPilot) and job.device == "gpu" and not (job.accelerator or config.hardware):
        yield "accelerator: is missing; give it as SkyPilot names it, or hardware.gpu in the training YAML"


def _faults_of_words(words: list[str]) -> Iterator[str]:
    """Words that would not reach train.py as they are."""
    for word in words:
        if any(ord(character) < 32 or ord(character) == 127 for character in word):
            yield f"argument {word!r}: control characters do not reach the nodes unharmed"
        if re.search(r"\$\w", word):
            yield f"argument {word}: Composer's launcher puts a variable in place of $NAME; use ${{oc.env:NAME}}"


def _split_at_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    run_command(main)
