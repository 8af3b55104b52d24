"""Checkpoints as folders that are whole or not there: listing, verifying, fetching, reading the weights.

``FOLDER/epE-baB/`` holds Composer's sharded layout, the tokenizer, and ``manifest.json``: the model's shape and every
file with its size and sha256, and the sha256 of all that. It is written last; a folder without one is not a checkpoint.

    python -m model.checkpoint list FOLDER
    python -m model.checkpoint verify CHECKPOINT, or a folder of them
    python -m model.checkpoint prune FOLDER --keep 20 [--every 10_000_000_000tok] [--dry-run]
"""

import argparse
import hashlib
import json
import re
import tempfile
import warnings
from contextlib import suppress
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
SET_ASIDE = "manifest.set-aside.json"
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
    set_aside: bool = False


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
        whole, bytes = MANIFEST in inside, sum(inside.values())
        found.append(Checkpoint(storage.join(folder, top), epoch, batch, whole, bytes, SET_ASIDE in inside))
    return sorted(found, key=lambda checkpoint: checkpoint.batch)


def write_manifest(location: str, manifest: dict[str, Any]) -> None:
    """Make a checkpoint of the folder: what the manifest names is there."""
    sealed = {**manifest, "sha256": _digest(manifest)}
    storage.write_bytes(storage.join(location, MANIFEST), json.dumps(sealed, indent=1).encode())


def read_manifest(location: str) -> dict[str, Any]:
    """The manifest of one checkpoint. Raises DamagedCheckpoint when there is none or it is not as it was written."""
    place = storage.join(location, MANIFEST)
    if not storage.exists(place):
        raise DamagedCheckpoint(f"{location}: no {MANIFEST}: not a checkpoint, or one whose writing was cut off")
    try:
        manifest = json.loads(storage.read_bytes(place))
        if manifest.pop("sha256") != _digest(manifest):
            raise DamagedCheckpoint(f"{place}: damaged: its own sha256 is not the one in it")
        GPTConfig(**manifest["model"])
        _ = {name: (entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{place}: damaged: {error}") from error
    return manifest


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


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

    Raises:
        UserError: reading them could run code.
    """
    import torch
    from torch.distributed.checkpoint import FileSystemReader, load

    from model.gpt import GPT
    from model.safe_reading import require_safe_tensors

    config = GPTConfig(**json.loads((folder / MANIFEST).read_bytes())["model"])
    weights = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype)
        for name, tensor in GPT(config, device="meta").state_dict().items()
    }
    require_safe_tensors(folder, {f"state.model.gpt.{name}" for name in weights})
    nested = {"state": {"model": {f"gpt.{name}": tensor for name, tensor in weights.items()}}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # that is what no_dist asks for
        load(nested, storage_reader=FileSystemReader(folder), no_dist=True)
    return config, weights


def superfluous(tokens: dict[str, int], keep: int, every: int | None) -> list[str]:
    """Which whole checkpoints of a run may go: all but the last ``keep``, and the first after every so many tokens.

    Args:
        tokens: what each was trained on, by its place, oldest first.
        keep: how many of the newest stay, at least 1; -1 keeps all.
        every: tokens; None keeps no more.
    """
    if keep < 0:
        return []
    step, may_go = 0, []
    for place, trained in list(tokens.items())[:-keep]:
        if every is not None and trained // every > step:
            step = trained // every
        else:
            may_go.append(place)
    return may_go


def delete_checkpoint(location: str) -> None:
    """Delete the manifest first: what is left, should this be cut off, is no checkpoint any more."""
    storage.delete(storage.join(location, MANIFEST))
    for name in storage.list_files(location):
        storage.delete(storage.join(location, name))
    if not storage.is_remote(location):
        with suppress(OSError):
            Path(location).rmdir()


def set_aside(location: str) -> None:
    """Make it no checkpoint any more and keep every file: who knows better gives the manifest its name back."""
    storage.write_bytes(storage.join(location, SET_ASIDE), storage.read_bytes(storage.join(location, MANIFEST)))
    storage.delete(storage.join(location, MANIFEST))


def _list(folder: str) -> None:
    for checkpoint in _found(folder):
        print(_line(checkpoint))


def _verify(location: str) -> None:
    """One checkpoint, or every whole one of a folder. Raises UserError that names what is damaged."""
    one = storage.exists(storage.join(location, MANIFEST))
    places = [location] if one else [found.location for found in _found(location) if found.whole]
    damaged = []
    for place in places:
        with tempfile.TemporaryDirectory() as folder:
            try:
                manifest = fetch(place, Path(folder))
            except DamagedCheckpoint as error:
                damaged.append(str(error))
                continue
        say(f"{place}: whole; {len(manifest['files'])} files, sizes and hashes as in the manifest")
    if damaged or not places:
        raise UserError("\n  ".join(damaged) or f"{location}: no whole checkpoint there")


def _prune(folder: str, keep: int, every: int | None, dry_run: bool) -> None:
    """What is not whole stays: it may be on its way up, and a run that goes on removes what is not."""
    tokens: dict[str, int] = {}
    for checkpoint in _found(folder):
        try:
            tokens[checkpoint.location] = read_manifest(checkpoint.location)["token"]
        except DamagedCheckpoint:
            print(f"{_line(checkpoint)}: left as it is, and not counted")
    may_go = superfluous(tokens, keep, every)
    for place in tokens:
        print(f"{place}  {'kept' if place not in may_go else 'would be deleted' if dry_run else 'deleted'}")
        if place in may_go and not dry_run:
            delete_checkpoint(place)


def _found(folder: str) -> list[Checkpoint]:
    found = list_checkpoints(folder)
    if not found:
        raise UserError(f"{folder}: no checkpoints there")
    return found


def _line(checkpoint: Checkpoint) -> str:
    state = "whole" if checkpoint.whole else "set aside" if checkpoint.set_aside else "NOT WHOLE (no manifest)"
    return f"{checkpoint.location}  batch {checkpoint.batch}  {checkpoint.bytes / 1e6:.1f} MB  {state}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.checkpoint", description="Look after checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all there are, whole or not").add_argument("folder")
    verify = commands.add_parser("verify", help="fetch every file and compare its hash; nothing is kept")
    verify.add_argument("location", metavar="path", help="a checkpoint, or a folder of them")
    prune = commands.add_parser("prune", help="delete all but the newest, and one every so many tokens; verify first")
    prune.add_argument("folder")
    prune.add_argument("--keep", type=_at_least_one, required=True, help="so many of the newest")
    prune.add_argument("--every", type=_tokens, help="and the first after every so many, such as 10_000_000_000tok")
    prune.add_argument("--dry-run", action="store_true", help="tell what would go, delete nothing")
    arguments = parser.parse_args()
    if arguments.command == "list":
        _list(arguments.folder)
    elif arguments.command == "verify":
        _verify(arguments.location)
    else:
        _prune(arguments.folder, arguments.keep, arguments.every, arguments.dry_run)


def _at_least_one(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least the newest must stay")
    return int(text)


def _tokens(text: str) -> int:
    return _at_least_one(text.removesuffix("tok"))


if __name__ == "__main__":
    run_command(main)
