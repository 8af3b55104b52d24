"""Invented abstracts for ``pubmed=sample``: made-up drugs, genes and findings in the manner of clinical reports.

Nothing here is a fact or a quotation. What is consistent, so that a small model has something to learn: a drug belongs
to one class, a class acts on one gene, a disease has its organ and its marker.
"""

import re
from dataclasses import dataclass
from random import Random

ONSETS = (
    "bel", "cor", "dal", "fen", "gli", "kar", "lum", "mir", "nor", "oxa", "pel", "quin", "rel", "sol", "tam", "ur",
    "vel", "xan", "zol", "ibra", "tero", "cefa", "dova", "evo", "gami", "heli", "inva", "jura",
)  # fmt: skip
MIDDLES = ("a", "o", "i", "ara", "ido", "eni", "ola", "iva", "umo", "ate", "ori", "exi", "")
CLASSES = (  # suffix of the drug's name, what the class is called
    ("statib", "reductase inhibitor"), ("prolan", "beta antagonist"), ("sartol", "receptor antagonist"),
    ("gliflen", "cotransporter inhibitor"), ("mabrex", "monoclonal antibody"), ("ciclor", "antiviral agent"),
    ("floxam", "antibacterial agent"), ("tinide", "kinase inhibitor"), ("setral", "antiemetic agent"),
    ("parinol", "anticoagulant"), ("glutor", "incretin analogue"), ("dronex", "bone resorption inhibitor"),
)  # fmt: skip
DISEASES = (  # disease, organ, marker
    ("chronic heart failure", "left ventricle", "natriuretic peptide"),
    ("type 2 diabetes", "pancreatic islet", "glycated haemoglobin"),
    ("asthma", "airway epithelium", "exhaled nitric oxide"),
    ("rheumatoid arthritis", "synovial membrane", "C-reactive protein"),
    ("chronic kidney disease", "renal tubule", "serum creatinine"),
    ("ischaemic stroke", "cerebral cortex", "neurofilament light chain"),
    ("psoriasis", "epidermis", "interleukin level"),
    ("hepatitis", "hepatocyte", "alanine aminotransferase"),
    ("osteoporosis", "trabecular bone", "bone turnover marker"),
    ("sepsis", "vascular endothelium", "procalcitonin"),
    ("melanoma", "melanocyte", "lactate dehydrogenase"),
    ("epilepsy", "hippocampus", "seizure frequency"),
    ("atrial fibrillation", "left atrium", "troponin"),
    ("Crohn disease", "intestinal mucosa", "faecal calprotectin"),
    ("pneumonia", "alveolar space", "leukocyte count"),
    ("glaucoma", "optic nerve", "intraocular pressure"),
    ("anaemia", "bone marrow", "serum ferritin"),
    ("pre-eclampsia", "placenta", "urinary protein"),
)
GROUPS = ("adults", "older adults", "children", "outpatients", "women", "hospital patients", "smokers", "adolescents")
DESIGNS = (
    "randomised trial",
    "cohort study",
    "case-control study",
    "cross-sectional survey",
    "pilot study",
    "crossover trial",
)

TITLES = (
    "Effect of {drug} on {marker} in {group} with {disease}: a {design}",
    "{Drug} and the {organ} in {disease}",
    "{Class} treatment of {disease}: results of a {design}",
    "Expression of {gene} in the {organ} predicts the course of {disease}",
    "Is {marker} a useful measure of {disease} in {group}?",
    "Long-term safety of {drug} in {group}",
)
BACKGROUND = (
    "{Disease} damages the {organ}, and few {group} reach a lasting remission.",
    "{Drug} is a {class} that acts on {gene} and may protect the {organ}.",
    "Whether the {class} {drug} lowers {marker} in {group} with {disease} is not known.",
    "Earlier work linked {gene} to {disease}, but the mechanism in the {organ} remained open.",
    "We asked whether {marker} changes when {group} with {disease} receive {drug}.",
)
METHODS = (
    "In this {design}, {n} {group} with {disease} received {drug} ({dose} mg daily) or placebo for {weeks} weeks.",
    "The primary outcome was the change in {marker}; secondary outcomes were survival and quality of life.",
    "Samples of the {organ} were stained for {gene}, and {marker} was measured at baseline and after {weeks} weeks.",
    "Two readers who did not know the treatment graded every image of the {organ}.",
    "We used mixed models with age, sex and baseline {marker} as covariates.",
    "{Group} with renal impairment, pregnancy or earlier use of a {class} were excluded.",
)
RESULTS = (
    "Mean {marker} fell by {percent} % with {drug} and by {small} % with placebo (P < 0.{p}).",
    "Expression of {gene} in the {organ} was {ratio} times higher in {disease} than in others (95 % CI {low}-{high}).",
    "Of {n} {group}, {few} stopped {drug} because of nausea or headache.",
    "The hazard ratio for death or admission was 0.{hazard} (95 % CI 0.{hazard_low}-0.{hazard_high}).",
    "The effect of {drug} did not differ between men and women or between age groups.",
    "Higher {marker} at baseline went with a poorer course of {disease} (r = 0.{hazard}).",
    "The bacterial load decreased from {load} to fewer than {few} colonies per millilitre.",
)
CONCLUSIONS = (
    "{Drug} lowers {marker} in {group} with {disease} and is well tolerated.",
    "The {class} {drug} protects the {organ} through {gene}.",
    "{Marker} may help to choose treatment in {disease}, but larger studies are needed.",
    "Our data do not support the use of {drug} in {group} with {disease}.",
    "Further trials should compare {drug} with other forms of {class} treatment.",
)
SECTIONS = (
    ("BACKGROUND", BACKGROUND, 3),
    ("METHODS", METHODS, 4),
    ("RESULTS", RESULTS, 5),
    ("CONCLUSIONS", CONCLUSIONS, 2),
)


@dataclass(frozen=True)
class Drug:
    """An invented drug, its class and the invented gene on which the class acts."""

    name: str
    kind: str
    gene: str


def drugs(random: Random, number: int) -> list[Drug]:
    """So many different drugs."""
    genes = {kind: "".join(random.choices("ABCDEFGHKLMNPRST", k=3)) + str(random.randint(1, 19)) for _, kind in CLASSES}
    found: dict[str, Drug] = {}
    while len(found) < number:
        suffix, kind = random.choice(CLASSES)
        name = random.choice(ONSETS) + random.choice(MIDDLES) + suffix
        found[name] = Drug(name, kind, genes[kind])
    return list(found.values())


def article(random: Random, known: list[Drug]) -> tuple[str, list[tuple[str, str]]]:
    """A title and its sections (label, text), as XML text: some sentences carry inline markup, entities are escaped."""
    drug = random.choice(known)
    disease, organ, marker = random.choice(DISEASES)
    fixed = {
        "drug": drug.name, "class": drug.kind, "gene": drug.gene, "disease": disease, "organ": organ, "marker": marker,
        "group": random.choice(GROUPS), "design": random.choice(DESIGNS),
    }  # fmt: skip

    def fill(template: str) -> str:
        words = fixed | _numbers(random)
        words |= {name.capitalize(): word[0].upper() + word[1:] for name, word in fixed.items()}
        text = template.format(**words).replace("&", "&amp;").replace("<", "&lt;")
        text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
        if random.random() < 0.1:
            text = text.replace(drug.gene, f"<i>{drug.gene}</i>", 1)
        return text.replace("{sup}", "<sup>").replace("{/sup}", "</sup>")

    sections = []
    for label, templates, number in SECTIONS:
        sentences = random.sample(templates, min(number + random.randint(0, 1), len(templates)))
        sections.append((label, " ".join(fill(sentence) for sentence in sentences)))
    return fill(random.choice(TITLES)) + ".", sections


def _numbers(random: Random) -> dict[str, str]:
    low = random.randint(11, 25) / 10
    hazard = random.randint(45, 85)
    return {
        "n": str(random.randint(24, 4800)), "dose": str(random.choice((5, 10, 20, 25, 40, 50, 100, 200))),
        "weeks": str(random.choice((4, 6, 8, 12, 16, 24, 26, 52))), "percent": f"{random.uniform(4, 40):.1f}",
        "small": f"{random.uniform(0, 4):.1f}", "p": random.choice(("05", "01", "001")),
        "few": str(random.randint(2, 20)),
        "ratio": f"{low + 0.3:.1f}", "low": f"{low:.1f}", "high": f"{low + 0.6:.1f}", "hazard": str(hazard),
        "hazard_low": str(hazard - random.randint(5, 12)), "hazard_high": str(hazard + random.randint(5, 12)),
        "load": f"{random.randint(1, 9)} x 10{{sup}}{random.randint(3, 9)}{{/sup}}",
    }  # fmt: skip
