"""What a distribution says of an article beside its XML: the bucket's JSON, the file lists of the old tarballs, a name.

It wins over the XML for licence, version, and the marks of author manuscripts and scanned articles: NLM keeps it up to
date, while the XML stays as the publisher sent it. Retracted is what either calls so.
"""

import csv
import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.parse.article import Article
from data_prep.parse.licenses import from_code, has_none
from data_prep.parse.refusal import Refused, Unreadable

NAMED = re.compile(r"PMC(\d{1,12})(?:\.(\d{1,3}))?(?=\.(?:n?xml|json|tar)\b|$)")
YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)")
CODES = 1 << 16  # kinds of entry that a file list can hold: licence and retraction
NOT_HAD = ("gone", "too_large", "malformed")  # why the downloader has no text of an article


def apply_name(article: Article, name: str) -> None:
    """``PMC123.2.xml``: the number where the XML has none, and the version."""
    match = NAMED.search(name.rpartition("/")[2]) or NAMED.search(name)
    if match:
        article.pmcid = article.pmcid or int(match[1])
        article.version = int(match[2] or article.version)


def apply_json(article: Article, data: bytes) -> None:
    """The bucket's metadata, over what the XML told.

    Raises:
        Refused: it is not metadata, or it holds what no metadata could; neither licence nor retraction can be known
            then.
    """
    try:
        found = json.loads(data)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused("its metadata holds half of a character (a lone surrogate)") from None
    except (ValueError, RecursionError) as error:
        raise Refused(f"its metadata is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused("its metadata is not a JSON object")
    if found.get("error") in NOT_HAD:
        article.kind = found["error"]
    apply_name(article, str(found.get("pmcid") or ""))
    version = _number(found.get("version"))
    if version is not None and version > 9999:
        raise Refused(f"its metadata names a version of more than four digits: {version}")
    article.version = version or article.version
    article.pmid = article.pmid or _number(found.get("pmid"))
    article.doi = article.doi or text_of(found.get("doi")) or None
    article.title = article.title or " ".join(text_of(found.get("title")).split())
    if article.year is None and (year := YEAR.search(text_of(found.get("citation")))):
        article.year = int(year[1])
    _apply_license(article, text_of(found.get("license_code")))
    article.retracted = article.retracted or flag(found.get("is_retracted"))
    if "is_manuscript" in found:
        article.manuscript = flag(found["is_manuscript"])
    article.historical_ocr = flag(found.get("is_historical_ocr"))


@dataclass(frozen=True)
class FileList:
    """Licence and retraction of each article of a file list; eight bytes an article, for there are millions."""

    entries: "array[int]"  # pmcid * CODES + place in codes, sorted
    codes: Sequence[tuple[str, bool]]

    def apply(self, article: Article) -> None:
        """Licence and retraction, where the list has the article."""
        if article.pmcid is None:
            return
        index = bisect_left(self.entries, article.pmcid * CODES)
        if index < len(self.entries) and self.entries[index] // CODES == article.pmcid:
            license_code, retracted = self.codes[self.entries[index] % CODES]
            _apply_license(article, license_code)
            article.retracted = article.retracted or retracted


def _apply_license(article: Article, said: str) -> None:
    """A code that is not understood leaves the XML its say; one that says "none" does not."""
    code = from_code(said)
    if code or has_none(said):
        article.license, article.license_from = code, "metadata"


def file_list(path: Path) -> FileList:
    """Read ``NAME.filelist.csv`` or ``oa_file_list.csv``; once a process, however many tarballs it serves.

    Raises:
        Refused: it lacks the columns, and with them the licences; or it cannot be read.
    """
    try:
        return _file_list(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise Unreadable(error) from None


@lru_cache(maxsize=2)
def _file_list(path: Path, _changed: int) -> FileList:
    codes: dict[tuple[str, bool], int] = {}
    entries = array("q")
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.reader(file)
        header = {name.strip().lstrip("\ufeff").lower(): index for index, name in enumerate(next(rows, []))}
        place = next((header[key] for key in ("accession id", "accessionid", "pmcid") if key in header), None)
        if place is None or "license" not in header:
            raise Refused(f"{path.name} beside it has no columns Accession ID and License")
        for row in rows:
            match = NAMED.search(row[place]) if len(row) > max(place, header["license"]) else None
            if match:
                retracted = "retracted" in header and len(row) > header["retracted"] and flag(row[header["retracted"]])
                code = codes.setdefault((row[header["license"]].strip(), retracted), len(codes))
                entries.append(int(match[1]) * CODES + min(code, CODES - 1))
    return FileList(array("q", sorted(entries)), list(codes))


def _number(value: Any) -> int | None:
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def flag(value: Any) -> bool:
    """What metadata says with yes or no: as JSON, or in words, as file lists and some mirrors have it."""
    return value is True or value == 1 or str(value).strip().lower() in ("true", "yes", "y", "1")
