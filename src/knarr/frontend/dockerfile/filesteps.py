"""The instructions that become file ops: WORKDIR, COPY and ADD.

A file op needs no container. With `--link` the files are copied onto an empty
tree and laid over the stage by a merge, so that the copy does not depend on
what the stage holds; where a mode is given BuildKit copies as usual, and so do we.
"""

from __future__ import annotations

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.copysource import CopyPlan, context_path, copy_steps, is_path, is_remote
from knarr.frontend.dockerfile.imagepath import in_tree, under
from knarr.frontend.dockerfile.instructions import Add, Copy, Transfer, Workdir
from knarr.frontend.dockerfile.lintlines import check_ignored, check_workdir
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.frontend.dockerfile.stagebuild import Line, StageBuild
from knarr.llb import ops
from knarr.llb.state import FileStep, Note, State, merge
from knarr.record import replace
from knarr.regex import later
from knarr.spec.digest import Digest

_OCTAL = later(r"[0-7]+")
_CLAUSE = r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+"
_SYMBOLIC = later(f"{_CLAUSE}(?:,{_CLAUSE})*")
_NUMBER = later(r"[-+]?[0-9]{1,10}")


def compile_workdir(build: PlatformBuild, stage: StageBuild, line: Line, instruction: Workdir) -> None:
    path = build.expand(instruction.path, stage.state.env)
    check_workdir(build.lint, stage, path)
    stage.workdir_given = True
    path = enter(stage, path)
    made = path != "/"
    if made:
        user = stage.image.user
        owner = owner_of(user, stage.state.owner_input) if user else None
        step = ops.MkDir(in_tree(path), 0o755, make_parents=True, owner=owner, timestamp=build.created_ns)
        name = _step_name(build, stage, line, instruction.original)
        stage.state = stage.state.file([FileStep(step)], Note({"llb.customname": name}, (line.span,)))
    stage.image.commit(f"WORKDIR {path}", layer=made, created=build.created)


def enter(stage: StageBuild, path: str) -> str:
    """Make `path` the working directory, of commands and in the image config, without making it."""
    path = under(stage.image.working_dir or "/", path)
    stage.image.working_dir = path
    stage.state = replace(stage.state, cwd=path)
    return path


def compile_copy(build: PlatformBuild, stage: StageBuild, line: Line, instruction: Copy) -> None:
    tree = build.context
    if line.sources:
        origin = line.sources[0]
        if not origin.done:
            raise DockerfileError(
                f'cannot copy from stage "{instruction.from_}", it needs to be defined before current stage '
                f'"{stage.title}"',
                hint="move that stage up",
            )
        tree = origin.state
    sources = _transfer(build, stage, line, instruction, tree)
    used = line.sources[0].paths if line.sources else build.context_paths
    used.update(context_path(src) for src in sources)


def compile_add(build: PlatformBuild, stage: StageBuild, line: Line, instruction: Add) -> None:
    sources = _transfer(build, stage, line, instruction, build.context)
    build.context_paths.update(context_path(src) for src in sources if not is_remote(src))


def _transfer(build: PlatformBuild, stage: StageBuild, line: Line, instruction: Transfer, tree: State) -> list[str]:
    """Put the files on the stage; the sources as expanded."""
    env = stage.state.env
    chown, chmod = build.expand(instruction.chown, env), build.expand(instruction.chmod, env)
    checksum = build.expand(instruction.checksum, env) if isinstance(instruction, Add) else ""
    sources = [build.expand(src, env) for src in instruction.sources]
    dest = build.expand(instruction.dest, env)
    mode, mode_str = _mode(chmod)
    name = _step_name(build, stage, line, instruction.original)
    linked = instruction.link and not chmod
    owner = owner_of(chown, ops.NO_INPUT if linked else stage.state.owner_input) if chown else None
    copy = ops.Copy(
        "",
        in_tree(_destination(stage, dest), keep_slash=True),
        owner,
        mode,
        mode_str,
        create_dest_path=True,
        exclude_patterns=instruction.excludes,
    )
    steps = list(copy_steps(CopyPlan(instruction, copy, tree.output, name, checksum, env, build.lint), sources))
    if build.excludes and not line.sources:
        check_ignored(build.lint, instruction.keyword.capitalize(), filter(is_path, sources), build.excludes)
    note = Note({"llb.customname": name}, (line.span,), stage.ignore_cache)
    if linked:
        stage.state = _linked(build, stage, line, steps, note)
    else:
        stage.state = stage.state.file(steps, note)
    stage.image.commit(_created_by(instruction, chown, chmod, sources, dest), layer=True, created=build.created)
    return sources


def _linked(build: PlatformBuild, stage: StageBuild, line: Line, steps: list[FileStep], note: Note) -> State:
    """The stage with a merge on top. Both vertices are one step to a reader, hence the group."""
    name = note.description["llb.customname"]
    group = "link-" + Digest.of(f"{build.target} {line.span} {name}".encode()).hex[:20]
    copied = State().file(steps, replace(note, progress_group=ops.ProgressGroup(group, name, weak=True)))
    link_name = _step_name(build, stage, line, line.instruction.original, link=True)
    laid = replace(note, description={"llb.customname": link_name}, progress_group=ops.ProgressGroup(group, name))
    return replace(stage.state, output=merge((stage.state, copied), laid).output)


def _destination(stage: StageBuild, dest: str) -> str:
    """Seen from the working directory. "." means what is in it, so it ends in a slash."""
    if dest.startswith("/"):
        return dest
    return under(stage.state.cwd, "./" if dest in (".", "") else dest, keep_slash=True)


def _mode(chmod: str) -> tuple[int, str]:
    """The numeric mode, -1 for none given; or 0 and a symbolic one."""
    if not chmod:
        return -1, ""
    if _OCTAL.fullmatch(chmod) and int(chmod, 8) <= 0o7777:
        return int(chmod, 8), ""
    if chmod[0].isdigit() or not _SYMBOLIC.fullmatch(chmod):
        raise DockerfileError(
            f"invalid chmod parameter: '{chmod}'. it should be octal string and between 0 and 07777",
            hint="or symbolic, such as u=rwX,go=rX",
        )
    return 0, chmod


def owner_of(text: str, names_in: int) -> ops.ChownOpt:
    """`user[:group]`; names are looked up in the input `names_in`, NO_INPUT when there is no tree to look in."""
    user, colon, group = text.partition(":")
    return ops.ChownOpt(_account(user, names_in), _account(group, names_in) if colon else None)


def _account(text: str, names_in: int) -> ops.UserOpt:
    if text in ("", "root"):
        return ops.UserOpt(0)
    if _NUMBER.fullmatch(text) and -(2**31) <= int(text) < 2**31:
        return ops.UserOpt(int(text) % 2**32)
    return ops.UserOpt(None, text, names_in)


def _created_by(instruction: Transfer, chown: str, chmod: str, sources: list[str], dest: str) -> str:
    words = [instruction.keyword]
    if isinstance(instruction, Copy) and instruction.parents:
        words.append("--parents")
    if chown:
        words.append(f"--chown={chown}")
    if chmod:
        words.append(f"--chmod={chmod}")
    words += [*sources, *(f"<<{heredoc.name}" for heredoc in instruction.heredocs), dest, "# buildkit"]
    return " ".join(words)


def _step_name(build: PlatformBuild, stage: StageBuild, line: Line, original: str, *, link: bool = False) -> str:
    """The instruction as written, its variables put in where that works."""
    try:
        text = build.expander.word(original, stage.state.env).text
    except DockerfileError:
        text = original
    return stage.named(
        build,
        ("LINK " if link else "") + upper_keyword(text),
        platform=stage.platform or build.target,
        on_build=line.on_build,
        again=link,
    )


def upper_keyword(text: str) -> str:
    keyword, space, rest = text.partition(" ")
    return keyword.upper() + space + rest
