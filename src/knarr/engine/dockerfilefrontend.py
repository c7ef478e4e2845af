"""The Dockerfile frontend that is built in, asked as any other: by options, with files that the solver reads.

The files come from the session's directory `dockerfile`, from the context where
that is a repository or an archive, or from an input; a file that names another
frontend is handed on to that one.

Spec: BuildKit's frontend/dockerui and frontend/dockerfile/builder at v0.33.
"""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from knarr.attest.wanted import SBOM
from knarr.attest.wanted import wanted as wanted_attestations
from knarr.errors import ContentError, Excerpt, KnarrError, NotFound, NothingLent, UsageError
from knarr.frontend.answer import CONFIG, to_answer
from knarr.frontend.bridge import ResolvedImage
from knarr.frontend.dockerfile.compile import compile as compile_dockerfile
from knarr.frontend.dockerfile.contexts import archive_context, remote_context
from knarr.frontend.dockerfile.syntax import wanted
from knarr.frontend.gateway import ONLY, Answer, Ref, UnsupportedCapability, UnsupportedRequest
from knarr.frontend.options import cache_imports, capabilities, from_options
from knarr.frontend.request import FrontendRequest, Input, Warning
from knarr.layer.magic import is_archive
from knarr.llb import definition
from knarr.llb.decode import decode
from knarr.llb.ops import Graph, SourceOp
from knarr.llb.state import Note, State, graph, source
from knarr.progress import Warned
from knarr.record import record, replace
from knarr.scope import Scope
from knarr.spec.config import ImageConfig, decode_config
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform, host_platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.engine.gateway import EngineGateway
    from knarr.frontend.dockerfile.subrequests import Answer as Subanswer
    from knarr.frontend.scanner import Scanner

_MAX_BYTES = 16 << 20  # of a Dockerfile, as `knarr build` has it
_DEFAULT = "Dockerfile"
_FETCHED = "context"  # what a file behind the URL of a context is called
_CAPS = {f"moby.buildkit.frontend.{name}" for name in ("inputs", "subrequests", "contexts", "gitquerystring")}
_NOTHING: Mapping[str, bytes] = {}
_REQUESTS = ("frontend.lint", "frontend.outline", "frontend.targets", "frontend.subrequests.describe")


def answer(gateway: EngineGateway, options: Mapping[str, str], inputs: Mapping[str, bytes], scope: Scope) -> Answer:
    """What the Dockerfile comes to, or the answer to the question that the option `requestid` asks.

    Raises:
        KnarrError: as `compile`, or where the files cannot be read.
    """
    if not all(inputs.values()):
        raise UsageError("invalid nil input definition to definition op")  # BuildKit's words
    files = _Files(gateway, from_options(options, b"").sessions, scope)
    found = _load(files, options, inputs)
    request = from_options({**options, "filename": found.name}, found.text, found.ignore)
    other = wanted(request) if "cmdline" not in options else None
    if other is not None:
        told = {**options, "source": other.image, "cmdline": other.command_line}
        try:
            return gateway.ask("gateway.v0", told, inputs, scope=scope)
        except KnarrError as error:
            excerpt = replace(other.excerpt, data=found.text, definition=found.ref.definition)
            raise error.with_context(span=other.span, excerpt=excerpt) from error.__cause__
    for cap in sorted(capabilities(options.get("frontend.caps", "")) - _CAPS):
        raise UnsupportedCapability(cap)
    request = replace(request, scanner=_scanner(options))
    for kind, attrs in cache_imports(options):
        gateway.import_cache(kind, attrs)
    request = replace(_with_inputs(request, options, inputs), definition=found.ref.definition)
    bridge = _Bridge(files, request.resolve_mode)
    if "requestid" in options:
        return _answer_to(options["requestid"], request, bridge)
    warnings: list[Warning] = []
    try:
        result = compile_dockerfile(request, bridge, warnings=warnings)
        for one in result.results:
            gateway.job.note_scans(one)
        return to_answer(result)
    except KnarrError as error:
        lines = found.text.decode(errors="replace").splitlines()
        if error.span is not None and error.span.file == request.filename:
            error.excerpt = Excerpt(tuple(lines), found.text, found.ref.definition)
        raise
    finally:
        for warning in warnings:
            gateway.warn(_warned(found, warning))


def _scanner(options: Mapping[str, str]) -> Scanner | None:
    """Who is to make the SBOM, if one is asked for."""
    attrs = wanted_attestations(options).get(SBOM)
    if attrs is None:
        return None
    from knarr.frontend.scanner import scanner_of

    return scanner_of(attrs)


def _with_inputs(request: FrontendRequest, options: Mapping[str, str], inputs: Mapping[str, bytes]) -> FrontendRequest:
    """`request` with the results that the caller lends as contexts.

    Raises:
        ContentError: one of them is no graph, or what is said of it no image.
    """
    given = {name: Input(decode(data), _config_of(name, options)) for name, data in inputs.items()}
    contexts = dict(request.contexts)
    if "context" in given and "context" not in contexts:
        contexts["context"] = "input:context"
    return replace(request, inputs=given, contexts=contexts)


def _config_of(name: str, options: Mapping[str, str]) -> ImageConfig | None:
    """The image config of an input, from what the result said of itself."""
    try:
        said = json.loads(options.get(f"input-metadata:{name}", "{}"))
        raw = base64.b64decode(said.get(CONFIG, ""))
    except (ValueError, TypeError, AttributeError) as error:
        raise ContentError(f"what is said of the input {name} makes no sense: {error}") from error
    return decode_config(raw) if raw else None


def dockerfile_state(name: str, *, directory: str = "dockerfile", lender: str = "") -> State:
    """The files of a directory that decide what the Dockerfile `name` says."""
    paths = [name, f"{name}.dockerignore"]
    if posixpath.basename(name) == _DEFAULT:
        paths.append(posixpath.join(posixpath.dirname(name), _DEFAULT.lower()))
    return lent_files(directory, paths, shown=f"load build definition from {name}", lender=lender)


def lent_files(name: str, paths: Sequence[str], *, shown: str, hint: str = "", lender: str = "") -> State:
    """Files of a directory that a session lends; `lender` is its id, where it is not the caller's own."""
    attrs = {
        **({"local.session": lender} if lender else {}),
        "local.followpaths": json.dumps(list(paths), separators=(",", ":")),
        "local.sharedkeyhint": hint or name,
        "local.differ": "none",
    }
    return source(f"local://{name}", attrs, note=Note({"llb.customname": f"[internal] {shown}"}))


class _Files:
    """Reads single files by way of the solver."""

    def __init__(self, gateway: EngineGateway, sessions: Mapping[str, str], scope: Scope) -> None:
        """`sessions` lend directories by name, where that is not the caller's."""
        self.gateway = gateway
        self._sessions = sessions
        self._scope = scope

    def result(self, state: State) -> Ref:
        made = graph(state, platform=host_platform())
        return Ref(made, definition.encode(made))

    def lender(self, name: str) -> str:
        """The session that lends the directory `name`; empty: the caller's own."""
        return self._sessions.get(name, "")

    def lent(self, name: str, paths: Sequence[str], *, shown: str, hint: str = "") -> Ref:
        """Files of a directory that the session lends."""
        return self.result(lent_files(name, paths, shown=shown, hint=hint, lender=self.lender(name)))

    def read(self, ref: Ref, path: str, *, length: int = _MAX_BYTES) -> bytes | None:
        """A small file of `ref`, or its first `length` bytes; None when it is not there."""
        try:
            # A scope of its own: what fails in it cancels it, and a file that is not lent ends no build.
            with Scope() as scope, self._scope.on_cancel(scope.cancel):
                return self.gateway.read_file(ref, path, offset=0, length=length, scope=scope)
        except NotFound:
            return None


@record
class _Definition:
    """A Dockerfile, its ignore file, and the result that it lies in."""

    text: bytes
    ignore: bytes | None
    ref: Ref
    name: str


def _load(files: _Files, options: Mapping[str, str], inputs: Mapping[str, bytes]) -> _Definition:
    name = options.get("filename") or _DEFAULT
    place, name = _place(files, options, inputs, name)
    text = files.read(place, name)
    if text is None and posixpath.basename(name) == _DEFAULT:
        text = files.read(place, posixpath.join(posixpath.dirname(name), _DEFAULT.lower()))
    if text is None:
        raise NotFound(
            f"failed to read dockerfile: open {name}: no such file or directory",
            hint="give the Dockerfile's path, relative to the directory that is lent for it",
        )
    ignore = files.read(place, f"{name}.dockerignore")
    if ignore is None and not options.get("context"):
        context = options.get("contextkey", "context")
        lent = files.lent(context, [".dockerignore"], shown="load .dockerignore", hint=f"{context}-.dockerignore")
        try:
            ignore = files.read(lent, ".dockerignore")
        except NothingLent:
            ignore = None  # a Dockerfile that reads nothing of the context needs none
    return _Definition(text, ignore, place, name)


def _place(files: _Files, options: Mapping[str, str], inputs: Mapping[str, bytes], name: str) -> tuple[Ref, str]:
    """The result that the Dockerfile lies in, and what it is called there."""
    where = options.get("context", "")
    if "dockerfilekey" not in options:
        if where:
            return _in_context(files, where, name)
        if "dockerfile" in inputs:
            return files.gateway.solve(inputs["dockerfile"]), name
    lent = options.get("dockerfilekey", "dockerfile")
    return files.result(dockerfile_state(name, directory=lent, lender=files.lender(lent))), name


def _in_context(files: _Files, where: str, name: str) -> tuple[Ref, str]:
    """The Dockerfile of a remote context: one of its files, or what the URL gives, if that is no archive."""
    state = remote_context(where)
    if state is not None:
        return files.result(state), name
    state = archive_context(where)
    if state is None:
        raise UsageError(f"{where} cannot be a build context", hint="a git URL, or a http(s) URL of a tar")
    note = Note({"llb.customname": "[internal] load remote build context"})
    fetched = files.result(source(where, {"http.filename": _FETCHED}, note=note))
    if is_archive(files.read(fetched, _FETCHED, length=1024) or b""):
        return files.result(state), name
    return fetched, _FETCHED


class _Bridge:
    """Implements `frontend.bridge.Bridge`: the compiler's questions, answered by the gateway."""

    def __init__(self, files: _Files, mode: str) -> None:
        self._files = files
        self._mode = mode

    def image_config(self, reference: Reference, platform: Platform) -> ResolvedImage:
        return self._files.gateway.resolve_image(reference, platform, mode=self._mode)

    def layout_config(self, name: str, store: str, digest: Digest, platform: Platform) -> ResolvedImage:
        return self._files.gateway.resolve_layout(name, store, digest, platform)

    def source_time(self, op: SourceOp) -> int | None:
        return self._files.gateway.bridge(self._mode).source_time(op)

    def read(self, source: str, path: str) -> bytes | None:
        lent = self._files.lent(source, [path], shown=f"load {path} of {source}", hint=f"{source}-{path}")
        return self._files.read(lent, path)


def _answer_to(question: str, request: FrontendRequest, bridge: _Bridge) -> Answer:
    from knarr.frontend.dockerfile import subrequests

    if question == "frontend.lint":
        found = subrequests.check(request, bridge)
        failed = b"1" if found.findings or found.error is not None else b"0"
        return _said(found, {"result.statuscode": failed})
    if question == "frontend.outline":
        return _said(subrequests.outline(request, bridge))
    if question == "frontend.targets":
        return _said(subrequests.targets(request))
    if question == "frontend.subrequests.describe":
        return _said(subrequests.describe())
    raise UnsupportedRequest(question, hint=f"requests are: {', '.join(_REQUESTS)}")


def _said(answer: Subanswer, metadata: Mapping[str, bytes] = _NOTHING) -> Answer:
    said = {"result.json": answer.json.encode(), "result.txt": answer.text.encode(), "version": b"1.0.0"}
    return Answer({ONLY: Ref(Graph({}, None))}, {**said, **metadata})


def _warned(found: _Definition, warning: Warning) -> Warned:
    """A warning with its line in the text, by which BuildKit's clients know it."""
    span = warning.span
    place = (span.file, span.first) if span else ("", 0)
    root = found.ref.graph.root
    message = f"{warning.rule}: {warning.message}" + (f" (line {span.first})" if span else "")
    return Warned(root.digest if root else "", message, warning.description, warning.url, *place, source=found.text)
