"""Why a step was not in the cache: what it is made of now, against the nearest earlier run of it.

The *ingredients* of a step are what its keys are made of, by names for people:
`command`, `env PATH`, `mount /src`, `platform`, `base`, `input RUN make (stage build)`,
`file build context<TAB>src/a.go`. They are plain strings, gathered only when a step
missed, and kept by `cache.store` for each step's last runs.

    now = ingredients(vertex, inputs)
    lines = explain(now, nearest(now, store.recall(step)), inputs)
    # ["ENV or ARG MODE changed: debug → release", "file src/a.go: content (build context)"]
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

from knarr.llb.ops import (
    BuildOp,
    ChownOpt,
    Copy,
    ExecMount,
    ExecOp,
    FileAction,
    FileOp,
    MkDir,
    MkFile,
    MountType,
    Rm,
    SourceOp,
    Symlink,
    UserOpt,
    Vertex,
)
from knarr.record import field, record
from knarr.regex import later

_FILES_KEPT = 2000  # of one input: more would make the cache's memory of a step larger than its layer's metadata
_FILES_NAMED = 5  # in one line of an explanation
_SHOWN = 100  # characters of a value in a line
_PLACE = later(r"\[(?:(?P<platform>\S+/\S+) )?(?:(?P<stage>\S+) )? *\d+/\d+\] ")  # as BuildKit's frontend writes it
_T = TypeVar("_T")
_SHELL = ("/bin/sh", "-c")


@record
class Input:
    """What one input was: the `name` people call it by, and who it is, or what its content was.

    `files` is what `TreeHasher.listing` gives: `mode owner digest` by path.
    """

    name: str
    identity: str = ""  # empty: only its content counts
    content: str = ""  # the checksum of what is read of it, where that counts
    files: Mapping[str, str] = field(default_factory=dict)
    step: str = ""  # the step that made it; empty for what comes from outside
    is_base: bool = False  # the result starts from it

    @property
    def key(self) -> str:
        """What its identity is called among the ingredients. A base has no name there: it may have got another."""
        return "base" if self.is_base else f"input {self.name}"


def place_of(step: str) -> tuple[str, str, str]:
    """The platform, the stage and the text of a step's name, "" for what it does not say."""
    place = _PLACE.match(step)
    if place is None:
        return "", "", step
    return place["platform"] or "", place["stage"] or "", step[place.end() :]


def called(vertex: Vertex, step: str, *, is_base: bool) -> str:
    """What people call the result of `vertex`, whose name is `step`: without numbers, which change with other steps.

    What a step starts from is called by the step before it, what it only reads by the stage.
    """
    op = vertex.op
    if not isinstance(op, SourceOp):
        _, stage, text = place_of(step)
        if stage and not is_base:
            return f"stage {stage}"
        return _shortened(text) + (f" (stage {stage})" if stage else "")
    scheme, _, rest = op.identifier.partition("://")
    if scheme == "docker-image":
        name = rest.partition("@")[0].removeprefix("docker.io/").removeprefix("library/")
        return f"image {name} ({vertex.platform})" if vertex.platform else f"image {name}"
    if scheme == "local":
        return "build context" if rest == "context" else f"build context {rest}"
    return op.identifier


def ingredients(vertex: Vertex, inputs: Sequence[Input] = ()) -> dict[str, str]:
    """What the keys of `vertex` are made of, by name."""
    op = vertex.op
    found: dict[str, str] = {}
    if isinstance(op, ExecOp):
        found.update(_of_exec(op))
        found["platform"] = str(vertex.platform or "")
    elif isinstance(op, FileOp):
        for number, action in enumerate(op.actions, 1):
            found[f"action {number}"] = _of_action(action)
    elif isinstance(op, SourceOp):
        found["source"] = op.identifier
    elif isinstance(op, BuildOp):
        found["attributes"] = ", ".join(f"{key}={value}" for key, value in sorted(op.attrs.items()))
    for item in inputs:
        if item.identity:
            found[item.key] = item.identity
        if item.content:
            found[f"content {item.name}"] = item.content
        found.update({f"file {item.name}\t{path}": what for path, what in shallowest(item.files).items()})
    return found


def nearest(now: Mapping[str, str], earlier: Iterable[Mapping[str, str]]) -> Mapping[str, str] | None:
    """The run that differs in the fewest ingredients; of equals the first, so give the newest first."""
    return min(earlier, key=lambda before: len(_differing(now, before)), default=None)


def is_edited(now: Mapping[str, str], before: Mapping[str, str]) -> bool:
    """Whether `now` does what `before` did but for a few words: the same line of a Dockerfile, changed."""
    doing = {name for name in (*now, *before) if name == "command" or name.startswith("action ")}
    words = [({*now.get(name, "").split()}, {*before.get(name, "").split()}) for name in doing]
    same = sum(len((one & other).difference(_SHELL)) for one, other in words)
    most = (
        max(sum(len(side.difference(_SHELL)) for side in sides) for sides in zip(*words, strict=True)) if words else 0
    )
    return bool(most) and same * 2 >= most


def explain(now: Mapping[str, str], before: Mapping[str, str] | None, inputs: Sequence[Input] = ()) -> list[str]:
    """What differs, one line each, the most telling first; empty if nothing does. `inputs` are those of now."""
    if before is None:
        return ["this step has not run before"]
    by_key = {item.key: item for item in inputs}
    files: dict[str, list[tuple[str, str, str]]] = {}  # input → (path, then, now)
    lines, contents = [], []
    for name in _differing(now, before):
        kind, _, rest = name.partition(" ")
        if kind == "file":
            source, _, path = rest.partition("\t")
            files.setdefault(source, []).append((path, before.get(name, ""), now.get(name, "")))
        elif kind == "content":
            contents.append(rest)
        elif kind in ("base", "input"):
            lines.append(_input_line(rest, by_key.get(name), before.get(name), now.get(name)))
        else:
            lines.append(_line(kind, rest, before.get(name), now.get(name)))
    for source, changes in files.items():
        lines += (f"{line} ({source})" for line in _file_lines(changes))
    lines += (f"{source}: what is read of it changed" for source in contents if source not in files)
    return lines


def steps_that_differ(now: Mapping[str, str], before: Mapping[str, str] | None, inputs: Sequence[Input]) -> list[str]:
    """The steps whose results made the difference."""
    differing = _differing(now, before) if before is not None else []
    sources = {
        name.partition(" ")[2].partition("\t")[0] for name in differing if name.startswith(("file ", "content "))
    }
    return [item.step for item in inputs if item.step and (item.key in differing or item.name in sources)]


def shallowest(files: Mapping[str, _T]) -> dict[str, _T]:
    """All entries, or those nearest to the top if there are too many: a directory stands for what is below it."""
    if len(files) <= _FILES_KEPT:
        return dict(files)
    return dict(sorted(files.items(), key=lambda item: (item[0].count("/"), item[0]))[:_FILES_KEPT])


def _differing(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    names = [name for name, value in now.items() if before.get(name) != value]
    return names + [name for name in before if name not in now]


# --- words


def _line(kind: str, name: str, then: str | None, now: str | None) -> str:
    what = {"env": f"ENV or ARG {name}", "action": "what it does"}.get(kind, f"{kind} {name}".strip())
    if then is None:
        return f"{what} is new: {_shortened(now or '')}"
    if now is None:
        return f"{what} is gone"
    return f"{what} changed: {' → '.join(_around_the_difference(then, now))}"


def _input_line(name: str, item: Input | None, then: str | None, now: str | None) -> str:
    if item is None or now is None:
        return f"{name or 'the base'} is gone"
    if then is None:
        return f"{item.name} is new"
    if not item.step:
        return f"{item.name} changed"
    return f"the step before gave another result: {item.name}" if item.is_base else f"{item.name} gave another result"


def _shortened(text: str) -> str:
    text = " ".join(text.split("\n"))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _around_the_difference(then: str, now: str) -> Iterator[str]:
    """Both texts, long ones from a little before where they part."""
    at = next((place for place, pair in enumerate(zip(then, now, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(then), len(now)) if at is None else at
    start = max(0, at - _SHOWN // 4) if max(len(then), len(now)) > _SHOWN else 0
    for text in (then, now):
        yield ("…" if start else "") + _shortened(text[start:])


def _file_lines(changes: Sequence[tuple[str, str, str]]) -> list[str]:
    """The changes of one input's files, those of the same kind in one line."""
    groups: dict[str, list[str]] = {}
    moved = [path for path, then, now in changes if not (_is_directory(then) and _is_directory(now))]
    for path, then, now in changes:
        for kind in _kinds(then, now):
            if kind == "content" and _is_directory(now) and any(other.startswith(path + "/") for other in moved):
                continue  # a directory changes with what is in it, and that is named already
            groups.setdefault(kind, []).append(path)
    return [_file_line(kind, paths) for kind, paths in groups.items()]


def _kinds(then: str, now: str) -> list[str]:
    if not then or not now:
        return ["new" if now else "gone"]
    kinds = []
    old_mode, old_owner, old_digest = _split(then)
    mode, owner, digest = _split(now)
    if old_digest != digest:
        kinds.append("content")
    if old_mode != mode:
        kinds.append(f"mode {old_mode[-4:]} → {mode[-4:]}")
    if old_owner != owner:
        kinds.append(f"owner {old_owner} → {owner}")
    return kinds


def _split(what: str) -> tuple[str, str, str]:
    mode, _, rest = what.partition(" ")
    owner, _, digest = rest.rpartition(" ")
    return mode, owner, digest


def _is_directory(what: str) -> bool:
    return bool(what) and stat.S_ISDIR(int(what.partition(" ")[0], 8))


def _file_line(kind: str, paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return f"file {paths[0]}: {kind}"
    if kind.startswith("mode"):
        return f"{kind} on {len(paths)} files, such as {paths[0]} (umask?)"
    named = ", ".join(paths[:_FILES_NAMED])
    more = f" and {len(paths) - _FILES_NAMED} more" if len(paths) > _FILES_NAMED else ""
    return f"{len(paths)} files: {kind}: {named}{more}"


# --- ops


def _of_exec(op: ExecOp) -> dict[str, str]:
    meta = op.meta
    found = {"command": " ".join(meta.args), "workdir": meta.cwd, "user": meta.user, "hostname": meta.hostname}
    for pair in meta.env:
        name, _, value = pair.partition("=")
        found[f"env {name}"] = value
    found["network"] = op.network.name.lower()
    found["security"] = op.security.name.lower()
    found.update({f"host {host.host}": "added" for host in meta.extra_hosts})
    found.update({f"ulimit {limit.name}": f"{limit.soft}:{limit.hard}" for limit in meta.ulimits})
    found.update({f"secret {secret.name}": _optional(optional=secret.optional) for secret in op.secret_env})
    found.update({f"device {device.name}": _optional(optional=device.optional) for device in op.cdi_devices})
    found.update({f"mount {mount.dest}": _of_mount(mount) for mount in op.mounts if mount.dest != "/"})
    return {name: value for name, value in found.items() if value or name.startswith("env ")}


def _of_mount(mount: ExecMount) -> str:
    words = [mount.type.name.lower()]
    if mount.readonly:
        words.append("read-only")
    if mount.secret is not None:
        secret = mount.secret
        words += [secret.id, f"{secret.uid}:{secret.gid}", f"{secret.mode:04o}", _optional(optional=secret.optional)]
    if mount.ssh is not None:
        words += [mount.ssh.id, f"{mount.ssh.uid}:{mount.ssh.gid}", f"{mount.ssh.mode:04o}"]
    if mount.type == MountType.TMPFS and mount.tmpfs_size:
        words.append(f"{mount.tmpfs_size} bytes")
    return " ".join(words)


def _optional(*, optional: bool) -> str:
    return "optional" if optional else "required"


def _of_action(action: FileAction) -> str:
    what = action.action
    if isinstance(what, Copy):
        mode = what.mode_str or (f"{what.mode:04o}" if what.mode >= 0 else "")
        filters = [f"include={p}" for p in what.include_patterns] + [f"exclude={p}" for p in what.exclude_patterns]
        words = ["copy", what.src, what.dest, *_of_owner(what.owner), *([f"mode={mode}"] if mode else []), *filters]
    elif isinstance(what, MkFile):
        digest = sha256(what.data).hexdigest()[:16]
        words = ["mkfile", what.path, f"mode={what.mode:04o}", *_of_owner(what.owner), f"content={digest}"]
    elif isinstance(what, MkDir):
        words = ["mkdir", what.path, f"mode={what.mode:04o}", *_of_owner(what.owner)]
    elif isinstance(what, Rm):
        words = ["rm", what.path]
    elif isinstance(what, Symlink):
        words = ["symlink", what.oldpath, what.newpath, *_of_owner(what.owner)]
    return " ".join(words)


def _of_owner(owner: ChownOpt | None) -> list[str]:
    if owner is None:
        return []
    return [f"owner={_of_user(owner.user)}:{_of_user(owner.group)}"]


def _of_user(user: UserOpt | None) -> str:
    if user is None:
        return ""
    return user.name if user.id is None else str(user.id)
