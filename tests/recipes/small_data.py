"""The sizes of the small data that ``conftest.py`` packs."""

LENGTH, SEQUENCES, HELD_OUT = 64, 50, 13  # tokens of a sequence; sequences to train on, and held out
