"""Package URLs, by which scanners of vulnerabilities know packages. Specification: purl-spec, and its list of types."""

from __future__ import annotations

from knarr.sbom.package import Distribution, Package


def purl_of(package: Package, distribution: Distribution) -> str:
    """The package URL of a package that was found in a tree of `distribution`."""
    from packageurl import PackageURL

    qualifiers = dict(package.qualifiers)
    if package.kind in ("deb", "apk", "rpm"):
        qualifiers["arch"] = package.architecture
        if distribution.id:
            qualifiers["distro"] = "-".join(filter(None, (distribution.id, distribution.version)))
        if package.source and "upstream" not in qualifiers:
            qualifiers["upstream"] = "@".join(filter(None, (package.source, package.source_version)))
    found = {key: value for key, value in qualifiers.items() if value}
    return PackageURL(
        package.kind, package.namespace or None, package.name, package.version or None, qualifiers=found
    ).to_string()
