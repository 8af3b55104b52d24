"""What the numbers of PubMed's files say of the set as a whole: is one missing, are there two baselines?"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from data_prep.parse.sources import NUMBERED

SHOWN = 10  # gaps of a year


def doubts(names: Iterable[str]) -> list[str]:
    """One sentence for each thing that the names of the files make doubtful; nothing where all is well, or where the
    names say nothing.

    NLM's numbers run on from the baseline to the updates of a year (``pubmed26n1334``, ``pubmed26n1335``). A gap is a
    file whose revisions and deletions are not applied. A baseline replaces that of the year before, which has records
    that were dropped since.
    """
    years: dict[str, set[int]] = {}
    for name in names:
        if match := NUMBERED.search(name):
            years.setdefault(match[1], set()).add(int(match[2]))
    gaps = [said for year, numbers in sorted(years.items()) for said in _gaps(year, sorted(numbers))]
    return [*_several(years), *gaps]


def _several(years: dict[str, set[int]]) -> Iterator[str]:
    if len(years) > 1:
        listing = ", ".join(f"{year}nNNNN: {len(numbers)}" for year, numbers in sorted(years.items()))
        yield (
            f"PubMed files of several years side by side ({listing}). Each year's baseline replaces all files of the "
            "years before, which hold records that have been dropped since: give the files of one year"
        )


def _gaps(year: str, numbers: list[int]) -> Iterator[str]:
    gaps = [(one + 1, other - 1) for one, other in pairwise(numbers) if other > one + 1]
    missing = sum(last - first + 1 for first, last in gaps)
    shown = [f"{year}n{first:04d}" + (f" to {year}n{last:04d}" if last > first else "") for first, last in gaps[:SHOWN]]
    if gaps:
        yield (
            f"{missing} PubMed file(s) between {year}n{numbers[0]:04d} and {year}n{numbers[-1]:04d} are missing: "
            f"{', '.join(shown)}{', …' * (len(gaps) > SHOWN)}. Their records, revisions and deletions are not applied"
        )
