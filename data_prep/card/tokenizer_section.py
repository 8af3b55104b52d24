"""The section on the tokenizer, from ``tokenizer/report.json``: what the report has is shown, what it lacks is not."""

from collections.abc import Iterable
from typing import Any

from base.page import Block, Heading, Paragraph, Plots, Table, plain
from data_prep.card import plots

OURS = "ours"  # what the report calls the tokenizer of this corpus
NAME = "this corpus"  # what the card calls it
BARS = 20  # in one plot
Report = dict[str, Any]


def tokenizer(facts: dict[str, Any]) -> Iterable[Block]:
    """Size and rates against other tokenizers, sizes of vocabulary, medical terms."""
    report = facts["tokenizer"]
    rates = report.get("rates") or {OURS: {"documents": report}}
    first = next(iter(rates[OURS]))
    yield Heading("Tokenizer")
    yield Paragraph(
        f"Byte-level BPE with {report['vocab_size']:,} entries, {_from(facts)}. Every text comes back byte for byte."
    )
    if report.get("said"):
        yield Paragraph(f"It is {plain(report['said'])}.")
    yield Paragraph(_how_tokenised(facts["tokenised"]), note=True)
    pictures = [*_rate_plot(rates, first), *_curve_plot(report, first)]
    if pictures:
        yield Plots(pictures)
    yield _rate_table(report, rates)
    if "measured_on" in report:
        yield Paragraph(f"Measured on {plain(report['measured_on'])}.", note=True)
    if report.get("curve"):
        yield Heading("Other sizes of vocabulary", 3)
        rows = [[f"{one['vocab_size']:,}", *_shown(one[first])] for one in report["curve"]]
        yield Table(["entries", "tokens a word", "tokens a byte"], rows)
    if report.get("terms"):
        yield from _terms(report["terms"], "the documents" if "ready" in report else "the text trained on")


def _from(facts: dict[str, Any]) -> str:
    if "ready" not in facts["tokenizer"]:
        trained_on = " and ".join(facts["configuration"]["tokenizer"]["train_on"])
        return f"trained on documents from {trained_on} that are not in the validation split"
    files = [f"`{plain(name)}` of sha256 `{plain(value)}`" for name, value in facts["tokenizer"]["ready"].items()]
    return f"not trained on these documents, but taken as it was, from {' and '.join(files)}"


def _how_tokenised(how: Report) -> str:
    engines = [f"{plain(engine)} ({files:,} file{'s' * (files != 1)})" for engine, files in how["engines"].items()]
    said = f"The documents were turned into tokens with {' and '.join(engines)}."
    if how["not_gigatoken"]:
        said += f" Why not with gigatoken: {'; '.join(map(plain, how['not_gigatoken']))}."
    if how["compared"]:
        said += (
            f" {how['compared']:,} documents, chosen by hash, were done with Hugging Face's tokenizers as well: all "
            "have the same tokens."
        )
    return said


def _rate_plot(rates: Report, first: str) -> Iterable[tuple[str, str]]:
    if len(rates) > 1:
        words = [one[first]["tokens_per_word"] for one in rates.values()]
        picture = plots.bars([_name(name) for name in rates], words, "tokens a word", first=1)
        yield picture, f"Tokens a word in texts from {first}: fewer is better."


def _curve_plot(report: Report, first: str) -> Iterable[tuple[str, str]]:
    points = report.get("curve") or []
    if len(points) > 1:
        sizes, bytes_ = ([one["vocab_size"] for one in points], [one[first]["tokens_per_byte"] for one in points])
        picture = plots.line(sizes, bytes_, "entries", "tokens a byte", report["vocab_size"])
        yield picture, "Tokens a byte for other sizes of vocabulary; dashed: the size taken."


def _list_plots(by_list: Report) -> Iterable[tuple[str, str]]:
    """One plot; two side by side, of one scale, where the lists are many."""
    shares = sorted(((-one["whole"], name) for name, one in by_list.items() if one["whole"] is not None))
    if len(shares) < 2:
        return
    names, values = [_words(name) for _, name in shares], [-100 * share for share, _ in shares]
    number = len(names) if len(names) <= BARS else -(-len(names) // 2)
    captions = ("Terms of one word that this corpus's tokenizer keeps whole, by list.", "The other lists.")
    for first, caption in zip(range(0, len(names), number), captions, strict=False):
        rows, label = slice(first, first + number), "% of the terms of one word"
        yield plots.bars(names[rows], values[rows], label, digits=1, most=max(values)), caption


def _rate_table(report: Report, rates: Report) -> Table:
    sources = list(rates[OURS])
    examples, sizes = report.get("examples", {}), report.get("vocab_sizes", {})
    header = ["tokenizer", *(f"tokens a {unit}, {source}" for source in sources for unit in ("word", "byte"))]
    header[1:1] = ["entries"] if sizes else []
    header += ["the paper's examples in one token"] if examples else []
    rows = []
    for name, by_source in rates.items():
        row = [_name(name), *([f"{sizes[name]:,}"] if sizes else [])]
        row += [text for source in sources for text in _shown(by_source[source])]
        if examples:
            row.append(f"{sum(len(pieces) == 1 for pieces in examples[name].values())} of {len(examples[name])}")
        rows.append(row)
    return Table(header, rows)


def _terms(terms: Report, whose: str) -> Iterable[Block]:
    by = terms["by_tokenizer"]
    yield Heading("Medical terms", 3)
    yield Paragraph(
        "The share of terms of one word that are one token; in brackets, the mean number of tokens of all terms. "
        f"Rare terms occur 1 to 9 times in {whose}.",
        note=True,
    )
    often, kinds, lists = (
        Table(
            [what, *(_name(other) for other in by)],
            [[_words(name), *(_fall(by[other][key][name]) for other in by)] for name in by[OURS][key]],
        )
        for what, key in (("how often", "by_frequency"), ("kind", "by_kind"), ("list", "by_list"))
    )
    yield from (often, kinds)
    pictures = list(_list_plots(by[OURS]["by_list"]))
    if pictures:
        yield Plots(pictures)
    yield lists


def _fall(one: Report) -> str:
    whole = "–" if one["whole"] is None else f"{100 * one['whole']:.1f}\u00a0%"
    return whole if one["pieces_per_term"] is None else f"{whole} ({one['pieces_per_term']:.2f})"


def _shown(rates: Report) -> list[str]:
    return [f"{rates['tokens_per_word']:.3f}", f"{rates['tokens_per_byte']:.4f}"]


def _words(name: str) -> str:
    return plain(name).replace("_", " ")


def _name(name: str) -> str:
    return NAME if name == OURS else plain(name)
