"""Sign as somebody instead of with a key: sigstore's services give a certificate for minutes, and log its use.

The library `sigstore` does it (the extra `knarr[keyless]`): it shows the identity token
to an authority, signs with a key that it then forgets, and has the log write it down.
All of that needs a network; without one it is refused before anything is written.

    signer = KeylessSigner.open(token, trust_config)
    raw = signer.bundle(statement)

Spec: sigstore client specification, section 3; tried with sigstore 4.5 and services of the tests' own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from knarr.attest.keyless import in_one_line
from knarr.errors import KnarrError, Unsupported, UsageError

TOKEN = "SIGSTORE_ID_TOKEN"  # cosign's and sigstore's name


class KeylessSigner:
    """An identity that signs. Its certificate is got with the first signature, and lives for some minutes."""

    def __init__(self, library: Any, context: Any, token: Any) -> None:
        self._library, self._context, self._token = library, context, token

    @classmethod
    def open(cls, token: str, trust_config: str = "", *, environ: Mapping[str, str] = os.environ) -> KeylessSigner:
        """The signer whom `token` names; `trust_config` is sigstore's JSON of services, the public ones when empty.

        Without a token the one of the environment is taken: a variable, or what a CI service hands out.

        Raises:
            Unsupported: the library is not installed.
            UsageError: there is no token, or one of these texts is none.
            KnarrError: the public services cannot be reached.
        """
        library = _library()
        try:
            raw = token or environ.get(TOKEN, "") or library.detect_credential() or ""
        except library.Error as error:
            raise KnarrError(f"this CI service gives no identity token: {in_one_line(error)}") from None
        if not raw:
            raise UsageError(
                "keyless signing needs an identity token",
                hint=f"give --identity-token FILE or ${TOKEN}, or use a CI service that hands one out, or a key: --key",
            )
        try:
            identity = library.IdentityToken(raw.strip())
        except library.Error as error:
            raise UsageError(f"the identity token cannot be used: {in_one_line(error)}") from None
        return cls(library, library.SigningContext.from_trust_config(_config(library, trust_config)), identity)

    def bundle(self, statement: bytes) -> bytes:
        """A bundle with `statement` in an envelope.

        Raises:
            KnarrError: a service says no, or cannot be reached.
        """
        try:
            with self._context.signer(self._token) as signer:
                return str(signer.sign_dsse(self._library.Statement(statement)).to_json()).encode()
        except Exception as error:  # the library's own, pydantic's, requests': all of them mean that nothing was signed
            raise KnarrError(
                f"keyless signing failed: {in_one_line(error)}",
                hint="it needs sigstore's services; without a network sign with a key: --key",
            ) from None


def _config(library: Any, text: str) -> Any:
    if text:
        try:
            return library.ClientTrustConfig.from_json(text)
        except Exception as error:  # whatever the library's model says of a text that is none
            raise UsageError(f"the trust configuration cannot be used: {in_one_line(error)}") from None
    try:
        return library.ClientTrustConfig.production()
    except Exception as error:
        raise KnarrError(
            f"sigstore's public services cannot be reached: {in_one_line(error)}",
            hint="without a network sign with a key (--key), or name services of your own: --trust-config FILE",
        ) from None


class _Library:
    """What is used of `sigstore`."""

    def __init__(self) -> None:
        import sigstore.dsse
        import sigstore.errors
        import sigstore.models
        import sigstore.oidc
        import sigstore.sign

        self.Statement = sigstore.dsse.Statement
        self.Error = sigstore.errors.Error
        self.ClientTrustConfig = sigstore.models.ClientTrustConfig
        self.IdentityToken, self.detect_credential = sigstore.oidc.IdentityToken, sigstore.oidc.detect_credential
        self.SigningContext = sigstore.sign.SigningContext


def _library() -> _Library:
    try:
        return _Library()
    except ImportError as error:
        raise Unsupported(
            f"keyless signing is not possible: {error.name} is not installed", hint="pip install 'knarr[keyless]'"
        ) from None
