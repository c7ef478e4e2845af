from __future__ import annotations

import json
import stat
from base64 import b64encode
from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.session.dockerconfig import DockerConfig
from knarr.session.session import Credentials

# A helper as the protocol wants it: keeps `url user secret` lines in a file beside itself.
HELPER = """#!/bin/sh
db="$0.db"
touch "$db"
case $1 in
store) tr -d '{}" ' | sed 's/ServerURL://; s/,Username:/ /; s/,Secret:/ /' >> "$db"; echo >> "$db" ;;
get) read -r url; line=$(grep "^$url " "$db") || { echo "credentials not found in native keychain"; exit 1; }
  set -- $line; printf '{"ServerURL":"%s","Username":"%s","Secret":"%s"}' "$1" "$2" "$3" ;;
erase) read -r url; grep -v "^$url " "$db" > "$db.new"; mv "$db.new" "$db" ;;
esac
"""


def encoded(user: str, password: str) -> dict[str, str]:
    return {"auth": b64encode(f"{user}:{password}".encode()).decode()}


def config(tmp_path: Path, document: object, *, bin: Path | None = None) -> DockerConfig:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document))
    return DockerConfig((file,), path=str(bin or ""))


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    """A directory with `docker-credential-box`."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "docker-credential-box"
    program.write_text(HELPER)
    program.chmod(0o755)
    return directory


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        ("r.example", "r.example"),
        ("r.example:5000", "r.example:5000"),
        ("https://r.example", "r.example"),
        ("https://r.example/v2/", "r.example"),
        ("r.example/v1/", "r.example"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("r.example", "r.example/team/app"),
    ],
)
def test_a_key_in_any_of_dockers_forms_is_found(tmp_path: Path, key: str, asked: str) -> None:
    found = config(tmp_path, {"auths": {key: encoded("ann", "p:w")}}).credentials(asked)
    assert found == Credentials("ann", "p:w")


@pytest.mark.parametrize("asked", ["other.example", "r.example:5000", "r.example.evil", "xr.example"])
def test_a_login_is_never_given_to_another_host(tmp_path: Path, asked: str) -> None:
    assert config(tmp_path, {"auths": {"r.example": encoded("ann", "pw")}}).credentials(asked).empty


def test_the_most_specific_key_wins(tmp_path: Path) -> None:
    auths = {"r.example": encoded("host", "1"), "r.example/team": encoded("team", "2")}
    auths["r.example/team/app"] = encoded("app", "3")
    known = config(tmp_path, {"auths": auths})

    names = ("r.example/team/app", "r.example/team/other", "r.example/teams", "r.example")
    assert [known.credentials(name).username for name in names] == ["app", "team", "host", "host"]


def test_identity_and_registry_tokens_are_read(tmp_path: Path) -> None:
    auths = {"a.example": {"auth": "MDA6", "identitytoken": "id"}, "b.example": {"registrytoken": "rt"}}
    known = config(tmp_path, {"auths": auths})
    assert known.credentials("a.example").identity_token == "id"
    assert known.credentials("b.example") == Credentials(registry_token="rt")


def test_files_are_asked_in_order(tmp_path: Path) -> None:
    for name, user in (("one", "first"), ("two", "second")):
        (tmp_path / name).write_text(json.dumps({"auths": {f"{name}.example": encoded(user, "x")}}))
    known = DockerConfig((tmp_path / "none", tmp_path / "one", tmp_path / "two"))
    assert known.credentials("two.example").username == "second"
    assert known.credentials("three.example").empty


def test_the_environment_leads_to_the_files() -> None:
    environ = {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/1", "PATH": "/bin"}
    names = [str(file) for file in DockerConfig.from_environment(environ).files]
    assert names == ["/h/.docker/config.json", "/run/user/1/containers/auth.json", "/h/.config/containers/auth.json"]

    environ |= {"REGISTRY_AUTH_FILE": "/auth.json", "DOCKER_CONFIG": "/d", "XDG_CONFIG_HOME": "/c"}
    names = [str(file) for file in DockerConfig.from_environment(environ).files]
    assert names[:2] == ["/auth.json", "/d/config.json"]
    assert names[-1] == "/c/containers/auth.json"


def test_a_login_is_kept_for_its_owner_alone_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    known = config(tmp_path, {"HttpHeaders": {"X": "y"}, "auths": {"other": encoded("o", "p")}})
    where = known.store("r.example", Credentials("ann", "pw"))

    file = tmp_path / "config.json"
    assert str(file) in where
    assert known.credentials("r.example") == Credentials("ann", "pw")
    assert json.loads(file.read_text())["HttpHeaders"] == {"X": "y"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_docker_hub_is_kept_under_dockers_own_key(tmp_path: Path) -> None:
    known = config(tmp_path, {})
    known.store("docker.io", Credentials("ann", "pw"))
    assert list(json.loads((tmp_path / "config.json").read_text())["auths"]) == ["https://index.docker.io/v1/"]
    assert known.credentials("docker.io").username == "ann"


def test_a_first_login_makes_the_file_and_a_symlink_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    link = tmp_path / "docker" / "config.json"
    DockerConfig((link,)).store("r.example", Credentials("ann", "1"))
    link.rename(real)
    link.symlink_to(real)
    known = DockerConfig((link,))
    known.store("r.example", Credentials("ann", "2"))

    assert link.is_symlink()
    assert known.credentials("r.example").password == "2"


def test_a_login_is_forgotten_everywhere(tmp_path: Path) -> None:
    known = config(tmp_path, {"auths": {"https://r.example/v2/": encoded("ann", "pw"), "o": encoded("o", "p")}})
    assert known.erase("r.example") == (str(tmp_path / "config.json"),)
    assert known.credentials("r.example").empty
    assert known.credentials("o").username == "o"
    assert known.erase("r.example") == ()


@pytest.mark.parametrize("document", [{"credsStore": "box"}, {"credHelpers": {"r.example": "box"}}])
def test_a_helper_keeps_gives_and_forgets(tmp_path: Path, helper: Path, document: object) -> None:
    known = config(tmp_path, document, bin=helper)
    assert known.credentials("r.example").empty

    assert known.store("r.example", Credentials("ann", "s3cret")) == "docker-credential-box"
    assert known.credentials("r.example/team/app") == Credentials("ann", "s3cret")
    assert "s3cret" not in (tmp_path / "config.json").read_text()

    assert known.erase("r.example") == ("docker-credential-box",)
    assert known.credentials("r.example").empty


def test_a_helper_may_give_an_identity_token(tmp_path: Path, helper: Path) -> None:
    known = config(tmp_path, {"credsStore": "box"}, bin=helper)
    known.store("r.example", Credentials(identity_token="id"))
    assert known.credentials("r.example") == Credentials(identity_token="id")


def test_a_helper_that_is_named_for_the_host_must_be_there(tmp_path: Path) -> None:
    known = config(tmp_path, {"credHelpers": {"r.example": "none"}})
    with pytest.raises(UsageError, match="docker-credential-none is not installed"):
        known.credentials("r.example")
    assert known.credentials("other.example").empty


def test_a_general_store_that_is_missing_matters_only_where_a_login_was_kept_in_it(tmp_path: Path) -> None:
    known = config(tmp_path, {"credsStore": "desktop", "auths": {"r.example": {}}})
    assert known.credentials("public.example").empty
    with pytest.raises(UsageError, match="docker-credential-desktop is not installed"):
        known.credentials("r.example")


def test_a_helper_that_fails_is_told_in_its_own_words(tmp_path: Path, helper: Path) -> None:
    (helper / "docker-credential-bad").write_text("#!/bin/sh\necho the keyring is locked\nexit 1\n")
    (helper / "docker-credential-bad").chmod(0o755)
    with pytest.raises(UsageError, match="get: the keyring is locked"):
        config(tmp_path, {"credHelpers": {"r.example": "bad"}}, bin=helper).credentials("r.example")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', '{"auths": {"r.example": {"auth": "###"}}}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"config\.json"):
        DockerConfig((file,)).credentials("r.example")
