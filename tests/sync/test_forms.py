"""Three forms of a sync file, read as the same tasks; mistakes named with their place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.image.closure import ReferrerFilter
from knarr.spec.platform import Platform
from knarr.sync.read import parse
from knarr.sync.tagfilter import TagFilter
from knarr.sync.task import IMAGE, REGISTRY, REPOSITORY, Limit, RegistryWish, SyncFile

OWN = """
jobs = 3
[defaults]
interval = "6h"
[[sync]]
source = "registry.example/team/app"
targets = ["mirror.example/team/app", "oci:/srv/mirror/app"]
tags = { include = ["1.*"], exclude = ["*-rc"], regex = ["a|b"], semver = ">=1.2 <2", newest = 5 }
platforms = ["linux/amd64", "linux/arm64"]
referrers = [{ type = "application/*sbom*", annotations = { a = "b" } }]
digest-tags = false
attestations = "keep"
prune = true
prune-limit = "10%"
[[sync]]
source = "registry.example/team/tool:1.0"
target = "mirror.example/team/tool"
cron = "30 2 * * *"
[[sync]]
source = "registry.example"
target = "mirror.example/all"
repositories = { allow = ["team/.*"] }
[registry."mirror.example"]
insecure = true
username = "robot"
password = "secret"
transfers = 2
"""

# The example of regsync's own documentation, shortened, with every member that has an effect.
REGSYNC = """
x-templates:
  deny: &deny
    - ".*-rc"
version: 1
creds:
  - registry: localhost:5000
    tls: disabled
  - registry: docker.io
    user: "{{env \\"HUB_USER\\"}}"
    pass: "{{file \\"PASSFILE\\"}}"
    reqConcurrent: 3
defaults:
  ratelimit:
    min: 100
    retry: 15m
  parallel: 2
  interval: 60m
  backup: "bkup-{{.Ref.Tag}}"
sync:
  - source: busybox:latest
    target: localhost:5000/library/busybox:latest
    type: image
  - source: alpine
    target: "localhost:5000/library/{{ .Sync.Source }}"
    type: repository
    tags:
      allow: ["latest", "3", "3.\\\\d+"]
      deny: *deny
      semverRange: [">=3.12"]
    tagSets:
      - allow: ["edge"]
    referrers: true
    digestTags: false
    referrerFilters:
      - artifactType: application/example
        annotations: {a: b}
    fastCheck: true
    platforms: ["linux/amd64"]
    schedule: "15 01 * * *"
    mediaTypes: ["application/vnd.oci.image.index.v1+json"]
  - source: registry.example
    target: localhost:5000/example
    type: registry
    repos: {allow: ["a/.*"], deny: ["a/b"]}
    platform: linux/arm64
"""

# skopeo-sync(1)
SKOPEO = """
registry.example.com:
    images:
        busybox: []
        redis:
            - "1.0"
            - "sha256:0000000000000000000000000000000011111111111111111111111111111111"
    images-by-tag-regex:
        nginx: ^1\\.13\\.[12]-alpine-perl$
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: this is a secret
    tls-verify: true
other.example:
    tls-verify: false
    images:
        coreos/etcd:
            - latest
"""


def read(text: str, name: str, **more: Any) -> SyncFile:
    return parse(text.encode(), name, {"HUB_USER": "me"}, **more)


def test_our_own_form() -> None:
    file = read(OWN, "mirror.toml")
    app, tool, everything = file.tasks

    assert (file.jobs, app.kind, tool.kind, everything.kind) == (3, REPOSITORY, IMAGE, REGISTRY)
    assert app.targets == ("mirror.example/team/app", "oci:/srv/mirror/app")
    assert app.tags == (TagFilter(("1.*",), ("*-rc",), ("(?:a|b)",), (), (">=1.2 <2",), 5),)
    assert app.options.wanted.platforms == (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    assert app.options.wanted.filters == (ReferrerFilter("application/*sbom*", {"a": "b"}),)
    assert (app.options.wanted.digest_tags, app.prune, app.prune_limit) == (False, True, Limit(percent=10))
    assert (app.every_s, tool.every_s, tool.cron) == (21600.0, 21600.0, "30 2 * * *")
    assert everything.repositories.choose(["team/app", "other"]) == ["team/app"]
    assert file.registries["mirror.example"] == RegistryWish("robot", "secret", insecure=True, per_host=2)


def test_regsyncs_yaml(tmp_path: Any) -> None:
    (tmp_path / "pass").write_text("secret\n")
    file = read(REGSYNC.replace("PASSFILE", str(tmp_path / "pass")), "regsync.yml")
    image, repository, registry = file.tasks

    assert file.jobs == 2
    assert file.registries["docker.io"] == RegistryWish("me", "secret", per_host=3)
    assert file.registries["localhost:5000"].plain_http
    assert (image.kind, image.targets, image.every_s) == (IMAGE, ("localhost:5000/library/busybox:latest",), 3600.0)
    assert (image.quota_min, image.quota_wait_s, image.backup) == (100, 900.0, "bkup-{{.Ref.Tag}}")
    assert repository.targets == ("localhost:5000/library/alpine",)
    assert repository.tags == (
        TagFilter(allow=("edge",)),
        TagFilter(allow=("latest", "3", "3.\\d+"), deny=(".*-rc",), versions=(">=3.12",)),
    )
    assert (repository.cron, repository.every_s) == ("15 01 * * *", 0.0)
    assert repository.recheck_s == float("inf")
    assert repository.options.wanted.sparse
    assert not repository.options.wanted.digest_tags
    assert repository.media_types == ("application/vnd.oci.image.index.v1+json",)
    assert registry.repositories.choose(["a/a", "a/b", "c"]) == ["a/a"]
    assert (registry.options.wanted.platforms, registry.options.attestations) == (
        (Platform.parse("linux/arm64"),),
        "drop",
    )


def test_skopeos_yaml() -> None:
    file = read(
        SKOPEO.replace("0" * 32, "0" * 32).replace("sha256:" + "0" * 32, "sha256:" + "0" * 32),
        "sync.yml",
        destinations=("my.example/repo/",),
    )

    digest = "sha256:" + "0" * 32 + "1" * 32
    assert [(task.source, task.targets[0], task.kind) for task in file.tasks] == [
        ("registry.example.com/busybox", "my.example/repo/busybox", REPOSITORY),
        ("registry.example.com/redis:1.0", "my.example/repo/redis:1.0", IMAGE),
        (f"registry.example.com/redis@{digest}", f"my.example/repo/redis@{digest}", IMAGE),
        ("registry.example.com/nginx", "my.example/repo/nginx", REPOSITORY),
        ("registry.example.com/alpine", "my.example/repo/alpine", REPOSITORY),
        ("other.example/coreos/etcd:latest", "my.example/repo/etcd:latest", IMAGE),
    ]
    assert file.tasks[3].tags[0].choose(["1.13.1-alpine-perl", "1.13.3-alpine-perl"]) == ["1.13.1-alpine-perl"]
    assert file.tasks[4].tags[0].choose(["3.11", "3.12.1"]) == ["3.12.1"]
    assert file.registries["registry.example.com"] == RegistryWish("john", "this is a secret")
    assert file.registries["other.example"].insecure
    scoped = read(SKOPEO, "sync.yml", destinations=("my.example",), scoped=True)
    assert scoped.tasks[0].targets == ("my.example/registry.example.com/busybox",)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("[[sync]]\nsource='a/b'\ntarget='c/d'\ntag={}", "x.toml", "tag is not known"),
        ("[[sync]]\nsource='a/b'", "x.toml", "source and targets are needed"),
        ("[[sync]]\nsource='a/b:1'\ntarget='c/d'\ntags=['1']", "x.toml", "tags have nothing"),
        ("[[sync]]\nsource='a/b'\ntarget='c/d'\ncron='61 * * * *'", "x.toml", "minute"),
        ("[[sync]]\nsource='a/b'\ntarget='c/d'\ninterval='soon'", "x.toml", "interval must be a duration"),
        ("[[sync]]\nsource='a/b'\ntarget='c/d'\nprune-limit='lots'", "x.toml", "prune-limit"),
        ("[[sync]]\nsource='a/b'\ntarget='c/d'\nprune='yes'", "x.toml", "prune must be true or false"),
        ("jobs=1", "x.toml", "no [[sync]]"),
        ("[[sync", "x.toml", "is not TOML"),
        ("a: [", "x.yml", "is not YAML"),
        ("just text", "x.yml", "neither knarr's, nor regsync's"),
        ("sync: [{source: a, target: b, type: all}]", "x.yml", "type 'all'"),
        ("sync: [{source: a/b, target: c/d, type: repository, tags: {allow: ['(']}}]", "x.yml", "regular expression"),
        ("version: 2\nsync: []", "x.yml", "version 2"),
        ("creds: [{registry: a, mirrors: [b]}]\nsync: []", "x.yml", "mirrors is not read from here"),
        ("a.example: {images: {b: []}}", "x.yml", "does not say where to"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, name: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text, name)
    assert words in caught.value.message
    assert name in caught.value.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["sync", "source", "target", "tags", "type", "defaults", "creds", "images", "interval", "platforms"]
                ),
                x,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_document_gives_tasks_or_a_usage_error(data: Any) -> None:
    import json

    try:
        parse(json.dumps(data).encode(), "x.yml", {}, destinations=("to.example",))
    except UsageError:
        return
