"""A question-answering task as data. Nothing here knows a model, and nothing reads a file.

The path of a row: the official files → ``Source.read_rows`` → ``Source.read_row`` → :class:`Item`, or :class:`Refused`
with the reason (``eval/official_files.py``). Every row ends in one of the two, and refused rows stay in the denominator
of the score as wrong answers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Row = dict[str, Any]

ACC, ACC_NORM, ACC_BYTES, ACC_TOKEN, ACC_PMI = METRICS = ("acc", "acc_norm", "acc_bytes", "acc_token", "acc_pmi")
"""Which option is the answer: the one with the highest log-likelihood; the same divided by the option's characters,
by its UTF-8 bytes, by its tokens; the same less its log-likelihood after no question. The first three are lm-eval's
metrics of these names, the last is its ``acc_mutual_info``, and the fourth is how llm-foundry scores."""

LETTERS = "ABCDEFGHIJ"


class BadRow(ValueError):
    """Why a row of a file cannot become a question."""


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        gold: the right option, counted from 0.
        subject: None where the data set has none.
        passages: what the question is asked about, in pieces of which the last ones may be left out.
        pmids: of the PubMed abstracts that it is made from.
    """

    id: str
    question: str
    options: tuple[str, ...]
    gold: int
    subject: str | None = None
    passages: tuple[str, ...] = ()
    pmids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A row that is no question: its id when it has one (else its place in the file), its place, and the reason."""

    id: str
    place: str
    reason: str


@dataclass(frozen=True)
class Form:
    """How a question is put, and what is scored after it.

    Attributes:
        template: ``{question}``, ``{context}`` (the passages, joined by ``passages``) and ``{options}`` (a line
            ``A. …`` for each) stand for these. Its end is where the answer begins, after one space.
        answers: ``texts``: the likelihood of each option's text (a cloze question); ``letters``: of its letter.
        metric: the primary accuracy of this form.
        description: stands once before everything, shots included.
        passages: what joins the passages.
    """

    template: str
    answers: Literal["texts", "letters"]
    metric: str
    description: str = ""
    passages: str = "\n"


@dataclass(frozen=True)
class Release:
    """A known version of official files: its name, its questions, and the SHA-256 of its files' bytes where known."""

    name: str
    rows: int
    sha256: tuple[str, ...] = ()


@dataclass(frozen=True)
class Download:
    """A file that can be fetched, and the official file that it becomes (``python -m eval get``).

    Attributes:
        server: ``hub``: a data set of the Hugging Face hub; ``github``: a file of a repository there.
        repository: owner and name.
        file: its path in the repository.
        to: the official file's path below the data folder.
        convert: its bytes → those of the official format; None: they are the same.
    """

    server: Literal["hub", "github"]
    repository: str
    file: str
    to: str
    convert: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Source:
    """Official files below the data folder, and how they are read.

    Attributes:
        patterns: one file of each is needed; of several that fit, the one with the shortest name is taken, since parts
            have longer ones.
        read_rows: the files, in the order of the patterns → (place, row) of each row; a BadRow in a row's stead. May
            raise UserError when a file is not of this kind at all.
        read_row: row → Item; raises BadRow.
        releases: known ones.
        downloads: from where the files can be fetched; empty: they cannot.
        every: whether all files that fit are read, not one.
        in_order: whether shots are its first rows in the order of the file, as the data set's authors give them; else
            they are the first in the order of a hash of their ids.
        check_rows: all rows → what shows that the file is of another version, or None; None where rows show it alone.
    """

    patterns: tuple[str, ...]
    read_rows: Callable[[Sequence[Path]], Iterable[tuple[str, Row | BadRow]]]
    read_row: Callable[[Row], Item]
    releases: tuple[Release, ...] = ()
    downloads: tuple[Download, ...] = ()
    every: bool = False
    in_order: bool = False
    check_rows: Callable[[Sequence[Row]], str | None] | None = None


@dataclass(frozen=True)
class Task:
    """What is asked, how, and from which files.

    Attributes:
        name: as in configurations and loggers.
        version: goes up whenever a score of this task stops being comparable with earlier ones.
        scored: the questions.
        shots: where examples come from; None: there are none to take.
        origin: from where the user gets the files.
        forms: by name, ``cloze`` and ``letter``.
        primary: the form and the number of shots that a score of this task means when nothing else is said.
        notes: what a reader must know before setting the score beside another one.
        fixed_options: every question has these options in this order (yes, no, maybe), and macro-F1 means something.
    """

    name: str
    version: int
    scored: Source
    shots: Source | None
    origin: str
    forms: dict[str, Form]
    primary: tuple[str, int]
    notes: str
    fixed_options: bool = False


@dataclass(frozen=True)
class Protocol:
    """A task asked in one form with so many shots. Its name is the key of its score everywhere."""

    task: Task
    form_name: str
    shots: int

    @property
    def form(self) -> Form:
        return self.task.forms[self.form_name]

    @property
    def name(self) -> str:
        """``medqa`` for the primary protocol, else with what differs: ``medqa_letter``, ``medqa_letter_2shot``."""
        form, shots = self.task.primary
        parts = [self.task.name]
        if (self.form_name, self.shots) != (form, shots):
            parts.append(self.form_name)
            parts += [f"{self.shots}shot"] if self.shots else []
        return "_".join(parts)


def text_of(row: Row, key: str) -> str:
    """The text at ``key``, unchanged. Raises BadRow when it is missing, not text (NaN for example) or empty."""
    if key not in row:
        raise BadRow(f"has no {key}")
    return require_text(row[key], key)


def require_text(value: Any, name: str) -> str:
    """``value`` unchanged. Raises BadRow when it is not text, or empty."""
    if not isinstance(value, str):
        raise BadRow(f"{name} is not text but {value!r}")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{name} holds half a surrogate pair, which is no character") from None
    return value


def first_few(told: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    more = f"; and {len(told) - 3:,} more" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more
