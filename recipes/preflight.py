"""What can be checked before a GPU is touched: data, tokenizer, ids, questions, checkpoints. Imports nothing heavy."""

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from typing import Any
from urllib.parse import urlsplit

from base import storage
from base.errors import NotThere, UserError
from eval.official_files import find_files, load_questions
from eval.tasks import protocols
from model.checkpoint import MANIFEST, Checkpoint, DamagedCheckpoint, list_checkpoints, read_manifest
from recipes.cross_checks import schedule_faults
from recipes.data_found import look_at_dataset, look_at_tokenizer, look_at_validation
from recipes.findings import Findings
from recipes.interventions import to_go_on_from
from recipes.memory import divisors
from recipes.same_run import compare, part_done
from recipes.schema import DATASET, Training
from recipes.this_machine import troubles
from recipes.times import batch_sizes, duration_in_batches, parse_time, warmup_in_batches

Look = Callable[[Training, Findings], None]
GPUS_OF_A_NODE = 8  # where nobody says how many


def preflight(config: Training, world_size: int, probe_writing: bool, nodes: int | None = None) -> Findings:
    """Look at everything that the run will need.

    Args:
        config: the training configuration.
        world_size: number of ranks that will train.
        probe_writing: for ``--check``: also write and delete a file in the checkpoint folder, and look at this machine
            as one that will train.
        nodes: on how many machines, where that is known.
    """
    found = Findings()
    if config.model.vocab_size is not None:
        found.model = config.gpt_config(config.model.vocab_size)
    data: list[Look] = [look_at_tokenizer, look_at_dataset, look_at_validation]
    rest: list[Look] = [_batches, _questions, _installed, _checkpoints, _load_path]
    found.take(*(partial(look, config, found) for look in [*data, *rest]))
    found.take(partial(_ranks, config, world_size, found))
    if nodes is not None:
        found.faults += _nodes(config, nodes, found)
    if probe_writing:
        found.take(partial(_write_probe, config))
        guessed = nodes or -(-world_size // GPUS_OF_A_NODE)
        here = troubles(config, found, guessed, resumes=config.autoresume)
        found.warnings += [f"on this machine, {trouble}" for trouble in here]
        if nodes is None:
            guess = f"the number of nodes is a guess, {GPUS_OF_A_NODE} GPUs on each"
            found.warnings += [f"{trouble} ({guess})" for trouble in _nodes(config, guessed, found)]
    return found


def _batches(config: Training, found: Findings) -> None:
    if found.samples is not None and found.samples < config.global_train_batch_size:
        found.faults.append(
            f"global_train_batch_size: {config.global_train_batch_size}, but there are {found.samples} sequences; "
            "take a smaller batch, or prepare more data"
        )
        return
    found.batches = duration_in_batches(config.max_duration, config, found.samples)
    found.faults += [f"{key}: {message}" for key, message in schedule_faults(config, found.samples)]
    warmup = warmup_in_batches(config, found.samples)
    if found.batches is None:
        return
    found.sequences = batch_sizes(config).samples(found.batches)
    if warmup is not None and warmup < 1 - 1e-9:
        found.warnings.append(
            f"scheduler.t_warmup: {config.scheduler.t_warmup} is less than a batch: the first has the full rate already"
        )
    interval = duration_in_batches(config.save_interval, config, found.samples)
    if config.save_folder is not None and interval is not None and interval > found.batches:
        found.warnings.append(
            f"save_interval: {config.save_interval} is longer than the run: the only checkpoint is that of its end"
        )


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
        smaller = max(size for size in divisors(each) if size < micro)
        found.faults.append(
            f"device_train_microbatch_size: {micro} does not divide {of} {each} sequences of each of {world_size} "
            f"ranks; {smaller} does"
        )
    ahead = config.train_loader.dataset.predownload
    if ahead is not None and ahead < total // world_size:
        found.warnings.append(
            f"{DATASET}.predownload: {ahead} is less than a rank's batch of {total // world_size}: it will wait"
        )
    if config.hardware is not None and config.hardware.count != world_size:
        found.warnings.append(
            f"hardware.count={config.hardware.count}: the run sheet of --check is for so many, here are {world_size}"
        )


def _questions(config: Training, found: Findings) -> None:
    scores = config.callbacks.score_checkpoints
    for protocol in protocols(scores.tasks) if scores is not None else []:
        assert scores is not None
        try:
            find_files(protocol.task, protocol.task.scored, scores.data)
        except UserError as error:
            found.missing.append(f"callbacks.score_checkpoints.data: {error}")
            continue
        load_questions(protocol, scores.data, scores.limit)


def _nodes(config: Training, nodes: int, found: Findings) -> list[str]:
    """Streaming begins an epoch on so many machines only; goes on from a checkpoint it does on any number."""
    canonical = config.train_loader.dataset.num_canonical_nodes
    begins = found.resume_from is None or (
        not config.load_dataset_state and found.resume_from.location == config.load_path
    )
    if not begins or canonical % nodes == 0 or nodes % canonical == 0:
        return []
    return [
        f"{DATASET}.num_canonical_nodes: {canonical} and the {nodes} nodes do not divide one another; "
        f"{nodes * max(1, round(canonical / nodes))} would do"
    ]


def _installed(config: Training, found: Findings) -> None:
    for name, settings in config.loggers:
        if settings is not None and find_spec(name) is None:
            found.missing.append(f"loggers.{name}: {name} is not installed; `pip install '.[trackers]'` brings it")
    if config.float8 is not None and find_spec("torchao") is None:
        found.missing.append("float8: torchao is not installed; `pip install '.[float8]'` brings it")
    wandb, mlflow = config.loggers.wandb, config.loggers.mlflow
    if wandb is not None and os.environ.get("WANDB_MODE", "online") == "online" and not _has_wandb_key():
        found.warnings.append(
            "loggers.wandb: neither WANDB_API_KEY nor ~/.netrc has a key here; without one the run ends at its start: "
            "set it, or WANDB_MODE=offline"
        )
    uri = (mlflow.tracking_uri if mlflow is not None else None) or os.environ.get("MLFLOW_TRACKING_URI", "")
    if mlflow is not None and uri and (uri.startswith("file:") or "://" not in uri) and uri != "databricks":
        found.warnings.append(
            f"loggers.mlflow.tracking_uri: {uri} is a folder, which MLflow 3 refuses; give sqlite:///FILE or a server"
        )


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False


def _checkpoints(config: Training, found: Findings) -> None:
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
        if not checkpoint.whole and not checkpoint.set_aside:
            found.warnings.append(f"{checkpoint.location} has no manifest: it was cut off and is not used")


def _newest(config: Training, found: Findings) -> None:
    """The newest checkpoint that can be read, and whether this is the run that wrote it."""
    assert config.save_folder is not None
    candidates = to_go_on_from(config.save_folder)
    for checkpoint in reversed(candidates):
        try:
            manifest = read_manifest(checkpoint.location)
        except DamagedCheckpoint as error:
            found.warnings.append(f"{error}; the one before it will be taken")
            continue
        _go_on_from(checkpoint, manifest, config, found)
        compare(f"save_folder: {checkpoint.location}", manifest, config, found, same_run=True)
        return
    if candidates:
        found.faults.append(
            f"save_folder: {config.save_folder}: every checkpoint there is damaged; none can be gone on from"
        )


def _load_path(config: Training, found: Findings) -> None:
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
    checkpoint = Checkpoint(location, manifest["epoch"], manifest["batch"], True, size)
    _go_on_from(checkpoint, manifest, config, found)
    compare(f"load_path: {location}", manifest, config, found, same_run=False)
    if found.done >= 1:
        found.faults.append(f"max_duration: {config.max_duration}: load_path is at batch {manifest['batch']} already")


def _go_on_from(checkpoint: Checkpoint, manifest: dict[str, Any], config: Training, found: Findings) -> None:
    """Count what is left from the checkpoint on: the batches before it may have had another size (load_path)."""
    found.resume_from = checkpoint
    found.done = part_done(manifest, config, found.samples) or 0.0
    found.trained = manifest["token"] // config.max_seq_len
    if found.batches is None:
        return
    (value, unit), sizes = parse_time(config.max_duration), batch_sizes(config)
    end = {"tok": -(-value // config.max_seq_len), "sp": value}.get(unit)
    batch, samples = manifest["batch"], found.trained
    while samples < end if end is not None else batch < found.batches:
        batch, samples = batch + 1, samples + sizes.at(samples)
    found.batches, found.sequences = batch, samples


def _write_probe(config: Training) -> None:
    if config.save_folder is None:
        return
    try:
        storage.require_writable(config.save_folder)
    except UserError as error:
        raise type(error)(f"save_folder: {error}") from error


def world_size_from_environment() -> int:
    """Number of ranks as the launcher says it; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def nodes_from_environment() -> int | None:
    """Number of machines as the launcher says it; None without a launcher."""
    on_each = os.environ.get("LOCAL_WORLD_SIZE")
    return world_size_from_environment() // int(on_each) if on_each else None
