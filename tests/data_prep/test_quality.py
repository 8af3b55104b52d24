"""Each rule of quality drops what it names, at its threshold, and can be switched off."""

from collections import Counter
from pathlib import Path

import pytest

from data_prep.parse.pubmed import Record, read_pubmed
from data_prep.schema import Quality
from data_prep.select.quality import check
from data_prep.select.words import words_of

OFF = dict.fromkeys(Quality.model_fields)
PROSE = " ".join(["The patients were treated with the drug for six weeks and then observed."] * 4)


def broken(text: str, **settings: float | None) -> str | None:
    return check([text], words_of([text]), Quality(**{**OFF, **settings}))[0]  # type: ignore[arg-type]


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
    assert broken(sound, **settings) is None
    assert broken(unsound, **settings) == rule
    assert broken(unsound) is None


def test_the_first_broken_rule_is_named_and_texts_do_not_touch_each_other() -> None:
    texts = ["1 2 3", PROSE, "", "7.5 3.1 " * 30, "x" * 700 + " y" * 20, "Yes\n" * 30]
    expected = ["few_words", None, "few_words", "few_letters", "long_words", "repeated_lines"]
    assert check(texts, words_of(texts), Quality()) == expected
    assert [check([text], words_of([text]), Quality())[0] for text in texts] == expected


def test_real_abstracts_pass(real_data: Path) -> None:
    texts = []
    for path in (*real_data.glob("pubmed/*.xml.gz"), *real_data.glob("pubmed/*files/*.gz")):
        texts += [f"{r.title}\n{r.abstract}" for r in read_pubmed(path) if isinstance(r, Record) and r.abstract]
    assert len(texts) > 500
    dropped = Counter(check(texts, words_of(texts), Quality()))
    assert set(dropped) <= {None, "few_words"} and dropped[None] > 0.99 * len(texts)
