"""Whether a checkpoint's files can be read without running anything that they say.

Composer's sharded layout is torch's (DCP): ``.metadata`` is a pickle that tells which item lies where in the
``.distcp`` files, and each item is an archive of ``torch.save``, with a pickle in it. Composer and DCP unpickle the
first, and of the second all that is no tensor, without restraint. So these pickles are read here before, by a reader
that knows the few names that a run's own checkpoints hold and puts something inert in the place of each. What has
passed is what is read later: the same bytes, by the same unpickler.

Composer 0.32.1 also evaluates text of a checkpoint as Python (``State._apply_required_algorithms``), which any reader
of pickles lets through: there must be no algorithms in it.
"""

import io
import os
import pickle
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.distributed.checkpoint.utils import _ReaderView  # by which DCP reads an item alone

from base.errors import UserError
from model.checkpoint import read_manifest

METADATA = ".metadata"
DCP = "torch.distributed.checkpoint"
ALGORITHMS = ("state", "algorithms")
LARGEST_OBJECT = 64 << 20  # bytes, of what is no tensor; the largest of a run's own is a list of parameter names


@dataclass(frozen=True)
class Item:
    """A tensor, or a part of one, or a pickled object: ``length`` bytes of ``file`` from ``offset`` on."""

    name: str
    is_tensor: bool
    file: str
    offset: int
    length: int


def require_safe(folder: Path) -> None:
    """Check all that training may read of a fetched checkpoint; of tensors their description, not their numbers.

    Raises:
        UserError: names the file, the item and what it asks for.
    """
    _require_safe_items(folder, _items(folder))


def require_safe_tensors(folder: Path, names: set[str]) -> None:
    """Check the items of these names of a fetched checkpoint, which must be tensors. Raises UserError as above."""
    items = [item for item in _items(folder) if item.name in names]
    for item in items:
        if not item.is_tensor:
            _refuse(f"{folder / item.file}: {item.name}: is no tensor")
    _require_safe_items(folder, items)


def _items(folder: Path) -> list[Item]:
    """What ``.metadata`` names, once it is known to be of DCP's own classes alone."""
    place = folder / METADATA
    sizes = {name: entry["size"] for name, entry in read_manifest(str(folder))["files"].items()}
    try:
        metadata = _state(_OfMetadata(io.BytesIO(place.read_bytes())).load(), "Metadata")
        kinds = {name: type(kind).__name__ for name, kind in metadata["state_dict_metadata"].items()}
        items = [_item(index, info, kinds) for index, info in metadata["storage_data"].items()]
        for item in items:
            _require_within(item, sizes)
    except Exception as error:  # a hostile pickle can raise anything
        _refuse(f"{place}: {_reason(error)}")
    return sorted(items, key=lambda item: (item.file, item.offset))


def _item(index: Any, info: Any, kinds: dict[str, str]) -> Item:
    name, place = _state(index, "MetadataIndex")["fqn"], _state(info, "_StorageInfo")
    if place.get("transform_descriptors") is not None:
        raise pickle.UnpicklingError(f"{name} is packed in a way that is not ours")
    is_tensor = {"TensorStorageMetadata": True, "BytesStorageMetadata": False}[kinds[name]]
    return Item(name, is_tensor, place["relative_path"], place["offset"], place["length"])


def _require_within(item: Item, sizes: dict[str, int]) -> None:
    if "/" in item.file or item.file not in sizes:
        raise pickle.UnpicklingError(f"{item.name} lies in {item.file!r}, which is no file of this checkpoint")
    if not 0 <= item.offset <= item.offset + item.length <= sizes[item.file]:
        raise pickle.UnpicklingError(f"{item.name} does not lie within {item.file}")


def _require_safe_items(folder: Path, items: Iterable[Item]) -> None:
    with ExitStack() as stack:
        files: dict[str, io.BufferedReader] = {}
        for item in items:
            if item.file not in files:
                files[item.file] = stack.enter_context((folder / item.file).open("rb"))
            try:
                _check(item, files[item.file])
            except Exception as error:  # a hostile pickle can raise anything
                _refuse(f"{folder / item.file}: {item.name}: {_reason(error)}")


def _check(item: Item, file: io.BufferedReader) -> None:
    if item.length > LARGEST_OBJECT and not item.is_tensor:
        raise pickle.UnpicklingError(f"has {item.length:,} bytes, and is no tensor")
    data = _pickle_in(_View(file, item.offset, item.length))
    value = (_OfTensor if item.is_tensor else _OfObject)(io.BytesIO(data)).load()
    if tuple(item.name.split("."))[:2] == ALGORITHMS and value != []:
        raise pickle.UnpicklingError("names algorithms, which Composer would make by evaluating their text as Python")


class _View(_ReaderView):
    """torch's own (2.7.0) seeks to the wrong side of the end, where zipfile begins."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            offset, whence = self.len + offset, os.SEEK_SET
        return super().seek(offset, whence)


def _pickle_in(view: Any) -> bytes:
    """The pickle of an archive of ``torch.save``, by the reader that torch.load uses."""
    if view.read(4) != b"PK\x03\x04":  # torch.load would take it for an older format
        raise pickle.UnpicklingError("is no archive of torch.save")
    with zipfile.ZipFile(view) as archive:
        if sum(member.file_size for member in archive.infolist()) > view.len:
            raise pickle.UnpicklingError("is an archive that is larger unpacked, which torch.save does not write")
    view.seek(0)
    reader = torch._C.PyTorchFileReader(view)
    if "constants.pkl" in reader.get_all_records():
        raise pickle.UnpicklingError("is a TorchScript program")
    return reader.get_record("data.pkl")


# --- reading what a pickle says, without doing it ----------------------------------------------------------------


class _Fixed(type):
    """A class that a pickle cannot change: its next use would be another than the one that was checked."""

    def __setattr__(cls, name: str, value: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"would change the class {cls.__name__}")


class _Inert(metaclass=_Fixed):
    """Stands for a class or a function: keeps what it is given."""

    __slots__ = ("arguments", "state")
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> "_Inert":
        self = super().__new__(cls)
        self.arguments, self.state = arguments, None
        return self

    def __setstate__(self, state: Any) -> None:
        if self.state is not None:
            raise pickle.UnpicklingError(f"gives {type(self).__name__} two states")
        self.state = state
        self.check_state()

    def check_state(self) -> None:
        """Raise for a state that the real one is not to be given."""


class _Encoded(_Inert):
    """Bytes, which pickle's older protocols write as text."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> Any:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"encodes text as {encoding!r}")
        return text.encode("latin1")


class _Dtype(_Inert):
    """numpy trusts a dtype's state: another than that of a plain number makes memory into objects."""

    __slots__ = ()

    def __new__(cls, *arguments: Any) -> "_Dtype":
        if arguments != ("u4", False, True):
            raise pickle.UnpicklingError(f"holds an array of numpy.dtype{arguments!r}; random states are of 'u4'")
        return super().__new__(cls, *arguments)  # type: ignore[return-value]

    def check_state(self) -> None:
        if self.state != (3, "<", None, None, None, -1, -1, 0):
            raise pickle.UnpicklingError("holds a numpy.dtype with an unknown state")


class _Array(_Inert):
    __slots__ = ()

    def check_state(self) -> None:
        _, shape, dtype, _, data = self.state
        (length,) = shape
        if type(dtype) is not _Dtype or dtype.state is None or type(data) is not bytes or len(data) != 4 * length:
            raise pickle.UnpicklingError("holds a numpy array of an unknown form")


class _Reconstructed(_Inert):
    __slots__ = ()

    def __new__(cls, *arguments: Any) -> Any:
        if arguments != (_Array, (0,), b"b"):
            raise pickle.UnpicklingError("makes a numpy array of an unknown form")
        return _Array()


def _inert(module: str, *names: str) -> dict[tuple[str, str], Any]:
    return {(module, name): _Fixed(name, (_Inert,), {"__slots__": ()}) for name in names}


DTYPES = [name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)]
STORAGES = [f"{kind}Storage" for kind in ("BFloat16", "Bool", "Byte", "Double", "Float", "Half", "Int", "Long")]


class _Restricted(pickle.Unpickler):
    KNOWN: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"asks for {module}.{name}") from None


class _OfMetadata(_Restricted):
    KNOWN = {
        **_inert(f"{DCP}.metadata", "Metadata", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING"),
        **_inert(f"{DCP}.metadata", "TensorStorageMetadata", "ChunkStorageMetadata", "TensorProperties"),
        **_inert(f"{DCP}.metadata", "BytesStorageMetadata"),
        **_inert(f"{DCP}.filesystem", "_StorageInfo"),
        **_inert("torch.serialization", "_get_layout"),
        **_inert("torch", "Size", *DTYPES),
        **_inert("pathlib", "PosixPath"),
    }


class _OfObject(_Restricted):
    """Numbers, text, lists, dictionaries; times, torch's version, and random states of numpy."""

    KNOWN = {
        **_inert("datetime", "timedelta"),
        **_inert("torch.torch_version", "TorchVersion"),
        ("_codecs", "encode"): _Encoded,
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Reconstructed,
        ("numpy.core.multiarray", "_reconstruct"): _Reconstructed,  # numpy before 2
    }


class _OfTensor(_Restricted):
    KNOWN = {
        **_inert("torch._utils", "_rebuild_tensor_v2"),
        **_inert("torch", *STORAGES),
        **_inert("collections", "OrderedDict"),
    }

    def persistent_load(self, reference: Any) -> Any:
        return None  # the numbers


def _state(thing: Any, kind: str) -> dict[str, Any]:
    if type(thing).__name__ != kind or type(thing.state) is not dict:
        raise pickle.UnpicklingError(f"has a {type(thing).__name__} where a {kind} belongs")
    return thing.state


def _reason(error: Exception) -> str:
    return str(error) if type(error) is pickle.UnpicklingError else f"cannot be read: {type(error).__name__}: {error}"


def _refuse(reason: str) -> NoReturn:
    raise UserError(f"{reason}; a checkpoint that could run code is not loaded") from None
