"""Documents that are nearly the same: MinHash over runs of words, bands to find candidates, signatures to check them.

Near means that of all different runs of ``ngram`` words in two texts, a share of at least ``threshold`` is in both
(Jaccard), as estimated from their signatures. Signatures are made where the texts are, a file at a time; finding reads
one band of all files at a time, so that it holds a few numbers for each document and never the signatures.
"""

import struct
from collections.abc import Iterator, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from base.errors import UserError
from base.progress import progress
from data_prep.schema import NearDuplicates
from data_prep.select.words import Words, runs_of

ALGORITHM = 2  # rensa's; another one would make signatures that cannot be compared with stored ones
SEED = 1
LONE = np.uint64(0)  # the key of what no document may be compared by
EMPTY = np.uint32(0xFFFFFFFF)  # every place of the signature of a text without a run
LEADERS = 32  # of a bucket, to which all others in it are compared
TEXTS = 100  # whose signatures are Python's numbers at a time: these stay in the processor's cache
PAIRS = 100_000  # whose signatures are in memory at a time: two of 448 bytes each

Key = NDArray[np.uint64]


def signatures(words: Words, settings: NearDuplicates) -> NDArray[np.uint32]:
    """A row of ``bands * rows`` numbers for each text; two rows agree in a share of places that estimates the texts'
    similarity, with a standard error of at most ``sqrt(s * (1 - s) / (bands * rows))`` (0.038 at 0.8). A text with
    fewer words than ``ngram`` gets a row that matches nothing.

    By rensa's R-MinHash, after Dahlgaard, Knudsen and Thorup, Fast Similarity Sketching (arXiv 1704.04370).
    """
    from rensa import RMinHash

    if RMinHash.ALGORITHM_VERSION != ALGORITHM:
        raise UserError(
            f"the installed rensa has version {RMinHash.ALGORITHM_VERSION} of R-MinHash, not {ALGORITHM}: its "
            "signatures cannot be compared with stored ones; install the release that setup.cfg names"
        )
    length = settings.bands * settings.rows
    runs = runs_of(words, settings.ngram)
    pack = struct.Struct(f"={length}I").pack  # numpy alone takes three times as long
    rows = []
    for begin in range(0, len(runs.counts), TEXTS):
        offsets = runs.offsets[begin : begin + TEXTS + 1]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            runs.hashes[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.uint64), length, SEED
        )
        rows += [pack(*row) for row in matrix.to_rows()]
    return np.frombuffer(b"".join(rows), dtype=np.uint32).reshape(-1, length)


def band_keys(signatures: NDArray[np.uint32], settings: NearDuplicates) -> Key:
    """uint64[bands, texts]: texts with the same key in a band have the same numbers there, and are candidates."""
    pieces = signatures.reshape(len(signatures), settings.bands, settings.rows)
    keys = np.zeros((len(signatures), settings.bands), dtype=np.uint64)
    for row in range(settings.rows):
        keys = (keys ^ pieces[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    keys[(signatures == EMPTY).all(axis=1)] = LONE
    return np.ascontiguousarray(keys.T)


def find(
    band_files: Sequence[Path], signature_files: Sequence[Path], chosen: NDArray[np.int64],
    priority: NDArray[np.int64], threshold: float,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:  # fmt: skip
    """Which documents repeat another one that stays.

    Documents are joined when they share a bucket (the same key in the same band) and their signatures agree in at
    least ``threshold`` of their places; what is joined through others is joined too. Of each group the document with
    the lowest priority number stays.

    In a bucket, leaders are taken by priority: the first document leads and is compared to all others; the next one
    that has not joined any leads next, up to LEADERS times. So a bucket of up to 33 documents misses a pair only when
    both have joined leaders, and then leaders unlike each other; and one of 100,000 takes 3.2 million comparisons, not
    5 billion. A pair that a bucket misses has other bands: two documents with a similarity of 0.8 share 2.3 buckets on
    average, and at least one with a probability of 0.92 (0.9: 6.0 and 0.9996).

    Neither the order of the files nor that of ``chosen`` changes the outcome. Memory: about 45 bytes for each chosen
    document (beside the 16 of the arguments), and 90 MB of signatures at a time.

    Args:
        band_files: ``.npy`` files, uint64[bands, n_i] each.
        signature_files: ``.npy`` files, uint32[n_i, bands * rows] each, in the same order.
        chosen: rows that take part, counted over all files end to end, each once.
        priority: for each chosen row; no two the same.

    Returns:
        dropped: for each chosen row, whether another one stays in its place.
        representative: the row that stays in its place, -1 for rows that are not dropped.

    Raises:
        UserError: files or arguments do not fit together.
    """
    starts, bands = _layout(band_files, signature_files, chosen, priority)
    by_priority = np.argsort(priority).astype(np.int32)
    rank = np.empty_like(by_priority)
    rank[by_priority] = np.arange(len(rank), dtype=np.int32)
    stored = _Signatures(signature_files, starts, threshold)
    parent = np.arange(len(chosen), dtype=np.int32)  # rank → a rank that is joined to it, and lower unless it stays
    with progress("near duplicates", bands, "bands") as advance:
        for band in range(bands):
            buckets = _shared(_keys(band_files, band, starts, chosen), rank)
            _join_buckets(*buckets, chosen[by_priority[buckets[0]]], stored, parent)
            advance(1)
    root = _roots(parent, np.arange(len(parent), dtype=np.int32))[rank]
    dropped = root != rank
    return dropped, np.where(dropped, chosen[by_priority[root]], -1)


def _layout(
    band_files: Sequence[Path], signature_files: Sequence[Path], chosen: NDArray[np.int64], priority: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """The first row of each file (and behind the last), and the number of bands."""
    if len(chosen) >= 1 << 31:
        raise UserError(f"near duplicates: {len(chosen):,} documents; at most 2,147,483,647 can be compared")
    if len(band_files) != len(signature_files) or len(chosen) != len(priority):
        raise UserError("near duplicates: band files and signature files, or rows and priorities, differ in number")
    starts, bands = [0], set()
    for band_file, signature_file in zip(band_files, signature_files, strict=True):
        keys, numbers = np.load(band_file, mmap_mode="r"), np.load(signature_file, mmap_mode="r")
        if keys.shape[1] != numbers.shape[0]:
            raise UserError(f"{band_file} has {keys.shape[1]} documents, {signature_file} has {numbers.shape[0]}")
        starts.append(starts[-1] + keys.shape[1])
        bands.add(keys.shape[0])
    if len(bands) > 1:
        raise UserError(f"near duplicates: files with {sorted(bands)} bands beside each other; make them anew")
    return np.array(starts), bands.pop() if len(chosen) else 0


def _keys(band_files: Sequence[Path], band: int, starts: NDArray[np.int64], chosen: NDArray[np.int64]) -> Key:
    """The chosen rows' keys in one band."""
    keys = np.empty(len(chosen), dtype=np.uint64)
    for rows, path, first in _by_file(chosen, band_files, starts):
        keys[rows] = np.load(path, mmap_mode="r")[band][chosen[rows] - first]
    return keys


def _by_file(
    rows: NDArray[np.int64], files: Sequence[Path], starts: NDArray[np.int64]
) -> Iterator[tuple[slice | NDArray[np.int64], Path, int]]:
    """Where in ``rows`` those of each file stand, the file and its first row."""
    rising = bool((rows[1:] >= rows[:-1]).all())
    order = None if rising else np.argsort(rows, kind="stable")
    cuts = np.searchsorted(rows, starts, sorter=order)
    for index, path in enumerate(files):
        if cuts[index] < cuts[index + 1]:
            part = slice(cuts[index], cuts[index + 1])
            yield part if order is None else order[part], path, int(starts[index])


def _shared(keys: Key, rank: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Ranks of the documents whose key others have too, bucket by bucket and rising in each, and each one's bucket."""
    order = np.argsort(keys)
    keys = keys[order]
    same = (keys[1:] == keys[:-1]) & (keys[1:] != LONE)
    members = np.zeros(len(keys), dtype=bool)
    members[1:] = same
    members[:-1] |= same
    new = np.ones(len(keys), dtype=bool)
    new[1:] = ~same
    ranks, bucket = rank[order[members]], np.cumsum(new[members]) - 1
    inside = np.lexsort((ranks, bucket))
    return ranks[inside], bucket[inside]


class _Signatures:
    """Stored signatures, compared a block of pairs at a time."""

    def __init__(self, files: Sequence[Path], starts: NDArray[np.int64], threshold: float):
        self._files, self._starts, self._threshold = files, starts, threshold
        self._shapes = {path: _shape(path) for path in files}
        self._held: tuple[NDArray[np.int64], NDArray[np.uint32]] | None = None

    def hold(self, rows: NDArray[np.int64]) -> None:
        """Have these in memory for what comes, if they are few: to open all files for every few pairs takes longer than
        to compare them."""
        rows = np.unique(rows)
        self._held = (rows, self._read(rows)) if 0 < len(rows) <= 2 * PAIRS else None

    def alike(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each pair of rows, whether their signatures agree in enough places."""
        alike = np.zeros(len(one), dtype=bool)
        for begin in range(0, len(one), PAIRS):
            block = slice(begin, begin + PAIRS)
            rows, place = np.unique(np.concatenate([one[block], other[block]]), return_inverse=True)
            read = self._read(rows) if self._held is None else self._held[1][np.searchsorted(self._held[0], rows)]
            first, second = np.split(place, 2)
            enough = int(np.ceil(self._threshold * read.shape[1] - 1e-9))
            alike[block] = (read[first] == read[second]).sum(axis=1) >= enough
        return alike

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        found = []
        for part, path, first in _by_file(rows, self._files, self._starts):
            begin, places = self._shapes[path]  # np.load would read them again: that takes longer than a few rows
            with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                stored = np.frombuffer(content, dtype=np.uint32, offset=begin).reshape(-1, places)
                found.append(stored[rows[part] - first])
                del stored  # a file in use cannot be closed
        return np.concatenate(found)


def _shape(path: Path) -> tuple[int, int]:
    """Where in a file the signatures begin, and how many numbers each has."""
    stored = np.load(path, mmap_mode="r")
    return stored.offset, stored.shape[1]


def _join_buckets(
    ranks: NDArray[np.int32], bucket: NDArray[np.int64], rows: NDArray[np.int64], stored: _Signatures,
    parent: NDArray[np.int32],
) -> None:  # fmt: skip
    """Compare the members of all buckets of a band to their leaders, and note in ``parent`` what is joined."""
    stored.hold(rows)
    free = np.ones(len(ranks), dtype=bool)  # neither a leader so far nor joined to one
    led = np.zeros(len(ranks), dtype=bool)
    for _ in range(LEADERS):
        goes_on = np.zeros(bucket.max(initial=-1) + 1, dtype=bool)
        goes_on[bucket[free]] = True
        stays = goes_on[bucket]
        ranks, bucket, rows, free, led = ranks[stays], bucket[stays], rows[stays], free[stays], led[stays]
        if not len(ranks):
            return
        open_to_lead = np.flatnonzero(free)
        leading, first = np.unique(bucket[open_to_lead], return_index=True)
        leader_of = np.full(len(goes_on), -1)
        leader_of[leading] = open_to_lead[first]
        led[leader_of[leading]], free[leader_of[leading]] = True, False

        member = np.flatnonzero(~led)
        leader = leader_of[bucket[member]]
        known = _roots(parent, ranks[member]) == _roots(parent, ranks[leader])
        free[member[known]] = False
        member, leader = member[~known], leader[~known]
        alike = stored.alike(rows[member], rows[leader])
        free[member[alike]] = False
        _join(parent, ranks[member[alike]], ranks[leader[alike]])


def _roots(parent: NDArray[np.int32], ranks: NDArray[np.int32]) -> NDArray[np.int32]:
    """The lowest rank to which each is joined."""
    above = parent[ranks]
    while True:
        higher = parent[above]
        if (higher == above).all():
            return above
        above = higher


def _join(parent: NDArray[np.int32], one: NDArray[np.int32], other: NDArray[np.int32]) -> None:
    """Join pairs, so that the root of what is joined is its lowest rank."""
    while len(one):
        above_one, above_other = _roots(parent, one), _roots(parent, other)
        parent[one], parent[other] = above_one, above_other  # the next search has a shorter way
        one, other = above_one, above_other
        apart = one != other
        one, other = one[apart], other[apart]
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
