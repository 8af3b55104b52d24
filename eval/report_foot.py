"""The foot of an evaluation's report: what could not be scored, and everything that is needed to score it again."""

from collections.abc import Iterable

from base.page import Block, Heading, Listing, Paragraph, Points, Table, plain
from eval.report_cells import MEANINGS, flat
from eval.report_facts import Facts, protocol_of

UNSCORABLE = 20  # shown of each protocol


def unscorable(facts: Facts) -> Iterable[Block]:
    rows = []
    for name, score in facts.shown.scores.items():
        found = score.unscorable
        rows += [[plain(name), plain(one.get("id", "")), plain(one.get("reason", ""))] for one in found[:UNSCORABLE]]
        if len(found) > UNSCORABLE:
            rows.append([plain(name), f"{len(found) - UNSCORABLE:,} more", "all of them are in results.json"])
    if rows:
        yield Heading("What could not be scored")
        yield Paragraph("Each of these counts as a wrong answer.")
        yield Table(["protocol", "question", "reason"], rows)


def protocols(facts: Facts) -> Iterable[Block]:
    found = facts.shown.scores
    if not found:
        return
    yield Heading("Protocols and hashes")
    yield Table(
        ["protocol", "version", "form", "shots", "answer by"],
        [
            [plain(name), str(one.version), plain(one.form), str(one.shots), MEANINGS[one.metric]]
            for name, one in found.items()
        ],
    )
    yield Table(
        ["protocol", "what is asked, SHA-256", "in which tokens, SHA-256"],
        [[plain(name), f"`{plain(one.question_hash)}`", f"`{plain(one.prompt_hash)}`"] for name, one in found.items()],
    )
    yield Paragraph(
        "The first is over task, version, form, shots and what stands at the beginning: scores compare when it is the "
        "same. The second is over the tokenizer too.",
        note=True,
    )
    yield from _prompts(facts)
    yield Heading("The files", 3)
    known = {(one.task, one.rows_in_file, one.release): None for one in found.values()}
    yield Table(["task", "rows", "what they are"], [[plain(task), f"{n:,}", plain(what)] for task, n, what in known])
    files = {(path, sha256): one.task for one in found.values() for path, sha256 in one.files.items()}
    yield Table(
        ["file", "SHA-256", "of"],
        [[f"`{plain(path)}`", f"`{plain(sha256)}`", plain(task)] for (path, sha256), task in files.items()],
    )
    yield Heading("To know before comparing", 3)
    yield Points(list(dict.fromkeys(f"{plain(one.task)}: {plain(one.notes)}" for one in found.values())))


def _prompts(facts: Facts) -> Iterable[Block]:
    yield Heading("The prompts", 3)
    by_template: dict[str, list[str]] = {}
    descriptions: dict[str, list[str]] = {}
    for name, one in facts.shown.scores.items():
        protocol = protocol_of(one)
        if isinstance(protocol, str):
            yield Paragraph(f"{plain(name)}: the prompt cannot be shown: {plain(protocol)}.")
            continue
        answer = "letter" if protocol.form.answers == "letters" else "text of an option"
        by_template.setdefault(f"{protocol.form.template} ▏{answer}", []).append(plain(name))
        if protocol.form.description:
            descriptions.setdefault(plain(protocol.form.description), []).append(plain(name))
    for text, names in by_template.items():
        yield Paragraph(f"{', '.join(names)}; what is scored stands after the bar:")
        yield Listing(text, "text")
    if descriptions:
        rows = [[text, ", ".join(names)] for text, names in descriptions.items()]
        yield Table(["what stands once before everything", "for"], rows)


def origin(facts: Facts) -> Iterable[Block]:
    yield Heading("How it was scored")
    shown = facts.shown
    told = {"model": shown.model, "tokens": shown.tokens, "batch": shown.batch, "data": shown.data} | shown.about
    yield Table(["what", "value"], [[key, f"`{value}`"] for key, value in flat(told)])
    if facts.command:
        yield Paragraph("This page was made with:")
        yield Listing(plain(facts.command), "bash")
