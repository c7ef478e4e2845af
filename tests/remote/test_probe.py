"""The question of a warm build: right, and cheap to load."""

from __future__ import annotations

import subprocess
import sys

from knarr.remote.probe import head
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.reference import Reference

from .fakeregistry import FakeRegistry
from .material import LAYER, image

HEAVY = (
    "ssl",
    "http.client",
    "email",
    "json",
    "tomllib",
    "urllib.request",
    "asyncio",
    "subprocess",
    "tempfile",
    "random",
)


def test_the_digest_of_a_tag_is_found(fake: FakeRegistry) -> None:
    manifest = image(LAYER)
    fake.add_manifest("app", "1", manifest.raw, manifest.media_type)
    found = head(Reference.parse(f"{fake.host}/app:1"), RegistrySettings(hosts_dirs=()), lambda _: Credentials())
    assert found == manifest.descriptor.digest


def test_a_probe_in_plain_http_loads_nothing_heavy(fake: FakeRegistry) -> None:
    fake.add_manifest("app", "1", image(LAYER).raw, image(LAYER).media_type)
    code = f"""
import sys
from knarr.remote.probe import head
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.reference import Reference
head(Reference.parse("{fake.host}/app:1"), RegistrySettings(hosts_dirs=()), lambda _: Credentials())
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
