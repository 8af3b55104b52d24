"""The configuration of data preparation. Every key is explained in ``yamls/data/biomedlm.yaml``."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from base.configuration import Schema, Section
from base.storage import is_remote

NLM = "https://ftp.ncbi.nlm.nih.gov/pubmed/"
FETCHED = ("ncbi", "sample")  # words instead of a place for pubmed: what the download stage gets or makes
FETCHED_PMC = ("pmc-oa", "sample")  # the same for pmc

SHARD_HEADER = 4096  # bytes of a shard that are neither sequences nor their offsets, at most

Name = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Url = Annotated[str, Field(pattern=r"^https?://")]
# What NLM's metadata calls them, without versions.
License = Literal[
    "CC0", "CC BY", "CC BY-SA", "CC BY-ND", "CC BY-NC", "CC BY-NC-SA", "CC BY-NC-ND", "TDM", "public domain"
]
Benchmark = Literal["medqa", "medmcqa", "mmlu", "pubmedqa", "bioasq"]


class Executor(Section):
    name: Literal["local", "ray"] = "local"
    workers: Positive | None = None
    address: Annotated[str, Field(pattern=r"^(auto|[^/\s]+:[0-9]+)$")] | None = None
    rank: Annotated[int, Field(ge=0)] = 0
    world: Positive = 1
    stale_seconds: Positive = 60
    patience_seconds: Positive = 600


class DownloadPubmed(Section):
    urls: Annotated[list[Url], Field(min_length=1)] = [f"{NLM}baseline/", f"{NLM}updatefiles/"]
    newest: Positive | None = None
    connections: Annotated[int, Field(ge=1, le=8)] = 3
    attempts: Positive = 5
    timeout_seconds: Positive = 60


class DownloadPmc(Section):
    bucket: Annotated[str, Field(pattern="^s3://")] = "s3://pmc-oa-opendata"
    endpoint: Url | None = None
    anonymous: bool = True
    inventory: Name = "newest"
    articles: Positive | None = None
    ids_per_container: Positive = 20_000
    connections: Annotated[int, Field(ge=1, le=512)] = 64
    attempts: Positive = 10
    timeout_seconds: Positive = 60


class Download(Section):
    pubmed: DownloadPubmed = DownloadPubmed()
    pmc: DownloadPmc = DownloadPmc()


class Sample(Section):
    citations: Annotated[int, Field(ge=50)] = 1500
    articles: Annotated[int, Field(ge=20)] = 120
    files: Annotated[int, Field(ge=2, le=100)] = 3
    seed: int = 17


class ParsePubmed(Section):
    labels: Literal["keep", "drop"] = "keep"
    other_abstracts: bool = False
    plain_language: bool = False


class ParsePmc(Section):
    headings: bool = True
    abstract: bool = True
    tables: Literal["drop", "caption", "text"] = "caption"
    figures: Literal["drop", "caption"] = "caption"
    formulas: Literal["drop", "text"] = "text"
    citations: Literal["drop", "keep"] = "drop"


class Parse(Section):
    pubmed: ParsePubmed = ParsePubmed()
    pmc: ParsePmc = ParsePmc()


class NearDuplicates(Section):
    """Word 5-grams in 14 bands of 8 rows, as datatrove has it; pairs are checked against the whole signature."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    ngram: Positive = 5
    bands: Positive = 14
    rows: Positive = 8


class Quality(Section):
    """Rules on the text of a document; null switches a rule off."""

    min_words: Positive | None = 20
    max_words: Positive | None = None
    min_letters: Share | None = 0.5
    max_mean_word_length: Positive | None = 15
    max_repeated_lines: Share | None = 0.3
    min_body_words: Positive | None = 100


class Decontaminate(Section):
    questions: Name | None = None
    ngram: Annotated[int, Field(ge=5, le=50)] = 13
    drop_by_ngram: list[Benchmark] = []
    drop_by_pmid: list[Literal["pubmedqa", "bioasq"]] = []


class Select(Section):
    require_abstract: bool = True
    drop_retracted: bool = True
    drop_concern: bool = False
    languages: list[Annotated[str, Field(pattern="^[a-z]{3}$")]] | None = None
    full_text_languages: list[Annotated[str, Field(pattern="^[a-z]{2}$")]] | None = ["en"]
    license: Literal["commercial", "redistributable", "all"] | list[License] = "redistributable"
    manuscripts: bool = False
    drop_article_types: list[Name] = [
        "abstract", "addendum", "announcement", "book-received", "books-received", "calendar", "collection",
        "correction", "expression-of-concern", "in-brief", "index", "meeting-report", "news", "obituary",
        "partial-retraction", "product-review", "reprint", "retraction",
    ]  # fmt: skip
    overlap: Literal["kept", "pile", "both"] = "kept"
    exact_duplicates: bool = True
    near_duplicates: NearDuplicates | None = NearDuplicates()
    boilerplate: bool = True
    quality: Quality = Quality()
    decontaminate: Decontaminate = Decontaminate()
    exclude: Name | None = None


class Tokenizer(Section):
    name: Name | None = None
    vocab_size: Annotated[int, Field(ge=258, le=65536)] = 28896
    min_frequency: Positive = 2
    train_on: Annotated[list[Literal["pubmed", "pmc"]], Field(min_length=1)] = ["pubmed"]
    max_training_bytes: Positive = 750_000_000  # more distinct words than these have would not fit into 600 MB
    seed: int = 0
    compare_with: dict[str, str] = {}
    terms: Name | None = None
    curve: list[Annotated[int, Field(ge=258, le=65536)]] = []


# What a ready tokenizer has no use for.
TRAINING = ("vocab_size", "min_frequency", "train_on", "max_training_bytes", "seed", "curve")


class Shards(Section):
    max_seq_len: Annotated[int, Field(ge=8, le=65536)] = 1024
    packing: Literal["eos", "concat", "best_fit"] = "eos"
    shuffle_seed: int = 0
    val_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.001
    size_limit: Annotated[int, Field(ge=1 << 16, lt=1 << 32)] = 1 << 26
    hashes: list[Literal["sha1", "sha256", "md5", "xxh64", "xxh128"]] = Field(default=["sha1", "xxh64"], min_length=1)
    compression: Literal["zstd"] | None = None


class Verify(Section):
    documents: Positive = 200
    seed: int = 0


class DataConfiguration(Schema):
    pubmed: Name | None = None
    pmc: Name | None = None
    out: Name
    work: Name | None = None
    executor: Executor = Executor()
    download: Download = Download()
    sample: Sample = Sample()
    parse: Parse = Parse()
    select: Select = Select()
    tokenizer: Tokenizer = Tokenizer()
    shards: Shards = Shards()
    verify: Verify = Verify()

    @classmethod
    def cross_checks(cls) -> list[Callable[[Any], Iterable[tuple[str, str]]]]:
        return [
            _some_input,
            _mirror_folders,
            _tokenizer_has_text,
            _ready_is_not_trained,
            _work_is_local,
            _schemes,
            _ranks,
            _questions,
            _abstracts_stay,
            _shard_room,
        ]


def _some_input(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    if configuration.pubmed is None and configuration.pmc is None:
        yield "pubmed", "give pubmed, pmc or both: a file, folder or glob"


def _mirror_folders(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    urls = configuration.download.pubmed.urls
    names = [url.rstrip("/").rpartition("/")[2] for url in urls]
    for url, name in zip(urls, names, strict=True):
        if url.rstrip("/").count("/") < 3 or not re.fullmatch(r"\w[\w.-]*", name):
            yield "download.pubmed.urls", f"{url}: must end in the name of a folder, which the files keep on disk"
        elif names.count(name) > 1:
            yield "download.pubmed.urls", f"{url}: another one ends in {name} as well; on disk they would be one folder"


def _tokenizer_has_text(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    given = [name for name in ("pubmed", "pmc") if getattr(configuration, name) is not None]
    if configuration.tokenizer.name is None and given and not set(given) & set(configuration.tokenizer.train_on):
        yield "tokenizer.train_on", f"names none of the inputs that are given: {', '.join(given)}"


def _ready_is_not_trained(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    tokenizer = configuration.tokenizer
    for key in TRAINING if tokenizer.name is not None else ():
        if key in tokenizer.model_fields_set:
            yield (
                f"tokenizer.{key}",
                "is for training a tokenizer, but tokenizer.name names a ready one: leave one of them out; as an "
                "argument, 'tokenizer={name: FOLDER}' takes the place of the whole section",
            )


def _work_is_local(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    if configuration.work is None:
        if configuration.out.startswith("s3://"):
            yield "work", "must name a local folder for the steps between when out lies in a bucket"
    elif "://" in configuration.work:
        yield "work", "must be a local folder"


def _schemes(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    for key in ("pubmed", "pmc", "out"):
        place = getattr(configuration, key)
        try:
            if place is not None:
                is_remote(place)
        except Exception as error:
            yield key, str(error)


def _ranks(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    executor = configuration.executor
    if executor.rank >= executor.world:
        yield "executor.rank", f"must be below executor.world ({executor.world})"
    if executor.name == "ray" and executor.world > 1:
        yield "executor.world", "is for ranks that are started one by one; a Ray cluster has its own workers"
    if executor.name != "ray" and executor.address is not None:
        yield "executor.address", "is the address of a Ray cluster: set executor.name=ray as well"


def _questions(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    decontaminate = configuration.select.decontaminate
    for name in ("drop_by_ngram", "drop_by_pmid"):
        if getattr(decontaminate, name) and decontaminate.questions is None:
            yield f"select.decontaminate.{name}", "needs select.decontaminate.questions, the folder with their files"


def _abstracts_stay(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    both = configuration.pubmed is not None and configuration.pmc is not None
    if both and not configuration.parse.pmc.abstract and configuration.select.overlap != "both":
        yield (
            "select.overlap",
            f"{configuration.select.overlap} drops the abstracts of full texts, and parse.pmc.abstract=false leaves "
            "them out of the full texts: they would be nowhere; set overlap to both, or parse.pmc.abstract to true",
        )


def shard_room(shards: Shards) -> int:
    """How many sequences a shard holds: two bytes a token, and four that say where the sequence begins."""
    return (shards.size_limit - SHARD_HEADER) // (2 * shards.max_seq_len + 4)


def _shard_room(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    shards = configuration.shards
    if shard_room(shards) < 1:
        least = SHARD_HEADER + 2 * shards.max_seq_len + 4
        yield "shards.size_limit", f"must hold one sequence: at least {least} bytes, or a smaller max_seq_len"
