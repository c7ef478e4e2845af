"""Policies: which rule speaks of an image, what files may say, and that nothing passes for want of a rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import UsageError
from knarr.spec.reference import Reference
from knarr.trust.guard import Guard, Untrusted
from knarr.trust.policy import ACCEPT, DOCKER, OCI, REJECT, SIGNED
from knarr.trust.policyfile import read
from knarr.trust.signing import TAG, SignOptions, sign_image

from .conftest import PROVENANCE, Keys, Stage

APP = Reference.parse("registry.example/team/app:1")


@pytest.fixture
def directory(tmp_path: Path, keys: Keys) -> Path:
    (tmp_path / "one.pub").write_bytes(keys.one.public.pem)
    (tmp_path / "two.pub").write_bytes(keys.two.public.pem)
    return tmp_path


def policy(directory: Path, text: str) -> Path:
    path = directory / "trust.toml"
    path.write_text(text)
    return path


RULES = """
[[rule]]
images = ["registry.example"]
accept = true
[[rule]]
images = ["registry.example/team", "*.corp.example"]
keys = ["one.pub"]
[[rule]]
images = ["registry.example/team/app:2", "oci:/srv/images"]
reject = true
"""


@pytest.mark.parametrize(
    ("transport", "name", "kind"),
    [
        (DOCKER, "registry.example/other:1", ACCEPT),
        (DOCKER, "registry.example/team/app:1", SIGNED),
        (DOCKER, "registry.example/teamwork/app:1", ACCEPT),
        (DOCKER, "registry.example/team/app:2", REJECT),
        (DOCKER, "registry.example/team/app:2@sha256:" + "a" * 64, REJECT),
        (DOCKER, "registry.example/team/app@sha256:" + "a" * 64, SIGNED),
        (DOCKER, "a.corp.example/x:1", SIGNED),
        (DOCKER, "a.b.corp.example:5000/x:1", SIGNED),
        (DOCKER, "corp.example/x:1", REJECT),
        (DOCKER, "busybox", REJECT),
        (OCI, "/srv/images/app", REJECT),
        (OCI, "/elsewhere", REJECT),
    ],
)
def test_the_most_specific_rule_speaks_and_else_the_default(
    directory: Path, transport: str, name: str, kind: str
) -> None:
    found = read(policy(directory, RULES))
    asked = found.requirements(transport, Reference.parse(name) if transport == DOCKER else name)
    assert asked.items[0].kind == kind


def test_an_empty_policy_refuses_everything(directory: Path, stage: Stage) -> None:
    guard = Guard(read(policy(directory, "")))
    with pytest.raises(Untrusted, match=r"registry\.example/team/app:1: the trust policy refuses it"):
        guard.check(stage.place, stage.root, DOCKER, APP)


def test_a_policy_may_let_everything_pass(directory: Path, stage: Stage) -> None:
    for text in ('default = "accept"', '[[rule]]\nimages = ["*"]\naccept = true'):
        assert Guard(read(policy(directory, text))).check(stage.place, stage.root, DOCKER, APP) == ()


def test_a_signature_is_asked_for(directory: Path, stage: Stage, keys: Keys) -> None:
    guard = Guard(read(policy(directory, RULES)))
    with pytest.raises(Untrusted, match="there is no signature"):
        guard.check(stage.place, stage.root, DOCKER, APP)
    sign_image(stage.place, stage.root, str(APP), SignOptions((keys.two,)))
    with pytest.raises(Untrusted, match=r"one\.pub"):
        guard.check(stage.place, stage.root, DOCKER, APP)
    sign_image(stage.place, stage.root, str(APP), SignOptions((keys.one,)))
    (verdict,) = guard.check(stage.place, stage.root, DOCKER, APP)
    assert verdict.signers == ("one.pub",)


def test_attestations_are_asked_of_every_platform(directory: Path, stage: Stage, keys: Keys) -> None:
    from knarr.trust.signing import sign_statement
    from knarr.trust.subjects import subjects_of, unsigned_statements

    text = f'[[rule]]\nimages = ["*"]\nkeys = ["one.pub"]\nattestations = ["{PROVENANCE}"]'
    guard = Guard(read(policy(directory, text)))
    options = SignOptions((keys.one,))
    sign_image(stage.place, stage.root, str(APP), options)
    for subject in subjects_of(stage.place, stage.root, recursive=True)[1:]:
        with pytest.raises(Untrusted, match="nobody signed it"):
            guard.check(stage.place, stage.root, DOCKER, APP)
        for said in unsigned_statements(stage.place, subject):
            sign_statement(stage.place, subject.descriptor, said, options)
    assert len(guard.check(stage.place, stage.root, DOCKER, APP)) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "trust.toml: "),
        ('defualt = "accept"', "'defualt' is not known"),
        ('default = "maybe"', "default 'maybe': not known"),
        ("[rule]", "rules are written as"),
        ("[[rule]]\naccept = true", "rule 1: images is missing"),
        ('[[rule]]\nimages = ["*"]', "exactly one of accept, reject, or keys"),
        ('[[rule]]\nimages = ["*"]\naccept = true\nkeys = ["one.pub"]', "exactly one of"),
        ('[[rule]]\nimages = ["*"]\nkeys = []', "nothing would be accepted"),
        ('[[rule]]\nimages = ["*"]\nkeys = ["no.pub"]', "no.pub: No such file"),
        ('[[rule]]\nimages = ["*"]\nkeys = ["one.pub"]\nthreshold = 2', "there are only 1 keys"),
        ('[[rule]]\nimages = ["*"]\nkeys = ["one.pub", "one.pub"]\nthreshold = 2', "threshold is 2"),
        ('[[rule]]\nimages = ["*"]\nkeys = ["one.pub"]\nthreshold = 0', "threshold must be"),
        (
            '[[rule]]\nimages = ["busybox"]\naccept = true\n[[rule]]\nimages = ["busybox"]\nreject = true',
            "earlier rule",
        ),
        ('[[rule]]\nimages = ["library/busybox"]\naccept = true', "names no registry"),
        ('[[rule]]\nimages = ["a.example/x*y"]\naccept = true', "is no scope"),
        ('[[rule]]\nimages = ["*"]\nkeys = ["one.pub"]\nname = "some"', "name 'some': not known"),
        ('[[rule]]\nimages = ["*"]\nidentities = [{subject = "a", issuer = "b"}]', "trusted-root is missing"),
        ('[[rule]]\nimages = ["*"]\nidentities = [{subject = "a"}]', "needs a subject and an issuer"),
        ('[[rule]]\nimages = ["*"]\nidentities = [{subject-pattern = "(", issuer = "b"}]', "no regular expression"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_whole(directory: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(policy(directory, text))
    assert says in caught.value.message


def containers(directory: Path, requirement: dict[str, Any], scope: str = "registry.example/team") -> Path:
    path = directory / "policy.json"
    found = {"default": [{"type": "reject"}], "transports": {"docker": {scope: [requirement]}}}
    path.write_text(json.dumps(found))
    return path


def sigstore(directory: Path, **more: Any) -> dict[str, Any]:
    return {"type": "sigstoreSigned", "keyPath": str(directory / "one.pub"), **more}


@pytest.mark.parametrize(
    ("identity", "signed", "accepted"),
    [
        (None, "registry.example/team/app:1", True),
        (None, "registry.example/team/app", False),
        ({"type": "matchRepository"}, "registry.example/team/app", True),
        ({"type": "exactReference", "dockerReference": "a.example/b:1"}, "a.example/b:1", True),
        ({"type": "exactRepository", "dockerRepository": "a.example/b"}, "a.example/b:9", True),
        ({"type": "exactRepository", "dockerRepository": "a.example/b"}, "registry.example/team/app:1", False),
        (
            {"type": "remapIdentity", "prefix": "registry.example/team", "signedPrefix": "a.example/b"},
            "a.example/b/app:1",
            True,
        ),
    ],
)
def test_policy_json_compares_names_as_containers_does(
    directory: Path, stage: Stage, keys: Keys, identity: dict[str, str] | None, signed: str, accepted: bool
) -> None:
    sign_image(stage.place, stage.root, signed, SignOptions((keys.one,), TAG))
    more = {"signedIdentity": identity} if identity else {}
    guard = Guard(read(containers(directory, sigstore(directory, **more))))
    if accepted:
        assert guard.check(stage.place, stage.root, DOCKER, APP)
    else:
        with pytest.raises(Untrusted, match=f"it signs {signed}"):
            guard.check(stage.place, stage.root, DOCKER, APP)


@pytest.mark.parametrize(
    ("requirement", "says"),
    [
        ({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}, "GPG"),
        ({"type": "sigstoreSigned", "fulcio": {"caPath": "/c"}}, "with fulcio is not checked here"),
        ({"type": "sigstoreSigned", "pki": {}}, "with pki is not checked here"),
        ({"type": "reject"}, "refuses it"),
    ],
)
def test_what_policy_json_asks_and_cannot_be_checked_refuses(
    directory: Path, stage: Stage, requirement: dict[str, Any], says: str
) -> None:
    guard = Guard(read(containers(directory, requirement)))
    with pytest.raises(Untrusted, match=says):
        guard.check(stage.place, stage.root, DOCKER, APP)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a policy"),
        ("{}", "default is missing"),
        ('{"default":[]}', "a list of requirements that is not empty"),
        ('{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}', "occurs twice"),
        ('{"default":[{"type":"maybe"}]}', "'maybe' is not known"),
        ('{"default":[{"type":"reject","x":1}]}', "'x' is not known"),
        ('{"default":[{"type":"sigstoreSigned"}]}', "exactly one of"),
        ('{"default":[{"type":"sigstoreSigned","keyPath":"/no/where"}]}', "/no/where: No such file"),
        ('{"default":[{"type":"sigstoreSigned","keyData":"***"}]}', "not base64"),
    ],
)
def test_a_policy_json_that_containers_would_not_take_is_refused(directory: Path, text: str, says: str) -> None:
    path = directory / "policy.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read(path)
    assert says in caught.value.message
