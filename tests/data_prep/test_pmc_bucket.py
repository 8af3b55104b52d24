"""PMC's articles from a real S3 server with the layout of NLM's bucket, through a network that fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made import YAML
from made_pmc import BUCKET, REPORTS, Proxy, article, inventory, md5, members, objects, public_bucket, put

from base import storage
from base.errors import UserError
from base.local_s3 import LocalS3
from data_prep import pipeline
from data_prep.download import pmc_bucket
from data_prep.schema import Select

NUMBERS = range(60)
ROTATION = ("503", "reset", "cut", "wrong bytes", "503 now", "cut and reset")
FAST = ("executor.workers=1", "download.pmc.connections=8", "download.pmc.ids_per_container=150")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    with public_bucket(tmp_path_factory.mktemp("bucket")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        storage._client.cache_clear()
        there = objects(NUMBERS)
        put(server, "plain", {**there, **inventory(there, "2026-09-13")})
        yield server
    storage._client.cache_clear()


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"is_pmc_openaccess": True}, True), ({"is_pmc_openaccess": "true", "is_historical_ocr": "false"}, True),
        ({"is_pmc_openaccess": "false"}, False), ({"is_pmc_openaccess": True, "is_historical_ocr": "true"}, False),
        ({"is_pmc_openaccess": "no", "is_manuscript": "false"}, False), ({"is_pmc_openaccess": 1}, True),
        ({"is_pmc_openaccess": True, "license_code": ["CC BY"]}, False), ({}, False),
    ],
)  # fmt: skip
def test_yes_and_no_may_be_words(more: dict[str, Any], wanted: bool) -> None:
    assert pmc_bucket.wanted({"license_code": "CC BY", **more}, Select(manuscripts=True)) is wanted


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, server: LocalS3) -> None:
    """Short pauses; and the environment's keys are useless, so that all reading is anonymous."""
    monkeypatch.setattr(pmc_bucket, "FIRST_PAUSE", 0.01)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_ENDPOINT_URL"):
        monkeypatch.setenv(name, server.environment[name])


@pytest.fixture
def proxy(server: LocalS3) -> Iterator[Proxy]:
    with Proxy(server.endpoint) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        yield proxy
        proxy.shutdown()


def settings(out: Path, endpoint: str, prefix: str = "plain") -> list[str]:
    return [
        "pubmed=null", "pmc=pmc-oa", "tokenizer.train_on=[pmc]", f"out={out}", f"download.pmc.endpoint={endpoint}",
        f"download.pmc.bucket=s3://{BUCKET}/{prefix}", *FAST,
    ]  # fmt: skip


def download(out: Path, endpoint: str, *arguments: str, prefix: str = "plain") -> dict[str, Any]:
    """Run the stage; returns its summary."""
    pipeline.run(YAML, [*settings(out, endpoint, prefix), *arguments, "download"])
    return json.loads((out / "work" / "done" / "download.json").read_text())["summary"]["pmc"]


def containers(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "work" / "download" / "pmc").glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def whole(server: LocalS3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run makes of the bucket "plain"."""
    out = tmp_path_factory.mktemp("whole")
    download(out, server.endpoint)
    return out


def test_containers_hold_all_metadata_and_the_permitted_texts_in_order(whole: Path) -> None:
    there = objects(NUMBERS)
    expected: dict[str, bytes] = {}
    for number in NUMBERS:
        for version in (1, 2) if number % 20 == 3 else (1,):
            name, metadata, xml = article(number, version=version)
            expected[f"{name}.json"] = there[f"metadata/{name}.json"]
            if metadata["license_code"] in ("CC BY", "CC0", "CC BY 4.0") and not metadata["is_historical_ocr"]:
                expected[f"{name}.xml"] = xml
    folder = whole / "work" / "download" / "pmc"
    found = {path.name: members(path) for path in sorted(folder.glob("*.tar.gz"))}
    assert list(found) == ["pmc-00006.tar.gz", "pmc-00007.tar.gz", "pmc-00008.tar.gz", "pmc-00009.tar.gz"]
    assert [item for one in found.values() for item in one.items()] == list(expected.items())
    assert all(int(member[3:7]) // 150 == int(name[4:9]) for name, one in found.items() for member in one)
    summary = json.loads((whole / "work" / "done" / "download.json").read_text())["summary"]["pmc"]
    texts = sum(name.endswith(".xml") for name in expected)
    assert summary["articles"] == 63 and summary["fetched"] == texts and summary["not_wanted"] == 63 - texts
    assert summary["requests"] == 63 + texts and summary["containers"] == 4
    assert summary["inventory_sha256"] == storage.sha256(whole / "work" / "download" / "pmc-inventory.csv")


def test_no_trouble_on_the_way_changes_a_byte(whole: Path, proxy: Proxy, tmp_path: Path) -> None:
    # Every object meets each trouble in turn; where it begins depends on the object.
    proxy.trouble = lambda path, before: ROTATION[sum(path.encode()) % 4 + before] if before < 3 else ""
    summary = download(tmp_path, proxy.url)
    assert containers(tmp_path) == containers(whole)
    assert summary["retries"] > 250 and summary["changed"] == summary["gone"] == 0


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(whole: Path, server: LocalS3, tmp_path: Path) -> None:
    assert download(tmp_path, server.endpoint, "executor.workers=2")["articles"] == 63
    assert containers(tmp_path) == containers(whole)


def test_what_cannot_be_had_ends_the_run_and_the_next_one_makes_only_the_rest(
    whole: Path, proxy: Proxy, tmp_path: Path
) -> None:
    bad = article(43)[0]  # the third container's
    proxy.trouble = lambda path, before: "503" if path.endswith(f"metadata/{bad}.json") else ""
    with pytest.raises(UserError, match=rf"metadata/{bad}\.json: HTTP 503 SlowDown \(tried 3 times\); run the same"):
        download(tmp_path, proxy.url, "download.pmc.attempts=3")
    assert list(containers(tmp_path)) == ["pmc-00006.tar.gz", "pmc-00007.tar.gz"]
    assert not list((tmp_path / "work" / "download" / "pmc").glob(".*"))
    proxy.trouble = lambda path, before: ""
    proxy.log.clear()
    download(tmp_path, proxy.url)
    asked = {int(path.rpartition("PMC")[2].split(".")[0]) // 150 for path in proxy.log}
    assert asked == {8, 9} and containers(tmp_path) == containers(whole)
    proxy.trouble = lambda path, before: "403"
    shutil.rmtree(tmp_path / "work" / "download" / "pmc")
    with pytest.raises(UserError, match=r"AccessDenied: No.; check download.pmc"):
        download(tmp_path, proxy.url)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(whole: Path, proxy: Proxy, tmp_path: Path) -> None:
    proxy.trouble = lambda path, before: "slow"
    command = [sys.executable, "-m", "data_prep", YAML, *settings(tmp_path, proxy.url), "download"]
    for done in (1, 2):
        run = subprocess.Popen([*command, "executor.workers=2"], stderr=subprocess.DEVNULL)
        while len(containers(tmp_path)) < done:
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
    time.sleep(0.2)  # until the workers have met their end
    assert (tmp_path / "work" / "done" / "download.json").exists() is False
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert containers(tmp_path) == containers(whole)
    assert not list((tmp_path / "work" / "download" / "pmc").glob(".*"))


def test_a_newer_inventory_asks_only_for_what_has_changed(server: LocalS3, proxy: Proxy, tmp_path: Path) -> None:
    there = objects(range(40))
    put(server, "grows", {**there, **inventory(there, "2026-09-13")})
    first = download(tmp_path, proxy.url, prefix="grows")
    new = objects(range(45))
    name, metadata, xml = article(7)
    for key in (f"metadata/{name}.json", f"{name}/{name}.json"):  # a retraction: the text stays
        new[key] = json.dumps({**metadata, "is_retracted": False, "title": "RETRACTED"}).encode()
    revised, metadata, xml = article(9)
    new[f"{revised}/{revised}.xml"] = xml = xml.replace(b"dose", b"DOSE")
    metadata["xml_url"] = metadata["xml_url"].partition("md5=")[0] + "md5=" + md5(xml)
    new[f"metadata/{revised}.json"] = json.dumps(metadata).encode()
    removed = article(2)[0]
    del new[f"metadata/{removed}.json"]
    put(server, "grows", {**new, **inventory(new, "2026-09-14")})
    proxy.log.clear()
    assert download(tmp_path, proxy.url, prefix="grows")["articles"] == first["articles"]  # still the frozen one
    assert proxy.log == []
    summary = download(tmp_path, proxy.url, "download.pmc.inventory=2026-09-14", prefix="grows")
    asked = [path.rpartition("/")[2] for path in proxy.log if "inventory-reports" not in path]
    fresh = [article(number) for number in range(40, 45)] + [article(43, version=2)]
    expected = [f"{name}.json", f"{revised}.json", f"{revised}.xml"]
    expected += [f"{name}.json" for name, _, _ in fresh]
    expected += [f"{name}.xml" for name, one, _ in fresh if one["license_code"] in ("CC BY", "CC0", "CC BY 4.0")]
    assert sorted(asked) == sorted(expected)
    assert summary["articles"] == first["articles"] + 6 - 1

    download(tmp_path / "fresh", server.endpoint, prefix="grows")
    assert containers(tmp_path) == containers(tmp_path / "fresh")


def test_a_wider_licence_asks_only_for_the_texts_that_it_adds(whole: Path, proxy: Proxy, tmp_path: Path) -> None:
    shutil.copytree(whole / "work", tmp_path / "work")
    download(tmp_path, proxy.url, "select.license=all", "select.manuscripts=true")
    kinds = {number % 10 for number in NUMBERS for path in proxy.log if f"/{article(number)[0]}.xml" in path}
    assert kinds == {2, 4, 6, 8} and not any("metadata" in path for path in proxy.log)
    download(tmp_path, proxy.url)
    assert containers(tmp_path) == containers(whole)


def test_a_damaged_container_is_mended_from_the_bucket(
    whole: Path, server: LocalS3, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole / "work", tmp_path / "work")
    place = tmp_path / "work" / "download" / "pmc" / "pmc-00007.tar.gz"
    place.write_bytes(place.read_bytes()[:-3000])
    download(tmp_path, server.endpoint)
    assert "pmc-00007.tar.gz: is damaged" in capfd.readouterr().err
    assert containers(tmp_path) == containers(whole)


def test_articles_that_are_not_to_be_had_are_noted_with_the_reason(
    server: LocalS3, proxy: Proxy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    there = objects(range(12))
    listing = inventory(there, "2026-09-13")
    no_json, no_xml, huge, replaced, broken, unnamed = (article(number)[0] for number in (0, 1, 3, 7, 9, 10))
    del there[f"metadata/{no_json}.json"], there[f"{no_xml}/{no_xml}.xml"]
    there[f"metadata/{replaced}.json"] += b" "  # after the inventory was made
    there[f"metadata/{broken}.json"] = b"{half"
    there[f"metadata/{unnamed}.json"] = json.dumps({**article(10)[1], "xml_url": None}).encode()
    put(server, "holes", {**there, **listing})
    proxy.trouble = lambda path, before: "huge" if path.endswith(f"{huge}.xml") else ""
    summary = download(tmp_path, proxy.url, "download.pmc.ids_per_container=2000", prefix="holes")
    found = members(tmp_path / "work" / "download" / "pmc" / "pmc-00000.tar.gz")
    noted = {name: json.loads(data) for name, data in found.items() if name.endswith(".json") and b'"error"' in data}
    assert {name[:-5]: (note["error"], note["pmcid"], note["version"]) for name, note in noted.items()} == {
        no_json: ("gone", no_json.split(".")[0], 1), no_xml: ("gone", no_xml.split(".")[0], 1),
        huge: ("too_large", huge.split(".")[0], 1), broken: ("malformed", broken.split(".")[0], 1),
    }  # fmt: skip
    assert noted[f"{no_xml}.json"]["license_code"] == "CC0"
    assert found[f"{replaced}.json"] == there[f"metadata/{replaced}.json"] and f"{replaced}.xml" in found
    assert f"{unnamed}.xml" not in found
    outcomes = ("fetched", "not_wanted", "without_xml", "gone", "too_large", "malformed")
    assert [summary[name] for name in outcomes] == [3, 5, 1, 2, 1, 1]
    assert sum(summary[name] for name in outcomes) == summary["articles"] and summary["changed"] == 3
    told = capfd.readouterr().err
    assert "2 PMC article(s) are listed in the inventory but no longer in the bucket" in told


def test_the_newest_inventory_with_a_manifest_is_taken(server: LocalS3, tmp_path: Path) -> None:
    there = objects(range(5))
    older, newer = inventory(there, "2026-09-12"), inventory(objects(range(4)), "2026-09-13")
    put(server, "dates", {**there, **older, **newer, f"{REPORTS}/metadata/2026-09-14T01-00Z/manifest.checksum": b"x"})
    put(server, "dates", {f"{REPORTS}/metadata/hive/dt=2026-09-15-01-00/symlink.txt": b"x"})
    assert download(tmp_path / "newest", server.endpoint, prefix="dates")["articles"] == 5
    date = download(tmp_path / "date", server.endpoint, "download.pmc.inventory=2026-09-12", prefix="dates")
    assert date["articles"] == 6 and date["inventory"].endswith("2026-09-12T01-00Z/manifest.json")
    with pytest.raises(UserError, match=r"inventory=2026-08-01: there is none below .* 30 days"):
        download(tmp_path / "none", server.endpoint, "download.pmc.inventory=2026-08-01", prefix="dates")


def test_a_kept_inventory_gives_the_same_population(whole: Path, server: LocalS3, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for key, data in inventory(objects(NUMBERS), "2026-09-13").items():
        (kept / key.rpartition("/")[2]).write_bytes(data)
    frozen = whole / "work" / "download" / "pmc-inventory.csv"
    for index, place in enumerate((kept / "manifest.json", frozen)):
        out = tmp_path / str(index)
        download(out, server.endpoint, f"download.pmc.inventory={place}")
        assert (out / "work" / "download" / "pmc-inventory.csv").read_bytes() == frozen.read_bytes()
        assert containers(out) == containers(whole)
    part = next(kept.glob("*.csv.gz"))
    part.write_bytes(part.read_bytes() + b"more")
    with pytest.raises(UserError, match="does not fit its MD5checksum"):
        download(tmp_path / "2", server.endpoint, f"download.pmc.inventory={kept / 'manifest.json'}")
    (kept / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="is no manifest of an S3 inventory"):
        download(tmp_path / "2", server.endpoint, f"download.pmc.inventory={kept / 'manifest.json'}")


def test_a_changed_frozen_inventory_is_refused(whole: Path, server: LocalS3, tmp_path: Path) -> None:
    shutil.copytree(whole / "work", tmp_path / "work")
    with open(tmp_path / "work" / "download" / "pmc-inventory.csv", "a") as file:
        file.write("metadata/PMC9999.1.json,0\n")
    with pytest.raises(UserError, match="is not what it was when it was frozen"):
        download(tmp_path, server.endpoint)


def test_a_first_few_are_what_the_whole_begins_with(whole: Path, server: LocalS3, tmp_path: Path) -> None:
    assert download(tmp_path, server.endpoint, "download.pmc.articles=30")["articles"] == 30
    assert set(containers(tmp_path).items()) < {*containers(whole).items(), *containers(tmp_path).items()}
    assert containers(tmp_path)["pmc-00006.tar.gz"] == containers(whole)["pmc-00006.tar.gz"]
    download(tmp_path, server.endpoint)
    assert containers(tmp_path) == containers(whole)
    with pytest.raises(UserError, match=r"pmc-0000\d.tar.gz.*: is not of the articles that are asked for now"):
        download(tmp_path, server.endpoint, "download.pmc.articles=30")
    assert containers(tmp_path) == containers(whole)


def test_credentials_are_used_when_asked_for(server: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three = ("download.pmc.articles=3", "download.pmc.anonymous=false")
    assert download(tmp_path, server.endpoint, *three)["articles"] == 3
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match="SignatureDoesNotMatch"):
        download(tmp_path / "other", server.endpoint, *three)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match=r"no credentials; set them, or download\.pmc\.anonymous=true"):
        download(tmp_path / "other", server.endpoint, *three)
