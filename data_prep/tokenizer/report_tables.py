"""``report.json`` as tables to read: ``OUT/tokenizer/report.md``."""

from collections.abc import Iterable, Sequence
from typing import Any

from data_prep.tokenizer.report import OURS, RARE


def tables(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    names = list(report["rates"])
    sources = list(report["rates"][OURS])
    text = [
        "# Tokenizer",
        f"{report['vocab_size']} entries, {_from(report)}. {report['said']}".strip(),
        f"## Tokens per word and per byte ({report['measured_on']})",
        _table(
            ["", "entries", *_rate_names(sources)],
            ([name, report["vocab_sizes"][name], *_rates(report["rates"][name], sources)] for name in names),
        ),
    ]
    if report["curve"]:
        text += ["## Vocabulary size", _curve(report["curve"], sources)]
    if report["terms"]:
        text += _terms(report["terms"], names, "training text has" if "training" in report else "documents have")
    for title, key in (("The paper's examples", "examples"), ("Numbers and units", "numbers")):
        rows = ([term, *(_cut(report[key][name][term]) for name in names)] for term in report[key][OURS])
        text += [f"## {title}", _table(["", *names], rows)]
    by = [report["digits"][name] for name in names]
    digits = (
        [number, *(f"{_percent(falls['whole'])}, {falls['pieces']:.2f}" for falls in (of[number] for of in by))]
        for number in report["digits"][OURS]
    )
    text += ["## Whole numbers by digits: share that is one token, pieces", _table(["digits", *names], digits)]
    return "\n\n".join(text) + "\n"


def _from(report: dict[str, Any]) -> str:
    if "training" in report:
        return f"trained on {report['training']['bytes']} bytes of text"
    files = ", ".join(f"{name} of sha256 {value}" for name, value in report["ready"].items())
    return f"not trained here, but taken as it was: {files}"


def _curve(points: Sequence[dict[str, Any]], sources: Sequence[str]) -> str:
    return _table(
        ["entries", *_rate_names(sources), "one-word terms whole"],
        ([point["vocab_size"], *_rates(point, sources), _percent(point["whole"])] for point in points),
    )


def _rate_names(sources: Sequence[str]) -> list[str]:
    return [f"{source}: per {unit}" for source in sources for unit in ("word", "byte")]


def _rates(by_source: dict[str, Any], sources: Sequence[str]) -> list[str]:
    return [
        text
        for source in sources
        for text in (f"{by_source[source]['tokens_per_word']:.3f}", f"{by_source[source]['tokens_per_byte']:.4f}")
    ]


def _terms(terms: dict[str, Any], names: Sequence[str], whose: str) -> list[str]:
    by = terms["by_tokenizer"]
    bands = {"frequent": f"frequent ({RARE} or more)", "rare": f"rare (1 to {RARE - 1})", "unseen": "unseen"}
    text = []
    for title, key, labels in (
        (f"Terms by how often the {whose} them", "by_frequency", bands),
        ("Terms by kind", "by_kind", {}),
        ("Terms by list", "by_list", {}),
    ):
        rows = (
            [labels.get(group, group), falls["terms"], falls["of_one_word"],
             *(_percent(by[name][key][group]["whole"]) for name in names),
             *(_number(by[name][key][group]["pieces_per_word"]) for name in names)]
            for group, falls in by[OURS][key].items()
        )  # fmt: skip
        head = [
            "",
            "terms",
            "of one word",
            *(f"whole: {name}" for name in names),
            *(f"pieces: {name}" for name in names),
        ]
        text += [f"## {title}: share of one-word terms kept whole, pieces per word", _table(head, rows)]
    for band, shown in terms["shown"].items():
        rows = ([term, *(_cut(pieces[name]) for name in names)] for term, pieces in shown.items())
        text += [f"## Some {band} terms", _table(["", *names], rows)]
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cut(pieces: Sequence[str]) -> str:
    return f"{len(pieces)}: " + "·".join(piece.strip() or "␣" for piece in pieces)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
