"""What stands on the page of a run, and on that of the quickstart: from metrics to blocks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from base.page import Block, Heading, Link, Listing, Paragraph, Plots, Points, Table, Tiles, plain
from base.progress import count, duration
from eval.report_plots import Point, over_tokens
from recipes.metrics import LOSS, NORM, series
from recipes.report_plots import (
    at_few_batches,
    from_zero,
    killed_and_resumed,
    over_batches,
    seconds_of_steps,
    tokens_a_word,
)

VALIDATION, BITS = "metrics/{}/LanguageCrossEntropy", "metrics/{}/BitsPerByte"  # of a label of eval_loader
STEP, ALONE, WAIT = "time/step", "time/step_alone_max", "time/loader_wait"
LEARNING_RATE, RATE = "lr-AdamW/group0", "throughput/device/tokens_per_sec"
MFU, MEMORY = "throughput/device/mfu", "memory/peak_reserved_mem"  # on GPUs alone
LINES = {
    LEARNING_RATE: ("learning rate", "Learning rate."),
    NORM: ("L2 norm", "Norm of the gradient before clipping."),
    RATE: (
        "tokens a second and rank",
        "Throughput of each of the ranks, a mean over some batches; scores and saves count, validation does not.",
    ),
    MFU: ("MFU", "MFU of each of the ranks, over the same batches as the throughput: 1 is the GPU's whole bf16 rate."),
    MEMORY: ("GB", "Memory of rank 0's GPU that was reserved at most."),
}
"""Metric → its axis and its caption."""

Batches = dict[int, dict[str, Any]]
Figure = tuple[str, str]


def of_run(run_folder: Path, batches: Batches, starts: Sequence[int]) -> Iterator[Block]:
    """The page of one training run.

    Args:
        batches: at least one, with its loss.
        starts: batches after which a process has begun.
    """
    losses = series(batches, LOSS)[1]
    yield Heading(plain(run_folder.name), 1)
    yield Paragraph(plain(run_folder / "metrics.jsonl"), note=True)
    yield Tiles(
        [
            (f"{max(batches):,}", "batches"),
            (count(batches[max(batches)]["token"]), "tokens trained on"),
            (f"{losses[0]:.2f} → {losses[-1]:.2f}", "training loss"),
            (f"{len(starts)}", "starts of the process"),
        ]
    )
    plot = over_batches(series(batches, LOSS), "loss", [batch for batch in starts if batch > 0])
    yield Heading("Training")
    yield Plots([(plot, "Training loss, nats a token; dotted: where it was gone on with."), *_charts(batches)])
    yield Heading("What guards have done")
    done = list(_interventions(batches))
    yield Points(done) if done else Paragraph("Nothing.")
    configuration = run_folder / "config.yaml"
    if configuration.is_file():
        yield Heading("Configuration of the run")
        yield Listing(configuration.read_text(encoding="utf-8"))


def of_quickstart(summary: dict[str, Any], whole: Batches, resumed: Batches) -> Iterator[Block]:
    """The page of a quickstart: what goes into summary.json, with ``details``, and the metrics of its two runs."""
    details, resume, export = summary["details"], summary["resume"], summary["export"]
    yield Heading("BioMedLM recipe: from PubMed XML to a scored model", 1)
    yield Paragraph(f"Source: {plain(summary['source'])}. {details['date']}, {plain(details['machine'])}.", note=True)
    yield Tiles(
        [
            (f"{summary['documents']:,}", f"documents of {summary['records_in']:,} records"),
            (f"{summary['vocab_size']:,}", "tokenizer entries"),
            (count(summary["train_tokens"]), "tokens trained on"),
            (f"{summary['loss_first']:.2f} → {summary['loss_last']:.2f}", "training loss"),
            (
                "bit for bit" if resume["bit_identical"] else "NOT identical",
                f"resume after SIGKILL at batch {resume['killed_at_batch']}",
            ),
            (f"{export['max_logit_difference']:.0e}", "largest logit difference of the export"),
            (duration(summary["seconds"]["total"]), "in all"),
            (f"{summary['peak_memory_bytes'] / 1e9:.1f} GB", "peak memory, all processes"),
        ]
    )
    caption = (
        "Training loss, nats a token. The run that was killed with SIGKILL (dashed) and resumed (dotted: from where) "
        "lies on the one that was left alone; dropout was on."
    )
    yield Heading("Training")
    plot = killed_and_resumed(
        series(whole, LOSS), series(resumed, LOSS), resume["killed_at_batch"], resume["resumed_at_batch"]
    )
    yield Plots([(plot, caption), *_charts(whole)])
    yield Heading("Data")
    yield from _data(details)
    yield Heading("Scores of the last checkpoint")
    yield Table(
        ("task", "accuracy", "95 % interval", "by length", "majority", "questions"),
        [
            (
                plain(task), f"{score['acc']:.3f}", f"{score['ci95'][0]:.3f} – {score['ci95'][1]:.3f}",
                f"{score['acc_norm']:.3f}", f"{score['majority']:.3f}", f"{score['n']:,}",
            )
            for task, score in summary["scores"].items()
        ],
    )  # fmt: skip
    yield Heading("A continuation")
    prompt, said = plain(details["prompt"]), plain(details["prompt"] + details["continuation"])
    yield Paragraph(f"`{prompt}`{said.removeprefix(prompt)}")
    yield Heading("Export")
    yield Paragraph(
        f"`{plain(export['path'])}` loads with `AutoModelForCausalLM`; its logits differ from the training code's by "
        f"at most {export['max_logit_difference']:.1e}. Read its model card: some versions of transformers ignore the "
        "attention scaling."
    )
    yield Heading("Time")
    yield Table(("part", "time"), [(name, duration(seconds)) for name, seconds in summary["seconds"].items()])
    yield Heading("Configuration of the run")
    yield Listing(details["configuration"])
    yield Paragraph(plain(details["versions"]), note=True)


def _data(details: dict[str, Any]) -> Iterator[Block]:
    total, tokenizer = details["ledger"], details["tokenizer"]
    rows = [("in", total["in"]), ("kept", total["kept"])]
    rows += [(f"dropped: {plain(reason)}", number) for reason, number in sorted(total["dropped"].items())]
    yield Table(("records", "number"), [(name, f"{number:,}") for name, number in rows])
    if details["refused_files"]:
        refused = [(plain(file["name"]), plain(file["reason"])) for file in details["refused_files"]]
        yield Table(("file refused", "reason"), refused)
    yield Link("The data card", "card.html", "has more of it, and what it shares with the questions.")
    if tokenizer["said"]:
        yield Paragraph(f"The tokenizer is {plain(tokenizer['said'])}.")
    words = {name: rates["pubmed"]["tokens_per_word"] for name, rates in tokenizer["rates"].items()}
    if len(words) > 1:
        yield Plots([(tokens_a_word(words), f"Tokens a word, measured on {plain(tokenizer['measured_on'])}.")])
    else:
        yield Paragraph(f"{words['ours']:.2f} tokens a word. Give GPT-2's vocabulary to see both side by side.")


def _charts(batches: Batches) -> Iterator[Figure]:
    """The figures besides that of the loss, of what was logged."""
    there = {key for entry in batches.values() for key in entry}

    def lines(*names: str) -> Iterator[Figure]:
        for name in names:
            if name in there:
                label, caption = LINES[name]
                yield from_zero(series(batches, name), label), caption

    yield from lines(LEARNING_RATE, NORM)
    for task in sorted(key.split("/")[1] for key in there if key.startswith("eval/") and key.endswith("/acc")):
        yield _scores(batches, task)
    before, after = VALIDATION.split("{}")
    for label in sorted(
        name.removeprefix(before).removesuffix(after)
        for name in there
        if name.startswith(before) and name.endswith(after)
    ):
        bits = series(batches, BITS.format(label))[1]
        caption = (
            f"Loss on held-out documents, nats a token; at the end {f'{bits[-1]:.3f}' if bits else 'no'} bits for each "
            "byte of text."
        )
        yield at_few_batches(series(batches, VALIDATION.format(label)), "validation loss"), caption
    if STEP in there or WAIT in there:
        caption = (
            "Seconds from one batch to the next, with what lay between (validation, scores, saves); without the wait "
            "for other ranks, those of the slowest rank; and the wait for the loader."
        )
        yield seconds_of_steps(*(series(batches, name) for name in (STEP, ALONE, WAIT))), caption
    yield from lines(RATE, MFU, MEMORY)


def _scores(batches: Batches, task: str) -> Figure:
    scored = [entry for entry in batches.values() if f"eval/{task}/acc" in entry]
    points = [
        Point(
            entry["token"],
            entry[f"eval/{task}/acc"],
            (entry[f"eval/{task}/ci_low"], entry[f"eval/{task}/ci_high"]),
        )
        for entry in scored
    ]
    caption = (
        f"{plain(task)}: questions answered by the likelihood of each option's text, with the 95 % interval; dashed: "
        "always answering the most frequent position."
    )
    return over_tokens({task: points}, "accuracy", scored[-1][f"eval/{task}/majority"], shares=True), caption


def _interventions(batches: Batches) -> Iterator[str]:
    """Steps that were skipped, batches that were left out, where the run was ended; see recipes.callbacks.guard."""
    for batch, entry in batches.items():
        for name, value in entry.items():
            if name.startswith("guard/"):
                what = plain(name.removeprefix("guard/").replace("_", " ").replace("/", ": "))
                yield f"batch {batch}: {what}" + (f", {value:g}" if name == "guard/batches_left_out" else "")
