"""Text taken from mixed content: nothing lost, nothing glued."""

import pytest
from lxml import etree

from data_prep.parse.plain_text import plain_text
from data_prep.parse.refusal import Refused

MML = 'xmlns:mml="http://www.w3.org/1998/Math/MathML"'


def text_of(xml: str) -> str:
    return plain_text(etree.fromstring(f"<t {MML}>{xml}</t>"))


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("CO<sub>2</sub> and H<sub>2</sub>SO<sub>4</sub>", "CO2 and H2SO4"),
        ("10<sup>-5</sup> M", "10^-5 M"),
        ("2.4×10<sup>28</sup> cells", "2.4×10^28 cells"),
        ("10<sup>−3</sup>", "10^−3"),
        ("Ca<sup>2+</sup>-activated, CD8<sup>+</sup> cells", "Ca2+-activated, CD8+ cells"),
        ("<sup>18</sup>F", "18F"),
        ("the 3<sup>rd</sup> one", "the 3rd one"),
        ("log<sub>2</sub>10", "log2 10"),
        ("the <i>p</i>53 gene, <b>bold<i>er</i></b> still", "the p53 gene, bolder still"),
        ("P&lt;0.001 and r&gt;0.5 &amp; more", "P<0.001 and r>0.5 & more"),
        ("a<!-- said --> b<?who knows?> c", "a b c"),
        ("thin\u2009and no\u00a0break,\n  lines", "thin and no break, lines"),
        ("soft\u00adhyphen, zero\u200bwidth", "softhyphen, zerowidth"),
        ("e\u0301 composed, but not x² or ﬁ", "é composed, but not x² or ﬁ"),
        ("before<DispFormula>E = mc</DispFormula>after", "before E = mc after"),
        ("an <future>unknown <i>element</i></future> too", "an unknown element too"),
    ],
)
def test_no_text_is_lost_or_glued(xml: str, text: str) -> None:
    assert text_of(xml) == text


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("<mml:msup><mml:mi>x</mml:mi><mml:mn>2</mml:mn></mml:msup>", "x^2"),
        ("<mml:mfrac><mml:mi>D</mml:mi><mml:msub><mml:mi>C</mml:mi><mml:mn>0</mml:mn></mml:msub></mml:mfrac>", "D/C_0"),
        (
            "<mml:mmultiscripts><mml:mtext>He</mml:mtext><mml:mprescripts/><mml:none/><mml:mn>3</mml:mn>"
            "</mml:mmultiscripts>",
            "3He",
        ),
        ("<mml:mi>m</mml:mi><mml:mi>a</mml:mi><mml:mi>x</mml:mi>", "max"),
        ("<mml:mtext>two</mml:mtext><mml:mtext>words</mml:mtext>", "two words"),
        ("<mml:msqrt><mml:mi>n</mml:mi></mml:msqrt>", "sqrt(n)"),
        ("<mml:semantics><mml:mi>k</mml:mi><mml:annotation>\\kappa</mml:annotation></mml:semantics>", "k"),
        ("<mml:mfenced><mml:mi>x</mml:mi><mml:mi>y</mml:mi><mml:mi>z</mml:mi></mml:mfenced>", "(x, y, z)"),
        (
            '<mml:mfenced separators="|;"><mml:mi>x</mml:mi><mml:mi>y</mml:mi><mml:mi>z</mml:mi></mml:mfenced>',
            "(x|y; z)",
        ),
        ('<mml:mfenced open="[" close="]" separators=""><mml:mi>x</mml:mi><mml:mo>+</mml:mo></mml:mfenced>', "[x+]"),
        (
            "<mml:mi>x</mml:mi><mml:mtext>if</mml:mtext><mml:mi>y</mml:mi><mml:mo>></mml:mo><mml:mn>0</mml:mn>",
            "x if y>0",
        ),
        (
            "<mml:mi>log</mml:mi><mml:mi>n</mml:mi><mml:mo>+</mml:mo><mml:mi>max</mml:mi><mml:mo>(</mml:mo>",
            "log n+max(",
        ),
        ("<mml:mi>i</mml:mi><mml:mspace width='1em'/><mml:mi>j</mml:mi><mml:mspace/><mml:mo>=</mml:mo>", "i j="),
        ("<mml:mi>i</mml:mi><mml:mspace width='-1em'/><mml:mi>j</mml:mi>", "ij"),
        ("<mml:msub><mml:mi>E</mml:mi><mml:mtext>max</mml:mtext></mml:msub>", "E_max"),
        ("<mml:mn>0</mml:mn><mml:msup><mml:mrow/><mml:mo>∘</mml:mo></mml:msup><mml:mi>C</mml:mi>", "0^∘C"),
    ],
)
def test_a_formula_keeps_its_structure_and_touches_no_word(xml: str, text: str) -> None:
    assert text_of(f"of<mml:math>{xml}</mml:math>in") == f"of {text} in"


def test_an_undefined_entity_is_refused_not_lost() -> None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    element = etree.fromstring(b'<!DOCTYPE t SYSTEM "http://nowhere.invalid/t.dtd"><t>5&micro;g</t>', parser)
    with pytest.raises(Refused, match="micro"):
        plain_text(element)
