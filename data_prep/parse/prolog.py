"""How an XML file begins, and with which roots."""

import re

PUBMED_ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", "MedlineCitationSet")  # the last until 2016
FULL_TEXT_ROOTS = ("article", "articles", "pmc-articleset")
PROLOG = re.compile(
    rb"""\s* (?:<\?xml\s (?P<declaration>[^>]*) \?>)? (?:\s | <!--.*?--> | <\?.*?\?>)*
    (?P<doctype><!DOCTYPE \s+ [\w:.-]+ \s* (?:PUBLIC \s+ (?:"[^"]*"|'[^']*') \s* (?:"[^"]*"|'[^']*')
        | SYSTEM \s+ (?:"[^"]*"|'[^']*'))? \s* (?:(?P<subset>\[)|>))?
    (?:\s | <!--.*?--> | <\?.*?\?>)* (?:<(?P<root>[A-Za-z_][\w:.-]*) [\s/>])?""",
    re.X | re.S,
)
