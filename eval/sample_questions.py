"""Invented questions in the official formats and layouts of all tasks, for runs without the real files.

``python -m eval.sample_questions OUT_FOLDER [--n 200] [--seed 17]``

They exercise the path, and a score on them says nothing about medical knowledge. The wrong options of a question are
right answers to others of its kind, so that neither form nor frequency tells them from the right one, and each position
(yes, no and maybe) is right equally often. Every file has ``generated`` in its name.
"""

import argparse
import csv
import hashlib
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from base import storage
from base.errors import UserError, run_command
from base.progress import say
from eval.sample_facts import CONCLUSIONS, GENERAL, GROUPS, MEDICAL, OUTCOMES, PLACES, RESULTS, TREATMENTS, Kind
from eval.tasks import mmlu

FIRST_PMID = 900_000_001  # far above those that are given
SHOTS_OF_MMLU = 5

Json = dict[str, Any]


def write_sample_questions(folder: str, n: int = 200, seed: int = 17) -> list[str]:
    """Write ``n`` questions of each task, and ``n`` to take examples from, below ``folder``; returns the paths.

    The same ``n`` and ``seed`` give the same bytes. Raises UserError when ``n`` is below 1.
    """
    if n < 1:
        raise UserError(f"--n must be at least 1 question; it is {n}")
    paths = []
    for name, content in _files(n, seed).items():
        paths.append(str(Path(folder) / name))
        storage.write_bytes(paths[-1], content.encode())
    return paths


def _files(n: int, seed: int) -> dict[str, str]:
    """The official path of each file, and its text."""

    def draw(name: str) -> random.Random:
        return random.Random(f"{name} {seed}")

    four, five = "medqa/US/4_options/phrases_no_exclude_", "medqa/US/"
    files = {
        f"{four}test.generated.jsonl": _lines(_medqa(n, draw("medqa"))),
        f"{four}train.generated.jsonl": _lines(_medqa(n, draw("medqa train"))),
        f"{five}test.generated.jsonl": _lines(_medqa(n, draw("medqa 5"), "ABCDE")),
        f"{five}train.generated.jsonl": _lines(_medqa(n, draw("medqa 5 train"), "ABCDE")),
        "medqa/derived_5opt/medqa_full_dev.generated.json": _labelled(_medqa(n, draw("medqa 5 dev"), "ABCDE")),
        "medmcqa/dev.generated.json": _lines(_medmcqa(n, draw("medmcqa"), "sample")),
        "medmcqa/train.generated.json": _lines(_medmcqa(n, draw("medmcqa train"), "sample-train")),
    }
    studies = _pubmedqa(2 * n, draw("pubmedqa"))
    # Every second question is a test question, as nothing but the list tells which are.
    truth = {pmid: row["final_decision"] for pmid, row in list(studies.items())[::2]}
    files["pubmedqa/data/ori_pqal.generated.json"] = json.dumps(studies, indent=1)
    files["pubmedqa/data/test_ground_truth.generated.json"] = json.dumps(truth, indent=1)
    for split in ("train", "dev", "test"):
        files[f"bioasq/blurb/{split}.generated.tsv"] = _blurb(n, draw(f"bioasq {split}"), split)
    files["bioasq/TaskGenerated/1B1_golden.generated.json"] = json.dumps(_golden(n, draw("bioasq golden")))
    for task in (*mmlu.MEDICAL, *mmlu.OTHER):
        subject = task.name.removeprefix("mmlu_")
        kinds = MEDICAL if task in mmlu.MEDICAL else GENERAL
        for split, rows in (("test", n), ("dev", SHOTS_OF_MMLU)):
            file = f"mmlu/data/{split}/{subject}_{split}.generated.csv"
            files[file] = _mmlu(rows, draw(f"{subject} {split}"), kinds)
    return files


def _medqa(n: int, draw: random.Random, letters: str = "ABCD") -> list[Json]:
    rows: list[Json] = []
    for number, (kind, asked, options, gold) in enumerate(_questions(n, draw, MEDICAL, len(letters))):
        age, sex, place = 18 + draw.randrange(70), draw.choice(("man", "woman")), draw.choice(PLACES)
        # The number makes each question its own, since the format has no ids.
        case = f"Case {number + 1}: in {place}, a {age}-year-old {sex} is discussed."
        rows.append(
            {
                "question": f"{case} {draw.choice(kind.stems).format(asked=asked)}",
                "answer": options[gold],
                "options": dict(zip(letters, options, strict=True)),
                "meta_info": draw.choice(("step1", "step2&3")),
                "answer_idx": letters[gold],
                "metamap_phrases": [asked],
            }
        )
    return rows


def _labelled(rows: Sequence[Json]) -> str:
    return json.dumps(
        [
            {
                "question": row["question"],
                "options": [f"{letter}. {text}" for letter, text in row["options"].items()],
                "answer": row["answer"],
            }
            for row in rows
        ],
        indent=1,
    )


def _medmcqa(n: int, draw: random.Random, name: str) -> list[Json]:
    return [
        {
            "question": draw.choice(kind.stems).format(asked=asked),
            "exp": None,
            "cop": gold + 1,
            **dict(zip(("opa", "opb", "opc", "opd"), options, strict=True)),
            "subject_name": kind.subject,
            "topic_name": None,
            "id": f"{name}-{number + 1:06d}",
            "choice_type": "single",
        }
        for number, (kind, asked, options, gold) in enumerate(_questions(n, draw, MEDICAL))
    ]


def _mmlu(n: int, draw: random.Random, kinds: Sequence[Kind]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for kind, asked, options, gold in _questions(n, draw, kinds):
        writer.writerow([draw.choice(kind.stems).format(asked=asked), *options, "ABCD"[gold]])
    return text.getvalue()


def _questions(
    n: int, draw: random.Random, kinds: Sequence[Kind], options: int = 4
) -> list[tuple[Kind, str, list[str], int]]:
    """(kind, what is asked, the options, position of the right one), each fact and position equally often."""
    facts = [(kind, asked) for kind in kinds for asked in kind.facts]
    golds = [number % options for number in range(n)]
    draw.shuffle(facts)
    draw.shuffle(golds)
    questions = []
    for number, gold in enumerate(golds):
        kind, asked = facts[number % len(facts)]
        answer = kind.facts[asked]
        texts = draw.sample([other for other in kind.facts.values() if other != answer], options - 1)
        texts.insert(gold, answer)
        questions.append((kind, asked, texts, gold))
    return questions


def _pubmedqa(n: int, draw: random.Random) -> dict[str, Json]:
    rows = {}
    # Pairs have the same answer, so that the answers of every second row are balanced too.
    for number, (question, contexts, conclusion, answer) in enumerate(_studies(n, draw, ("yes", "no", "maybe"), 2)):
        rows[str(FIRST_PMID + number)] = {
            "QUESTION": question,
            "CONTEXTS": contexts,
            "LABELS": ["BACKGROUND", "METHODS", "RESULTS"],
            "MESHES": [],
            "YEAR": None,
            "reasoning_required_pred": answer,
            "reasoning_free_pred": answer,
            "final_decision": answer,
            "LONG_ANSWER": conclusion,
        }
    return rows


def _blurb(n: int, draw: random.Random, split: str) -> str:
    return "".join(
        "\t".join((_bioasq_id(f"{split} {number}"), question, " ".join((*contexts, conclusion)), answer)) + "\n"
        for number, (question, contexts, conclusion, answer) in enumerate(_studies(n, draw, ("yes", "no")))
    )


def _golden(n: int, draw: random.Random) -> Json:
    questions: list[Json] = []
    for number, (question, contexts, conclusion, answer) in enumerate(_studies(n, draw, ("yes", "no"))):
        url = f"http://www.ncbi.nlm.nih.gov/pubmed/{FIRST_PMID + number}"
        questions.append(
            {
                "body": question,
                "type": "yesno",
                "id": _bioasq_id(f"golden {number}"),
                "documents": [url],
                "snippets": [{"text": text, "document": url} for text in (*contexts, conclusion)],
                "ideal_answer": [conclusion],
                "exact_answer": answer,
            }
        )
    # Of another type, as a third of each real file.
    questions.append({**questions[0], "type": "summary", "id": _bioasq_id("golden summary"), "exact_answer": None})
    return {"questions": questions}


def _studies(
    n: int, draw: random.Random, answers: Sequence[str], in_a_row: int = 1
) -> list[tuple[str, list[str], str, str]]:
    """(question, what the abstract says before its conclusion, conclusion, answer), each answer equally often."""
    order = [answers[number % len(answers)] for number in range(-(-n // in_a_row))]
    draw.shuffle(order)
    studies = []
    for number in range(n):
        answer = order[number // in_a_row]
        words = {"treatment": draw.choice(TREATMENTS), "outcome": draw.choice(OUTCOMES), "group": draw.choice(GROUPS)}
        contexts = [
            "Whether {treatment} changes {outcome} in {group} is not known.".format(**words),
            "We followed {n} {group} for {weeks} weeks; half of them, chosen by lot, were given {treatment}.".format(
                n=2 * draw.randrange(20, 200), weeks=draw.randrange(2, 30), **words
            ),
            RESULTS[answer].format(digit=draw.randrange(1, 5), **words),
        ]
        question = "Does {treatment} change {outcome} in {group}?".format(**words)
        studies.append((question, contexts, CONCLUSIONS[answer].format(**words), answer))
    return studies


def _bioasq_id(name: str) -> str:
    """24 hexadecimal digits, as the real ones."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _lines(rows: Sequence[Json]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m eval.sample_questions", description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="where to write; give it as data or QA afterwards")
    parser.add_argument("--n", type=int, default=200, help="questions of each task (default 200)")
    parser.add_argument("--seed", type=int, default=17, help="default 17")
    arguments = parser.parse_args()
    paths = write_sample_questions(arguments.folder, arguments.n, arguments.seed)
    say(f"wrote {arguments.n:,} invented questions of each task below {arguments.folder}: {len(paths)} files")


if __name__ == "__main__":
    run_command(main)
