"""``python -m eval get`` against real HTTP servers with the layout of the hub and of GitHub's raw files."""

import csv
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import MayPass, UserError
from eval.get import main
from eval.hub_formats import medmcqa_json_lines, mmlu_csv
from eval.official_files import load_questions
from eval.sample_questions import write_sample_questions
from eval.tasks import TASKS, protocols

MEDQA = "/datasets/GBaker/MedQA-USMLE-4-options/resolve/main/phrases_no_exclude_test.jsonl"
MEDQA_TRAIN = MEDQA.replace("_test", "_train")
MEDMCQA = "/datasets/openlifescienceai/medmcqa/resolve/main/data/validation-00000-of-00001.parquet"
ANATOMY = "/datasets/cais/mmlu/resolve/main/anatomy/test-00000-of-00001.parquet"
PUBMEDQA = "/pubmedqa/pubmedqa/master/data/ori_pqal.json"
TRUTH = "/pubmedqa/pubmedqa/master/data/test_ground_truth.json"
OFFICIAL_MEDQA = "medqa/US/4_options/phrases_no_exclude_test.jsonl"


class Server:
    """Answers GET with ``files`` (path → bytes, status, or the address that it sends on to); ``asked`` keeps the paths.

    ``cut`` are paths whose answer ends after half of the announced bytes.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes | int | str] = {}
        self.cut: set[str] = set()
        self.asked: list[tuple[str, str | None]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked.append((self.path, self.headers.get("Authorization")))
                answer = told.files.get(self.path, 404)
                if isinstance(answer, int):
                    return self.send_error(answer)
                if isinstance(answer, str):
                    self.send_response(302)
                    self.send_header("Location", answer)
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer[: len(answer) // 2] if self.path in told.cut else answer)
                return None

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def sample(folder: Path, n: int, name: str) -> bytes:
    """A generated file of ``n`` questions."""
    write_sample_questions(str(folder), n)
    return (folder / name).read_bytes()


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the servers have: invented questions, as many as the official files have, in the servers' formats."""
    folder = tmp_path_factory.mktemp("official")
    medqa = "medqa/US/4_options/phrases_no_exclude_{}.generated.jsonl"
    files = {
        MEDQA: sample(folder, 1273, medqa.format("test")),
        MEDQA_TRAIN: sample(folder, 1273, medqa.format("train")),
        PUBMEDQA: sample(folder, 500, "pubmedqa/data/ori_pqal.generated.json"),
        TRUTH: sample(folder, 500, "pubmedqa/data/test_ground_truth.generated.json"),
    }
    lines = sample(folder, 4183, "medmcqa/dev.generated.json").splitlines()
    files[MEDMCQA] = parquet([{**row, "cop": row["cop"] - 1} for row in map(json.loads, lines)])
    rows = csv.reader(sample(folder, 135, "mmlu/data/test/anatomy_test.generated.csv").decode().splitlines())
    files[ANATOMY] = parquet(
        [{"question": q, "subject": "anatomy", "choices": o, "answer": "ABCD".index(gold)} for q, *o, gold in rows]
    )
    return files


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, official: dict[str, bytes]) -> Iterator[Server]:
    """The hub and GitHub in one."""
    server = Server()
    server.files.update(official)
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.close()


def get(server: Server, data: Path, *arguments: str) -> None:
    main([*arguments, "--data", str(data), "--github", server.url])


def files(data: Path) -> set[str]:
    return {str(path.relative_to(data)) for path in data.rglob("*") if not path.is_dir()}


def test_what_is_fetched_is_in_the_official_format_and_layout(
    server: Server, tmp_path: Path, official: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    get(server, tmp_path, "medqa", "medmcqa", "pubmedqa", "mmlu_anatomy")
    assert files(tmp_path) == {
        OFFICIAL_MEDQA,
        "medmcqa/dev.json",
        "pubmedqa/data/ori_pqal.json",
        "pubmedqa/data/test_ground_truth.json",
        "mmlu/data/test/anatomy_test.csv",
    }
    assert (tmp_path / OFFICIAL_MEDQA).read_bytes() == official[MEDQA]
    for protocol in protocols(["medqa", "medmcqa", "pubmedqa", "mmlu_anatomy"]):
        questions = load_questions(protocol, str(tmp_path))
        assert not questions.refused
        golds = [sum(item.gold == place for item in questions.items) for place in range(3)]
        assert max(golds) - min(golds) <= 1  # generated ones are balanced: no gold has moved
    said = capsys.readouterr().err
    assert "medmcqa: 4,183 rows in medmcqa/dev.json; as many rows as the official dev" in said
    assert "pubmedqa: 500 rows" in said and "whose bytes are others" in said


def test_the_hubs_medmcqa_becomes_the_official_file_byte_for_byte(real_data: Path) -> None:
    official = (real_data / "qa/medmcqa/dev.first2800.json").read_bytes()
    rows = [json.loads(line) for line in official.splitlines()]
    hub = [{"id": row["id"], **{key: row[key] for key in sorted(row)}, "cop": row["cop"] - 1} for row in rows]
    assert medmcqa_json_lines(parquet(hub)) == official
    with pytest.raises(UserError, match="not of 0, 1, 2, 3, so the hub's file has changed"):
        medmcqa_json_lines(parquet(rows))
    with pytest.raises(UserError, match="no column topic_name"):
        medmcqa_json_lines(parquet([{key: row[key] for key in row if key != "topic_name"} for row in hub]))


@pytest.mark.parametrize("subject", ["anatomy", "nutrition", "medical_genetics"])
def test_the_hubs_mmlu_becomes_the_rows_of_the_official_file(real_data: Path, subject: str) -> None:
    path = real_data / f"qa/mmlu/data/test/{subject}_test.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    hub = [{"question": q, "subject": subject, "choices": o, "answer": "ABCD".index(gold)} for q, *o, gold in rows]
    written = mmlu_csv(parquet(hub))
    assert list(csv.reader(written.decode().splitlines(keepends=True))) == rows
    if b"\r" not in path.read_bytes():
        assert written == path.read_bytes()
    with pytest.raises(UserError, match="a row with 3 options"):
        mmlu_csv(parquet([{**row, "choices": row["choices"][:3]} for row in hub]))


def test_files_of_examples_are_fetched_when_examples_are_asked_for(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path, "medqa")
    assert files(tmp_path) == {OFFICIAL_MEDQA}
    with pytest.raises(UserError, match=r"_train.*`python -m eval get medqa_1shot --data"):
        load_questions(protocols(["medqa_letter_2shot"])[0], str(tmp_path))
    get(server, tmp_path, "medqa_letter_2shot")
    assert files(tmp_path) == {OFFICIAL_MEDQA, OFFICIAL_MEDQA.replace("test", "train")}
    assert [path for path, _ in server.asked] == [MEDQA, MEDQA_TRAIN]


def test_what_is_there_is_kept_unless_it_is_asked_for_again(
    server: Server, tmp_path: Path, official: dict[str, bytes]
) -> None:
    path = tmp_path / OFFICIAL_MEDQA
    path.parent.mkdir(parents=True)
    path.write_bytes(official[MEDQA].splitlines()[0])
    get(server, tmp_path, "medqa")
    assert server.asked == [] and len(path.read_bytes().splitlines()) == 1
    get(server, tmp_path, "medqa", "--again")
    assert path.read_bytes() == official[MEDQA]


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (404, UserError, "HTTP 404 Not Found; the file is not there any more, or not on this mirror"),
        (403, UserError, "HTTP 403 Forbidden; HF_TOKEN"),
        (500, MayPass, "HTTP 500 Internal Server Error; run the command again later"),
        (429, MayPass, "HTTP 429 Too Many Requests; run the command again later"),
        ("cut", MayPass, "the connection ended .* bytes early; run the command again"),
    ],
)
def test_a_server_that_fails_is_named_and_everything_else_is_fetched(
    server: Server, tmp_path: Path, fault: int | str, kind: type[UserError], told: str
) -> None:
    if isinstance(fault, int):
        server.files[MEDMCQA] = fault
    else:
        server.cut.add(MEDMCQA)
    with pytest.raises(UserError, match=f"{MEDMCQA}: {told}") as error:
        get(server, tmp_path, "medqa", "medmcqa", "pubmedqa")
    assert type(error.value) is kind
    assert len(files(tmp_path)) == 3 and not (tmp_path / "medmcqa").exists()


def test_a_file_that_fails_in_between_leaves_nothing_of_its_task(server: Server, tmp_path: Path) -> None:
    server.files[PUBMEDQA] = 500
    with pytest.raises(MayPass):
        get(server, tmp_path, "pubmedqa")
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        (MEDQA, b"<html>Sign in</html>", "holds no question for medqa"),
        (MEDMCQA, b"<html>Sign in</html>", "parquet: not a parquet file"),
        (PUBMEDQA, b"<html>Sign in</html>", r"ori_pqal\.json: not JSON"),
    ],
)
def test_a_page_in_place_of_a_file_is_never_put_into_place(
    server: Server, tmp_path: Path, path: str, content: bytes, told: str
) -> None:
    server.files[path] = content
    with pytest.raises(UserError, match=told):
        get(server, tmp_path, "medqa", "medmcqa", "pubmedqa")
    assert not any(b"html" in (tmp_path / name).read_bytes() for name in files(tmp_path))


def test_a_file_with_other_rows_than_any_release_replaces_nothing(
    server: Server, tmp_path: Path, official: dict[str, bytes]
) -> None:
    get(server, tmp_path, "medqa")
    server.files[MEDQA] = official[MEDQA][: len(official[MEDQA]) // 2]
    with pytest.raises(UserError, match=rf"{MEDQA}: not kept, since it is no known release: .*1 row refused.*jind11"):
        get(server, tmp_path, "medqa", "--again")
    assert (tmp_path / OFFICIAL_MEDQA).read_bytes() == official[MEDQA]


def test_the_token_goes_to_the_hub_alone(
    server: Server, tmp_path: Path, official: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Server()
    try:
        store.files = {"/stored": official[MEDQA], TRUTH: official[TRUTH], PUBMEDQA: official[PUBMEDQA]}
        server.files[MEDQA] = f"{store.url}/stored"
        monkeypatch.setenv("HF_TOKEN", "a-token-for-the-test")
        get(store, tmp_path, "medqa", "pubmedqa")  # the hub stays at HF_ENDPOINT
        assert server.asked == [(MEDQA, "Bearer a-token-for-the-test")]
        assert sorted(store.asked) == [(PUBMEDQA, None), (TRUTH, None), ("/stored", None)]
    finally:
        store.close()


def test_a_server_that_is_not_there_or_no_web_address_is_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Server()
    gone.close()
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    with pytest.raises(UserError, match=r"cannot be reached: .*HF_ENDPOINT names a mirror"):
        get(server, tmp_path, "medqa")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(UserError, match="not a web address"):
        get(server, tmp_path, "medqa")


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.scored.downloads])
def test_what_cannot_be_fetched_is_said_with_where_to_get_it_and_described_when_it_is_there(
    server: Server, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=f"{name}: there is no .*https?://.*DATA/"):
        get(server, tmp_path, name, "medqa")
    assert files(tmp_path) == {OFFICIAL_MEDQA}
    write_sample_questions(str(tmp_path), n=3)
    get(server, tmp_path, name)
    assert f"{name}: 3 rows" in capsys.readouterr().err
