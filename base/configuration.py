"""YAML plus ``key=value`` arguments, checked against a schema, with all faults in one message.

The order: each YAML key remembers its file and line, each override its argument; the file that ``base:`` names, when
there is one, lies below (see :func:`_read_with_base`); overrides are merged in;
``${other.key}`` and ``${oc.env:NAME}`` or ``${oc.env:NAME,default}`` are resolved by OmegaConf (an unset variable
without a default is a fault); every section is checked by its pydantic model, unknown keys included; last come
the checks that need several sections. A fault in one section never hides a fault in another.
"""

import difflib
import os
import re
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from base.errors import UserError
from base.masking import MASK, masked, names_secret, without_secrets

Key = tuple[str | int, ...]  # ("optimizer", "lr")
BASE = "base"  # the one key that is the loader's, not a schema's


class Section(BaseModel):
    """A level of the configuration: unknown keys are faults, types are not guessed, values do not change."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class Schema(Section):
    """The whole configuration of a command. ``cross_checks`` looks at several sections at once."""

    @classmethod
    def cross_checks(cls) -> list[Callable[[Any], Iterable[tuple[str, str]]]]:
        """Functions from the configuration to (key, message) faults.

        Each is given whatever sections are sound, and is left out when it touches one that is not.
        """
        return []


S = TypeVar("S", bound=Schema)


class _NotSound(Exception):
    """A cross check touched a section that has a fault of its own."""


class _SoundSections:
    """What a cross check is given: the schema's keys, without its properties and methods."""

    def __init__(self, sections: dict[str, Any], known: Iterable[str]):
        self._sections, self._known = sections, set(known)

    def __getattr__(self, name: str) -> Any:
        if name not in self._known:  # otherwise the check would be left out for good, without a word
            raise AttributeError(f"a cross check asks for {name}, which is no key of the configuration")
        if name not in self._sections:
            raise _NotSound(name)
        return self._sections[name]


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 takes ``1e-4`` for a string; users of Composer write it as a number. A date stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
        |\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        re.X,
    ),
    list("-+0123456789."),
)


def load_configuration(path: str, overrides: list[str], schema: type[S]) -> S:
    """Read ``path``, apply ``overrides`` (each ``dotted.key=value``), check everything against ``schema``.

    Raises:
        UserError: one message with all faults; each names its file and line or its argument, and for an unknown
            key the nearest known one.
    """
    tree, origins, faults = _read_with_base(path)
    for argument in overrides:
        faults += _apply_override(tree, origins, argument)
    resolved, unresolved = _resolve(tree, origins, path)
    faults += unresolved
    sound, section_faults = _check_sections(resolved, schema, origins, path, skip={key for key, _ in unresolved})
    faults += section_faults
    sections = _SoundSections(sound, schema.model_fields)
    for check in schema.cross_checks():
        try:
            faults += [((*key.split("."),), message) for key, message in check(sections)]
        except _NotSound:
            continue
    if faults:
        raise UserError(_message(path, faults, origins), shared=True)
    return schema.model_validate(resolved)


def dump_configuration(configuration: Schema, without: Iterable[str] = ()) -> str:
    """The resolved configuration as YAML, with every default written out and without secrets.

    Some top-level keys may be left out.
    """
    shown = masked(configuration.model_dump(exclude=set(without)))
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


# --- reading -----------------------------------------------------------------------------------------------------

Fault = tuple[Key, str]


def _read_with_base(path: str, above: tuple[str, ...] = ()) -> tuple[dict[str, Any], dict[Key, str], list[Fault]]:
    """Read ``path`` laid over the file that its key ``base`` names, as seen from its folder; that may have one too.

    Sections are merged key by key. Everything else replaces what lies below it: values, lists, and a section with
    another ``name``, for it is another component with other arguments.
    """
    tree, origins, faults = _read_yaml(path)
    if BASE not in tree:
        return tree, origins, faults
    name, place = tree.pop(BASE), origins.pop((BASE,))
    if not isinstance(name, str):
        raise UserError(
            f"{place}: {BASE}: must be the path of a YAML from this file's folder; it is {name!r}", shared=True
        )
    base = os.path.normpath(os.path.join(os.path.dirname(path), name))
    if not os.path.isfile(base):
        raise UserError(f"{place}: {BASE}: {base}: no such file", shared=True)
    if any(os.path.samefile(base, file) for file in (*above, path)):
        raise UserError(f"{place}: {BASE}: {base} is based on this file", shared=True)
    lower, lower_origins, lower_faults = _read_with_base(base, (*above, path))
    replaced: set[Key] = set()
    merged = _lay_over(tree, lower, (), replaced)
    kept = {key: origin for key, origin in lower_origins.items() if not any(key[: len(one)] == one for one in replaced)}
    return merged, kept | origins, lower_faults + faults


def _lay_over(upper: dict[str, Any], lower: dict[str, Any], key: Key, replaced: set[Key]) -> dict[str, Any]:
    merged = dict(lower)
    for name, value in upper.items():
        under = lower.get(name)
        if (
            isinstance(value, dict)
            and isinstance(under, dict)
            and value.get("name", under.get("name")) == under.get("name")
        ):
            merged[name] = _lay_over(value, under, (*key, name), replaced)
        else:
            merged[name] = value
            replaced.add((*key, name))
    return merged


def _read_yaml(path: str) -> tuple[dict[str, Any], dict[Key, str], list[Fault]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; the configurations that come with the recipe are in yamls/", shared=True
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader subclass)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must hold keys and values at the top level, not a {type(tree).__name__}")
    origins: dict[Key, str] = {}
    faults: list[Fault] = []
    if node is not None:
        _note_origins(node, (), path, origins, faults)
    return tree, origins, faults


def _note_origins(node: yaml.Node, key: Key, path: str, origins: dict[Key, str], faults: list[Fault]) -> None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = (*key, str(name.value))
            place = f"{path}:{name.start_mark.line + 1}"
            if inner in origins:
                faults.append((inner, f"stands twice, at {origins[inner]} and {place}"))
            origins[inner] = place
            _note_origins(value, inner, path, origins, faults)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            origins[(*key, index)] = f"{path}:{value.start_mark.line + 1}"
            _note_origins(value, (*key, index), path, origins, faults)


def _apply_override(tree: dict[str, Any], origins: dict[Key, str], argument: str) -> list[Fault]:
    name, equals, text = argument.partition("=")
    origin = f"argument {argument}" if len(argument) <= 60 else f"argument {name}=…"
    if not equals or not name:
        origins[(argument,)] = origin
        return [((argument,), "an argument must have the form key=value")]
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader subclass)
    except yaml.YAMLError:
        value = text
    key: Key = tuple(int(part) if part.isdigit() else part for part in name.split("."))
    if key[0] == BASE:
        origins[key] = origin
        return [(key, "stands in a file alone; name the file that is based on it instead")]
    if without_secrets(argument) != argument:
        origins[key] = origin
        return [(key, "a secret, which the process list shows; set a variable, and give ${oc.env:NAME} in its place")]
    level: Any = tree
    for part in key[:-1]:
        following = level.get(part) if isinstance(level, dict) else _item(level, part)
        if not isinstance(following, dict | list):
            if not isinstance(level, dict):
                origins[key] = origin
                return [(key, f"there is no {_dotted(key[:-1])} to set it in")]
            following = level[part] = {}
        level = following
    if isinstance(level, list) and _item(level, key[-1]) is None:
        origins[key] = origin
        return [(key, f"the list has {len(level)} items")]
    level[key[-1]] = value
    for old in [old for old in origins if old[: len(key)] == key]:
        del origins[old]
    origins[key] = origin
    return []


def _item(values: Any, part: str | int) -> Any:
    inside = isinstance(values, list) and isinstance(part, int) and part < len(values)
    return values[part] if inside else None


# --- resolving ---------------------------------------------------------------------------------------------------


def _resolve(tree: dict[str, Any], origins: dict[Key, str], path: str) -> tuple[dict[str, Any], list[Fault]]:
    """Replace every ``${…}``; a leaf that cannot be resolved becomes a fault and None."""
    try:
        config = OmegaConf.create(tree)
    except OmegaConfBaseException as error:  # for example an unclosed ${
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from None
    assert isinstance(config, DictConfig)
    faults: list[Fault] = []

    def leaf(key: Key, node: Any, name: str | int) -> Any:
        try:
            value = node[name]
        except (OmegaConfBaseException, ValueError) as error:
            reason = str(error).splitlines()[0]
            if "oc.env" in str(OmegaConf.to_container(node, resolve=False)) and "Environment variable" in reason:
                reason += "; set it, or give a default: ${oc.env:NAME,default}"
            faults.append((key, reason))
            return None
        return walk(key, value) if OmegaConf.is_config(value) else value

    def walk(key: Key, node: Any) -> Any:
        if OmegaConf.is_dict(node):
            return {name: leaf((*key, name), node, name) for name in node}
        return [leaf((*key, index), node, index) for index in range(len(node))]

    return walk((), config), faults


# --- checking ----------------------------------------------------------------------------------------------------


def _check_sections(
    tree: dict[str, Any], schema: type[Schema], origins: dict[Key, str], path: str, skip: set[Key]
) -> tuple[dict[str, Any], list[Fault]]:
    sound: dict[str, Any] = {}
    faults: list[Fault] = []
    for name in tree:
        if name not in schema.model_fields:
            faults.append(((name,), _unknown((name,), schema, schema.model_fields)))
    for name, field in schema.model_fields.items():
        if name not in tree:
            if field.is_required():
                faults.append(((name,), f"is missing; {path} must give it"))
            else:
                sound[name] = field.get_default(call_default_factory=True)
            continue
        try:
            sound[name] = TypeAdapter(_annotation(field)).validate_python(tree[name], strict=True)
        except ValidationError as error:
            for detail in error.errors():
                key = _key_of(detail["loc"], name, tree)
                if key not in skip:
                    faults.append((key, _reason(detail, key, schema)))
        if any(key[0] == name for key in skip):
            sound.pop(name, None)
    return sound, faults


def _annotation(field: FieldInfo) -> Any:
    """The type of a field with its constraints (bounds, discriminator)."""
    return Annotated[field.annotation, field]  # type: ignore[valid-type]


def _key_of(loc: tuple[int | str, ...], name: str, tree: dict[str, Any]) -> Key:
    """pydantic puts the tags of unions between the keys; keep only what is a key of the tree, or its last part."""
    key: list[str | int] = [name]
    node = tree[name]
    for index, part in enumerate(loc):
        if part in node if isinstance(node, dict) else isinstance(part, int) and _item(node, part) is not None:
            node = node[part]
            key.append(part)
        elif index == len(loc) - 1 and isinstance(node, dict) and part not in _tags_of(node):
            key.append(part)  # a missing key
    return tuple(key)


def _tags_of(node: dict[str, Any]) -> set[Any]:
    return {value for value in node.values() if isinstance(value, str)}


def _reason(detail: Any, key: Key, schema: type[Schema]) -> str:
    kind, shown = detail["type"], repr(detail.get("input"))
    if any(names_secret(str(part)) for part in key):
        shown = MASK
    if kind == "extra_forbidden":
        return _unknown(key, schema, _fields_at(schema, key[:-1], detail))
    if kind == "missing":
        return "is missing"
    message = detail["msg"]
    message = message[0].lower() + message[1:]
    if kind == "value_error":
        return message.removeprefix("value error, ")
    if kind == "string_type" and isinstance(detail["input"], int | float):
        return f"{message}; it is {shown}: quote it, as an argument '{_dotted(key)}=\"{shown}\"'"
    if kind == "union_tag_invalid":
        message = f"must be one of {detail['ctx']['expected_tags']}"
        shown = repr(detail["ctx"]["tag"])
    return f"{message}; it is {shown}" if len(shown) <= 60 else message


def _unknown(key: Key, schema: type[Schema], fields: Iterable[str]) -> str:
    name = str(key[-1])
    near = difflib.get_close_matches(name, list(fields), n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {_dotted((*key[:-1], near[0]))}?"
    elsewhere = [path for path in _all_keys(schema) if path[-1] == name]
    if elsewhere:
        return f"unknown key; did you mean {_dotted(elsewhere[0])}?"
    known = ", ".join(sorted(fields))
    return f"unknown key; known here: {known}" if known else "unknown key"


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (Union, types.UnionType, list, Annotated, dict):
        return [model for part in typing.get_args(annotation) for model in _models_of(part)]
    return []


def _fields_at(schema: type[BaseModel], key: Key, detail: Any) -> list[str]:
    models: list[type[BaseModel]] = [schema]
    for part in key:
        if isinstance(part, int) or not any(part in model.model_fields for model in models):
            continue  # an item of a list, a name in a dictionary of sections
        models = [
            inner
            for model in models
            if part in model.model_fields
            for inner in _models_of(model.model_fields[part].annotation)
        ]
    tags = [part for part in detail["loc"] if isinstance(part, str)]
    tagged = [
        model
        for model in models
        if "name" in model.model_fields and set(typing.get_args(model.model_fields["name"].annotation)) & set(tags)
    ]
    return [name for model in tagged or models for name in model.model_fields]


def _all_keys(model: type[BaseModel], key: Key = ()) -> list[Key]:
    keys: list[Key] = []
    for name, field in model.model_fields.items():
        keys.append((*key, name))
        for inner in _models_of(field.annotation):
            keys += _all_keys(inner, (*key, name))
    return keys


# --- telling -----------------------------------------------------------------------------------------------------


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))


def _origin(key: Key, origins: dict[Key, str], path: str) -> str:
    while key:
        if key in origins:
            return origins[key]
        key = key[:-1]
    return path


def _message(path: str, faults: list[Fault], origins: dict[Key, str]) -> str:
    lines = list(dict.fromkeys(f"  {_origin(key, origins, path)}: {_dotted(key)}: {text}" for key, text in faults))
    return f"{len(lines)} fault{'s' if len(lines) > 1 else ''} in the configuration\n" + "\n".join(lines)
