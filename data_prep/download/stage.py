"""Stage ``download``: ``pubmed=ncbi`` fetches files, ``pubmed=sample`` makes some; where a place is given, nothing."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from base.progress import progress, say
from data_prep.download.mirror import fetch, newest_files
from data_prep.download.sample import write_sample
from data_prep.schema import FETCHED
from data_prep.stage import Job, Stage

FOLDER = "download"  # in the work folder


def input_place(job: Job) -> str:
    """Where the PubMed files lie, for the stages that follow."""
    pubmed = job.configuration.pubmed
    assert pubmed is not None
    return str(job.work / FOLDER) if pubmed in FETCHED else pubmed


def run(job: Job) -> dict[str, Any]:
    """Fetch or make the files in ``work/download``."""
    folder = job.work / FOLDER
    configuration = job.configuration
    if configuration.pubmed not in FETCHED:
        say(f"download: nothing to do, the files are in {configuration.pubmed}")
        return {"fetched": 0}
    folder.mkdir(parents=True, exist_ok=True)
    if configuration.pubmed == "sample":
        names = write_sample(folder, configuration.sample)
    else:
        settings = configuration.download.pubmed
        url = settings.urls[-1]
        names = newest_files(url, settings.newest or 1, settings.attempts, settings.timeout_seconds)
        with (
            progress(f"download from {url}", None, "bytes") as advance,
            ThreadPoolExecutor(settings.connections) as pool,
        ):
            list(
                pool.map(
                    lambda name: fetch(
                        url.rstrip("/") + "/" + name, folder / name, settings.attempts,
                        settings.timeout_seconds, advance,
                    ),
                    names,
                )
            )  # fmt: skip
    for other in folder.iterdir():  # of an earlier run with other settings; parse would take them in
        if other.name.removesuffix(".md5") not in names:
            other.unlink()
    return {"fetched": len(names), "names": names}


def depends_on(job: Job) -> Any:
    """The place, or what decides which files are fetched or made."""
    configuration = job.configuration
    if configuration.pubmed == "sample":
        return ["sample", configuration.sample.model_dump()]
    if configuration.pubmed == "ncbi":
        return ["ncbi", configuration.download.pubmed.urls, configuration.download.pubmed.newest]
    return ["place"]  # the files themselves are the business of the stage that reads them


STAGE = Stage("download", needs=(), depends_on=depends_on, run=run, scratch=(FOLDER,))
