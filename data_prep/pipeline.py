"""The stages in their order: which are done, which must be done again, and what is told at the end.

A stage is done when its marker (``work/done/STAGE.json``) has the key of today's settings and inputs and the files that
it lists are there with their sizes. The key takes in the keys of the stages before, so a change anywhere redoes what
follows from it, and only that. A stage that also makes what others do not read, as the tokenizer does its report, names
its ``result``, which stands in for its key there.
"""

import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from base import storage
from base.configuration import load_configuration
from base.errors import FAILED, PartlyRefused, UserError
from base.progress import say
from data_prep.card import stage as card
from data_prep.compiled import require_place
from data_prep.download import stage as download
from data_prep.executors.start import serve_rank, started
from data_prep.parse import stage as parse
from data_prep.schema import FETCHED, FETCHED_PMC, DataConfiguration
from data_prep.select import stage as select
from data_prep.shards import stage as shards
from data_prep.stage import Job, Stage, digest, publish, remove_unfinished, sizes, unsent
from data_prep.tokenizer import stage as tokenizer
from data_prep.tokenizer.ready import load_ready
from data_prep.verify import stage as verify

STAGES = {
    stage.name: stage
    for stage in (download.STAGE, parse.STAGE, select.STAGE, tokenizer.STAGE, shards.STAGE, verify.STAGE, card.STAGE)
}


def run(yaml: str, arguments: Sequence[str]) -> None:
    """Run the named stages (all when none is named) with the overrides among the arguments.

    Raises:
        UserError: what the user can mend.
        PartlyRefused: everything is done, but input files or records were refused.
    """
    names = [argument for argument in arguments if "=" not in argument]
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise UserError(f"no such stage: {', '.join(unknown)}. The stages are: {', '.join(STAGES)}")
    configuration = load_configuration(yaml, [a for a in arguments if "=" in a], DataConfiguration)
    require_place()
    work, local = folders(configuration)
    settings = digest(configuration.model_dump(exclude={"executor"}))
    if configuration.executor.rank:
        if not serve_rank(configuration.executor, settings, work):
            sys.exit(FAILED)
        return
    with _alone_in(work), _telling_of_full_disks(work):
        storage.require_writable(configuration.out)
        if configuration.tokenizer.name is not None:
            load_ready(configuration.tokenizer.name)  # hours before it is needed: it may not be fit
        local.mkdir(parents=True, exist_ok=True)
        with started(configuration.executor, settings, work, [work, local], local_inputs(configuration)) as executor:
            job = Job(configuration, work, local, configuration.out, executor)
            refused = run_stages(job, [name for name in STAGES if not names or name in names])
    if refused:
        raise PartlyRefused(refused)


def folders(configuration: DataConfiguration) -> tuple[Path, Path]:
    """The work folder, and the folder where the files for ``out`` are made."""
    out = configuration.out
    work = Path(configuration.work) if configuration.work else Path(out) / "work"
    return work, work / "out" if storage.is_remote(out) else Path(out)


def local_inputs(configuration: DataConfiguration) -> list[Path]:
    """The files and folders that tasks read, which all machines must see; of a glob, the folder where it begins. What
    other settings name is read by the first machine alone."""
    places = [
        place for place in (configuration.pubmed, configuration.pmc) if place and place not in (*FETCHED, *FETCHED_PMC)
    ]
    inputs = [Path(re.split(r"[^/]*[*?\[]", place)[0] or ".") for place in places if not storage.is_remote(place)]
    terms = configuration.tokenizer.terms
    return inputs if terms is None else [*inputs, Path(terms)]


def run_stages(job: Job, names: Sequence[str]) -> str:
    """Run stages whose results are not there yet; returns what is to be told of refused input, or nothing."""
    results: dict[str, Any] = {}
    for name, stage in STAGES.items():
        later = next((later for later in names if _follows(later, name)), None)
        if name not in names and later is None:
            continue
        key = digest([name, stage.depends_on(job), [results[need] for need in stage.needs]])
        done = _is_done(job, stage, key)
        if name not in names and not done:
            raise UserError(
                f"{later} needs {name}, which has not been done with these settings and inputs; "
                f"name {name} as well, or no stage at all for all of them"
            )
        if name in names and done and not stage.always:
            say(f"{name}: done before")
        elif name in names:
            _run(job, stage, key)
        results[name] = key if stage.result is None else stage.result(job.marker(name)["summary"])
    if "parse" not in results:
        return ""
    parsed = job.marker("parse")["summary"]
    return parse.told_of_refused(parsed["refused"], parsed["unusable"])


def _run(job: Job, stage: Stage, key: str) -> None:
    say(f"{stage.name} …")
    if stage.always or not _is_made(job, stage, key):
        job.forget(stage.name)
        remove_unfinished(job, stage.outputs)
        summary = stage.run(job)
        marker = {
            "key": key,
            "summary": summary,
            "outputs": sizes(job.local, stage.outputs),
            "scratch": sizes(job.work, stage.scratch),
        }
        storage.write_bytes(str(job.work / "done" / f"{stage.name}.json"), json.dumps(marker, indent=1).encode())
    if job.publishes and stage.outputs:  # after the marker: when this fails, the next run has only this to do
        publish(job, stage.outputs)


def _is_done(job: Job, stage: Stage, key: str) -> bool:
    """Whether a stage's files are made and all of them are in ``out``."""
    if not _is_made(job, stage, key):
        return False
    if not (job.publishes and stage.outputs):
        return True
    found = unsent(job, stage.outputs)
    return not found.missing and not found.surplus


def _is_made(job: Job, stage: Stage, key: str) -> bool:
    """Whether the stage's marker is of this key and its files are all here."""
    marker = job.marker(stage.name)
    return (
        marker.get("key") == key
        and sizes(job.local, stage.outputs) == marker["outputs"]
        and sizes(job.work, stage.scratch) == marker["scratch"]
    )


def _follows(later: str, name: str) -> bool:
    return name in STAGES[later].needs or any(_follows(need, name) for need in STAGES[later].needs)


@contextmanager
def _alone_in(work: Path) -> Iterator[None]:
    """Two runs in one folder would write over each other."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = os.open(work / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"work={work}: cannot be used as a folder for the steps between: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"another run of data_prep works in {work}; wait for it, or give another work=…") from None
    except OSError as error:  # as on Lustre, mounted without flock
        say(f"{work}: no locks on this file system ({error.strerror}): see to it that no other run works there")
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _telling_of_full_disks(work: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise  # names its file already
    except OSError as error:
        if error.errno in storage.ONLY_OF_WRITING or "No space left" in str(error):
            raise storage.disk_error(error.filename or work, error) from error
        raise
    except Exception as error:
        if "No space left" in str(error) or "File too large" in str(error):  # tokenizers raises a bare Exception
            raise UserError(f"{work}: cannot be written: {error}") from error
        raise
