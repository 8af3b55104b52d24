"""Bits per byte of texts, ours and lm-eval's, document by document."""

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.referee.models import Ours
from benchmarks.referee.process import Referee
from eval.bits_per_byte import score_texts
from eval.rolling import encode_texts, measure
from eval.texts import load_texts

BAR = 1e-4  # of a document's log-likelihood, relative
BATCH = 4  # windows, on both sides
METRICS = ("bits_per_byte", "byte_perplexity", "word_perplexity")


def compare_texts(ours: Ours, referee: Referee, place: str, limit_bytes: int, folder: Path) -> dict[str, Any]:
    """The largest relative difference of a document, both sides' figures of the whole, and CPU seconds."""
    texts = load_texts("texts", place, limit_bytes)
    file, out = folder / "texts.jsonl", folder / "texts.out.jsonl"
    lines = ({"id": str(number), "text": one.text} for number, one in enumerate(texts.documents))
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {
        "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(file)}}, "test_split": "test",
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
        "metric_list": [{"metric": metric} for metric in METRICS],
    }  # fmt: skip
    there = referee.order([{"name": "texts", "base": None, "config": config}], BATCH, out)
    theirs = {one["id"]: one["log_likelihood"] for one in map(json.loads, out.read_text().splitlines())}

    start = time.process_time()
    encoded = encode_texts(texts, ours.encoder, ours.max_seq_len)
    score, documents = score_texts(encoded, measure(encoded, ours.scorer.logits_at, BATCH))
    seconds = time.process_time() - start
    apart = [abs(one.nats + theirs[str(number)]) / one.nats for number, one in enumerate(documents)]
    found = {
        metric: {"ours": getattr(score, metric), "lm_eval": there["results"]["texts"][metric]} for metric in METRICS
    }
    return {
        "documents": score.documents,
        "windows": len(encoded.windows),
        "longest_tokens": max(one.tokens for one in documents),
        "bytes": score.bytes,
        "largest_relative_difference": max(apart),
        **found,
        "cpu_seconds": {"ours": round(seconds, 1), "lm_eval": round(there["cpu_seconds"], 1)},
        "bar": BAR,
        "met": len(theirs) == len(documents)
        and max(apart) <= BAR
        and all(abs(both["ours"] / both["lm_eval"] - 1) <= BAR for both in found.values()),
    }
