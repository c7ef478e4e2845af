"""Signed commits and tags, made by git with gpg and ssh keys, as sources."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.errors import KnarrError
from knarr.ops.gitsign import Signers, verify
from knarr.ops.world import World

from .servers import GitServer, Work, git_server
from .test_pgp import Signer
from .test_source_git import resolve

pytestmark = [pytest.mark.root, pytest.mark.system]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    with git_server(tmp_path / "served") as server:
        yield server


@pytest.fixture
def work(tmp_path: Path, server: GitServer) -> Work:
    work = Work(tmp_path / "work", server, "app")
    work.commit({"a": "a\n"})
    return work


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys") / "alice", "alice")


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys") / "bob", "bob")


def by_gpg(work: Work, signer: Signer, *words: str) -> None:
    """Let git sign with the signer's key, and publish what it made."""
    program = signer.home / "program"
    program.write_text(f'#!/bin/sh\nexec gpg --homedir {signer.home} --batch --passphrase "" "$@"\n')
    program.chmod(0o755)
    work.git("-c", f"gpg.program={program}", "-c", "user.signingkey=alice@corp.example", *words)
    work.publish()


def ssh_key(place: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place], check=True)
    return place.with_suffix(".pub").read_text()


def test_a_commit_that_is_signed_is_a_source(world: World, work: Work, alice: Signer, bob: Signer) -> None:
    with pytest.raises(KnarrError, match="the commit is not signed"):
        resolve(world, work.url, **{"sig.pubkey": alice.key.decode()})
    by_gpg(work, alice, "commit", "-q", "-S", "--allow-empty", "-m", "ä signed\n\none")
    assert resolve(world, work.url, **{"sig.pubkey": alice.key.decode()}).pin
    assert resolve(world, work.url, **{"sig.pubkey": alice.key.decode(), "keepgitdir": "true"}).pin
    with pytest.raises(KnarrError, match="failed to verify pgp signature: no key is given"):
        resolve(world, work.url, **{"sig.pubkey": bob.key.decode()})
    with pytest.raises(KnarrError, match="signed tag required but no signed tag found"):
        resolve(world, work.url, **{"sig.pubkey": alice.key.decode(), "sig.requiresignedtag": "true"})


def test_a_tag_that_is_signed_vouches_for_its_commit(world: World, work: Work, alice: Signer) -> None:
    by_gpg(work, alice, "tag", "-s", "-m", "one", "v1")
    key = {"sig.pubkey": alice.key.decode()}
    assert resolve(world, f"{work.url}#v1", **key, **{"sig.requiresignedtag": "true"}).pin
    with pytest.raises(KnarrError, match="the commit is not signed"):
        resolve(world, f"{work.url}#v1", **key, **{"sig.ignoresignedtag": "true"})


def test_ssh_keys_sign_as_well(world: World, work: Work, tmp_path: Path) -> None:
    mine, other = ssh_key(tmp_path / "mine"), ssh_key(tmp_path / "other")
    words = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={tmp_path}/mine")
    work.git(*words, "commit", "-q", "-S", "--allow-empty", "-m", "signed")
    work.publish()
    assert resolve(world, work.url, **{"sig.pubkey": other + mine}).pin
    with pytest.raises(KnarrError, match="failed to verify ssh signature"):
        resolve(world, work.url, **{"sig.pubkey": other})
    with pytest.raises(KnarrError, match="failed to parse ssh public key"):
        resolve(world, work.url, **{"sig.pubkey": "nonsense"})


def test_a_commit_that_is_not_the_one_asked_for_counts_for_nothing() -> None:
    with pytest.raises(KnarrError, match="is not the one that the ref led to"):
        verify(Signers("key"), b"tree 1\n\nmessage\n", b"", ("0" * 40,))


def test_a_key_must_be_named(world: World, work: Work) -> None:
    with pytest.raises(KnarrError, match=r"git\.sig\.pubkey"):
        resolve(world, work.url, **{"sig.requiresignedtag": "true"})
