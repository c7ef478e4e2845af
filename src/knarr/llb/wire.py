"""Ops as protobuf messages, both ways.

`encode_op` gives the deterministic bytes whose sha256 is a vertex's digest: the
same bytes as Go's deterministic marshal of the same message (plain fields by
number, then the oneof, map entries by key), so the digests are BuildKit's. Enumerations travel as
their numbers, which are the values of the records' IntEnums.

Spec: BuildKit's solver/pb/ops.proto (pb/README.md names the commit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any

from knarr.errors import ContentError
from knarr.llb import ops
from knarr.pb import ops_pb2 as pb
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

# A parsed or new message of any kind: its class says the fields, and the stub's enumerations are not our IntEnums.
Message = Any


def encode_op(
    op: ops.Op | None, inputs: Iterable[ops.Edge], platform: Platform | None = None, filters: tuple[str, ...] = ()
) -> bytes:
    """The bytes of a vertex. `op` None is the bare pointer that ends a definition."""
    head = pb.Op(inputs=[pb.Input(digest=edge.digest, index=edge.index) for edge in inputs])
    if op is None:
        return head.SerializeToString(deterministic=True)
    if platform is not None:
        head.platform.CopyFrom(_write_platform(platform))
    head.constraints.filter.extend(filters)
    head.constraints.SetInParent()  # present even when empty: Go sets the message always
    name, write = _WRITERS[type(op)]
    body: dict[str, Message] = {name: write(op)}
    # Go's marshal puts the member of a oneof behind all plain fields, whatever
    # their numbers; Python's goes by number. Hence two messages, one after the other.
    return head.SerializeToString(deterministic=True) + pb.Op(**body).SerializeToString(deterministic=True)


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


def _write_platform(platform: Platform) -> Message:
    return pb.Platform(
        Architecture=platform.architecture,
        OS=platform.os,
        Variant=platform.variant,
        OSVersion=platform.os_version,
        OSFeatures=platform.os_features,
    )


def _write_exec(op: ops.ExecOp) -> Message:
    return pb.ExecOp(
        meta=_write_meta(op.meta),
        mounts=[_write_mount(mount) for mount in op.mounts],
        network=_number(op.network),
        security=_number(op.security),
        secretenv=[pb.SecretEnv(ID=s.id, name=s.name, optional=s.optional) for s in op.secret_env],
        cdiDevices=[pb.CDIDevice(name=d.name, optional=d.optional) for d in op.cdi_devices],
    )


def _write_meta(meta: ops.Meta) -> Message:
    proxy = meta.proxy_env
    return pb.Meta(
        args=meta.args,
        env=meta.env,
        cwd=meta.cwd,
        user=meta.user,
        proxy_env=_write_proxy(proxy) if proxy else None,
        extraHosts=[pb.HostIP(Host=h.host, IP=h.ip) for h in meta.extra_hosts],
        hostname=meta.hostname,
        ulimit=[pb.Ulimit(Name=u.name, Soft=u.soft, Hard=u.hard) for u in meta.ulimits],
        cgroupParent=meta.cgroup_parent,
        removeMountStubsRecursive=meta.remove_mount_stubs_recursive,
        validExitCodes=meta.valid_exit_codes,
    )


def _write_proxy(proxy: ops.ProxyEnv) -> Message:
    return pb.ProxyEnv(
        http_proxy=proxy.http_proxy,
        https_proxy=proxy.https_proxy,
        ftp_proxy=proxy.ftp_proxy,
        no_proxy=proxy.no_proxy,
        all_proxy=proxy.all_proxy,
    )


def _number(value: IntEnum) -> Any:
    """The number protobuf wants: its stub asks for its own enumeration class, which exists in the checker only."""
    return int(value)


def _write_mount(mount: ops.ExecMount) -> Message:
    message = pb.Mount(
        input=mount.input,
        selector=mount.selector,
        dest=mount.dest,
        output=mount.output,
        readonly=mount.readonly,
        mountType=_number(mount.type),
        resultID=mount.result_id,
        contentCache=_number(mount.content_cache),
    )
    if mount.has_tmpfs_opt:
        message.TmpfsOpt.size = mount.tmpfs_size
        message.TmpfsOpt.SetInParent()
    if mount.cache is not None:
        message.cacheOpt.CopyFrom(pb.CacheOpt(ID=mount.cache.id, sharing=_number(mount.cache.sharing)))
    if mount.secret is not None:
        message.secretOpt.CopyFrom(_write_lent(pb.SecretOpt, mount.secret))
    if mount.ssh is not None:
        message.SSHOpt.CopyFrom(_write_lent(pb.SSHOpt, mount.ssh))
    return message


def _write_lent(message: Message, lent: ops.SecretOpt | ops.SSHOpt) -> Message:
    return message(ID=lent.id, uid=lent.uid, gid=lent.gid, mode=lent.mode, optional=lent.optional)


def _write_source(op: ops.SourceOp) -> Message:
    return pb.SourceOp(identifier=op.identifier, attrs=dict(op.attrs))


def _write_build(op: ops.BuildOp) -> Message:
    message = pb.BuildOp(builder=op.builder, attrs=dict(op.attrs))
    for name, index in op.inputs.items():
        message.inputs[name].input = index
    if op.definition:
        getattr(message, "def").ParseFromString(op.definition)  # the field's name is a Python keyword
    return message


def _write_merge(op: ops.MergeOp) -> Message:
    return pb.MergeOp(inputs=[pb.MergeInput(input=index) for index in op.inputs])


def _write_diff(op: ops.DiffOp) -> Message:
    return pb.DiffOp(lower=pb.LowerDiffInput(input=op.lower), upper=pb.UpperDiffInput(input=op.upper))


def _write_passthrough(op: ops.PassthroughOp) -> Message:
    return pb.PassthroughOp(id=op.id, outputs=op.outputs)


def _write_file(op: ops.FileOp) -> Message:
    message = pb.FileOp()
    for link in op.actions:
        name, write = _ACTION_WRITERS[type(link.action)]
        written: dict[str, Any] = {name: write(link.action)}
        message.actions.add(input=link.input, secondaryInput=link.secondary_input, output=link.output, **written)
    return message


def _write_copy(copy: ops.Copy) -> Message:
    return pb.FileActionCopy(
        src=copy.src,
        dest=copy.dest,
        owner=_write_owner(copy.owner),
        mode=copy.mode,
        followSymlink=copy.follow_symlink,
        dirCopyContents=copy.dir_copy_contents,
        attemptUnpackDockerCompatibility=copy.attempt_unpack,
        createDestPath=copy.create_dest_path,
        allowWildcard=copy.allow_wildcard,
        allowEmptyWildcard=copy.allow_empty_wildcard,
        timestamp=copy.timestamp,
        include_patterns=copy.include_patterns,
        exclude_patterns=copy.exclude_patterns,
        alwaysReplaceExistingDestPaths=copy.always_replace_existing,
        modeStr=copy.mode_str,
        required_paths=copy.required_paths,
    )


def _write_mkfile(made: ops.MkFile) -> Message:
    return pb.FileActionMkFile(
        path=made.path, mode=made.mode, data=made.data, owner=_write_owner(made.owner), timestamp=made.timestamp
    )


def _write_mkdir(made: ops.MkDir) -> Message:
    return pb.FileActionMkDir(
        path=made.path,
        mode=made.mode,
        makeParents=made.make_parents,
        owner=_write_owner(made.owner),
        timestamp=made.timestamp,
    )


def _write_rm(rm: ops.Rm) -> Message:
    return pb.FileActionRm(path=rm.path, allowNotFound=rm.allow_not_found, allowWildcard=rm.allow_wildcard)


def _write_symlink(link: ops.Symlink) -> Message:
    return pb.FileActionSymlink(
        oldpath=link.oldpath, newpath=link.newpath, owner=_write_owner(link.owner), timestamp=link.timestamp
    )


def _write_owner(owner: ops.ChownOpt | None) -> Message:
    return owner and pb.ChownOpt(user=_write_user(owner.user), group=_write_user(owner.group))


def _write_user(user: ops.UserOpt | None) -> Message:
    if user is None:
        return None
    if user.id is not None:
        return pb.UserOpt(byID=user.id)
    return pb.UserOpt(byName=pb.NamedUserOpt(name=user.name, input=user.input)) if user.name else pb.UserOpt()


_WRITERS: dict[type, tuple[str, Callable[[Any], Message]]] = {
    ops.ExecOp: ("exec", _write_exec),
    ops.SourceOp: ("source", _write_source),
    ops.FileOp: ("file", _write_file),
    ops.BuildOp: ("build", _write_build),
    ops.MergeOp: ("merge", _write_merge),
    ops.DiffOp: ("diff", _write_diff),
    ops.PassthroughOp: ("passthrough", _write_passthrough),
}
_ACTION_WRITERS: dict[type, tuple[str, Callable[[Any], Message]]] = {
    ops.Copy: ("copy", _write_copy),
    ops.MkFile: ("mkfile", _write_mkfile),
    ops.MkDir: ("mkdir", _write_mkdir),
    ops.Rm: ("rm", _write_rm),
    ops.Symlink: ("symlink", _write_symlink),
}


def _read_exec(message: Message) -> ops.ExecOp:
    return ops.ExecOp(
        _read_meta(message.meta),
        tuple(_read_mount(mount) for mount in message.mounts),
        ops.NetMode(message.network),
        ops.SecurityMode(message.security),
        tuple(ops.SecretEnv(s.ID, s.name, s.optional) for s in message.secretenv),
        tuple(ops.CDIDevice(d.name, d.optional) for d in message.cdiDevices),
    )


def _read_meta(message: Message) -> ops.Meta:
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


def _read_mount(message: Message) -> ops.ExecMount:
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
