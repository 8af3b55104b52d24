"""A checkpoint is whole or refused; an export gives the checkpoint's logits in transformers."""

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from base import storage
from base.errors import UserError
from benchmarks.faulty_proxy import faulty_proxy
from data_prep.tokenizer.training import train, write_tokenizer
from model.checkpoint import (
    MANIFEST,
    DamagedCheckpoint,
    fetch,
    list_checkpoints,
    load_weights,
    read_manifest,
    resolve,
    write_manifest,
)
from model.config import GPTConfig
from model.export import export_huggingface
from model.generate import continuation
from model.gpt import GPT, initialize


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint as a run writes it: Composer's layout, the tokenizer, the manifest."""
    folder = tmp_path_factory.mktemp("run") / "ep0-ba7"
    tokenizer = train(iter([["a dose was given to a patient"] * 5]), 280, 2)
    config = GPTConfig(
        vocab_size=tokenizer.get_vocab_size(), max_seq_len=32, d_model=32, n_heads=2, n_layers=3, initializer_range=0.3
    )
    model = GPT(config)
    initialize(model, seed=5)
    state = {"state": {"model": {f"gpt.{name}": tensor for name, tensor in model.state_dict().items()}}}
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    write_tokenizer(tokenizer, folder, 32)
    files = {
        file.name: {"size": file.stat().st_size, "sha256": storage.sha256(file)} for file in sorted(folder.iterdir())
    }
    manifest = {"format": 1, "epoch": 0, "batch": 7, "token": 700, "model": config.to_dict(), "files": files}
    write_manifest(str(folder), manifest)
    return folder


@pytest.fixture
def copied(checkpoint, tmp_path) -> Path:
    folder = tmp_path / "copied" / checkpoint.name
    fetch(str(checkpoint), folder)
    return folder


def test_weights_come_back_as_they_were_saved(checkpoint):
    config, weights = load_weights(checkpoint)
    again = GPT(config)
    initialize(again, seed=5)
    assert all(tensor.equal(weights[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "removed"])
def test_every_damaged_file_is_found_and_named(copied, tmp_path, harm):
    for name in read_manifest(str(copied))["files"]:
        file = copied / name
        sound = file.read_bytes()
        if harm == "removed":
            file.unlink()
        else:
            middle = len(sound) // 2
            flipped = sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :]
            file.write_bytes({"cut": sound[:-1], "emptied": b"", "flipped": flipped}[harm])
        with pytest.raises(DamagedCheckpoint, match=f"/{name}: "):
            fetch(str(copied), tmp_path / "into")
        file.write_bytes(sound)


def test_a_file_that_was_altered_on_its_way_is_fetched_again_and_one_that_stays_wrong_is_damaged(
    checkpoint, tmp_path, s3, monkeypatch
):
    """From a store that tells nothing of its objects, so that the manifest alone is left."""
    for file in checkpoint.iterdir():
        storage.upload(file, s3.location("fetch", file.name))
    files = read_manifest(s3.location("fetch"))["files"]
    fetched, seen = storage.download, set()
    monkeypatch.setattr(storage, "require_same", lambda *_: None)
    with faulty_proxy(s3.endpoint, rate=0.0, seed=1, kinds=["wrong"]) as proxy:
        monkeypatch.setenv("S3_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        storage._client.cache_clear()

        def download(location: str, path: Path) -> None:
            proxy.rate = float(location not in seen and not location.endswith(MANIFEST))  # each file once
            seen.add(location)
            fetched(location, path)

        monkeypatch.setattr(storage, "download", download)
        fetch(s3.location("fetch"), tmp_path / "once")
        assert all(storage.sha256(tmp_path / "once" / name) == entry["sha256"] for name, entry in files.items())
        assert proxy.counts["wrong"] == len(files)

        monkeypatch.setattr(storage, "download", fetched)
        proxy.rate = 0.0
        name = next(iter(files))
        storage.write_bytes(s3.location("fetch", name), bytes(files[name]["size"]))
        with pytest.raises(DamagedCheckpoint, match=f"{name}: its sha256"):
            fetch(s3.location("fetch"), tmp_path / "damaged")
    storage._client.cache_clear()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"files": {}, "model": {"d_model": 3}}', "not json"])
def test_a_damaged_manifest_is_refused(copied, tmp_path, content):
    (copied / MANIFEST).write_text(content)
    with pytest.raises(DamagedCheckpoint):
        fetch(str(copied), tmp_path / "into")


def test_a_manifest_cannot_write_outside_the_folder(copied, tmp_path):
    manifest = read_manifest(str(copied))
    manifest["files"]["../outside"] = {"size": 1, "sha256": "x"}
    write_manifest(str(copied), manifest)
    with pytest.raises(DamagedCheckpoint, match="outside"):
        fetch(str(copied), tmp_path / "into")


def test_a_folder_without_manifest_is_not_a_checkpoint(copied):
    assert resolve(str(copied.parent)) == str(copied)
    (copied / MANIFEST).unlink()
    assert [found.whole for found in list_checkpoints(str(copied.parent))] == [False]
    with pytest.raises(UserError, match="neither a checkpoint nor"):
        resolve(str(copied.parent))


def test_the_export_gives_the_logits_of_the_checkpoint_in_transformers(checkpoint, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record = export_huggingface(str(checkpoint.parent), tmp_path / "exported")
    assert record["batch"] == 7 and record["max_logit_difference"] < 1e-4
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported", attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    ids = tokenizer("a dose was given", return_tensors="pt").input_ids
    config, weights = load_weights(checkpoint)
    ours = GPT(config).eval()
    ours.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(exported(ids).logits, ours(ids), atol=1e-4, rtol=0)
    assert tokenizer.decode(ids[0]) == "a dose was given"
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "4.42" in card and "5.3" in card and 'attn_implementation="eager"' in card


def test_an_export_never_overwrites_and_leaves_nothing_when_it_fails(checkpoint, copied, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        export_huggingface(str(checkpoint), tmp_path / "taken")
    (copied / "tokenizer.json").write_text("damaged")
    with pytest.raises(DamagedCheckpoint):
        export_huggingface(str(copied), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "copied"}


def test_the_export_continues_a_text_as_the_checkpoint_does(checkpoint, tmp_path):
    export_huggingface(str(checkpoint), tmp_path / "exported")
    texts = [continuation(str(place), "a dose", 8, 0.0, 1) for place in (checkpoint, tmp_path / "exported")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_export_is_a_clear_error_that_names_the_folder(checkpoint, tmp_path, name):
    export_huggingface(str(checkpoint), tmp_path / "exported")
    file = tmp_path / "exported" / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="exported"):
        continuation(str(tmp_path / "exported"), "a dose", 1, 0.0, 1)
