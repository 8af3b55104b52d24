"""``report.html``: what a run of the whole recipe did, in one self-contained page with its plots."""

import html
import io
from pathlib import Path
from typing import Any

from base import storage
from base.progress import count, duration
from recipes.metrics import read_metrics, series

INK, BLUE, RED, GREEN, GREY = "#1f2933", "#2563a8", "#c2410c", "#2f7d4f", "#9aa5b1"
LOSS, NORM = "loss/train/total", "l2_norm/grad/global"
VALIDATION, BITS = "metrics/eval/LanguageCrossEntropy", "metrics/eval/BitsPerByte"
STEP, ALONE, WAIT = "time/step", "time/step_alone_max", "time/loader_wait"
RATE = "throughput/device/tokens_per_sec"

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
        _tiles(summary),
        "<h2>Training</h2><div class=plots>",
        _figure(
            _loss_plot(whole, resumed, summary),
            "Training loss, nats a token. The run that was killed with SIGKILL "
            "and resumed lies on the one that was left alone; dropout was on.",
        ),
        _figure(_lines(whole, "lr-AdamW/group0", "learning rate"), "Learning rate: warmup, then cosine to a tenth."),
        _figure(_lines(whole, NORM, "L2 norm"), "Norm of the gradient before clipping at 1."),
        _figure(
            _score_plot(whole),
            "Questions answered by the likelihood of each option's text, with the 95 % "
            "interval; dashed: always answering the most frequent position.",
        ),
        _figure(
            _marked_plot(whole, VALIDATION, "validation loss"),
            f"Loss on held-out documents, nats a token; at the end {_last(whole, BITS)} bits for each byte of text.",
        ),
        _figure(
            _step_plot(whole),
            "Seconds from one batch to the next, with what lay between (validation, scores, saves); without the wait "
            "for other ranks, those of the slowest rank; and the wait for the loader.",
        ),
        _figure(
            _lines(whole, RATE, "tokens a second and rank"),
            "Throughput of each of the ranks, a mean over some batches; scores and saves count, validation does not.",
        ),
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
    page = PAGE.format(title="BioMedLM recipe: report", body="\n".join(body))
    storage.write_bytes(str(path), page.encode())


def _text(value: object) -> str:
    return html.escape(str(value))


def _tiles(summary: dict[str, Any]) -> str:
    resume = summary["resume"]
    tiles = [
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
    figure.savefig(buffer, format="svg", metadata={"Date": None})
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


def _lines(batches: dict[int, Any], name: str, label: str) -> str:
    figure, axes = _axes()
    axes.plot(*series(batches, name), color=BLUE)
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
    axes.plot(*series(batches, STEP), color=BLUE, label="step")
    axes.plot(*series(batches, ALONE), color=GREEN, linestyle="", marker="o", label="slowest rank")
    axes.plot(*series(batches, WAIT), color=RED, linewidth=1, label="loader")
    axes.set(xlabel="batch", ylabel="seconds", yscale="log")
    axes.legend(frameon=False)
    return _svg(figure)


def _last(batches: dict[int, Any], name: str) -> str:
    values = series(batches, name)[1]
    return f"{values[-1]:.3f}" if values else "no"


def _score_plot(batches: dict[int, Any]) -> str:
    figure, axes = _axes()
    names = sorted({key.split("/")[1] for entry in batches.values() for key in entry if key.endswith("/acc")})
    for offset, (task, color) in enumerate(zip(names, (BLUE, RED, GREEN, INK), strict=False)):
        scored = [entry for entry in batches.values() if f"eval/{task}/acc" in entry]
        tokens = [entry["token"] * (1 + 0.01 * offset) for entry in scored]
        values = [entry[f"eval/{task}/acc"] for entry in scored]
        below = [entry[f"eval/{task}/acc"] - entry[f"eval/{task}/ci_low"] for entry in scored]
        above = [entry[f"eval/{task}/ci_high"] - entry[f"eval/{task}/acc"] for entry in scored]
        axes.errorbar(tokens, values, yerr=[below, above], color=color, marker="o", capsize=3, label=task)
        axes.axhline(scored[-1][f"eval/{task}/majority"], color=color, linewidth=0.9, linestyle="--")
    axes.set(xlabel="tokens seen", ylabel="accuracy", xlim=(0, None), ylim=(0, 0.7))
    axes.xaxis.set_major_formatter(lambda value, _: count(value) if value else "0")
    if names:
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
