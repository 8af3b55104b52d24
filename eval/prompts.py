"""Questions as token ids: what the model reads, and which of it is scored. No model and no torch here."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any
from typing import Protocol as Interface

from tokenizers import Tokenizer

from base import storage
from base.errors import UserError
from eval.official_files import Questions
from eval.task import LETTERS, Form, Item

BEGINNING_OF_TEXT = "<|endoftext|>"
BETWEEN_SHOTS = "\n\n"


class Encoder(Interface):
    """Text → token ids, with no special tokens and nothing cut. ``sha256`` is that of all that decides the ids."""

    sha256: str
    beginning_of_text: int | None

    def __call__(self, texts: Sequence[str]) -> list[list[int]]: ...


class FastEncoder:
    """A tokenizer of the ``tokenizers`` library; what its file says of truncation and padding is switched off.

    ``beginning_of_text`` is the id of that token; None: of ``<|endoftext|>``, if there is one.
    """

    def __init__(self, tokenizer: Tokenizer, beginning_of_text: int | None = None):
        # Both would cut or lengthen questions in silence.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.sha256 = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        known = tokenizer.token_to_id(BEGINNING_OF_TEXT)
        self.beginning_of_text = known if beginning_of_text is None else beginning_of_text

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


@dataclass(frozen=True)
class Cut:
    """What was left out so that a question fits: whole shots, then whole passages, each from the last on."""

    shots: int = 0
    passages: int = 0


@dataclass(frozen=True)
class Encoded:
    """One question as token ids.

    Attributes:
        id: of the question.
        given: what stands before the options, the same for each; at least one id.
        options: for each option, the ids that are scored after ``given``; each at least one.
        cut: what was left out.
    """

    id: str
    given: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    cut: Cut = Cut()

    @property
    def length(self) -> int:
        """Positions of the model that it takes: the last token of an option is scored, but never read."""
        return len(self.given) + max(map(len, self.options)) - 1


@dataclass(frozen=True)
class Prepared:
    """A protocol's questions, ready to be scored by any model with this tokenizer.

    Attributes:
        questions: as read from the files.
        encoded: the questions that can be scored.
        unscorable: id → reason, for refused rows and for questions that do not fit.
        too_long: how many questions do not fit into the model's context.
        without_question: every answer that there is → its ids after the beginning of text alone, when the options'
            likelihoods without their question were asked for (``acc_pmi``).
        question_hash, prompt_hash: see :func:`question_hash` and :func:`prompt_hash`.
    """

    questions: Questions
    encoded: tuple[Encoded, ...]
    unscorable: dict[str, str]
    too_long: int
    without_question: dict[str, Encoded]
    question_hash: str
    prompt_hash: str

    @property
    def name(self) -> str:
        """The protocol's."""
        return self.questions.protocol.name

    def answers(self, item: Item) -> tuple[str, ...]:
        """The texts whose likelihoods are compared: the options, or their letters."""
        return answers(self.questions.protocol.form, item)

    def describe(self) -> str:
        """One line: what was found, what was left out, and what cannot be scored."""
        text = self.questions.describe()
        fewer_shots = sum(one.cut.shots > 0 for one in self.encoded)
        fewer_passages = sum(one.cut.passages > 0 for one in self.encoded)
        if fewer_shots:
            text += f"; {fewer_shots:,} with fewer shots, so as to fit"
        if fewer_passages:
            text += f"; {fewer_passages:,} with fewer passages, so as to fit"
        if self.too_long:
            text += f"; {self.too_long:,} too long for the context, counted as wrong"
        return text


def load_tokenizer(folder: str) -> Tokenizer:
    """The tokenizer of a folder (local or s3://) with ``tokenizer.json``.

    Raises:
        UserError: there is no such file, or it is not a tokenizer.
    """
    path = storage.join(folder, "tokenizer.json")
    try:
        return Tokenizer.from_str(storage.read_bytes(path).decode())
    except UserError as error:
        raise UserError(f"{error}; a tokenizer folder holds tokenizer.json") from None
    except Exception as error:  # the library raises Exception itself
        raise UserError(f"{path}: not a tokenizer: {error}") from None


def answers(form: Form, item: Item) -> tuple[str, ...]:
    """What is scored after the prompt, without the space before it."""
    return tuple(LETTERS[: len(item.options)]) if form.answers == "letters" else item.options


def prompt(form: Form, item: Item, shots: Sequence[Item] = (), passages: int | None = None) -> str:
    """The text before the space and the answer.

    ``passages`` is how many of the item's are kept, None: all. Shots keep all of theirs.
    """
    before = [f"{_ask(form, shot)} {answers(form, shot)[shot.gold]}{BETWEEN_SHOTS}" for shot in shots]
    return form.description + "".join(before) + _ask(form, item, passages)


def cut_prompt(questions: Questions, item: Item, cut: Cut) -> str:
    """The text before the space and the answer, without what was left out."""
    shots = questions.shots[: len(questions.shots) - cut.shots]
    return prompt(questions.protocol.form, item, shots, len(item.passages) - cut.passages)


def _ask(form: Form, item: Item, passages: int | None = None) -> str:
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False))
    context = form.passages.join(item.passages[:passages])
    return form.template.format(question=item.question, options=options, context=context)


def prepare(
    questions: Questions,
    encoder: Encoder,
    max_seq_len: int,
    beginning_of_text: bool = False,
    without_question: bool = False,
) -> Prepared:
    """Tokenize each question with each of its options.

    A question is never cut. Where it does not fit into ``max_seq_len`` tokens with its longest option, whole shots are
    left out, from the last on, then whole passages of what it is asked about. One that does not fit without any cannot
    be scored: it is counted, listed, and stays in the denominator as a wrong answer.

    Args:
        beginning_of_text: puts ``<|endoftext|>`` before the prompt, as stood before each document in training. It is
            off by default, as in lm-eval and llm-foundry with GPT-2 tokenizers, so that the scores compare.
        without_question: also prepare each option after ``<|endoftext|>`` alone, for ``acc_pmi``.
    """
    form, first = questions.protocol.form, _beginning(encoder) if beginning_of_text else ()
    encoded: list[Encoded] = []
    unscorable = {refused.id: refused.reason for refused in questions.refused}
    too_long = 0
    for item in questions.items:
        for cut in _cuts(len(questions.shots), len(item.passages)):
            entry = encode(item.id, cut_prompt(questions, item, cut), answers(form, item), encoder, first, cut)
            if entry is None or entry.length <= max_seq_len:
                break
        if entry is None:
            unscorable[item.id] = "no token of the prompt comes before the options"
        elif entry.length > max_seq_len:
            unscorable[item.id] = f"{entry.length:,} tokens with its longest option; the model reads {max_seq_len:,}"
            too_long += 1
        else:
            encoded.append(entry)
    alone: dict[str, Encoded] = {}
    if without_question:
        texts = sorted({text for item in questions.items for text in answers(form, item)})
        start = _beginning(encoder)
        alone = {
            text: Encoded(text, start, (tuple(ids),))
            for text, ids in zip(texts, encoder([f" {text}" for text in texts]), strict=True)
        }
    return Prepared(
        questions,
        tuple(encoded),
        unscorable,
        too_long,
        alone,
        question_hash(questions, beginning_of_text),
        prompt_hash(questions, encoder, beginning_of_text),
    )


def _cuts(shots: int, passages: int) -> Iterator[Cut]:
    yield from (Cut(shots=left_out) for left_out in range(shots + 1))
    # One at least stays: a question about a text cannot be asked without any of it.
    yield from (Cut(shots, left_out) for left_out in range(1, passages))


def encode(
    id: str, prompt: str, answers: Sequence[str], encoder: Encoder, first: tuple[int, ...] = (), cut: Cut = Cut()
) -> Encoded | None:
    """The ids of prompt, space and answer for each answer, after the ids in ``first``; None when none is given.

    As in lm-eval 0.4.13 the two are tokenized together, spaces at the end of the prompt count as the answer's, and the
    prompt's own tokens are given. A token that spans the join cannot be divided: it is scored, with every answer of the
    question, so that all are scored after the same given tokens and none is left without tokens. (lm-eval cuts at the
    number of the prompt's tokens there, which leaves an answer without tokens: its issues 1053 and 1297.)
    """
    alone, *rows = encoder([prompt.rstrip(), *(f"{prompt} {answer}" for answer in answers)])
    given = min(min(_common(alone, row), len(row) - 1) for row in rows)
    if given + len(first) < 1:
        return None
    return Encoded(id, (*first, *rows[0][: max(given, 0)]), tuple(tuple(row[max(given, 0) :]) for row in rows), cut)


def question_hash(questions: Questions, beginning_of_text: bool) -> str:
    """SHA-256 over all that decides what is asked: scores in which it differs do not compare."""
    protocol = questions.protocol
    return _hash(
        task=protocol.task.name,
        version=protocol.task.version,
        form=asdict(protocol.form),
        shots=[asdict(shot) for shot in questions.shots],
        beginning_of_text=beginning_of_text,
    )


def prompt_hash(questions: Questions, encoder: Encoder, beginning_of_text: bool) -> str:
    """SHA-256 over all that decides which tokens are scored: what is asked, and the tokenizer.

    Models with different tokenizers differ in it, and may be compared where they are asked the same.
    """
    return _hash(question=question_hash(questions, beginning_of_text), tokenizer=encoder.sha256)


def _hash(**decides: Any) -> str:
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _beginning(encoder: Encoder) -> tuple[int, ...]:
    if encoder.beginning_of_text is None:
        raise UserError("beginning_of_text: the tokenizer knows no such token; leave the option, and pmi, off")
    return (encoder.beginning_of_text,)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))
