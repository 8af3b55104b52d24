"""Checkpoints that would touch a file when they are loaded, with a manifest that fits."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from base import storage
from model.checkpoint import MANIFEST, write_manifest


class Calls:
    """Pickled, it is a call of ``function`` to whoever reads it."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def touching(mark: Path) -> dict[str, Calls]:
    """Ways to touch ``mark``, by name."""
    return {
        "system": Calls(os.system, f"touch {mark}"),
        "exec": Calls(exec, f"open({str(mark)!r}, 'w')"),
        "copyfile": Calls(shutil.copyfile, os.devnull, str(mark)),
    }


def saved(thing: Any) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


def archive(pickled: bytes, compression: int = zipfile.ZIP_STORED, extra: str | None = None) -> bytes:
    """As ``torch.save`` writes it, around any pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as packed:
        for name, content in {"data.pkl": pickled, "version": b"3\n", **({extra: b""} if extra else {})}.items():
            packed.writestr(f"archive/{name}", content)
    return file.getvalue()


def change_metadata(folder: Path, change: Callable[[Metadata], Any]) -> None:
    """Write what ``change`` makes of the metadata, or the metadata that it has changed."""
    place = folder / ".metadata"
    metadata = pickle.loads(place.read_bytes())  # noqa: S301 (written by this test)
    place.write_bytes(pickle.dumps(change(metadata) or metadata))
    seal(folder)


def put_item(folder: Path, name: str, content: bytes) -> None:
    """Put other bytes in the place of an item, tensor or not; a new one is no tensor."""
    file = next(folder.glob("*.distcp"))
    offset = file.stat().st_size
    with file.open("ab") as out:
        out.write(content)

    def point(metadata: Metadata) -> None:
        [index] = [one for one in metadata.storage_data if one.fqn == name] or [None]
        if index is None:
            index = type(next(iter(metadata.storage_data)))(name)
            metadata.state_dict_metadata[name] = BytesStorageMetadata()
        kind = type(next(iter(metadata.storage_data.values())))
        metadata.storage_data[index] = kind(file.name, offset, len(content))

    change_metadata(folder, point)


def seal(folder: Path) -> None:
    """Make the manifest fit the files."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop("sha256", None)
    for name in manifest["files"]:
        manifest["files"][name] = {"size": (folder / name).stat().st_size, "sha256": storage.sha256(folder / name)}
    write_manifest(str(folder), manifest)
