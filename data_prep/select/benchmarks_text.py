"""The questions of MedQA, MedMCQA, MMLU, PubMedQA and BioASQ, from a folder with the official files.

What counts is what is scored, so the test and development splits::

    medqa/**/*{test,dev}*.jsonl, .json     a question a line, or an array of them
    medmcqa/**/{test,dev}*.json            a question a line
    mmlu/**/*_{test,val,dev}.csv           whatever subjects are there
    pubmedqa/**/*.json                     all 1,000 expert-labelled questions, whatever the split; not PQA-U and PQA-A
    bioasq/**/*golden*.json                the golden file of each batch of each year
    bioasq/**/{test,dev}.tsv               the yes/no questions in BLURB's form

Every other file of the folder is named in the report, so that a misspelt name is seen.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from base.errors import NotThere, UserError
from data_prep.schema import Benchmark

NAMES: tuple[str, ...] = get_args(Benchmark)
OPTION_LETTER = re.compile(r"^[A-J]\. ")  # one space: what follows is the option, and part of the item's id
PUBMED_URL = re.compile(r"/pubmed/(\d+)/?$|pubmed\.ncbi\.nlm\.nih\.gov/(\d+)/?$")
SCORED = {"test", "dev", "val", "validation"}


@dataclass
class Item:
    """A question. ``question`` has its text and the options' texts; ``contexts`` what it is asked about or with."""

    benchmark: str
    id: str
    question: list[str] = field(default_factory=list)
    contexts: list[str] = field(default_factory=list)
    pmids: list[int] = field(default_factory=list)


@dataclass
class Questions:
    """All items (one for each benchmark and id, whatever number of files have it) and what was done with each file."""

    items: list[Item]
    files: dict[str, list[str]]  # by benchmark, those that were read
    left_out: list[str]


def read_questions(folder: Path) -> Questions:
    """Read every scored question below ``folder``.

    Raises:
        NotThere: there is no such folder, or no file of any benchmark in it.
        UserError: a file is not in the official form; nothing is skipped inside a file.
    """
    if not folder.is_dir():
        raise NotThere(f"{folder}: no such folder; select.decontaminate.questions names one with the official files")
    items: dict[tuple[str, str], Item] = {}
    files: dict[str, list[str]] = {name: [] for name in NAMES}
    left_out = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = path.relative_to(folder)
        benchmark = relative.parts[0]
        if benchmark not in NAMES or not _counts(benchmark, path):
            left_out.append(str(relative))
            continue
        files[benchmark].append(str(relative))
        for item in _read(benchmark, path):
            known = items.setdefault((benchmark, item.id), Item(benchmark, item.id))
            for mine, more in ((known.question, item.question), (known.contexts, item.contexts)):
                mine.extend(text for text in more if text not in mine)
            known.pmids.extend(pmid for pmid in item.pmids if pmid not in known.pmids)
    if not items:
        raise NotThere(f"{folder}: no question in it; expected are the official files below {', '.join(NAMES)}")
    return Questions(list(items.values()), {name: found for name, found in files.items() if found}, left_out)


def _counts(benchmark: str, path: Path) -> bool:
    parts = set(re.split(r"[^a-z]+", path.name.lower()))
    scored = bool(parts & SCORED) and "train" not in parts
    if benchmark == "pubmedqa":
        return path.suffix == ".json" and not parts & {"pqau", "pqaa"}
    if benchmark == "bioasq":
        return (path.suffix == ".json" and "golden" in parts) or (path.suffix == ".tsv" and scored)
    if benchmark == "mmlu":
        return path.suffix == ".csv" and scored
    return path.suffix in (".json", ".jsonl") and scored


def _read(benchmark: str, path: Path) -> Iterator[Item]:
    rows = {".csv": _csv, ".tsv": _tsv}.get(path.suffix, _json)(path)
    item_of = {
        "medqa": _medqa, "medmcqa": _medmcqa, "mmlu": _mmlu, "pubmedqa": _pubmedqa,
        "bioasq": _blurb if path.suffix == ".tsv" else _bioasq,
    }[benchmark]  # fmt: skip
    for place, row in rows:
        try:
            yield item_of(path, place, row)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}, question {place}: not in the official form of {benchmark} ({type(error).__name__}: {error}); "
                "take the official file, or take this one out of the folder"
            ) from error


def _json(path: Path) -> Iterator[tuple[Any, Any]]:
    """Rows of an array, of BioASQ's ``questions`` or of lines, with their number; of another object, with their key."""
    try:
        text = path.read_text(encoding="utf-8")
        try:
            content = json.loads(text)
        except json.JSONDecodeError:  # several lines, each a value
            content = [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise UserError(f"{path}: neither JSON nor JSON lines in UTF-8: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("questions"), list):
        content = content["questions"]
    if isinstance(content, dict) and "question" in content:
        content = [content]  # JSON lines with one line
    if not isinstance(content, dict | list):
        raise UserError(f"{path}: holds a bare value, no questions")
    yield from content.items() if isinstance(content, dict) else enumerate(content, 1)


def _csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    with _text_file(path) as file:
        yield from enumerate((row for row in csv.reader(file) if row), 1)


def _tsv(path: Path) -> Iterator[tuple[int, list[str]]]:
    with _text_file(path) as file:
        yield from enumerate((line.rstrip("\n").split("\t") for line in file if line.strip()), 1)


def _text_file(path: Path) -> Any:
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not in UTF-8: {error}") from error
    return open(path, encoding="utf-8", newline="")


def _medqa(path: Path, place: Any, row: Any) -> Item:
    options = row["options"]
    if isinstance(options, dict):
        texts = [options[letter] for letter in sorted(options)]
    else:
        texts = [OPTION_LETTER.sub("", option) for option in options]
    question = _text(row["question"])
    # The file gives no ids: a hash of the content, the one that the evaluation uses.
    name = hashlib.sha256("\n".join((question, *texts)).encode()).hexdigest()[:16]
    return Item("medqa", name, [question, *map(_text, texts)])


def _medmcqa(path: Path, place: Any, row: Any) -> Item:
    options = [row[name] for name in ("opa", "opb", "opc", "opd")]
    return Item("medmcqa", _text(row["id"]), [_text(row["question"]), *(option for option in options if option)])


def _mmlu(path: Path, place: int, row: list[str]) -> Item:
    question, *options, _ = row[:6]
    if len(row) != 6:
        raise ValueError(f"{len(row)} columns; a question, four options and a letter are six")
    return Item("mmlu", f"{path.stem}:{place}", [_text(question), *options])


def _pubmedqa(path: Path, pmid: str, row: Any) -> Item:
    number = int(pmid)
    if isinstance(row, str):  # test_ground_truth.json: the label alone
        return Item("pubmedqa", pmid, pmids=[number])
    return Item("pubmedqa", pmid, [_text(row["QUESTION"])], [*row["CONTEXTS"], _text(row["LONG_ANSWER"])], [number])


def _bioasq(path: Path, place: Any, row: Any) -> Item:
    snippets = row.get("snippets") or []
    urls = [*(row.get("documents") or []), *(snippet["document"] for snippet in snippets)]
    found = [match for match in map(PUBMED_URL.search, urls) if match]  # a few documents are full texts
    pmids = list(dict.fromkeys(int(match[1] or match[2]) for match in found))
    return Item("bioasq", _text(row["id"]), [_text(row["body"])], [_text(each["text"]) for each in snippets], pmids)


def _blurb(path: Path, place: int, row: list[str]) -> Item:
    if len(row) != 4:
        raise ValueError(f"{len(row)} columns; id, question, snippets and answer are four")
    return Item("bioasq", _text(row[0]), [_text(row[1])], [row[2]])


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"a text is missing: {value!r}")
    return value
