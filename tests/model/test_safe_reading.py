"""A checkpoint with hostile pickles is refused by name and runs nothing; one of our own is read."""

import pickle
import struct
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from hostile import Calls, archive, change_metadata, put_item, saved, seal, touching
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from base.errors import UserError
from model.checkpoint import MANIFEST, fetch, load_weights
from model.config import GPTConfig
from model.gpt import GPT, initialize
from model.safe_reading import require_safe

WEIGHT = "state.model.gpt.wte.weight"
ALGORITHMS = "state.algorithms"
SHAPE = GPTConfig(vocab_size=280, max_seq_len=16, d_model=16, n_heads=2, n_layers=1)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What hostile checkpoints would make."""
    return tmp_path / "was-run"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """With all kinds of things that Composer saves."""
    model = GPT(SHAPE)
    initialize(model, seed=5)
    folder = tmp_path / "ep0-ba7"
    state = {
        "model": {f"gpt.{name}": tensor for name, tensor in model.state_dict().items()},
        "algorithms": [],
        "run_name": "own",
        "lr": 1e-3,
        "betas": (0.9, 0.95),
        "wct": timedelta(seconds=3),
        "torch_version": torch.__version__,
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    random = {"numpy": np.random.RandomState(3).get_state(), "torch": torch.get_rng_state()}
    dcp.save({"state": state, "rng": [random]}, checkpoint_id=folder, no_dist=True)
    files = {file.name: {"size": 0, "sha256": ""} for file in folder.iterdir()}
    (folder / MANIFEST).write_text(
        f'{{"format": 1, "epoch": 0, "batch": 7, "model": {SHAPE.to_dict()}, "files": {files}}}'
        .replace("'", '"').replace("True", "true").replace("False", "false")
    )  # fmt: skip
    seal(folder)
    return folder


def refuses(folder: Path, tmp_path: Path, mark: Path, weights_too: bool = True) -> str:
    """The message. The checkpoint is whole to :func:`fetch`; nothing that it says was done."""
    fetch(str(folder), tmp_path / "fetched")
    with pytest.raises(UserError) as error:
        require_safe(tmp_path / "fetched")
    if weights_too:
        with pytest.raises(UserError):
            load_weights(tmp_path / "fetched")
    assert not mark.exists()
    return str(error.value)


def test_what_a_run_saves_is_read(checkpoint):
    require_safe(checkpoint)
    again = GPT(SHAPE)
    initialize(again, seed=5)
    _, weights = load_weights(checkpoint)
    assert all(tensor.equal(weights[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize("name", touching(Path()))
@pytest.mark.parametrize("where", ["instead", "nested", "as a key", "in a field"])
def test_a_call_in_the_metadata_is_refused_by_name(checkpoint, tmp_path, mark, name, where):
    call = touching(mark)[name]

    def change(metadata: Any) -> Any:
        if where == "instead":
            return call
        if where == "nested":
            metadata.planner_data = {"a": [{"b": (call,)}]}
        elif where == "as a key":
            metadata.planner_data = {Calls(tuple, (call,)): 1}
        else:
            next(iter(metadata.storage_data.values())).offset = call
        return metadata

    change_metadata(checkpoint, change)
    message = refuses(checkpoint, tmp_path, mark)
    assert "/.metadata: asks for " in message and (f".{name};" in message or where == "as a key")


@pytest.mark.parametrize("item", [WEIGHT, ALGORITHMS, "rng.0.numpy", "state.another"])
@pytest.mark.parametrize("name", touching(Path()))
def test_a_call_in_an_item_is_refused_by_name(checkpoint, tmp_path, mark, item, name):
    put_item(checkpoint, item, saved({"a": [touching(mark)[name]]}))
    message = refuses(checkpoint, tmp_path, mark, weights_too=item == WEIGHT)
    assert f"__0_0.distcp: {item}: asks for " in message and f".{name};" in message


def test_weights_are_read_beside_a_call_that_is_never_reached(checkpoint, mark):
    put_item(checkpoint, "state.another", saved(touching(mark)["system"]))
    load_weights(checkpoint)
    assert not mark.exists()


def test_a_weight_that_is_no_tensor_is_not_unpickled(checkpoint, tmp_path, mark):
    put_item(checkpoint, WEIGHT, saved(touching(mark)["system"]))
    change_metadata(checkpoint, lambda metadata: metadata.state_dict_metadata.update({WEIGHT: BytesStorageMetadata()}))
    refuses(checkpoint, tmp_path, mark)
    with pytest.raises(UserError, match="is no tensor"):
        load_weights(checkpoint)


def test_text_that_composer_would_evaluate_is_refused(checkpoint, tmp_path, mark):
    """A list and strings, which any safe reader of pickles takes; Composer makes Python of them."""
    text = f"BlurPool() if __import__('os').system('touch {mark}') else 0"
    put_item(checkpoint, ALGORITHMS, saved([("BlurPool", {"repr": text})]))
    assert "evaluating their text" in refuses(checkpoint, tmp_path, mark, weights_too=False)


@pytest.mark.parametrize("path", ["../outside.distcp", "/outside.distcp", "unlisted.distcp", "sub/x.distcp", ""])
def test_an_item_outside_the_checkpoint_is_refused(checkpoint, tmp_path, mark, path):
    def change(metadata: Any) -> None:
        next(iter(metadata.storage_data.values())).relative_path = path

    (checkpoint / "unlisted.distcp").write_bytes(b"x" * 10_000)
    change_metadata(checkpoint, change)
    assert "no file of this checkpoint" in refuses(checkpoint, tmp_path, mark)


@pytest.mark.parametrize("change", [{"offset": -1}, {"length": 1 << 40}, {"length": -5}, {"offset": 1 << 40}])
def test_an_item_beyond_its_file_is_refused(checkpoint, tmp_path, mark, change):
    change_metadata(checkpoint, lambda metadata: vars(next(iter(metadata.storage_data.values()))).update(change))
    assert "does not lie within" in refuses(checkpoint, tmp_path, mark)


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", pickle.dumps({}), pickle.dumps([1] * 9), b"(" * 99])
def test_garbage_for_metadata_is_refused(checkpoint, tmp_path, mark, content):
    (checkpoint / ".metadata").write_bytes(content)
    seal(checkpoint)
    refuses(checkpoint, tmp_path, mark)


GARBAGE = {
    "nothing": b"",
    "noise": bytes(range(256)) * 8,
    "an older format": pickle.dumps(0),
    "half an archive": saved([1])[:200],
    "a bomb": archive(pickle.dumps(bytes(1 << 26)), zipfile.ZIP_DEFLATED),
    "a program": archive(pickle.dumps([]), extra="constants.pkl"),
    "no pickle": archive(b"xyz"),
}


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("item", [WEIGHT, ALGORITHMS])
def test_garbage_for_an_item_is_refused(checkpoint, tmp_path, mark, what, item):
    put_item(checkpoint, item, GARBAGE[what])
    message = refuses(checkpoint, tmp_path, mark, weights_too=item == WEIGHT)
    assert f"__0_0.distcp: {item}: " in message


def global_(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


UINT32 = global_("numpy", "dtype") + b"(" + text("u4") + b"\x89\x88tR"
STATE = b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
HAS_OBJECTS = b"K\x01t"
DISGUISED = {
    # What numpy would take for pointers.
    "objects": UINT32.replace(b"u4", b"O8") + STATE + b"K\x00tb",
    "a dtype that says it holds objects": UINT32 + STATE + HAS_OBJECTS + b"b",
    "two states": UINT32 + (STATE + b"K\x00tb") * 2,
    "a class that is changed": global_("numpy", "dtype") + b"(N}" + text("__setstate__") + b"Nst" + b"b",
    "an encoding": global_("_codecs", "encode") + b"(" + text("x") + text("rot13") + b"tR",
    "an array of another kind": global_("numpy._core.multiarray", "_reconstruct")
    + b"("
    + global_("datetime", "timedelta")
    + b"K\x00tR",
}


@pytest.mark.parametrize("what", DISGUISED)
def test_known_names_are_taken_in_their_known_use_alone(checkpoint, tmp_path, mark, what):
    put_item(checkpoint, "rng.0.numpy", archive(b"\x80\x02" + DISGUISED[what] + b"."))
    assert "rng.0.numpy: " in refuses(checkpoint, tmp_path, mark, weights_too=False)


def test_a_class_of_the_metadata_cannot_be_changed(checkpoint, tmp_path, mark):
    """``MetadataIndex.__eq__`` = something else: then what was checked is not what is looked up."""
    module = "torch.distributed.checkpoint.metadata"
    changed = global_(module, "MetadataIndex") + b"(N}" + text("__eq__") + global_("pathlib", "PosixPath") + b"stb0"
    (checkpoint / ".metadata").write_bytes(b"\x80\x02" + changed + (checkpoint / ".metadata").read_bytes()[2:])
    seal(checkpoint)
    refuses(checkpoint, tmp_path, mark)


def test_items_that_are_packed_in_another_way_are_refused(checkpoint, tmp_path, mark):
    def change(metadata: Any) -> None:
        next(iter(metadata.storage_data.values())).transform_descriptors = ["zstd"]

    change_metadata(checkpoint, change)
    assert "not ours" in refuses(checkpoint, tmp_path, mark)


def test_the_hostile_checkpoints_of_these_tests_do_run_when_nobody_looks(checkpoint, mark):
    for call in touching(mark).values():
        pickle.loads(pickle.dumps(call))  # noqa: S301
        mark.unlink()
    put_item(checkpoint, "state.another", saved(touching(mark)["system"]))
    dcp.load({"state": {"another": 0}}, checkpoint_id=checkpoint, no_dist=True)
    assert mark.exists()
