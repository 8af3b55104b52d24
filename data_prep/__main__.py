"""``python -m data_prep yamls/data/NAME.yaml [stage …] [key=value …]``"""

import argparse

from base.errors import run_command

EPILOG = """stages, in order:
  download   fetch from NLM (pubmed=ncbi, pmc=pmc-oa) or make records (pubmed=sample, pmc=sample)
  parse      PubMed XML and JATS full text -> Parquet of records, in the work folder
  select     versions, deletions, licences, retractions, overlap, duplicates, quality, benchmarks
             -> OUT/documents, OUT/dropped, OUT/ledger.json, OUT/duplicates.json, OUT/contamination.json
  tokenizer  byte-level BPE and a report on it -> OUT/tokenizer
  shards     packed uint16 sequences in MDS -> OUT/mds/train, OUT/mds/val
  verify     reads everything back from OUT and checks it
  card       the data card -> OUT/card.html, OUT/card.md, OUT/card.json

A stage that was done with the same settings and inputs is not done again; after a kill the same command goes on.
Exit codes: 0 done; 1 done, but input was refused (it is listed), or a fault of ours; 2 for you to mend."""


def main() -> None:
    """Parse the command line and run the stages."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description="From PubMed abstracts and PMC full text to packed token sequences in object storage.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("yaml", help="configuration, as yamls/data/quickstart.yaml")
    parser.add_argument("arguments", nargs="*", metavar="stage | key=value", help="stages to run (all); settings")
    arguments = parser.parse_args()
    from data_prep.pipeline import run  # after --help has been answered: it imports pyarrow and lxml

    run(arguments.yaml, arguments.arguments)


if __name__ == "__main__":
    run_command(main)
