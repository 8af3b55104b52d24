"""The whole recipe in one sitting, at a small size, with the commands that the large run takes.

    make quickstart [SOURCE=…] [QA=…] [GPT2=…]

PubMed XML → documents → tokenizer → shards in S3 → training on two ranks → a second training that is killed and
resumed → export → a continuation → report.html and summary.json.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from base import storage
from base.errors import FAILED, MENDABLE, PartlyRefused, UserError, run_command
from base.local_s3 import LocalS3, local_s3
from base.progress import duration, say
from recipes.metrics import LOSS, NORM, read_entries, read_metrics, series
from recipes.report import write_report

RANKS = 2
KILL_AT_BATCH = 50  # between two saves (40 and 60), past the middle of the run
KILL_TIMEOUT = 1200
PROMPT = "The patients were"
# glibc gives every large tensor back to the kernel and takes it again: up to a third of the time of a small model.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}


class Quickstart:
    """Where everything lies, how long each part took, how much memory it needed at most."""

    def __init__(self, out: Path, server: LocalS3):
        self.out, self.server = out, server
        self.seconds: dict[str, float] = {}
        self.peak_memory = 0
        # Without GPUs, where there are any: two ranks on one would be refused.
        settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.environment = os.environ | server.environment | KEEP_MEMORY | settings
        self.settings = [f"variables.folder={out}", f"variables.bucket={server.location()}", f"variables.qa={out}/qa"]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part of the recipe and say that it begins."""
        say(f"\n── {name}")
        start = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def run(self, *command: str, partly_is_fine: bool = False) -> str:
        """Run a command to its end; returns its standard output. Its progress is seen as it comes.

        Raises:
            UserError: it ended with another exit code than 0; its own message is above.
        """
        say("$ " + " ".join(command))
        process = self.start(*command, stdout=subprocess.PIPE)
        try:
            output, _ = process.communicate()
        finally:
            kill_all(process)
        if process.returncode == FAILED and partly_is_fine:
            return output
        if process.returncode == MENDABLE:
            raise UserError(f"stopped at: {' '.join(command)}")
        if process.returncode != 0:
            raise RuntimeError(f"exit code {process.returncode} of: {' '.join(command)}")
        return output

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a session of its own, so that it can be ended with all that it started."""
        program = [sys.executable, "-m", "composer.cli.launcher"] if command[0] == "composer" else [sys.executable]
        return subprocess.Popen(
            [*program, *command[1:]], env=self.environment, start_new_session=True, text=True, **options
        )

    def watch_memory(self) -> None:
        """Note the largest sum of all our processes' memory, shared pages counted once, until the program ends."""

        def look() -> None:
            me = psutil.Process()
            while True:
                total = 0
                for process in [me, *me.children(recursive=True)]:
                    try:
                        total += process.memory_full_info().pss
                    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                        continue
                self.peak_memory = max(self.peak_memory, total)
                time.sleep(1.0)

        threading.Thread(target=look, daemon=True).start()


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a process and everything below it."""
    try:
        everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    for one in everyone:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()


def quickstart(source: str | None, qa: str | None, gpt2: str | None, out: Path) -> dict[str, Any]:
    """Run the recipe; returns what is in summary.json."""
    for name, folder in (("QA", qa), ("GPT2", gpt2)):
        if folder is not None and not Path(folder).is_dir():
            raise UserError(f"{name}={folder}: no such folder; README.md says what it must hold")
    source = source or _default_source()
    _begin(out, {"source": source, "qa": qa, "gpt2": gpt2})
    start = time.monotonic()
    with local_s3(out / "s3") as server:
        run = Quickstart(out, server)
        run.watch_memory()
        prepare_questions(run, qa)
        prepare_data(run, source, gpt2)
        with run.part("training"):
            train(run, "whole")
        resume = kill_and_resume(run)
        with run.part("export"):
            shutil.rmtree(out / "exported", ignore_errors=True)
            checkpoint = server.location("runs", "whole")
            run.run("python", "-m", "model.export", "--checkpoint", checkpoint, "--out", str(out / "exported"))
            text = run.run(
                "python", "-m", "model.generate", "--model", str(out / "exported"), "--prompt", PROMPT,
                "--max-new-tokens", "48", "--temperature", "0.8",
            )  # fmt: skip
        os.environ.update(server.environment)
        run.seconds["total"] = time.monotonic() - start
        summary = _summarise(run, source, resume, text.rstrip("\n").removeprefix(PROMPT))
    write_report(out / "report.html", summary, _metrics(out, "whole"), _metrics(out, "resumed"))
    del summary["details"]
    storage.write_bytes(str(out / "summary.json"), json.dumps(summary, indent=2).encode())
    return summary


def prepare_data(run: Quickstart, source: str, gpt2: str | None) -> None:
    """PubMed XML → documents, tokenizer, shards and their card in the bucket; what documents share with the questions
    is reported in the card."""
    compare = [f"tokenizer.compare_with.gpt2={gpt2}"] if gpt2 else []
    with run.part("data"):
        run.run(
            "python", "-m", "data_prep", "yamls/data/quickstart.yaml", f"pubmed={source}",
            f"out={run.server.location('data')}", f"work={run.out}/work", *compare,
            f"select.decontaminate.questions={run.out}/qa", partly_is_fine=True,
        )  # fmt: skip
    shutil.copyfile(run.out / "work" / "out" / "card.html", run.out / "card.html")


def prepare_questions(run: Quickstart, qa: str | None) -> None:
    """The folder with the official files, or generated questions in their formats."""
    with run.part("questions"):
        place = run.out / "qa"
        if qa is None:
            if place.is_symlink():
                place.unlink()
            run.run("python", "-m", "eval.sample_questions", str(place))
            return
        theirs = Path(qa).resolve()
        if theirs == place.resolve():
            return
        if place.is_symlink():
            place.unlink()
        else:
            shutil.rmtree(place, ignore_errors=True)
        place.symlink_to(theirs, target_is_directory=True)


def train(run: Quickstart, name: str) -> None:
    run.run(*_training(run, name))


def _training(run: Quickstart, name: str) -> list[str]:
    return ["composer", "-n", str(RANKS), "train.py", "yamls/quickstart.yaml", f"run_name={name}", *run.settings]


def kill_and_resume(run: Quickstart) -> dict[str, Any]:
    """Train again, kill everything with SIGKILL past the middle, resume, and compare with the run left alone."""
    record = run.out / "killed.json"
    if not record.exists():
        with run.part("training, to be killed"):
            killed_at = _train_and_kill(run)
        storage.write_bytes(str(record), json.dumps({"killed_at_batch": killed_at}).encode())
    killed = json.loads(record.read_text())
    with run.part("training, resumed"):
        train(run, "resumed")
    starts = [entry["batch"] for entry in read_entries(_metrics(run.out, "resumed")) if "process_started" in entry]
    whole, resumed = read_metrics(_metrics(run.out, "whole")), read_metrics(_metrics(run.out, "resumed"))
    identical = all(series(whole, name) == series(resumed, name) for name in (LOSS, NORM))
    return killed | {"resumed_at_batch": starts[-1], "bit_identical": identical}


def _train_and_kill(run: Quickstart) -> int:
    command = _training(run, "resumed")
    say("$ " + " ".join(command) + f"    (SIGKILL at batch {KILL_AT_BATCH})")
    process = run.start(*command)
    metrics = _metrics(run.out, "resumed")
    deadline = time.monotonic() + KILL_TIMEOUT
    try:
        while True:
            seen = list(read_metrics(metrics)) if metrics.exists() else []
            if seen and seen[-1] >= KILL_AT_BATCH:
                break
            if process.poll() is not None:
                raise UserError(f"the training that was to be killed ended by itself with code {process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"batch {KILL_AT_BATCH} was not reached within {KILL_TIMEOUT} s")
            time.sleep(0.2)
    finally:
        kill_all(process)
    killed_at = list(read_metrics(metrics))[-1]
    say(f"killed with SIGKILL after batch {killed_at}")
    return killed_at


def _summarise(run: Quickstart, source: str, resume: dict[str, Any], continuation: str) -> dict[str, Any]:
    data = run.server.location("data")
    whole_ledger = json.loads(storage.read_bytes(storage.join(data, "ledger.json")))
    ledger = whole_ledger["total"]
    card = json.loads(storage.read_bytes(storage.join(data, "mds", "card.json")))
    tokenizer = json.loads(storage.read_bytes(storage.join(data, "tokenizer", "report.json")))
    export = json.loads((run.out / "exported" / "export.json").read_text())
    batches = read_metrics(_metrics(run.out, "whole"))
    losses = series(batches, LOSS)[1]
    last = max(batches)
    return {
        "source": source,
        "records_in": ledger["in"],
        "documents": ledger["kept"],
        "vocab_size": card["vocab_size"],
        "train_tokens": batches[last]["token"],
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "resume": resume,
        "scores": _scores(batches),
        "export": {"path": str(run.out / "exported"), "max_logit_difference": export["max_logit_difference"]},
        "seconds": {name: round(seconds, 1) for name, seconds in run.seconds.items()},
        "peak_memory_bytes": run.peak_memory,
        "details": {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, no GPU used",
            "ledger": ledger,
            "refused_files": whole_ledger["refused_files"],
            "tokenizer": tokenizer,
            "prompt": PROMPT,
            "continuation": continuation,
            "configuration": (run.out / "whole" / "config.yaml").read_text(),
            "versions": f"Python {platform.python_version()}, "
            + ", ".join(
                f"{name} {version(name)}" for name in ("torch", "mosaicml", "mosaicml-streaming", "transformers")
            ),
        },
    }


def _scores(batches: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The last scores of each task."""
    scores: dict[str, Any] = {}
    for entry in batches.values():
        for key in entry:
            if key.startswith("eval/") and key.endswith("/acc"):
                task = key.split("/")[1]
                value = {name: entry[f"eval/{task}/{name}"] for name in ("acc", "acc_norm", "n", "majority")}
                ends = [entry[f"eval/{task}/ci_low"], entry[f"eval/{task}/ci_high"]]
                scores[task] = value | {"n": int(value["n"]), "ci95": ends}
    return scores


def _read(marker: Path) -> Any:
    try:
        return json.loads(marker.read_text())
    except ValueError:
        return None


def _metrics(out: Path, name: str) -> Path:
    return out / name / "metrics.jsonl"


def _default_source() -> str:
    """``ncbi`` when NLM answers within seconds, else ``sample``."""
    say("no SOURCE given: asking whether NLM can be reached")
    reached = subprocess.run([sys.executable, "-m", "data_prep.download.mirror"], check=False).returncode == 0
    say(
        "source: " + ("ncbi, one real update file" if reached else "sample, records generated here: NLM did not answer")
    )
    return "ncbi" if reached else "sample"


def _begin(out: Path, inputs: dict[str, Any]) -> None:
    """Go on with an unfinished quickstart of the same inputs; otherwise start anew."""
    out.mkdir(parents=True, exist_ok=True)
    marker, summary = out / "inputs.json", out / "summary.json"
    if not marker.exists() and any(out.iterdir()):
        raise UserError(f"OUT={out}: holds files that are not a quickstart's; give a folder of its own")
    if not summary.exists() and marker.exists() and _read(marker) == inputs:
        say(f"going on with the unfinished quickstart in {out}")
        return
    for old in ("whole", "resumed", "cache", "s3", "exported", "work"):
        shutil.rmtree(out / old, ignore_errors=True)
    for file in (summary, out / "report.html", out / "card.html", out / "killed.json"):
        file.unlink(missing_ok=True)
    storage.write_bytes(str(marker), json.dumps(inputs).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="file, folder or glob of PubMed XML(.gz); or ncbi; or sample")
    parser.add_argument("--qa", help="folder with the official question files; without it they are generated")
    parser.add_argument("--gpt2", help="folder with GPT-2's vocab.json and merges.txt, to compare the tokenizers")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: what was started in sessions of its own ends with us
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    summary = quickstart(arguments.source or None, arguments.qa or None, arguments.gpt2 or None, arguments.out)
    out = arguments.out.resolve()
    say(f"\ndone in {duration(summary['seconds']['total'])}\n  {out / 'report.html'}\n  {out / 'summary.json'}")
    if not summary["resume"]["bit_identical"]:
        raise PartlyRefused("the resumed run is not bit-identical to the one left alone")


if __name__ == "__main__":
    run_command(main)
