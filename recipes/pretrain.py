"""The pretraining run, from the checked configuration to the last checkpoint."""

import shutil
from pathlib import Path

import torch
from composer import State, Trainer
from composer.utils import dist, get_device

from base import storage
from base.configuration import dump_configuration
from base.errors import UserError
from base.progress import say
from model.checkpoint import read_manifest
from recipes import build, parallel
from recipes.callbacks.end_together import EndTogether
from recipes.callbacks.place_in_data import PlaceInData
from recipes.callbacks.random_state import RestoreRandomState
from recipes.callbacks.start_times import StartTimes
from recipes.findings import Findings
from recipes.interventions import read_interventions
from recipes.resume import (
    begin_an_epoch,
    fetch_given,
    fetch_newest,
    go_on_in_the_data,
    id_of_run,
    require_safe_everywhere,
)
from recipes.same_run import trained_with
from recipes.schema import Training
from recipes.shard_cache import claim_caches
from recipes.signals import EndRequest
from recipes.this_machine import troubles
from recipes.together import together
from recipes.trackers import settings
from recipes.validation import build_evaluator, fetch_shards

FIRST_WITH_FP8 = (8, 9)  # compute capability: Ada, and after it Hopper


def pretrain(config: Training, found: Findings) -> None:
    """Train to ``max_duration``, going on from the newest whole checkpoint, else from the one at ``load_path``.

    Args:
        config: the checked configuration.
        found: what the preflight has found, without faults.

    Raises:
        UserError: on every rank, with what the user can mend: no GPU, a disk that is full, a store that refuses.
    """
    assert found.model is not None
    start_times, request = StartTimes(), EndRequest()
    start_times.end_of("imports")
    _require_gpu_where_needed(config)
    device = get_device(None)
    dist.initialize_dist(device, timeout=config.dist_timeout)
    run_folder = Path(config.run_folder)
    first_on_node = dist.get_local_rank() == 0
    vocab_size = found.model.vocab_size
    held_out = config.eval_loader.dataset if config.eval_loader else None
    together(lambda: _require_fit_machine(config, found) if first_on_node else None)
    caches = together(lambda: claim_caches(_cache_folders(config)) if first_on_node else None)
    together(lambda: fetch_shards(held_out, vocab_size) if held_out is not None and first_on_node else None)
    tokenizer = together(lambda: _local_tokenizer(config, run_folder))
    start_times.end_of("ranks")
    resume_from = fetch_newest(config.save_folder, run_folder / "resume") if config.save_folder else None
    same_run = resume_from is not None
    run_id = id_of_run(resume_from)
    if resume_from is None and config.load_path is not None:
        resume_from = fetch_given(config.load_path, run_folder / "resume")
    if resume_from is not None and not config.trust_checkpoint:
        require_safe_everywhere(resume_from)
    together(lambda: _save_configuration(config, run_folder))
    start_times.end_of("checkpoint")

    model = build.build_model(config, found.model, found.end_of_text)
    restore_random_state = RestoreRandomState()
    checkpoints = build.build_checkpoints(config, found.model, tokenizer, trained_with(config, found), run_id)
    resumed = read_manifest(str(resume_from)) if resume_from is not None else None
    callbacks = [
        start_times,
        restore_random_state,
        PlaceInData(),
        EndTogether(request, checkpoints),
        *build.build_callbacks(config, tokenizer, checkpoints, resumed),
    ]
    start_times.end_of("model")
    train_data = build.build_train_data(config, vocab_size)
    train_data.dataloader.leave_out = together(lambda: read_interventions(config.save_folder).samples)
    start_times.end_of("data")
    trainer = build.build_trainer(
        config, model, train_data, callbacks,
        build.build_loggers(config, found.batches, run_id, same_run), build_evaluator(config, tokenizer), resume_from,
    )  # fmt: skip
    trainer.logger.log_hyperparameters(settings(config))
    if resume_from is not None:
        take_place = go_on_in_the_data if same_run or config.load_dataset_state else begin_an_epoch
        take_place(trainer.state)
        restore_random_state.saved, trainer._rng_state = trainer._rng_state, None
        dist.barrier()
        if first_on_node:
            shutil.rmtree(resume_from)
    if _is_finished(trainer.state):
        if dist.get_global_rank() == 0:
            say(f"nothing left to train: {config.save_folder} goes to max_duration {config.max_duration} already")
    else:
        start_times.end_of("trainer")
        _fit(trainer, config, request)
    trainer.close()
    if caches is not None:
        caches.close()
    parallel.leave()


def _fit(trainer: Trainer, config: Training, request: EndRequest) -> None:
    """Train to the end. Raises UserError when not even one step fits into memory: so it would at the next start."""
    begin = trainer.state.timestamp.batch
    try:
        with request.listening():
            trainer.fit()
    except torch.OutOfMemoryError as error:
        if trainer.state.timestamp.batch > begin:
            raise
        raise UserError(
            f"the first step does not fit into memory: take a smaller device_train_microbatch_size than "
            f"{config.device_train_microbatch_size}, or fsdp_config.activation_checkpointing=true\n  {error}",
            shared=True,
        ) from error


def _require_fit_machine(config: Training, found: Findings) -> None:
    nodes = dist.get_world_size() // dist.get_local_world_size()
    if lacking := troubles(config, found, nodes, resumes=found.resume_from is not None):
        raise UserError("\n  ".join(lacking))


def _cache_folders(config: Training) -> list[str]:
    """Where shards are kept on this node. Held-out shards that have no other copy are only read."""
    folders = [stream.local for stream in config.train_loader.dataset.by_key().values()]
    if config.eval_loader is not None and config.eval_loader.dataset.remote is not None:
        folders.append(config.eval_loader.dataset.local)
    return folders


def _require_gpu_where_needed(config: Training) -> None:
    wanted = {
        "precision=fp32": config.precision != "fp32",
        "model.init_device=cpu": config.model.init_device == "meta",
        "float8=null": config.float8 is not None,
        "device_train_microbatch_size=1": config.device_train_microbatch_size == "auto",
    }
    if any(wanted.values()) and not torch.cuda.is_available():
        changes = " ".join(change for change, needed in wanted.items() if needed)
        raise UserError(f"{config.run_name} needs GPUs, and torch sees none here; for the CPU: {changes}", shared=True)
    if config.float8 is not None and torch.cuda.get_device_capability() < FIRST_WITH_FP8:
        name = torch.cuda.get_device_name()
        raise UserError(f"float8: {name} has no FP8, which came with H100 and L4; set float8=null", shared=True)
    if config.precision == "amp_bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("precision: amp_bf16, which these GPUs do not have (Ampere and later do)", shared=True)


def _is_finished(state: State) -> bool:
    """Whether the checkpoint is that of the run's end; Composer takes going on from there for a mistake."""
    assert state.max_duration is not None
    return state.timestamp.get(state.max_duration.unit) >= state.max_duration


def _local_tokenizer(config: Training, run_folder: Path) -> Path:
    """The tokenizer's files on this node's disk; they go into every checkpoint and score the questions."""
    if not storage.is_remote(config.tokenizer.name):
        return Path(config.tokenizer.name)
    local = run_folder / "tokenizer"
    if dist.get_local_rank() == 0:
        for name in storage.list_files(config.tokenizer.name):
            storage.download(storage.join(config.tokenizer.name, name), local / name)
    return local


def _save_configuration(config: Training, run_folder: Path) -> None:
    """The resolved configuration, beside the metrics and beside the checkpoints."""
    if dist.get_global_rank() == 0:
        text = dump_configuration(config).encode()
        storage.write_bytes(str(run_folder / "config.yaml"), text)
        if config.save_folder is not None:
            storage.write_bytes(storage.join(config.save_folder, "config.yaml"), text)
