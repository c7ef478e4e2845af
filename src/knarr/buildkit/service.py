"""gRPC services as their descriptors tell them: what serves each method, and what calls it.

No code is generated for services: a descriptor has every name and type that is
needed. A method `ResolveImageConfig` is served by `resolve_image_config` of the
implementation (`Return` by `return_`); one that the implementation lacks answers
UNIMPLEMENTED. Each takes the message (an iterator of messages where the client streams) and the call's
context, and gives the answer, or an iterator of answers where the server streams.

    server.add_generic_rpc_handlers((serving(LLB_BRIDGE, Gateway(...)),))
    pong = Caller(channel, LLB_BRIDGE).unary("Ping", PingRequest())
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message_factory import GetMessageClass

from knarr.buildkit.failure import abort, failure_of
from knarr.errors import Cancelled, KnarrError

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

    from knarr.scope import Scope

Abort = Callable[[grpc.ServicerContext, BaseException], NoReturn]
Failure = Callable[[grpc.RpcError], BaseException]

MAX_MESSAGE_BYTES = 16 << 20  # BuildKit's, both ways
# For servers and channels alike. Metadata carries the text of a Dockerfile that failed: gRPC's own limit is 8 KiB.
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_MESSAGE_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_MESSAGE_BYTES),
)


def serving(service: ServiceDescriptor, implementation: object, *, fail: Abort = abort) -> grpc.GenericRpcHandler:
    """What a `grpc.Server` is given so that `implementation` answers for `service`; `fail` ends a call that failed."""
    methods = {}
    for method in service.methods:
        behaviour = getattr(implementation, _snake(method.name), None)
        if behaviour is not None:
            methods[method.name] = _handler(method, behaviour, fail)
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def methods_of(service: ServiceDescriptor, implementation: object) -> list[str]:
    """The paths of the methods that `implementation` answers for."""
    return [
        f"/{service.full_name}/{method.name}"
        for method in service.methods
        if hasattr(implementation, _snake(method.name))
    ]


def raw(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a method that takes messages as bytes: what they are depends on the call."""
    behaviour.raw = True  # type: ignore[attr-defined]  # read by `_handler`
    return behaviour


class Caller:
    """Calls the methods of one service at the far end of a channel.

    Raises (all methods):
        KnarrError: the far end failed: with its own words, and the place where it told one.
        Cancelled: the call was cancelled.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        service: ServiceDescriptor,
        *,
        metadata: Sequence[tuple[str, str]] = (),
        failure: Failure = failure_of,
    ) -> None:
        """`metadata` goes with every call; `failure` says what a failed one means."""
        self._channel = channel
        self._methods = {method.name: method for method in service.methods}
        self._metadata = tuple(metadata)
        self._failure = failure

    def unary(self, name: str, message: Message, *, timeout_s: float | None = None) -> Any:
        """The answer to one message: of the type that the method gives."""
        try:
            return self._call(name)(message, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def waited(self, name: str, message: Message, *, scope: Scope, silent: Sequence[grpc.StatusCode] = ()) -> Any:
        """`unary` without a limit, ended with `scope`; None where the far end fails with a status of `silent`."""
        call = self.begin(name, message)
        with scope.on_cancel(call.cancel):
            try:
                return call.result()
            except grpc.FutureCancelledError:
                raise Cancelled from None
            except grpc.RpcError as error:
                if error.code() in silent:
                    return None
                raise self._failure(error) from None

    def begin(
        self,
        name: str,
        message: Message,
        *,
        metadata: Sequence[tuple[str, str]] = (),
        timeout_s: float | None = None,
    ) -> Any:
        """A call with one answer, under way: a future of grpc's, with grpc's failures."""
        call: Any = self._call(name)  # a grpc.UnaryUnaryMultiCallable, which has more than a call
        return call.future(message, metadata=(*self._metadata, *metadata), timeout=timeout_s)

    def stream(
        self,
        name: str,
        messages: Message | Iterator[Message],
        *,
        metadata: Sequence[tuple[str, str]] = (),
        answer: type[Message] | None = None,
    ) -> Any:
        """The call under way, an iterator of answers. Its failures are grpc's: hand them to `failure.failure_of`.

        `answer` is the type of the answers where it is another than the service says.
        """
        return self._call(name, answer)(messages, metadata=(*self._metadata, *metadata))

    def _call(self, name: str, answer: type[Message] | None = None) -> Callable[..., Any]:
        method = self._methods[name]
        kind = f"{_arity(method.client_streaming)}_{_arity(method.server_streaming)}"
        call: Callable[..., Any] = getattr(self._channel, kind)(
            f"/{method.containing_service.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=(answer or GetMessageClass(method.output_type)).FromString,
        )
        return call


def _handler(method: MethodDescriptor, behaviour: Callable[..., Any], fail: Abort) -> grpc.RpcMethodHandler[Any, Any]:
    kind = f"{_arity(method.client_streaming)}_{_arity(method.server_streaming)}_rpc_method_handler"
    handler: grpc.RpcMethodHandler[Any, Any] = getattr(grpc, kind)(
        _streaming(behaviour, fail) if method.server_streaming else _answering(behaviour, fail),
        request_deserializer=bytes
        if getattr(behaviour, "raw", False)
        else GetMessageClass(method.input_type).FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    return handler


def _answering(behaviour: Callable[..., Any], fail: Abort) -> Callable[..., Any]:
    @wraps(behaviour)
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behaviour(request, context)
        except (KnarrError, OSError, Cancelled) as error:
            fail(context, error)

    return answer


def _streaming(behaviour: Callable[..., Iterator[Any]], fail: Abort) -> Callable[..., Iterator[Any]]:
    @wraps(behaviour)
    def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(request, context)
        except (KnarrError, OSError, Cancelled) as error:
            fail(context, error)

    return answers


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def _snake(name: str) -> str:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f"{name}_" if keyword.iskeyword(name) else name
