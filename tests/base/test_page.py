"""Blocks of a page, as HTML and as Markdown."""

from base.page import Heading, Link, html_page, markdown


def test_a_link_leads_to_the_file_and_what_is_said_of_it_is_escaped():
    content = [Heading("T", 1), Link("a <card>", 'c"1.html', "has `x` & more*")]
    assert '<p><a href="c&quot;1.html">a &lt;card&gt;</a> has <code>x</code> &amp; more*</p>' in html_page(content)
    assert markdown(content) == '# T\n\n[a &lt;card&gt;](c"1.html) has `x` &amp; more\\*\n'
