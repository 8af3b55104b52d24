"""Accuracies that were published, as data, with how each was come by and where it stands."""

from dataclasses import dataclass
from typing import Literal

How = Literal["fine-tuned", "zero-shot"]


@dataclass(frozen=True)
class Published:
    """One accuracy in percent. ``checked``: it was read in the source that is named, not remembered of it."""

    model: str
    task: str
    how: How
    accuracy: float
    protocol: str
    source: str
    checked: bool = True


QUESTIONS = {
    "medqa": 1273, "medqa_5options": 1273, "medmcqa": 4183, "pubmedqa": 500, "bioasq": 140,
    "mmlu_medical_genetics": 100, "mmlu_professional_medicine": 272,
}  # fmt: skip
"""Of each official test, or of MedMCQA's dev: for the intervals, which nobody published."""

HEAD, TUNED = "linear head", "fine-tuned"
SFT = "fine-tuned, then 3 shots"
CARD = "BioMedLM's model card, 2022"
PAPER, ABSTRACT = "arXiv 2403.18421", "abstract of arXiv 2403.18421"
LINKBERT = "LinkBERT's README"
BIOMISTRAL = "BioMistral's README"
ISSUE = "lm-evaluation-harness issue 587"


def _of(
    model: str, protocol: str, source: str, checked: bool = True, how: How = "fine-tuned", **accuracies: float
) -> tuple[Published, ...]:
    return tuple(
        Published(model, task, how, accuracy, protocol, source, checked) for task, accuracy in accuracies.items()
    )


PUBLISHED: tuple[Published, ...] = (
    *_of("BioMedLM 2.7B", HEAD, CARD, medqa=50.3),
    *_of("BioMedLM 2.7B", HEAD, PAPER, checked=False, medqa=54.7),
    *_of("BioMedLM 2.7B", HEAD, ABSTRACT, medmcqa=57.3, mmlu_medical_genetics=69.0),
    *_of("BioMedLM 2.7B", HEAD, CARD, checked=False, pubmedqa=74.4, bioasq=95.7),
    *_of("GPT-Neo 2.7B", HEAD, PAPER, checked=False, medqa=33.3, pubmedqa=65.2, bioasq=67.1),
    *_of("GPT-Neo 2.7B", "by likelihood", ISSUE, how="zero-shot", medqa=26.0),
    *_of("GPT-Neo 2.7B", "by likelihood and length", ISSUE, how="zero-shot", medqa=29.0),
    *_of("BioLinkBERT base", TUNED, LINKBERT, medqa=40.0, pubmedqa=70.2, bioasq=91.4),
    *_of("BioLinkBERT large", TUNED, LINKBERT, medqa=44.6, pubmedqa=72.2, bioasq=94.8),
    *_of("BioLinkBERT large", "fine-tuned on MedQA", LINKBERT, mmlu_professional_medicine=50.7),
    *_of("PubMedBERT base", TUNED, LINKBERT, medqa=38.1, pubmedqa=55.8, bioasq=87.5),
    *_of("DRAGON 360M", TUNED, "its paper", checked=False, medqa=47.5, pubmedqa=73.4, bioasq=96.4),
    *_of("BioMistral 7B", SFT, BIOMISTRAL, medqa=50.6, medqa_5options=42.8, medmcqa=48.1, pubmedqa=77.5,
         mmlu_medical_genetics=64.0),
    *_of("MediTron 7B", SFT, BIOMISTRAL, medqa=41.6, medmcqa=41.3, pubmedqa=74.9, mmlu_medical_genetics=50.3),
    *_of("PMC-LLaMA 7B", SFT, BIOMISTRAL, medqa=25.5, medmcqa=26.6, pubmedqa=72.9, mmlu_medical_genetics=27.7),
    *_of("PMC-LLaMA 13B", "its authors' own", "PMC-LLaMA's README", medqa=56.4, medmcqa=56.0, pubmedqa=77.9),
)  # fmt: skip
