"""From one PubMed file to records: the shapes and traps of NLM's files."""

from pathlib import Path

from made import article, deletion, pubmed_file

from data_prep.parse.pubmed import read_pubmed
from data_prep.parse.pubmed_record import AbstractRules, Deletion, Record


def records(path: Path, **settings: object) -> list[Record]:
    rules = AbstractRules(**settings)  # type: ignore[arg-type]
    return [record for record in read_pubmed(path, rules) if isinstance(record, Record)]


def only(tmp_path: Path, *xml: str, **settings: object) -> Record:
    (record,) = records(pubmed_file(tmp_path / "a.xml", *xml), **settings)
    return record


def test_a_record_has_its_own_identifiers_not_those_of_cited_works(tmp_path: Path) -> None:
    cited = '<CommentsCorrectionsList><CommentsCorrections RefType="Cites"><PMID>7</PMID></CommentsCorrections>'
    references = (
        "<ReferenceList><Reference><ArticleIdList><ArticleId IdType='pmc'>PMC7</ArticleId></ArticleIdList></Reference>"
        "</ReferenceList>"
    )
    record = only(tmp_path, article(5, more=cited + "</CommentsCorrectionsList>", data=references))
    assert (record.pmid, record.pmcid, record.any_pmcid) == (5, None, True)
    own = article(5, data=references).replace(
        "<ArticleIdList/>", '<ArticleIdList><ArticleId IdType="pmc">PMC5</ArticleId></ArticleIdList>'
    )
    assert (only(tmp_path, own).pmcid, only(tmp_path, own).any_pmcid) == (5, True)
    assert not only(tmp_path, article(5, more=cited + "</CommentsCorrectionsList>")).any_pmcid


def test_old_files_have_the_pmcid_in_other_id(tmp_path: Path) -> None:
    other = '<OtherID Source="NLM">{}</OtherID>'
    for text, pmcid in {"PMC77": 77, "PMC77 [Available on 07/16/16]": 77, "NASA: 1": None, "PMCX": None}.items():
        record = only(tmp_path, article(5, more=other.format(text)))
        assert (record.pmcid, record.any_pmcid) == (pmcid, pmcid is not None)


def test_a_doi_is_kept_as_it_is_written(tmp_path: Path) -> None:
    doi = '<ArticleId IdType="doi"> 10.1002/(SICI)1&lt;1::AID-X&gt;3.0.CO;2-# </ArticleId>'
    record = only(tmp_path, article(5).replace("<ArticleIdList/>", f"<ArticleIdList>{doi}</ArticleIdList>"))
    assert record.doi == "10.1002/(SICI)1<1::AID-X>3.0.CO;2-#"


def test_labels_are_kept_or_dropped_and_copyright_is_left_out(tmp_path: Path) -> None:
    abstract = (
        '<AbstractText Label="AIM" NlmCategory="OBJECTIVE">One.</AbstractText><AbstractText Label="" NlmCategory='
        '"UNASSIGNED">Two.</AbstractText><AbstractText Label="UNLABELLED">3.</AbstractText><AbstractText Label="END"/>'
        "<CopyrightInformation>Mine.</CopyrightInformation>"
    )
    assert only(tmp_path, article(1, abstract)).abstract == "AIM: One.\nTwo.\n3."
    assert only(tmp_path, article(1, abstract), labels="drop").abstract == "One. Two. 3."


def test_truncation_marks_go_and_are_noted(tmp_path: Path) -> None:
    for mark in ("(ABSTRACT TRUNCATED AT 250 WORDS)", "(ABSTRACT TRUNCATED)", " ABSTRACT TRUNCATED AT 400 WORDS"):
        record = only(tmp_path, article(1, f"It ends here.{mark}"))
        assert (record.abstract, record.truncated) == ("It ends here.", True)


def test_translated_titles_lose_their_brackets_and_others_keep_theirs(tmp_path: Path) -> None:
    titles = {
        "[Vaccines at work].": "Vaccines at work.",
        "[Who pays?]": "Who pays?",
        "[3H]thymidine in [two] cells.": "[3H]thymidine in [two] cells.",
        "[A] and [B].": "[A] and [B].",
    }
    for given, wanted in titles.items():
        assert only(tmp_path, article(1, title=given)).title == wanted


def test_the_vernacular_title_is_the_title_where_there_is_no_other(tmp_path: Path) -> None:
    def titled(english: str) -> Record:
        vernacular = "<VernacularTitle>El <i>título</i>.</VernacularTitle></Article>"
        return only(tmp_path, article(1, title=english).replace("</Article>", vernacular))

    for nothing in ("", "[Not Available].", "[In Process Citation]"):
        assert titled(nothing).title == "El título."
    assert (titled("[The title].").title, titled("[The title].").vernacular_title) == ("The title.", "El título.")


def test_retractions_and_concerns_are_noted_but_the_notice_is_not_retracted(tmp_path: Path) -> None:
    def linked(kind: str) -> Record:
        link = f'<CommentsCorrectionsList><CommentsCorrections RefType="{kind}"/></CommentsCorrectionsList>'
        return only(tmp_path, article(1, more=link))

    assert linked("RetractedandRepublishedIn").retracted and not linked("RetractedandRepublishedFrom").retracted
    assert linked("RetractionIn").retracted and not linked("RetractionOf").retracted
    assert linked("ExpressionOfConcernIn").concern and not linked("ExpressionOfConcernIn").retracted
    types = "<PublicationTypeList><PublicationType>Retracted Publication</PublicationType></PublicationTypeList>"
    assert only(tmp_path, article(1).replace("</Article>", f"{types}</Article>")).retracted


def test_the_root_of_before_2017_is_read(tmp_path: Path) -> None:
    inner = article(3, version=2).removeprefix("<PubmedArticle>").split("<PubmedData>")[0]
    old = tmp_path / "medline16n0001.xml"
    old.write_text(f"<MedlineCitationSet>{inner}{deletion(8, 9)}</MedlineCitationSet>")
    found = list(read_pubmed(old))
    assert isinstance(found[0], Record) and (found[0].pmid, found[0].version, found[0].year) == (3, 2, 1998)
    assert found[1:] == [Deletion(8, 1), Deletion(9, 1)]


def test_an_english_abstract_by_others_is_used_only_when_asked_and_only_where_there_is_none(tmp_path: Path) -> None:
    def other(language: str, text: str) -> str:
        kind = f'<OtherAbstract Type="NASA" Language="{language}"><AbstractText>{text}</AbstractText></OtherAbstract>'
        return kind + '<OtherAbstract Type="Publisher"><AbstractText>Second.</AbstractText></OtherAbstract>'

    english = article(1, None, more=other("eng", "Other."))
    assert only(tmp_path, english).abstract == ""
    assert only(tmp_path, english, other_abstracts=True).abstract == "Other."
    assert only(tmp_path, article(1, "Own.", more=other("eng", "Other.")), other_abstracts=True).abstract == "Own."
    phrase = article(1, None, more=other("eng", "Abstract available from the publisher."))
    assert only(tmp_path, phrase, other_abstracts=True).abstract == "Second."
    assert only(tmp_path, article(1, None, more=other("pol", "Inny.")), other_abstracts=True).abstract == "Second."


def test_a_plain_language_summary_is_a_last_section_when_asked_for(tmp_path: Path) -> None:
    def summary(language: str, text: str) -> str:
        kind = f'Type="plain-language-summary" Language="{language}"'
        return f"<OtherAbstract {kind}><AbstractText>{text}</AbstractText></OtherAbstract>"

    both = summary("spa", "En breve.") + summary("eng", "In short.")
    record = article(1, '<AbstractText Label="AIM">One.</AbstractText><AbstractText>2.</AbstractText>', more=both)
    assert only(tmp_path, record).abstract == "AIM: One.\n2."
    assert only(tmp_path, record, plain_language=True).abstract == "AIM: One.\n2.\nPLAIN LANGUAGE SUMMARY: In short."
    assert only(tmp_path, record, plain_language=True, labels="drop").abstract == "One. 2. In short."
    alone = only(tmp_path, article(1, None, more=both), plain_language=True, other_abstracts=True)
    assert alone.abstract == "In short."  # once, though both settings ask for it


def test_elements_of_a_future_dtd_are_counted_and_records_around_them_are_read(tmp_path: Path) -> None:
    future = "<PubmedPreprint><PMID>4</PMID></PubmedPreprint>"
    found = records(pubmed_file(tmp_path / "a.xml", article(1), future, article(2), future))
    assert [(record.kind, record.pmid) for record in found] == [
        ("article", 1), ("unknown:PubmedPreprint", None), ("article", 2), ("unknown:PubmedPreprint", None),
    ]  # fmt: skip


def test_records_without_the_usual_parts_are_records(tmp_path: Path) -> None:
    bare = "<PubmedArticle/><PubmedArticle><MedlineCitation/></PubmedArticle><PubmedBookArticle/>"
    found = records(pubmed_file(tmp_path / "a.xml", bare, article(None), article("x7")))
    assert len(found) == 5 and all(record.pmid is None for record in found)


def test_a_prefix_without_its_namespace_costs_no_text(tmp_path: Path) -> None:
    formula = "of <mml:math><mml:msup><mml:mi>x</mml:mi><mml:mn>2</mml:mn></mml:msup></mml:math> in"
    assert only(tmp_path, article(1, formula)).abstract == "of x^2 in"
    comment = "<!-- from here on the file is read as a tree -->"
    assert only(tmp_path, comment, article(1, formula)).abstract == "of x^2 in"


def test_what_lies_around_the_records_does_not_change_them(tmp_path: Path) -> None:
    plain = records(pubmed_file(tmp_path / "a.xml", article(1), article(2), article(3)))
    for between in ("<!-- </PubmedArticle> -->", "<?note </PubmedArticle>?>", "text", "<![CDATA[<PubmedArticle>]]>"):
        found = records(pubmed_file(tmp_path / "b.xml", article(1), between, article(2), article(3)))
        assert found == plain


def test_reading_can_begin_at_any_spelling_of_the_root(tmp_path: Path) -> None:
    plain = records(pubmed_file(tmp_path / "a.xml", article(1), article(2)))
    text = (tmp_path / "a.xml").read_text()
    for root in ("<PubmedArticleSet >", '<PubmedArticleSet more="1">', "<!-- c --><PubmedArticleSet>"):
        (tmp_path / "b.xml").write_text(text.replace("<PubmedArticleSet>", root))
        assert records(tmp_path / "b.xml") == plain
    (tmp_path / "b.xml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert records(tmp_path / "b.xml") == plain
