"""What the invented questions are made of: schoolbook facts, and made-up studies. The wording is ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """Facts of one kind: question stems around ``{asked}``, and pairs of what is asked and its answer."""

    subject: str
    stems: tuple[str, ...]
    facts: dict[str, str]


MEDICAL = (
    Kind(
        "Biochemistry",
        (
            "Which condition follows when the diet has held too little {asked} for a long time?",
            "A lasting lack of {asked} leads to which of these?",
        ),
        {
            "vitamin A": "night blindness",
            "thiamine": "beriberi",
            "niacin": "pellagra",
            "vitamin C": "scurvy",
            "vitamin D": "rickets",
            "vitamin B12": "megaloblastic anemia",
            "vitamin K": "impaired blood clotting",
            "iodine": "goiter",
        },
    ),
    Kind(
        "Physiology",
        ("Where in the body is {asked} mainly made?", "Which organ releases {asked} into the blood?"),
        {
            "insulin": "pancreas",
            "thyroxine": "thyroid gland",
            "cortisol": "adrenal cortex",
            "adrenaline": "adrenal medulla",
            "melatonin": "pineal gland",
            "prolactin": "anterior pituitary",
            "estradiol": "ovaries",
            "erythropoietin": "kidneys",
        },
    ),
    Kind(
        "Microbiology",
        ("An infection with {asked} causes which disease?", "Which disease is due to {asked}?"),
        {
            "Bordetella pertussis": "whooping cough",
            "Mycobacterium leprae": "leprosy",
            "Treponema pallidum": "syphilis",
            "Vibrio cholerae": "cholera",
            "Yersinia pestis": "plague",
            "Borrelia burgdorferi": "Lyme disease",
            "Plasmodium falciparum": "malaria",
            "Clostridium tetani": "tetanus",
        },
    ),
    Kind(
        "Pharmacology",
        ("How does {asked} act?", "What is the main mechanism of {asked}?"),
        {
            "metformin": "less glucose is made in the liver",
            "warfarin": "fewer clotting factors that need vitamin K are made",
            "omeprazole": "the proton pump of the stomach is blocked",
            "salbutamol": "beta-2 receptors of the airways are stimulated",
            "furosemide": "less salt is taken up again in the loop of Henle",
            "atorvastatin": "less cholesterol is made in the liver",
            "heparin": "antithrombin works faster",
            "acyclovir": "the DNA polymerase of a virus is blocked",
        },
    ),
    Kind(
        "Anatomy",
        ("Injury to the {asked} weakens which of these?", "Which of these depends on the {asked}?"),
        {
            "phrenic nerve": "movement of the diaphragm",
            "radial nerve": "extension of the wrist",
            "facial nerve": "closing of the eyelids",
            "hypoglossal nerve": "movement of the tongue",
            "femoral nerve": "extension of the knee",
            "median nerve": "opposition of the thumb",
            "deep fibular nerve": "lifting of the foot",
            "axillary nerve": "raising of the arm to the side",
        },
    ),
    Kind(
        "Pathology",
        ("A raised level of {asked} points to damage of which tissue?", "Damage to which tissue raises {asked}?"),
        {
            "cardiac troponin I": "heart muscle",
            "alanine aminotransferase": "liver",
            "serum creatinine": "kidney",
            "pancreatic lipase": "pancreas",
            "prostate-specific antigen": "prostate",
            "serum myoglobin": "skeletal muscle",
            "bone-specific alkaline phosphatase": "bone",
            "glial fibrillary acidic protein": "brain",
        },
    ),
)

GENERAL = (
    Kind(
        "Geography",
        ("What is the capital of {asked}?", "In which city does the government of {asked} sit?"),
        {
            "Austria": "Vienna",
            "Chile": "Santiago",
            "Egypt": "Cairo",
            "Greece": "Athens",
            "Iceland": "Reykjavik",
            "Japan": "Tokyo",
            "Kenya": "Nairobi",
            "Portugal": "Lisbon",
        },
    ),
    Kind(
        "Arithmetic",
        ("What is {asked}?", "Which of these numbers is the same as {asked}?"),
        {
            "3 times 7": "21",
            "40 less 11": "29",
            "half of 64": "32",
            "9 squared": "81",
            "15 and 28 together": "43",
            "a quarter of 48": "12",
            "6 times 9": "54",
            "100 less 37": "63",
        },
    ),
)

PLACES = ("a clinic", "the emergency department", "a hospital ward", "a teaching session", "a small practice")

TREATMENTS = (
    "a daily walk", "a low-salt diet", "light in the morning", "chewing gum", "yoghurt", "quiet music",
    "a later start of the day", "breathing exercises", "a weekly telephone call", "a glass of water before meals",
)  # fmt: skip
OUTCOMES = (
    "sleep", "blood pressure", "appetite", "the length of the stay", "grip strength", "body weight", "pain at rest",
    "reaction time", "the number of falls", "heart rate",
)  # fmt: skip
GROUPS = (
    "nurses on night shifts", "adults after hip surgery", "schoolchildren", "people above 80 years", "marathon runners",
    "pregnant women", "outpatients with asthma", "medical students",
)  # fmt: skip

RESULTS = {
    "yes": "There was a clear difference in {outcome} between the two arms (p = 0.00{digit}).",
    "no": "With regard to {outcome} the two arms were alike (p = 0.{digit}4).",
    "maybe": "A difference in {outcome} was seen in one of the two centres and not in the other (p = 0.0{digit}).",
}
CONCLUSIONS = {
    "yes": "In {group}, {treatment} changes {outcome}.",
    "no": "In {group}, {treatment} leaves {outcome} as it is.",
    "maybe": "In {group}, whether {treatment} changes {outcome} remains open.",
}
