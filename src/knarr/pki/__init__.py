"""A certificate authority for a private domain: one directory, one command per need.

`names` and `settings` say what is wanted, `issue` makes certificates from that (pure: time
and serial number come in), `authority` keeps the keys and the ledger of what was
issued, `cfssl` reads the files of cfssl, `trust` writes what each tool reads to
believe the CA, `signing` answers signing requests over HTTPS.

Spec: RFC 5280 (certificates, CRLs, name constraints); CA/Browser Forum Baseline
Requirements 2 for what clients insist on (names in subjectAltName, 128-bit serials).
"""
