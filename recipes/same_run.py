"""Whether training may go on from a checkpoint: what it was trained with, from its manifest, against what is asked for.

Composer loads a checkpoint into whatever run it is given. Settings of the optimizer and the seed of the order it takes
from the checkpoint, whatever is said here; other data, another order or another schedule it goes on with at the
checkpoint's place in them; both without a word. What may change (docs/operations.md has the list) is not kept here:
where the data lie, the number of ranks, how the work is shared out among them.
"""

import math
from dataclasses import dataclass
from typing import Any

from recipes.findings import Findings
from recipes.schema import DATASET, ConstantWithWarmup, CosineWithWarmup, Training
from recipes.times import duration_in_batches, parse_time, part_of_run

ORDER = (
    f"{DATASET}.shuffle",
    f"{DATASET}.shuffle_algo",
    f"{DATASET}.shuffle_seed",
    f"{DATASET}.shuffle_block_size",
    f"{DATASET}.num_canonical_nodes",
    "train_loader.drop_last",
)
OPTIMIZER = tuple(f"optimizer.{name}" for name in ("name", "lr", "betas", "eps", "weight_decay", "no_weight_decay"))
STEP = (
    "global_train_batch_size",
    "batch_size_warmup.double_at",
    "model.attn_pdrop",
    "model.resid_pdrop",
    "model.embd_pdrop",
    "model.z_loss",
    "model.document_mask",
    "algorithms.gradient_clipping.clipping_threshold",
    "precision",
    "float8.recipe_name",
    "fsdp_config.mixed_precision",
)
NO_JUMP = 1e-5  # of a part of the schedule: what rounding between tokens and batches may make


@dataclass(frozen=True)
class Difference:
    key: str
    there: Any  # in the checkpoint
    here: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.there} there, {self.here} here"


def trained_with(config: Training, found: Findings) -> dict[str, Any]:
    """What a run that goes on from this one's checkpoints must have alike, for their manifest, as JSON.

    ``data``: of each stream a hash of its content and what an epoch takes of it; ``order``, ``optimizer``, ``step``: by
    key; ``schedule``: as in the configuration.
    """
    return {
        "data": _data(config, found),
        "order": {key: _value(config, key) for key in ORDER},
        "optimizer": {key: _value(config, key) for key in OPTIMIZER},
        "step": {key: _value(config, key) for key in STEP},
        "schedule": config.model_dump(include={"scheduler", "max_duration"}),
    }


def compare(what: str, manifest: dict[str, Any], config: Training, found: Findings, same_run: bool) -> None:
    """Put what differs into the faults, all in one, with what to do; what a checkpoint does not tell is not compared.

    Args:
        what: the key and the checkpoint's location.
        manifest: the checkpoint's.
        config: what is to be trained.
        found: what was found of it: model, tokenizer and shards.
        same_run: the run itself wrote the checkpoint. Another run (load_path) may change what a step computes, and with
            ``load_dataset_state: false`` the data.
    """
    there, here = manifest.get("trained_with", {}), trained_with(config, found)
    another = "take another checkpoint" if not same_run else "choose another run_name or folder to begin anew"
    step = _by_key(there.get("step", {}), here["step"])
    data = _streams(there.get("data"), here["data"], config) + _by_key(there.get("order", {}), here["order"])
    step_is_free = not same_run
    data_are_free = not same_run and not config.load_dataset_state  # an epoch of them begins
    groups = [
        (f"another model: {another}", _model(manifest, found)),
        ("a checkpoint is a place in an order of samples; in another one, some would come twice and some never: give "
         "the same data in the same order, wherever they lie, or begin an epoch of other data (load_path, with another "
         "run_name and load_dataset_state=false)",
         [] if data_are_free else data),
        ("Composer goes on with the checkpoint's, whatever is said here: give the same",
         _by_key(there.get("optimizer", {}), here["optimizer"])),
        ("the learning rate would jump: give the same, or go on from a checkpoint at which both schedules agree "
         "(load_path, with another run_name)",
         _schedule(manifest, config, found)),
        ("a run is not to change midway: give the same, or begin another run from this checkpoint (load_path, with "
         "another run_name)",
         [] if step_is_free else step),
    ]  # fmt: skip
    told = [line for why, differences in groups if differences for line in (why, *(f"  {one}" for one in differences))]
    if told:
        found.faults.append("\n    ".join([f"{what} was trained otherwise", *told]))
    if free := (data if data_are_free else []) + (step if step_is_free else []):
        found.warnings.append("\n    ".join([f"{what} was trained otherwise, and from here on", *map(str, free)]))


def _value(config: Training, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name) if value is not None else None
    if key == "optimizer.no_weight_decay":
        return sorted(set(value))
    return None if value == math.inf else value  # a threshold that clips nothing, which JSON does not know


def _by_key(there: dict[str, Any], here: dict[str, Any]) -> list[Difference]:
    return [Difference(key, there[key], here[key]) for key in here if key in there and there[key] != here[key]]


def _model(manifest: dict[str, Any], found: Findings) -> list[Difference]:
    shape = found.model.to_dict() if found.model is not None else {}
    here = {f"model.{name}": value for name, value in shape.items() if not name.endswith("_pdrop")}
    differences = _by_key({f"model.{name}": value for name, value in manifest["model"].items()}, here)
    tokenizer = manifest["files"].get("tokenizer.json", {}).get("sha256")
    if tokenizer is not None and found.tokenizer_sha256 not in (None, tokenizer):
        differences.append(Difference("tokenizer.name", _short(tokenizer), _short(found.tokenizer_sha256)))
    return differences


def _data(config: Training, found: Findings) -> dict[str, Any] | None:
    """What an epoch takes of which sequences: not their place. None when not all of them were found."""
    streams = config.train_loader.dataset.by_key()
    if found.samples is None:
        return None
    shares = sum(stream.proportion or 0.0 for stream in streams.values())
    parts = []
    for key, stream in streams.items():
        shards = found.shards[key]
        takes = stream.choose or int((stream.repeat or 1) * shards.samples)
        share = round(stream.proportion / shares, 9) if stream.proportion is not None else None
        parts.append(
            {"sha256": shards.sha256, "samples": shards.samples, "takes": takes if share is None else f"share {share}"}
        )
    return {"samples": found.samples, "streams": parts}


def _streams(there: dict[str, Any] | None, here: dict[str, Any] | None, config: Training) -> list[Difference]:
    if there is None or here is None:
        return []
    if len(there["streams"]) != len(here["streams"]):
        return [Difference(f"{DATASET}.streams", len(there["streams"]), len(here["streams"]))]
    differences = []
    for key, theirs, ours in zip(config.train_loader.dataset.by_key(), there["streams"], here["streams"], strict=True):
        if theirs["sha256"] != ours["sha256"]:
            differences.append(Difference(key, *(f"{one['samples']} sequences of index {_short(one['sha256'])}"
                                                 for one in (theirs, ours))))  # fmt: skip
        elif theirs["takes"] != ours["takes"]:
            differences.append(Difference(f"{key}, of an epoch", theirs["takes"], ours["takes"]))
    if not differences and there["samples"] != here["samples"]:
        differences.append(Difference(f"{DATASET}.epoch_size", there["samples"], here["samples"]))
    return differences


def _short(sha256: Any) -> str:
    return f"{str(sha256)[:8]}…"


def _schedule(manifest: dict[str, Any], config: Training, found: Findings) -> list[Difference]:
    """The two schedules where the checkpoint stands, when the learning rate is not the same in both.

    Elsewhere they may differ: a trunk may become longer, and decay, as long as no decay has begun.
    """
    recorded = manifest.get("trained_with", {})
    if "schedule" not in recorded:
        return []
    size = recorded["step"]["global_train_batch_size"]
    before = Training.model_validate(config.model_dump() | recorded["schedule"] | {"global_train_batch_size": size})
    samples_there = (recorded.get("data") or {}).get("samples", found.samples)
    there, here = _stand(before, manifest, samples_there), _stand(config, manifest, found.samples)
    if there is None or here is None or there.agrees(here):
        return []
    return [Difference(f"scheduler and max_duration, at batch {manifest['batch']}", there, here)]


@dataclass(frozen=True)
class _Stand:
    """Where on its schedule a learning rate stands: in which part of it, and how far into that."""

    part: str
    into: float

    def agrees(self, other: "_Stand") -> bool:
        return self.part == other.part and math.isclose(self.into, other.into, rel_tol=0, abs_tol=NO_JUMP)

    def __str__(self) -> str:
        return f"{100 * self.into:.2f} % of {self.part}"


FULL = _Stand("the rate", 1.0)


def _stand(config: Training, manifest: dict[str, Any], samples: int | None) -> _Stand | None:
    """Where the schedule stands at a checkpoint; None when that takes the size of the dataset and it is not known."""
    scheduler = config.scheduler
    now, warmup = part_done(manifest, config, samples), part_of_run(scheduler.t_warmup, config, samples)
    if now is None or warmup is None:
        return None
    if now < warmup:
        return _Stand("the warmup", now / warmup)
    if isinstance(scheduler, ConstantWithWarmup):
        return FULL
    if isinstance(scheduler, CosineWithWarmup):
        begin, end, form = warmup, part_of_run(scheduler.t_max, config, samples), "cosine"
    else:
        decay = part_of_run(scheduler.t_decay, config, samples)
        begin, end, form = (1 - decay if decay is not None else 1.0), 1.0, scheduler.form
    if end is None:
        return None
    into = min((now - begin) / (end - begin), 1.0) if end > begin else 0.0
    return _Stand(f"a {form} decay to {scheduler.alpha_f:g}", into) if into > NO_JUMP else FULL


def part_done(manifest: dict[str, Any], config: Training, samples: int | None) -> float | None:
    """How much of ``max_duration`` has passed at a checkpoint, as Composer counts; None as for part_of_run."""
    whole, unit = parse_time(config.max_duration)
    if unit == "ep":
        batches = duration_in_batches(config.max_duration, config, samples)
        if not batches:
            return None
        whole = batches
    done = {"tok": manifest["token"], "sp": manifest["token"] / config.max_seq_len}
    return done.get(unit, manifest["batch"]) / whole
