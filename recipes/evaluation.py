"""What an evaluation asks and of whom: its configuration, and its inputs looked up before torch is imported."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from base import storage
from base.configuration import Schema
from base.errors import UserError
from eval.official_files import Questions, load_questions
from eval.prompts import Prepared
from eval.seen import Card, read_card
from eval.tasks import protocols
from eval.texts import Texts, load_texts
from model.checkpoint import NAME, resolve
from recipes.hub import fetch_from_hub
from recipes.schema import Positive, Tasks

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Evaluation(Schema):
    """``composer [-n N] evaluate.py yamls/eval/NAME.yaml model=…``; each key is explained in yamls/eval/qa.yaml."""

    model: str | None = None
    watch: str | None = None
    watch_every_seconds: Annotated[float, Field(gt=0)] = 60.0
    watch_idle_seconds: Annotated[float, Field(gt=0)] | None = None
    tokenizer: str | None = None
    max_seq_len: Positive | None = None
    data: str
    tasks: Tasks
    limit: Positive | None = None
    device_eval_batch_size: Positive = 16
    precision: Literal["fp32", "amp_bf16"] = "fp32"
    beginning_of_text: bool = False
    pmi: bool = False
    corpus: str | None = None
    texts: dict[str, str] = {}
    texts_limit_bytes: Positive | None = None
    out: str
    name: str | None = None

    @classmethod
    def cross_checks(cls) -> list[Callable[[Any], Iterable[tuple[str, str]]]]:
        return [_one_subject]


def _one_subject(config: Any) -> Iterable[tuple[str, str]]:
    if (config.model is None) == (config.watch is None):
        yield "model", "give the model to score: model=CHECKPOINT_OR_FOLDER, or watch=FOLDER_OF_CHECKPOINTS"
    if config.watch is not None and config.name is not None:
        yield "name", "results of checkpoints that are watched for have the checkpoints' names"


@dataclass(frozen=True)
class Model:
    """One model to score.

    Attributes:
        location: one checkpoint (local or s3://), or a local Hugging Face folder.
        huggingface: the folder's ``config.json``; None for a checkpoint.
        name: of its result files.
    """

    location: str
    huggingface: dict[str, Any] | None
    name: str


@dataclass(frozen=True)
class Asked:
    """What every model is asked.

    Attributes:
        questions: of each protocol, in the order of ``tasks``.
        texts: of each set.
        corpus: what the model was trained on holds of the questions; None when it was not given.
        prepared: the questions as tokens, by protocol, the tokenizer's SHA-256 and the model's length, once made.
    """

    questions: list[Questions]
    texts: list[Texts]
    corpus: Card | None
    prepared: dict[tuple[str, str, int], Prepared] = field(default_factory=dict)


def find_inputs(config: Evaluation) -> tuple[Model | None, Asked]:
    """Find the model (None when checkpoints are watched for), the tokenizer and all that is asked, and try to write
    where the results go.

    Raises:
        UserError: one message with all faults.
    """
    faults: list[str] = []
    questions: list[Questions] = []
    texts: list[Texts] = []
    model = corpus = None
    try:
        model = find_model(config.model) if config.model is not None else None
    except UserError as error:
        faults.append(f"model: {error}")
    if config.tokenizer is not None and not storage.exists(storage.join(config.tokenizer, "tokenizer.json")):
        faults.append(f"tokenizer: {config.tokenizer}: a tokenizer folder holds tokenizer.json; there is none")
    for protocol in protocols(config.tasks):
        try:
            questions.append(load_questions(protocol, config.data, config.limit))
        except UserError as error:
            faults.append(f"data: {error}")
    for name, place in config.texts.items():
        try:
            texts.append(load_texts(name, place, config.texts_limit_bytes))
        except UserError as error:
            faults.append(f"texts.{name}: {error}")
    try:
        corpus = read_card(config.corpus) if config.corpus is not None else None
    except UserError as error:
        faults.append(f"corpus: {error}")
    try:
        storage.require_writable(config.out)
    except UserError as error:
        faults.append(f"out: {error}")
    if faults:
        number = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise UserError(f"{number} before scoring\n" + "\n".join(f"  {fault}" for fault in faults), shared=True)
    return model, Asked(questions, texts, corpus)


def find_model(location: str) -> Model:
    """A checkpoint, the newest whole one of a folder, a Hugging Face folder, or a model's name on the hub.

    Raises:
        UserError: it is none of these, or the hub does not give it.
    """
    if not storage.is_remote(location) and (Path(location) / "config.json").exists():
        return Model(location, _huggingface(Path(location)), name_of(location))
    if not storage.is_remote(location) and not Path(location).exists() and HUB_NAME.fullmatch(location):
        folder = fetch_from_hub(location)
        return Model(str(folder), _huggingface(folder), location.replace("/", "-"))
    if not storage.is_remote(location) and not Path(location).exists():
        raise UserError(f"{location}: there is no such folder; on the hub a model is named owner/model")
    checkpoint = resolve(location)
    return Model(checkpoint, None, name_of(checkpoint))


def _huggingface(folder: Path) -> dict[str, Any]:
    try:
        configuration = json.loads((folder / "config.json").read_bytes())
    except ValueError as error:
        raise UserError(f"{folder}/config.json: not JSON: {error}") from error
    if not isinstance(configuration, dict):
        raise UserError(f"{folder}/config.json: not the configuration of a model")
    return configuration


def name_of(location: str) -> str:
    """``…/runs/whole/ep0-ba48`` → ``whole-ep0-ba48``; ``exported/biomedlm`` → ``biomedlm``."""
    path = Path(location.removeprefix("s3://")).absolute()
    return f"{path.parent.name}-{path.name}" if NAME.fullmatch(path.name) else path.name
