"""Many tags asked for at once: what is known is right, and what is in doubt is left out."""

from __future__ import annotations

import io

import pytest

from knarr.remote.heads import heads
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec import mediatype
from knarr.spec.reference import Reference

from .conftest import Certificates, Connect, StartRegistry
from .fakeregistry import FakeRegistry
from .material import CONFIG, blob, image

TAGS = [f"v{number}" for number in range(300)]


def fill(fake: FakeRegistry, *tags: str) -> dict[str, str]:
    found = {}
    for tag in tags:
        made = image(tag.encode())
        fake.add_manifest("app", tag, made.raw, made.media_type)
        found[tag] = str(made.descriptor.digest)
    return found


def asked(fake: FakeRegistry, connect: Connect, *tags: str) -> dict[str, str]:
    settings = RegistrySettings(hosts_dirs=(), read_timeout_s=5.0)
    return heads(connect(settings).repository(Reference.parse(f"{fake.host}/app"))._access, tags)


def test_hundreds_of_tags_take_a_handful_of_connections(fake: FakeRegistry, connect: Connect) -> None:
    known = fill(fake, *TAGS)
    assert asked(fake, connect, *TAGS, "none") == {**known, "none": ""}
    assert fake.connections <= 5
    assert len(fake.requests("HEAD")) == 301


def test_what_fails_is_left_out(fake: FakeRegistry, connect: Connect) -> None:
    known = fill(fake, *TAGS[:20])
    fake.fail("HEAD", "v7", status=503)
    found = asked(fake, connect, *TAGS[:20])
    assert found == {tag: digest for tag, digest in known.items() if tag != "v7"}


def test_a_connection_that_breaks_loses_only_its_own(fake: FakeRegistry, connect: Connect) -> None:
    known = fill(fake, *TAGS[:20])
    fake.fail("HEAD", "v9", swallow=0)
    found = asked(fake, connect, *TAGS[:20])
    assert 10 <= len(found) < 20
    assert found.items() <= known.items()


def test_nothing_is_known_of_a_registry_that_does_not_answer(connect: Connect) -> None:
    with FakeRegistry() as fake:
        pass
    assert asked(fake, connect, "v1", "v2") == {}


@pytest.mark.system
def test_a_real_registry_behind_tls_with_a_login(
    start_registry: StartRegistry, certificates: Certificates, connect: Connect
) -> None:
    real = start_registry(tls=certificates.issue("heads", names="IP:127.0.0.1"), login=("ann", "secret"))
    client = connect(RegistrySettings(hosts_dirs=(), extra_ca=(str(certificates.ca),)), Credentials("ann", "secret"))
    place = client.repository(Reference.parse(f"{real.host}/app"))
    known = {}
    config = blob(CONFIG, mediatype.OCI_CONFIG)
    place.push(config, io.BytesIO(CONFIG))
    for tag in TAGS[:12]:
        made = image(annotations={"tag": tag})
        place.push_manifest(made.descriptor, made.raw, tag=tag)
        known[tag] = str(made.descriptor.digest)
    assert heads(place._access, (*TAGS[:12], "none")) == {**known, "none": ""}
