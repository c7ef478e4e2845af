"""Trust on real TLS: what is accepted, and what a person is told about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import RegistryError, UsageError
from knarr.remote.settings import RegistrySettings
from knarr.spec.reference import Reference

from .conftest import FAST, Certificates, Connect
from .fakeregistry import FakeRegistry
from .material import LAYER, blob, read

pytestmark = pytest.mark.system  # openssl makes the certificates

GOOD = "DNS:registry.test,IP:127.0.0.1"


def settings(root: Path, **more: object) -> RegistrySettings:
    return RegistrySettings(
        hosts_dirs=(str(root),),
        buildkitd_toml=(),
        addresses={"registry.test": "127.0.0.1"},
        retry=FAST,
        **more,  # type: ignore[arg-type]
    )


def place(root: Path, host: str, **files: Path) -> None:
    """Put files into the directory of `host`; `ca_crt` becomes `ca.crt`."""
    directory = root / host
    directory.mkdir(parents=True)
    for name, path in files.items():
        (directory / name.replace("_", ".")).write_bytes(path.read_bytes())


def pulled(fake: FakeRegistry, connect: Connect, chosen: RegistrySettings) -> bytes:
    fake.add_blob("app", LAYER)
    return read(connect(chosen).repository(Reference.parse(f"registry.test:{fake.port}/app")), blob(LAYER))


def test_a_ca_in_the_hosts_directory_is_trusted(certificates: Certificates, connect: Connect, tmp_path: Path) -> None:
    with FakeRegistry(tls=certificates.issue("good", names=GOOD)) as fake:
        place(tmp_path, f"registry.test:{fake.port}", ca_crt=certificates.ca)
        assert pulled(fake, connect, settings(tmp_path)) == LAYER


def test_an_unknown_ca_is_named_with_where_to_put_it(
    certificates: Certificates, connect: Connect, tmp_path: Path
) -> None:
    with FakeRegistry(tls=certificates.issue("good", names=GOOD)) as fake:
        with pytest.raises(RegistryError) as caught:
            pulled(fake, connect, settings(tmp_path))
        where = tmp_path / f"registry.test:{fake.port}"
        assert caught.value.message == (
            f"the certificate of registry.test:{fake.port} is signed by 'Knarr Test CA', which is not trusted; "
            f"looked in the system's CAs, {where}"
        )
        assert caught.value.hint == f"put the CA's certificate into {where}/ca.crt"
        assert not caught.value.temporary


def test_a_certificate_for_another_name_says_which_names_it_has(
    certificates: Certificates, connect: Connect, tmp_path: Path
) -> None:
    with FakeRegistry(tls=certificates.issue("other", names="DNS:other.test")) as fake:
        place(tmp_path, f"registry.test:{fake.port}", ca_crt=certificates.ca)
        with pytest.raises(RegistryError, match=r"is not made for 'registry\.test': it names other\.test"):
            pulled(fake, connect, settings(tmp_path))


def test_an_expired_certificate_is_called_so(certificates: Certificates, connect: Connect, tmp_path: Path) -> None:
    with FakeRegistry(tls=certificates.issue("old", names=GOOD, days=-1)) as fake:
        place(tmp_path, f"registry.test:{fake.port}", ca_crt=certificates.ca)
        with pytest.raises(RegistryError, match="has expired") as caught:
            pulled(fake, connect, settings(tmp_path))
        assert "clock" in caught.value.hint


def test_a_client_certificate_is_shown_where_it_is_wanted(
    certificates: Certificates, connect: Connect, tmp_path: Path
) -> None:
    server, client = certificates.issue("good", names=GOOD), certificates.issue("me", names="DNS:me")
    with FakeRegistry(tls=server, client_ca=certificates.ca) as fake:
        with pytest.raises(RegistryError) as caught:
            pulled(fake, connect, settings(tmp_path, extra_ca=(str(certificates.ca),)))
        assert "client.cert" in caught.value.hint

        host = f"registry.test:{fake.port}"
        place(tmp_path, host, ca_crt=certificates.ca, client_cert=client[0], client_key=client[1])
        assert pulled(fake, connect, settings(tmp_path)) == LAYER


def test_an_insecure_host_is_not_checked(certificates: Certificates, connect: Connect, tmp_path: Path) -> None:
    with FakeRegistry(tls=certificates.issue("other", names="DNS:other.test")) as fake:
        insecure = frozenset((f"registry.test:{fake.port}",))
        assert pulled(fake, connect, settings(tmp_path, insecure=insecure)) == LAYER


def test_an_insecure_host_without_tls_is_asked_in_plain_http(
    fake: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    assert pulled(fake, connect, settings(tmp_path, insecure=frozenset((f"registry.test:{fake.port}",)))) == LAYER


def test_a_host_without_tls_that_is_not_insecure_is_refused(
    fake: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="does not speak TLS") as caught:
        pulled(fake, connect, settings(tmp_path))
    assert "plain HTTP" in caught.value.hint


def test_a_login_over_tls_is_never_redirected_to_plain_http(
    certificates: Certificates, connect: Connect, fake: FakeRegistry, tmp_path: Path
) -> None:
    with FakeRegistry(tls=certificates.issue("good", names=GOOD)) as secure:
        place(tmp_path, f"registry.test:{secure.port}", ca_crt=certificates.ca)
        digest = fake.add_blob("app", LAYER)
        location = f"{fake.url}/v2/app/blobs/{digest}?token=secret"
        secure.fail("GET", "/blobs/", status=307, headers={"Location": location})
        with pytest.raises(RegistryError, match="without TLS") as caught:
            pulled(secure, connect, settings(tmp_path))
        assert "secret" not in caught.value.render()
        assert fake.seen == []


def test_a_broken_ca_file_is_a_mistake_of_the_configuration(
    certificates: Certificates, connect: Connect, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("no certificate\n")
    with FakeRegistry(tls=certificates.issue("good", names=GOOD)) as fake:
        place(tmp_path, f"registry.test:{fake.port}", ca_crt=broken)
        with pytest.raises(UsageError, match=r"CA certificate .*ca\.crt"):
            pulled(fake, connect, settings(tmp_path))


def test_a_new_ca_counts_without_a_new_process(certificates: Certificates, connect: Connect, tmp_path: Path) -> None:
    with FakeRegistry(tls=certificates.issue("good", names=GOOD)) as fake:
        fake.add_blob("app", LAYER)
        repository = connect(settings(tmp_path)).repository(Reference.parse(f"registry.test:{fake.port}/app"))
        with pytest.raises(RegistryError):
            read(repository, blob(LAYER))
        place(tmp_path, f"registry.test:{fake.port}", ca_crt=certificates.ca)
        assert read(repository, blob(LAYER)) == LAYER
