"""What a failed call of containerd's means, and what it must hear when a call to us failed."""

from __future__ import annotations

import errno
from typing import Any, NoReturn

import grpc

from knarr import disk
from knarr.errors import Cancelled, ContentError, KnarrError, NotFound, Unsupported, UsageError

_TOLD = 1000  # characters of its own words


class AlreadyExists(KnarrError):
    """What was to be made is there."""


class Gone(KnarrError):
    """containerd does not answer, or stopped answering."""


class Refused(KnarrError):
    """It did not do it, for the state that something is in, or because it can never be done."""


class Busy(KnarrError):
    """Somebody else writes the same at this moment."""


def failure_of(error: grpc.RpcError, address: str) -> KnarrError | Cancelled:
    """What a failed call to the containerd at `address` means to us."""
    call: Any = error  # a grpc.Call as well, by grpc's documentation
    code, words = call.code(), (call.details() or call.code().name.lower())[:_TOLD]
    if code is grpc.StatusCode.CANCELLED:
        return Cancelled()
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFound(f"containerd: {words}")
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return AlreadyExists(f"containerd: {words}")
    if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT):
        return Refused(f"containerd: {words}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Unsupported(f"the containerd at {address} cannot do this: {words}", hint="containerd 1.6 or newer can")
    if code is grpc.StatusCode.UNAVAILABLE:
        if "locked" in words:  # containerd's own "unavailable": an upload under this name is open
            return Busy(f"containerd: {words}")
        if "while dialing" in words and address not in words:  # its own words, of a proxy plugin that does not run
            return KnarrError(
                f"the containerd at {address} cannot reach a plugin of its own: {words}",
                hint="is the snapshotter running, at the address in containerd's configuration?",
            )
        return Gone(
            f"the containerd at {address} went away: {words}",
            hint="is it being restarted? run the same again: what has arrived there is not sent twice",
        )
    return KnarrError(f"containerd: {words}", hint="its log may say more" if code is grpc.StatusCode.UNKNOWN else "")


def abort(context: grpc.ServicerContext, error: BaseException) -> NoReturn:
    """End a call from containerd with `error`, by the code from which it tells what to do."""
    context.abort(_code(error), _words(error))


def _words(error: BaseException) -> str:
    if isinstance(error, KnarrError):
        return error.message + (f" ({error.hint})" if error.hint else "")
    return str(error)


def _code(error: BaseException) -> grpc.StatusCode:
    table: tuple[tuple[type[BaseException], grpc.StatusCode], ...] = (
        (NotFound, grpc.StatusCode.NOT_FOUND),
        (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
        (Refused, grpc.StatusCode.FAILED_PRECONDITION),
        (UsageError, grpc.StatusCode.INVALID_ARGUMENT),
        (Unsupported, grpc.StatusCode.UNIMPLEMENTED),
        (ContentError, grpc.StatusCode.FAILED_PRECONDITION),
        (Cancelled, grpc.StatusCode.CANCELLED),
    )
    if disk.lacks_room(error) or (isinstance(error, OSError) and error.errno == errno.EDQUOT):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return next((code for kind, code in table if isinstance(error, kind)), grpc.StatusCode.UNKNOWN)
