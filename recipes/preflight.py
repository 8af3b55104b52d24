"""What can be checked before a GPU is touched: data, tokenizer, ids, questions, checkpoints. Imports nothing heavy."""

import json
import os
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from importlib.util import find_spec

from base import storage
from base.errors import NotThere, UserError
from eval.task import find_file, load_questions
from eval.tasks import TASKS
from model.checkpoint import MANIFEST, Checkpoint, DamagedCheckpoint, list_checkpoints, read_manifest
from model.config import END_OF_TEXT
from recipes.cross_checks import schedule_faults
from recipes.findings import Findings, Shards
from recipes.same_run import compare, part_done
from recipes.schema import DATASET, Dataset, EvalDataset, Stream, Training
from recipes.times import duration_in_batches

Look = Callable[[Training, int, "Findings"], None]


def preflight(config: Training, world_size: int, probe_writing: bool) -> Findings:
    """Look at everything that the run will need.

    Args:
        config: the training configuration.
        world_size: number of ranks that will train.
        probe_writing: also write and delete a file in the checkpoint folder.
    """
    found = Findings()
    if config.model.vocab_size is not None:
        found.model = config.gpt_config(config.model.vocab_size)
    looks: list[Look] = [_tokenizer, _dataset, _validation, _batches, _ranks, _questions, _trackers, _checkpoints]
    everything = [*looks, _load_path, *([_write_probe] if probe_writing else [])]
    found.take(*(partial(look, config, world_size, found) for look in everything))
    return found


def _tokenizer(config: Training, world_size: int, found: Findings) -> None:
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
        found.faults.append(f"model.vocab_size: {vocab_size} is smaller than the tokenizer's {entries} entries")
    elif vocab_size > entries:
        found.warnings.append(f"model.vocab_size {vocab_size} is larger than the tokenizer's {entries} entries")
    found.model = config.gpt_config(vocab_size)


def _dataset(config: Training, world_size: int, found: Findings) -> None:
    dataset = config.train_loader.dataset
    found.take(
        *(
            partial(_shards, key, stream, stream.local if dataset.cache_limit is None else None, config, found)
            for key, stream in dataset.by_key().items()
        )
    )
    samples = {key: shards.samples for key, shards in found.shards.items()}
    if len(samples) == len(dataset.by_key()):
        found.samples = samples_per_epoch(dataset, samples)


def _validation(config: Training, world_size: int, found: Findings) -> None:
    if config.eval_loader is None:
        return
    dataset = config.eval_loader.dataset
    key = "eval_loader.dataset"
    _shards(key, dataset, dataset.local if dataset.remote is not None else None, config, found)
    if found.shards[key].samples == 0:
        found.faults.append(
            f"{key}: {found.shards[key].place} holds no sequence; prepare more with shards.val_fraction"
        )
    if config.eval_subset_num_batches != -1:
        found.warnings.append(
            f"eval_subset_num_batches: {config.eval_subset_num_batches} batches of each rank: the validation loss will "
            "depend on the number of ranks and on device_eval_batch_size; -1 takes every sequence once"
        )


def _shards(key: str, stream: Stream | EvalDataset, cache: str | None, config: Training, found: Findings) -> None:
    """Look at one folder of shards; ``cache`` is where all of them will have to fit."""
    root = stream.remote or stream.local
    folder = storage.join(root, *([stream.split] if stream.split else []))
    place = storage.join(folder, "index.json")
    if not storage.exists(place):
        raise NotThere(f"{key}: {place}: no such file; `python -m data_prep` writes it last")
    try:
        shards = json.loads(storage.read_bytes(place))["shards"]
        size = sum(shard["raw_data"]["bytes"] for shard in shards)
        encoding = shards[0]["column_encodings"][shards[0]["column_names"].index("tokens")] if shards else ""
        content = json.dumps([[shard["samples"], shard["raw_data"]] for shard in shards], sort_keys=True)
        samples = sum(shard["samples"] for shard in shards)
        found.shards[key] = Shards(folder, samples, sha256(content.encode()).hexdigest())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place}: not the index of packed tokens: {error!r}") from error
    if shards and encoding != f"ndarray:uint16:{config.max_seq_len}":
        found.faults.append(
            f"max_seq_len: {config.max_seq_len}, but the shards hold {encoding}; prepare them with "
            f"shards.max_seq_len={config.max_seq_len}" + (f" ({folder})" if key != DATASET else "")
        )
    if stream.remote is not None and cache is not None:
        found.shard_bytes[cache] = found.shard_bytes.get(cache, 0) + size
        room = sum(storage.list_files(cache).values()) + storage.free_bytes(cache)
        if size > room:
            found.warnings.append(
                f"{key}.local: {cache} has room for {room / 1e9:.2f} GB of the "
                f"{size / 1e9:.2f} GB of shards; set cache_limit, or take another disk"
            )
    _card(storage.join(root, "card.json"), found)


def _card(place: str, found: Findings) -> None:
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
        faults.append(f"tokenizer.name: not the tokenizer that wrote the shards ({place} has its hash)")
    if found.model is not None and ids > found.model.vocab_size:
        faults.append(f"model.vocab_size: the shards hold ids up to {ids - 1} ({place})")
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


def _batches(config: Training, world_size: int, found: Findings) -> None:
    if found.samples is not None and found.samples < config.global_train_batch_size:
        found.faults.append(
            f"global_train_batch_size: {config.global_train_batch_size}, but there are {found.samples} sequences"
        )
        return
    found.batches = duration_in_batches(config.max_duration, config, found.samples)
    found.faults += [f"{key}: {message}" for key, message in schedule_faults(config, found.samples)]


def _ranks(config: Training, world_size: int, found: Findings) -> None:
    total, micro = config.global_train_batch_size, config.device_train_microbatch_size
    degree = config.fsdp_config.data_parallel_shard_degree
    if degree is not None and world_size % degree:
        found.faults.append(
            f"fsdp_config.data_parallel_shard_degree: {degree} ranks a copy do not divide the {world_size} ranks"
        )
    if total % world_size:
        found.faults.append(
            f"global_train_batch_size: {total} is not divisible by the {world_size} ranks; "
            f"{max(total - total % world_size, world_size)} and {(total // world_size + 1) * world_size} are"
        )
        return
    each = total // world_size
    if micro != "auto" and each % micro:
        found.faults.append(
            f"device_train_microbatch_size: {micro} does not divide the {each} sequences of each of {world_size} ranks"
        )


def _questions(config: Training, world_size: int, found: Findings) -> None:
    scores = config.callbacks.score_checkpoints
    for name in scores.tasks if scores is not None else []:
        assert scores is not None
        try:
            find_file(TASKS[name], scores.data)
        except UserError as error:
            found.missing.append(f"callbacks.score_checkpoints.data: {error}")
            continue
        load_questions(TASKS[name], scores.data, scores.limit)


def _trackers(config: Training, world_size: int, found: Findings) -> None:
    for name, settings in config.loggers:
        if settings is not None and find_spec(name) is None:
            found.missing.append(f"loggers.{name}: {name} is not installed; `pip install '.[trackers]'` brings it")


def _checkpoints(config: Training, world_size: int, found: Findings) -> None:
    if config.save_folder is None:
        found.warnings.append("save_folder is not set: no checkpoint will be written")
        return
    found.checkpoints = list_checkpoints(config.save_folder)
    if not found.checkpoints:
        return
    if not config.autoresume:
        found.faults.append(
            f"save_folder: {config.save_folder} already holds checkpoints; set autoresume=true to go on from "
            "them, or choose another run_name or folder"
        )
    else:
        _newest(config, found)
    for checkpoint in found.checkpoints:
        if not checkpoint.whole:
            found.warnings.append(f"{checkpoint.location} has no manifest: it was cut off and is not used")


def _newest(config: Training, found: Findings) -> None:
    """The newest checkpoint that can be read, and whether this is the run that wrote it."""
    for checkpoint in reversed([one for one in found.checkpoints if one.whole]):
        try:
            manifest = read_manifest(checkpoint.location)
        except DamagedCheckpoint as error:
            found.warnings.append(f"{error}; the one before it will be taken")
            continue
        found.resume_from = checkpoint
        compare(f"save_folder: {checkpoint.location}", manifest, config, found, same_run=True)
        return
    if any(checkpoint.whole for checkpoint in found.checkpoints):
        found.faults.append(
            f"save_folder: {config.save_folder}: every checkpoint there is damaged; none can be gone on from"
        )


def _load_path(config: Training, world_size: int, found: Findings) -> None:
    location = config.load_path
    if location is None or found.resume_from is not None:
        return  # what the run itself has written comes first, as with Composer
    if not storage.exists(storage.join(location, MANIFEST)):
        whole = [checkpoint.location for checkpoint in list_checkpoints(location) if checkpoint.whole]
        newest = f"; the newest whole checkpoint in it is {whole[-1]}" if whole else ""
        raise NotThere(f"load_path: {location}: not a whole checkpoint (no {MANIFEST}){newest}")
    try:
        manifest = read_manifest(location)
    except DamagedCheckpoint as error:
        raise UserError(f"load_path: {error}") from error
    size = sum(entry["size"] for entry in manifest["files"].values())
    found.resume_from = Checkpoint(location, manifest["epoch"], manifest["batch"], True, size)
    compare(f"load_path: {location}", manifest, config, found, same_run=False)
    if (part_done(manifest, config, found.samples) or 0.0) >= 1:
        found.faults.append(f"max_duration: {config.max_duration}: load_path is at batch {manifest['batch']} already")


def _write_probe(config: Training, world_size: int, found: Findings) -> None:
    if config.save_folder is not None:
        storage.require_writable(config.save_folder)


def world_size_from_environment() -> int:
    """Number of ranks as the launcher says it; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))
