"""What the report of an evaluation says, in the order in which a reader asks."""

from collections.abc import Iterable

from base.page import Block, Heading, Paragraph, Plots, Points, Table, Tiles, plain
from base.progress import count
from eval import report_plots as plots
from eval.report_cells import MEANINGS, between, number, percent
from eval.report_examples import examples, option_names
from eval.report_facts import Facts
from eval.report_foot import origin, protocols, unscorable
from eval.report_published import beside_published
from eval.results import Score
from eval.statistics import wilson_interval
from eval.task import METRICS

FEW = 30  # questions of a subject; below it an accuracy says next to nothing
COLUMNS = 8  # of the table over tokens
UNRELIABLE = 300  # questions; below it bins of a tenth miss their accuracy by chance alone


def blocks(facts: Facts) -> list[Block]:
    """The whole report."""
    sections = (
        opening, over_tokens, scores, beside_published, averages, running_text, seen, subjects, positions, calibration,
        examples, unscorable, protocols, origin,
    )  # fmt: skip
    return [block for section in sections for block in section(facts)]


def opening(facts: Facts) -> Iterable[Block]:
    shown = facts.shown
    yield Heading(f"Evaluation: {plain(shown.name)}", 1)
    yield Paragraph(
        "Accuracies on question-answering files, in percent. How each was asked stands with its hashes at the end. "
        "What could not be scored counts as a wrong answer."
    )
    model = (shown.model or shown.name).rstrip("/").rsplit("/", 1)[-1]
    yield Tiles(
        [
            (plain(model), "model"),
            (count(shown.tokens) if shown.tokens is not None else "not known", "tokens trained on"),
            (f"{len(shown.scores):,}", "protocols"),
            (f"{sum(score.n for score in shown.scores.values()):,}", "questions asked"),
        ]
    )
    if facts.left_out:
        yield Paragraph("Files of the folder that are no result file of this version, and were left out:")
        yield Table(["file", "reason"], [[plain(file), plain(why)] for file, why in facts.left_out.items()])
    if facts.others:
        names = ", ".join(map(plain, facts.others))
        yield Paragraph(f"Also in the folder and not shown here: {names}. Name them with `--against`.", note=True)


def scores(facts: Facts) -> Iterable[Block]:
    rows = [(name, record) for name in _protocols(facts) for record in facts.compared if name in record.scores]
    if not rows:
        return
    beside = bool(facts.against)
    yield Heading("Scores")
    final, others, quality = [], [], []
    for name, record in rows:
        score = record.scores[name]
        head = [plain(name), *([plain(record.name)] if beside else [])]
        interval = score.intervals[score.metric]
        final.append(
            [*head, f"{score.n:,}", MEANINGS[score.metric], percent(score.primary), between(interval),
             _against_majority(score), *([_asked_alike(facts.shown.scores.get(name), score)] if beside else [])]
        )  # fmt: skip
        others.append([*head, *(percent(getattr(score, metric)) for metric in METRICS)])
        quality.append(
            [*head, number(score.macro_f1), number(score.ece), number(score.brier), f"{score.n - score.scored:,}",
             f"{score.too_long:,}", f"{score.bad_rows:,}", f"{score.fewer_shots:,}", f"{score.fewer_passages:,}"]
        )  # fmt: skip
    of = ["protocol", *(["model"] if beside else [])]
    yield Table(
        [*of, "questions", "answer by", "accuracy", "95 %", "majority", *(["asked as ours"] if beside else [])], final
    )
    yield Paragraph(
        "The answer is the option with the highest likelihood: of its text as a whole (sum), or divided by its length. "
        "95 %: the Wilson interval. Majority: whether that interval lies above or below the score of always answering "
        "the position that is right most often."
        + (" Another tokenizer: the same words in other tokens, which still compare." if beside else ""),
        note=True,
    )
    yield Heading("All accuracies", 3)
    yield Table([*of, *(MEANINGS[metric] for metric in METRICS)], others)
    yield Heading("Calibration, and what could not be asked whole", 3)
    yield Table(
        [*of, "macro-F1", "ECE", "Brier", "not scored", "too long", "rows refused", "fewer shots", "fewer passages"],
        quality,
    )
    yield Paragraph(
        "Not scored are questions that are too long, rows of the file that are no question, and likelihoods that are "
        "no number. Fewer shots or passages: questions that fit only without some.",
        note=True,
    )


def _protocols(facts: Facts) -> list[str]:
    """Those of the shown record in its order, then those that only others have."""
    return list(dict.fromkeys(name for record in facts.compared for name in record.scores))


def _against_majority(score: Score) -> str:
    """Where the whole interval lies: ``above 27.7``."""
    low, high = score.intervals[score.metric]
    place = "above" if low > score.majority else "below" if high < score.majority else "level with"
    return f"{place} {percent(score.majority)}"


def _asked_alike(ours: Score | None, other: Score) -> str:
    if other is ours:
        return "–"
    if ours is None:
        return "ours was not asked"
    differs = []
    if other.question_hash != ours.question_hash:
        differs.append("another prompt")
    elif other.prompt_hash != ours.prompt_hash:
        differs.append("another tokenizer")
    if (other.files, other.n) != (ours.files, ours.n):
        differs.append("other questions")
    return ", ".join(differs) or "yes"


def over_tokens(facts: Facts) -> Iterable[Block]:
    pictures = []
    other_prompts = 0
    for name, shown in facts.shown.scores.items():
        found = [(record, record.scores[name]) for record in facts.curve if name in record.scores]
        alike = [(record, score) for record, score in found if score.prompt_hash == shown.prompt_hash]
        other_prompts += len(found) - len(alike)
        if len(alike) < 2:
            continue
        # Scores of different numbers of questions are not joined by a line.
        sizes = sorted({score.n for _, score in alike}, reverse=True)
        series = {
            f"{n:,} questions": [
                plots.Point(record.tokens or 0, score.primary, score.intervals[shown.metric])
                for record, score in alike
                if score.n == n
            ]
            for n in sizes
        }
        caption = f"{plain(name)}: {len(alike)} scores of {' and '.join(series)}."
        pictures.append((plots.over_tokens(series, "accuracy", shown.majority, shares=True), caption))
    if not pictures:
        return
    yield Heading("Scores over tokens")
    yield Paragraph(
        "The primary accuracy of each checkpoint with its 95 % interval; dashed: the majority baseline. Neighbours on "
        "a curve answer the same questions, so their difference is surer than two bands suggest: "
        "`python -m eval compare` takes them pair by pair."
    )
    yield Plots(pictures)
    yield _table_over_tokens(facts)
    if other_prompts:
        yield Paragraph(f"{other_prompts:,} scores with another prompt or tokenizer are not on the curves.", note=True)


def _table_over_tokens(facts: Facts) -> Table:
    """Some of the checkpoints, the first and the last among them; results.json has all."""
    last = len(facts.curve) - 1
    places = sorted({round(place * last / (COLUMNS - 1)) for place in range(COLUMNS)})
    some = [facts.curve[place] for place in places]
    rows = []
    for name, shown in facts.shown.scores.items():
        found = [record.scores.get(name) for record in some]
        alike = [one if one and one.prompt_hash == shown.prompt_hash else None for one in found]
        rows.append([plain(name), *(percent(one.primary if one else None) for one in alike)])
    return Table(["protocol, at tokens", *(count(record.tokens or 0) for record in some)], rows)


def running_text(facts: Facts) -> Iterable[Block]:
    """Bits per byte."""
    if not any(record.texts for record in facts.compared):
        return
    yield Heading("Bits per byte of running text")
    yield Paragraph("What a byte of the text costs the model: lower is better, and tokenizers compare.")
    pictures = []
    for name in facts.shown.texts:
        found = [record for record in facts.curve if name in record.texts]
        if len(found) > 1:
            points = [
                plots.Point(record.tokens or 0, record.texts[name].bits_per_byte, record.texts[name].ci95)
                for record in found
            ]
            picture = plots.over_tokens({"": points}, "bits per byte", None, shares=False)
            pictures.append((picture, f"{plain(name)}."))
    if pictures:
        yield Plots(pictures)
    rows = []
    for record in facts.compared:
        for name, text in record.texts.items():
            low, high = text.ci95 or (None, None)
            interval = "–" if low is None or high is None else f"{low:.4f} – {high:.4f}"
            rows.append(
                [plain(name), plain(record.name), f"{text.bits_per_byte:.4f}", interval, f"{text.documents:,}",
                 f"{text.bytes:,}"]
            )  # fmt: skip
    yield Table(["text", "model", "bits per byte", "95 %", "documents", "bytes"], rows)


def averages(facts: Facts) -> Iterable[Block]:
    rows = [
        [plain(group), plain(record.name), f"{one.n:,}", percent(one.macro), between(one.macro_ci95),
         percent(one.micro), between(one.micro_ci95)]
        for record in facts.compared
        for group, one in record.averages.items()
    ]  # fmt: skip
    if not rows:
        return
    yield Heading("Averages")
    yield Paragraph(
        "Macro: the plain mean of the protocols' primary accuracies, each counting alike. Micro: of all questions "
        "together, so that the largest protocol decides. The two are different numbers; neither stands for the other."
    )
    yield Table(["group", "model", "questions", "macro", "95 %", "micro", "95 %"], rows)
    pictures = []
    for group, one in facts.shown.averages.items():
        members = [(name, facts.shown.scores[name]) for name in one.members if name in facts.shown.scores]
        picture = plots.bars_with_intervals(
            [_with_number(score.task, score.n) for _, score in members],
            [score.primary for _, score in members],
            [score.intervals[score.metric] for _, score in members],
            [score.n < FEW for _, score in members],
        )
        pictures.append((picture, f"{plain(group)}: the primary accuracy of each; in brackets its questions."))
    if pictures:
        yield Plots(pictures)
    yield Points(
        [f"{plain(group)}: {', '.join(map(plain, one.members))}" for group, one in facts.shown.averages.items()]
    )


def seen(facts: Facts) -> Iterable[Block]:
    """What was in the training corpus, and what was not."""
    found = facts.shown.seen
    if found is None:
        return
    yield Heading("Seen and unseen questions")
    yield Paragraph(
        "Seen: found in the training corpus, by the corpus's own search. Unseen: looked for and not found. Unknown: "
        "nobody looked for it. The difference is that of seen less unseen, with its 95 % interval."
    )
    rows = []
    for name, split in found.scores.items():
        groups = split.any
        parts = [(one.n, percent(one.accuracy)) for one in (groups.seen, groups.unseen, groups.unknown)]
        rows.append(
            [plain(name), *(cell for n, share in parts for cell in (f"{n:,}", share)), percent(groups.difference),
             between(groups.ci95)]
        )  # fmt: skip
    of = [cell for part in ("seen", "unseen", "unknown") for cell in (f"{part}, n", f"{part}, accuracy")]
    yield Table(["protocol", *of, "difference", "95 %"], rows)
    yield Paragraph(f"From `{plain(found.card)}`, SHA-256 `{plain(found.sha256)}`.", note=True)


def _with_number(name: str, n: int) -> str:
    """The name of a bar, short enough for the number to be seen."""
    return f"{name if len(name) <= 26 else name[:25] + '…'} ({n:,})"


def subjects(facts: Facts) -> Iterable[Block]:
    pictures, rows = [], []
    for name, score in facts.shown.scores.items():
        if len(score.subjects) < 2:
            continue
        by_size = sorted(score.subjects.items(), key=lambda pair: (-pair[1].n, pair[0]))
        picture = plots.bars_with_intervals(
            [_with_number(subject, one.n) for subject, one in by_size],
            [one.correct / one.n for _, one in by_size],
            [one.ci95 for _, one in by_size],
            [one.n < FEW for _, one in by_size],
        )
        few = sum(one.n < FEW for _, one in by_size)
        caption = f"{plain(name)}, {MEANINGS[score.metric]}; in brackets the number of questions."
        pictures.append((picture, caption + (f" Grey: fewer than {FEW}." if few else "")))
        rows += [
            [plain(name), plain(subject), f"{one.n:,}", percent(one.correct / one.n), between(one.ci95)]
            for subject, one in by_size
        ]
    if pictures:
        yield Heading("By subject")
        yield Plots(pictures)
        yield Table(["protocol", "subject", "questions", "accuracy", "95 %"], rows)


def positions(facts: Facts) -> Iterable[Block]:
    """Whether the model answers by the position instead of by the question."""
    if not facts.shown.scores:
        return
    yield Heading("What is answered, and what is right")
    yield Paragraph(
        "How often each option is the answer, beside how often it is right. A model that answers one position nearly "
        "always has not read the question; its accuracy is then that position's share."
    )
    pictures, rows = [], []
    for name, score in facts.shown.scores.items():
        names = option_names(facts, name)
        answered = score.predicted[score.metric]
        caption = f"{plain(name)}, {MEANINGS[score.metric]}."
        pictures.append((plots.answered_and_right(names, answered, score.gold), caption))
        for what, values in (("answered", answered), ("right", score.gold)):
            cells = [f"{plain(option)}: {value:,}" for option, value in zip(names, values, strict=True)]
            rows.append([plain(name), what, ", ".join(cells)])
    yield Plots(pictures)
    yield Table(["protocol", "", "questions"], rows)


def calibration(facts: Facts) -> Iterable[Block]:
    pictures = []
    for name, score in facts.shown.scores.items():
        bins = facts.bins(name)
        if not bins:
            continue
        right = [round(one.accuracy * one.n) for one in bins]
        picture = plots.reliability(
            [one.probability for one in bins],
            [one.accuracy for one in bins],
            [wilson_interval(correct, one.n) for correct, one in zip(right, bins, strict=True)],
        )
        few = f" Under {UNRELIABLE} questions it is not to be relied on." if score.scored < UNRELIABLE else ""
        size = f"{len(bins)} bins of about {score.scored // len(bins):,} questions"
        caption = f"{plain(name)}: {size}, ECE {number(score.ece)}.{few}"
        pictures.append((picture, caption))
    if not pictures and facts.no_items is None:
        return
    yield Heading("Calibration")
    if facts.no_items is not None:
        yield Paragraph(f"Not shown, nor are examples, since the items cannot be used. {plain(facts.no_items)}")
        return
    yield Paragraph(
        "The probability of the likeliest option, if one of them must be it (softmax over the summed log-likelihoods), "
        "against how often it is right. On the dashed line a model is as sure as it should be; below, too sure."
    )
    yield Plots(pictures)
