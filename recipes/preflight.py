"""What can be checked before a GPU is touched: data, tokenizer, ids, questions, checkpoints. Imports nothing heavy."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

from base import storage
from base.errors import NotThere, UserError
from base.progress import say
from eval.task import find_file, load_questions
from eval.tasks import TASKS
from model.checkpoint import MANIFEST, Checkpoint, DamagedCheckpoint, list_checkpoints, read_manifest
from model.config import END_OF_TEXT, GPTConfig
from recipes.cross_checks import schedule_faults
from recipes.schema import DATASET, Dataset, EvalDataset, Stream, Training, WarmupStableDecay
from recipes.times import batch_sizes, duration_in_batches, parse_time, part_of_run

NEW_FOLDER = "choose another run_name or folder to begin anew"
Look = Callable[[Training, int, "Findings"], None]


@dataclass(frozen=True)
class Shards:
    """A folder with packed sequences."""

    place: str
    samples: int
    ids_seen: str = ""  # of which shards the ids were looked at; nothing while the vocabulary is not known


@dataclass
class Findings:
    """What was found.

    ``faults`` must be mended; ``missing`` is not there yet, or not to be seen from here; ``warnings`` should be read.
    """

    model: GPTConfig | None = None
    tokenizer_sha256: str | None = None
    entries: int | None = None
    end_of_text: int | None = None
    shards: dict[str, Shards] = field(default_factory=dict)  # by the key of the configuration
    samples: int | None = None  # of an epoch
    shard_bytes: dict[str, int] = field(default_factory=dict)  # that a cache folder has to hold
    batches: int | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    loaded: Checkpoint | None = None  # the one at load_path, when it is to be used
    faults: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def resume_from(self) -> Checkpoint | None:
        """The newest whole checkpoint, or else the one at load_path."""
        whole = [checkpoint for checkpoint in self.checkpoints if checkpoint.whole]
        return whole[-1] if whole else self.loaded


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
    looks: list[Look] = [_tokenizer, _dataset, _validation, _batches, _ranks, _questions, _installed, _checkpoints]
    everything = [*looks, _load_path, *([_write_probe] if probe_writing else [])]
    _each(found, *(partial(look, config, world_size, found) for look in everything))
    return found


def require_sound(found: Findings, missing_too: bool) -> None:
    """Raise one UserError with all faults; ``missing_too`` counts what is not there yet as well."""
    faults = found.faults + (found.missing if missing_too else [])
    if faults:
        number = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise UserError(f"{number} before training\n" + "\n".join(f"  {fault}" for fault in faults), shared=True)


def tell_warnings(found: Findings) -> None:
    """Say what should be read, on rank 0; the run sheet of ``--check`` has it, too."""
    if os.environ.get("RANK", "0") == "0":
        for warning in found.warnings:
            say(f"warning: {warning}")


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
    _each(
        found,
        *(
            partial(_shards, key, stream, stream.local if dataset.cache_limit is None else None, config, found)
            for key, stream in dataset.by_key().items()
        ),
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


def _each(found: Findings, *looks: Callable[[], None]) -> None:
    """Take every look, whatever is wrong in the others."""
    for look in looks:
        try:
            look()
        except NotThere as error:
            found.missing.append(str(error))
        except UserError as error:
            found.faults.append(str(error))


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
        found.shards[key] = Shards(folder, sum(shard["samples"] for shard in shards))
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
    if encoding.startswith("ndarray:uint16:") and found.model is not None:
        from recipes.shard_ids import look_at_ids  # imports numpy: a tenth of a second

        seen = look_at_ids(folder, shards, found.model.vocab_size)
        found.shards[key] = replace(found.shards[key], ids_seen=seen)


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
    sizes, micro = batch_sizes(config), config.device_train_microbatch_size
    total = sizes.full
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
    if sizes.first % world_size:
        found.faults.append(
            f"batch_size_warmup: the first batch of {sizes.first} sequences is not divisible by the {world_size} "
            "ranks; take fewer of double_at"
        )
        return
    each = sizes.first // world_size
    if micro != "auto" and each % micro:
        of = "the first batch's" if sizes.double_at else "the"
        found.faults.append(
            f"device_train_microbatch_size: {micro} does not divide {of} {each} sequences of each of {world_size} ranks"
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


def _installed(config: Training, world_size: int, found: Findings) -> None:
    for name, settings in config.loggers:
        if settings is not None and find_spec(name) is None:
            found.missing.append(f"loggers.{name}: {name} is not installed; `pip install '.[trackers]'` brings it")
    if config.float8 is not None and find_spec("torchao") is None:
        found.missing.append("float8: torchao is not installed; `pip install '.[float8]'` brings it")


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
    elif found.resume_from is not None:
        try:
            manifest = read_manifest(found.resume_from.location)
        except DamagedCheckpoint as error:
            found.warnings.append(f"{error}; the one before it will be taken")
        else:
            _require_same_run(f"save_folder: {found.resume_from.location}", NEW_FOLDER, manifest, config, found)
    for checkpoint in found.checkpoints:
        if not checkpoint.whole:
            found.warnings.append(f"{checkpoint.location} has no manifest: it was cut off and is not used")


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
    found.loaded = Checkpoint(location, manifest["epoch"], manifest["batch"], True, size)
    _require_same_run(f"load_path: {location}", "take another checkpoint", manifest, config, found)
    if found.batches is not None and found.loaded.batch >= found.batches:
        found.faults.append(f"max_duration: {config.max_duration}: load_path is at batch {found.loaded.batch} already")


def _require_same_run(what: str, remedy: str, manifest: dict[str, Any], config: Training, found: Findings) -> None:
    """What would be loaded without a word and be wrong: another attention scale, another place in other data …"""
    here = found.model.to_dict() if found.model is not None else {}
    for name in [name for name in here if not name.endswith("_pdrop")]:
        there = manifest["model"].get(name, here[name])
        if there != here[name]:
            found.faults.append(f"{what} has {name} {there}, here it is {here[name]}; {remedy}")
    tokenizer = manifest["files"].get("tokenizer.json", {}).get("sha256")
    if tokenizer is not None and found.tokenizer_sha256 not in (None, tokenizer):
        found.faults.append(f"{what} was trained with another tokenizer; {remedy}")
    samples = manifest.get("samples")
    if samples is not None and found.samples not in (None, samples):
        found.faults.append(
            f"{what} is a place in {samples} sequences, train_loader.dataset has {found.samples}; give the same data"
        )
    for name, value in config.optimizer:  # Composer goes on with the checkpoint's settings, whatever is said here
        there = manifest.get("optimizer", {}).get(name, value)
        if (set(there) != set(value)) if name == "no_weight_decay" else (there != value):
            found.faults.append(f"{what} was trained with optimizer.{name} {there}, here it is {value}; give the same")
    _require_same_decay(what, manifest, config, found)
    _tell_other_batch_sizes(what, manifest, config, found)


def _tell_other_batch_sizes(what: str, manifest: dict[str, Any], config: Training, found: Findings) -> None:
    """They may change, as for a larger batch from there on, but the length of a run is reckoned from its beginning."""
    batch, there = manifest.get("batch", 0), manifest.get("token", 0)
    here = batch_sizes(config).samples(batch) * config.max_seq_len
    if there not in (0, here) and config.train_loader.drop_last:
        found.warnings.append(
            f"{what}: {batch:,} batches had {there:,} tokens there, and would have {here:,} here "
            "(global_train_batch_size, batch_size_warmup): the run will not have as many batches as it is said to"
        )


def _require_same_decay(what: str, manifest: dict[str, Any], config: Training, found: Findings) -> None:
    """A decay that has begun goes on as it began; elsewhere the learning rate would jump."""
    here, there = _decay(config, found), None
    if "schedule" in manifest:
        before = Training.model_validate(config.model_dump() | manifest["schedule"])
        there = _decay(before, found)
    begun = any(decay is not None and manifest["batch"] > decay[0] for decay in (here, there))
    if begun and here != there:
        told = [f"from batch {decay[0]} to {decay[1]}" if decay else "nowhere" for decay in (there, here)]
        found.faults.append(
            f"{what}, batch {manifest['batch']}: the learning rate decayed {told[0]} there and would decay {told[1]} "
            "here; go on from a checkpoint before both (load_path, with another run_name), or change max_duration or "
            "scheduler.t_decay"
        )


def _decay(config: Training, found: Findings) -> tuple[int, int] | None:
    """The batches between which a warmup_stable_decay decays; None for another schedule, or when it is not known."""
    if not isinstance(config.scheduler, WarmupStableDecay):
        return None
    end = duration_in_batches(config.max_duration, config, found.samples)
    decay = part_of_run(config.scheduler.t_decay, config, found.samples)
    if end is None or decay is None:
        return None
    value, unit = parse_time(config.max_duration)
    if unit == "ep":
        value, unit = end, "ba"
    begin = duration_in_batches(f"{math.ceil(round(value * (1 - decay), 6))}{unit}", config, found.samples)
    return (begin, end) if begin is not None else None


def _write_probe(config: Training, world_size: int, found: Findings) -> None:
    if config.save_folder is not None:
        storage.require_writable(config.save_folder)


def world_size_from_environment() -> int:
    """Number of ranks as the launcher says it; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))
