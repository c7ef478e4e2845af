"""Capabilities: what a solver must know to solve a vertex, by the names BuildKit gives them.

A frontend writes them into a vertex's metadata; a solver that lacks one refuses
the vertex by name instead of solving it wrongly. Spec: BuildKit's solver/pb/caps.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

SOURCE_IMAGE = "source.image"
SOURCE_IMAGE_RESOLVE_MODE = "source.image.resolvemode"
SOURCE_OCI_LAYOUT = "source.ocilayout"
SOURCE_LOCAL = "source.local"
SOURCE_LOCAL_FOLLOW_PATHS = "source.local.followpaths"
SOURCE_LOCAL_EXCLUDE_PATTERNS = "source.local.excludepatterns"
SOURCE_LOCAL_SHARED_KEY_HINT = "source.local.sharedkeyhint"
SOURCE_GIT = "source.git"
SOURCE_GIT_KEEP_DIR = "source.git.keepgitdir"
SOURCE_GIT_FULL_URL = "source.git.fullurl"
SOURCE_GIT_KNOWN_SSH_HOSTS = "source.git.knownsshhosts"
SOURCE_GIT_MOUNT_SSH_SOCK = "source.git.mountsshsock"
SOURCE_GIT_CHECKSUM = "source.git.checksum"
SOURCE_GIT_SKIP_SUBMODULES = "source.git.skipsubmodules"
SOURCE_GIT_MTIME = "source.git.mtime"
SOURCE_GIT_FETCH_BY_COMMIT = "source.git.fetchbycommit"
SOURCE_HTTP = "source.http"
SOURCE_HTTP_CHECKSUM = "source.http.checksum"

EXEC_META_BASE = "exec.meta.base"
EXEC_META_CGROUP_PARENT = "exec.meta.cgroup.parent"
EXEC_META_NETWORK = "exec.meta.network"
EXEC_META_PROXY = "exec.meta.proxyenv"
EXEC_META_SECURITY = "exec.meta.security"
EXEC_META_SETS_DEFAULT_PATH = "exec.meta.setsdefaultpath"
EXEC_META_ULIMIT = "exec.meta.ulimit"
EXEC_META_CDI = "exec.meta.cdi"
EXEC_META_LINUX_RESOURCES = "exec.meta.linux.resources"
EXEC_MOUNT_BIND = "exec.mount.bind"
EXEC_MOUNT_CACHE = "exec.mount.cache"
EXEC_MOUNT_CACHE_SHARING = "exec.mount.cache.sharing"
EXEC_MOUNT_SELECTOR = "exec.mount.selector"
EXEC_MOUNT_TMPFS = "exec.mount.tmpfs"
EXEC_MOUNT_TMPFS_SIZE = "exec.mount.tmpfs.size"
EXEC_MOUNT_SECRET = "exec.mount.secret"
EXEC_MOUNT_SSH = "exec.mount.ssh"
EXEC_SECRET_ENV = "exec.secretenv"

FILE_BASE = "file.base"
MERGE_OP = "mergeop"
DIFF_OP = "diffop"

CONSTRAINTS = "constraints"
PLATFORM = "platform"
META_IGNORE_CACHE = "meta.ignorecache"
META_DESCRIPTION = "meta.description"
META_EXPORT_CACHE = "meta.exportcache"

_BY_SCHEME = {
    "docker-image": SOURCE_IMAGE,
    "oci-layout": SOURCE_OCI_LAYOUT,
    "local": SOURCE_LOCAL,
    "git": SOURCE_GIT,
    "http": SOURCE_HTTP,
    "https": SOURCE_HTTP,
}
_BY_ATTR = {
    "local.followpaths": SOURCE_LOCAL_FOLLOW_PATHS,
    "local.excludepatterns": SOURCE_LOCAL_EXCLUDE_PATTERNS,
    "local.sharedkeyhint": SOURCE_LOCAL_SHARED_KEY_HINT,
    "git.keepgitdir": SOURCE_GIT_KEEP_DIR,
    "git.fullurl": SOURCE_GIT_FULL_URL,
    "git.mountsshsock": SOURCE_GIT_MOUNT_SSH_SOCK,
    "git.checksum": SOURCE_GIT_CHECKSUM,
    "git.skipsubmodules": SOURCE_GIT_SKIP_SUBMODULES,
    "git.mtime": SOURCE_GIT_MTIME,
    "git.fetchbycommit": SOURCE_GIT_FETCH_BY_COMMIT,
    "http.checksum": SOURCE_HTTP_CHECKSUM,
}


def of_source(identifier: str, attrs: Mapping[str, str]) -> Iterator[str]:
    """What a source op of this identifier with these attributes asks of a solver."""
    scheme = identifier.partition("://")[0]
    if scheme in _BY_SCHEME:
        yield _BY_SCHEME[scheme]
    for name in attrs:
        if name in _BY_ATTR:
            yield _BY_ATTR[name]
    if "git.mountsshsock" in attrs:
        yield SOURCE_GIT_KNOWN_SSH_HOSTS
    # `local` is a wish; only `pull` must be obeyed.
    if attrs.get("image.resolvemode") == "pull":
        yield SOURCE_IMAGE_RESOLVE_MODE
