"""The page of a run shows what its metrics hold, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from base.errors import UserError
from recipes.report import MOST_POINTS, write_run_report

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
    assert "<h1>my&lt;run&gt;</h1>" in page and "run_name: a &amp; b" in page
    assert "<b>9.00 → 1.12</b>" in page and "<b>512</b><span>tokens trained on" in page and "0.750 bits" in page
    assert "<b>2</b><span>starts of the process" in page and "medqa" in page
    assert not re.search(r"""(src|href)=["']https?://""", page)


def test_what_was_not_logged_has_no_chart(tmp_path):
    write_metrics(tmp_path)
    write_run_report(tmp_path / "report.html", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert labels_of_axes(page) == {"loss"} and page.count("<figure>") == 1
    assert "Configuration" not in page


def test_what_guards_have_done_is_told_and_a_loss_that_is_no_number_breaks_no_chart(tmp_path):
    write_metrics(tmp_path)
    write_run_report(tmp_path / "report.html", tmp_path)
    assert "<h2>What guards have done</h2>\n<p>Nothing.</p>" in (tmp_path / "report.html").read_text()
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
