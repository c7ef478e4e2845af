"""What software is in a tree: the built-in scanner, and its findings as SPDX and CycloneDX documents.

    inventory = scan("/path/of/a/root")      # sbom.scan: one walk, nothing in the tree is run
    for chunk in spdx.write(inventory, about):  # sbom.spdx, sbom.cyclonedx: deterministic documents, as a stream
        file.write(chunk)

A *cataloger* is a module that reads one kind of record that installers leave behind
(`deb`, `apk`, `rpm`, `python`, `npm`, `gem`, `java`) or that compilers put into programs
(`gobinary`, `rust`); `scan` finds the files by name and asks the one whose they are. A
tree is a stranger's: everything is read through `tree.Tree`, which never leaves the root,
reads no more than `limits.Limits` allow, and notes what was passed over and why.

Specifications: SPDX 2.3, CycloneDX 1.6, package URLs (purl-spec), and for each database
the text or the program named in its module.
"""
