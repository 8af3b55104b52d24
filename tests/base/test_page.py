"""Blocks of a page, as HTML and as Markdown."""

import pytest

from base.page import Heading, Link, Listing, Paragraph, Points, Table, Tiles, html_page, markdown


def test_a_link_leads_to_the_file_and_what_is_said_of_it_is_escaped():
    content = [Heading("T", 1), Link("a <card>", 'c"1.html', "has `x` & more*")]
    assert '<p><a href="c&quot;1.html">a &lt;card&gt;</a> has <code>x</code> &amp; more*</p>' in html_page(content)
    assert markdown(content) == '# T\n\n[a &lt;card&gt;](c"1.html) has `x` &amp; more\\*\n'


def test_secrets_are_masked_on_the_page_and_in_markdown_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a<secret>&more1234567890")
    secret = "a<secret>&more1234567890"
    content = [
        Heading(f"title {secret}", 1), Paragraph(f"text {secret}"), Points([f"point `{secret}`"]),
        Tiles([(secret, "tile")]), Table(["cell"], [[secret]]), Listing(f"key: {secret}"),
    ]  # fmt: skip
    for text in (html_page(content), markdown(content)):
        assert "more1234567890" not in text
