"""The comma-separated values of RUN: `--mount=type=cache,target=/x` and `--device=vendor.com/class=name`."""

from __future__ import annotations

import re
from collections.abc import Callable

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.gotext import truth
from knarr.frontend.dockerfile.instructions import MountText, RunDevice, RunMount
from knarr.frontend.dockerfile.suggest import did_you_mean
from knarr.record import replace
from knarr.regex import later

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")

_FIELD_OF_KEY = {
    "type": "type",
    "from": "from_",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "readwrite": "readwrite",
    "rw": "readwrite",
    "required": "required",
    "size": "size_bytes",
    "id": "id",
    "sharing": "sharing",
    "mode": "mode",
    "uid": "uid",
    "gid": "gid",
    "env": "env",
}
_BARE_TRUE = frozenset(("readonly", "readwrite", "required"))
_SIZE = later(r"([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_MAX_ID = 2**32 - 1
_MAX_SIZE = 2**63

_QUOTES = 'quotes go around a whole field, and one inside it is doubled: "target=/a""b"'


def csv_fields(text: str) -> list[str]:
    """The fields of one line of CSV.

    Raises:
        DockerfileError: no text, a quote inside a field that does not begin with one, or one that is not closed.
    """
    if not text:
        raise DockerfileError(
            "a flag of RUN has an empty value", hint="write its value right behind the =, without blanks"
        )
    fields = []
    at = 0
    while True:
        if text[at : at + 1] == '"':
            field, at = _quoted_field(text, at + 1)
        else:
            end = text.find(",", at)
            field = text[at:] if end < 0 else text[at:end]
            if '"' in field:
                raise DockerfileError(f'bare " in a field that has no quotes around it: {field}', hint=_QUOTES)
            at += len(field)
        fields.append(field)
        if at >= len(text):
            return fields
        at += 1


def read_mount_text(text: str) -> MountText:
    """A `--mount` while variables are not known yet: only `from` is looked at.

    Raises:
        DockerfileError: not CSV, or a variable in `from`, which must be known before anything is built.
    """
    from_ = ""
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        if not equals or key.lower() != "from":
            continue
        if 0 <= value.find("$") < len(value) - 1:
            raise DockerfileError(
                "'from' doesn't support variable expansion, define alias stage instead",
                hint=f"FROM {value} AS some-name before this stage, then from=some-name",
            )
        from_ = value
    return MountText(text, from_)


def read_mount(text: str, expand: Callable[[str], str]) -> RunMount:
    """A `--mount` in full, every value passed through `expand`.

    Raises:
        DockerfileError: an unknown key, type or value, or keys that do not go together. No span yet.
    """
    mount = _Draft(RunMount())
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        name = _FIELD_OF_KEY.get(key)
        if not equals:
            if name not in _BARE_TRUE:
                raise DockerfileError(
                    f"invalid field '{field}' must be a key=value pair",
                    hint="without blanks at the commas; only readonly, readwrite and required stand alone",
                )
            mount.set(name, key, "true")
            continue
        value = expand(value)
        if name is None:
            hint = did_you_mean(key, _FIELD_OF_KEY) or f"known are {', '.join(sorted(_FIELD_OF_KEY))}"
            raise DockerfileError(f"unexpected key '{key}' in '{field}'", hint=hint)
        mount.set(name, key, value)
    return mount.finish()


def read_device(text: str) -> RunDevice:
    """A `--device`: a CDI name, bare or as `name=`, and `required`.

    Raises:
        DockerfileError: two names, or an unknown key.
    """
    name = ""
    required = False
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            required = _boolean(key, value) if equals else True
        elif key == "name" and equals:
            if name:
                raise DockerfileError(f"device name already set to {name}", hint="one --device for each")
            name = value
        elif not name:
            name = field  # vendor.com/class=device has an equals sign of its own
        elif equals:
            hint = did_you_mean(key, ("name", "required")) or "known are name and required"
            raise DockerfileError(f"unexpected key '{key}' in '{field}'", hint=hint)
        else:
            raise DockerfileError(f"invalid field '{field}' must be a key=value pair", hint="such as required=true")
    return RunDevice(name, required)


class _Draft:
    """A mount while its fields are read one by one. The order counts: `type` must come before what depends on it."""

    def __init__(self, mount: RunMount) -> None:
        self.mount = mount
        self.said_readonly = False

    def set(self, name: str, key: str, value: str) -> None:
        if name in ("readonly", "readwrite"):
            self.said_readonly = True
            self._put("readonly", _boolean(key, value) == (name == "readonly"))
        elif name == "type":
            self._put("type", _choice("unsupported mount type", value, TYPES))
        elif name == "sharing":
            self._put("sharing", _choice("unsupported sharing value", value, SHARING))
        elif name == "required":
            self._only_for(key, "secret", "ssh")
            self._put("required", _boolean(key, value))
        elif name == "size_bytes":
            self._only_for(key, "tmpfs")
            self._put("size_bytes", _size(key, value))
        elif name in ("mode", "uid", "gid"):
            self._put(name, _number(key, value, base=8 if name == "mode" else 10))
        else:
            self._put(name, value)

    def finish(self) -> RunMount:
        mount = self.mount
        if mount.type in ("bind", "tmpfs"):
            for name in ("mode", "uid", "gid"):
                if getattr(mount, name) is not None:
                    raise DockerfileError(
                        f'{name} not allowed for "{mount.type}" type mounts',
                        hint="mode, uid and gid belong to type=cache, type=secret and type=ssh",
                    )
        if mount.type == "secret":
            _check_secret(mount)
        if mount.sharing and mount.type != "cache":
            raise DockerfileError(
                f"invalid cache sharing set for {mount.type} mount", hint="sharing belongs to type=cache"
            )
        if not self.said_readonly:
            mount = replace(mount, readonly=mount.type not in ("cache", "tmpfs"))
        return mount

    def _put(self, name: str, value: str | int) -> None:
        changes: dict[str, object] = {name: value}
        self.mount = replace(self.mount, **changes)

    def _only_for(self, key: str, *types: str) -> None:
        if self.mount.type not in types:
            raise DockerfileError(
                f"unexpected key '{key}' for mount type '{self.mount.type}'",
                hint=f"it belongs to type={' and type='.join(types)}, and `type` must stand before it",
            )


def _check_secret(mount: RunMount) -> None:
    if mount.from_:
        raise DockerfileError("secret mount should not have a from", hint="a secret comes from --secret of the build")
    if mount.sharing:
        raise DockerfileError("secret mount should not define sharing", hint="sharing belongs to type=cache")
    if not (mount.source or mount.target or mount.id):
        raise DockerfileError("invalid secret mount. one of source, target required", hint="add id=NAME")
    if mount.source and mount.id:
        raise DockerfileError("both source and id can't be set", hint="id=NAME alone")


def _quoted_field(text: str, at: int) -> tuple[str, int]:
    """The field whose opening quote is just before `at`, and where it ends."""
    parts = []
    while (end := text.find('"', at)) >= 0:
        parts.append(text[at:end])
        if text[end + 1 : end + 2] != '"':
            if text[end + 1 : end + 2] not in ("", ","):
                break
            return "".join(parts), end + 1
        parts.append('"')
        at = end + 2
    raise DockerfileError(f'extraneous or missing " in quoted field: {text}', hint=_QUOTES)


def _choice(what: str, value: str, known: tuple[str, ...]) -> str:
    lower = value.lower()
    if lower not in known:
        hint = did_you_mean(value, known) or "known are " + ", ".join(known)
        raise DockerfileError(f'{what} "{value}"', hint=hint)
    return lower


def _boolean(key: str, value: str) -> bool:
    found = truth(value)
    if found is not None:
        return found
    raise DockerfileError(f"invalid value for {key}: {value}", hint="true or false")


def _number(key: str, value: str, *, base: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if value and len(value) <= 20 and not value.strip(digits) and (number := int(value, base)) <= _MAX_ID:
        return number
    hint = "an octal number like 0755" if base == 8 else "a number from 0 to 4294967295"
    raise DockerfileError(f"invalid value {value} for {key}", hint=hint)


def _size(key: str, value: str) -> int:
    match = _SIZE.fullmatch(value)
    size = int(float(match[1]) * _SIZE_UNITS[(match[2] or "").lower()]) if match else _MAX_SIZE
    if size >= _MAX_SIZE:
        raise DockerfileError(f"invalid value for {key}: {value}", hint="bytes, or a number with k, m or g behind it")
    return size
