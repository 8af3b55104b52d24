"""Some questions that were answered rightly and wrongly, the same ones whenever the page is made."""

import hashlib
from collections.abc import Iterable, Sequence

from base.page import Block, Folded, Heading, Paragraph, Table, plain
from eval.report_cells import MEANINGS
from eval.report_facts import Facts
from eval.results import ItemScore
from eval.task import ACC, ACC_BYTES, ACC_NORM, ACC_PMI, ACC_TOKEN, LETTERS, Item

BY_HASH = 2  # of the right ones and of the wrong ones, besides the surest
LONGEST_QUESTION, LONGEST_OPTION = 900, 160  # characters shown


def examples(facts: Facts) -> Iterable[Block]:
    if not facts.items:
        return
    yield Heading("Examples")
    yield Paragraph(
        "Of each protocol the surest right and the surest wrong answer, and some chosen by a hash of their ids. Sure "
        "is an answer that lies far before the next option by the value that decides. They are on the page alone."
    )
    missing: dict[str, list[str]] = {}
    for name, items in facts.items.items():
        if name not in facts.questions:
            missing.setdefault(facts.no_questions[name], []).append(plain(name))
            continue
        texts = {item.id: item for item in facts.questions[name].items}
        metric = facts.shown.scores[name].metric
        chosen = _chosen([item for item in items if item.id in texts], metric)
        inner = [block for what, item in chosen for block in _example(what, item, texts[item.id], metric)]
        yield Folded(f"{plain(name)}: {len(chosen)} of {len(items):,} questions", inner)
    for reason, names in missing.items():
        yield Paragraph(f"No texts for {', '.join(names)}: {plain(reason)}.", note=True)


def option_names(facts: Facts, protocol: str) -> list[str]:
    """What to call the options of a protocol: by their text where it is always the same, else by letters."""
    options = len(facts.shown.scores[protocol].gold)
    if protocol in facts.questions:
        found = {item.options for item in facts.questions[protocol].items}
        if len(found) == 1 and len(next(iter(found))) == options:
            return list(next(iter(found)))
    return list(LETTERS[:options])


def worth(item: ItemScore, metric: str) -> list[float]:
    """The value of each option by which the accuracy takes its answer."""
    values = item.log_likelihoods or ()
    if metric == ACC_PMI:
        return [value - alone for value, alone in zip(values, item.without_question or (), strict=True)]
    lengths = {ACC_NORM: item.characters, ACC_BYTES: item.bytes, ACC_TOKEN: item.tokens}.get(metric)
    return [value / length for value, length in zip(values, lengths or (1,) * len(values), strict=True)]


def _chosen(items: Sequence[ItemScore], metric: str) -> list[tuple[str, ItemScore]]:
    found: list[tuple[str, ItemScore]] = []
    for what, is_right in (("right", True), ("wrong", False)):
        those = [item for item in items if item.log_likelihoods and item.is_right(metric) == is_right]
        by_hash = sorted(those, key=lambda item: hashlib.sha256(f"{item.task}:{item.id}".encode()).digest())
        if by_hash:
            surest = max(by_hash, key=lambda item: _lead(item, metric))
            others = [item for item in by_hash if item is not surest][:BY_HASH]
            found += [(f"Surest of the {what}", surest), *((what.capitalize(), item) for item in others)]
    return found


def _lead(item: ItemScore, metric: str) -> float:
    first, *others = sorted(worth(item, metric), reverse=True)
    return first - others[0] if others else 0.0


def _example(what: str, item: ItemScore, question: Item, metric: str) -> Iterable[Block]:
    yield Heading(f"{what}: {plain(item.task)} {plain(item.id)}", 4)
    if question.passages:
        yield Paragraph(shortened(" ".join(question.passages), LONGEST_QUESTION), note=True)
    yield Paragraph(shortened(question.question, LONGEST_QUESTION))
    values = worth(item, metric)
    summed = metric == ACC
    rows = []
    for place, (option, sum_, value) in enumerate(
        zip(question.options, item.log_likelihoods or (), values, strict=True)
    ):
        marks = [mark for mark, at in (("answered", item.prediction), ("right", item.gold)) if at == place]
        row = [LETTERS[place], shortened(option, LONGEST_OPTION), f"{sum_:.3f}", f"{value:.4f}", ", ".join(marks)]
        rows.append(row[:3] + row[4:] if summed else row)
    header = ["", "option", "log-likelihood", MEANINGS[metric], ""]
    yield Table(header[:3] + header[4:] if summed else header, rows)


def shortened(text: str, longest: int) -> str:
    """Text from data on one line, without its middle where it is long: a question asks at its end."""
    text = plain(text)
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]} … {text[-half:]}"
