"""Checkpoints as folders that are whole or not there: listing, verifying, fetching, reading the weights.

``FOLDER/epE-baB/`` holds Composer's sharded layout, the tokenizer, and ``manifest.json``: the model's shape and every
file with its size and sha256. The manifest is written last; a folder without one is not a checkpoint.

    python -m model.checkpoint list FOLDER
    python -m model.checkpoint verify CHECKPOINT
"""

import json
import re
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from base import storage
from base.errors import UserError, run_command
from base.progress import say
from model.config import GPTConfig

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
FETCHED_AGAIN = 2
NAME = re.compile(r"ep(\d+)-ba(\d+)")


class DamagedCheckpoint(UserError):
    """A file of the checkpoint is missing, or is not what the manifest says."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder, whole or not, local or in a bucket."""

    location: str
    epoch: int
    batch: int
    whole: bool
    bytes: int


def list_checkpoints(folder: str) -> list[Checkpoint]:
    """All checkpoint folders in ``folder``, oldest first; those without a manifest are marked as not whole."""
    files: dict[str, dict[str, int]] = {}
    for name, size in storage.list_files(folder).items():
        top, _, inner = name.partition("/")
        if NAME.fullmatch(top) and inner:
            files.setdefault(top, {})[inner] = size
    found = []
    for top, inside in files.items():
        epoch, batch = map(int, NAME.fullmatch(top).groups())  # type: ignore[union-attr]
        found.append(Checkpoint(storage.join(folder, top), epoch, batch, MANIFEST in inside, sum(inside.values())))
    return sorted(found, key=lambda checkpoint: checkpoint.batch)


def read_manifest(location: str) -> dict[str, Any]:
    """The manifest of one checkpoint. Raises DamagedCheckpoint when there is none or it cannot be read."""
    place = storage.join(location, MANIFEST)
    if not storage.exists(place):
        raise DamagedCheckpoint(f"{location}: no {MANIFEST}: not a checkpoint, or one whose writing was cut off")
    try:
        manifest = json.loads(storage.read_bytes(place))
        GPTConfig(**manifest["model"])
        _ = {name: (entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{place}: damaged: {error}") from error
    return manifest


def fetch(location: str, into: Path) -> dict[str, Any]:
    """Copy a checkpoint to a local folder, checking every file against the manifest; returns the manifest.

    A file that differs is fetched FETCHED_AGAIN times more from a bucket: it may have been altered on its way.

    Raises:
        DamagedCheckpoint: a file is missing or differs; the message names it.
    """
    manifest = read_manifest(location)
    for name, expected in manifest["files"].items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DamagedCheckpoint(f"{location}: the manifest names a file outside the checkpoint: {name}")
        for attempt in range(1 + FETCHED_AGAIN):
            try:
                _fetch_file(storage.join(location, name), into / name, expected)
                break
            except DamagedCheckpoint:
                if attempt == FETCHED_AGAIN or not storage.is_remote(location):
                    raise
    storage.download(storage.join(location, MANIFEST), into / MANIFEST)
    return manifest


def _fetch_file(source: str, target: Path, expected: dict[str, Any]) -> None:
    size = storage.size(source)
    if size != expected["size"]:
        there = "is missing" if size is None else f"has {size} bytes"
        raise DamagedCheckpoint(f"{source}: {there}; the manifest says {expected['size']} bytes")
    storage.download(source, target)
    if storage.sha256(target) != expected["sha256"]:
        raise DamagedCheckpoint(f"{source}: its sha256 is not the manifest's")


def resolve(location: str) -> str:
    """A checkpoint itself, or the newest whole one of a folder of checkpoints."""
    if storage.exists(storage.join(location, MANIFEST)):
        return location
    whole = [checkpoint for checkpoint in list_checkpoints(location) if checkpoint.whole]
    if not whole:
        raise UserError(f"{location}: neither a checkpoint nor a folder with a whole checkpoint in it")
    return whole[-1].location


def load_weights(folder: Path) -> tuple[GPTConfig, "dict[str, Tensor]"]:
    """Read the weights of a fetched checkpoint on the CPU, however many ranks wrote it.

    Returns:
        The shape, and the state dict of :class:`model.gpt.GPT` (fp32). Memory: one copy of the weights.
    """
    import torch
    from torch.distributed.checkpoint import FileSystemReader, load

    from model.gpt import GPT

    config = GPTConfig(**json.loads((folder / MANIFEST).read_bytes())["model"])
    weights = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype)
        for name, tensor in GPT(config, device="meta").state_dict().items()
    }
    nested = {"state": {"model": {f"gpt.{name}": tensor for name, tensor in weights.items()}}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # that is what no_dist asks for
        load(nested, storage_reader=FileSystemReader(folder), no_dist=True)
    return config, weights


def _list(folder: str) -> None:
    found = list_checkpoints(folder)
    if not found:
        raise UserError(f"{folder}: no checkpoints there")
    for checkpoint in found:
        state = "whole" if checkpoint.whole else "NOT WHOLE (no manifest)"
        print(f"{checkpoint.location}  batch {checkpoint.batch}  {checkpoint.bytes / 1e6:.1f} MB  {state}")


def _verify(location: str) -> None:
    location = resolve(location)
    with tempfile.TemporaryDirectory() as folder:
        manifest = fetch(location, Path(folder))
    say(f"{location}: whole; {len(manifest['files'])} files, sizes and hashes as in the manifest")


def main() -> None:
    commands = {"list": _list, "verify": _verify}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        raise UserError("usage: python -m model.checkpoint list FOLDER | verify CHECKPOINT")
    commands[sys.argv[1]](sys.argv[2])


if __name__ == "__main__":
    run_command(main)
