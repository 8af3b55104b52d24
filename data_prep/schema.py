"""The configuration of data preparation. Every key is explained in ``yamls/data/pubmed.yaml``."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from base.configuration import Schema, Section
from base.storage import is_remote
from data_prep.mirror import NLM

FETCHED = ("ncbi", "sample")  # words instead of a place: what the download stage gets or makes

Name = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]


class Executor(Section):
    name: Literal["local"] = "local"
    workers: Positive = 2


class Download(Section):
    url: Annotated[str, Field(pattern=r"^https?://")] = NLM
    files: Positive = 1
    connections: Annotated[int, Field(ge=1, le=8)] = 2
    attempts: Positive = 5
    timeout_seconds: Positive = 60


class Sample(Section):
    citations: Annotated[int, Field(ge=50)] = 1500
    files: Annotated[int, Field(ge=2, le=100)] = 3
    seed: int = 17


class Parse(Section):
    labels: Literal["keep", "drop"] = "keep"
    other_abstracts: bool = False


class Select(Section):
    require_abstract: bool = True
    drop_retracted: bool = True
    languages: list[Annotated[str, Field(pattern="^[a-z]{3}$")]] | None = None


class Tokenizer(Section):
    vocab_size: Annotated[int, Field(ge=258, le=65536)] = 28896
    min_frequency: Positive = 2
    max_training_bytes: Positive = 2_000_000_000
    seed: int = 0
    compare_with: dict[str, str] = {}


class Shards(Section):
    max_seq_len: Annotated[int, Field(ge=8, le=65536)] = 1024
    packing: Literal["eos", "concat"] = "eos"
    shuffle_seed: int = 0
    val_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    size_limit: Annotated[int, Field(ge=1 << 16, lt=1 << 32)] = 1 << 26
    hashes: list[Literal["sha1", "sha256", "md5", "xxh64", "xxh128"]] = Field(default=["sha1", "xxh64"], min_length=1)
    compression: Literal["zstd"] | None = None


class Verify(Section):
    documents: Positive = 200
    seed: int = 0


class DataConfiguration(Schema):
    pubmed: Name
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
        return [_work_is_local, _schemes]


def _work_is_local(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    if configuration.work is None:
        if configuration.out.startswith("s3://"):
            yield "work", "must name a local folder for the steps between when out lies in a bucket"
    elif "://" in configuration.work:
        yield "work", "must be a local folder"


def _schemes(configuration: DataConfiguration) -> Iterable[tuple[str, str]]:
    for key in ("pubmed", "out"):
        try:
            is_remote(getattr(configuration, key))
        except Exception as error:
            yield key, str(error)
