"""Why a builder could not be reached: gRPC says it in words for its own developers, so it is looked at once more.

A second connection is made by hand, as far as it goes: to the address, through
TLS, and to the first bytes of HTTP/2.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING

from knarr.errors import KnarrError

if TYPE_CHECKING:
    import ssl

    from knarr.client.address import Address
    from knarr.client.relay import Relay
    from knarr.client.tls import Tls

_CONNECT_S = 5.0
_SPEAK_S = 3.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # and an empty SETTINGS
_SETTINGS = 4


def explain(address: Address, tls: Tls, relay: Relay | None, said: str) -> KnarrError:
    """The failure as a person is told of it; `said` are gRPC's words, for want of better ones."""
    if relay is not None:
        return _relayed(address, relay)
    try:
        with _dialled(address) as connection:
            if tls.given and address.kind == "tcp":
                return _over_tls(address, tls, connection, said)
            return _heard(address, _first_bytes(connection), said, plain=address.kind == "tcp")
    except OSError as error:
        return _unreachable(address, error)


def _relayed(address: Address, relay: Relay) -> KnarrError:
    program = address.command[0]
    if relay.missing:
        return KnarrError(f"builder {address}: {program} is not installed", hint=f"install {program}, or use tcp://")
    said = relay.last_words()
    hint = "try it by hand: " + " ".join(address.command[:-1] if program == "ssh" else address.command)
    return KnarrError(
        f"builder {address} cannot be reached through {program}" + (f": {said}" if said else ""), hint=hint
    )


def _dialled(address: Address) -> socket.socket:
    if address.kind == "unix":
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_CONNECT_S)
            connection.connect(address.target)
        except BaseException:
            connection.close()
            raise
        return connection
    host, _, port = address.target.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S)


def _unreachable(address: Address, error: OSError) -> KnarrError:
    start = "start one there: `knarr daemon --addr ADDRESS`, or buildkitd; or give another --builder"
    if isinstance(error, socket.gaierror):
        return KnarrError(f"builder {address}: there is no such host", hint="see how the name is spelled")
    if isinstance(error, TimeoutError):
        return KnarrError(f"no builder answers at {address}", hint="see whether the host is up and its port open")
    if error.errno == errno.EACCES:
        who = f"be in the group that owns {address.target}" if os.path.exists(address.target) else "be who may use it"
        return KnarrError(f"builder {address}: {os.strerror(errno.EACCES)}", hint=f"{who}, or use sudo")
    return KnarrError(f"no builder listens at {address}: {error.strerror or error}", hint=start)


def _over_tls(address: Address, tls: Tls, connection: socket.socket, said: str) -> KnarrError:
    import ssl

    name = tls.server_name or address.target.rpartition(":")[0].strip("[]")
    try:
        with tls.context().wrap_socket(connection, server_hostname=name) as secured:
            data = _first_bytes(secured)
        # gRPC's servers say nothing when they do not like a certificate: they hang up.
        return _heard(address, data, said, plain=False) if data else _refused(address, tls)
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message or "it cannot be verified"
        hint = "--tlscacert names the authority that signed it; --tlsservername the name it is for"
        return KnarrError(f"the certificate of builder {address} is not trusted: {why}", hint=hint)
    except ssl.SSLError as error:
        return _tls_failure(address, tls, error)


def _tls_failure(address: Address, tls: Tls, error: ssl.SSLError) -> KnarrError:
    reason = (error.reason or "").upper()
    if "WRONG_VERSION" in reason or "RECORD_LAYER" in reason or "HTTP" in reason:
        return KnarrError(f"builder {address} does not speak TLS", hint="leave out the certificates (--tls…)")
    if "ALERT" in reason or "CERTIFICATE" in reason:
        return _refused(address, tls)
    return KnarrError(f"builder {address}: TLS failed: {error.reason or error}")


def _refused(address: Address, tls: Tls) -> KnarrError:
    if not tls.cert:
        hint = "give the certificate it knows us by: --tlscert FILE --tlskey FILE"
        return KnarrError(f"builder {address} wants to see a client certificate", hint=hint)
    hint = f"--tlscert has to be signed by the authority that the builder trusts, and still be valid: {tls.cert}"
    return KnarrError(f"builder {address} refuses our certificate", hint=hint)


def _first_bytes(connection: socket.socket) -> bytes:
    connection.settimeout(_SPEAK_S)
    with contextlib.suppress(TimeoutError, ConnectionError):
        connection.sendall(_PREFACE)
        return connection.recv(256)
    return b""


def _heard(address: Address, data: bytes, said: str, *, plain: bool) -> KnarrError:
    if len(data) >= 9 and data[3] == _SETTINGS:  # it speaks HTTP/2: whatever it is, the connection works
        return KnarrError(f"builder {address} does not answer: {said}", hint="see the log of the daemon there")
    if data[:2] == b"\x15\x03" or (plain and b"HTTPS" in data):
        hint = "--tlscacert names the authority that signed its certificate (and --tlscert, --tlskey ours)"
        return KnarrError(f"builder {address} speaks TLS", hint=hint)
    if data:
        line = data.split(b"\n")[0][:60].decode(errors="replace").strip()
        hint = "give the address of a buildkitd, or of `knarr daemon`"
        return KnarrError(f"the server at {address} is no buildkitd: it answers {line!r}", hint=hint)
    hint = "it may want TLS (--tlscacert, --tlscert, --tlskey), or be something else"
    return KnarrError(f"the server at {address} hangs up without a word", hint=hint if plain else "see its log")
