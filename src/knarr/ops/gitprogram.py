"""git, the program, run apart from this machine: no configuration of its own or of a user, no prompts, no hooks.

Logins and certificates go to it through its environment, where neither a list of
processes nor a log shows them. Only http, https and git are spoken, also to
submodules, and ssh where the caller lends an agent; `file` is for our own mirror,
and is asked for call by call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

from knarr.errors import KnarrError
from knarr.record import field, record
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.ops.gitssh import GitSsh

Pairs = tuple[tuple[str, str], ...]

_ALWAYS: Pairs = (
    ("gc.auto", "0"),  # it would go on in the background, in a mirror that others read
    ("maintenance.auto", "false"),
    ("core.hooksPath", "/dev/null"),
    ("init.defaultBranch", "master"),
    ("advice.detachedHead", "false"),
    ("safe.directory", "*"),  # all that it is pointed at is ours
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("protocol.git.allow", "always"),
)
_UMASK = 0o022  # files 0644 or 0755, whatever the umask of who builds
_LOGIN = ("could not read Username", "could not read Password", "Authentication failed", "error: 401", "error: 403")
_REFUSED = re.compile(r"transport '(\w+)' not allowed")
_USERINFO = re.compile(r"(https?://|git://)[^/@\s]+@|(ssh://[^/:@\s]*):[^/@\s]*(?=@)")
_SPEAKING = ("ls-remote", "fetch", "submodule")  # the commands that meet a server
_SAYS_NOTHING = "Could not read from remote repository"  # behind the line that says why
_SSH_SAYS = re.compile(r"^(?:ssh: .*|.*: Permission denied \(.*|Host key verification failed\.)$", re.MULTILINE)
_LEND_AGENT = "lend an agent or a key: --ssh default; or leave submodules out: URL?submodules=false"
_NO_SUBMODULES = "write its https URL into .gitmodules, or leave submodules out: URL?submodules=false"


class GitFailed(KnarrError):
    """git ended badly; `output` is all it wrote to standard error."""

    def __init__(self, message: str, output: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.output = output

    def says(self, *words: str) -> bool:
        """Whether one of `words` is in what it wrote."""
        return any(word in self.output for word in words)


@record
class Place:
    """A repository on this machine, and the work tree it is used with."""

    repository: str
    tree: str = ""


@record
class Git:
    """How git is run for one remote: `config` and `environment` carry logins, certificates and proxies."""

    scope: Scope
    remote: str
    config: Pairs = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    ssh: GitSsh | None = None  # None: ssh is not spoken

    @property
    def shown(self) -> str:
        """The remote for messages: without user and password."""
        return without_login(self.remote)

    def run(self, *args: str, at: Place | None = None, reads_mirror: bool = False) -> str:
        """Run `git args`, in a repository if one is given; returns its standard output.

        Raises:
            GitFailed: it ended badly.
            KnarrError: it is not installed.
            Cancelled: the scope was cancelled; git and its children were killed.
        """
        config = _ALWAYS
        if reads_mirror:
            config += (("protocol.file.allow", "always"),)
        speaks = args[0] in _SPEAKING and not reads_mirror
        if speaks and self.ssh is not None:
            config += (("protocol.ssh.allow", "always"),)
        with self._ssh_environment() if speaks else nullcontext({}) as ssh:
            return self._run(args, at, {**_environment(config + self.config, at), **self.environment, **ssh})

    def _ssh_environment(self) -> AbstractContextManager[Mapping[str, str]]:
        return nullcontext({}) if self.ssh is None else self.ssh.environment(self.scope)

    def _run(self, args: tuple[str, ...], at: Place | None, environment: Mapping[str, str]) -> str:
        import subprocess

        try:
            child = subprocess.Popen(
                ["git", *args],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=(at.tree or at.repository) if at else "/",
                env=environment,
                start_new_session=True,  # so that its helpers can be killed with it
                umask=_UMASK,
            )
        except FileNotFoundError:
            raise KnarrError(
                f"{self.shown}: git is not installed on this machine", hint="install it: apt-get install git"
            ) from None
        with child, self.scope.on_cancel(lambda: _kill(child.pid)):
            try:
                output, errors = child.communicate()
            except BaseException:  # an interrupt: git is in a session of its own and would not feel it
                _kill(child.pid)
                raise
        self.scope.check()
        if child.returncode:
            raise self._failed(errors.decode(errors="replace"))
        return output.decode(errors="surrogateescape")

    def _failed(self, output: str) -> GitFailed:
        output = without_login(output).replace("\r\n", "\n")  # ssh ends its lines so
        if any(word in output for word in _LOGIN):
            return GitFailed(
                f"{self.shown}: there is no such repository, or it wants another login",
                output,
                hint="lend a token: --secret id=GIT_AUTH_TOKEN,env=GIT_AUTH_TOKEN",
            )
        refused = _REFUSED.search(output)
        if refused is not None:
            hint = _LEND_AGENT if refused[1] == "ssh" else _NO_SUBMODULES
            return GitFailed(
                f"{self.shown}: a submodule would be fetched by {refused[1]}, which is not done", output, hint=hint
            )
        ssh = _SSH_SAYS.search(output)
        if ssh is not None:
            return self._ssh_failed(ssh[0], output)
        lines = [line for line in output.splitlines() if line.startswith(("fatal:", "error:", "remote:"))]
        lines = [line for line in lines if _SAYS_NOTHING not in line] or lines
        last = (lines or output.splitlines() or ["no reason given"])[-1]
        return GitFailed(f"{self.shown}: git: {last.partition(':')[2].strip() or last}", output)

    def _ssh_failed(self, said: str, output: str) -> GitFailed:
        if "Permission denied" in said:
            message, hint = "none of the keys that are lent is accepted", "lend another: --ssh default=KEYFILE"
        elif "Host key" in said:
            message = "its host key is not the one that is known"
            hint = f"if it has changed for a good reason, take the old one out of {self._known_hosts()}"
        else:
            message, hint = said, ""
        return GitFailed(f"{self.shown}: {message}", output, hint=hint)

    def _known_hosts(self) -> str:
        return f"~/.ssh/known_hosts and {self.ssh.met}" if self.ssh is not None else "~/.ssh/known_hosts"


def without_login(text: str) -> str:
    """`text` with user and password taken out of the URLs in it; of ssh only the password: its user is no secret."""
    return _USERINFO.sub(lambda match: match[1] or match[2], text)


def _environment(config: Pairs, at: Place | None) -> dict[str, str]:
    made = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/dev/null",
        "LC_ALL": "C",  # we read what it says
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": str(len(config)),
    }
    for number, (key, value) in enumerate(config):
        made[f"GIT_CONFIG_KEY_{number}"] = key
        made[f"GIT_CONFIG_VALUE_{number}"] = value
    if at is not None:
        made["GIT_DIR"] = at.repository
    if at is not None and at.tree:
        made["GIT_WORK_TREE"] = at.tree
    return made


def _kill(group: int) -> None:
    import signal

    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
