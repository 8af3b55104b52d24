"""BioASQ's yes/no questions about snippets of abstracts (Tsatsaronis et al. 2015): BLURB's split of Task 7B (Gu et al.
2020, arXiv 2007.15779), and the golden files of any years."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from base.errors import UserError
from eval.official_files import read_json
from eval.other_formats import looks_like
from eval.task import ACC, BadRow, Form, Item, Release, Row, Source, Task, require_text, text_of

ANSWERS = ("yes", "no")
PUBMED_URL = re.compile(r"/pubmed/(\d+)/?$|pubmed\.ncbi\.nlm\.nih\.gov/(\d+)/?$")
SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z0-9(\[\"'])")
"""Where BLURB's joined snippets are divided: at one space, which joins them again to the same text."""


def read_blurb(paths: Sequence[Path]) -> Iterator[tuple[str, Row | BadRow]]:
    """Lines of id, question, joined snippets and yes or no, between tabs; nothing is quoted."""
    for number, line in enumerate(paths[0].read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            cells = line.decode().removesuffix("\r").split("\t")
        except UnicodeDecodeError as error:
            yield f"line {number}", BadRow(f"not in UTF-8: {error}")
            continue
        if len(cells) != 4:
            yield f"line {number}", BadRow(f"has {len(cells)} columns; id, question, snippets and answer are four")
        else:
            yield f"line {number}", dict(zip(("id", "question", "snippets", "answer"), cells, strict=True))


def read_blurb_row(row: Row) -> Item:
    """One line of :func:`read_blurb`."""
    passages = tuple(SENTENCE.split(text_of(row, "snippets")))
    return Item(text_of(row, "id"), text_of(row, "question"), ANSWERS, _gold(row["answer"]), passages=passages)


def read_golden(paths: Sequence[Path]) -> Iterator[tuple[str, Row | BadRow]]:
    """The yes/no questions of golden files; their other questions are no rows of this task."""
    for path in paths:
        content = read_json(path)
        questions = content.get("questions") if isinstance(content, dict) else None
        if not isinstance(questions, list):
            other = looks_like([content]) if isinstance(content, dict) else None
            told = f"; its format looks like {other}" if other else ""
            raise UserError(f"{path}: not an object with a list of questions, as the golden files are{told}")
        for number, row in enumerate(questions, start=1):
            place = f"{path.name}, question {number}"
            if not isinstance(row, dict) or "type" not in row:
                yield place, BadRow("has no type (yesno, factoid, list or summary)")
            elif row["type"] == "yesno":
                yield place, row


def read_golden_row(row: Row) -> Item:
    """``body`` about ``snippets``, gold in ``exact_answer``, PMIDs in the URLs of ``documents`` and snippets."""
    snippets = row.get("snippets")
    if not isinstance(snippets, list) or not all(isinstance(snippet, dict) for snippet in snippets):
        raise BadRow("snippets is not a list of objects")
    passages = tuple(text_of(snippet, "text") for snippet in snippets)
    if not passages:
        raise BadRow("has no snippet to ask about")
    gold = row.get("exact_answer")
    documents = row.get("documents")
    urls = [*(documents if isinstance(documents, list) else ()), *(snippet.get("document") for snippet in snippets)]
    # A few documents are full texts, which have no PMID in their URL.
    found = [match for match in map(PUBMED_URL.search, map(str, urls)) if match]
    return Item(
        text_of(row, "id"),
        text_of(row, "body"),
        ANSWERS,
        _gold(gold.lower() if isinstance(gold, str) else gold),  # one of 392 is "Yes"
        passages=passages,
        pmids=tuple(dict.fromkeys(int(match[1] or match[2]) for match in found)),
    )


def _gold(answer: object) -> int:
    if answer not in ANSWERS:
        raise BadRow(f"the answer is {answer!r}, not yes or no")
    return ANSWERS.index(require_text(answer, "answer"))


FORMS = {
    "cloze": Form("Abstract: {context}\nQuestion: {question}\nAnswer:", "texts", ACC, passages=" "),
    "letter": Form("Abstract: {context}\nQuestion: {question}\n{options}\nAnswer:", "letters", ACC, passages=" "),
}

BLURB_ORIGIN = (
    "The questions are given to those who register at http://participants-area.bioasq.org; the split is made by the "
    "script of https://microsoft.github.io/BLURB. Put train.tsv, dev.tsv and test.tsv into DATA/bioasq/blurb"
)

TRAIN = Source(
    ("bioasq/blurb/train*.tsv",),
    read_blurb,
    read_blurb_row,
    releases=(Release("BLURB train", 670, ("980f3508f4e8022bdd07dfdbe36611aa4c3e1f3801b27560329d14f224577017",)),),
)

BIOASQ = Task(
    name="bioasq",
    version=1,
    scored=Source(("bioasq/blurb/test*.tsv",), read_blurb, read_blurb_row, releases=(Release("BLURB test", 140),)),
    shots=TRAIN,
    origin=BLURB_ORIGIN,
    forms=FORMS,
    primary=("cloze", 0),
    notes=(
        "BLURB's test, the 140 yes/no questions of Task 7B: one question is 0.7 points. Yes is gold in 67 %: that is "
        "the majority baseline (82 % in train, 83 % in dev). BioMedLM's published 95.7 is fine-tuned."
    ),
    fixed_options=True,
)

BIOASQ_DEV = Task(
    name="bioasq_dev",
    version=1,
    scored=Source(
        ("bioasq/blurb/dev*.tsv",),
        read_blurb,
        read_blurb_row,
        releases=(Release("BLURB dev", 75, ("bf9ae5f70164bb9eff330faa6bf827d53d34b721b744abc7e8004865612e6695",)),),
    ),
    shots=TRAIN,
    origin=BLURB_ORIGIN,
    forms=FORMS,
    primary=("cloze", 0),
    notes="BLURB's dev split. Yes is gold in 83 %: that is the majority baseline.",
    fixed_options=True,
)

GOLDEN_FILES = (  # those that are known, with their yes/no questions
    Release("8B1", 25, ("a1c007e9fd70762368d240cf5585b4eca8e45ff6756bb4ff5d757fad708e4868",)),
    Release("8B2", 36, ("987c7be72cb49d80b87935c5d2a3b5fafc06d786905407f6bf60d52cbf496d87",)),
    Release("8B3", 31, ("432a6bc9a338f6d2487b595b27aeb774b5b43c0e33be54cdf5b9c6749021bed4",)),
    Release("8B4", 26, ("a7a5eaf8551f07096ded95258cb75d4e1c0e2831d2b9e438a68ca6a3f8cba108",)),
    Release("8B5", 34, ("2be73d9444557745d57b66e5cdfbd976870920ad8d764d512dbcecb20cf46f68",)),
    Release("9B1", 27, ("236f569be95c36b07d62a636baef53a896c36993296f6680936bdb353880fedf",)),
    Release("9B2", 22, ("c8f8202b3ee6cf8d3ff570e872ba2f57d9890e723e01211abd2ecef5320ce32a",)),
    Release("9B3", 24, ("3a06983fb13f3069f1fbf2f0950275a8311fc5db423577a0e9ddb14d2a698092",)),
    Release("9B4", 25, ("f7a44a823ea1c2946420b829df13c58551707410f84b31125d2db83857c0c5bb",)),
    Release("9B5", 19, ("be7595992cda0597f456eaa650f1bbf4fee4d0466ee346bcd6adba2638fec662",)),
    Release("10B1", 23, ("27fbc53bdcecf45e37a4fcdb996da6768251fa57dcdabc158ed11df061e9b3ee",)),
    Release("10B2", 18, ("d4e51037d2821b3938e7e06a4f21da2d0abef501e7ac0e5cad4e676e3e2ac0b7",)),
    Release("10B3", 24, ("3fe1ba47176e4956b4b6dd4610adc9cae7f7cb8059194aa2a495444f9fd8f71c",)),
    Release("10B4", 24, ("3ea3a9a7fbaa19288fb0dfa2d36461161714695363bfd9c2d558a32b25e4c2ce",)),
    Release("10B5", 28, ("ed5648fc222e4c24a5f63cb849b81d1e383f4834ad95fae5aa0a8e65d1f409e8",)),
    Release("10B6", 6, ("bf59785a8293b3fac257125e6c82227ce47aecac824cfe8bb00bedc429ef8902",)),
)

BIOASQ_GOLDEN = Task(
    name="bioasq_golden",
    version=1,
    scored=Source(("bioasq/**/*golden*.json",), read_golden, read_golden_row, releases=GOLDEN_FILES, every=True),
    shots=TRAIN,
    origin=(
        "The golden files of each year (such as Task8BGoldenEnriched/8B1_golden.json) are given to those who register "
        "at http://participants-area.bioasq.org; put their folders into DATA/bioasq"
    ),
    forms=FORMS,
    primary=("cloze", 0),
    notes="The yes/no questions of all golden files that are there: scores on other files are others.",
    fixed_options=True,
)
