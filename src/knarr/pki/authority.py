"""An authority in a directory: its keys, what it issued, its revocation list.

ca.pem, ca-key.pem                         the root
intermediate.pem, intermediate-key.pem     who signs in its place, if there is one
crl.pem                                    what is revoked
ledger.jsonl                               what was issued
issued/LABEL/cert.pem, key.pem, ca.pem     certificates with the chain below the root; the root

authority = Authority.create(Path("pki"), plan, now_s=time.time())
authority.issue(Wanted(Subject(common_name=…), Use.SERVER, lifetime_s), names, now_s=time.time())
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from knarr.errors import NotFound, UsageError
from knarr.pki import files, issue, ledger
from knarr.pki.issue import PrivateKey, Signer, utc
from knarr.pki.ledger import Issued
from knarr.pki.names import Constraints, Names, of_certificate
from knarr.pki.settings import Subject, Use, Wanted
from knarr.record import record

_CRL_S = 30 * 86_400
_LABEL = re.compile(r"[^A-Za-z0-9._-]+")


@record
class Plan:
    """An authority to make. Without `intermediate_s` the root signs everything itself."""

    subject: Subject
    key_kind: str
    lifetime_s: int
    intermediate_s: int = 0
    constraints: Constraints = Constraints()


@record
class Bundle:
    """A certificate as it is handed out. `key` None: whoever asked has it."""

    label: str
    chain: tuple[x509.Certificate, ...]  # the certificate, then its signers but for the root
    root: x509.Certificate
    key: PrivateKey | None


class Authority:
    """See the module. Every change holds the directory's lock; safe from several processes."""

    def __init__(self, directory: Path) -> None:
        """Open the authority in `directory`.

        Raises:
            NotFound: there is none.
            UsageError: its files cannot be read, or do not belong together.
        """
        self.directory = directory
        if not (directory / "ca.pem").exists():
            raise NotFound(f"there is no certificate authority in {directory}", hint="`knarr pki init` makes one")
        self.root = _certificate(directory / "ca.pem")
        self.intermediate: x509.Certificate | None = None
        if (directory / "intermediate.pem").exists():
            self.intermediate = _certificate(directory / "intermediate.pem")

    @staticmethod
    def create(directory: Path, plan: Plan, *, now_s: float) -> Authority:
        """Make an authority in `directory`.

        Raises:
            UsageError: there is one already.
        """
        with files.locked(directory):
            _require_empty(directory)
            key = issue.make_key(plan.key_kind)
            root = issue.authority(
                key,
                plan.subject,
                now=utc(now_s),
                lifetime_s=plan.lifetime_s,
                constraints=plan.constraints,
                path_length=1 if plan.intermediate_s else 0,
            )
            if plan.intermediate_s:
                _add_intermediate(directory, plan, Signer(root, key), now_s)
            _keep(directory, "ca", root, key)
        return Authority(directory)

    @staticmethod
    def adopt(directory: Path, certificate: bytes, key: bytes, *, where: str) -> Authority:
        """Make the authority of another program (cfssl, openssl) ours: a copy of its certificate and key.

        Raises:
            UsageError: they do not belong together, or the certificate may not sign others, or there is one already.
        """
        found = files.certificates(certificate, where=where)
        private = files.private_key(key, where=where)
        if not files.belongs(private, found[0]):
            raise UsageError(f"{where}: the key is not that of the certificate")
        _require_authority(found[0], where)
        with files.locked(directory):
            _require_empty(directory)
            if found[0].issuer == found[0].subject:
                _keep(directory, "ca", found[0], private)
            else:
                root = files.chain_of(found[0], found[1:])[-1]
                if root.issuer != root.subject:
                    raise UsageError(f"{where}: its root is missing", hint="put the root's certificate behind it")
                _keep(directory, "intermediate", found[0], private)
                files.write(directory / "ca.pem", files.pem(root))
        return Authority(directory)

    @property
    def signer(self) -> Signer:
        """Who signs: the intermediate where there is one.

        Raises:
            NotFound: its key is not here (the root's may be kept elsewhere).
        """
        stem = "intermediate" if self.intermediate is not None else "ca"
        path = self.directory / f"{stem}-key.pem"
        certificate = self.intermediate or self.root
        key = files.private_key(files.read(path), where=str(path))
        if not files.belongs(key, certificate):
            raise UsageError(f"{path}: not the key of {stem}.pem")
        return Signer(certificate, key)

    @property
    def constraints(self) -> Constraints:
        """What the authority may sign, by its own certificates."""
        for certificate in filter(None, (self.intermediate, self.root)):
            found = _constraints(certificate)
            if found:
                return found
        return Constraints()

    def entries(self) -> tuple[Issued, ...]:
        """What was issued, oldest first."""
        path = self.directory / "ledger.jsonl"
        return ledger.decode(path.read_bytes(), where=str(path)) if path.exists() else ()

    def issue(
        self,
        wanted: Wanted,
        names: Names,
        *,
        now_s: float,
        key: PrivateKey | None = None,
        request: x509.CertificateSigningRequest | None = None,
        label: str = "",
        place: Path | None = None,
    ) -> Bundle:
        """Make a certificate for `key`, or for the key behind `request`; with a `place`, write it there.

        Raises:
            UsageError: no name, or one that the authority may not sign for.
        """
        self._check(wanted, names)
        public = key.public_key() if key is not None else _public_key(request)
        label = label or label_of(names.first or wanted.subject.common_name)
        with files.locked(self.directory):
            signer = self.signer
            certificate = issue.leaf(public, wanted, names, now=utc(now_s), signer=signer)
            entry = Issued(
                certificate.serial_number,
                label,
                str(place.absolute()) if place is not None else "",
                tuple(names),
                wanted.use.value,
                int(certificate.not_valid_before_utc.timestamp()),
                int(certificate.not_valid_after_utc.timestamp()),
            )
            self._record((*self.entries(), entry))
            chain = (certificate, self.intermediate) if self.intermediate is not None else (certificate,)
            bundle = Bundle(label, chain, self.root, key)
            if place is not None:
                write_bundle(bundle, place)
        return bundle

    def revoke(self, serials: Sequence[int], *, now_s: float) -> x509.CertificateRevocationList:
        """Revoke certificates and renew the revocation list.

        Raises:
            NotFound: one of them was not issued here.
        """
        with files.locked(self.directory):
            entries = self.entries()
            known = {entry.serial for entry in entries}
            for serial in serials:
                if serial not in known:
                    raise NotFound(f"no certificate with the serial number {serial:x} was issued here")
            changed = ledger.revoke(entries, serials, int(now_s))
            self._record(changed)
            return self._write_crl(changed, now_s)

    def renew_crl(self, *, now_s: float) -> x509.CertificateRevocationList:
        """Make the revocation list anew, with a new time until which it holds."""
        with files.locked(self.directory):
            return self._write_crl(self.entries(), now_s)

    def _write_crl(self, entries: Sequence[Issued], now_s: float) -> x509.CertificateRevocationList:
        path = self.directory / "crl.pem"
        number = 1
        if path.exists():
            old = x509.load_pem_x509_crl(path.read_bytes())
            number = old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
        # Who has expired is let go: nobody believes it anyway.
        revoked = [(e.serial, utc(e.revoked_s)) for e in entries if e.revoked_s and e.not_after_s > now_s]
        made = issue.revocation_list(revoked, number=number, now=utc(now_s), lifetime_s=_CRL_S, signer=self.signer)
        files.write(path, made.public_bytes(serialization.Encoding.PEM))
        return made

    def _check(self, wanted: Wanted, names: Names) -> None:
        if wanted.use is not Use.CLIENT and not names.first:
            raise UsageError("a server's certificate needs a name", hint="give the host names and addresses it has")
        refused = self.constraints.refused(names)
        if refused:
            allowed = ", ".join((*self.constraints.domains, *map(str, self.constraints.networks)))
            raise UsageError(
                f"this authority may not sign for {', '.join(refused)}", hint=f"its certificate allows {allowed}"
            )

    def _record(self, entries: Sequence[Issued]) -> None:
        files.write(self.directory / "ledger.jsonl", ledger.encode(entries), mode=files.SECRET)


def write_bundle(bundle: Bundle, directory: Path) -> None:
    """Put a certificate where a server reads it: the key first, so that no certificate stands without its key."""
    if bundle.key is not None:
        files.write(directory / "key.pem", files.key_pem(bundle.key), mode=files.SECRET)
    files.write(directory / "ca.pem", files.pem(bundle.root))
    files.write(directory / "cert.pem", files.pem(*bundle.chain))


def label_of(name: str) -> str:
    """A name as that of a directory: `*.corp.example` → `_.corp.example`."""
    return _LABEL.sub("_", name.replace("*", "_")).strip(".") or "certificate"


def _public_key(request: x509.CertificateSigningRequest | None) -> CertificatePublicKeyTypes:
    public = request.public_key() if request is not None else None
    weak = isinstance(public, rsa.RSAPublicKey) and public.key_size < 2048
    if weak or not isinstance(public, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise UsageError(
            "the request is for a key that is not signed", hint="ECDSA, Ed25519, and RSA from 2048 bits are"
        )
    return public


def _add_intermediate(directory: Path, plan: Plan, root: Signer, now_s: float) -> None:
    key = issue.make_key(plan.key_kind)
    name = f"{plan.subject.common_name} intermediate"
    certificate = issue.authority(
        key,
        Subject(common_name=name, organization=plan.subject.organization),
        now=utc(now_s),
        lifetime_s=plan.intermediate_s,
        constraints=plan.constraints,
        signer=root,
        path_length=0,
    )
    _keep(directory, "intermediate", certificate, key)


def _keep(directory: Path, stem: str, certificate: x509.Certificate, key: PrivateKey) -> None:
    files.write(directory / f"{stem}-key.pem", files.key_pem(key), mode=files.SECRET)
    files.write(directory / f"{stem}.pem", files.pem(certificate))


def _require_empty(directory: Path) -> None:
    if (directory / "ca.pem").exists():
        raise UsageError(
            f"there is a certificate authority in {directory} already",
            hint="choose another directory: what it signed would not be believed any more",
        )


def _require_authority(certificate: x509.Certificate, where: str) -> None:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        basic = None
    if basic is None or not basic.ca:
        raise UsageError(f"{where}: this certificate may not sign others", hint="give that of the authority")


def _certificate(path: Path) -> x509.Certificate:
    return files.certificates(files.read(path), where=str(path))[0]


def _constraints(certificate: x509.Certificate) -> Constraints:
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return Constraints()
    permitted = found.permitted_subtrees or ()
    return Constraints(
        tuple(name.value for name in permitted if isinstance(name, x509.DNSName)),
        tuple(name.value for name in permitted if isinstance(name, x509.IPAddress)),  # type: ignore[misc]  # networks here
    )


def names_of(bundle: Bundle) -> Names:
    """The names of the certificate that was made."""
    return of_certificate(bundle.chain[0])
