"""Streaming's own hashes, compression and codecs of columns, without the rest of Streaming.

``import streaming`` brings torch and transformers: 3.3 s of CPU and 575 MB in every worker, which a shard of token ids
has no part in. Three of its modules need nothing of the rest, so they are loaded from their files: 0.05 s, 12 MB. What
they do is what training does.

Source: mosaicml-streaming 0.13.0, ``streaming/base/{hashing,compression}.py`` and ``format/mds/encodings.py``.
"""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType


def hashing() -> ModuleType:
    """With ``get_hash(name, data)``."""
    return _loaded("base/hashing.py")


def compression() -> ModuleType:
    """With ``compress(name, data)``, ``decompress(name, data)`` and ``get_compression_extension(name)``."""
    return _loaded("base/compression.py")


def encodings() -> ModuleType:
    """With ``mds_decode(encoding, data)``, by which training reads a column of a sample."""
    return _loaded("base/format/mds/encodings.py")


@cache
def _loaded(file: str) -> ModuleType:
    package = importlib.util.find_spec("streaming")  # finds the top of a package without importing it
    assert package is not None and package.origin is not None, "mosaicml-streaming is not installed"
    path = Path(package.origin).parent / file
    spec = importlib.util.spec_from_file_location(f"{__name__}.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
