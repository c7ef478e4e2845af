"""What is believed about TLS with one host, and who we are to it: only data, so that plain HTTP loads no `ssl`."""

from __future__ import annotations

from knarr.errors import RegistryError
from knarr.record import record


class NotTls(RegistryError):
    """The far end answers, but not with TLS: most often it is plain HTTP."""


@record
class Trust:
    """Paths of PEM files, and whether certificates are checked at all."""

    ca: tuple[str, ...] = ()  # on top of the system's
    client: tuple[tuple[str, str], ...] = ()  # certificate and key; key "": both are in one file
    verify: bool = True
    looked_in: tuple[str, ...] = ()  # directories where a CA for this host would have been found, for messages

    def __or__(self, other: object) -> Trust:
        """Both together: certificates add up, and whoever switches checking off wins."""
        if not isinstance(other, Trust):
            return NotImplemented
        return Trust(
            tuple(dict.fromkeys(self.ca + other.ca)),
            tuple(dict.fromkeys(self.client + other.client)),
            self.verify and other.verify,
            tuple(dict.fromkeys(self.looked_in + other.looked_in)),
        )

    @property
    def configured(self) -> bool:
        """Whether anybody has said anything."""
        return bool(self.ca or self.client or not self.verify)
