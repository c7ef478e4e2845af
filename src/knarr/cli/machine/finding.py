"""What was found of one thing, in the words of a table."""

from __future__ import annotations

from knarr.record import record


@record
class Finding:
    """One thing that was looked at. `verdict`: ok, limited (works, with less) or WRONG (does not work)."""

    verdict: str
    subject: str
    text: str  # what was found
    hint: str = ""  # how to get better
    used: str = ""  # what knarr makes of it
    cost: str = ""  # what that takes

    def as_json(self) -> dict[str, str]:
        """The finding for programs; the names stay what they are."""
        return {
            "severity": self.verdict.lower(),
            "subject": self.subject,
            "found": self.text,
            "used": self.used,
            "cost": self.cost,
            "better": self.hint,
        }
