"""apk, Python, npm, gems and jars: what their installers leave behind."""

from __future__ import annotations

import io
import json
import zipfile

APK = """\
C:Q1pSfk
P:busybox
V:1.36.1-r2
A:x86_64
S:500
T:Size optimized toolbox
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
m:A Person <a@example.com>
D:so:libc.musl-x86_64.so.1 !old
p:cmd:busybox=1.36.1-r2
F:
F:bin
R:busybox
a:0:0:755

P:musl
V:1.2.4-r1
L:MIT
p:so:libc.musl-x86_64.so.1=1
F:lib
R:ld-musl-x86_64.so.1
"""


def test_apk(scanned) -> None:
    found = scanned(
        {
            "etc/os-release": "ID=alpine\nVERSION_ID=3.19\n",
            "lib/apk/db/installed": APK,
            "bin/busybox": "x",
            "lib/ld-musl-x86_64.so.1": "y",
        }
    )
    busybox, musl = found.packages
    assert (busybox.kind, busybox.name, busybox.version, busybox.licenses) == (
        "apk",
        "busybox",
        "1.36.1-r2",
        ("GPL-2.0-only",),
    )
    assert busybox.requires == ("so:libc.musl-x86_64.so.1",)
    assert musl.provides == ("so:libc.musl-x86_64.so.1",)
    assert found.owners == (("bin/busybox",), ("lib/ld-musl-x86_64.so.1",))


def test_a_wheel_with_its_files_and_its_licence(scanned) -> None:
    site = "usr/lib/python3.11/site-packages"
    found = scanned(
        {
            f"{site}/a_b-1.0.dist-info/METADATA": (
                "Metadata-Version: 2.4\nName: a-b\nVersion: 1.0\nLicense-Expression: MIT\nLicense-File: LICENSE\n"
                'Author-email: "A" <a@example.com>\nRequires-Dist: C.d>=2\nRequires-Dist: e; extra == "x"\n\n'
                "Name: not me\n"
            ),
            f"{site}/a_b-1.0.dist-info/RECORD": 'a_b/__init__.py,sha256=x,1\n"a,b.py",,\n../../../bin/a,,\n',
            f"{site}/a_b-1.0.dist-info/licenses/LICENSE": "MIT",
            f"{site}/a_b/__init__.py": "",
            f"{site}/a,b.py": "",
            "usr/bin/a": "",
            f"{site}/C.d-2.egg-info": "Name: C.d\nVersion: 2\nClassifier: License :: OSI Approved :: BSD License\n",
        }
    )
    one, other = sorted(found.packages, key=lambda package: package.name, reverse=True)
    assert (one.name, one.licenses, one.requires) == ("a-b", ("MIT",), ("c-d",))
    assert one.license_files == (f"{site}/a_b-1.0.dist-info/licenses/LICENSE",)
    assert other.licenses == ("BSD License",)
    assert "usr/bin/a" in found.files
    assert f"{site}/a,b.py" in found.files


def test_npm_packages_where_they_are_installed(scanned) -> None:
    found = scanned(
        {
            "app/node_modules/left/package.json": json.dumps({"name": "left", "version": "1.0.0", "license": "ISC"}),
            "app/node_modules/@s/right/package.json": json.dumps(
                {"name": "@s/right", "version": "2.0.0", "licenses": [{"type": "MIT"}], "author": {"name": "A"}}
            ),
            "app/node_modules/left/esm/package.json": '{"type": "module"}',
            "app/package.json": json.dumps({"name": "app", "version": "1"}),
            "app/package-lock.json": json.dumps({"packages": {"node_modules/dev": {"version": "3.0.0"}}}),
        }
    )
    assert [(one.namespace, one.name, one.version, one.licenses) for one in found.packages] == [
        ("", "left", "1.0.0", ("ISC",)),
        ("@s", "right", "2.0.0", ("MIT",)),
    ]


def test_lock_files_tell_where_nothing_is_installed(scanned) -> None:
    found = scanned(
        {
            "a/package-lock.json": json.dumps(
                {"packages": {"": {"version": "9"}, "node_modules/x/node_modules/@s/y": {"version": "1.0.0"}}}
            ),
            "b/npm-shrinkwrap.json": json.dumps(
                {"dependencies": {"p": {"version": "1.1.0", "dependencies": {"q": {"version": "1.2.0"}}}}}
            ),
            "c/yarn.lock": '# v1\n\n"@s/z@^1", "@s/z@^2":\n  version "2.1.0"\n\nw@1:\n  version "1.0.1"\n',
            "d/yarn.lock": '"v@npm:^1":\n  version: 1.4.0\n\n"own@workspace:.":\n  version: 0.0.0\n',
            "e/pnpm-lock.yaml": (
                "lockfileVersion: '6.0'\n\ndependencies:\n  n:\n    version: 1\n\npackages:\n\n"
                "  /m@1.5.0(peer@2.0.0):\n    dev: true\n\n  /@s/k/1.6.0_peer@1:\n    dev: true\n"
            ),
            "f/pnpm-lock.yaml": "lockfileVersion: '9.0'\n\npackages:\n\n  '@s/j@1.7.0':\n    x: 1\n\nsnapshots:\n",
        }
    )
    names = {(f"{one.namespace}/{one.name}".lstrip("/"), one.version) for one in found.packages}
    assert names == {
        ("@s/y", "1.0.0"),
        ("p", "1.1.0"),
        ("q", "1.2.0"),
        ("@s/z", "2.1.0"),
        ("w", "1.0.1"),
        ("v", "1.4.0"),
        ("m", "1.5.0"),
        ("@s/k", "1.6.0"),
        ("@s/j", "1.7.0"),
    }


def test_a_lock_file_that_a_distribution_ships_is_no_inventory(scanned) -> None:
    lock = "usr/share/doc/x/yarn.lock"
    found = scanned(
        {
            "var/lib/dpkg/status": "Package: x\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n",
            "var/lib/dpkg/info/x.list": f"/{lock}\n",
            lock: 'w@1:\n  version "1.0.1"\n',
        }
    )
    assert [one.kind for one in found.packages] == ["deb"]


def test_a_gem_as_rubygems_writes_it(scanned) -> None:
    text = (
        'Gem::Specification.new do |s|\n  s.name = "rake".freeze\n  s.version = "13.0.6"\n'
        '  s.authors = ["A \\"B\\" C".freeze, "D".freeze]\n  s.licenses = ["MIT".freeze]\n'
        "  s.homepage = 'https://example.com'.freeze\n"
        '    s.add_runtime_dependency(%q<x>.freeze, [">= 1"])\n  s.add_dependency("y".freeze)\nend\n'
    )
    found = scanned({"usr/lib/ruby/gems/3.1.0/specifications/default/rake-13.0.6.gemspec": text, "src/x.gemspec": text})
    (gem,) = found.packages
    assert (gem.name, gem.version, gem.licenses, gem.homepage) == ("rake", "13.0.6", ("MIT",), "https://example.com")
    assert gem.supplier == 'A "B" C, D'
    assert gem.requires == ("y",)


def archive(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def test_a_jar_with_what_was_merged_into_it_and_jars_inside(scanned) -> None:
    inner = archive({"META-INF/MANIFEST.MF": "Bundle-SymbolicName: org.example.inner;x\r\nBundle-Version: 4.5\r\n"})
    outer = archive(
        {
            "META-INF/MANIFEST.MF": "Bundle-License: Apache-2.0;link=x\r\nImplementation-Vendor: A\r\n  Company\r\n",
            "META-INF/maven/g/app/pom.properties": "#x\ngroupId=g\nartifactId=app\nversion=1.0\n",
            "META-INF/maven/h/shaded/pom.properties": "groupId=h\nartifactId=shaded\nversion=2.0\n",
            "BOOT-INF/lib/inner.jar": inner,
        }
    )
    found = scanned({"app/app-1.0.jar": outer})
    assert [(one.namespace, one.name, one.version) for one in found.packages] == [
        ("g", "app", "1.0"),
        ("h", "shaded", "2.0"),
        ("org.example", "inner", "4.5"),
    ]
    assert found.packages[0].licenses == ("Apache-2.0",)
    assert found.packages[0].supplier == "A Company"
    assert found.packages[2].evidence == ("app/app-1.0.jar!BOOT-INF/lib/inner.jar",)


def test_a_jar_without_maven_is_known_by_its_name(scanned) -> None:
    found = scanned({"lib/tool-1.2~rc1.jar": archive({"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n"})})
    assert [(one.name, one.version) for one in found.packages] == [("tool", "1.2~rc1")]
