"""The tasks, by the name that configurations and loggers use."""

from eval.task import Task
from eval.tasks.medmcqa import MEDMCQA
from eval.tasks.medqa import MEDQA

TASKS: dict[str, Task] = {task.name: task for task in (MEDQA, MEDMCQA)}
