"""The text of an article: every section in order, nothing lost, nothing glued, nothing that is not the paper's."""

import pytest
from made_articles import SPACES, body_text, jats, read

CITED = '<xref ref-type="bibr" rid="r">{}</xref>'


def cited(text: str) -> str:
    """``{9}`` stands for a citation of that text."""
    return text.replace("{", '<xref ref-type="bibr" rid="r">').replace("}", "</xref>")


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("It works [{9}].", "It works."),
        ("It works [{1}, {2}–{4}, 6] and more.", "It works and more."),
        ("It works [{1}–3], they say.", "It works, they say."),
        ("It works ({1}; {2}).", "It works."),
        ("It works (see {Smith, 2009}; reviewed in {Lee et al., 2010}).", "It works."),
        ("It works {[9]}, {[10]}–{[12]}.", "It works."),
        ("It works.<sup>{1},{2}</sup> So it does.", "It works. So it does."),
        ("It works<sup>{1}–{3}</sup>, so it does.", "It works, so it does."),
        ("It works{<sup>1</sup>}<sup>,</sup>{<sup>2</sup>} always.", "It works always."),
        ("It works.{9}So it does.", "It works. So it does."),
        ("It works (e.g., [{4},{5}]), they say.", "It works, they say."),
        ("It works (for a review, see [{4}]).", "It works."),
        ("as Smith et al. [{9}].", "as Smith et al."),
        ("It works. {[7]}, {[8]}. So it does.", "It works. So it does."),
        ("It works... [{7}]. So it does.", "It works.... So it does."),
        ("as {Smith 2009} showed", "as Smith 2009 showed"),
        ("as Smith ({2009}) showed", "as Smith showed"),
        ("shown (n = 5; {9}) here", "shown (n = 5) here"),
        ("shown ({9}, Table 2) here", "shown (Table 2) here"),
        ("10<sup>5</sup> cells of [3H] and (2)", "10^5 cells of [3H] and (2)"),
        ("the interval [0, 1] and f() of x", "the interval [0, 1] and f() of x"),
        ("{1} A line that begins so", "A line that begins so"),
        ("a mark<sup><xref ref-type='fn' rid='f'>*</xref></sup> here", "a mark here"),
        ("see <xref ref-type='fig' rid='f'>Figure 1</xref>, [<xref ref-type='table'>Table 2</xref>]",
         "see Figure 1, [Table 2]"),
    ],
)  # fmt: skip
def test_citations_go_without_a_trace_and_the_sentence_stays(xml: str, text: str) -> None:
    assert body_text(f"<p>{cited(xml)}</p>") == text


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("It works [{1}, {2}].", "It works [1, 2]."),
        ("It works<sup>{1},{2}</sup>.", "It works [1,2]."),
        ("It works{<sup>9</sup>}.", "It works [9]."),
    ],
)
def test_citations_that_are_kept_do_not_grow_onto_a_word(xml: str, text: str) -> None:
    assert body_text(f"<p>{cited(xml)}</p>", citations="keep") == text


def test_sections_follow_each_other_with_their_headings_and_empty_ones_go() -> None:
    body = (
        "<p>First.</p><sec><label>1.</label><title>Methods</title><p>Second.</p><sec><title>Patients</title>"
        "<p>Third.</p></sec></sec><sec><title>Nothing</title><fig-group/></sec><sec><p>Fourth.</p></sec>"
    )
    assert body_text(body).split("\n\n") == ["First.", "1. Methods", "Second.", "Patients", "Third.", "Fourth."]
    assert body_text(body, headings=False).split("\n\n") == ["First.", "Second.", "Third.", "Fourth."]


@pytest.mark.parametrize(
    "title",
    [
        "Competing interests", "5. Funding", "Authors’ contributions", "Conflict of Interest Statement", "IV. Funding",
        "Acknowledgements", "Supporting information", "Availability of data and materials", "Ethics statement",
        "Ethics approval and consent to participate", "Declaration of competing interest", "Abbreviations",
        "Appendix A",
        "Pre-publication history", "Role of the funding source", "Additional files", "Disclosure of interests",
    ],
)  # fmt: skip
def test_sections_about_the_paper_are_left_out(title: str) -> None:
    assert body_text(f"<p>Kept.</p><sec><title>{title}</title><p>Not kept.</p></sec>") == "Kept."


@pytest.mark.parametrize(
    "title",
    [
        "Ethics",
        "Ethical considerations",
        "Interest",
        "Supplementation",
        "History",
        "Support",
        "Data",
        "Disclosure of HIV",
    ],
)
def test_sections_of_the_matter_are_kept_though_they_sound_alike(title: str) -> None:
    assert body_text(f"<sec><title>{title}</title><p>Kept.</p></sec>") == f"{title}\n\nKept."


def test_a_title_decides_over_outer_sections_and_the_parts_of_the_last_one() -> None:
    def section(title: str, inner: str) -> str:
        return f"<sec><title>{title}</title>{inner}</sec>"

    funding = section("Sources of funding", "<p>Of 90 trials, 40 named one.</p>")
    results, conclusion = section("Results", funding), section("Conclusion", "<p>End.</p>")
    end = section("Declarations", section("Competing interests", "<p>OUT</p>"))
    assert "Of 90 trials" in body_text(results + conclusion)
    assert body_text(conclusion + funding) == body_text(conclusion + end) == "Conclusion\n\nEnd."
    assert body_text(conclusion + end + section("Authors' contributions", "<p>OUT</p>")) == "Conclusion\n\nEnd."
    typed = section("Results", "<p>Kept.</p><sec sec-type='funding'><p>OUT</p></sec>")
    assert body_text(typed + conclusion) == "Results\n\nKept.\n\nConclusion\n\nEnd."


def test_what_is_not_the_papers_own_text_is_left_out() -> None:
    out = "<p>OUT</p>"
    body = (
        f"<p>Kept.<fn>{out}</fn></p><supplementary-material>{out}</supplementary-material><ack>{out}</ack>"
        f"<sec sec-type='supplementary-material'>{out}</sec><p><media><caption>{out}</caption></media></p>"
    )
    more = (
        f"<back><ack>{out}</ack><app-group><app>{out}</app></app-group><ref-list><ref>OUT</ref></ref-list><notes>{out}"
        f"</notes><glossary>{out}</glossary><fn-group><fn>{out}</fn></fn-group></back><sub-article><front-stub/><body>"
        f"{out}</body></sub-article><response><body>{out}</body></response>"
    )
    article = read(jats(body, more=more))
    assert article.text == "A title\n\nKept." and article.body_words == 1


def test_floats_follow_the_body() -> None:
    floats = "<floats-group><fig><label>Figure 1</label><caption><p>A curve.</p></caption></fig></floats-group>"
    assert read(jats(more=floats)).text == "A title\n\nText.\n\nFigure 1. A curve."
    assert read(jats(more=floats), figures="drop").text == "A title\n\nText."


TABLE = (
    "<table-wrap><label>Table 1</label><caption><title>Doses</title><p>All in mg.</p></caption><alternatives><graphic/>"
    "<table><thead><tr><th>Drug</th><th>Dose</th></tr></thead><tbody><tr><td>A<break/>B</td><td><p>5</p></td></tr><tr><td/>"
    "</tr></tbody></table></alternatives><table-wrap-foot><fn><p>Note.</p></fn></table-wrap-foot></table-wrap>"
)


def test_tables_by_setting() -> None:
    assert body_text(TABLE, tables="drop") == ""
    assert body_text(TABLE) == "Table 1. Doses. All in mg."
    assert body_text(TABLE, tables="text") == "Table 1. Doses. All in mg.\nDrug | Dose\nA B | 5\nNote."
    bare = "<p>Before<array><tbody><tr><td>a</td><td>b</td></tr></tbody></array>after.</p>"
    assert body_text(bare, tables="text").split("\n\n") == ["Before", "a | b", "after."]
    oasis = (
        "<table-wrap><oasis:table xmlns:oasis='o'><oasis:tgroup><oasis:row><oasis:entry>x</oasis:entry><oasis:entry>y"
    )
    assert body_text(f"{oasis}</oasis:entry></oasis:row></oasis:tgroup></oasis:table></table-wrap>", tables="text") == (
        "x | y"
    )


MATH = "<mml:math><mml:msup><mml:mi>x</mml:mi><mml:mn>2</mml:mn></mml:msup></mml:math>"
TEX = "<tex-math>\\documentclass{minimal}\\begin{document}$$y^2$$\\end{document}</tex-math>"


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        (
            f"of<inline-formula><alternatives>{TEX}{MATH}<inline-graphic/></alternatives></inline-formula>in",
            "of x^2 in",
        ),
        (f"of<inline-formula>{TEX}</inline-formula>in", "of y^2 in"),
        (f"of<inline-formula>{TEX}{MATH}</inline-formula>in", "of x^2 in"),
        (f"of<disp-formula>{MATH}<label>(1)</label></disp-formula>where", "of x^2 (1) where"),
        ("<inline-formula>α<sub>2</sub></inline-formula>-globulin", "α2-globulin"),
        ("the mean of <inline-formula><inline-graphic/></inline-formula>, and", "the mean of, and"),
        ("where <inline-formula><inline-graphic/></inline-formula> is the rate", "where is the rate"),
        ("the rate, <inline-formula><inline-graphic/></inline-formula>, is", "the rate, is"),
        ("of <inline-formula><inline-graphic/></inline-formula> <inline-graphic/> . Then", "of. Then"),
        ("where <inline-graphic/>, <inline-graphic/>, and <inline-graphic/> are", "where, and are"),
        ("any <inline-graphic/>, <inline-graphic/> restricted to", "any, restricted to"),
        ("the rates (<inline-graphic/>, <inline-graphic/> and <inline-graphic/>) are", "the rates are"),
        ("one (or <inline-graphic/>), two (<inline-graphic/>; n = 5)", "one, two (n = 5)"),
        ("<inline-graphic/>: rate. Then", "rate. Then"),
        ("P(Abs<inline-formula><inline-graphic/></inline-formula>Class)", "P(Abs Class)"),
        ("M<inline-graphic/>ller", "Mller"),
    ],
)
def test_of_a_formula_one_form_is_taken_and_no_preamble(xml: str, text: str) -> None:
    assert body_text(f"<p>{xml}</p>") == text


def test_formulas_can_be_dropped() -> None:
    xml = f"<p>of <inline-formula>{MATH}</inline-formula>, {MATH} and <disp-formula>{TEX}</disp-formula>here</p>"
    assert body_text(xml, formulas="drop") == "of, and here"


def test_lists_quotations_boxes_and_definitions_keep_their_text() -> None:
    body = (
        "<p>Three:<list list-type='order'><list-item><p>one</p></list-item><list-item><p>two</p><list><list-item>"
        "<p>deep</p></list-item></list></list-item></list>and after.</p><boxed-text><title>Box</title><p>In it.</p>"
        "</boxed-text><disp-quote><p>Said.</p><attrib>Who</attrib></disp-quote><def-list><def-item><term>BP</term><def>"
        "<p>blood pressure</p></def></def-item></def-list><preformat>a  b\nc</preformat><statement>"
        "<label>Lemma 1</label><p>True.</p></statement><list><list-item><label>(a)</label><p>labelled</p></list-item>"
        "</list>"
    )
    assert body_text(body).split("\n\n") == [
        "Three:", "1. one\n2. two\n- deep", "and after.", "Box", "In it.", "Said.", "Who", "BP: blood pressure",
        "a b\nc", "Lemma 1", "True.", "(a) labelled",
    ]  # fmt: skip


def test_an_item_gets_no_second_mark() -> None:
    items = "".join(f"<list-item><p>{text}</p></list-item>" for text in ("• one", "(i) two", "three"))
    assert body_text(f"<list list-type='bullet'>{items}</list>") == "• one\n(i) two\n- three"
    assert body_text(f"<list list-type='simple'>{items}</list>") == "• one\n(i) two\nthree"


def test_elements_of_a_future_dtd_are_text_and_glue_nothing() -> None:
    assert body_text("<p>an <new>unknown <italic>one</italic></new>s</p><new><a>X</a><b>Y</b></new>") == (
        "an unknown ones\n\nX\n\nY"
    )


def test_namespaces_make_no_difference() -> None:
    plain = jats("<sec><title>T</title><p>a <bold>b</bold> c</p></sec>")
    spaced = plain.replace(f"<article {SPACES}", f'<article xmlns="https://jats.nlm.nih.gov/ns/x/" {SPACES}')
    prefixed = plain
    for name in (
        "article-meta",
        "article-id",
        "title-group",
        "article-title",
        "article",
        "front",
        "body",
        "sec",
        "bold",
    ):
        for mark in ("<", "</"):
            prefixed = prefixed.replace(f"{mark}{name} ", f"{mark}j:{name} ").replace(
                f"{mark}{name}>", f"{mark}j:{name}>"
            )
    prefixed = prefixed.replace("<j:article ", '<j:article xmlns:j="j" ')
    for other in (spaced, prefixed):
        assert read(other).text == read(plain).text == "A title\n\nT\n\na b c"
        assert read(other).pmcid == 1 and read(other).license == read(plain).license


def test_the_papers_own_abstract_is_taken_and_others_only_for_want_of_it() -> None:
    own = "<abstract><title>Abstract</title><sec><title>Aim:</title><p>One.</p><p>Two.</p></sec></abstract>"
    teaser = "<abstract abstract-type='teaser'><p>Read me!</p></abstract>"
    other = "<trans-abstract xml:lang='fr'><p>Un.</p></trans-abstract>"
    assert read(jats(front=teaser + own + other)).text == "A title\n\nAbstract\n\nAim: One.\n\nTwo.\n\nText."
    assert read(jats(front=teaser + other)).text == "A title\n\nAbstract\n\nRead me!\n\nText."
    assert read(jats(front=own), abstract=False).text == read(jats(front=other)).text == "A title\n\nText."


def test_front_matter_is_the_articles_own() -> None:
    front = (
        "<article-id pub-id-type='pmid'>7</article-id><article-id pub-id-type='doi'>10.1/x</article-id><pub-date><year>"
        "2012</year></pub-date><pub-date><year>2011</year></pub-date><related-article><article-id pub-id-type='pmid'>8"
        "</article-id></related-article><article-categories><subj-group><subject>Research</subject></subj-group>"
        "</article-categories>"
    )
    more = "<back><ref-list><ref><pub-id pub-id-type='pmid'>9</pub-id></ref></ref-list></back>"
    article = read(jats(front=front, more=more))
    assert (article.pmcid, article.version, article.pmid, article.doi, article.year) == (1, 1, 7, "10.1/x", 2011)
    assert (article.article_type, article.subjects, article.language) == ("research-article", ["Research"], "en")
    new = jats().replace('"pmc">1', '"pmcid-ver">PMC12.3')
    assert (read(new).pmcid, read(new).version) == (12, 3)


def test_a_retracted_paper_is_marked_but_not_its_notice() -> None:
    link = '<related-article related-article-type="{}"/>'
    assert read(jats(front=link.format("retraction-forward"))).retracted
    assert read(jats().replace("A title", "RETRACTED: A title")).retracted
    assert not read(jats(front=link.format("retracted-article")).replace("research-article", "retraction")).retracted


def test_the_language_is_read_or_else_detected() -> None:
    german = "<p>Die Wirkung des Arzneimittels wurde an hundert Patienten mit Diabetes untersucht.</p>"
    assert (read(jats(german)).language, read(jats(german)).language_from) == ("en", "xml")
    unsaid = jats(german).replace('xml:lang="en"', "").replace("A title", "Ein Versuch")
    assert (read(unsaid).language, read(unsaid).language_from) == ("de", "detected")
    assert read(jats().replace('xml:lang="en"', 'xml:lang="EN-us"')).language == "en"
    assert read(jats("<p>1.</p>").replace('xml:lang="en"', "")).language is None


def test_an_undefined_entity_in_the_text_refuses_the_article_and_says_which() -> None:
    doctype = '<!DOCTYPE article SYSTEM "JATS.dtd">'
    article = read(doctype + jats("<p>5 &micro;g</p>"))
    assert article.kind == "malformed" and "micro" in str(article.detail) and article.text == ""
    assert read(doctype + jats(more="<back><ref-list><ref>&micro;</ref></ref-list></back>")).kind == "article"
