"""Invented questions in the official formats of MedQA and MedMCQA, for runs without the real files.

``python -m eval.sample_questions OUT_FOLDER [--n 200] [--seed 17]``

They exercise the path, and a score on them says nothing about medical knowledge. The facts are schoolbook facts, the
wording is ours. The wrong options of a question are right answers to others of its kind, so that neither form nor
frequency tells them from the right one, and each position is right equally often.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

from base import storage
from base.errors import UserError, run_command
from base.progress import say


@dataclass(frozen=True)
class Kind:
    """Facts of one kind: question stems around ``{asked}``, and pairs of what is asked and its answer."""

    subject: str
    stems: tuple[str, ...]
    facts: dict[str, str]


KINDS = (
    Kind(
        "Biochemistry",
        (
            "Which condition follows when the diet has held too little {asked} for a long time?",
            "A lasting lack of {asked} leads to which of these?",
        ),
        {
            "vitamin A": "night blindness",
            "thiamine": "beriberi",
            "niacin": "pellagra",
            "vitamin C": "scurvy",
            "vitamin D": "rickets",
            "vitamin B12": "megaloblastic anemia",
            "vitamin K": "impaired blood clotting",
            "iodine": "goiter",
        },
    ),
    Kind(
        "Physiology",
        ("Where in the body is {asked} mainly made?", "Which organ releases {asked} into the blood?"),
        {
            "insulin": "pancreas",
            "thyroxine": "thyroid gland",
            "cortisol": "adrenal cortex",
            "adrenaline": "adrenal medulla",
            "melatonin": "pineal gland",
            "prolactin": "anterior pituitary",
            "estradiol": "ovaries",
            "erythropoietin": "kidneys",
        },
    ),
    Kind(
        "Microbiology",
        ("An infection with {asked} causes which disease?", "Which disease is due to {asked}?"),
        {
            "Bordetella pertussis": "whooping cough",
            "Mycobacterium leprae": "leprosy",
            "Treponema pallidum": "syphilis",
            "Vibrio cholerae": "cholera",
            "Yersinia pestis": "plague",
            "Borrelia burgdorferi": "Lyme disease",
            "Plasmodium falciparum": "malaria",
            "Clostridium tetani": "tetanus",
        },
    ),
    Kind(
        "Pharmacology",
        ("How does {asked} act?", "What is the main mechanism of {asked}?"),
        {
            "metformin": "less glucose is made in the liver",
            "warfarin": "fewer clotting factors that need vitamin K are made",
            "omeprazole": "the proton pump of the stomach is blocked",
            "salbutamol": "beta-2 receptors of the airways are stimulated",
            "furosemide": "less salt is taken up again in the loop of Henle",
            "atorvastatin": "less cholesterol is made in the liver",
            "heparin": "antithrombin works faster",
            "acyclovir": "the DNA polymerase of a virus is blocked",
        },
    ),
    Kind(
        "Anatomy",
        ("Injury to the {asked} weakens which of these?", "Which of these depends on the {asked}?"),
        {
            "phrenic nerve": "movement of the diaphragm",
            "radial nerve": "extension of the wrist",
            "facial nerve": "closing of the eyelids",
            "hypoglossal nerve": "movement of the tongue",
            "femoral nerve": "extension of the knee",
            "median nerve": "opposition of the thumb",
            "deep fibular nerve": "lifting of the foot",
            "axillary nerve": "raising of the arm to the side",
        },
    ),
    Kind(
        "Pathology",
        ("A raised level of {asked} points to damage of which tissue?", "Damage to which tissue raises {asked}?"),
        {
            "cardiac troponin I": "heart muscle",
            "alanine aminotransferase": "liver",
            "serum creatinine": "kidney",
            "pancreatic lipase": "pancreas",
            "prostate-specific antigen": "prostate",
            "serum myoglobin": "skeletal muscle",
            "bone-specific alkaline phosphatase": "bone",
            "glial fibrillary acidic protein": "brain",
        },
    ),
)

PLACES = ("a clinic", "the emergency department", "a hospital ward", "a teaching session", "a small practice")


def write_sample_questions(folder: str, n: int = 200, seed: int = 17) -> list[str]:
    """Write ``n`` questions of each task below ``folder``, laid out as the official files; returns the paths.

    The same ``n`` and ``seed`` give the same bytes. Raises UserError when ``n`` is below 1.
    """
    if n < 1:
        raise UserError(f"--n must be at least 1 question; it is {n}")
    files = {
        "medqa/US/4_options/phrases_no_exclude_test.generated.jsonl": _medqa(n, random.Random(f"medqa {seed}")),
        "medmcqa/dev.generated.json": _medmcqa(n, random.Random(f"medmcqa {seed}")),
    }
    paths = []
    for name, rows in files.items():
        paths.append(str(Path(folder) / name))
        storage.write_bytes(paths[-1], "".join(json.dumps(row) + "\n" for row in rows).encode())
    return paths


def _medqa(n: int, draw: random.Random) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, (kind, asked, options, gold) in enumerate(_questions(n, draw)):
        age, sex, place = 18 + draw.randrange(70), draw.choice(("man", "woman")), draw.choice(PLACES)
        # The number makes each question its own, since the format has no ids.
        case = f"Case {number + 1}: in {place}, a {age}-year-old {sex} is discussed."
        texts = dict(zip("ABCD", options, strict=True))
        rows.append(
            {
                "question": f"{case} {draw.choice(kind.stems).format(asked=asked)}",
                "answer": options[gold],
                "options": texts,
                "meta_info": draw.choice(("step1", "step2&3")),
                "answer_idx": "ABCD"[gold],
                "metamap_phrases": [asked],
            }
        )
    return rows


def _medmcqa(n: int, draw: random.Random) -> list[dict[str, object]]:
    return [
        {
            "question": draw.choice(kind.stems).format(asked=asked),
            "exp": None,
            "cop": gold + 1,
            **dict(zip(("opa", "opb", "opc", "opd"), options, strict=True)),
            "subject_name": kind.subject,
            "topic_name": None,
            "id": f"sample-{number + 1:06d}",
            "choice_type": "single",
        }
        for number, (kind, asked, options, gold) in enumerate(_questions(n, draw))
    ]


def _questions(n: int, draw: random.Random) -> list[tuple[Kind, str, list[str], int]]:
    """(kind, what is asked, four options, position of the right one), each fact and position equally often."""
    facts = [(kind, asked) for kind in KINDS for asked in kind.facts]
    golds = [number % 4 for number in range(n)]
    draw.shuffle(facts)
    draw.shuffle(golds)
    questions = []
    for number, gold in enumerate(golds):
        kind, asked = facts[number % len(facts)]
        answer = kind.facts[asked]
        options = draw.sample([other for other in kind.facts.values() if other != answer], 3)
        options.insert(gold, answer)
        questions.append((kind, asked, options, gold))
    return questions


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m eval.sample_questions", description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="where to write; give it as data or QA afterwards")
    parser.add_argument("--n", type=int, default=200, help="questions of each task (default 200)")
    parser.add_argument("--seed", type=int, default=17, help="default 17")
    arguments = parser.parse_args()
    for path in write_sample_questions(arguments.folder, arguments.n, arguments.seed):
        say(f"wrote {arguments.n:,} invented questions to {path}")


if __name__ == "__main__":
    run_command(main)
