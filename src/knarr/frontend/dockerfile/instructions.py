"""The instructions of a Dockerfile as frozen records: what the user wrote, before any variable is expanded.

Words keep their quotes, escapes and `$` references exactly as written; the
compiler expands them with the values known at that line (`expand`). A field
that the user did not give is "" or None, never a default, so that the compiler
can tell "not said" from "said empty" where BuildKit does.

Spec: Dockerfile reference 1.26; field by field what BuildKit's instruction
parser knows.
"""

from __future__ import annotations

import re

from knarr.errors import Excerpt, Span
from knarr.record import field, record
from knarr.regex import later

_LEADING_TABS = later(r"^\t+", re.MULTILINE)


@record
class Heredoc:
    """One `<<NAME` of an instruction, with the lines up to its terminator."""

    name: str  # the delimiter without quotes; the file name of a COPY
    content: str  # as written, leading tabs included; see `text`
    expand: bool = True  # False when any part of the delimiter was quoted
    chomp: bool = False  # `<<-`
    file_descriptor: int = 0  # the N of `N<<NAME`

    @property
    def text(self) -> str:
        """The content a command or a file gets: for `<<-` without the leading tabs of every line."""
        return _LEADING_TABS.sub("", self.content) if self.chomp else self.content


@record(kw_only=True)
class Instruction:
    """What all instructions share."""

    keyword = ""  # upper case; of the class, hence without a type

    span: Span  # all its lines, heredocs included
    original: str  # the logical line, continuations joined, trimmed: what history's `created_by` quotes
    written: str = ""  # the keyword as the user wrote it
    comments: tuple[str, ...] = ()  # the comment lines directly above, without `#`


@record
class KeyValue:
    """One pair of ENV or LABEL."""

    key: str
    value: str
    legacy: bool = False  # `KEY value`, without `=`


@record
class ArgValue:
    """One name of an ARG line; `value` None: declared without a default."""

    key: str
    value: str | None = None
    doc: str = ""  # from a comment above of the form `# NAME text`


@record
class CommandLine:
    """What RUN, CMD, ENTRYPOINT and HEALTHCHECK CMD run.

    Shell form: `args` has the whole text as one string (or nothing) and `shell`
    is True, so the stage's SHELL goes in front. Exec form: `args` is the JSON list.
    """

    args: tuple[str, ...]
    shell: bool


@record
class MountText:
    """A `--mount` as written. `mounts.read_mount` reads it once the variables are known."""

    text: str
    from_: str = ""  # a stage, an index or an image; never has variables, so dependencies are known early


@record
class RunMount:
    """A `--mount` with its variables expanded. Fields that were not given are None or ""."""

    type: str = "bind"  # bind, cache, tmpfs, secret, ssh
    from_: str = ""
    source: str = ""
    target: str = ""
    readonly: bool = True  # the type's default applied
    size_bytes: int = 0  # tmpfs; 0: kernel default
    id: str = ""
    sharing: str = ""  # shared, private, locked
    required: bool = False
    env: str | None = None  # secret; "" asks for the default name
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@record
class RunDevice:
    """A `--device` of RUN: a CDI name."""

    name: str
    required: bool = False


@record(kw_only=True)
class From(Instruction):
    """`FROM [--platform=P] BASE [AS NAME]`."""

    keyword = "FROM"

    base: str
    name: str = ""  # lower case; "" for none
    name_written: str = ""
    as_written: str = ""  # the word AS as the user wrote it
    platform: str = ""


@record(kw_only=True)
class Arg(Instruction):
    keyword = "ARG"

    args: tuple[ArgValue, ...]


@record(kw_only=True)
class Env(Instruction):
    keyword = "ENV"

    pairs: tuple[KeyValue, ...]


@record(kw_only=True)
class Label(Instruction):
    keyword = "LABEL"

    pairs: tuple[KeyValue, ...]


@record(kw_only=True)
class Run(Instruction):
    keyword = "RUN"

    command: CommandLine
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[MountText, ...] = ()
    network: str = "default"  # default, none, host
    security: str = "sandbox"  # sandbox, insecure
    devices: tuple[RunDevice, ...] = ()
    flags: frozenset[str] = frozenset()  # names of the flags given, without `--`


@record(kw_only=True)
class Transfer(Instruction):
    """What COPY and ADD share. The destination is apart; `sources` has paths (and for ADD, URLs) in order."""

    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...] = ()  # inline files, in order; they come after `sources`
    chown: str = ""
    chmod: str = ""
    link: bool = False
    excludes: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()


@record(kw_only=True)
class Copy(Transfer):
    keyword = "COPY"

    from_: str = ""
    parents: bool = False


@record(kw_only=True)
class Add(Transfer):
    keyword = "ADD"

    keep_git_dir: bool | None = None  # None: not said
    checksum: str = ""
    unpack: bool | None = None


@record(kw_only=True)
class Workdir(Instruction):
    keyword = "WORKDIR"

    path: str


@record(kw_only=True)
class User(Instruction):
    keyword = "USER"

    user: str


@record(kw_only=True)
class Cmd(Instruction):
    keyword = "CMD"

    command: CommandLine


@record(kw_only=True)
class Entrypoint(Instruction):
    keyword = "ENTRYPOINT"

    command: CommandLine


@record(kw_only=True)
class Shell(Instruction):
    keyword = "SHELL"

    args: tuple[str, ...]


@record(kw_only=True)
class Expose(Instruction):
    keyword = "EXPOSE"

    ports: tuple[str, ...]  # sorted, as BuildKit sorts them before it expands


@record(kw_only=True)
class Volume(Instruction):
    keyword = "VOLUME"

    paths: tuple[str, ...]


@record(kw_only=True)
class StopSignal(Instruction):
    keyword = "STOPSIGNAL"

    signal: str


@record(kw_only=True)
class Healthcheck(Instruction):
    """`test` is ("NONE",), ("CMD", …) or ("CMD-SHELL", text), as the image config has it."""

    keyword = "HEALTHCHECK"

    test: tuple[str, ...]
    interval_ns: int = 0  # 0: not given, the engine's default
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@record(kw_only=True)
class OnBuild(Instruction):
    """`expression` is what the image config stores: the trigger's text, its heredocs appended."""

    keyword = "ONBUILD"

    expression: str


@record(kw_only=True)
class Maintainer(Instruction):
    keyword = "MAINTAINER"

    name: str


@record
class Stage:
    """A FROM with the instructions up to the next one."""

    index: int  # 0 for the first
    from_: From
    instructions: tuple[Instruction, ...] = ()
    doc: str = ""  # from a comment above the FROM of the form `# NAME text`

    @property
    def name(self) -> str:
        return self.from_.name

    @property
    def base(self) -> str:
        return self.from_.base

    @property
    def platform(self) -> str:
        return self.from_.platform

    @property
    def span(self) -> Span:
        return self.from_.span


@record
class Directive:
    """A `# key=value` line at the head of the file: syntax, escape or check."""

    name: str
    value: str
    span: Span


@record
class Finding:
    """Something the text itself shows to be doubtful: a rule of `lintrules`, what its sentence is about, the place."""

    rule: str
    span: Span
    values: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()  # those above the instruction, which may tell the rule to be silent


@record
class Dockerfile:
    """A whole parsed file."""

    filename: str
    stages: tuple[Stage, ...]
    global_args: tuple[Arg, ...] = ()
    directives: tuple[Directive, ...] = ()
    escape: str = "\\"
    findings: tuple[Finding, ...] = ()
    excerpt: Excerpt = field(default_factory=Excerpt, repr=False)  # the source lines, for errors

    def directive(self, name: str) -> str:
        """The value of a directive, "" when it is not there."""
        return next((d.value for d in self.directives if d.name == name), "")
