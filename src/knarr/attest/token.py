"""Private keys that never leave a token: PKCS #11, by the library `python-pkcs11` (the extra `knarr[pkcs11]`).

    open_token_key("pkcs11:token=release;object=images?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/pin")

The address is RFC 7512's. What may stand in it: token, object, id, serial, slot-id;
module-path, pin-value, pin-source. Without a module, PKCS11_MODULE_PATH names it; without
a PIN, PKCS11_PIN has it. Tried with SoftHSM 2.6.

Spec: RFC 7512 (the URI), PKCS #11 v2.40.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, utils

from knarr.attest.keys import PublicKey, usable
from knarr.errors import KnarrError, Unsupported, UsageError
from knarr.record import record

MODULE, PIN = "PKCS11_MODULE_PATH", "PKCS11_PIN"  # cosign's names
_PATH = ("token", "object", "id", "serial", "slot-id", "type", "manufacturer", "model")
_QUERY = ("module-path", "module-name", "pin-value", "pin-source")


@record
class Address:
    """What a URI names."""

    path: dict[str, str]
    query: dict[str, str]
    id: bytes = b""

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that `text` is.

        Raises:
            UsageError: it is none.
        """
        rest = text.removeprefix("pkcs11:")
        path_text, _, query_text = rest.partition("?")
        path, raw = _pairs(path_text, ";", _PATH, text)
        query, _ = _pairs(query_text, "&", _QUERY, text)
        return cls(path, query, raw.get("id", b""))


def _pairs(part: str, between: str, known: tuple[str, ...], text: str) -> tuple[dict[str, str], dict[str, bytes]]:
    found, raw = {}, {}
    for word in part.split(between) if part else ():
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise UsageError(f"{_shown(text)}: {name!r} is not known", hint=f"known are: {', '.join(known)}")
        found[name], raw[name] = unquote(value), unquote_to_bytes(value)
    return found, raw


def open_token_key(text: str) -> TokenKey:
    """The private key that a PKCS #11 URI names, with a session that stays open.

    Raises:
        UsageError: the URI is none, or names no key or several.
        Unsupported: the library is not installed.
        KnarrError: the token says no.
    """
    address = Address.parse(text)
    try:
        import pkcs11
    except ImportError:
        raise Unsupported(
            f"{_shown(text)}: keys of tokens need python-pkcs11", hint="pip install 'knarr[pkcs11]'"
        ) from None
    module = address.query.get("module-path") or os.environ.get(MODULE)
    if not module:
        raise UsageError(f"{_shown(text)}: no module is named", hint=f"add ?module-path=FILE, or set {MODULE}")
    try:
        session = _token(pkcs11, module, address, text).open(user_pin=_pin(address, text))
        return TokenKey(pkcs11, session, *_keys(pkcs11, session, address, text))
    except pkcs11.PKCS11Error as error:
        raise KnarrError(f"{_shown(text)}: the token says {type(error).__name__}{_said(error)}") from None
    except RuntimeError as error:  # a module that cannot be loaded
        raise UsageError(f"{_shown(text)}: {error}") from None


def _token(pkcs11: Any, module: str, address: Address, text: str) -> Any:
    library = pkcs11.lib(module)
    label, serial, slot = (address.path.get(name) for name in ("token", "serial", "slot-id"))
    found = [
        one.get_token() for one in library.get_slots(token_present=True) if slot is None or str(one.slot_id) == slot
    ]
    found = [
        token
        for token in found
        if token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED
        and label in (None, token.label.strip())
        and serial in (None, _text(token.serial))
    ]
    if len(found) != 1:
        raise UsageError(f"{_shown(text)}: {len(found) or 'no'} tokens fit", hint="name it: pkcs11:token=LABEL")
    return found[0]


def _pin(address: Address, text: str) -> str | None:
    source = address.query.get("pin-source", "").removeprefix("file:")
    if source:
        try:
            with open(source, encoding="utf-8") as file:
                return file.read().rstrip("\r\n")
        except OSError as error:
            raise UsageError(f"{_shown(text)}: pin-source {source}: {error.strerror}") from None
    return address.query.get("pin-value") or os.environ.get(PIN)


def _keys(pkcs11: Any, session: Any, address: Address, text: str) -> tuple[Any, PublicKey]:
    wanted: dict[Any, Any] = {}
    if "object" in address.path:
        wanted[pkcs11.Attribute.LABEL] = address.path["object"]
    if address.id:
        wanted[pkcs11.Attribute.ID] = address.id
    found = list(session.get_objects({**wanted, pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}))
    if len(found) != 1:
        raise UsageError(f"{_shown(text)}: {len(found) or 'no'} private keys fit", hint="name it: object=LABEL or id=…")
    public = list(session.get_objects({**wanted, pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY}))
    if not public:
        raise UsageError(f"{_shown(text)}: the token has no public key beside the private one")
    key = serialization.load_der_public_key(_encoded(public[0]))
    return found[0], PublicKey(usable(key, _shown(text)), _shown(text))


def _encoded(public: Any) -> bytes:
    """A public key of a token as SubjectPublicKeyInfo."""
    import pkcs11
    from pkcs11.util import ec, rsa

    if public.key_type is pkcs11.KeyType.RSA:
        return _info(serialization.load_der_public_key(rsa.encode_rsa_public_key(public)))
    if public.key_type is pkcs11.KeyType.EC_EDWARDS:
        # The point is an OCTET STRING around 32 bytes; some tokens leave the wrapping away.
        return _info(ed25519.Ed25519PublicKey.from_public_bytes(bytes(public[pkcs11.Attribute.EC_POINT])[-32:]))
    encoded: bytes = ec.encode_ec_public_key(public)
    return encoded


def _info(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


class TokenKey:
    """A private key of a token. May be used from any thread; a session does one thing at a time."""

    def __init__(self, pkcs11: Any, session: Any, private: Any, public: PublicKey) -> None:
        self._pkcs11, self._session, self._private = pkcs11, session, private
        self._public = public
        self._lock = threading.Lock()

    @property
    def public(self) -> PublicKey:
        return self._public

    def sign(self, data: bytes) -> bytes:
        """A signature over `data`.

        Raises:
            KnarrError: the token does not sign.
        """
        mechanism = self._pkcs11.Mechanism
        try:
            with self._lock:
                if self._public.kind.startswith("rsa"):
                    return bytes(self._private.sign(data, mechanism=mechanism.SHA256_RSA_PKCS))
                if self._public.kind == "ed25519":
                    return bytes(self._private.sign(data, mechanism=mechanism.EDDSA))
                raw = bytes(self._private.sign(hashlib.sha256(data).digest(), mechanism=mechanism.ECDSA))
        except self._pkcs11.PKCS11Error as error:
            raise KnarrError(f"{self._public.name}: the token says {type(error).__name__}{_said(error)}") from None
        half = len(raw) // 2  # a token gives the two numbers side by side, everybody else reads DER
        return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def _said(error: Exception) -> str:
    return f": {error}" if str(error) else ""


def _text(value: Any) -> str:
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


def _shown(text: str) -> str:
    """The URI without its query, in which a PIN may stand."""
    return text.partition("?")[0]
