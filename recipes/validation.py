"""The loss on held-out sequences, through Composer's Evaluator: the same for any number of ranks and any batch size.

StreamingDataset repeats samples to fill its ranks up, so a loss over it depends on their number. Here the shards are
fetched once a node and read by Streaming's LocalDataset, whose rows torch's DistributedSampler deals out. It repeats
rows at the end, too, but those Composer's evaluation takes away again, exactly; sums are kept in fp64.
"""

import json
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Evaluator, Logger, State
from composer.core import DataSpec
from composer.utils import dist
from streaming import LocalDataset
from streaming.base.compression import decompress
from torch import Tensor
from torch.utils.data import DataLoader

from base import storage
from base.errors import UserError
from eval.callback import reshard
from model.composer_gpt import collate, token_count
from recipes.schema import EvalDataset, Training
from recipes.shard_fetch import INDEX, fetch_whole, is_whole
from recipes.shard_ids import refuse_wrong_ids


class ReshardAfterValidation(Callback):
    """Nothing is left gathered when training goes on."""

    def eval_end(self, state: State, logger: Logger) -> None:
        reshard(state.model)


def build_evaluator(config: Training, tokenizer: Path) -> Evaluator | None:
    """Validation as ``eval_loader`` asks for it; its shards must have been fetched."""
    loader = config.eval_loader
    if loader is None:
        return None
    dataset = LocalDataset(loader.dataset.local, loader.dataset.split)
    bytes_of = token_bytes(tokenizer / "tokenizer.json")
    dataloader = DataLoader(
        dataset,
        batch_size=config.device_eval_batch_size,
        sampler=dist.get_sampler(dataset, shuffle=False, drop_last=False),
        collate_fn=_Collate(bytes_of),
        num_workers=loader.num_workers,
        generator=torch.Generator(),  # the global one is dropout's, and making an iterator would draw from it
    )
    metrics = ["LanguageCrossEntropy", "LanguagePerplexity"]
    return Evaluator(
        label=loader.label,
        dataloader=DataSpec(dataloader=dataloader, get_num_tokens_in_batch=token_count, split_batch=_split),
        metric_names=metrics if bytes_of is None else [*metrics, "BitsPerByte"],
        subset_num_batches=config.eval_subset_num_batches,
        eval_interval=config.eval_interval,
    )


def _split(batch: dict[str, Tensor], rows: int) -> list[dict[str, Tensor]]:
    """Parts of so many rows, the last of fewer. Composer's own way warns of a batch that has fewer.

    Composer also calls it to take the repeated row off a rank's last batch.
    """
    return [{key: value[start : start + rows] for key, value in batch.items()}
            for start in range(0, len(batch["input_ids"]), rows)]  # fmt: skip


class _Collate:
    """Rows with the bytes of the text that is predicted in them."""

    def __init__(self, bytes_of: Tensor | None):
        self.bytes_of = bytes_of

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = collate(samples)
        if self.bytes_of is not None:
            batch["bytes"] = self.bytes_of[batch["input_ids"][:, 1:]].sum(1)
        return batch


def token_bytes(tokenizer_json: Path) -> Tensor | None:
    """Bytes of text of each token, int64[entries]; 0 for special tokens. None when the tokenizer is not byte-level.

    In a byte-level vocabulary each character of an entry stands for one byte.
    """
    content = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    if (content.get("decoder") or {}).get("type") != "ByteLevel":
        return None
    lengths = {id: len(token) for token, id in content["model"]["vocab"].items()}
    for token in content.get("added_tokens", []):
        lengths[token["id"]] = 0 if token["special"] else len(token["content"].encode())
    table = torch.zeros(max(lengths) + 1, dtype=torch.int64)
    table[list(lengths)] = torch.tensor(list(lengths.values()))
    return table


def fetch_shards(dataset: EvalDataset, vocab_size: int) -> None:
    """Bring all shards onto this node's disk, unpacked and with the hashes of their index. What is there already stays.

    Raises:
        UserError: a shard is not there, is not what the index says, or holds an id that is not below ``vocab_size``.
    """
    folder = Path(dataset.local, dataset.split or "")
    remote = storage.join(dataset.remote, *([dataset.split] if dataset.split else [])) if dataset.remote else None
    if remote is not None:
        storage.download(storage.join(remote, INDEX), folder / INDEX)
    for entry in json.loads((folder / INDEX).read_text(encoding="utf-8"))["shards"]:
        _fetch_shard(entry, folder, remote)
        shard = folder / entry["raw_data"]["basename"]
        refuse_wrong_ids(storage.join(remote or str(folder), shard.name), shard.read_bytes(), entry, vocab_size)


def _fetch_shard(entry: dict[str, Any], folder: Path, remote: str | None) -> None:
    raw, packed = entry["raw_data"], entry["zip_data"]
    place = folder / raw["basename"]
    if is_whole(place, raw["bytes"], raw["hashes"]):
        return
    if remote is not None:
        file = packed or raw
        fetch_whole(storage.join(remote, file["basename"]), folder / file["basename"], file["bytes"], file["hashes"])
    if packed is not None and is_whole(folder / packed["basename"], packed["bytes"], packed["hashes"]):
        data = decompress(entry["compression"], (folder / packed["basename"]).read_bytes())
        storage.write_bytes(str(place), data)
        if remote is not None:
            (folder / packed["basename"]).unlink()
    if not is_whole(place, raw["bytes"], raw["hashes"]):
        raise UserError(
            f"eval_loader.dataset: {remote or folder}: {(packed or raw)['basename']} is not what {INDEX} says "
            "of it; `python -m data_prep … verify` looks at all of them"
        )
