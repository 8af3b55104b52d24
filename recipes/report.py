"""What a run did, in one self-contained page with its charts: ``python -m recipes.report RUN_FOLDER``.

The quickstart writes the same charts into its own ``report.html``, which tells of the whole recipe.
"""

import argparse
import html
import io
from pathlib import Path
from typing import Any

from base import storage
from base.errors import UserError, run_command
from base.masking import without_secrets
from base.progress import count, duration, say
from recipes.metrics import read_entries, read_metrics, series

INK, BLUE, RED, GREEN, GREY = "#1f2933", "#2563a8", "#c2410c", "#2f7d4f", "#9aa5b1"
LOSS, NORM = "loss/train/total", "l2_norm/grad/global"
VALIDATION, BITS = "metrics/{}/LanguageCrossEntropy", "metrics/{}/BitsPerByte"  # of a label of eval_loader
STEP, ALONE, WAIT = "time/step", "time/step_alone_max", "time/loader_wait"
LEARNING_RATE, RATE = "lr-AdamW/group0", "throughput/device/tokens_per_sec"
MOST_POINTS = 10_000
MFU, MEMORY = "throughput/device/mfu", "memory/peak_reserved_mem"  # on GPUs alone

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin-bottom: .2rem; }} h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .5rem; }}
p.lead {{ color: #52606d; margin-top: 0; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.4rem 0; }}
.tile {{ border: 1px solid #e4e7eb; border-radius: 6px; padding: .7rem .9rem; }}
.tile b {{ display: block; font-size: 1.35rem; }} .tile span {{ color: #52606d; font-size: .85rem; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; border: 1px solid #e4e7eb; border-radius: 6px; padding: .6rem; }}
figure svg {{ width: 100%; height: auto; }} figcaption {{ font-size: .85rem; color: #52606d; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .15rem .9rem .15rem 0; text-align: left; }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
blockquote, pre {{ background: #f5f7fa; border-radius: 6px; padding: .8rem 1rem; margin: .5rem 0; overflow-x: auto; }}
blockquote b {{ color: #2563a8; }} pre {{ font-size: .8rem; }}
</style></head><body>
{body}
</body></html>
"""


def write_run_report(path: Path, run_folder: Path) -> None:
    """Write the page of one training run, finished or not.

    Args:
        path: the file.
        run_folder: with metrics.jsonl, and config.yaml if it is there.

    Raises:
        UserError: there are no metrics, or none of a batch.
    """
    metrics, configuration = run_folder / "metrics.jsonl", run_folder / "config.yaml"
    if not metrics.is_file():
        raise UserError(f"{metrics}: no such file; give the run_folder of a training, as it lies on rank 0's node")
    batches = read_metrics(metrics)
    losses = series(batches, LOSS)[1]
    if not losses:
        raise UserError(f"{metrics}: no batch is in it yet; try again when the first is trained")
    starts = [entry["batch"] for entry in read_entries(metrics) if "process_started" in entry]
    body = [
        f"<h1>{_text(run_folder.resolve().name)}</h1>",
        f"<p class=lead>{_text(metrics.resolve())}</p>",
        _tiles(
            [
                (f"{max(batches):,}", "batches"),
                (count(batches[max(batches)]["token"]), "tokens trained on"),
                (f"{losses[0]:.2f} → {losses[-1]:.2f}", "training loss"),
                (f"{len(starts)}", "starts of the process"),
            ]
        ),
        "<h2>Training</h2><div class=plots>",
        _figure(_run_loss_plot(batches, starts), "Training loss, nats a token; dotted: where it was gone on with."),
        *_charts(batches),
        "</div>",
        "<h2>What guards have done</h2>",
        *_interventions(batches),
    ]
    if configuration.is_file():
        body += ["<h2>Configuration of the run</h2>", f"<pre>{_text(configuration.read_text(encoding='utf-8'))}</pre>"]
    _write_page(path, f"{run_folder.resolve().name}: report", body)


def write_report(path: Path, summary: dict[str, Any], whole_metrics: Path, resumed_metrics: Path) -> None:
    """Write the page.

    Args:
        path: the file.
        summary: what goes into summary.json, with ``details`` for the page alone.
        whole_metrics: metrics.jsonl of the run that was left alone.
        resumed_metrics: metrics.jsonl of the run that was killed and resumed.
    """
    whole, resumed = read_metrics(whole_metrics), read_metrics(resumed_metrics)
    details = summary["details"]
    body = [
        "<h1>BioMedLM recipe: from PubMed XML to a scored model</h1>",
        f"<p class=lead>Source: {_text(summary['source'])}. {_text(details['date'])}, {_text(details['machine'])}.</p>",
        _tiles(_of_the_recipe(summary)),
        "<h2>Training</h2><div class=plots>",
        _figure(
            _loss_plot(whole, resumed, summary),
            "Training loss, nats a token. The run that was killed with SIGKILL "
            "and resumed lies on the one that was left alone; dropout was on.",
        ),
        *_charts(whole),
        "</div>",
        "<h2>Data</h2>",
        _ledger(details["ledger"], details["refused_files"]),
        "<p>More of it, and what it shares with the questions: <a href=card.html>the data card</a>.</p>",
        _tokenizer(details["tokenizer"]),
        "<h2>Scores of the last checkpoint</h2>",
        _scores(summary["scores"]),
        "<h2>A continuation</h2>",
        f"<blockquote><b>{_text(details['prompt'])}</b>{_text(details['continuation'])}</blockquote>",
        "<h2>Export</h2>",
        f"<p><code>{_text(summary['export']['path'])}</code> loads with <code>AutoModelForCausalLM</code>; its logits "
        f"differ from the training code's by at most {summary['export']['max_logit_difference']:.1e}. Read its "
        "model card: some versions of transformers ignore the attention scaling.</p>",
        "<h2>Time</h2>",
        _table([(name, duration(seconds)) for name, seconds in summary["seconds"].items()]),
        "<h2>Configuration of the run</h2>",
        f"<pre>{_text(details['configuration'])}</pre>",
        f"<p class=lead>{_text(details['versions'])}</p>",
    ]
    _write_page(path, "BioMedLM recipe: report", body)


def _write_page(path: Path, title: str, body: list[str]) -> None:
    storage.write_bytes(str(path), PAGE.format(title=_text(title), body="\n".join(body)).encode())


def _charts(batches: dict[int, Any]) -> list[str]:
    """The figures besides that of the loss, of what was logged."""
    there = {key for entry in batches.values() for key in entry}
    figures = []
    if LEARNING_RATE in there:
        figures.append(_figure(_lines(batches, LEARNING_RATE, "learning rate"), "Learning rate."))
    if NORM in there:
        figures.append(_figure(_lines(batches, NORM, "L2 norm"), "Norm of the gradient before clipping."))
    if _tasks(batches):
        caption = (
            "Questions answered by the likelihood of each option's text, with the 95 % interval; dashed: always "
            "answering the most frequent position."
        )
        figures.append(_figure(_score_plot(batches), caption))
    for label in _labels(there):
        caption = (
            f"Loss on held-out documents, nats a token; at the end {_last(batches, BITS.format(label))} bits for each "
            "byte of text."
        )
        figures.append(_figure(_marked_plot(batches, VALIDATION.format(label), "validation loss"), caption))
    if STEP in there or WAIT in there:
        caption = (
            "Seconds from one batch to the next, with what lay between (validation, scores, saves); without the wait "
            "for other ranks, those of the slowest rank; and the wait for the loader."
        )
        figures.append(_figure(_step_plot(batches), caption))
    if RATE in there:
        caption = (
            "Throughput of each of the ranks, a mean over some batches; scores and saves count, validation does not."
        )
        figures.append(_figure(_lines(batches, RATE, "tokens a second and rank"), caption))
    if MFU in there:
        caption = "MFU of each of the ranks, over the same batches as the throughput: 1 is the GPU's whole bf16 rate."
        figures.append(_figure(_lines(batches, MFU, "MFU"), caption))
    if MEMORY in there:
        caption = "Memory of rank 0's GPU that was reserved at most."
        figures.append(_figure(_lines(batches, MEMORY, "GB"), caption))
    return figures


def _interventions(batches: dict[int, Any]) -> list[str]:
    """Steps that were skipped, batches that were left out, where the run was ended; see recipes.callbacks.guard."""
    done = [
        f"<li>batch {batch}: {_text(name.removeprefix('guard/').replace('_', ' ').replace('/', ': '))}"
        + (f", {value:g}" if name == "guard/batches_left_out" else "")
        for batch, entry in batches.items()
        for name, value in entry.items()
        if name.startswith("guard/")
    ]
    return ["<ul>", *done, "</ul>"] if done else ["<p>Nothing.</p>"]


def _text(value: object) -> str:
    return html.escape(without_secrets(str(value)))


def _of_the_recipe(summary: dict[str, Any]) -> list[tuple[str, str]]:
    resume = summary["resume"]
    return [
        (f"{summary['documents']:,}", f"documents of {summary['records_in']:,} records"),
        (f"{summary['vocab_size']:,}", "tokenizer entries"),
        (count(summary["train_tokens"]), "tokens trained on"),
        (f"{summary['loss_first']:.2f} → {summary['loss_last']:.2f}", "training loss"),
        ("bit for bit" if resume["bit_identical"] else "NOT identical", f"resume after SIGKILL at batch "
         f"{resume['killed_at_batch']}"),
        (f"{summary['export']['max_logit_difference']:.0e}", "largest logit difference of the export"),
        (duration(summary["seconds"]["total"]), "in all"),
        (f"{summary['peak_memory_bytes'] / 1e9:.1f} GB", "peak memory, all processes"),
    ]  # fmt: skip


def _tiles(tiles: list[tuple[str, str]]) -> str:
    return (
        "<div class=tiles>" + "".join(f"<div class=tile><b>{a}</b><span>{b}</span></div>" for a, b in tiles) + "</div>"
    )


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def _table(rows: list[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><td>{_text(a)}<td class=n>{_text(b)}" for a, b in rows) + "</table>"


def _ledger(total: dict[str, Any], refused: list[dict[str, str]]) -> str:
    rows = [("records in", f"{total['in']:,}"), ("kept", f"{total['kept']:,}")]
    rows += [(f"dropped: {reason}", f"{number:,}") for reason, number in sorted(total["dropped"].items())]
    rows += [(f"file refused: {file['name']}", file["reason"]) for file in refused]
    return _table(rows)


def _tokenizer(facts: dict[str, Any]) -> str:
    words = {name: rates["pubmed"]["tokens_per_word"] for name, rates in facts["rates"].items()}
    lines = [f"<p>The tokenizer is {_text(facts['said'])}.</p>"] if facts["said"] else []
    if len(words) > 1:
        lines.append(
            "<div class=plots>"
            + _figure(_bar_plot(words), f"Tokens a word, measured on {_text(facts['measured_on'])}.")
            + "</div>"
        )
    else:
        lines.append(f"<p>{words['ours']:.2f} tokens a word. Give GPT-2's vocabulary to see both side by side.</p>")
    return "\n".join(lines)


def _scores(scores: dict[str, Any]) -> str:
    head = "<tr><th>task<th>accuracy<th>95 % interval<th>by length<th>majority<th>questions"
    rows = [
        f"<tr><td>{_text(task)}<td class=n>{s['acc']:.3f}<td class=n>{s['ci95'][0]:.3f} – {s['ci95'][1]:.3f}"
        f"<td class=n>{s['acc_norm']:.3f}<td class=n>{s['majority']:.3f}<td class=n>{s['n']}"
        for task, s in scores.items()
    ]
    return "<table>" + head + "".join(rows) + "</table>"


# --- plots -------------------------------------------------------------------------------------------------------


def _axes() -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "report"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.6, 3.2), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib import pyplot

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None})
    pyplot.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _loss_plot(whole: dict[int, Any], resumed: dict[int, Any], summary: dict[str, Any]) -> str:
    figure, axes = _axes()
    axes.plot(*series(whole, LOSS), color=BLUE, linewidth=3.5, alpha=0.45, label="left alone")
    axes.plot(*series(resumed, LOSS), color=INK, linewidth=1, label="killed and resumed")
    resume = summary["resume"]
    axes.axvline(resume["killed_at_batch"], color=RED, linewidth=1, linestyle="--", label="SIGKILL")
    axes.axvline(resume["resumed_at_batch"], color=GREEN, linewidth=1, linestyle=":", label="resumed from")
    axes.set(xlabel="batch", ylabel="loss")
    axes.legend(frameon=False)
    return _svg(figure)


def _run_loss_plot(batches: dict[int, Any], starts: list[int]) -> str:
    figure, axes = _axes()
    _plot(axes, *series(batches, LOSS), color=BLUE)
    for batch in starts:
        if batch > 0:
            axes.axvline(batch, color=GREEN, linewidth=1, linestyle=":")
    axes.set(xlabel="batch", ylabel="loss")
    return _svg(figure)


def _plot(axes: Any, x: list[int], y: list[float], **style: Any) -> None:
    """A line; one of very many points as pixels, for as a drawing it would be megabytes."""
    axes.plot(x, y, rasterized=len(x) > MOST_POINTS, **style)


def _lines(batches: dict[int, Any], name: str, label: str) -> str:
    figure, axes = _axes()
    _plot(axes, *series(batches, name), color=BLUE)
    axes.set(xlabel="batch", ylabel=label, ylim=(0, None))
    return _svg(figure)


def _marked_plot(batches: dict[int, Any], name: str, label: str) -> str:
    figure, axes = _axes()
    axes.plot(*series(batches, name), color=BLUE, marker="o")
    axes.set(xlabel="batch", ylabel=label, xlim=(0, None))
    return _svg(figure)


def _step_plot(batches: dict[int, Any]) -> str:
    """On a logarithmic axis: a loader that keeps up is waited for a thousandth of a step."""
    figure, axes = _axes()
    _plot(axes, *series(batches, STEP), color=BLUE, label="step")
    _plot(axes, *series(batches, ALONE), color=GREEN, linestyle="", marker="o", label="slowest rank")
    _plot(axes, *series(batches, WAIT), color=RED, linewidth=1, label="loader")
    axes.set(xlabel="batch", ylabel="seconds", yscale="log")
    axes.legend(frameon=False)
    return _svg(figure)


def _last(batches: dict[int, Any], name: str) -> str:
    values = series(batches, name)[1]
    return f"{values[-1]:.3f}" if values else "no"


def _tasks(batches: dict[int, Any]) -> list[str]:
    return sorted({key.split("/")[1] for entry in batches.values() for key in entry if key.endswith("/acc")})


def _labels(names: set[str]) -> list[str]:
    """Of the validation, as ``eval_loader.label`` has them."""
    before, after = VALIDATION.split("{}")
    found = (name for name in names if name.startswith(before) and name.endswith(after))
    return sorted(name.removeprefix(before).removesuffix(after) for name in found)


def _score_plot(batches: dict[int, Any]) -> str:
    figure, axes = _axes()
    names, highest = _tasks(batches), 0.7
    for offset, (task, color) in enumerate(zip(names, (BLUE, RED, GREEN, INK), strict=False)):
        scored = [entry for entry in batches.values() if f"eval/{task}/acc" in entry]
        tokens = [entry["token"] * (1 + 0.01 * offset) for entry in scored]
        values = [entry[f"eval/{task}/acc"] for entry in scored]
        below = [entry[f"eval/{task}/acc"] - entry[f"eval/{task}/ci_low"] for entry in scored]
        above = [entry[f"eval/{task}/ci_high"] - entry[f"eval/{task}/acc"] for entry in scored]
        axes.errorbar(tokens, values, yerr=[below, above], color=color, marker="o", capsize=3, label=task)
        highest = max([highest, *(entry[f"eval/{task}/ci_high"] for entry in scored)])
        axes.axhline(scored[-1][f"eval/{task}/majority"], color=color, linewidth=0.9, linestyle="--")
    axes.set(xlabel="tokens seen", ylabel="accuracy", xlim=(0, None), ylim=(0, highest))
    axes.xaxis.set_major_formatter(lambda value, _: count(value) if value else "0")
    axes.legend(frameon=False)
    return _svg(figure)


def _bar_plot(words: dict[str, float]) -> str:
    figure, axes = _axes()
    bars = axes.barh(list(words), list(words.values()), color=[BLUE, *[GREY] * (len(words) - 1)])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlabel="tokens a word")
    axes.grid(visible=False)
    axes.invert_yaxis()
    return _svg(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.report", description=__doc__)
    parser.add_argument("run_folder", type=Path, help="of a training, finished or not, with its metrics.jsonl")
    parser.add_argument("--out", type=Path, help="the page; without it, report.html in the run's folder")
    arguments = parser.parse_args()
    out = arguments.out or arguments.run_folder / "report.html"
    write_run_report(out, arguments.run_folder)
    say(f"{out.resolve()}")


if __name__ == "__main__":
    run_command(main)
