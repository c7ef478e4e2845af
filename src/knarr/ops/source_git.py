"""The source op `git://…`: the files of a repository at a commit.

A branch or a tag is asked for in every build (`git ls-remote`), and what counts
from there on is the commit it leads to: the key is that commit with what is
taken of it. A full commit id is believed without asking. Only a commit that no
cache has is fetched: see `gitcheckout`.

Spec: BuildKit source/git (attributes, order of refs, key).
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING

from knarr.errors import KnarrError, Unsupported, UsageError
from knarr.llb.ops import SourceOp
from knarr.ops import gitsign
from knarr.ops.fetched import Fetched, Reach
from knarr.ops.gitprogram import Git, Pairs, without_login
from knarr.ops.world import World
from knarr.paths import clean
from knarr.record import record

if TYPE_CHECKING:
    from knarr.ops.gitssh import GitSsh
    from knarr.remote.settings import Proxies

SCHEME = "git"
_REMOTE = re.compile(r"(https?|git|ssh)://([^/?#]+)(?:/.*)?", re.DOTALL | re.IGNORECASE)
_SCP = re.compile(r"[\w.-]+@([\w.-]+):.+", re.DOTALL | re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.IGNORECASE)
_TIMES = ("", "checkout", "commit")


@record
class GitSource:
    """A source op, read. Empty: not said."""

    remote: str
    ref: str = ""
    subdir: str = ""  # without a leading slash
    checksum: str = ""  # the commit, or its first digits
    keeps_git_dir: bool = False
    submodules: bool = True
    commit_times: bool = False  # files are as old as the commit, and not as the checkout
    by_commit: bool = False
    token_secret: str = ""
    header_secret: str = ""
    ssh_agent: str = ""  # id of the agent that git by ssh needs
    known_hosts: str = ""  # host keys, in the format of ssh's file
    signers: gitsign.Signers | None = None  # who must have signed what the ref leads to


@record
class Tip:
    """Where a ref leads: to a commit, or by way of a tag object."""

    ref: str  # in full; empty when a commit was named
    object: str  # what is fetched
    commit: str  # what is known of it without fetching: the commit, or `object` again


def resolve(world: World, op: SourceOp, vertex: str) -> Fetched:
    """Which commit is meant; nothing is fetched yet.

    Raises:
        KnarrError: the repository cannot be reached, or has no such ref; or it leads elsewhere than is pinned.
        UsageError, Unsupported: an attribute cannot be meant, or no agent is lent for a remote by ssh.
    """
    from knarr.ops import gitcheckout

    source = parse(op)
    git = git_for(world, source)
    tip = tip_of(world, git, source)
    if source.signers is not None:
        check_signature(world, git, source, tip)
    pinned = not tip.ref or source.by_commit
    make = partial(gitcheckout.make, world, git, source, tip, vertex)
    return Fetched(_key(source, tip), make, pinned, _shared_key(source, tip), tip.commit)


def check_signature(world: Reach, git: Git, source: GitSource, tip: Tip) -> tuple[bytes, bytes]:
    """The commit and the tag object of `tip`, b"" for none, once their signature was checked if one is wanted.

    Raises:
        KnarrError: nobody of those who are trusted has signed it.
    """
    from knarr.ops import gitcheckout

    commit, tag = gitcheckout.raw_objects(world.settings.root, git, tip)
    if source.signers is not None:
        try:
            gitsign.verify(source.signers, commit, tag, (tip.object, tip.commit))
        except KnarrError as error:
            raise error.with_context(repository=git.shown) from None
    return commit, tag


def parse(op: SourceOp) -> GitSource:
    """The op's identifier and attributes as values."""
    attrs = op.attrs
    place, _, fragment = op.identifier.partition("://")[2].partition("#")
    ref, _, subdir = fragment.partition(":")
    remote = attrs.get("git.fullurl") or f"https://{place}"
    _check_remote(remote)
    for name in attrs:
        if name.startswith(("git.bundle", "git.checkoutbundle")):
            raise Unsupported(f"{without_login(remote)}: {name} is not supported yet", hint="pin the commit instead")
    if ref.startswith("-"):
        raise UsageError(f"{ref}: no ref begins with a dash")
    times = attrs.get("git.mtime", "")
    if times not in _TIMES:
        raise UsageError(f"mtime={times}: not known", hint="checkout or commit")
    checksum = attrs.get("git.checksum", "")
    if checksum and not _HEX.fullmatch(checksum):
        raise UsageError(f"invalid checksum {checksum}: expected hex commit hash, or its first digits")
    return GitSource(
        remote,
        ref,
        clean(subdir)[1:],
        checksum.lower(),
        attrs.get("git.keepgitdir") == "true",
        attrs.get("git.skipsubmodules") != "true",
        times == "commit",
        attrs.get("git.fetchbycommit") == "true",
        attrs.get("git.authtokensecret", ""),
        attrs.get("git.authheadersecret", ""),
        attrs.get("git.mountsshsock", ""),
        attrs.get("git.knownsshhosts", ""),
        gitsign.signers_of(attrs),
    )


def _check_remote(remote: str) -> None:
    if remote.startswith("-") or not (_REMOTE.fullmatch(remote) or _SCP.fullmatch(remote)):
        raise Unsupported(f"{without_login(remote)}: not fetched", hint="http, https, git and ssh URLs are")


def _by(remote: str) -> tuple[str, str]:
    """(scheme, host with its port) of a remote that was checked."""
    match = _REMOTE.fullmatch(remote)
    if match is not None:
        return match[1].lower(), match[2].rpartition("@")[2]
    match = _SCP.fullmatch(remote)
    return "ssh", match[1] if match else ""


# Where a ref leads


def tip_of(world: Reach, git: Git, source: GitSource) -> Tip:
    """As `find_tip`, the same for all of a build."""
    question = f"git:{source.remote}#{source.ref}@{source.checksum}{source.keeps_git_dir}{source.by_commit}"
    known: Tip | None = world.answers.get(question)
    if known is None:
        known = world.answers[question] = find_tip(git, source)
    return known


def find_tip(git: Git, source: GitSource) -> Tip:
    """The commit that `source` means now.

    Raises:
        KnarrError: see `resolve`.
    """
    if is_commit(source.ref):
        _check_pin(source, git, source.ref)
        return Tip("", source.ref, source.ref)
    if source.by_commit:
        if not is_commit(source.checksum):
            raise UsageError(f"{git.shown}: fetch-by-commit needs the whole id of a commit as ref or checksum")
        return Tip(_in_full(source.ref), source.checksum, source.checksum)
    tip = _asked(git, source)
    _check_pin(source, git, tip.object, tip.commit)
    return Tip(tip.ref, tip.object, tip.object) if source.keeps_git_dir else tip


def is_commit(text: str) -> bool:
    """Whether `text` is a whole object id, of SHA-1 or SHA-256."""
    return len(text) in (40, 64) and _HEX.fullmatch(text) is not None and text == text.lower()


def _asked(git: Git, source: GitSource) -> Tip:
    ref = source.ref
    if not ref:
        return _default(git, git.run("ls-remote", "--symref", "--", source.remote, "HEAD"))
    said = git.run("ls-remote", "--", source.remote, ref, ref + "^{}")
    known = dict(line.split("\t", 1)[::-1] for line in said.splitlines() if "\t" in line)
    tag = "refs/tags/" + ref.removeprefix("refs/tags/")
    branch = "refs/heads/" + ref.removeprefix("refs/heads/")
    partly = "refs/" + ref.removeprefix("refs/")
    # A ref that is named in full, then a branch, then a tag: as git itself and BuildKit choose.
    for name in (partly if partly != tag else "", branch, tag):
        if name in known:
            return Tip(name, known[name], known.get(name + "^{}", known[name]) if name == tag else known[name])
    hint = "check the name of the branch or tag"
    if _HEX.fullmatch(ref):
        hint = "a commit is named by its whole id of 40 digits"
    raise KnarrError(f"{git.shown}: repository does not contain ref {ref}", hint=hint)


def _default(git: Git, said: str) -> Tip:
    ref = id = ""
    for line in said.splitlines():
        value, _, name = line.partition("\t")
        if name == "HEAD" and value.startswith("ref: "):
            ref = value.removeprefix("ref: ")
        elif name == "HEAD":
            id = value
    if not id:
        raise KnarrError(f"{git.shown}: has no default branch", hint="name a branch: URL#BRANCH")
    return Tip(ref or "HEAD", id, id)


def _in_full(ref: str) -> str:
    return ref if not ref or ref.startswith("refs/") else "refs/heads/" + ref


def _check_pin(source: GitSource, git: Git, *ids: str) -> None:
    if source.checksum and not any(id.startswith(source.checksum) for id in ids):
        found = " or ".join(dict.fromkeys(ids))
        place = f"{git.shown}: {source.ref or 'the default branch'}"
        raise KnarrError(
            f"{place}: expected checksum to match {source.checksum}, got {found}",
            hint="if the new commit is right, write its checksum",
        )


def _key(source: GitSource, tip: Tip) -> str:
    key = "git:" + tip.commit
    if source.keeps_git_dir:
        # The URL and the ref are written down in .git.
        key += f".git#{tip.ref}@{without_login(source.remote)}"
    return key + _choices(source)


def _shared_key(source: GitSource, tip: Tip) -> str:
    """What BuildKit calls it."""
    kept = f"{tip.object}.git#{tip.ref or tip.object}" if source.keeps_git_dir else tip.commit
    return kept + _choices(source)


def _choices(source: GitSource) -> str:
    key = f":{source.subdir}" if source.subdir else ""
    return key + ("" if source.submodules else "(skip-submodules)") + ("(mtime=commit)" if source.commit_times else "")


# How git gets there


def git_for(world: Reach, source: GitSource) -> Git:
    """git, told how to get to the remote of `source`.

    Raises:
        UsageError: the remote is reached by ssh, and the caller lends no agent.
    """
    transport = world.registry().transport
    scheme, netloc = _by(source.remote)
    config: list[tuple[str, str]] = []
    if scheme in ("http", "https"):
        config += _login(world, source, netloc)
    if scheme == "https":
        config += _trust(world, netloc)
    ssh = _ssh(world, source, needed=scheme == "ssh")
    return Git(world.scope, source.remote, tuple(config), _proxies(transport.settings.proxies), ssh)


def _ssh(world: Reach, source: GitSource, *, needed: bool) -> GitSsh | None:
    """The agent for the remote, or for submodules, which may be reached by ssh where the remote is not."""
    id = source.ssh_agent or "default"
    agent = world.session.ssh(id)
    if agent is not None:
        from knarr.ops.gitssh import GitSsh

        return GitSsh(world.settings.root, agent, source.known_hosts)
    if needed:
        raise UsageError(
            f"{without_login(source.remote)}: needs an ssh agent", hint=f"pass --ssh {id}, or --ssh {id}=KEYFILE"
        )
    return None


def _login(world: Reach, source: GitSource, netloc: str) -> Pairs:
    """The first of the secrets that the caller lends: those for this host go before those for all."""
    asked = [(f"{source.header_secret}.{netloc}", False), (f"{source.token_secret}.{netloc}", True)]
    asked += [(source.header_secret, False), (source.token_secret, True)]
    for id, is_token in asked:
        secret = world.session.secret(id) if id and not id.startswith(".") else None
        if secret is None:
            continue
        value = secret.value.decode("latin-1").strip()
        if is_token:  # as GitHub and GitLab take it
            value = "basic " + b64encode(f"x-access-token:{value}".encode("latin-1")).decode()
        return ((f"http.{_login_scope(source.remote)}.extraHeader", f"Authorization: {value}"),)
    return ()


def _login_scope(remote: str) -> str:
    """Where the login goes: to this repository; at GitHub also to its submodules, as actions/checkout does it."""
    for place in ("https://github.com/", "https://www.github.com/"):
        if remote.startswith(place):
            return place
    return without_login(remote)


def _trust(world: Reach, netloc: str) -> Pairs:
    """What certificate files and settings say of this host, in git's words."""
    trust = world.registry().transport.hosts.trust(netloc)
    base = f"http.https://{netloc}/"
    pairs: list[tuple[str, str]] = []
    if trust.ca:
        pairs.append((f"{base}.sslCAInfo", _bundle(world, trust.ca)))
    for certificate, key in trust.client[:1]:
        pairs += [(f"{base}.sslCert", certificate), (f"{base}.sslKey", key or certificate)]
    if not trust.verify:
        pairs.append((f"{base}.sslVerify", "false"))
    return tuple(pairs)


def _bundle(world: Reach, paths: tuple[str, ...]) -> str:
    """One file with the system's CAs and those of `paths`: git takes one instead of the system's, not beside it."""
    import hashlib
    import os

    from knarr.remote.tls import BUNDLES

    system = next((path for path in BUNDLES if os.path.exists(path)), None)
    text = b"\n".join(_bytes(path) for path in (*([system] if system else []), *paths))
    place = world.settings.root / "git" / f"ca-{hashlib.sha256(text).hexdigest()[:16]}.pem"
    if not place.exists():
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = place.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(text)
        os.replace(fresh, place)
    return str(place)


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"CA certificate {path}: {error.strerror}") from error


def _proxies(proxies: Proxies) -> dict[str, str]:
    found = {"http_proxy": proxies.http, "https_proxy": proxies.https, "no_proxy": ",".join(proxies.none)}
    return {name: value for name, value in found.items() if value}
