"""An id leads to its document, its tokens, or the reason why it was dropped."""

import subprocess
import sys
from pathlib import Path

import pytest
from made import documents, dropped, prepare

from base import storage
from base.errors import UserError
from base.local_s3 import LocalS3
from data_prep.trace import describe, text_of, trace


@pytest.fixture(scope="module", params=["eos", "best_fit"])
def out(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    prepare("sample", folder, f"shards.packing={request.param}", "shards.size_limit=65536")
    return folder


def test_every_document_is_traced_and_its_tokens_decode_to_its_text(out: Path) -> None:
    rows = documents(out)
    found = trace(str(out), list(rows))
    whole = 0
    for name, row in rows.items():
        (document,) = found[name].documents
        assert document["sha256"] == row["sha256"] and (out / document["file"]).is_file()
        if name in list(rows)[:25]:
            text = text_of(str(out), found[name].pieces)
            assert row["text"].startswith(text)  # the end of two may lie in the dropped tails
            whole += text == row["text"]
    assert whole >= 23


def test_a_dropped_record_is_told_with_its_reason(out: Path) -> None:
    name, reason = next(item for item in dropped(out).items() if item[1] == "title_only")
    found = trace(str(out), [name])[name]
    assert found.dropped[0]["reason"] == reason and not found.documents and not found.pieces
    assert "title_only, from " in describe(name, found)


def test_the_command_says_what_is_unknown(out: Path, tmp_path: Path) -> None:
    name = next(iter(documents(out)))
    ids = tmp_path / "ids.txt"
    ids.write_text(f"{name}\n\npmid:77777777\n")
    command = [sys.executable, "-m", "data_prep.trace", str(out), "--file", str(ids)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and "pmid:77777777: unknown" in run.stdout and "mds/" in run.stdout, run.stderr
    run = subprocess.run([*command[:4], name], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.startswith(f"{name}\n  document  documents/")
    with pytest.raises(UserError, match="pmid:123"):
        trace(str(out), ["123"])


@pytest.mark.slow
def test_a_bucket_is_searched_in_place(out: Path, s3: LocalS3) -> None:
    place = s3.location("traced", out.name)
    for name in storage.list_files(str(out)):
        if not name.startswith("work/"):
            storage.upload(out / name, storage.join(place, name))
    wanted = [*list(documents(out))[:5], *list(dropped(out))[:5]]
    local, there = trace(str(out), wanted), trace(place, wanted)
    assert [describe(name, there[name]) for name in wanted] == [describe(name, local[name]) for name in wanted]
    assert text_of(place, there[wanted[0]].pieces) == text_of(str(out), local[wanted[0]].pieces)
