"""Lists of medical terms, to see which a tokenizer keeps whole, and how often the training text has each.

A folder with any of these files, tab-separated, with a line of names at the top:

===============================  ===========================================================================
mesh_terms_by_specialty.tsv      ``specialty``, ``term``: MeSH headings, which may be inverted
do_terms.tsv                     ``term``: diseases
drug_names.tsv                   ``name``: drugs
gene_mentions_bc2gm.tsv          ``mention``: genes and proteins, as words joined by spaces
===============================  ===========================================================================
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from base.errors import UserError
from data_prep.tokenizer.corpus import Choice

MESH, DISEASES, DRUGS, GENES = (
    "mesh_terms_by_specialty.tsv", "do_terms.tsv", "drug_names.tsv", "gene_mentions_bc2gm.tsv",
)  # fmt: skip
COLUMNS = {MESH: ("specialty", "term"), DISEASES: ("term",), DRUGS: ("name",), GENES: ("mention",)}
WORD = re.compile(r"[^\W_]+")
Words = tuple[str, ...]


@dataclass(frozen=True)
class TermList:
    """Terms of one kind (``specialty``, ``disease``, ``drug``, ``gene``)."""

    kind: str
    name: str
    terms: tuple[str, ...]


def read_terms(folder: Path) -> list[TermList]:
    """The lists of a folder, each term once in its list, in the order of words that a sentence has.

    Raises:
        UserError: none of the files is there, or one has other columns.
    """
    found = [name for name in COLUMNS if (folder / name).is_file()]
    if not found:
        raise UserError(f"tokenizer.terms: {folder} holds none of {', '.join(COLUMNS)}")
    lists: list[TermList] = []
    for name in found:
        rows = _read(folder / name, COLUMNS[name])
        if name == MESH:
            specialties = sorted({row["specialty"] for row in rows})
            lists += [
                _list("specialty", specialty, (natural(row["term"]) for row in rows if row["specialty"] == specialty))
                for specialty in specialties
            ]
        elif name == DISEASES:
            lists.append(_list("disease", "diseases", (row["term"] for row in rows)))
        elif name == DRUGS:
            lists.append(_list("drug", "drugs", (row["name"] for row in rows)))
        else:
            lists.append(_list("gene", "genes", (joined(row["mention"]) for row in rows)))
    return lists


def _read(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [column for column in columns if column not in (reader.fieldnames or [])]
        if missing:
            raise UserError(f"tokenizer.terms: {path} has no column {', '.join(missing)} in its first line")
        return list(reader)


def _list(kind: str, name: str, terms: Iterable[str]) -> TermList:
    return TermList(kind, name, tuple(dict.fromkeys(term for term in terms if term)))


def natural(heading: str) -> str:
    """``Leukemia, Myeloid, Acute`` → ``Acute Myeloid Leukemia``; a comma without a space, as in ``1,2-``, stays."""
    return " ".join(reversed(heading.split(", ")))


def joined(mention: str) -> str:
    """``NF - kappa B ( p65 )`` → ``NF-kappa B (p65)``: the spaces that the list put around its marks are taken out."""
    return re.sub(r"(?<=[(\[]) | (?=[)\],.'])", "", re.sub(r" ?([-/]) ?", r"\1", mention))


def lowered(term: str) -> str:
    """Words with one capital, at their beginning, in lower case: ``Acute Myeloid Leukemia``, but not ``DNA``."""
    return re.sub(r"\b[A-Z][a-z]+\b", lambda word: word[0].lower(), term)


@dataclass(frozen=True)
class CountTask:
    """Count the terms of a folder in the documents of one file that are trained on."""

    part: Path
    terms: Path
    choice: Choice


def count_terms(task: CountTask) -> dict[Words, int]:
    """How often each term occurs, as listed and :func:`lowered`: as a run of words, whatever stands between them."""
    wanted = {
        words_of(form) for each in read_terms(task.terms) for term in each.terms for form in (term, lowered(term))
    }
    lengths: dict[str, tuple[int, ...]] = {}
    for form in wanted:
        if form:
            lengths[form[0]] = tuple(sorted({*lengths.get(form[0], ()), len(form)}))
    counts: Counter[Words] = Counter()
    for _, texts in task.choice.texts(task.part):
        for text in texts.to_pylist():
            words = WORD.findall(text)
            for index, word in enumerate(words):
                if word in lengths:
                    for length in lengths[word]:
                        run = tuple(words[index : index + length])
                        if run in wanted:
                            counts[run] += 1
    return dict(counts)


def words_of(term: str) -> Words:
    """Its runs of letters and digits."""
    return tuple(WORD.findall(term))


@dataclass(frozen=True)
class Spelled:
    """A term as it is measured, and how often the training text has it in any spelling looked for."""

    text: str
    count: int


def spelled(term: str, counts: Counter[Words]) -> Spelled:
    """The spelling that the text has more often: as listed, or lowered, which also stands where it has neither."""
    low = lowered(term)
    here, there = counts[words_of(term)], counts[words_of(low)]
    if words_of(term) == words_of(low):
        return Spelled(low, here)
    return Spelled(term if here > there else low, here + there)
