"""What a run will read: the tokenizer, the shards to train on, those that are held out. Imports nothing heavy."""

import json
from dataclasses import replace
from functools import partial
from hashlib import sha256

from base import storage
from base.errors import NotThere, UserError
from model.config import END_OF_TEXT
from recipes.findings import Findings, Shards
from recipes.schema import DATASET, Dataset, EvalDataset, Stream, Training
from recipes.times import parse_bytes


def look_at_tokenizer(config: Training, found: Findings) -> None:
    place = storage.join(config.tokenizer.name, "tokenizer.json")
    if not storage.exists(place):
        raise NotThere(f"tokenizer.name: {place}: no such file; `python -m data_prep` makes it (stage tokenizer)")
    data = storage.read_bytes(place)
    try:
        content = json.loads(data)
        added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        ids = {*content["model"]["vocab"].values(), *added.values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"tokenizer.name: {place}: not a tokenizer: {error}") from error
    found.tokenizer_sha256 = sha256(data).hexdigest()
    found.entries = entries = max(ids) + 1
    found.end_of_text = added.get(END_OF_TEXT)
    if config.model.document_mask and found.end_of_text is None:
        found.faults.append(f"model.document_mask: {place} has no {END_OF_TEXT}, so documents have no end")
    vocab_size = config.model.vocab_size or entries
    if vocab_size < entries:
        found.faults.append(
            f"model.vocab_size: {vocab_size} is smaller than the tokenizer's {entries} entries; give {entries} or "
            "more, or null for the tokenizer's own"
        )
    elif vocab_size > entries:
        found.warnings.append(
            f"model.vocab_size: {vocab_size} is more than the tokenizer's {entries} entries: rows without a token, "
            "which the head scores all the same; null takes the tokenizer's"
        )
    found.model = config.gpt_config(vocab_size)


def look_at_dataset(config: Training, found: Findings) -> None:
    dataset = config.train_loader.dataset
    streams = dataset.by_key()
    found.take(*(partial(_shards, key, stream, config, found) for key, stream in streams.items()))
    there = {key: found.shards[key] for key in streams if key in found.shards}
    size = sum(shards.bytes for shards in there.values())
    limit = parse_bytes(dataset.cache_limit) if dataset.cache_limit is not None else None
    for key, shards in there.items():
        if shards.samples == 0:
            found.faults.append(f"{key}: {shards.place} holds no sequence")
        if streams[key].remote is not None:
            _add_to_cache(streams[key].local, shards.bytes * min(1.0, (limit or size) / max(size, 1)), found)
    if len(there) < len(streams):
        return
    found.samples = samples_per_epoch(dataset, {key: shards.samples for key, shards in there.items()})
    if dataset.num_canonical_nodes > found.samples:  # Streaming fills them up with repeated samples
        found.faults.append(
            f"{DATASET}.num_canonical_nodes: {dataset.num_canonical_nodes}, and an epoch has {found.samples} sequences"
        )
    indexes, largest = sum(one.index_bytes for one in there.values()), max(one.largest_shard for one in there.values())
    least = max(indexes + 1, 4 * largest)
    if limit is not None and limit < least:
        found.faults.append(
            f"{DATASET}.cache_limit: {dataset.cache_limit} is too small: Streaming refuses less than four of the "
            f"largest shards, here {least} bytes, and is fast with many more"
        )


def look_at_validation(config: Training, found: Findings) -> None:
    if config.eval_loader is None:
        return
    dataset = config.eval_loader.dataset
    key = "eval_loader.dataset"
    _shards(key, dataset, config, found)
    if dataset.remote is not None:
        _add_to_cache(dataset.local, found.shards[key].bytes, found)
    if found.shards[key].samples == 0:
        found.faults.append(
            f"{key}: {found.shards[key].place} holds no sequence; prepare more with shards.val_fraction"
        )
    if config.eval_subset_num_batches != -1:
        found.warnings.append(
            f"eval_subset_num_batches: {config.eval_subset_num_batches} batches of each rank: the validation loss will "
            "depend on the number of ranks and on device_eval_batch_size; -1 takes every sequence once"
        )


def _add_to_cache(folder: str, size: float, found: Findings) -> None:
    found.shard_bytes[folder] = found.shard_bytes.get(folder, 0.0) + size


def _shards(key: str, stream: Stream | EvalDataset, config: Training, found: Findings) -> None:
    """Look at one folder of shards: what its index says, and whether they are there."""
    root = stream.remote or stream.local
    folder = storage.join(root, *([stream.split] if stream.split else []))
    place = storage.join(folder, "index.json")
    if not storage.exists(place):
        raise NotThere(f"{key}: {place}: no such file; `python -m data_prep` writes it last")
    data = storage.read_bytes(place)
    try:
        shards = json.loads(data)["shards"]
        sizes = [shard["raw_data"]["bytes"] for shard in shards]
        files = [[shard[form] for form in ("zip_data", "raw_data") if shard.get(form)] for shard in shards]
        encoding = shards[0]["column_encodings"][shards[0]["column_names"].index("tokens")] if shards else ""
        content = json.dumps([[shard["samples"], shard["raw_data"]] for shard in shards], sort_keys=True)
        found.shards[key] = Shards(
            place=folder,
            samples=sum(shard["samples"] for shard in shards),
            sha256=sha256(content.encode()).hexdigest(),
            bytes=sum(sizes),
            index_bytes=len(data),
            largest_shard=max((sum(file["bytes"] for file in forms) for forms in files), default=0),
        )
        names = [[(file["basename"], file["bytes"]) for file in forms] for forms in files]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place}: not the index of packed tokens: {error!r}") from error
    if shards and encoding != f"ndarray:uint16:{config.max_seq_len}":
        found.faults.append(
            f"max_seq_len: {config.max_seq_len}, but the shards hold {encoding}; prepare them with "
            f"shards.max_seq_len={config.max_seq_len}" + (f" ({folder})" if key != DATASET else "")
        )
    there = storage.list_files(folder).items()
    lost = [forms[0][0] for forms in names if not any(form in there for form in forms)]
    if lost:
        found.faults.append(
            f"{key}: {folder}: {len(lost)} of {len(names)} shards are not there, or not whole; the first is {lost[0]}; "
            "`python -m data_prep … verify` looks at all of them"
        )
    _card(storage.join(root, "card.json"), config, found)
    if encoding.startswith("ndarray:uint16:") and not lost and found.model is not None:
        from recipes.shard_ids import look_at_ids  # imports numpy: a tenth of a second

        seen = look_at_ids(folder, shards, found.model.vocab_size)
        found.shards[key] = replace(found.shards[key], ids_seen=seen)


def _card(place: str, config: Training, found: Findings) -> None:
    """What wrote the shards, as their card tells it."""
    if not storage.exists(place):
        warning = f"{place} is not there: whether the tokenizer fits the shards was not checked"
        if warning not in found.warnings:
            found.warnings.append(warning)
        return
    card = json.loads(storage.read_bytes(place))
    theirs, ids = card.get("tokenizer_sha256"), card.get("vocab_size", 0)
    faults = []
    if found.tokenizer_sha256 is not None and theirs not in (None, found.tokenizer_sha256):
        faults.append(
            f"tokenizer.name: {config.tokenizer.name} is not the tokenizer that wrote the shards ({place} has its "
            "hash); name that one, or prepare the shards again with this one"
        )
    if found.model is not None and ids > found.model.vocab_size:
        faults.append(
            f"model.vocab_size: {found.model.vocab_size}, and the shards hold ids up to {ids - 1} ({place}); give "
            f"{ids} or more, with the tokenizer that wrote them"
        )
    found.faults += [fault for fault in faults if fault not in found.faults]  # training and validation share a card


def samples_per_epoch(dataset: Dataset, samples: dict[str, int]) -> int:
    """Sequences of an epoch, as Streaming reckons them.

    Args:
        dataset: the training data.
        samples: what lies in each stream, by its key.
    """
    if dataset.epoch_size is not None:
        return dataset.epoch_size
    chosen = 0
    for key, stream in dataset.by_key().items():
        chosen += stream.choose or int((stream.repeat or 1) * samples[key])
    return chosen
