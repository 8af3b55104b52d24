"""A small run with everything that a large one has: streamed shards, validation, scores, checkpoints in a bucket."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from base import storage
from data_prep.tokenizer.training import train, write_tokenizer
from eval.sample_questions import write_sample_questions

LENGTH = 128
BATCH = 4


def write_data(folder: Path, sequences: int) -> int:
    """Tokenizer, questions and packed sequences, all of them different. Returns the size of the vocabulary."""
    from streaming import MDSWriter

    files = write_sample_questions(str(folder / "qa"), n=60)
    tokenizer = train(iter([[Path(file).read_text(encoding="utf-8")] for file in files]), 1000, 2)
    (folder / "tokenizer").mkdir(parents=True)
    write_tokenizer(tokenizer, folder / "tokenizer", LENGTH)
    vocabulary = tokenizer.get_vocab_size()
    columns = {"tokens": f"ndarray:uint16:{LENGTH}"}
    for split, first, number in (("train", 0, sequences), ("val", sequences, 40)):
        out = str(folder / "mds" / split)
        with MDSWriter(out=out, columns=columns, hashes=["sha1", "xxh64"], size_limit=1 << 14) as writer:
            for number_of_it in range(first, first + number):
                start, step = number_of_it % vocabulary, 1 + number_of_it // vocabulary
                tokens = (start + step * np.arange(LENGTH)) % vocabulary
                writer.write({"tokens": tokens.astype(np.uint16)})
    return vocabulary


def send(folder: Path, location: str) -> None:
    """The shards, into the bucket."""
    for name in storage.list_files(str(folder)):
        storage.upload(folder / name, storage.join(location, name))


def configuration(name: str, folder: Path, data: Path, bucket: str, batches: int, save_interval: int) -> dict[str, Any]:
    """The training YAML. Dropout is on; an epoch ends several times within the run."""
    dataset = {
        "remote": f"{bucket}/mds",
        "local": str(folder / "cache"),
        "split": "train",
        "shuffle": True,
        "shuffle_seed": 3,
        "num_canonical_nodes": 1,
    }
    held_out = {"remote": f"{bucket}/mds", "local": str(folder / "held-out"), "split": "val"}
    return {
        "run_name": name,
        "max_seq_len": LENGTH,
        "model": {"name": "gpt", "d_model": 64, "n_heads": 4, "n_layers": 4},
        "tokenizer": {"name": str(data / "tokenizer")},
        "train_loader": {"name": "text", "dataset": dataset},
        "eval_loader": {"dataset": held_out},
        "eval_interval": f"{3 * save_interval}ba",
        "optimizer": {"name": "decoupled_adamw", "lr": 1e-3, "weight_decay": 1e-4},
        "scheduler": {"name": "cosine_with_warmup", "t_warmup": "20ba"},
        "algorithms": {"gradient_clipping": {"clipping_type": "norm", "clipping_threshold": 1.0}},
        "callbacks": {
            "guard": {"not_finite": "stop", "gradient_spike": "skip"},
            "watchdog": {"seconds": 90},
            "score_checkpoints": {
                "tasks": ["medqa"],
                "data": str(data / "qa"),
                "interval": f"{2 * save_interval}ba",
                "limit": 24,
            },
        },
        "dist_timeout": 120,
        "global_train_batch_size": BATCH,
        "device_train_microbatch_size": 1,
        "max_duration": f"{batches}ba",
        "precision": "fp32",
        "run_folder": str(folder / "run"),
        "save_folder": f"{bucket}/{name}",
        "save_interval": f"{save_interval}ba",
        "save_num_checkpoints_to_keep": 2,
        "save_keep_every": f"{10 * save_interval * BATCH * LENGTH}tok",
        "autoresume": True,
        "progress_bar": False,
        "console_log_interval": "20ba",
    }


def write_yaml(folder: Path, content: dict[str, Any]) -> Path:
    """JSON is YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.yaml"
    path.write_text(json.dumps(content, indent=1))
    return path
