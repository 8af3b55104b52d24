"""Licences: codes of the metadata, and what an article's own XML says; never the first or the freest link."""

from array import array

import pytest
from made_articles import jats, metadata, read

from data_prep.parse.article_metadata import CODES as CODES_OF_LISTS
from data_prep.parse.article_metadata import FileList, apply_json
from data_prep.parse.licenses import CODES, NARROWNESS, from_code, permitted

BY, NC, ZERO = (
    f"https://creativecommons.org/{kind}"
    for kind in ("licenses/by/4.0/", "licenses/by-nc-nd/3.0", "publicdomain/zero/1.0/")
)


def found(permissions: str) -> str | None:
    return read(jats(front=permissions)).license


def licensed(text: str, attributes: str = "") -> str | None:
    return found(f"<permissions><license {attributes}><license-p>{text}</license-p></license></permissions>")


def link(url: str) -> str:
    return f'<ext-link ext-link-type="uri" xlink:href="{url}">{url}</ext-link>'


@pytest.mark.parametrize(
    ("code", "license"),
    [
        ("CC BY", "CC BY"), ("CC BY 4.0", "CC BY"), ("cc-by-nc-nd", "CC BY-NC-ND"), ("CC BY-ND-NC 3.0", "CC BY-NC-ND"),
        ("CC BY-NC-SA 3.0 IGO", "CC BY-NC-SA"), ("CC0", "CC0"), ("CC0 1.0", "CC0"), ("TDM", "TDM"),
        ("CC-BY-SA", "CC BY-SA"),
        ("NO-CC CODE", None), ("", None), (None, None), ("other", None), ("Public Domain", "public domain"),
    ],
)  # fmt: skip
def test_codes_lose_their_versions(code: str | None, license: str | None) -> None:
    assert from_code(code) == license


@pytest.mark.parametrize(
    ("xml", "license"),
    [
        (f'<permissions><license xlink:href="{BY}"/></permissions>', "CC BY"),
        (f"<permissions><ali:license_ref>{NC}</ali:license_ref></permissions>", "CC BY-NC-ND"),
        (f"<permissions><license><ali:license_ref>{BY}</ali:license_ref></license></permissions>", "CC BY"),
        (f"<license><p>See {link(BY)}.</p></license>", "CC BY"),  # before NLM 2.3 there were no permissions
        (f"<permissions><license><license-p>See <uri>{BY}</uri></license-p></license></permissions>", "CC BY"),
        (f'<permissions><license xlink:href="{BY}"/><license xlink:href="{ZERO}"/></permissions>', "CC BY"),
        (f'<permissions><license xlink:href="{BY}"/><license xlink:href="{NC}"/></permissions>', "CC BY-NC-ND"),
        (
            "<permissions><copyright-statement>© 2010, under CC BY-NC 2.0</copyright-statement></permissions>",
            "CC BY-NC",
        ),
        ("<permissions><copyright-statement>© 2010 The Author</copyright-statement></permissions>", None),
        ('<permissions><license license-type="open-access"/></permissions>', None),
        ("", None),
    ],
)
def test_the_licence_is_found_wherever_the_article_names_it(xml: str, license: str | None) -> None:
    assert found(xml) == license


@pytest.mark.parametrize(
    ("text", "license"),
    [
        (
            "distributed under the terms of the Creative Commons Attribution License, which permits unrestricted use",
            "CC BY",
        ),
        ("under the Creative Commons Attribution-NonCommercial-NoDerivs 3.0 License", "CC BY-NC-ND"),
        ("under the Creative Commons Attribution Non-Commercial License (CC BY-NC 4.0)", "CC BY-NC"),
        ("under the Creative Commons Attribution-ShareAlike License", "CC BY-SA"),
        ("Creative Commons Attribution License, which permits unrestricted non-commercial use", "CC BY-NC"),
        ("Creative Commons Attribution License, for commercial and non-commercial purposes", "CC BY"),
        ("under the Creative Commons Public Domain Declaration", "CC0"),
        ("available under the Creative Commons CC0 public domain dedication", "CC0"),
        ("This is a work of the United States Government.", "public domain"),
        ("This article is in the public domain.", "public domain"),
        ("This is open access. All rights reserved by the publisher.", None),
        ("under the publisher's own user license", None),
    ],
)
def test_the_licence_is_read_from_words(text: str, license: str | None) -> None:
    assert licensed(text) == license


def test_a_waiver_for_the_data_does_not_free_the_article() -> None:
    waiver = f"The Creative Commons Public Domain Dedication waiver ({link(ZERO)}) applies to the data made available."
    assert licensed(f"Creative Commons Attribution License ({link(BY)}). {waiver}") == "CC BY"
    assert licensed(f"Creative Commons Attribution License. {waiver}") == "CC BY"
    assert licensed(f"{link(NC)}. {waiver}") == "CC BY-NC-ND"
    assert licensed(f"All rights reserved. {waiver}") is None
    assert licensed(f"Elsevier user license. Supplementary data: CC0 {link(ZERO)}") is None
    assert licensed("All rights reserved. The Creative Commons CC0 waiver applies to the metadata.") is None
    assert licensed("All rights reserved. The data are in the public domain.") is None
    assert licensed(f"All rights reserved. {waiver}", f'xlink:href="{ZERO}"') == "CC0"
    assert licensed(f"The work is under the CC0 license ({link(ZERO)}). Data are available on request.") == "CC0"


def test_metadata_that_say_there_is_no_licence_outdo_the_xml() -> None:
    article = read(jats())
    apply_json(article, metadata(1, license_code="NO-CC CODE"))
    assert (article.license, article.license_from) == (None, "metadata")
    for unknown in ("", "other", None):
        article = read(jats())
        apply_json(article, metadata(1, license_code=unknown))
        assert (article.license, article.license_from) == ("CC BY", "xml")
    entries = FileList(array("q", [1 * CODES_OF_LISTS]), [("NO-CC CODE", False)])
    entries.apply(article)
    assert (article.license, article.license_from) == (None, "metadata")


def test_words_narrow_a_link_and_a_type_never_grants() -> None:
    words = "under a Creative Commons Attribution-NonCommercial 3.0 Unported License"
    assert licensed(words, f'xlink:href="{BY}"') == "CC BY-NC"
    assert licensed("All rights reserved.", 'license-type="cc-by"') is None
    assert licensed(link(BY), 'license-type="CC BY-NC"') == "CC BY-NC"


def test_licences_of_parts_are_not_the_articles() -> None:
    own = f'<permissions><license xlink:href="{BY}"/></permissions>'
    figure = f"<fig><caption><p>x</p></caption>{own}</fig>"
    assert read(jats(figure, front="")).license is None
    assert read(jats(front="", more=f"<sub-article><front-stub>{own}</front-stub></sub-article>")).license is None


def test_policies() -> None:
    assert set(NARROWNESS) == set(CODES)
    allowed = {policy: {code for code in (*CODES, None) if permitted(code, policy)} for policy in (
        "commercial", "redistributable", "all",
    )}  # fmt: skip
    assert allowed["redistributable"] == {"public domain", "CC0", "CC BY", "CC BY-SA"}
    assert allowed["commercial"] == allowed["redistributable"] | {"CC BY-ND"}
    assert allowed["all"] == {*CODES, None}
    assert permitted("TDM", ["TDM"]) and not permitted("CC BY", ["TDM"]) and not permitted(None, ["TDM"])
