"""Published accuracies and ours, in columns by how they were come by: fine-tuned and zero-shot are never one column."""

from collections.abc import Iterable

from base.page import Block, Heading, Paragraph, Table, plain
from eval.published import QUESTIONS, How, Published
from eval.report_cells import MEANINGS, between, percent
from eval.report_facts import Facts
from eval.statistics import wilson_interval

HEADER = ["model", "fine-tuned", "zero-shot", "95 %", "how", "from"]


def beside_published(facts: Facts) -> Iterable[Block]:
    published = facts.published()
    if not published:
        return
    yield Heading("Beside what was published")
    yield Paragraph(
        "Most published numbers are of models fine-tuned on each task's training questions. A zero-shot score answers "
        "another question, whatever the model, and stands in a column of its own; ours with shots are in neither. "
        "Their intervals are Wilson's, worked out here from the size of the test."
    )
    for task in dict.fromkeys(one.task for one in published):
        yield Heading(f"{plain(task)}, ours and published", 3)
        yield Table(HEADER, [*_ours(facts, task), *(_theirs(one) for one in published if one.task == task)])
    if not all(one.checked for one in published):
        yield Paragraph("Not checked: told from memory, not looked up in the source that is named.", note=True)


def _ours(facts: Facts, task: str) -> Iterable[list[str]]:
    for record in facts.compared:
        if task in record.fine_tuned:
            tuned = record.fine_tuned[task]
            yield _row(record.name, "fine-tuned", tuned.acc, tuned.ci95, "–", "this folder")
        for name, score in record.scores.items():
            if score.task == task and score.shots == 0:
                how = f"{name}: {score.form}, {MEANINGS[score.metric]}"
                yield _row(record.name, "zero-shot", score.primary, score.intervals[score.metric], how, "this folder")


def _theirs(one: Published) -> list[str]:
    n = QUESTIONS[one.task]
    interval = wilson_interval(round(one.accuracy / 100 * n), n)
    source = one.source if one.checked else f"{one.source} (not checked)"
    return _row(one.model, one.how, one.accuracy / 100, interval, one.protocol, source)


def _row(
    model: str, how: How, share: float, interval: tuple[float, float] | None, protocol: str, source: str
) -> list[str]:
    columns = [percent(share) if how == column else "–" for column in ("fine-tuned", "zero-shot")]
    return [plain(model), *columns, between(interval), plain(protocol), plain(source)]
