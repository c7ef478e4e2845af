"""Attestations: what is said of an image, by whom it can be checked, and how it is written.

`statement` is in-toto's form of saying something of something; `purl` names images
as statements name them; `wanted` is what a build was asked to attest. Nothing here
touches a store: `export.attestations` puts statements where the image goes.
"""
