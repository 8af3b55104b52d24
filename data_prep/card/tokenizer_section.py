"""The section on the tokenizer, from ``tokenizer/report.json``: what the report has is shown, what it lacks is not."""

from collections.abc import Iterable
from typing import Any

from data_prep.card import plots
from data_prep.card.page import Block, Heading, Paragraph, Plots, Table, plain

OURS = "this corpus"


def tokenizer(facts: dict[str, Any]) -> Iterable[Block]:
    """Size, rates, terms by list, curve."""
    report = facts["tokenizer"]
    yield Heading("Tokenizer")
    trained_on = " and ".join(facts["configuration"]["tokenizer"]["train_on"])
    yield Paragraph(
        f"Byte-level BPE with {report['vocab_size']:,} entries, trained on documents from {trained_on} that are not in "
        "the validation split. Every text comes back byte for byte."
    )
    if report.get("said"):
        yield Paragraph(f"It is {plain(report['said'])}.")
    pictures = []
    rates = _rates(report)
    rows = [
        [name, *(f"{one[rate]:.3f}" if rate in one else "–" for rate in ("tokens_per_word", "tokens_per_byte"))]
        for name, one in rates.items()
    ]
    words = {name: one["tokens_per_word"] for name, one in rates.items() if "tokens_per_word" in one}
    if len(words) > 1:
        picture = plots.bars(list(words), list(words.values()), "tokens a word", first=1)
        pictures.append((picture, "Tokens a word: fewer is better."))
    curve = sorted((int(size), rate) for size, rate in dict(report.get("curve", {})).items())
    if len(curve) > 1:
        picture = plots.line(
            [size for size, _ in curve], [rate for _, rate in curve], "entries", "tokens a byte", report["vocab_size"]
        )
        pictures.append((picture, "Tokens a byte for other sizes of vocabulary; dashed: the size taken."))
    terms = {name: one for name, one in report.get("terms", {}).items() if OURS in _named(one)}
    if len(terms) > 1:
        shares = sorted(((_named(one)[OURS]["whole"], name) for name, one in terms.items()), reverse=True)
        picture = plots.bars(
            [plain(name) for _, name in shares], [100 * share for share, _ in shares], "% of terms", digits=0
        )
        pictures.append((picture, "Terms that are one token, by list and specialty."))
    if pictures:
        yield Plots(pictures)
    yield Table(["tokenizer", "tokens a word", "tokens a byte"], rows)
    if "measured_on" in report:
        yield Paragraph(f"Measured on {plain(report['measured_on'])}.", note=True)
    if terms:
        names = list(dict.fromkeys(name for one in terms.values() for name in _named(one)))
        yield Heading("Terms that are one token", 3)
        yield Table(
            ["terms", *names],
            [
                [plain(name), *(f"{100 * _named(one)[other]['whole']:.1f} %" if other in _named(one) else "–"
                                for other in names)]
                for name, one in terms.items()
            ],
        )  # fmt: skip


def _rates(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Tokenizer → its rates, this corpus's first. A comparison may be one number: tokens a word."""
    ours: dict[str, float] = {name: report[name] for name in ("tokens_per_word", "tokens_per_byte") if name in report}
    others: dict[str, dict[str, float]] = {
        plain(name): one if isinstance(one, dict) else {"tokens_per_word": one}
        for name, one in report.get("compared", {}).items()
    }
    return {OURS: ours} | others


def _named(one: dict[str, Any]) -> dict[str, Any]:
    """Tokenizer → what it makes of a list of terms."""
    return {OURS if name == "ours" else plain(name): value for name, value in one.items() if "whole" in value}
