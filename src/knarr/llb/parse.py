"""Parsed protobuf messages of ops to records: the way back from `wire`.

Spec: BuildKit's solver/pb/ops.proto (pb/README.md names the commit).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from knarr.errors import ContentError
from knarr.llb import ops
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

# A parsed message of any kind: its class says the fields, and the stub's enumerations are not our IntEnums.
Message = Any


def read_op(message: Message) -> ops.Op | None:
    """The record of a parsed `pb.Op`, None for a bare pointer.

    Raises:
        ContentError: a value that no version of the format has.
    """
    kind = message.WhichOneof("op")
    if kind is None:
        return None
    try:
        return _READERS[kind](getattr(message, kind))
    except ValueError as error:  # an enumeration's number
        raise ContentError(f"an LLB {kind} op has a value that is not defined: {error}") from error


def read_inputs(message: Message, known: Mapping[str, Digest]) -> tuple[ops.Edge, ...]:
    """The edges a vertex reads, all of them outputs of `known` vertices."""
    return tuple(ops.Edge(known[edge.digest], edge.index) for edge in message.inputs)


def read_platform(message: Message) -> Platform | None:
    if not message.HasField("platform"):
        return None
    p = message.platform
    return Platform(p.OS, p.Architecture, p.Variant, p.OSVersion, tuple(p.OSFeatures))


def _read_exec(message: Message) -> ops.ExecOp:
    return ops.ExecOp(
        read_meta(message.meta),
        tuple(read_mount(mount) for mount in message.mounts),
        ops.NetMode(message.network),
        read_security(message.security),
        tuple(map(read_secret_env, message.secretenv)),
        tuple(ops.CDIDevice(d.name, d.optional) for d in message.cdiDevices),
    )


def read_security(number: int) -> ops.SecurityMode:
    """The mode of that number.

    Raises:
        ContentError: there is none.
    """
    try:
        return ops.SecurityMode(number)
    except ValueError:
        raise ContentError(f"invalid security mode: {number}") from None


def read_secret_env(message: Message) -> ops.SecretEnv:
    return ops.SecretEnv(message.ID, message.name, message.optional)


def read_meta(message: Message) -> ops.Meta:
    proxy = message.proxy_env if message.HasField("proxy_env") else None
    return ops.Meta(
        tuple(message.args),
        tuple(message.env),
        message.cwd,
        message.user,
        proxy and ops.ProxyEnv(proxy.http_proxy, proxy.https_proxy, proxy.ftp_proxy, proxy.no_proxy, proxy.all_proxy),
        tuple(ops.HostIP(h.Host, h.IP) for h in message.extraHosts),
        message.hostname,
        tuple(ops.UlimitOpt(u.Name, u.Soft, u.Hard) for u in message.ulimit),
        message.cgroupParent,
        message.removeMountStubsRecursive,
        tuple(message.validExitCodes),
    )


def read_mount(message: Message) -> ops.ExecMount:
    lent = message.secretOpt if message.HasField("secretOpt") else None
    ssh = message.SSHOpt if message.HasField("SSHOpt") else None
    cache = message.cacheOpt if message.HasField("cacheOpt") else None
    return ops.ExecMount(
        message.dest,
        message.input,
        message.selector,
        message.output,
        message.readonly,
        ops.MountType(message.mountType),
        message.TmpfsOpt.size,
        message.HasField("TmpfsOpt"),
        cache and ops.CacheOpt(cache.ID, ops.CacheSharing(cache.sharing)),
        lent and ops.SecretOpt(lent.ID, lent.uid, lent.gid, lent.mode, lent.optional),
        ssh and ops.SSHOpt(ssh.ID, ssh.uid, ssh.gid, ssh.mode, ssh.optional),
        message.resultID,
        ops.ContentCache(message.contentCache),
    )


def _read_source(message: Message) -> ops.SourceOp:
    return ops.SourceOp(message.identifier, dict(message.attrs))


def _read_build(message: Message) -> ops.BuildOp:
    inner = getattr(message, "def").SerializeToString(deterministic=True) if message.HasField("def") else b""
    return ops.BuildOp(
        message.builder, {name: given.input for name, given in message.inputs.items()}, dict(message.attrs), inner
    )


def _read_merge(message: Message) -> ops.MergeOp:
    return ops.MergeOp(tuple(given.input for given in message.inputs))


def _read_diff(message: Message) -> ops.DiffOp:
    return ops.DiffOp(message.lower.input, message.upper.input)


def _read_passthrough(message: Message) -> ops.PassthroughOp:
    return ops.PassthroughOp(message.id, tuple(message.outputs))


def _read_file(message: Message) -> ops.FileOp:
    return ops.FileOp(tuple(_read_action(link) for link in message.actions))


def _read_action(link: Message) -> ops.FileAction:
    kind = link.WhichOneof("action")
    if kind is None:
        raise ContentError("an LLB file op has an action of a kind that is not known here")
    return ops.FileAction(link.input, _ACTION_READERS[kind](getattr(link, kind)), link.secondaryInput, link.output)


def _read_copy(message: Message) -> ops.Copy:
    return ops.Copy(
        message.src,
        message.dest,
        _read_owner(message),
        message.mode,
        message.modeStr,
        message.followSymlink,
        message.dirCopyContents,
        message.attemptUnpackDockerCompatibility,
        message.createDestPath,
        message.allowWildcard,
        message.allowEmptyWildcard,
        message.timestamp,
        tuple(message.include_patterns),
        tuple(message.exclude_patterns),
        message.alwaysReplaceExistingDestPaths,
        tuple(message.required_paths),
    )


def _read_mkfile(message: Message) -> ops.MkFile:
    return ops.MkFile(message.path, message.mode, message.data, _read_owner(message), message.timestamp)


def _read_mkdir(message: Message) -> ops.MkDir:
    return ops.MkDir(message.path, message.mode, message.makeParents, _read_owner(message), message.timestamp)


def _read_rm(message: Message) -> ops.Rm:
    return ops.Rm(message.path, message.allowNotFound, message.allowWildcard)


def _read_symlink(message: Message) -> ops.Symlink:
    return ops.Symlink(message.oldpath, message.newpath, _read_owner(message), message.timestamp)


def _read_owner(message: Message) -> ops.ChownOpt | None:
    if not message.HasField("owner"):
        return None
    return ops.ChownOpt(_read_user(message.owner, "user"), _read_user(message.owner, "group"))


def _read_user(owner: Message, field: str) -> ops.UserOpt | None:
    if not owner.HasField(field):
        return None
    user = getattr(owner, field)
    kind = user.WhichOneof("user")
    if kind == "byID":
        return ops.UserOpt(user.byID)
    return ops.UserOpt(None, user.byName.name, user.byName.input) if kind else ops.UserOpt()


_READERS: dict[str, Callable[[Message], ops.Op]] = {
    "exec": _read_exec,
    "source": _read_source,
    "file": _read_file,
    "build": _read_build,
    "merge": _read_merge,
    "diff": _read_diff,
    "passthrough": _read_passthrough,
}
_ACTION_READERS: dict[str, Callable[[Message], Any]] = {
    "copy": _read_copy,
    "mkfile": _read_mkfile,
    "mkdir": _read_mkdir,
    "rm": _read_rm,
    "symlink": _read_symlink,
}
