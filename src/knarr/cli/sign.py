"""`knarr sign`: put signatures of an image beside it, in the forms that cosign, skopeo and podman check."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from knarr.cli.cosignflags import SIGNING, annotation_words, wants_json
from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.signkeys import KEY_FLAG, KEYLESS_FLAGS, PASSPHRASE_FLAG, keyless, signers
from knarr.cli.transfer import words_of
from knarr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.image.spot import Spot
    from knarr.spec.descriptor import Descriptor
    from knarr.trust.signing import Made, SignOptions

INSECURE_FLAG = Flag(
    "insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"
)
FORMAT_FLAG = Flag("format", Kind.TEXT, "FORM", "json: for programs")
HELP_FLAG = Flag("help", Kind.SWITCH, "", "show this text", short="h")
FORM_FLAG = Flag(
    "form", Kind.TEXT, "FORM", "both (the default), tag: cosign's sha256-….sig, bundle: a sigstore bundle as a referrer"
)
FLAGS = (
    KEY_FLAG,
    PASSPHRASE_FLAG,
    *KEYLESS_FLAGS,
    Flag("annotation", Kind.LIST, "KEY=VALUE", "say this in the signature", short="a"),
    Flag("recursive", Kind.SWITCH, "", "sign every platform of an index, too", short="r"),
    FORM_FLAG,
    Flag("identity", Kind.TEXT, "NAME", "the name that is signed (default: the image's, with its tag)"),
    Flag("replace", Kind.SWITCH, "", "take away earlier signatures of the same key in the tag"),
    Flag("attestations", Kind.SWITCH, "", "sign the attestations of the index as well (provenance, SBOM)"),
    INSECURE_FLAG,
    FORMAT_FLAG,
    HELP_FLAG,
    *SIGNING,
)


def help_text() -> str:
    """What `knarr sign --help` prints."""
    return (
        "Usage: knarr sign [OPTIONS] IMAGE...\n"
        "       knarr sign generate-key [OPTIONS] [PREFIX]\n\n"
        "Sign images in a registry, a layout (oci:DIR:TAG) or the store (store:NAME). The signatures go beside\n"
        "the image; its digest stays. Nothing is told to a transparency log, except with --keyless.\n\n"
        "podman and skopeo pull one platform of an index and look for that platform's own signature: sign with\n"
        f"--recursive for them.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr sign ARGUMENTS`.

    Raises:
        KnarrError: a key cannot be used, or an image not be signed; those before it were.
    """
    if argv[:1] in (["generate-key"], ["generate-key-pair"]):  # the latter is cosign's
        from knarr.cli.signgenerate import run as generate

        return generate(argv[1:])
    given = parse(FLAGS, argv, command="knarr sign")
    if given.switch("help"):
        print(help_text())
        return 0
    words = words_of(given, "knarr sign", "an image")
    options = sign_options(given)
    made = [one for word in words for one in _sign(word, given, options)]
    tell(made, given)
    return 0


def sign_options(given: Parsed) -> SignOptions:
    """Who signs, and in which form.

    Raises:
        UsageError: a form that is not known, a key that cannot be used.
        PassphraseWrong
    """
    from knarr.trust.signing import BUNDLE, FORMS, SignOptions, annotations_of

    form = given.text("form", FORMS[0])
    if form not in FORMS:
        raise UsageError(f"--form {form}: not known", hint=f"use one of: {', '.join(FORMS)}")
    check_format(given)
    said, replace = annotations_of(annotation_words(given)), given.switch("replace")
    identity = keyless(given)
    if identity is not None:
        return SignOptions((), BUNDLE, said, replace, identity)
    return SignOptions(signers(given), form, said, replace)


def check_format(given: Parsed) -> None:
    """Raises:
    UsageError: `--format` asks for a form that is not known.
    """
    if given.text("format") not in ("", "json"):
        raise UsageError(f"--format {given.text('format')}: not known", hint="use json")
    if given.text("output") not in ("", "json", "text"):
        raise UsageError(f"--output {given.text('output')}: not known", hint="use json or text")


def tell(made: Sequence[tuple[str, Made]], given: Parsed) -> None:
    """Print what was written, a line for each."""
    if wants_json(given):
        print(json.dumps([_described(name, one) for name, one in made], indent=2))
        return
    for name, one in made:
        print(f"{name}@{one.subject}  {one.what}  {one.descriptor.digest}")


def _described(name: str, one: Made) -> dict[str, Any]:
    return {"image": name, "digest": str(one.subject), "form": one.what, "manifest": str(one.descriptor.digest)}


def _sign(word: str, given: Parsed, options: SignOptions) -> Iterator[tuple[str, Made]]:
    from knarr.cli.signplace import opened_for_signing
    from knarr.trust.signing import sign_image, sign_statement
    from knarr.trust.subjects import subjects_of, unsigned_statements

    with opened_for_signing(word, given) as (where, place, root):
        identity = given.text("identity") or _identity(where)
        for subject in subjects_of(place, root, recursive=given.switch("recursive")):
            for one in sign_image(place, subject.descriptor, identity, options):
                yield where.repository, one
        if given.switch("attestations"):
            for subject in subjects_of(place, root, recursive=True):
                for statement in unsigned_statements(place, subject):
                    for one in sign_statement(place, subject.descriptor, statement, options):
                        yield where.repository, one


def _identity(where: Spot) -> str:
    """The name of an image for a signature. A file has none: what its tag says."""
    if where.reference is None:
        return where.tag
    reference = where.reference
    name = f"{reference.registry}/{reference.repository}"
    return f"{name}:{reference.tag}" if reference.tag else name


def root_line(where: Spot, root: Descriptor) -> str:
    """An image, for people: its name and its digest."""
    from knarr.image.spot import shown_name

    name = shown_name(where)
    return name if name.endswith(str(root.digest)) else f"{name}@{root.digest}"
