"""A session that lends one directory more than the caller's: a Dockerfile that did not come as a directory."""

from __future__ import annotations

from pathlib import Path

from knarr.record import record
from knarr.session.session import (
    Credentials,
    LendsContent,
    LentContent,
    Secret,
    Sent,
    Session,
    SshAgent,
    Wanted,
)


@record
class Lending:
    """`session`, and besides it the directory `place` under the name `name`, which goes before one of the session's."""

    session: Session
    name: str
    place: Path

    def files(self, wanted: Wanted, *, sent: Sent | None = None) -> Path:
        return self.place if wanted.name == self.name else self.session.files(wanted, sent=sent)

    def secret(self, id: str) -> Secret | None:
        return self.session.secret(id)

    def ssh(self, id: str) -> SshAgent | None:
        return self.session.ssh(id)

    def credentials(self, host: str) -> Credentials:
        return self.session.credentials(host)

    def content(self, id: str) -> LentContent | None:
        return self.session.content(id) if isinstance(self.session, LendsContent) else None
