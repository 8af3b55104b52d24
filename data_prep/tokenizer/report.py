"""What a vocabulary is worth: tokens per word and byte, terms kept whole, numbers, and all that against its size.

A *word* is what stands between spaces. No byte-level tokenizer has an entry across a space, so the share kept whole is
that of the terms of one word; terms of several words are in the pieces per term and per word.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from data_prep.documents import document_hash
from data_prep.tokenizer.others import ByteLevel, Measured
from data_prep.tokenizer.terms import Spelled, TermList, Words, spelled
from data_prep.tokenizer.training import truncated

OURS = "ours"
RARE = 10  # a term that the training text has less often is rare
SHOWN = 12  # terms whose pieces are listed, of the rare and of the unseen ones
PAPER_EXAMPLES = (  # the paper's table 3 and its model card: one token each in BioMedLM's vocabulary
    "chromatography", "cytotoxicity", "Immunohistochemistry", "photosynthesis", "probiotic", "myocardium",
    "nanoparticles", "thrombin", "ECG", "GATA",
)  # fmt: skip
NUMBERS = (  # as abstracts write them
    "5", "12", "100", "2019", "12345", "1,234", "0.05", "0.001", "12.5%", "95%", "1.73", "p < 0.001", "P=0.03",
    "n = 120", "5 mg", "50 mg/kg", "10 mL", "2.5 mmol/L", "37 °C", "50 μM", "100 ng/ml", "120/80 mmHg", "kg/m2",
    "10^-5", "10(-5)", "1 × 10^6", "0.85 (0.72-0.99)", "95% CI", "CD4+", "IL-6", "H2O2", "Ca2+",
)  # fmt: skip


def rates(tokenizer: Measured, texts: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """``tokens_per_word`` and ``tokens_per_byte`` for each source."""
    found = {}
    for source, documents in texts.items():
        tokens = tokenizer.count(documents)
        found[source] = {
            "tokens_per_word": tokens / max(1, sum(len(text.split()) for text in documents)),
            "tokens_per_byte": tokens / max(1, sum(len(text.encode()) for text in documents)),
        }
    return found


def measure_words(tokenizers: Mapping[str, Measured]) -> dict[str, Any]:
    """``examples`` and ``numbers``: the pieces by tokenizer; ``digits``: how whole numbers of 1 to 4 digits fall."""
    return {
        "examples": {name: _pieces(tokenizer, PAPER_EXAMPLES) for name, tokenizer in tokenizers.items()},
        "numbers": {name: _pieces(tokenizer, NUMBERS) for name, tokenizer in tokenizers.items()},
        "digits": {name: _digits(tokenizer) for name, tokenizer in tokenizers.items()},
    }


def _pieces(tokenizer: Measured, terms: Sequence[str]) -> dict[str, list[str]]:
    return dict(zip(terms, tokenizer.pieces(terms), strict=True))


def _digits(tokenizer: Measured) -> dict[str, dict[str, float]]:
    found = {}
    for digits in range(1, 5):
        numbers = [str(number) for number in range(10 ** (digits - 1) if digits > 1 else 0, 10**digits)]
        pieces = tokenizer.pieces(numbers)
        found[str(digits)] = {
            "whole": sum(len(each) == 1 for each in pieces) / len(numbers),
            "pieces": sum(map(len, pieces)) / len(numbers),
        }
    return found


def measure_terms(
    tokenizers: Mapping[str, Measured], lists: Sequence[TermList], counts: Counter[Words]
) -> dict[str, Any]:
    """How terms fall, by tokenizer: ``by_list``, ``by_kind`` and ``by_frequency``; ``shown``, some rare and unseen."""
    spellings = {term: spelled(term, counts) for each in lists for term in each.terms}
    lines = sorted({spelling.text for spelling in spellings.values()})
    kinds = dict.fromkeys(each.kind for each in lists)
    by_kind = {kind: _unique(each.terms for each in lists if each.kind == kind) for kind in kinds}
    by_frequency: dict[str, list[str]] = {"frequent": [], "rare": [], "unseen": []}
    for term in _unique(each.terms for each in lists):
        by_frequency[_frequency(spellings[term].count)].append(term)

    found: dict[str, Any] = {"lists": [[each.kind, each.name] for each in lists], "by_tokenizer": {}, "shown": {}}
    for name, tokenizer in tokenizers.items():
        pieces = _pieces(tokenizer, lines)
        found["by_tokenizer"][name] = {
            "by_list": {each.name: _fall(each.terms, spellings, pieces) for each in lists},
            "by_kind": {kind: _fall(terms, spellings, pieces) for kind, terms in by_kind.items()},
            "by_frequency": {band: _fall(terms, spellings, pieces) for band, terms in by_frequency.items()},
        }
        for band in ("rare", "unseen"):
            for text in _some({spellings[term].text for term in by_frequency[band]}):
                found["shown"].setdefault(band, {}).setdefault(text, {})[name] = pieces[text]
    return found


def _frequency(count: int) -> str:
    return "unseen" if not count else "rare" if count < RARE else "frequent"


def _unique(terms: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(term for each in terms for term in each))


def _some(terms: Iterable[str]) -> list[str]:
    """A few single words, chosen by their hash: no one has picked them."""
    return sorted((term for term in terms if " " not in term), key=lambda term: document_hash(term, "shown"))[:SHOWN]


def _fall(
    terms: Sequence[str], spellings: Mapping[str, Spelled], pieces: Mapping[str, list[str]]
) -> dict[str, float | int | None]:
    texts = [spellings[term].text for term in terms]
    single = [text for text in texts if " " not in text]
    fallen = sum(len(pieces[text]) for text in texts)
    return {
        "terms": len(texts),
        "of_one_word": len(single),
        "whole": _ratio(sum(len(pieces[text]) == 1 for text in single), len(single)),
        "pieces_per_term": _ratio(fallen, len(texts)),
        "pieces_per_word": _ratio(fallen, sum(len(text.split()) for text in texts)),
        "letters_per_piece": _ratio(sum(len(text) for text in texts), fallen),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def measure_curve(
    largest: Tokenizer, sizes: Sequence[int], texts: Mapping[str, Sequence[str]], terms: Sequence[str]
) -> list[dict[str, Any]]:
    """The rates, and the share of ``terms`` (of one word) kept whole, at each size that the text allows."""
    points = []
    for size in sorted({min(size, largest.get_vocab_size()) for size in sizes}):
        tokenizer = ByteLevel(truncated(largest, size))
        whole = sum(len(pieces) == 1 for pieces in tokenizer.pieces(terms)) if terms else 0
        points.append({"vocab_size": size, **rates(tokenizer, texts), "whole": _ratio(whole, len(terms))})
    return points


def single_words(lists: Sequence[TermList], counts: Counter[Words]) -> list[str]:
    """The terms of one word, each once, as they are spelled."""
    texts = {spelled(term, counts).text for each in lists for term in each.terms}
    return sorted(text for text in texts if " " not in text)
