"""The sections on duplicates and contamination: what was found, what was taken out, what it means for scores."""

from collections.abc import Iterable
from typing import Any

from base.page import Block, Heading, Paragraph, Table, plain
from data_prep.select.contamination import PHRASE, STOCK

BENCHMARKS = {"medqa": "MedQA", "medmcqa": "MedMCQA", "mmlu": "MMLU", "pubmedqa": "PubMedQA", "bioasq": "BioASQ"}


def duplicates(facts: dict[str, Any]) -> Iterable[Block]:
    """``duplicates.json``: ``exact`` and ``near`` (groups, dropped, sizes), ``overlap``, ``boilerplate`` (rule →
    times). What the settings switch off has no numbers, only zeros that mean nothing."""
    found, settings = facts["duplicates"], facts["configuration"]["select"]
    near = settings["near_duplicates"]
    yield Heading("Duplicates")
    rows = [
        [what, f"{found[name]['groups']:,}", f"{found[name]['dropped']:,}"]
        for what, name, on in (
            ("equal texts", "exact", settings["exact_duplicates"]), ("nearly equal texts", "near", near),
        )
        if on
    ]  # fmt: skip
    if rows:
        yield Paragraph("Of documents with equal or nearly equal text, one is kept.")
        yield Table(["what", "groups", "documents dropped"], rows)
    if not settings["exact_duplicates"]:
        yield Paragraph("Equal texts were not looked for.")
    if near:
        yield Paragraph(
            f"Nearly equal: an estimated share of at least {near['threshold']:g} of common runs of {near['ngram']} "
            f"words (MinHash, {near['bands']} bands of {near['rows']} rows)."
        )
        yield from _groups(found["near"])
    else:
        yield Paragraph("Nearly equal texts were not looked for.")
    if "pmc" in facts["ledger"]["sources"] or settings["overlap"] == "pile":
        dropped = facts["ledger"]["total"]["dropped"].get("overlap", 0)  # of the rule pile the report knows nothing
        yield Paragraph(
            f"{found['overlap']['abstracts_with_full_text']:,} abstracts belong to an article whose full text was read "
            f"as well. The rule `select.overlap: {settings['overlap']}` dropped {dropped:,} abstracts."
        )
    if found.get("boilerplate"):
        yield Heading("Boilerplate taken out of texts", 3)
        rules = sorted(found["boilerplate"].items(), key=lambda item: (-item[1], item[0]))
        yield Table(["rule", "times"], [[plain(rule), f"{number:,}"] for rule, number in rules])


def _groups(near: dict[str, Any]) -> Iterable[Block]:
    sizes = sorted((int(documents), number) for documents, number in near.get("sizes", {}).items())
    if sizes:
        limits = [(2, 2), (3, 3), (4, 4), (5, 9), (10, 99), (100, None)]
        rows = []
        for low, high in limits:
            number = sum(count for size, count in sizes if size >= low and (high is None or size <= high))
            name = f"{low} or more" if high is None else str(low) if low == high else f"{low} – {high}"
            rows.append([name, f"{number:,}"])
        yield Table(["documents in a group", "groups"], rows)


def contamination(facts: dict[str, Any]) -> Iterable[Block]:
    """``contamination.json``: ``by_benchmark`` → name → items, items_too_short, stock_phrases, items_hit and
    documents_hit (question, context, pmid), documents_dropped; ``phrases``; ``files_left_out``."""
    found = facts["contamination"]
    settings = facts["configuration"]["select"]["decontaminate"]
    yield Heading("Test questions in the corpus")
    if found is None:
        yield Paragraph(
            "Not searched for in this run. How much of the tests that a model will be scored on stands in its training "
            "text is not known."
        )
        return
    yield Paragraph(
        f"Searched for: every run of {settings['ngram']} words of a question, its options or its context that also "
        "stands in a document, and, where a test is made from PubMed abstracts (PubMedQA, BioASQ), those abstracts "
        "themselves by PMID. A hit by context means that the text on which the question is asked is in the corpus, not "
        "that the question or its answer is."
    )
    rows = []
    short = []
    for name, one in found["by_benchmark"].items():
        test = BENCHMARKS.get(name, plain(name))
        rows.append([test, "items", f"{one['items']:,}", *_hits(one["items_hit"]), "–"])
        rows.append([test, "documents", "–", *_hits(one["documents_hit"]), f"{one['documents_dropped']:,}"])
        if one["items_too_short"]:
            short.append(f"{test} {one['items_too_short']:,}")
    yield Table(["test", "counted", "in all", "by question", "by context", "by PMID", "dropped"], rows)
    if short:
        yield Paragraph(f"Items too short to be searched for: {', '.join(short)}.", note=True)
    yield Paragraph(_phrases(found, settings["ngram"]), note=True)
    if found.get("files_left_out"):
        names = ", ".join(plain(name) for name in found["files_left_out"])
        yield Paragraph(
            f"Files of the folder that are not known as tests, and were not searched for: {names}.", note=True
        )
    yield Paragraph(_what_it_means(settings))


def _phrases(found: dict[str, Any], ngram: int) -> str:
    """What was not counted as a hit."""
    stock = {name: one["stock_phrases"] for name, one in found["by_benchmark"].items() if one["stock_phrases"]}
    in_all = ", ".join(f"{BENCHMARKS.get(name, plain(name))} {number:,}" for name, number in stock.items())
    return (
        f"Not counted as hits: runs that are in the questions of {STOCK} items or more of one test, which are phrases "
        f"of its examiners ({in_all or 'none here'}), and runs that more than {PHRASE} of the documents hold, which "
        f"are phrases of their authors ({found['phrases']:,} here)."
    )


def _what_it_means(settings: dict[str, Any]) -> str:
    removed = [f"hits by words of {_listed(settings['drop_by_ngram'])}"] if settings["drop_by_ngram"] else []
    removed += [f"the abstracts of {_listed(settings['drop_by_pmid'])} by PMID"] if settings["drop_by_pmid"] else []
    if removed:
        return (
            f"Taken out of the corpus: {' and '.join(removed)}. Nothing else of what the table shows was. BioMedLM's "
            "corpus had nothing taken out, so scores of a model trained on this one are not comparable to BioMedLM's "
            "on these tests."
        )
    return (
        "Nothing was taken out: the hits are still in the corpus, as they were in BioMedLM's. Scores on these tests "
        "compare with BioMedLM's, and say less about questions that were never seen."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(BENCHMARKS.get(name, name) for name in names)


def _hits(hits: dict[str, int]) -> list[str]:
    return [f"{hits[way]:,}" if way in hits else "–" for way in ("question", "context", "pmid")]
