"""What publishers add is taken out, sentence by sentence; what a study says stays."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from data_prep.select.boilerplate import candidates, strip, strip_all, strip_some
from data_prep.select.words import words_of

STUDY = "We saw 12 patients."
FORMULAS = [
    ("copyright", "Copyright © 2011 Some Society."),
    ("copyright", "© 2020 The Authors. Journal of Tests published by Wiley Periodicals, Inc. J Tests 3:1-5, 2020."),
    ("copyright", "(c) 2001 Elsevier Science B.V. All rights reserved."),
    ("copyright", "(c)1999 by Small Press."),
    ("copyright", "Copyright 1998 Wiley-Liss, Inc."),
    ("copyright", "This article is protected by copyright. All rights reserved."),
    ("rights", "All rights reserved."),
    ("published_by", "Published by Elsevier Ltd."),
    (
        "licence",
        "This is an Open Access article distributed under the terms of the Creative Commons licence.",
    ),
    ("licence", "This article is licensed under a Creative Commons Attribution 4.0 International License."),
    ("licence", "To view a copy of this licence, visit http://creativecommons.org/licenses/by/4.0/."),
    ("disclaimer", "Springer Nature remains neutral with regard to jurisdictional claims in maps."),
    ("disclaimer", "Publisher’s note: this is a note."),
    ("interests", "The authors declare that they have no competing interests."),
    ("interests", "CONFLICT OF INTEREST: The authors have no conflicts of interest to declare."),
    ("interests", "No conflicts of interest were declared."),
    ("interests", "All other authors report no financial interest in the product."),
    ("interests", "FINANCIAL DISCLOSURE(S): Proprietary or commercial disclosure may be found after the references."),
    ("interests", "Competing interests"),
    ("data_statement", "The data that support the findings of this study are available on request."),
    ("data_statement", "The datasets used and/or analysed during the current study are available from the author."),
    ("data_statement", "All relevant data are within the paper."),
    ("data_statement", "Data sharing not applicable to this article."),
    ("review_form", "Is the manuscript technically sound, and do the data support it?"),
    ("review_form", "Reviewer #1: Yes"),
    ("refinement", "Refinement of F2 against ALL reflections."),
    ("refinement", "The weighted R-factor wR and goodness of fit S are based on F2."),
    ("part_doi", "DOI: http://dx.doi.org/10.7554/eLife.00001.002"),
    ("part_doi", "DOI: https://doi.org/10.7554/eLife.00001.012."),
]
SCIENCE = [
    "Conflicts of interest were declared in 34 of 120 trials, and no competing interests in 60.",
    "The authors of 12 reviews reported no conflicts of interest and 30% had no competing interests.",
    "No conflict between the groups was seen over the resources that were reserved for them.",
    "Competing interests of farmers and wolves shape the landscape.",
    "Copyright law restricts the use of clinical scales.",
    "Analyses were done in SPSS 21 © 2012 IBM Corporation and Excel.",
    "Groups were (a) fed, (b) fasted, and (c) 2001 cells in each were counted.",
    "The software is freely available at https://example.org under an open licence.",
    "Publisher and reviewer agreed that the manuscript was sound in 12 of 20 cases.",
    "Open access to care was limited, and all data were relevant.",
    "The goodness of fit of the model was 0.98.",
    "Patients with hepatitis C 2001 to 2005 were included.",
    "Creative commons of pasture were grazed by sheep.",
    "Data availability was poor in 3 of 10 registries.",
    "DOI: http://dx.doi.org/10.7554/eLife.00001.002 holds the counts of all cells.",
    "Counts are those of a study of 2013 (DOI: http://dx.doi.org/10.7554/eLife.00001).",
]  # fmt: skip


@pytest.mark.parametrize(("rule", "formula"), FORMULAS)
def test_a_formula_goes_and_its_neighbours_stay(rule: str, formula: str) -> None:
    for before, after in ((f"{STUDY} ", ""), (f"{STUDY}\n", ""), ("", ""), (f"{STUDY}\n", "\nMore was seen.")):
        text = before + formula + after
        batch = pa.array([STUDY, text])
        assert candidates(batch, words_of(batch)).tolist() == [1]
        stripped, counts = strip(text)
        assert stripped == (before.rstrip() + after).lstrip("\n") and counts == {rule: 1}


@pytest.mark.parametrize("sentence", SCIENCE)
def test_what_a_study_says_stays(sentence: str) -> None:
    for text in (sentence, f"{STUDY} {sentence} {STUDY}", f"A title\n{sentence}\n{STUDY}"):
        assert strip(text) == (text, Counter())


def test_a_notice_that_is_glued_to_the_text_goes_to_the_end_of_its_line() -> None:
    text = "A title.\nIt worked.© 2015 Wiley Periodicals, Inc. Head Neck 38: E665, 2016.\nRESULTS: Good."
    assert strip(text) == ("A title.\nIt worked.\nRESULTS: Good.", {"copyright": 1})


def test_a_sentence_in_the_middle_leaves_one_space() -> None:
    text = f"{STUDY} The authors declare no conflict of interest. All rights reserved. They got well (all of them)."
    assert strip(text) == (f"{STUDY} They got well (all of them).", {"interests": 1, "rights": 1})
    assert strip("All rights reserved.")[0] == ""


def test_a_sentence_at_the_beginning_of_a_line_leaves_the_line_apart() -> None:
    assert strip(f"A title.\nAll rights reserved. {STUDY}\nMore. ")[0] == f"A title.\n{STUDY}\nMore."
    assert strip(f"A title.\nAll rights reserved. All rights reserved. {STUDY}")[0] == f"A title.\n{STUDY}"
    assert strip(f"All rights reserved. {STUDY}\nAll rights reserved.")[0] == STUDY


def test_candidates_are_all_texts_that_strip_changes() -> None:
    texts = pa.array([f"{STUDY} {formula}" for _, formula in FORMULAS] + SCIENCE + ["", "Plain."])
    for part in (texts, texts[3:]):  # a part of an array has its texts in the middle of the bytes
        found = candidates(part, words_of(part)).tolist()
        assert {place for place, text in enumerate(part.to_pylist()) if strip(text)[1]} <= set(found)
    none = pa.array([], pa.string())
    assert candidates(none, words_of(none)).tolist() == []


def test_a_batch_comes_back_with_the_words_of_what_is_left() -> None:
    given = [STUDY, f"{STUDY} All rights reserved.", *SCIENCE, "All rights reserved.", "Copyright © 2011 Society."]
    texts = pa.array(given)
    stripped, words, hits = strip_all(texts, words_of(texts))
    assert stripped.to_pylist() == [strip(text)[0] for text in given]
    assert hits == {1: {"rights": 1}, len(given) - 2: {"rights": 1}, len(given) - 1: {"copyright": 1}}
    fresh = words_of(stripped)
    assert (words.hashes == fresh.hashes).all() and (words.offsets == fresh.offsets).all()
    assert strip_some(texts, np.isin(np.arange(len(given)), list(hits))).equals(stripped)
    assert strip_some(texts, np.zeros(len(given), dtype=bool)).equals(texts)
    stripped, words, hits = strip_all(pa.array(SCIENCE), words_of(SCIENCE))
    assert stripped.to_pylist() == SCIENCE and hits == {} and (words.hashes == words_of(SCIENCE).hashes).all()
