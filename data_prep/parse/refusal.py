"""The reason why an input file is not used."""


class Refused(Exception):
    """A file is refused whole: none of its records is used. The message is the reason that the ledger shows."""


class Unreadable(Refused):
    """The system would not give the file's bytes this time (rights, a bad disk): the next run tries again."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot be read: {error.strerror or error}")
