"""Formats in which these data sets go about, told by their fields, so that a wrong file is named for what it is."""

from collections.abc import Sequence

from eval.task import Row

FORMATS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"sent1", "ending0", "label"}), "LinkBERT's (sent1, ending0 …, label)"),
    (frozenset({"document_id", "choices", "answer"}), "BigBIO's (document_id, choices, answer)"),
    (frozenset({"query", "choices", "gold"}), "llm-foundry's (query, choices, gold)"),
    (frozenset({"pubid", "context", "final_decision"}), "the Hugging Face hub's of PubMedQA (pubid, context)"),
    (frozenset({"sentence1", "sentence2", "label"}), "LinkBERT's of classification (sentence1, sentence2, label)"),
    (frozenset({"instruction", "input", "output"}), "that of instruction tuning (instruction, input, output)"),
    (frozenset({"opa", "opb", "opc", "opd", "cop"}), "MedMCQA's (opa …, cop)"),
    (frozenset({"question", "options", "answer_idx"}), "MedQA's (question, options, answer_idx)"),
    (frozenset({"question", "choices", "answer"}), "the Hugging Face hub's of MMLU (question, choices, answer)"),
    (frozenset({"QUESTION", "CONTEXTS"}), "PubMedQA's (QUESTION, CONTEXTS)"),
    (frozenset({"body", "type"}), "BioASQ's (body, type)"),
)


def looks_like(rows: Sequence[Row]) -> str | None:
    """The format that has the fields of the first row, or None when it is none that is known here."""
    if not rows:
        return None
    return next((name for fields, name in FORMATS if fields <= rows[0].keys()), None)
