"""Stage ``parse``: each input file → ``work/parsed/SOURCE/NAME.parquet``, one row a record, in the file's order.

Beside it, written last, ``NAME.parquet.json``: what came of the file. A PubMed file that is refused has no rows: **none
of its records is used**, for what a damaged file still shows may be a half-written record, and which half is missing
cannot be known. In tarballs and folders of full texts each article stands alone (``article_files.py``). All other files
are used. What was refused, files and records, is told at the end of the run and stands in the ledger.
"""

import hashlib
import json
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from base import storage
from base.errors import UserError
from base.progress import progress, say
from data_prep.documents import DROPPED
from data_prep.download.stage import input_place, pmc_place
from data_prep.parse.article_files import read_articles, read_loose
from data_prep.parse.numbering import doubts
from data_prep.parse.pubmed_record import AbstractRules
from data_prep.parse.refusal import Refused, Unreadable
from data_prep.parse.rows import Counts, write_articles, write_citations
from data_prep.parse.sources import Source, find_article_sources, find_sources
from data_prep.schema import ParsePmc, ParsePubmed
from data_prep.stage import Job, Stage, digest, remove, versions

VERSION = 6  # of the rules by which text is taken from XML: raise it when they change
PACKAGES = ("lxml", "py3langid")  # they read the XML and guess languages
FOLDER = "parsed"
NOTED = "unreadable.json"  # in work
TOLD_AT_MOST = 50  # unusable records, on the screen


@dataclass(frozen=True)
class ParseTask:
    """One file or bundle to parse. ``key`` names its content and the settings."""

    kind: str  # pubmed or pmc
    source: Source
    target: Path
    settings: ParsePubmed | ParsePmc
    key: str


@dataclass(frozen=True)
class Parsed:
    """What came of a file.

    Attributes:
        md5: of the file, or of the MD5s of a bundle's files.
        refused: why none of it is used.
        passed_over: members of a tarball that are no records, by suffix.
        unreadable: the system would not give the bytes of all of it.
        unusable, named: see :class:`data_prep.parse.rows.Counts`.
    """

    records: int
    deletions: int
    md5: str
    refused: str | None
    passed_over: dict[str, int] = field(default_factory=dict)
    unusable: int = 0
    named: list[dict[str, str]] = field(default_factory=list)
    unreadable: bool = False


def run(job: Job) -> dict[str, Any]:
    """Parse what has not been parsed with these settings yet."""
    folder = job.work / FOLDER
    rules = _rules()
    tasks = [
        ParseTask(
            kind, source, parsed_path(folder, kind, source.name), settings,
            digest([*rules, source.identity, settings.model_dump()]),
        )
        for kind, settings, sources in _inputs(job)
        for source in sources
    ]  # fmt: skip
    _require_different_names(tasks)
    _remove_others(folder, [task.target for task in tasks])
    outcomes = {task.source.name: _outcome(task) for task in tasks}
    waiting = [task for task in tasks if outcomes[task.source.name] is None]
    if len(waiting) < len(tasks):
        say(f"parse: {len(tasks) - len(waiting)} of {len(tasks)} files are parsed already")
    with progress("parse", sum(task.source.size for task in waiting), "bytes") as advance:
        for index, parsed in job.executor.map(parse_file, waiting):
            outcomes[waiting[index].source.name] = parsed
            advance(waiting[index].source.size)
    _note_unreadable(job, [task.source for task in tasks if outcomes[task.source.name].unreadable])  # type: ignore[union-attr]
    return _summary(job, tasks, {name: parsed for name, parsed in outcomes.items() if parsed is not None})


def _inputs(job: Job) -> list[tuple[str, ParsePubmed | ParsePmc, list[Source]]]:
    configuration = job.configuration
    inputs: list[tuple[str, ParsePubmed | ParsePmc, list[Source]]] = []
    if configuration.pubmed is not None:
        inputs.append(("pubmed", configuration.parse.pubmed, find_sources(input_place(job))))
    if configuration.pmc is not None:
        inputs.append(("pmc", configuration.parse.pmc, find_article_sources(pmc_place(job))))
    return inputs


def _summary(job: Job, tasks: list[ParseTask], outcomes: dict[str, Parsed]) -> dict[str, Any]:
    refused = [{"name": name, "reason": parsed.refused} for name, parsed in outcomes.items() if parsed.refused]
    unusable = [
        {"name": name, "records": parsed.unusable, "first": parsed.named}
        for name, parsed in outcomes.items()
        if parsed.unusable
    ]
    _require_something_from_each(job, tasks, outcomes, told_of_refused(refused, unusable))
    records = sum(parsed.records for parsed in outcomes.values())
    deletions = sum(parsed.deletions for parsed in outcomes.values())
    say(f"parse: {records} records and {deletions} deletions from {len(tasks) - len(refused)} files")
    for file in refused:
        say(f"parse: REFUSED {file['name']}: {file['reason']}")
    invented = job.configuration.pubmed == "sample"  # its files are of several years to show that both forms are read
    warnings = [] if invented else doubts(task.source.name for task in tasks if task.kind == "pubmed")
    for warning in warnings:
        say(f"parse: WARNING: {warning}")
    files: dict[str, list[str]] = {}
    passed_over: Counter[str] = Counter()
    for task in tasks:
        parsed = outcomes[task.source.name]
        passed_over.update(parsed.passed_over)
        if not parsed.refused:
            files.setdefault(task.kind, []).append(task.source.name)
    return {
        "files": files, "records": records, "deletions": deletions, "refused": refused,
        "unusable": unusable, "warnings": warnings, "passed_over": dict(sorted(passed_over.items())),
        "md5": {name: parsed.md5 for name, parsed in outcomes.items()},
    }  # fmt: skip


def _require_something_from_each(job: Job, tasks: list[ParseTask], outcomes: dict[str, Parsed], told: str) -> None:
    """A place of which nothing at all can be used is most likely not the place that was meant."""
    for kind, place in (("pubmed", job.configuration.pubmed), ("pmc", job.configuration.pmc)):
        of_kind = [outcomes[task.source.name] for task in tasks if task.kind == kind]
        if of_kind and all(parsed.refused or parsed.records == parsed.unusable > 0 for parsed in of_kind):
            raise UserError(f"{kind}={place}: nothing there could be used\n{told}")


def told_of_refused(refused: list[dict[str, str]], unusable: list[dict[str, Any]]) -> str:
    """The lines for the end of a run: which files and records were not used, and why; empty when all were."""
    lines = []
    if refused:
        lines.append(f"{len(refused)} input file(s) were not used; all the others were:")
        lines += [f"  {file['name']}: {file['reason']}" for file in refused]
    if unusable:
        total = sum(file["records"] for file in unusable)
        named = [f"  {file['name']}: {one['place']}: {one['reason']}" for file in unusable for one in file["first"]]
        lines.append(f"{total} record(s) were not used; all the others in their files were:")
        told = named[:TOLD_AT_MOST]
        lines += told
        if total > len(told):
            lines.append(f"  and {total - len(told)} more, which the folder {DROPPED} in out holds with their reasons")
    return "\n".join(lines)


def parsed_path(folder: Path, kind: str, name: str) -> Path:
    """Where the rows of a file lie. A bundle's name ends in ``/`` or ``/#0002``."""
    return folder / kind / f"{name}.parquet" if not name.endswith("/") else folder / kind / name / "#.parquet"


def parse_file(task: ParseTask) -> Parsed:
    """Parse one file or bundle; its outcome is written beside the rows, last."""
    task.target.parent.mkdir(parents=True, exist_ok=True)
    with _Fetched(task) as fetched:
        try:
            _check_md5(task.source, fetched.md5)
            passed_over: Counter[str] = Counter()
            with storage.write_aside(task.target) as aside:
                counts = _write(task, fetched, passed_over, aside)
            parsed = Parsed(
                counts.records, counts.deletions, fetched.md5, None, dict(sorted(passed_over.items())),
                counts.unusable, counts.named, counts.unreadable > 0,
            )  # fmt: skip
        except Refused as reason:
            task.target.unlink(missing_ok=True)
            parsed = Parsed(0, 0, fetched.md5, str(reason), unreadable=isinstance(reason, Unreadable))
    if parsed.unreadable:
        return parsed  # of which nothing is kept: rights may change while the file does not
    storage.write_bytes(str(_marker(task)), json.dumps({"key": task.key, **asdict(parsed)}).encode())
    return parsed


def _write(task: ParseTask, fetched: "_Fetched", passed_over: Counter[str], aside: Path) -> Counts:
    if isinstance(task.settings, ParsePubmed):
        from data_prep.parse.pubmed import read_pubmed  # loads numba, half a second: for whoever reads, not for all

        rules = AbstractRules(**task.settings.model_dump())
        return write_citations(read_pubmed(fetched.files[0][1], rules), aside)
    if task.source.members:
        articles = read_loose(fetched.files, task.settings, fetched.lists, passed_over)
    else:
        articles = read_articles(fetched.files[0][1], task.settings, task.source.name, fetched.lists, passed_over)
    return write_articles(articles, aside)


class _Fetched:
    """The files of a source on this machine, for the length of a ``with`` block."""

    def __init__(self, task: ParseTask):
        self._task = task
        self._folder: Path | None = None

    def __enter__(self) -> "_Fetched":
        source = self._task.source
        members = source.members or ((source.name, source.location),)
        self.files = [(name, self._local(location, f"{number}")) for number, (name, location) in enumerate(members)]
        self.lists = [self._local(location, f"list{number}") for number, location in enumerate(source.lists)]
        digests = [_md5(path) for _, path in self.files]
        self.md5 = digests[0] if not source.members else hashlib.md5("".join(digests).encode()).hexdigest()
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            remove(self._folder)

    def _local(self, location: str, name: str) -> Path:
        if not storage.is_remote(location):
            return Path(location)
        if self._folder is None:  # of its own: another machine may have been given the same task
            target = self._task.target
            self._folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        path = self._folder / f"{name}-{location.rpartition('/')[2]}"
        storage.download(location, path)
        return path


def _md5(path: Path) -> str:
    """Empty when the file cannot be read, which its reader will say."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError:
        return ""


def _check_md5(source: Source, got: str) -> None:
    """Where NLM's checksum lies beside the file, it must fit."""
    side = f"{source.location}.md5"
    if source.members or not got or not storage.exists(side):
        return
    try:
        text = storage.read_bytes(side).decode("ascii", "replace")
    except OSError as error:
        raise Unreadable(error) from None
    if got not in text.lower():
        raise Refused(f"its MD5 is {got}, but {Path(side).name} says {text.strip()[:80]}")


def _marker(task: ParseTask) -> Path:
    return task.target.with_name(f"{task.target.name}.json")


def _outcome(task: ParseTask) -> Parsed | None:
    """The outcome of an earlier run over the same file with the same settings."""
    try:
        outcome = json.loads(_marker(task).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if outcome.pop("key") != task.key or not (outcome["refused"] or task.target.exists()):
        return None
    return Parsed(**outcome)


def _require_different_names(tasks: list[ParseTask]) -> None:
    """The ledger knows files by their names."""
    twice = [name for name, number in Counter(task.source.name for task in tasks).items() if number > 1]
    if twice:
        raise UserError(f"{', '.join(twice[:5])}: a file of this name is in both pubmed and pmc; give it once")


def _remove_others(folder: Path, targets: list[Path]) -> None:
    """Rows of files that are no longer among the input, and what a killed run left."""
    wanted = {*targets, *(target.with_name(f"{target.name}.json") for target in targets)}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _rules() -> list[Any]:
    return [VERSION, versions(*PACKAGES)]


def depends_on(job: Job) -> Any:
    """The settings, every input file as it is now, and which of them an earlier run could not read and this one can."""
    inputs = _inputs(job)
    key: list[Any] = [
        [*_rules(), kind, settings.model_dump(), [[source.name, source.identity] for source in sources]]
        for kind, settings, sources in inputs
    ]
    again = _readable_again(job, [source for _, _, sources in inputs for source in sources])
    return [*key, again] if again else key


def _readable_again(job: Job, sources: list[Source]) -> list[str]:
    """Names of the sources noted as unreadable that are so no more; it stays noted, for the stage's key has them."""
    noted = _noted(job)
    for source in sources:
        if noted.get(_identity(source)) is False and _can_be_read(source):
            noted[_identity(source)] = True
            storage.write_bytes(str(job.work / NOTED), json.dumps(noted).encode())
    return [source.name for source in sources if noted.get(_identity(source))]


def _note_unreadable(job: Job, sources: list[Source]) -> None:
    if sources:
        noted = _noted(job) | {_identity(source): False for source in sources}
        storage.write_bytes(str(job.work / NOTED), json.dumps(noted).encode())


def _noted(job: Job) -> dict[str, bool]:
    """Sources that an earlier run could not read → whether they could be read since."""
    try:
        return json.loads((job.work / NOTED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _identity(source: Source) -> str:
    return f"{source.name} {source.identity}"


def _can_be_read(source: Source) -> bool:
    locations = [location for _, location in source.members] or [source.location]
    beside = [side for side in (f"{source.location}.md5",) if storage.exists(side)]
    return all(_md5(Path(location)) for location in (*locations, *source.lists, *beside))


STAGE = Stage("parse", needs=("download",), depends_on=depends_on, run=run, scratch=(FOLDER,))
