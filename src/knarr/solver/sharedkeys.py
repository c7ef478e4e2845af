"""Cache keys in BuildKit's own spelling: what the records of a shared cache are called.

A shared cache (`cache.sharedconfig`) is read and written by other builders, so its
digests must be those that BuildKit computes for the same vertex: of the op as
Go's `encoding/json` writes it, without what does not count. `keys` has this
program's own keys, which need not be equal to anybody's; here every name, order
and omission is BuildKit's.

    record of an output     sha256("<digest of the op>@<output>")
    record of a content     sha256("<digest of the content>@-1")

Spec: BuildKit v0.33, solver/cachemanager.go (rootKey), solver/llbsolver/ops (CacheMap).
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from knarr.errors import Bug
from knarr.llb import ops
from knarr.paths import clean
from knarr.record import record
from knarr.solver.keys import Selection, cache_map, copied, is_default_cache, owner_files
from knarr.spec import gojson
from knarr.spec.platform import Platform, host_platform

_JSON = dict[str, Any]  # Any: a JSON value


@record
class SharedDep:
    """How one input counts: `selector` is part of the link to its record; `content` is hashed, if it is not empty."""

    selector: str = ""
    content: tuple[Selection, ...] = ()


@record
class SharedMap:
    """What of a vertex counts: the digests its op goes by (only a base image has two), and one dep per input."""

    digests: tuple[str, ...]
    deps: tuple[SharedDep, ...] = ()


def shared_map(vertex: ops.Vertex) -> SharedMap:
    """The map of `vertex`. Not for sources: see `source_map`."""
    op = vertex.op
    deps = tuple(SharedDep() for _ in vertex.inputs)
    if isinstance(op, ops.ExecOp):
        return SharedMap((_json_digest(_exec(op, vertex.platform)),), _exec_deps(vertex, op))
    if isinstance(op, ops.FileOp):
        return SharedMap((_json_digest(_file(op, len(vertex.inputs))),), _file_deps(vertex, op))
    if isinstance(op, ops.MergeOp):
        merge = {"inputs": [_without_zeros({"input": index}) for index in op.inputs]}
        return SharedMap((_json_digest({"Type": "buildkit.merge.v0", "Merge": _without_zeros(merge)}),), deps)
    if isinstance(op, ops.DiffOp):
        diff = {side: _without_zeros({"input": index}) for side, index in (("lower", op.lower), ("upper", op.upper))}
        return SharedMap((_json_digest({"Type": "buildkit.diff.v0", "Diff": diff}),), deps)
    if isinstance(op, ops.SourceOp):
        raise Bug("the key of a source comes from resolving it")
    return SharedMap((), deps)  # an op that only foreign graphs have: it is never shared


def source_map(*keys: str) -> SharedMap:
    """The map of a source that goes by `keys` (see `image_key` and `http_key`; a chainID; a commit)."""
    return SharedMap(tuple(_digest(f"buildkit.source.v0:{key}".encode()) for key in keys))


def image_key(manifest: str, platform: Platform) -> str:
    """The key of a base image by what its name led to (a digest); it goes by the chainID of its layers as well."""
    return _json_digest({"Digest": manifest, **_platform(platform)})


def http_key(
    filename: str, modes: tuple[int, int, int], checksum: str, modified: str, secret: str, headers: Mapping[str, str]
) -> str:
    """The key of a file from a URL. `modes` are permissions, user and group as the definition has them, 0 for none."""
    perm, uid, gid = modes
    optional = {
        "LastModTime": modified,
        "AuthHeaderSecret": secret,
        "Header": [{"Name": name, "Value": value} for name, value in headers.items()],
    }
    named = {"Filename": filename, "Perm": perm, "UID": uid, "GID": gid, "Checksum": checksum}
    return _json_digest({**named, **_without_zeros(optional)})


def record_digest(digest: str, output: int) -> str:
    """The name of the record of one output of an op; output -1 for a content."""
    return _digest(f"{digest}@{output}".encode())


def content_digest(checksums: Sequence[str]) -> str:
    """One digest for all selections of an input, from the checksum of each in the order of `SharedDep.content`."""
    return _digest("\0".join(checksums).encode())


def _digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


def _json_digest(document: _JSON) -> str:
    return _digest(gojson.dump(document))


def _without_zeros(document: Mapping[str, Any]) -> _JSON:
    """As Go writes a struct whose every member is `omitempty`; an empty dict is a pointer to an empty struct."""
    return {key: value for key, value in document.items() if value or isinstance(value, dict)}


def _platform(platform: Platform) -> _JSON:
    optional = {
        "Variant": platform.variant,
        "OSVersion": platform.os_version,
        "OSFeatures": list(platform.os_features),
    }
    return {"OS": platform.os, "Arch": platform.architecture, **_without_zeros(optional)}


# --- exec


def _exec(op: ops.ExecOp, platform: Platform | None) -> _JSON:
    body = {
        "meta": _meta(op.meta),
        # BuildKit leaves out what most steps have, to keep the keys of its early versions.
        "mounts": [] if _is_only_the_root(op.mounts) else [_mount(mount) for mount in op.mounts],
        "network": int(op.network),
        "security": int(op.security),
        "secretenv": [_flat(ID=s.id, name=s.name, optional=s.optional) for s in op.secret_env],
        "cdiDevices": [_flat(name=d.name, optional=d.optional) for d in op.cdi_devices],
    }
    return {"Type": "buildkit.exec.v0", "Exec": _without_zeros(body), **_platform(platform or host_platform())}


def _is_only_the_root(mounts: Sequence[ops.ExecMount]) -> bool:
    if len(mounts) != 1:
        return False
    root = mounts[0]
    is_plain = root.type is ops.MountType.BIND and not root.readonly and not root.result_id
    return is_plain and root.dest == "/" and root.cache is None and root.secret is None and root.ssh is None


def _flat(**members: object) -> _JSON:
    return _without_zeros(members)


def _meta(meta: ops.Meta) -> _JSON:
    return _flat(
        args=list(meta.args),
        env=list(meta.env),
        cwd=meta.cwd,
        user=meta.user,
        extraHosts=[_flat(Host=host.host) for host in meta.extra_hosts],
        hostname=meta.hostname,
        ulimit=[_flat(Name=limit.name, Soft=limit.soft, Hard=limit.hard) for limit in meta.ulimits],
        cgroupParent=meta.cgroup_parent,
        removeMountStubsRecursive=meta.remove_mount_stubs_recursive,
        validExitCodes=list(meta.valid_exit_codes),
    )


def _mount(mount: ops.ExecMount) -> _JSON:
    members = {
        "input": mount.input,
        "dest": mount.dest,
        "output": mount.output,
        "readonly": mount.readonly,
        "mountType": int(mount.type),
        "TmpfsOpt": _flat(size=mount.tmpfs_size) if mount.has_tmpfs_opt else None,
        "cacheOpt": _cache(mount),
        "secretOpt": _lent(mount.secret),
        "SSHOpt": _lent(mount.ssh),
        "resultID": mount.result_id,
        "contentCache": int(mount.content_cache),
    }
    return _without_zeros(members)


def _cache(mount: ops.ExecMount) -> _JSON | None:
    if mount.cache is None:
        return None
    return _flat(ID=mount.cache.id) if is_default_cache(mount) else {}


def _lent(lent: ops.SecretOpt | ops.SSHOpt | None) -> _JSON | None:
    if lent is None:
        return None
    return _flat(ID=lent.id, uid=lent.uid, gid=lent.gid, mode=lent.mode, optional=lent.optional)


def _exec_deps(vertex: ops.Vertex, op: ops.ExecOp) -> tuple[SharedDep, ...]:
    by_content = cache_map(vertex).deps
    deps = []
    for index, own in enumerate(by_content):
        paths = [
            clean(mount.selector)
            for mount in op.mounts
            if mount.input == index and mount.type in (ops.MountType.BIND, ops.MountType.CACHE)
        ]
        deps.append(SharedDep(_digest("\0".join(paths).encode()) if paths else "", own.content))
    return tuple(deps)


# --- file


def _file(op: ops.FileOp, inputs: int) -> _JSON:
    actions = []
    for link in op.actions:
        body = _ACTIONS[type(link.action)](link.action)
        if isinstance(link.action, ops.Copy) and 0 <= link.secondary_input < inputs:
            body["src"] = _base(link.action.src)
        actions.append(base64.b64encode(gojson.dump(_without_zeros(body))).decode())
    indexes = [[link.input, link.secondary_input, link.output] for link in op.actions]
    named = {} if _are_usual(indexes) else {"indexes": indexes}
    return {"Type": "buildkit.file.v0", "Actions": actions, **named}


def _base(path: str) -> str:
    """Go's path.Base."""
    return posixpath.basename(path.rstrip("/")) or ("/" if path else ".")


def _are_usual(indexes: Sequence[Sequence[int]]) -> bool:
    """Whether each action works on what the one before it left, and only the last one has an output."""
    count = len(indexes)
    return all(
        before == (0 if at == 0 else count + at - 1)
        and source in (-1, 1)
        and output == (0 if at == count - 1 else ops.NO_OUTPUT)
        for at, (before, source, output) in enumerate(indexes)
    )


def _copy(copy: ops.Copy) -> _JSON:
    return {
        "src": copy.src,
        "dest": copy.dest,
        "owner": _owner(copy.owner),
        "mode": copy.mode,
        "followSymlink": copy.follow_symlink,
        "dirCopyContents": copy.dir_copy_contents,
        "attemptUnpackDockerCompatibility": copy.attempt_unpack,
        "createDestPath": copy.create_dest_path,
        "allowWildcard": copy.allow_wildcard,
        "allowEmptyWildcard": copy.allow_empty_wildcard,
        "timestamp": copy.timestamp,
        "include_patterns": list(copy.include_patterns),
        "exclude_patterns": list(copy.exclude_patterns),
        "alwaysReplaceExistingDestPaths": copy.always_replace_existing,
        "modeStr": copy.mode_str,
        "required_paths": list(copy.required_paths),
    }


def _mkfile(made: ops.MkFile) -> _JSON:
    data = base64.b64encode(made.data).decode()
    owner = _owner(made.owner)
    return {"path": made.path, "mode": made.mode, "data": data, "owner": owner, "timestamp": made.timestamp}


def _mkdir(made: ops.MkDir) -> _JSON:
    return {
        "path": made.path,
        "mode": made.mode,
        "makeParents": made.make_parents,
        "owner": _owner(made.owner),
        "timestamp": made.timestamp,
    }


def _symlink(link: ops.Symlink) -> _JSON:
    owner = _owner(link.owner)
    return {"oldpath": link.oldpath, "newpath": link.newpath, "owner": owner, "timestamp": link.timestamp}


def _rm(rm: ops.Rm) -> _JSON:
    return {"path": rm.path, "allowNotFound": rm.allow_not_found, "allowWildcard": rm.allow_wildcard}


_ACTIONS: dict[type, Callable[[Any], _JSON]] = {  # Any: the action of the key's type
    ops.Copy: _copy,
    ops.MkFile: _mkfile,
    ops.MkDir: _mkdir,
    ops.Symlink: _symlink,
    ops.Rm: _rm,
}


def _owner(owner: ops.ChownOpt | None) -> _JSON | None:
    if owner is None:
        return None
    members = (("user", _user(owner.user)), ("group", _user(owner.group)))
    return {key: value for key, value in members if value is not None}


def _user(user: ops.UserOpt | None) -> _JSON | None:
    if user is None:
        return None
    if user.id is not None:
        return {"User": _flat(byId=user.id)}
    return {"User": {"byName": _flat(name=user.name, input=user.input)} if user.name else {}}


def _file_deps(vertex: ops.Vertex, op: ops.FileOp) -> tuple[SharedDep, ...]:
    deps = []
    for index, own in enumerate(cache_map(vertex).deps):
        selections = _selected(op, index, len(vertex.inputs)) if own.content else []
        if not selections:
            deps.append(SharedDep())
            continue
        paths = sorted((one.path for one in selections), key=str.encode, reverse=True)
        deps.append(SharedDep(_digest("\0".join(paths).encode()), _joined(selections)))
    return tuple(deps)


def _selected(op: ops.FileOp, index: int, inputs: int) -> list[Selection]:
    """What the actions read of input `index`, in their order, as often as it is read."""
    found = []
    for link in op.actions:
        what = link.action
        owner = what.owner if isinstance(what, ops.Copy | ops.MkFile | ops.MkDir) else None
        if owner is not None:
            found += [Selection(path, follow=True) for at, path in owner_files(owner) if at == index]
        if isinstance(what, ops.Copy) and link.secondary_input == index < inputs:
            found.append(copied(what))
    return found


def _joined(selections: Sequence[Selection]) -> tuple[Selection, ...]:
    """The selections in the order in which their checksums are joined, without plain paths below other ones.

    Those with wildcards or patterns stay as they are, also where they are equal.
    """
    plain = [one for one in selections if not (one.wildcard or one.include or one.exclude)]
    filtered = [one for one in selections if one not in plain]
    tops = {(one.path, one.follow): one for one in plain if not any(_is_below(one, other) for other in plain)}
    ordered = sorted(tops.values(), key=lambda one: (one.follow, one.path.encode()))
    return tuple(sorted([*ordered, *filtered], key=lambda one: one.path.encode()))


def _is_below(one: Selection, other: Selection) -> bool:
    if one.follow != other.follow or one.path == other.path:
        return False
    return one.path.startswith(other.path if other.path.endswith("/") else other.path + "/")
