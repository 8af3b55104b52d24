"""NLM's bucket as it is today, from its inventory to shards that were read back: one command against a real server."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from made import SMALL, YAML, content, documents, dropped, ledger
from made_articles import long
from made_pmc import BUCKET, article, inventory, md5, public_bucket, put

from base import storage
from base.local_s3 import LocalS3
from data_prep import pipeline
from data_prep.download import pmc_bucket

NUMBERS = range(40)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalS3]:
    with public_bucket(tmp_path / "bucket") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(pmc_bucket, "FIRST_PAUSE", 0.01)
        storage._client.cache_clear()
        there = {}
        for number in NUMBERS:
            for version in versions(number):
                name, metadata, _ = article(number, version=version)
                there[f"{name}/{name}.xml"] = xml = long(int(metadata["pmcid"][3:])).encode()
                metadata["xml_url"] = f"s3://{BUCKET}/{name}/{name}.xml?md5={md5(xml)}"
                there[f"metadata/{name}.json"] = json.dumps(metadata).encode()
        put(server, "today", {**there, **inventory(there, "2026-09-13")})
        yield server
    storage._client.cache_clear()


def versions(number: int) -> tuple[int, ...]:
    return (1, 2) if number % 20 == 3 else (1,)


def prepare(server: LocalS3, out: Path, *arguments: str) -> None:
    settings = [
        "pubmed=null", "pmc=pmc-oa", "tokenizer.train_on=[pmc]", f"out={out}", "download.pmc.connections=8",
        f"download.pmc.endpoint={server.endpoint}", f"download.pmc.bucket=s3://{BUCKET}/today",
        "download.pmc.ids_per_container=100",
    ]  # fmt: skip
    pipeline.run(YAML, [*SMALL, *settings, *arguments])


@pytest.mark.slow
def test_every_listed_version_ends_in_out_or_with_its_reason(server: LocalS3, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(server, out)
    expected: Counter[str] = Counter()
    kept = {}
    for number in NUMBERS:
        newest = versions(number)[-1]
        expected["older_version"] += newest - 1
        _, metadata, _ = article(number, version=newest)
        if metadata["is_retracted"]:
            expected["retracted"] += 1
        elif metadata["is_historical_ocr"]:
            expected["historical_ocr"] += 1
        elif metadata["is_manuscript"]:
            expected["manuscript"] += 1
        elif metadata["license_code"] not in ("CC BY", "CC0", "CC BY 4.0"):
            expected["license"] += 1
        else:
            kept[f"pmcid:{metadata['pmcid']}"] = (newest, metadata["license_code"].removesuffix(" 4.0"))
    assert ledger(out)["total"]["dropped"] == dict(expected)
    assert {name: (row["version"], row["license"]) for name, row in documents(out).items()} == kept
    assert Counter(dropped(out).values()) == expected

    first = content(out)
    prepare(server, out)
    assert content(out) == first
    prepare(server, out, "select.license=all", "select.manuscripts=true")  # fetches what was not wanted before
    assert set(ledger(out)["total"]["dropped"]) == {"older_version", "retracted", "historical_ocr"}
