"""What an evaluation asks and of whom: its configuration, and its inputs looked up before torch is imported."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from base import storage
from base.configuration import Schema
from base.errors import UserError
from eval.task import Questions, load_questions
from eval.tasks import TASKS
from model.checkpoint import NAME, resolve
from recipes.schema import Positive


def _given(model: Any) -> Any:
    if model is None:
        raise ValueError("give the model to score: model=CHECKPOINT_OR_FOLDER")
    return model


class Evaluation(Schema):
    """``composer [-n N] evaluate.py yamls/eval/NAME.yaml model=…``; each key is explained in yamls/eval/qa.yaml."""

    model: Annotated[str, BeforeValidator(_given)]
    tokenizer: str | None = None
    data: str
    tasks: Annotated[list[Literal["medqa", "medmcqa"]], Field(min_length=1)]
    limit: Positive | None = None
    device_eval_batch_size: Positive = 16
    beginning_of_text: bool = False
    out: str
    name: str | None = None


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Attributes:
        model: one checkpoint (local or s3://), or a local Hugging Face folder.
        huggingface: the folder's ``config.json``; None for a checkpoint.
        questions: of each task, in the order of ``tasks``.
        name: of the result files.
    """

    model: str
    huggingface: dict[str, Any] | None
    questions: list[Questions]
    name: str


def find_inputs(config: Evaluation) -> Inputs:
    """Find the model, the tokenizer and the questions, and try to write where the results go.

    Raises:
        UserError: one message with all faults.
    """
    faults: list[str] = []
    questions: list[Questions] = []
    model, huggingface = config.model, None
    try:
        model, huggingface = _find_model(config.model)
    except UserError as error:
        faults.append(f"model: {error}")
    if config.tokenizer is not None and not storage.exists(storage.join(config.tokenizer, "tokenizer.json")):
        faults.append(f"tokenizer: {config.tokenizer}: a tokenizer folder holds tokenizer.json; there is none")
    for task in config.tasks:
        try:
            questions.append(load_questions(TASKS[task], config.data, config.limit))
        except UserError as error:
            faults.append(f"data: {error}")
    try:
        storage.require_writable(config.out)
    except UserError as error:
        faults.append(f"out: {error}")
    if faults:
        number = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise UserError(f"{number} before scoring\n" + "\n".join(f"  {fault}" for fault in faults), shared=True)
    return Inputs(model, huggingface, questions, config.name or _name(model))


def _find_model(location: str) -> tuple[str, dict[str, Any] | None]:
    """The checkpoint itself, or the Hugging Face folder with its ``config.json``."""
    if storage.is_remote(location) or not (Path(location) / "config.json").exists():
        return resolve(location), None
    try:
        huggingface = json.loads((Path(location) / "config.json").read_bytes())
    except ValueError as error:
        raise UserError(f"{location}/config.json: not JSON: {error}") from error
    if not isinstance(huggingface, dict):
        raise UserError(f"{location}/config.json: not the configuration of a model")
    return location, huggingface


def _name(model: str) -> str:
    """``…/runs/whole/ep0-ba48`` → ``whole-ep0-ba48``; ``exported/biomedlm`` → ``biomedlm``."""
    path = Path(model.removeprefix("s3://")).absolute()
    return f"{path.parent.name}-{path.name}" if NAME.fullmatch(path.name) else path.name
