"""What people who know cosign type: its other names for our flags, what asks for nothing here, and what is refused.

None of it is shown in help texts. A flag that would weaken a check is never taken for granted.
"""

from __future__ import annotations

from knarr.cli.flags import Flag, Kind, Parsed

_EITHER = ("true", "false")


def _ignored(name: str, short: str = "") -> Flag:
    return Flag(name, Kind.REFUSED_SWITCH, short=short, off=_EITHER)


def _off(name: str, instead: str) -> Flag:
    return Flag(name, Kind.REFUSED_SWITCH, summary=instead, off=("false",))


def _refused(instead: str, *names: str) -> tuple[Flag, ...]:
    return tuple(Flag(name, Kind.REFUSED, summary=instead) for name in names)


_BOTH = (
    Flag("annotations", Kind.LIST, "KEY=VALUE"),
    _off("allow-insecure-registry", "use --insecure HOST, for that registry alone"),
    _off("allow-http-registry", "use --insecure HOST, for that registry alone"),
    _off("sk", "name a key in a token by its URI: --key 'pkcs11:…'"),
    *_refused("name a key in a token by its URI: --key 'pkcs11:…'", "slot"),
    *_refused("`knarr login` keeps logins", "registry-username", "registry-password", "registry-token"),
    *_refused("put the certificate into certs.d: docs/guide/registries.md", "registry-cacert", "registry-client-cert"),
)
SIGNING = (
    *_BOTH,
    _ignored("yes", "y"),
    _off("tlog-upload", "what a key signs is told to no log; --keyless tells sigstore's"),
    _off("new-bundle-format", "use --form bundle, or leave it out: both forms are written"),
    Flag("upload", Kind.REFUSED_SWITCH, summary="signatures are written beside the image only", off=("true",)),
    _off("no-upload", "signatures are written beside the image only"),
    *_refused("signatures are written beside the image only", "output-signature", "output-payload", "payload"),
    *_refused("--trust-config FILE names services of your own", "rekor-url", "fulcio-url", "oidc-issuer"),
    *_refused("a key signs without one; --keyless has one made", "certificate", "certificate-chain"),
    *_refused("use --identity NAME", "sign-container-identity"),
)
_ROOT = "--trusted-root FILE has the authorities and the logs behind certificates"
VERIFYING = (
    *_BOTH,
    Flag("output", Kind.TEXT, "FORM", short="o"),
    _ignored("insecure-ignore-tlog"),  # no log is asked about keys; a certificate without one is refused all the same
    _ignored("offline"),
    _ignored("new-bundle-format"),  # both forms are read
    _ignored("experimental-oci11"),
    _off("insecure-ignore-sct", _ROOT),
    _off("private-infrastructure", f"leave it out: no log is asked about keys, and {_ROOT}"),
    Flag("check-claims", Kind.REFUSED_SWITCH, summary="what is signed is compared always", off=("true",)),
    _off("local-image", "name the layout: oci:DIR"),
    _off("use-signed-timestamps", _ROOT),
    *_refused(_ROOT, "certificate", "certificate-chain", "ca-roots", "ca-intermediates", "rekor-url"),
    *_refused(_ROOT, "timestamp-certificate-chain"),
    *_refused("give it to `knarr attest show --format json` and judge that", "certificate-github-workflow-repository"),
)
POLICY_OF_ATTESTATIONS = _refused(
    "neither CUE nor Rego is evaluated; `knarr attest show --format predicate` gives a program what to judge", "policy"
)


def annotation_words(given: Parsed) -> tuple[str, ...]:
    """The words of `--annotation`, and of cosign's `--annotations`, which has several in one with commas."""
    return (*given.list("annotation"), *(one for word in given.list("annotations") for one in word.split(",")))


def wants_json(given: Parsed) -> bool:
    """Whether `--format` or cosign's `--output` asks for JSON."""
    return "json" in (given.text("format"), given.text("output"))
