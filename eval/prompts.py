"""Questions as token ids: what the model reads, and which of it is scored. No model and no torch here."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from tokenizers import Tokenizer

from base import storage
from base.errors import UserError
from eval.task import Item, Questions, Task

BEGINNING_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Encoded:
    """One question as token ids.

    Attributes:
        id: of the question.
        given: how many tokens are given; the tokens after them are scored. The same for every option.
        rows: for each option, the ids of prompt, separator and option; each is longer than ``given``.
    """

    id: str
    given: int
    rows: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Tokens that the model reads at most: the last token of a row is scored, but never read."""
        return max(len(row) for row in self.rows) - 1


@dataclass(frozen=True)
class Prepared:
    """A task's questions, ready to be scored by any model with this tokenizer.

    Attributes:
        questions: as read from the file.
        encoded: the questions that can be scored.
        unscorable: id → reason, for refused rows and for questions that do not fit.
        too_long: how many questions do not fit into the model's context.
        prompt_hash: see :func:`prompt_hash`.
    """

    questions: Questions
    encoded: tuple[Encoded, ...]
    unscorable: dict[str, str]
    too_long: int
    prompt_hash: str

    def describe(self) -> str:
        """One line: what was found, and what cannot be scored."""
        text = self.questions.describe()
        return f"{text}; {self.too_long:,} too long for the context, counted as wrong" if self.too_long else text


def load_tokenizer(folder: str) -> Tokenizer:
    """The tokenizer of a folder (local or s3://) with ``tokenizer.json``, with truncation and padding switched off.

    Raises:
        UserError: there is no such file, or it is not a tokenizer.
    """
    path = storage.join(folder, "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_str(storage.read_bytes(path).decode())
    except UserError as error:
        raise UserError(f"{error}; a tokenizer folder holds tokenizer.json") from None
    except Exception as error:  # the library raises Exception itself
        raise UserError(f"{path}: not a tokenizer: {error}") from None
    # Both may be stored in the file, and would cut or lengthen questions in silence.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def prepare(questions: Questions, tokenizer: Tokenizer, max_seq_len: int, beginning_of_text: bool = False) -> Prepared:
    """Tokenize each question with each of its options.

    A question is never cut. One that is longer than ``max_seq_len`` tokens with its longest option cannot be scored: it
    is counted, listed, and stays in the denominator as a wrong answer.

    ``beginning_of_text`` puts ``<|endoftext|>`` before the prompt, as stood before each document in training. It is off
    by default, as in lm-eval and llm-foundry with GPT-2 tokenizers, so that the scores compare.
    """
    first = _beginning(tokenizer) if beginning_of_text else ()
    encoded: list[Encoded] = []
    unscorable = {refused.id: refused.reason for refused in questions.refused}
    too_long = 0
    for item in questions.items:
        entry = encode(questions.task, item, tokenizer, first)
        if entry.given == 0:
            unscorable[item.id] = "no token of the prompt comes before the options"
        elif entry.length > max_seq_len:
            unscorable[item.id] = f"{entry.length:,} tokens with its longest option; the model reads {max_seq_len:,}"
            too_long += 1
        else:
            encoded.append(entry)
    return Prepared(
        questions, tuple(encoded), unscorable, too_long, prompt_hash(questions.task, tokenizer, beginning_of_text)
    )


def encode(task: Task, item: Item, tokenizer: Tokenizer, first: tuple[int, ...] = ()) -> Encoded:
    """The ids of prompt + separator + option for each option, after the ids in ``first``.

    As in lm-eval 0.4.13 the two are tokenized together, spaces at the end of the prompt count as the option's, and the
    prompt's own tokens are given. A token that spans the join cannot be divided: it is scored, with every option of the
    question, so that all options are scored after the same given tokens and none is left without tokens. (lm-eval cuts
    at the number of the prompt's tokens there, which leaves an option without tokens: its issues 1053 and 1297.)
    """
    prompt = task.prompt(item)
    alone = tokenizer.encode(prompt.rstrip(), add_special_tokens=False).ids
    rows = [tokenizer.encode(prompt + task.separator + option, add_special_tokens=False).ids for option in item.options]
    given = min(min(_common(alone, row), len(row) - 1) for row in rows)
    return Encoded(item.id, max(given, 0) + len(first), tuple((*first, *row) for row in rows))


def prompt_hash(task: Task, tokenizer: Tokenizer, beginning_of_text: bool) -> str:
    """SHA-256 over everything that decides which tokens are scored: scores with different hashes do not compare."""
    decides = {
        "task": task.name,
        "version": task.version,
        "template": task.template,
        "separator": task.separator,
        "form": "cloze",
        "beginning_of_text": beginning_of_text,
        "tokenizer": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _beginning(tokenizer: Tokenizer) -> tuple[int, ...]:
    token = tokenizer.token_to_id(BEGINNING_OF_TEXT)
    if token is None:
        raise UserError(f"beginning_of_text: the tokenizer knows no {BEGINNING_OF_TEXT}; leave the option off")
    return (token,)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))
