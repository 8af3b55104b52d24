"""The page of a run shows what its metrics hold, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from base.errors import UserError
from recipes.report import write_report, write_run_report
from recipes.report_plots import MOST_POINTS

ROOT = Path(__file__).parents[2]
ON_GPUS = {"throughput/device/mfu": 0.5, "memory/peak_reserved_mem": 30.0}
SCORES = {"acc": 0.8, "ci_low": 0.7, "ci_high": 0.9, "majority": 0.3}


def write_metrics(folder: Path, batches: int = 8, **every_batch: float) -> None:
    """A run that was killed after half of its batches, and gone on with from there."""
    lines = []
    for batch in range(1, batches + 1):
        if batch in (1, batches // 2):
            lines.append({"batch": batch - 1, "token": 64 * (batch - 1), "seconds": 1.0, "process_started": 1.0})
        lines.append(
            {"batch": batch, "token": 64 * batch, "seconds": 1.0, "loss/train/total": 9 / batch, **every_batch}
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def labels_of_axes(page: str) -> set[str]:
    known = ("loss", "learning rate", "L2 norm", "accuracy", "validation loss", "seconds", "tokens a second and rank",
             "MFU", "GB")  # fmt: skip
    return {label for label in known if re.search(rf"<text[^>]*>{label}</text>", page)}


def test_a_run_folder_becomes_one_page_with_a_chart_for_all_that_was_logged(tmp_path):
    logged = {
        "lr-AdamW/group0": 1e-3, "l2_norm/grad/global": 1.0, "time/step": 0.5, "time/loader_wait": 1e-3,
        "throughput/device/tokens_per_sec": 31000.0, "metrics/held-out/LanguageCrossEntropy": 2.0,
        "metrics/held-out/BitsPerByte": 0.75, **ON_GPUS,
        **{f"eval/medqa/{name}": value for name, value in SCORES.items()},
    }  # fmt: skip
    write_metrics(tmp_path / "my<run>", **logged)
    (tmp_path / "my<run>" / "config.yaml").write_text("run_name: a & b\n")
    out = tmp_path / "page.html"
    command = [sys.executable, "-m", "recipes.report", str(tmp_path / "my<run>"), "--out", str(out)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    page = out.read_text()
    assert page.count("<figure>") == page.count("<svg") == 9
    assert labels_of_axes(page) == {
        "loss", "learning rate", "L2 norm", "accuracy", "validation loss", "seconds", "tokens a second and rank",
        "MFU", "GB",
    }  # fmt: skip
    assert ">my&lt;run&gt;</h1>" in page and "run_name: a &amp; b" in page
    assert "<b>9.00 → 1.12</b>" in page and "<b>512</b><span>tokens trained on" in page and "0.750 bits" in page
    assert "<b>2</b><span>starts of the process" in page and "medqa" in page
    assert not re.search(r"""(src|href)=["']https?://""", page) and "mathdefault" not in page


def test_each_task_has_a_chart_and_steps_of_one_length_have_a_scale(tmp_path):
    tasks = [f"task{number}" for number in range(6)]
    scores = {f"eval/{task}/{name}": value for task in tasks for name, value in SCORES.items()}
    write_metrics(tmp_path, **scores, **{"time/step": 0.5})
    write_run_report(tmp_path / "report.html", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 8 and all(f"<figcaption>{task}: " in page for task in tasks)
    assert re.search(r"<text[^>]*>0.5</text>", page) and "mathdefault" not in page


def test_the_page_of_a_quickstart_tells_what_its_summary_does_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "planted<token>")
    for name in ("whole", "resumed"):
        write_metrics(tmp_path / name)
    details = {
        "date": "2025-01-31", "machine": "2 cores", "ledger": {"in": 1500, "kept": 1200, "dropped": {"no_text": 300}},
        "refused_files": [{"name": "a<b>.xml", "reason": "cut off"}], "prompt": "They were", "continuation": "n't `so`",
        "tokenizer": {
            "said": "", "measured_on": "9 documents",
            "rates": {name: {"pubmed": {"tokens_per_word": rate}} for name, rate in (("ours", 1.61), ("gpt2", 1.75))},
        },
        "configuration": "hub: 'planted<token>'\nplace: https://me:planted@host\n", "versions": "torch 2.7.0",
    }  # fmt: skip
    summary = {
        "source": "some/pubmed", "records_in": 1500, "documents": 1200, "vocab_size": 8239, "train_tokens": 512,
        "loss_first": 9.0, "loss_last": 1.125, "peak_memory_bytes": 4e9, "seconds": {"data": 11.4, "total": 65.0},
        "resume": {"killed_at_batch": 5, "resumed_at_batch": 4, "bit_identical": False},
        "scores": {"medqa": {"acc": 0.25, "acc_norm": 0.375, "n": 48, "majority": 0.3125, "ci95": [0.125, 0.5]}},
        "export": {"path": "out/exported", "max_logit_difference": 1.9e-6}, "details": details,
    }  # fmt: skip
    metrics = [tmp_path / name / "metrics.jsonl" for name in ("whole", "resumed")]
    write_report(tmp_path / "report.html", summary, *metrics)
    page = (tmp_path / "report.html").read_text()
    words = " ".join(re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.S).split())
    for told in (
        "1,200 documents of 1,500 records", "NOT identical resume after SIGKILL at batch 5", "9.00 → 1.12", "4.0 GB",
        "1m05s in all", "dropped: no_text 300", "a&lt;b&gt;.xml cut off", "1.61", "1.75", "measured on 9 documents",
        "medqa 0.250 0.125 – 0.500 0.375 0.312 48", "They were n&#x27;t &#x27;so&#x27;", "at most 1.9e-06", "data 11s",
        "hub: &#x27;***&#x27; place: https://***@host", "torch 2.7.0", "Source: some/pubmed. 2025-01-31, 2 cores.",
    ):  # fmt: skip
        assert told in words
    assert "planted" not in page and '<a href="card.html">' in page and page.count("<figure>") == 2


def test_what_was_not_logged_has_no_chart(tmp_path):
    write_metrics(tmp_path)
    write_run_report(tmp_path / "report.html", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert labels_of_axes(page) == {"loss"} and page.count("<figure>") == 1
    assert "Configuration" not in page


def test_what_guards_have_done_is_told_and_a_loss_that_is_no_number_breaks_no_chart(tmp_path):
    write_metrics(tmp_path)
    write_run_report(tmp_path / "report.html", tmp_path)
    assert ">What guards have done</h2>\n<p>Nothing.</p>" in (tmp_path / "report.html").read_text()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"batch": 4, "token": 256, "seconds": 1, "loss/train/total": NaN, "guard/skipped/not_finite": 1}\n')
        file.write('{"batch": 7, "token": 448, "seconds": 1, "guard/batches_left_out": 12}\n')
    write_run_report(tmp_path / "report.html", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<li>batch 4: skipped: not finite" in page and "<li>batch 7: batches left out, 12" in page
    assert page.count("<figure>") == 1 and "Nothing." not in page


def test_a_run_of_very_many_batches_has_a_page_of_an_ordinary_size(tmp_path):
    write_metrics(tmp_path, batches=2 * MOST_POINTS, **{"l2_norm/grad/global": 1.0})
    write_run_report(tmp_path / "report.html", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert len(page) < 1e6 and 'href="data:image/png;base64' in page


def test_a_folder_without_metrics_or_without_a_batch_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.jsonl: no such file; give the run_folder of a training"):
        write_run_report(tmp_path / "report.html", tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"batch": 0, "token": 0, "seconds": 1.0, "process_started": 1.0}\n')
    with pytest.raises(UserError, match="no batch is in it yet"):
        write_run_report(tmp_path / "report.html", tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_help_of_the_report_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "recipes.report", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0 and "RUN_FOLDER" in told.stdout
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "base.storage" in imported and not imported & {"torch", "composer", "matplotlib", "numpy", "boto3"}
