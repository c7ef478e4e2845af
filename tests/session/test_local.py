from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.session.dockerconfig import DockerConfig
from knarr.session.local import MAX_SECRET_BYTES, LocalSession, SecretSource
from knarr.session.session import Session, Wanted

NO_LOGINS = DockerConfig(())


def session(**secrets: SecretSource) -> LocalSession:
    return LocalSession({"context": Path("/src")}, secrets, NO_LOGINS, environ={"TOKEN": "s3cret"})


def test_a_local_session_is_a_session() -> None:
    lent: Session = session()
    assert lent.files(Wanted("context")) == Path("/src")
    assert lent.credentials("r.example").empty
    assert lent.secret("none") is None


def test_a_directory_that_was_not_lent_is_a_mistake_with_a_hint() -> None:
    with pytest.raises(UsageError, match="'docs'") as caught:
        session().files(Wanted("docs"))
    assert "context" in caught.value.hint


def test_a_secret_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "key"
    lent = session(key=SecretSource(file), token=SecretSource(variable="TOKEN"))
    file.write_bytes(b"\0later")

    key, token = lent.secret("key"), lent.secret("token")
    assert key is not None
    assert token is not None
    assert (key.value, token.value) == (b"\0later", b"s3cret")
    assert "s3cret" not in repr(token)


def test_secrets_that_cannot_be_had_are_named(tmp_path: Path) -> None:
    lent = session(key=SecretSource(tmp_path / "none"), token=SecretSource(variable="UNSET"))
    with pytest.raises(UsageError, match=r"secret 'key'.*No such file"):
        lent.secret("key")
    with pytest.raises(UsageError, match="variable UNSET is not set"):
        lent.secret("token")


def test_a_secret_has_buildkits_limit(tmp_path: Path) -> None:
    file = tmp_path / "key"
    lent = session(key=SecretSource(file))
    file.write_bytes(bytes(MAX_SECRET_BYTES))
    assert lent.secret("key") is not None
    file.write_bytes(bytes(MAX_SECRET_BYTES + 1))
    with pytest.raises(UsageError, match="larger than 500 KiB"):
        lent.secret("key")
