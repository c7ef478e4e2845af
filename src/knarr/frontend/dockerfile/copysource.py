"""The sources of COPY and ADD as actions of a file op: paths, inline files, URLs and git repositories.

Paths come from the build context, another stage or an image; a URL or a
repository becomes a source vertex of its own, and its files are copied from there.

Spec: Dockerfile reference 1.26, "ADD" and "COPY"; flags as BuildKit's convert_copy.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from knarr.errors import ContentError, DockerfileError
from knarr.frontend.dockerfile.expand import HEREDOC_BODY
from knarr.frontend.dockerfile.giturl import GitURL, parse_git_url, split_url
from knarr.frontend.dockerfile.imagepath import base_name, clean, in_tree, join, under
from knarr.frontend.dockerfile.instructions import Add, Copy, Heredoc, Transfer
from knarr.frontend.dockerfile.lint import Linter
from knarr.llb import ops
from knarr.llb.state import FileStep, Node, Note, State, source
from knarr.patterns import has_wildcard
from knarr.record import record, replace
from knarr.spec.digest import Digest

_INLINE = Note({"llb.customname": "[internal] preparing inline document"})


@record
class CopyPlan:
    """What every source of one instruction shares. `copy` has destination, owner and mode set."""

    line: Transfer
    copy: ops.Copy
    tree: Node | None  # where paths are looked up
    name: str  # of the step; downloads carry it too
    checksum: str
    env: Mapping[str, str]  # for the bodies of inline files
    lint: Linter


def copy_steps(plan: CopyPlan, sources: list[str]) -> Iterator[FileStep]:
    """The actions of an instruction, in the order of its (expanded) sources; inline files come last.

    Raises:
        DockerfileError: a source that this instruction cannot have. No span yet.
    """
    adds = isinstance(plan.line, Add)
    if plan.checksum:
        _check_checksum(plan, sources)
    for src in sources:
        git = parse_git_url(src)
        if git is not None:
            if not adds:
                raise DockerfileError("source can't be a git ref for COPY", hint="ADD fetches git repositories")
            yield _from_git(plan, git)
        elif is_remote(src):
            if not adds:
                raise DockerfileError("source can't be a URL for COPY", hint="ADD downloads URLs")
            yield _from_url(plan, src)
        else:
            yield _from_path(plan, src)
    for heredoc in plan.line.heredocs:
        yield _from_heredoc(plan, heredoc)


def context_path(src: str) -> str:
    """The path of the tree that a source makes necessary."""
    return join("/", src)


def is_remote(src: str) -> bool:
    return src.startswith(("http://", "https://"))


def is_path(src: str) -> bool:
    """Whether a source is looked up in a tree, and not fetched."""
    return not is_remote(src) and parse_git_url(src) is None


def _check_checksum(plan: CopyPlan, sources: list[str]) -> None:
    if len(sources) != 1:
        raise DockerfileError("checksum can't be specified for multiple sources", hint="one ADD for each of them")
    if not is_remote(sources[0]) and parse_git_url(sources[0]) is None:
        raise DockerfileError(
            "checksum requires HTTP(S) or Git sources",
            hint="files of the build context are known by their content anyway",
        )


def _from_path(plan: CopyPlan, src: str) -> FileStep:
    line = plan.line
    include: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    if isinstance(line, Copy) and line.parents:
        # `a/./b/c` copies b/c as it lies under a; without the pivot the whole path counts.
        parent, pivot, pattern = src.partition("/./")
        src, pattern = (parent, pattern) if pivot else ("/", src)
        pattern = under("/", pattern)
        include = (pattern.removeprefix("/"),)
        if not has_wildcard(src) and not has_wildcard(pattern):
            required = (under("/", join(src, pattern)),)
    unpack = line.unpack if isinstance(line, Add) else None
    copy = replace(
        plan.copy,
        src=clean(under("/", src)),
        follow_symlink=True,
        dir_copy_contents=True,
        include_patterns=include,
        required_paths=required,
        attempt_unpack=isinstance(line, Add) if unpack is None else unpack,
        allow_wildcard=True,
        allow_empty_wildcard=True,
    )
    return FileStep(copy, plan.tree)


def _from_heredoc(plan: CopyPlan, heredoc: Heredoc) -> FileStep:
    text = heredoc.text
    if heredoc.expand:
        expanded = HEREDOC_BODY.word(text, plan.env)
        plan.lint.unset(expanded.unset, plan.env)
        text = expanded.text
    made = State().file([FileStep(ops.MkFile(in_tree(heredoc.name), 0o644, text.encode()))], _INLINE)
    return FileStep(replace(plan.copy, src=in_tree(heredoc.name)), made.output)


def _from_url(plan: CopyPlan, url: str) -> FileStep:
    name = file_name(url)
    attrs = {"http.filename": name}
    if plan.checksum:
        try:
            attrs["http.checksum"] = Digest.parse(plan.checksum)
        except ContentError as error:
            raise DockerfileError(f"--checksum: {error.message}", hint=error.hint) from None
    note = Note({"llb.customname": plan.name, "com.docker.dockerfile.v1.command": ""})
    fetched = source(url, attrs, note=note)
    unpack = isinstance(plan.line, Add) and bool(plan.line.unpack)
    return FileStep(replace(plan.copy, src=in_tree(name), attempt_unpack=unpack), fetched.output)


def file_name(url: str) -> str:
    """What a downloaded file is called when the destination is a directory."""
    from urllib.parse import unquote

    name = base_name(unquote(split_url(url).path))
    return "__unnamed__" if name in (".", "/") else name


def _from_git(plan: CopyPlan, git: GitURL) -> FileStep:
    keep = plan.line.keep_git_dir if isinstance(plan.line, Add) else None
    if None not in (keep, git.keep_git_dir) and keep != git.keep_git_dir:
        raise DockerfileError(
            "inconsistent keep-git-dir configuration", hint="say it by the flag or in the URL, not both"
        )
    if plan.checksum and git.checksum and plan.checksum != git.checksum:
        raise DockerfileError(
            f'checksum mismatch "{plan.checksum}" != "{git.checksum}"',
            hint="say it by the flag or in the URL, not both",
        )
    git = replace(
        git,
        keep_git_dir=keep if git.keep_git_dir is None else git.keep_git_dir,
        checksum=plan.checksum or git.checksum,
        mtime="",  # a choice of build contexts only
    )
    fetched = source(git.identifier, git.attrs, note=Note({"llb.customname": plan.name}))
    return FileStep(replace(plan.copy, src="/"), fetched.output)
