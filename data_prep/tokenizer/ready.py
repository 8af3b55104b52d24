"""A tokenizer that is there already, such as GPT-2's, to write shards with: read, checked, brought into our form."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

from base import storage
from base.errors import NotThere, UserError
from data_prep.tokenizer.training import END_OF_TEXT, byte_level, end_of_text

FORMS = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # the first that a folder has is read
LARGEST = 1 << 16  # entries: an id in a shard has 16 bits


@dataclass(frozen=True)
class Ready:
    """A tokenizer in the form in which ours is trained, and the sha256 of each file that it was read from."""

    tokenizer: Tokenizer
    files: dict[str, str]


def load_ready(place: str) -> Ready:
    """The tokenizer of a folder, local or ``s3://``. The same vocabulary and merges give the same tokenizer, from
    whichever files; what a file holds beside them (truncation, padding, tokens put around a text) is left behind.

    Raises:
        UserError: it is not there, or does not do as ours does; the message has all reasons.
    """
    files = read_files(place)
    if not files:
        raise NotThere(
            f"tokenizer.name: {place} holds neither tokenizer.json, nor vocab.json and merges.txt. It must be a "
            "folder, local or s3://; of a tokenizer on the Hugging Face hub, download these files into one"
        )
    theirs = built(place, files)
    if faults := _faults(theirs):
        raise UserError(f"tokenizer.name: {place}: shards cannot be written with it: {'; '.join(faults)}")
    model = _description(theirs)["model"]
    merges = [(left, right) for left, right in model["merges"]]
    ours = byte_level(models.BPE(vocab=model["vocab"], merges=merges))
    others = {id: token for id, token in theirs.get_added_tokens_decoder().items() if token.content != END_OF_TEXT}
    special = others | {theirs.token_to_id(END_OF_TEXT): end_of_text()}
    ours.add_special_tokens([token for _, token in sorted(special.items())])
    assert ours.get_vocab() == theirs.get_vocab()
    return Ready(ours, hashes(files))


def read_files(place: str) -> dict[str, bytes]:
    """The files of the first of FORMS that the folder has, by name; empty when it has none."""
    for form in FORMS:
        if all(storage.exists(storage.join(place, name)) for name in form):
            return {name: storage.read_bytes(storage.join(place, name)) for name in form}
    return {}


def hashes(files: dict[str, bytes]) -> dict[str, str]:
    """Name → sha256."""
    return {name: sha256(data).hexdigest() for name, data in files.items()}


def built(place: str, files: dict[str, bytes]) -> Tokenizer:
    """The tokenizer as these files have it; ``vocab.json`` and ``merges.txt`` alone are a byte-level BPE, as GPT-2's.

    Raises:
        UserError: they are damaged, or something else.
    """
    try:
        if "tokenizer.json" in files:
            return Tokenizer.from_str(files["tokenizer.json"].decode())
        lines = files["merges.txt"].decode().splitlines()
        merges = [(left, right) for left, right in (line.split(" ") for line in lines if line[:8] != "#version")]
        return byte_level(models.BPE(vocab=json.loads(files["vocab.json"]), merges=merges))
    except Exception as error:  # the library raises Exception itself
        raise UserError(f"{place}: {' and '.join(files)}: not a tokenizer: {error}") from None


def _faults(tokenizer: Tokenizer) -> list[str]:
    """Why shards cannot be written with it: what it would do otherwise than ours. Fast tokenising gives its ids, texts
    come back as they were, and long ones can be cut at a space, because it has this form."""
    whole = _description(tokenizer)
    model, cutting = whole["model"], whole["pre_tokenizer"] or {}
    ids, eos = tokenizer.get_vocab(), tokenizer.token_to_id(END_OF_TEXT)
    as_it_is = [
        token.content
        for token in tokenizer.get_added_tokens_decoder().values()
        if not token.special and token.content != END_OF_TEXT
    ]
    faults = {
        f"it has no {END_OF_TEXT}, which ends documents here, in training and in evaluation": eos is None,
        f"it has {len(ids):,} entries, and an id in a shard has 16 bits: {LARGEST:,} at most": len(ids) > LARGEST,
        f"its ids are not 0 to {len(ids) - 1:,}, each once": sorted(ids.values()) != list(range(len(ids))),
        f"it changes texts before it cuts them ({_type(whole['normalizer'])})": whole["normalizer"] is not None,
        f"it takes tokens out of a text before it cuts it into words, as {as_it_is[:1]}": bool(as_it_is),
        f"its model is {model['type']}, not a plain BPE": not _is_plain_bpe(model),
        f"it cuts words in another way than GPT-2 ({_type(cutting)})": not (
            _type(cutting) == "ByteLevel" and not cutting["add_prefix_space"] and cutting["use_regex"]
        ),
        "it is not byte-level: bytes are missing in its vocabulary": not set(pre_tokenizers.ByteLevel.alphabet())
        <= ids.keys(),
    }
    return [fault for fault, found in faults.items() if found]


def _is_plain_bpe(model: dict[str, Any]) -> bool:
    changes = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
    return model["type"] == "BPE" and not any(model.get(name) for name in changes)


def _type(part: dict[str, Any] | None) -> str:
    return part["type"] if part else "nothing"


def _description(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())
