"""The reason why an input file is not used."""


class Refused(Exception):
    """A file is refused whole: none of its records is used. The message is the reason that the ledger shows."""
