"""Which images are trusted: find what was said of one, sign it, and hold it against a policy.

`gather` finds evidence at a registry, a layout or the store; `attach` puts some
there; `policy` says what is asked of which image, and `guard` asks it before an image
is used. The verdicts are made in `attest/`.
"""
