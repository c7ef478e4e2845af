"""Why a step was not in the cache: what it is made of now, against the nearest earlier run of it.

The *ingredients* of a step are what its keys are made of, by names for people:
`command`, `env PATH`, `mount /src`, `platform`, `input stage build`, `file build
context:src/a.go`. They are plain strings, gathered only when a step missed, and kept
by `cache.store` for each step's last runs.

    now = ingredients(vertex, inputs)
    lines = explain(now, nearest(now, store.recall(step)))
    # ["ENV MODE changed: debug → release", "file src/a.go: content"]
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

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

_FILES_KEPT = 2000  # of one input: more would make the cache's memory of a step larger than its layer's metadata
_FILES_NAMED = 5  # in one line of an explanation


@record
class Input:
    """What one input was: the `name` people call it by, and who it is, or what its content was.

    `files` is what `TreeHasher.listing` gives: `mode owner digest` by path.
    """

    name: str
    identity: str = ""  # empty: only its content counts
    files: Mapping[str, str] = field(default_factory=dict)


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
            found[f"input {item.name}"] = item.identity
        found.update({f"file {item.name}:{path}": what for path, what in _shallowest(item.files)})
    return found


def nearest(now: Mapping[str, str], earlier: Iterable[Mapping[str, str]]) -> Mapping[str, str] | None:
    """The run that differs in the fewest ingredients; of equals the first, so give the newest first."""
    return min(earlier, key=lambda before: len(_differing(now, before)), default=None)


def explain(now: Mapping[str, str], before: Mapping[str, str] | None) -> list[str]:
    """What differs, one line each, the most telling first; empty if nothing does."""
    if before is None:
        return ["this step has not run before"]
    files: dict[str, list[tuple[str, str, str]]] = {}  # input → (path, then, now)
    lines = []
    for name in _differing(now, before):
        kind, _, rest = name.partition(" ")
        if kind == "file":
            source, _, path = rest.partition(":")
            files.setdefault(source, []).append((path, before.get(name, ""), now.get(name, "")))
        else:
            lines.append(_line(kind, rest, before.get(name), now.get(name)))
    for source, changes in files.items():
        lines += (f"{line} ({source})" for line in _file_lines(changes))
    return lines


def _differing(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    names = [name for name, value in now.items() if before.get(name) != value]
    return names + [name for name in before if name not in now]


# --- words


def _line(kind: str, name: str, then: str | None, now: str | None) -> str:
    what = {"env": f"ENV {name}", "input": name}.get(kind, f"{kind} {name}".strip())
    if then is None:
        return f"{what} is new" if kind == "input" else f"{what} is new: {now}"
    if now is None:
        return f"{what} is gone"
    if kind == "input":
        return f"{what} changed (chain id)" if _is_chain(then) or _is_chain(now) else f"{what} changed"
    return f"{what} changed: {then} → {now}"


def _is_chain(identity: str) -> bool:
    return identity.startswith("layer:")


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


def _shallowest(files: Mapping[str, str]) -> list[tuple[str, str]]:
    """All entries, or those nearest to the top if there are too many: a directory stands for what is below it."""
    if len(files) <= _FILES_KEPT:
        return list(files.items())
    return sorted(files.items(), key=lambda item: (item[0].count("/"), item[0]))[:_FILES_KEPT]


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
