"""Ops as the bytes of protobuf messages. `parse` goes the other way.

`encode_op` gives the deterministic bytes whose sha256 is a vertex's digest: the
same bytes as Go's deterministic marshal of the same message (plain fields by
number, then the oneof, map entries by key), so the digests are BuildKit's. Enumerations travel as
their numbers, which are the values of the records' IntEnums.

Field numbers stand beside the fields here; tests hold every kind of op against
what the protobuf library writes by `pb/ops.proto`.

Spec: BuildKit's solver/pb/ops.proto (pb/README.md names the commit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from knarr.llb import ops
from knarr.llb.protobuf import (
    data,
    flag,
    mapping,
    member,
    message,
    messages,
    number,
    numbers,
    optional,
    text,
    textmap,
    texts,
)
from knarr.spec.platform import Platform


def encode_op(
    op: ops.Op | None, inputs: Iterable[ops.Edge], platform: Platform | None = None, filters: tuple[str, ...] = ()
) -> bytes:
    """The bytes of a vertex. `op` None is the bare pointer that ends a definition."""
    edges = messages(1, _edge, inputs)
    if op is None:
        return edges
    field, write = _WRITERS[type(op)]
    # Go's marshal puts the member of a oneof behind all plain fields, whatever their
    # numbers. The constraints are there even when empty: Go sets the message always.
    return edges + optional(10, _platform, platform) + message(11, texts(1, filters)) + message(field, write(op))


def _edge(edge: ops.Edge) -> bytes:
    return text(1, edge.digest) + number(2, edge.index)


def _platform(platform: Platform) -> bytes:
    return (
        text(1, platform.architecture)
        + text(2, platform.os)
        + text(3, platform.variant)
        + text(4, platform.os_version)
        + texts(5, platform.os_features)
    )


def _exec(op: ops.ExecOp) -> bytes:
    return (
        message(1, _meta(op.meta))
        + messages(2, _mount, op.mounts)
        + number(3, op.network)
        + number(4, op.security)
        + messages(5, _secret_env, op.secret_env)
        + messages(6, _device, op.cdi_devices)
    )


def _meta(meta: ops.Meta) -> bytes:
    return (
        texts(1, meta.args)
        + texts(2, meta.env)
        + text(3, meta.cwd)
        + text(4, meta.user)
        + optional(5, _proxy, meta.proxy_env)
        + messages(6, _host, meta.extra_hosts)
        + text(7, meta.hostname)
        + messages(9, _ulimit, meta.ulimits)
        + text(10, meta.cgroup_parent)
        + flag(11, meta.remove_mount_stubs_recursive)
        + numbers(12, meta.valid_exit_codes)
    )


def _proxy(proxy: ops.ProxyEnv) -> bytes:
    return (
        text(1, proxy.http_proxy)
        + text(2, proxy.https_proxy)
        + text(3, proxy.ftp_proxy)
        + text(4, proxy.no_proxy)
        + text(5, proxy.all_proxy)
    )


def _host(host: ops.HostIP) -> bytes:
    return text(1, host.host) + text(2, host.ip)


def _ulimit(limit: ops.UlimitOpt) -> bytes:
    return text(1, limit.name) + number(2, limit.soft) + number(3, limit.hard)


def _mount(mount: ops.ExecMount) -> bytes:
    return (
        number(1, mount.input)
        + text(2, mount.selector)
        + text(3, mount.dest)
        + number(4, mount.output)
        + flag(5, mount.readonly)
        + number(6, mount.type)
        + optional(19, _tmpfs, mount.tmpfs_size if mount.has_tmpfs_opt else None)
        + optional(20, _cache, mount.cache)
        + optional(21, _lent, mount.secret)
        + optional(22, _lent, mount.ssh)
        + text(23, mount.result_id)
        + number(24, mount.content_cache)
    )


def _tmpfs(size: int) -> bytes:
    return number(1, size)


def _cache(cache: ops.CacheOpt) -> bytes:
    return text(1, cache.id) + number(2, cache.sharing)


def _lent(lent: ops.SecretOpt | ops.SSHOpt) -> bytes:
    return text(1, lent.id) + number(2, lent.uid) + number(3, lent.gid) + number(4, lent.mode) + flag(5, lent.optional)


def _secret_env(secret: ops.SecretEnv) -> bytes:
    return text(1, secret.id) + text(2, secret.name) + flag(3, secret.optional)


def _device(device: ops.CDIDevice) -> bytes:
    return text(1, device.name) + flag(2, device.optional)


def _source(op: ops.SourceOp) -> bytes:
    return text(1, op.identifier) + textmap(2, op.attrs)


def _file(op: ops.FileOp) -> bytes:
    return messages(2, _action, op.actions)


def _action(link: ops.FileAction) -> bytes:
    field, write = _ACTION_WRITERS[type(link.action)]
    return (
        number(1, link.input)
        + number(2, link.secondary_input)
        + number(3, link.output)
        + message(field, write(link.action))
    )


def _copy(copy: ops.Copy) -> bytes:
    return (
        text(1, copy.src)
        + text(2, copy.dest)
        + optional(3, _owner, copy.owner)
        + number(4, copy.mode)
        + flag(5, copy.follow_symlink)
        + flag(6, copy.dir_copy_contents)
        + flag(7, copy.attempt_unpack)
        + flag(8, copy.create_dest_path)
        + flag(9, copy.allow_wildcard)
        + flag(10, copy.allow_empty_wildcard)
        + number(11, copy.timestamp)
        + texts(12, copy.include_patterns)
        + texts(13, copy.exclude_patterns)
        + flag(14, copy.always_replace_existing)
        + text(15, copy.mode_str)
        + texts(16, copy.required_paths)
    )


def _mkfile(made: ops.MkFile) -> bytes:
    return (
        text(1, made.path)
        + number(2, made.mode)
        + data(3, made.data)
        + optional(4, _owner, made.owner)
        + number(5, made.timestamp)
    )


def _mkdir(made: ops.MkDir) -> bytes:
    return (
        text(1, made.path)
        + number(2, made.mode)
        + flag(3, made.make_parents)
        + optional(4, _owner, made.owner)
        + number(5, made.timestamp)
    )


def _rm(rm: ops.Rm) -> bytes:
    return text(1, rm.path) + flag(2, rm.allow_not_found) + flag(3, rm.allow_wildcard)


def _symlink(link: ops.Symlink) -> bytes:
    return text(1, link.oldpath) + text(2, link.newpath) + optional(3, _owner, link.owner) + number(4, link.timestamp)


def _owner(owner: ops.ChownOpt) -> bytes:
    return optional(1, _user, owner.user) + optional(2, _user, owner.group)


def _user(user: ops.UserOpt) -> bytes:
    if user.id is not None:
        return member(2, user.id)
    return message(1, text(1, user.name) + number(2, user.input)) if user.name else b""


def _build(op: ops.BuildOp) -> bytes:
    return (
        number(1, op.builder)
        + mapping(2, op.inputs, lambda field, index: message(field, number(1, index)))
        + data(3, op.definition)
        + textmap(4, op.attrs)
    )


def _merge(op: ops.MergeOp) -> bytes:
    return messages(1, _input, op.inputs)


def _diff(op: ops.DiffOp) -> bytes:
    return message(1, _input(op.lower)) + message(2, _input(op.upper))


def _input(index: int) -> bytes:
    return number(1, index)


def _passthrough(op: ops.PassthroughOp) -> bytes:
    return text(1, op.id) + numbers(2, op.outputs)


# Each kind's number in its oneof, and its writer.
_WRITERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    ops.ExecOp: (2, _exec),
    ops.SourceOp: (3, _source),
    ops.FileOp: (4, _file),
    ops.BuildOp: (5, _build),
    ops.MergeOp: (6, _merge),
    ops.DiffOp: (7, _diff),
    ops.PassthroughOp: (8, _passthrough),
}
_ACTION_WRITERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    ops.Copy: (4, _copy),
    ops.MkFile: (5, _mkfile),
    ops.MkDir: (6, _mkdir),
    ops.Rm: (7, _rm),
    ops.Symlink: (8, _symlink),
}
