"""Stage ``download``: what is not given as a place is fetched or made, into folders of ``work/download``.

``pubmed=ncbi`` fetches NLM's files into ``pubmed/``; ``pmc=pmc-oa`` packs the articles of NLM's bucket into ``pmc/``;
``sample`` makes either up, in folders of its own, so that a try-out never stands beside what was fetched.
"""

from pathlib import Path
from typing import Any

from base.progress import say
from base.storage import is_remote
from data_prep.download.containers import fetch_pmc
from data_prep.download.pubmed_files import fetch_pubmed
from data_prep.download.sample import write_sample
from data_prep.download.sample_articles import write_articles
from data_prep.executors.local import cpus_here
from data_prep.parse.sources import find_article_sources, find_sources
from data_prep.schema import FETCHED, FETCHED_PMC
from data_prep.stage import Job, Stage, remove

FOLDER = "download"  # in the work folder


def input_place(job: Job) -> str:
    """Where the PubMed files lie, for the stages that follow."""
    pubmed = job.configuration.pubmed
    assert pubmed is not None
    return str(_folder(job, "pubmed", pubmed)) if pubmed in FETCHED else pubmed


def pmc_place(job: Job) -> str:
    """Where the full texts lie, for the stages that follow."""
    pmc = job.configuration.pmc
    assert pmc is not None
    return str(_folder(job, "pmc", pmc)) if pmc in FETCHED_PMC else pmc


def run(job: Job) -> dict[str, Any]:
    """Fetch or make the files; returns a summary by kind of input.

    Raises:
        UserError: a local place that is given holds no input: told before the other kind is fetched, which takes hours.
    """
    pubmed, pmc = job.configuration.pubmed, job.configuration.pmc
    if pubmed is not None and pubmed not in FETCHED and not is_remote(pubmed):
        find_sources(pubmed)
    if pmc is not None and pmc not in FETCHED_PMC and not is_remote(pmc):
        find_article_sources(pmc)
    summary: dict[str, Any] = {}
    if job.configuration.pubmed is not None:
        summary["pubmed"] = _get_pubmed(job, job.configuration.pubmed)
    if job.configuration.pmc is not None:
        summary["pmc"] = _get_pmc(job, job.configuration.pmc)
    return summary


def _get_pubmed(job: Job, word: str) -> dict[str, Any]:
    if word not in FETCHED:
        say(f"download: nothing to do for pubmed, the files are in {word}")
        return {"files": 0}
    if word == "sample":
        names = write_sample(_emptied(job, "pubmed"), job.configuration.sample)
        return {"files": len(names)}
    folder = _folder(job, "pubmed", word)
    folder.mkdir(parents=True, exist_ok=True)
    return fetch_pubmed(job.work / FOLDER, folder, job.configuration.download.pubmed)


def _get_pmc(job: Job, word: str) -> dict[str, Any]:
    if word not in FETCHED_PMC:
        say(f"download: nothing to do for pmc, the files are in {word}")
        return {"files": 0}
    if word == "sample":
        return {"files": len(write_articles(_emptied(job, "pmc"), job.configuration.sample))}
    folder = _folder(job, "pmc", word)
    folder.mkdir(parents=True, exist_ok=True)
    configuration = job.configuration
    at_a_time = (configuration.executor.workers or cpus_here()) * configuration.executor.world
    return fetch_pmc(
        job.work / FOLDER, folder, configuration.download.pmc, configuration.select, job.executor, at_a_time
    )  # fmt: skip


def _folder(job: Job, name: str, word: str) -> Path:
    return job.work / FOLDER / (f"{name}-sample" if word == "sample" else name)


def _emptied(job: Job, name: str) -> Path:
    """The folder of what is made, without what other settings have made: parse would take that in too."""
    folder = _folder(job, name, "sample")
    remove(folder)
    folder.mkdir(parents=True)
    return folder


def depends_on(job: Job) -> Any:
    """What decides which files are fetched or made. Places are the business of the stages that read them.

    The listing of PubMed's files and the inventory of PMC's articles are frozen in the work folder and so not asked
    for here: deleting them, like any other file there, has the stage done again.
    """
    configuration = job.configuration
    pubmed: Any = "place"
    if configuration.pubmed == "sample":
        pubmed = ["sample", configuration.sample.model_dump()]
    elif configuration.pubmed == "ncbi":
        pubmed = ["ncbi", configuration.download.pubmed.urls, configuration.download.pubmed.newest]
    pmc: Any = "place"
    if configuration.pmc == "sample":
        pmc = ["sample", configuration.sample.model_dump()]
    elif configuration.pmc == "pmc-oa":
        settings, select = configuration.download.pmc, configuration.select
        pmc = ["pmc-oa", settings.bucket, settings.inventory, settings.articles, settings.ids_per_container]
        pmc += [select.license, select.manuscripts]
    return [pubmed, pmc]


STAGE = Stage("download", needs=(), depends_on=depends_on, run=run, scratch=(FOLDER,))
