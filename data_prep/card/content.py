"""What the card says, in the order in which a reader asks. Takes the numbers of :mod:`data_prep.card.facts` only."""

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from base.page import Block, Heading, Listing, Paragraph, Parts, Plots, Points, Table, Tiles, plain
from data_prep.card import plots
from data_prep.card.checks import contamination, duplicates
from data_prep.card.tokenizer_section import tokenizer

SOURCES = {"pubmed": "PubMed abstracts", "pmc": "PMC full texts"}
# What each of schema.License asks of whoever uses or passes on the text; the licences themselves say it in full.
CONDITIONS = {
    "CC0": "none",
    "public domain": "none",
    "CC BY": "attribution",
    "CC BY-SA": "attribution; adapted versions under the same licence",
    "CC BY-ND": "attribution; no adapted versions to be passed on",
    "CC BY-NC": "attribution; no commercial use",
    "CC BY-NC-SA": "attribution; no commercial use; adapted versions under the same licence",
    "CC BY-NC-ND": "attribution; no commercial use; no adapted versions to be passed on",
    "TDM": "an author's manuscript, for text mining; not to be passed on",
}
NO_LICENSE = {
    "pubmed": ("none named", "those of a publisher or author, if any: see Source and terms"),
    "pmc": ("none found", "no permission to pass it on is known"),
}
TYPES, LANGUAGES = 15, 15  # rows shown; card.json has all
SIZES = (
    (1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"), (1e8, "10M<n<100M"),
    (1e9, "100M<n<1B"),
)  # fmt: skip
Facts = dict[str, Any]


def front_matter(facts: Facts) -> str:
    """What the Hugging Face hub reads at the top of a dataset's card."""
    documents = sum(source["documents"] for source in facts["sources"].values())
    languages = {"en"} | {  # NLM's abstracts are English; a full text's language is its own
        row["name"] for row in facts["languages"] if row["source"] == "pmc" and row["name"] and len(row["name"]) == 2
    }
    fields = {
        "license": "other",
        "license_name": "mixed-see-licences",
        "language": sorted(languages, key=lambda code: (code != "en", code)),
        "task_categories": ["text-generation"],
        "size_categories": [next((name for limit, name in SIZES if documents < limit), "n>1B")],
        "pretty_name": _title(facts),
        "tags": ["biology", "medical", "pubmed", *(["pmc"] if "pmc" in facts["sources"] else [])],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n\n"


def blocks(facts: Facts) -> list[Block]:
    """The whole card."""
    sections = (
        opening, how_it_was_made, terms, sources, dropped, licenses, make_up, duplicates, contamination, tokenizer,
        packing, limitations, removal, identity,
    )  # fmt: skip
    return [block for section in sections for block in section(facts)]


def opening(facts: Facts) -> Iterable[Block]:
    ledger, packing = facts["ledger"]["total"], facts["packing"]
    documents = sum(source["documents"] for source in facts["sources"].values())
    tokens = sum(source["tokens"] for source in facts["sources"].values())
    yield Heading(f"Data card: {_title(facts)}", 1)
    yield Paragraph(
        "A corpus for pretraining language models on biomedical text: documents with their sources and licences, a "
        "tokenizer, and the same text as packed sequences of its ids. Every record that came in is "
        "either a document here or stands in the list of what was dropped, with the reason."
    )
    yield Tiles(
        [
            (f"{documents:,}", "documents"),
            (f"{tokens:,}", "tokens"),
            (f"{ledger['in']:,}", "records read"),
            (share(ledger["kept"], ledger["in"]), "of the records kept"),
            (f"{packing['sequences']:,}", f"sequences of {packing['max_seq_len']:,} tokens"),
            (f"{packing['vocab_size']:,}", "tokenizer entries"),
        ]
    )


def how_it_was_made(facts: Facts) -> Iterable[Block]:
    inputs = facts["inputs"]
    words = {
        "ncbi": "NLM's own distribution of PubMed",
        "pmc-oa": "NLM's open-access bucket of PMC",
        "sample": "records invented for a trial run, not real literature",
        "files": "files that were there already",
    }
    yield Heading("How it was made")
    yield Paragraph(
        "With this recipe, by one command. Saved as `configuration.yaml`, the settings at the end of this card give "
        "the same bytes again from the same input files, for any number of workers:"
    )
    places = "".join(f" {name}=FILES" for name, given in inputs["given"].items() if given == "files")
    places += "".join(f" {name}=…" for name in inputs["named"])
    yield Listing(f"python -m data_prep configuration.yaml{places} out=FOLDER", "bash")
    rows = [[f"input, {SOURCES[name]}", words[given]] for name, given in inputs["given"].items()]
    rows += [["input files used", f"{inputs['files']:,}"], ["records in them", f"{inputs['records']:,}"]]
    if inputs["deletions"]:
        rows.append(["deletions ordered by NLM", f"{inputs['deletions']:,}"])
    rows += [[f"{plain(name)}, sha256", f"`{plain(value)}`"] for name, value in inputs["frozen"].items()]
    if inputs["md5_sha256"]:
        rows.append(["input files, sha256 over names and MD5", f"`{inputs['md5_sha256']}`"])
    rows.append(["settings, sha256", f"`{facts['configuration_sha256']}`"])
    rows.append(["documents, sha256 over ids and texts", f"`{facts['sha256']['documents']}`"])
    yield Table(["what", "value"], rows)
    if inputs["warnings"]:
        yield Paragraph("What is doubtful about the set of input files:")
        yield Points([f"{plain(warning)}." for warning in inputs["warnings"]])
    if inputs["refused_files"]:
        yield Paragraph(
            f"{len(inputs['refused_files']):,} input files were damaged. Nothing of them was used, for what a damaged "
            "file still shows may be half a record:"
        )
        yield Table(["file", "reason"], [[plain(f["name"]), plain(f["reason"])] for f in inputs["refused_files"]])


def terms(facts: Facts) -> Iterable[Block]:
    yield Heading("Source and terms")
    yield Paragraph(
        "The source is the U.S. National Library of Medicine (NLM), through its distribution of PubMed"
        + (" and PubMed Central (PMC)" if "pmc" in facts["sources"] else "")
        + ". This copy is not the most current one: NLM adds, corrects and withdraws records every day, and what it "
        "did after the input files were made is not here. NLM has not reviewed or endorsed this corpus."
    )
    yield Paragraph(
        "NLM claims no copyright in PubMed's abstracts, but their publishers or authors may hold one. "
        + (
            "Full texts are under the licences listed below, each with its own conditions. "
            * ("pmc" in facts["sources"])
        )
        + "Every document carries its id and, where there is one, its licence. Whoever passes the corpus on must look "
        "at both, must name NLM as the source, and must say that the copy is not current."
    )


def sources(facts: Facts) -> Iterable[Block]:
    yield Heading("Documents and tokens")
    rows = [
        [SOURCES.get(name, name), f"{one['documents']:,}", f"{one['tokens']:,}", size(one["bytes"]),
         f"{one['tokens'] / max(1, one['documents']):,.0f}"]
        for name, one in facts["sources"].items()
    ]  # fmt: skip
    if len(rows) > 1:
        total = {key: sum(one[key] for one in facts["sources"].values()) for key in ("documents", "tokens", "bytes")}
        rows.append(
            ["together", f"{total['documents']:,}", f"{total['tokens']:,}", size(total["bytes"]),
             f"{total['tokens'] / max(1, total['documents']):,.0f}"]
        )  # fmt: skip
    yield Table(["source", "documents", "tokens", "text", "tokens a document"], rows)
    separator = facts["packing"]["packing"] != "concat"
    yield Paragraph(
        "Tokens are those of the tokenizer below" + (", one separator a document included." if separator else "."),
        note=True,
    )


def dropped(facts: Facts) -> Iterable[Block]:
    total = facts["ledger"]["total"]
    by_source = facts["ledger"].get("sources", {})
    reasons = total["dropped"]
    yield Heading("What was dropped, and why")
    yield Paragraph(
        f"Of {total['in']:,} records, {total['kept']:,} became documents and {total['in'] - total['kept']:,} did not. "
        "A record has one reason, the first that holds in the order of this table; `dropped/` lists each of them by id."
    )
    if reasons:
        picture = plots.flow(total["in"], list(reasons.items()), total["kept"])
        yield Plots([(picture, "From the records read to the documents kept.")])
        names = list(by_source) if len(by_source) > 1 else []
        rows = [
            [reason, f"{number:,}", share(number, total["in"]),
             *(f"{by_source[name]['dropped'].get(reason, 0):,}" for name in names), facts["reasons"][reason]]
            for reason, number in reasons.items()
        ]  # fmt: skip
        yield Table(["reason", "records", "of all", *(SOURCES.get(name, name) for name in names), "meaning"], rows)


def licenses(facts: Facts) -> Iterable[Block]:
    yield Heading("Licences")
    rows = []
    tokens = sum(row["tokens"] for row in facts["licenses"])
    for row in facts["licenses"]:
        unnamed = NO_LICENSE.get(row["source"], ("none", ""))
        name, conditions = (row["name"], CONDITIONS.get(row["name"], "")) if row["name"] else unnamed
        rows.append(
            [SOURCES.get(row["source"], row["source"]), plain(name), f"{row['documents']:,}", f"{row['tokens']:,}",
             share(row["tokens"], tokens), conditions]
        )  # fmt: skip
    yield Table(["source", "licence", "documents", "tokens", "of the tokens", "conditions, in short"], rows)
    if "pmc" in facts["sources"]:
        policy = facts["configuration"]["select"]["license"]
        policy = ", ".join(policy) if isinstance(policy, list) else policy
        yield Paragraph(
            f"Full texts were taken by the rule `select.license: {policy}`. A licence is the one in NLM's metadata of "
            "the article; where there is no metadata it was read from the article itself, and an article whose "
            "licence could not be read for certain counts as having none."
        )


def make_up(facts: Facts) -> Iterable[Block]:
    """Years, lengths, languages, journals, types."""
    yield Heading("What the documents are")
    names = list(facts["sources"])
    pictures = []
    years = sorted({row["name"] for row in facts["years"] if row["name"] is not None})
    unknown = sum(row["documents"] for row in facts["years"] if row["name"] is None)
    if years:
        number = {(row["source"], row["name"]): row["documents"] for row in facts["years"]}
        by_source = {SOURCES.get(name, name): [number.get((name, year), 0) for year in years] for name in names}
        caption = f"Documents by year of publication, {years[0]} to {years[-1]}"
        caption += f"; {unknown:,} name no year." if unknown else "."
        pictures.append((plots.stacked(years, by_source, "documents"), caption))
    lengths = _merged(facts["lengths"], "at_least")
    bins = [2**power for power in range(min(lengths).bit_length() - 1, max(lengths).bit_length())]
    series = {}
    for index, what in enumerate(("documents", "tokens")):
        values = [lengths.get(one, (0, 0))[index] for one in bins]
        series[f"share of {what}"] = [value / max(1, sum(values)) for value in values]
    caption = "How long documents are. Each bin reaches from its number of tokens to the next one."
    pictures.append((plots.shares([f"{one:,}" for one in bins], series, "tokens"), caption))
    yield Plots(pictures)
    yield Parts(list(_parts(facts, lengths, bins)))
    journals = facts["journals"]
    yield Heading("Journals", 3)
    yield Paragraph(f"The {len(journals['first'])} with most tokens, of {journals['number']:,}.", note=True)
    yield _table("journal", [(row["name"], row["documents"], row["tokens"]) for row in journals["first"]])


def _parts(facts: Facts, lengths: dict[int, tuple[int, int]], bins: Sequence[int]) -> Iterable[list[Block]]:
    yield [Heading("Years", 3), _table("decade", _decades(facts["years"]))]
    yield [
        Heading("Length in tokens", 3),
        _table("tokens", [(f"{one:,} – {2 * one - 1:,}", *lengths[one]) for one in bins if one in lengths]),
    ]
    yield [
        Heading("Languages", 3),
        Paragraph(
            "For a PubMed record, the languages of the article; its abstract is English nearly always. For a full "
            "text, the language of the text.",
            note=True,
        ),
        _table("language", _first(_merged(map(_language, facts["languages"]), "name"), LANGUAGES)),
    ]
    types = _merged(facts["types"], "name")
    shown = "" if len(types) <= TYPES else f" The {TYPES} with most tokens, of {len(types):,}."
    yield [
        Heading("Article types", 3),
        Paragraph(f"As the source names them. A document may be of several types.{shown}", note=True),
        _table("type", _first(types, TYPES)),
    ]


def packing(facts: Facts) -> Iterable[Block]:
    card, cut = facts["packing"], facts["packing"]["cut"]
    how = {
        "eos": "Documents stand one behind the other, each followed by `<|endoftext|>`; the stream is cut every "
        f"{card['max_seq_len']:,} tokens, and what is left behind the last whole sequence is dropped.",
        "concat": "Documents stand one behind the other with nothing between them, as BioMedLM's loader had it; the "
        f"stream is cut every {card['max_seq_len']:,} tokens, and what is left behind the last whole sequence is "
        "dropped.",
        "best_fit": f"Documents, each followed by `<|endoftext|>`, are put whole into sequences of "
        f"{card['max_seq_len']:,} tokens where they fit best; longer ones are cut first. Room that is left is filled "
        "with `<|endoftext|>`.",
    }
    yield Heading("Packed sequences")
    yield Paragraph(f"{how[card['packing']]} Their order is one shuffle of the whole corpus by a hash of the ids.")
    padding = [one.get("padding_tokens", 0) for one in card["splits"].values()]
    rows = [
        [split, *(f"{one[name]:,}" for name in ("documents", "sequences", "tokens", "tail_tokens")), f"{filler:,}"]
        for (split, one), filler in zip(card["splits"].items(), padding, strict=True)
    ]
    yield Table(["split", "documents", "sequences", "tokens", "tokens dropped at the end", "padding"], rows)
    filled = f" {share(sum(padding), card['tokens'])} of all tokens are padding." if any(padding) else ""
    yield Paragraph(
        f"The end of a sequence cuts {cut['cut']:,} documents ({share(cut['cut'], cut['documents'])}). Of the "
        f"{cut['short']:,} that would fit into one sequence, it cuts {cut['short_cut']:,} "
        f"({share(cut['short_cut'], cut['short'])}).{filled}"
    )
    yield Paragraph(
        f"The validation split holds the documents whose id hashes into the lowest {100 * card['val_fraction']:g} %. A "
        "document never changes sides when the corpus grows."
        + (
            f" Here {card['val_documents_added']:,} more were added to it, which would not have filled one sequence."
            if card["val_documents_added"]
            else ""
        )
    )


def limitations(facts: Facts) -> Iterable[Block]:
    select = facts["configuration"]["select"]
    points = [
        "Science that was right when it was written may be wrong today. Findings that were corrected, or retracted "
        "after the input was made, are still here. Nothing in it is medical advice, and a model trained on it may "
        "repeat what is wrong, old or one-sided.",
        "Most of it is in English, from journals that PubMed indexes, and far more from recent years than from early "
        "ones. People, places and diseases that these journals write little about are missing accordingly.",
        "Case reports tell of persons. Names of authors and addresses in running text were not searched for.",
        "An abstract that NLM itself had cut short, as was done for decades, ends where it was cut; only the mark "
        "was taken away.",
        "Near-duplicates are found by samples of word sequences, and test questions by equal runs of words: "
        "paraphrases and translations are found by neither.",
    ]
    if "pmc" in facts["sources"]:
        points.append(
            "Full texts come from XML of many publishers and decades. Tables, figures and formulas are treated as "
            "the settings say; what a publisher coded in another way than the others may be lost or left over."
        )
    if not select["drop_retracted"]:
        points.append("Retracted articles were kept (`select.drop_retracted: false`).")
    if not select["drop_concern"]:
        points.append("Articles under an expression of concern were kept (`select.drop_concern: false`).")
    yield Heading("Known limitations")
    yield Points(points)


def removal(facts: Facts) -> Iterable[Block]:
    yield Heading("Finding and removing a document")
    yield Paragraph(
        "Every document can be found by its id (`pmid:…`, `pmcid:PMC…` or `doi:…`): where it came from, its licence, "
        "and in which sequences of which shard it lies; for a record that was dropped, the reason."
    )
    yield Listing("python -m data_prep.trace FOLDER pmid:12345678", "bash")
    yield Paragraph(
        "To remove articles, after a takedown or a retraction, put an id of each into a file, one a line, and run the "
        "same command with `select.exclude=FILE`. The corpus is written anew without their abstracts and full texts, "
        "which then stand in the list of what was dropped. A model that was trained before has still seen them."
    )


def identity(facts: Facts) -> Iterable[Block]:
    yield Heading("Hashes, versions and settings")
    rows = [[f"`{name}`" if "." in name else name, f"`{value}`"] for name, value in facts["sha256"].items()]
    yield Table(["file", "sha256"], [*rows, ["code of the recipe", f"`{facts['code_sha256']}`"]])
    yield Table(["package", "version"], [[name, f"`{value}`"] for name, value in facts["versions"].items()])
    yield Paragraph("Versions are those with which this card was written.", note=True)
    yield Listing(yaml.safe_dump(facts["configuration"], sort_keys=False, allow_unicode=True))


def share(part: float, whole: float) -> str:
    """``12.3 %``; a dash where there is nothing to take a share of."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def size(number: int) -> str:
    """Bytes in decimal units."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number} B"


def _title(facts: Facts) -> str:
    names = [SOURCES.get(name, name) for name in facts["sources"]]
    invented = "sample" in facts["inputs"]["given"].values()
    return " and ".join(names) + (" (invented, for a trial run)" if invented else "")


def _merged(rows: Iterable[dict[str, Any]], key: str) -> dict[Any, tuple[int, int]]:
    """Value → (documents, tokens), over all sources."""
    total: dict[Any, tuple[int, int]] = {}
    for row in rows:
        documents, tokens = total.get(row[key], (0, 0))
        total[row[key]] = (documents + row["documents"], tokens + row["tokens"])
    return total


def _first(values: dict[Any, tuple[int, int]], number: int) -> list[tuple[str, int, int]]:
    rows = sorted(values.items(), key=lambda item: (-item[1][1], -item[1][0], str(item[0])))
    first = [("not named" if name is None else str(name), *numbers) for name, numbers in rows[:number]]
    rest = [numbers for _, numbers in rows[number:]]
    if rest:
        first.append((f"{len(rest):,} others", sum(one for one, _ in rest), sum(one for _, one in rest)))
    return first


def _language(row: dict[str, Any]) -> dict[str, Any]:
    """The two sources write languages in two ways, so that eng and en would stand side by side without a reason."""
    of_full_text = row["source"] == "pmc" and row["name"] is not None
    return row | {"name": f"{row['name']} (full texts)"} if of_full_text else row


def _decades(years: Sequence[dict[str, Any]]) -> list[tuple[str, int, int]]:
    rows = [row | {"name": "not named" if row["name"] is None else f"{row['name'] // 10}0s"} for row in years]
    return [(name, *numbers) for name, numbers in _merged(rows, "name").items()]


def _table(what: str, rows: Sequence[tuple[str, int, int]]) -> Table:
    cells = [[plain(name), f"{documents:,}", f"{tokens:,}"] for name, documents, tokens in rows]
    return Table([what, "documents", "tokens"], cells)
