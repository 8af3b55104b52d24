"""The tasks, by the name that configurations and loggers use, and the protocols in which they can be asked."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from base.errors import UserError
from eval.task import Protocol, Task
from eval.tasks import mmlu
from eval.tasks.bioasq import BIOASQ, BIOASQ_DEV, BIOASQ_GOLDEN
from eval.tasks.medmcqa import MEDMCQA
from eval.tasks.medqa import MEDQA, MEDQA_5OPTIONS, MEDQA_5OPTIONS_DEV
from eval.tasks.pubmedqa import PUBMEDQA, PUBMEDQA_QUESTION_ONLY, PUBMEDQA_REASONING_FREE

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        MEDQA,
        MEDQA_5OPTIONS,
        MEDQA_5OPTIONS_DEV,
        MEDMCQA,
        PUBMEDQA,
        PUBMEDQA_REASONING_FREE,
        PUBMEDQA_QUESTION_ONLY,
        BIOASQ,
        BIOASQ_DEV,
        BIOASQ_GOLDEN,
        *mmlu.MEDICAL,
        *mmlu.OTHER,
    )
}

GROUPS: dict[str, tuple[str, ...]] = {
    "mmlu_medical": tuple(task.name for task in mmlu.MEDICAL),
    "mmlu_other": tuple(task.name for task in mmlu.OTHER),
}
"""Several tasks under one name, whose scores are averaged too."""

NAMES = (*(name for name in TASKS if not any(name in tasks for tasks in GROUPS.values())), *GROUPS)
"""Tasks and groups without the tasks that a group stands for."""

SUFFIX = re.compile(r"(?P<name>.+?)(_(?P<form>cloze|letter))?(_(?P<shots>\d+)shot)?")


def protocols(names: Sequence[str]) -> list[Protocol]:
    """The protocols of names such as ``medqa``, ``medqa_letter``, ``mmlu_medical_letter_5shot``; groups stand for all
    their tasks. A name without a form or shots means the task's primary protocol; ``_letter`` alone means no shots.

    Raises:
        UserError: every name that is none, with its nearest relative; or one that is asked twice.
    """
    found: list[Protocol] = []
    faults: list[str] = []
    for name in names:
        parts = SUFFIX.fullmatch(name)
        short = parts["name"] if parts else name
        for member in GROUPS.get(short, (short,)):
            if member not in TASKS:
                near = get_close_matches(short, [*TASKS, *GROUPS], n=1)
                known = f"did you mean {near[0]}?" if near else f"there are {', '.join(NAMES)}"
                faults.append(f"there is no task {short}; {known}")
                continue
            assert parts is not None
            task = TASKS[member]
            form, shots = task.primary
            if parts["form"] or parts["shots"]:
                form, shots = parts["form"] or form, int(parts["shots"] or 0)
            found.append(Protocol(task, form, shots))
    asked = [one.name for one in found]
    faults += [f"{name} is asked twice" for name in dict.fromkeys(asked) if asked.count(name) > 1]
    if faults:
        raise UserError(f"tasks: {'; '.join(faults)}")
    return found
