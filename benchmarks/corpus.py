"""CPU time, memory and growth of data preparation, beside the plain way: pubmed_parser, HF tokenizers, MDSWriter.

The input is made from real PubMed records (``--source``; see citations.py), in files of 30,000 citations as NLM's are.

pipeline   CPU-seconds of the stages parse, select and shards over four files with one process, and of the plain way
           over the first of them with the same tokenizer (its cost grows with the records alone; a worker's first file
           costs ours more than the others); each in a process of its own, whose imports are not counted (ours: a small
           run goes before). What is in no stage (to read the configuration, to look at the input) is in the sum. Ours
           does more: versions, deletions, duplicates, near duplicates, quality rules, boilerplate, ledger, hashes.
workers    wall seconds of one command that runs these stages over 32 files, with one worker and with two, rounds in
           turn. The workers' start and end are in them, the training of the tokenizer, which is one task, is not.
           So many files because NLM's baseline has 1,334: what a worker does once (start, load the compiled code and
           the tokenizer, meet most words: two to three seconds) would weigh eight times as much in four files, and
           four files make one shard, which one worker writes while the other waits. Beside it, what two cores of this
           machine give when nothing is shared: two commands at a time with one worker and half of the files each.
           Measure on a machine that does nothing else.
growth     CPU-seconds a citation with one process for 1, 4 and 16 files. The dearest may cost at most a tenth more than
           the cheapest, whichever they are.
memory     peak resident memory of each stage, in a process of its own that does the work of a worker too: with files of
           7,500 and of 30,000 citations, and with ``--articles`` also with a container of 20,000 full texts made from
           those (articles.py; 2 GB of XML).
full_text  CPU-milliseconds and bytes on disk an article, by stage, over the full texts of ``--articles``.

    python -m benchmarks corpus --source DIR [--text DIR] [--articles DIR] [--parts pipeline,memory]
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.articles import A_CONTAINER, write_articles
from benchmarks.citations import A_FILE, write_citations

YAML = "yamls/data/biomedlm.yaml"
PARTS = ("pipeline", "workers", "growth", "memory", "full_text")
ROUNDS = 3
FILES = 4
MANY, MORE = 16, 32
Write = Callable[..., list[Path]]  # write_citations, its source given
SMALLER = "tokenizer.max_training_bytes=30_000_000"  # training is not what is timed
STAGES = ("parse", "select", "tokenizer", "shards", "verify")


def measure(arguments: list[str]) -> dict[str, Any]:
    """The figures of each part, with their bars."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help="real PubMed XML: file, folder or glob")
    parser.add_argument("--text", type=Path, help="real titles and abstracts in .csv and .txt: words for the copies")
    parser.add_argument("--articles", type=Path, help="real full texts in JATS, as files and tarballs")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, with commas between")
    given = parser.parse_args(arguments)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        for part in given.parts.split(","):
            place = Path(folder) / part
            write = partial(write_citations, given.source, text=given.text)
            if part == "memory":
                figures[part] = memory(write, given.articles, place)
            elif part == "full_text":
                figures[part] = full_text(given.articles, place)
            else:
                figures[part] = {"pipeline": pipeline, "workers": workers, "growth": growth}[part](write, place)
            print(json.dumps({part: figures[part]}), flush=True)
    return figures


def pipeline(write: Write, folder: Path) -> dict[str, Any]:
    """Ours and the plain way, in turn; the smallest of each counts."""
    citations = FILES * A_FILE
    first, *_ = write(folder / "in", citations)
    ours, plain = [], []
    for number in range(ROUNDS):
        ours.append(_in_process(_ours, folder / "in", folder / f"ours{number}"))
        tokenizer = folder / f"ours{number}" / "tokenizer" / "tokenizer.json"
        plain.append(_in_process(_plain, first, folder / f"plain{number}", tokenizer))
    best, other = min(ours, key=lambda one: one["cpu"]), min(plain, key=lambda one: one["cpu"])
    ratio = (other["cpu"] / A_FILE) / (best["cpu"] / citations)
    return {
        "ours_citations": citations,
        "ours_us_per_citation": _micro(best["cpu"], citations),
        "ours_us_by_stage": {name: _micro(seconds, citations) for name, seconds in best["stages"].items()},
        "ours_documents": best["documents"],
        "ours_tokens": best["tokens"],
        "plain_citations": A_FILE,
        "plain_us_per_citation": _micro(other["cpu"], A_FILE),
        "plain_us_by_step": {name: _micro(seconds, A_FILE) for name, seconds in other["steps"].items()},
        "plain_documents": other["documents"],
        "plain_tokens": other["tokens"],
        "ratio": round(ratio, 2),
        "bar": 8,
        "bar_met": ratio >= 8,
    }


def workers(write: Write, folder: Path) -> dict[str, Any]:
    """Wall seconds with one worker and two."""
    files = write(folder / "in", MORE * A_FILE)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count in seconds:
            seconds[count].append(_in_process(_ours, folder / "in", folder / "out", "pubmed", count, False)["wall"])
            shutil.rmtree(folder / "out")
    ratio = min(seconds[1]) / min(seconds[2])
    halves = [_linked(files[first::2], folder / f"half{first}") for first in range(2)]
    with ThreadPoolExecutor(2) as at_once:
        runs = at_once.map(lambda half: _in_process(_ours, half, half / "out", "pubmed", 1, False)["wall"], halves)
        apart = max(runs)
    return {
        "citations": MORE * A_FILE,
        "one_seconds": [round(one, 1) for one in seconds[1]],
        "two_seconds": [round(one, 1) for one in seconds[2]],
        "two_commands_seconds": round(apart, 1),
        "ratio_of_two_commands": round(min(seconds[1]) / apart, 2),
        "ratio": round(ratio, 2),
        "bar": 1.8,
        "bar_met": ratio >= 1.8,
    }


def _linked(files: list[Path], folder: Path) -> Path:
    """A folder with these files."""
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file)
    return folder


def growth(write: Write, folder: Path) -> dict[str, Any]:
    """CPU a citation as the input grows, in files of one size; the smallest of several runs counts."""
    files = write(folder / "all", MANY * A_FILE)
    cost = {}
    for times, rounds in ((1, 4), (FILES, 3), (MANY, 2)):
        some = _linked(files[:times], folder / f"in{times}")
        seconds = []
        for _ in range(rounds):
            seconds.append(_in_process(_ours, some, folder / "out")["cpu"])
            shutil.rmtree(folder / "out")
        cost[times] = min(seconds) / (times * A_FILE)
    apart = max(cost.values()) / min(cost.values()) - 1
    return {
        "us_per_citation": {str(times): round(1e6 * one, 1) for times, one in cost.items()},
        "citations": {str(times): times * A_FILE for times in cost},
        "apart": round(apart, 3),
        "bar": 0.10,
        "bar_met": apart <= 0.10,
    }


def memory(write: Write, articles: Path | None, folder: Path) -> dict[str, Any]:
    """Peak of each stage over files of one size."""
    peaks = {}
    for a_file in (A_FILE // 4, A_FILE):
        write(folder / f"in{a_file}", 2 * a_file, a_file)
        peaks[f"{a_file} citations a file"] = _peaks("pubmed", folder / f"in{a_file}", folder / f"out{a_file}")
    if articles is not None:
        write_articles(articles, folder / "in" / "articles.tar.gz", A_CONTAINER)
        peaks[f"{A_CONTAINER} full texts a file"] = _peaks("pmc", folder / "in", folder / "out")
    largest = max(peak for stages in peaks.values() for peak in stages.values())
    return {"peak_bytes": peaks, "bar_bytes": 600e6, "bar_met": largest <= 600e6}


def full_text(articles: Path | None, folder: Path) -> dict[str, Any] | None:
    """CPU and bytes an article, everything that is in the ledger counted; None without articles."""
    if articles is None:
        return None
    runs = [_in_process(_ours, articles, folder / f"{number}", "pmc") for number in range(2)]
    best = min(runs, key=lambda one: one["cpu"])
    number = json.loads((folder / "0" / "ledger.json").read_text())["total"]["in"]
    sizes = {
        name: sum(file.stat().st_size for file in (folder / "0" / place).rglob("*") if file.is_file()) // number
        for name, place in {"parsed": "work/parsed", "documents": "documents", "mds": "mds"}.items()
    }
    return {
        "articles": number,
        "ms_per_article": {name: round(1e3 * seconds / number, 2) for name, seconds in best["stages"].items()},
        "bytes_per_article": sizes,
        "documents": best["documents"],
        "tokens_per_document": best["tokens"] // best["documents"],
    }


def _in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_call, (function, arguments))


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    multiprocessing.process.current_process()._config["daemon"] = False  # type: ignore[attr-defined] # it starts workers
    return function(*arguments)


def _ours(source: Path, out: Path, kind: str = "pubmed", count: int = 1, warm: bool = True) -> dict[str, Any]:
    """Seconds of one command over all stages but for the tokenizer's: of CPU, with one worker, and of wall time."""
    from data_prep import pipeline

    if warm:
        pipeline.run(YAML, [*_arguments(kind, "sample", out / "warm", 1, *STAGES[:-1]), SMALLER])
    cpu: dict[str, float] = {}
    wall: dict[str, float] = {}
    for name, stage in pipeline.STAGES.items():
        pipeline.STAGES[name] = replace(stage, run=partial(_timed, stage.run, name, cpu, wall))
    command = [*_arguments(kind, source, out, count, *STAGES[:-1]), SMALLER]
    _timed(partial(pipeline.run, YAML), "all", cpu, wall, command)
    card = json.loads((out / "mds" / "card.json").read_text())
    return {
        "cpu": cpu["all"] - cpu["tokenizer"],  # the plain way is given this tokenizer
        "wall": wall["all"] - wall["tokenizer"],
        "stages": {name: cpu[name] for name in ("parse", "select", "shards")},
        "documents": card["documents"],
        "tokens": card["tokens"],
    }


def _timed(function: Callable[[Any], Any], name: str, cpu: dict[str, float], wall: dict[str, float], given: Any) -> Any:
    before, start = time.process_time(), time.monotonic()
    result = function(given)
    cpu[name], wall[name] = time.process_time() - before, time.monotonic() - start
    return result


def _peaks(kind: str, source: Path, out: Path) -> dict[str, int]:
    return {stage: _in_process(_peak, _arguments(kind, source, out, 1, stage)) for stage in STAGES}


def _peak(arguments: list[str]) -> int:
    from data_prep.pipeline import run

    run(YAML, arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _arguments(kind: str, source: Path | str, out: Path, count: int, *stages: str) -> list[str]:
    """Stages over one kind of input; the input itself, which needs no download, is looked at first."""
    other = {"pubmed": "pmc", "pmc": "pubmed"}[kind]
    return [
        f"{kind}={source}", f"{other}=null", f"tokenizer.train_on=[{kind}]", f"out={out}", f"executor.workers={count}",
        "download", *stages,
    ]  # fmt: skip


def _plain(file: Path, out: Path, tokenizer_file: Path) -> dict[str, Any]:
    """What a script would do: no versions, no deletions, no checks."""
    import numpy as np
    import pubmed_parser
    from streaming import MDSWriter
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    end = tokenizer.get_vocab_size() - 1
    times = [time.process_time()]
    texts: dict[str, str] = {}
    for row in pubmed_parser.parse_medline_xml(str(file)):
        if row["abstract"]:
            texts[row["pmid"]] = f"{row['title']}\n{row['abstract']}"
    times.append(time.process_time())
    stream: list[int] = []
    documents = list(texts.values())
    for first in range(0, len(documents), 1000):
        for encoding in tokenizer.encode_batch(documents[first : first + 1000], add_special_tokens=False):
            stream += [*encoding.ids, end]
    times.append(time.process_time())
    tokens = np.array(stream, dtype=np.uint16)
    with MDSWriter(out=str(out), columns={"tokens": "ndarray:uint16:1024"}, hashes=["sha1"]) as writer:
        for first in range(0, len(tokens) - 1023, 1024):
            writer.write({"tokens": tokens[first : first + 1024]})
    times.append(time.process_time())
    return {
        "cpu": times[-1] - times[0],
        "steps": dict(zip(("parse", "tokenise", "write"), np.diff(times).tolist(), strict=True)),
        "documents": len(documents),
        "tokens": len(tokens) // 1024 * 1024,
    }


def _micro(seconds: float, citations: int) -> float:
    return round(1e6 * seconds / citations, 1)
