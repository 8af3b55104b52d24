"""Each rule of quality drops what it names, at its threshold, and can be switched off."""

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep.parse.pubmed import Record, read_pubmed
from data_prep.schema import Quality
from data_prep.select import quality
from data_prep.select.reasons import NAMES
from data_prep.select.words import words_of

OFF = dict.fromkeys(Quality.model_fields)
PROSE = " ".join(["The patients were treated with the drug for six weeks and then observed."] * 4)


def check(texts: list[str], settings: Quality) -> list[str]:
    """The rule that each text breaks, or nothing."""
    codes = quality.check(pa.array(texts, pa.string()), words_of(texts), settings)
    return [NAMES[code] for code in codes]


def broken(text: str, **settings: float | None) -> str:
    return check([text], Quality(**{**OFF, **settings}))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "settings", "sound", "unsound"),
    [
        ("few_words", {"min_words": 5}, "one two three four five", "one two three four"),
        ("many_words", {"max_words": 4}, "one two three four", "one two three four five"),
        ("few_letters", {"min_letters": 0.5}, "ab 12", "ab 123"),
        ("few_letters", {"min_letters": 0.5}, "βγ ±µ", "βγ ±µ≥"),
        ("long_words", {"max_mean_word_length": 5}, "abcde fghij", "abcde fghijk"),
        ("repeated_lines", {"max_repeated_lines": 0.4}, "ab\ncd\nab\n\n", "ab\ncd\nab\ncd\nab"),
    ],
)
def test_a_rule_holds_up_to_its_threshold(rule: str, settings: dict[str, float], sound: str, unsound: str) -> None:
    assert broken(sound, **settings) == ""
    assert broken(unsound, **settings) == rule
    assert broken(unsound) == ""


def test_the_first_broken_rule_is_named_and_texts_do_not_touch_each_other() -> None:
    texts = ["1 2 3", PROSE, "", "7.5 3.1 " * 30, "x" * 700 + " y" * 20, "Yes\n" * 30]
    expected = ["few_words", "", "few_words", "few_letters", "long_words", "repeated_lines"]
    assert check(texts, Quality()) == expected
    assert [check([text], Quality())[0] for text in texts] == expected


def plain_rule(text: str) -> str:
    """The definitions of letters and of repeated lines, a character at a time, with their thresholds below."""
    begins = [character.encode()[0] for character in text]
    letters = [65 <= b <= 90 or 97 <= b <= 122 or (b >= 0xC3 and b != 0xE2) for b in begins]
    if sum(letters) < 0.5 * sum(b > 32 for b in begins):
        return "few_letters"
    lines = text.split("\n")
    repeated = sum(len(line) for place, line in enumerate(lines) if line in lines[:place])
    return "repeated_lines" if repeated > 0.3 * len(text) else ""


def test_letters_and_lines_are_counted_as_in_the_plain_definition() -> None:
    dice = random.Random(4)
    pieces = ["a", "Z", "word ", "β", "é", "细", "😀", "±", "–", "\n", "\n", "7", ".", " ", "\0", "x" * 80, "l\n" * 9]
    texts = ["".join(dice.choices(pieces, k=dice.randrange(30))) for _ in range(2000)]
    found = check(texts, Quality(**{**OFF, "min_letters": 0.5, "max_repeated_lines": 0.3}))  # type: ignore[arg-type]
    assert found == [plain_rule(text) for text in texts]
    assert min(Counter(found).values()) > 50 and len(set(found)) == 3


def test_real_abstracts_pass(real_data: Path) -> None:
    texts = []
    for path in (*real_data.glob("pubmed/*.xml.gz"), *real_data.glob("pubmed/*files/*.gz")):
        texts += [f"{r.title}\n{r.abstract}" for r in read_pubmed(path) if isinstance(r, Record) and r.abstract]
    assert len(texts) > 500
    dropped = Counter(check(texts, Quality()))
    assert set(dropped) <= {"", "few_words"} and dropped[""] > 0.99 * len(texts)
