"""Our scores of questions beside lm-eval 0.4.13's, in an environment of its own: agreement, and CPU time.

agreement, for each model, each task in each form (MMLU's letters with five shots too), of each option:
  our_prompts   the texts that we score, without the shots and passages left out so as to fit, handed to lm-eval as a
                task: its log-likelihoods, acc, acc_norm, acc_bytes and, of cloze forms, acc_mutual_info against ours
  own_template  lm-eval's medqa_4options, medmcqa, pubmedqa, mmlu_* and mmlu_*_continuation on the official files in
                the hub's layout: it writes the prompts, and they must be ours to the character
Questions that lm-eval would cut from the left, or on which it fails, are left out and counted.

speed, with random weights and the largest vocabulary of the models: CPU seconds a question of the whole process, on one
thread, from texts to scores, both sides in turns, each with the best batch of those tried on a part of the questions
(questions in a batch here, options there). Both read the same prompts and so the same tokens. Reading files, importing
and loading count on neither side. malloc is as it is; where the environment has it keep what it has (MALLOC_…, as in
recipes/quickstart.py), it does so on both sides.

texts, where --texts names some (as eval/texts.py reads them), for each model: bits per byte, byte and word perplexity,
and the log-likelihood of each document, read in windows where it is longer than the context.

fp32 on the CPU. lm-eval's attention is SDPA, but eager for models that scale attention by layer, which transformers
4.53 does nowhere else. --model takes Hugging Face GPT-2 folders. One that this repository has trained on real abstracts
is runs/quickstart/exported, after `make quickstart SOURCE=FOLDER_WITH_PUBMED_XML`.

    python -m benchmarks referee --data QA --model GPT2_FOLDER --model runs/quickstart/exported
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

PARTS = ("agreement", "speed", "texts")


def measure(arguments: list[str]) -> dict[str, Any]:
    """``lm_eval``: versions there; ``agreement`` by model and protocol; ``speed`` by shape and task, with bars."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks referee", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder with the official question files")
    parser.add_argument("--model", required=True, type=Path, action="append", help="GPT-2 folder; may be given again")
    parser.add_argument(
        "--env", metavar="FOLDER", help="environment with lm-eval; default: one made in ~/.cache, 6.1 GB"
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="agreement, speed, texts, with commas; default all")
    parser.add_argument("--tasks", metavar="NAME,…", help="of the agreement (default: all that have files)")
    parser.add_argument("--items", type=int, metavar="N", help="of each task (default: all; of speed: see its figures)")
    parser.add_argument("--texts", metavar="PLACE", help="texts for that part: files, a folder, shards")
    parser.add_argument("--texts-bytes", type=int, default=300_000, metavar="N", help="of them (default 300,000)")
    given = parser.parse_args(arguments)
    parts = given.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")

    import torch  # after the arguments, for --help must not wait for it

    from benchmarks.referee.agreement import BAR, agreement, all_protocols
    from benchmarks.referee.models import open_ours
    from benchmarks.referee.process import Referee, environment, versions
    from benchmarks.referee.speed import speed
    from benchmarks.referee.texts import compare_texts
    from eval.tasks import protocols

    torch.set_num_threads(1)
    python = environment(given.env)
    models = [open_ours(folder) for folder in given.model]
    asked, missing = all_protocols(given.data)
    if given.tasks:
        asked = protocols(given.tasks.split(","))
    figures: dict[str, Any] = {"lm_eval": versions(python)}
    with tempfile.TemporaryDirectory(prefix="referee-") as name:
        folder = Path(name)
        if "agreement" in parts:
            figures["agreement"] = {"bar": BAR, "tasks_without_files": missing}
            for ours in models:
                with Referee(python, ours.folder, ours.attention, folder) as referee:
                    found = agreement(ours, referee, asked, given.data, given.items, folder)
                about = {"shape": ours.shape, "attention": ours.attention, **summary(found)}
                figures["agreement"][str(ours.folder)] = {**about, "protocols": found}
        if "texts" in parts and given.texts is not None:
            figures["texts"] = {}
            for ours in models:
                with Referee(python, ours.folder, ours.attention, folder) as referee:
                    found = compare_texts(ours, referee, given.texts, given.texts_bytes, folder)
                figures["texts"][str(ours.folder)] = {"shape": ours.shape, "attention": ours.attention, **found}
        if "speed" in parts:
            largest = max(models, key=lambda ours: ours.shape["vocabulary"])
            figures["speed"] = speed(python, largest, given.data, given.items, folder)
    return figures


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Of all protocols of a model, both ways; those of which lm-eval can score no question as it is meant are named."""
    ways = {
        f"{protocol}, {way}": of_protocol[way]
        for protocol, of_protocol in found.items()
        for way in ("our_prompts", "own_template")
        if way in of_protocol
    }
    compared = [way for way in ways.values() if way["n"]]
    return {
        "questions": sum(way["n"] for way in compared),
        "largest_difference": max((way["largest_difference"] for way in compared), default=None),
        "nothing_compared": [name for name, way in ways.items() if not way["n"]],
        "met": bool(compared) and all(way["met"] for way in compared),
    }
