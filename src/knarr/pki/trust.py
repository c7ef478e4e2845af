"""One description of whom to trust, and the files by which each tool believes it: `plan` gives them, `install` writes.

A host's directory is shared by tools with the same pattern: `*.crt` is a CA,
`client.cert` with `client.key` who we are. Files that people write themselves
(buildkitd.toml, registries.yaml) get a marked block of ours, or are left alone
when they speak of the host already.

Spec: docker, "Verify repository client with certificates"; containers-certs.d(5); containerd 2, docs/hosts.md;
moby/buildkit, docs/buildkitd.toml.md; k3s, "Private Registry Configuration"; update-ca-certificates(8).
"""

from __future__ import annotations

import base64
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from knarr.errors import UsageError
from knarr.pki import files
from knarr.pki.authority import label_of
from knarr.record import record

TOOLS = ("docker", "podman", "containerd", "buildkitd", "k3s", "system", "knarr")
_BEGIN = "# BEGIN knarr pki trust {host}\n"
_MARK = "# BEGIN knarr pki trust "
_END = "# END knarr pki trust {host}\n"


@record
class Description:
    """A registry (`host[:port]`), the CA that signs its certificate, and who we are to it."""

    host: str
    ca: bytes  # PEM
    client: tuple[bytes, bytes] | None = None  # certificate and key, PEM


@record
class TrustFile:
    """A file of one tool. `block`: it belongs to people, and only the part between our marks is ours."""

    tool: str
    path: str  # from the root of the machine
    content: bytes
    mode: int = files.PUBLIC
    block: str = ""  # the host, in the marks
    header: str = ""  # a line of ours above all blocks


@record
class Change:
    """What was done with a file: "written", "same", "removed", "absent" or "left alone", and why."""

    file: TrustFile
    what: str
    why: str = ""


def plan(about: Description, tools: Sequence[str]) -> list[TrustFile]:
    """The files of `tools` for this registry.

    Raises:
        UsageError: a tool that is not known.
    """
    found: list[TrustFile] = []
    for tool in tools:
        if tool not in _PLANS:
            raise UsageError(f"nothing is known of {tool}", hint="known are: " + ", ".join(TOOLS))
        found += _PLANS[tool](about)
    return found


def kubernetes(about: Description, *, name: str = "registry-trust") -> str:
    """A ConfigMap with the CA, and a DaemonSet that lays it out for containerd and docker on every node (YAML).

    JSON is YAML: written so, nothing has to be escaped.
    """
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"ca.crt": about.ca.decode(), "hosts.toml": _hosts_toml(about, "ca.crt").decode()},
    }
    script = (
        f'for d in /host/containerd/certs.d /host/docker/certs.d; do mkdir -p "$d/{about.host}"; '
        f'cp /trust/ca.crt "$d/{about.host}/ca.crt"; done; '
        f'cp /trust/hosts.toml "/host/containerd/certs.d/{about.host}/hosts.toml"; '
        "while :; do sleep 3600; done"
    )
    pod = {
        "containers": [
            {
                "name": "install",
                "image": "busybox:stable",
                "command": ["sh", "-ec", script],
                "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
                "volumeMounts": [
                    {"name": "trust", "mountPath": "/trust", "readOnly": True},
                    {"name": "containerd", "mountPath": "/host/containerd"},
                    {"name": "docker", "mountPath": "/host/docker"},
                ],
            }
        ],
        "tolerations": [{"operator": "Exists"}],
        "volumes": [
            {"name": "trust", "configMap": {"name": name}},
            {"name": "containerd", "hostPath": {"path": "/etc/containerd", "type": "DirectoryOrCreate"}},
            {"name": "docker", "hostPath": {"path": "/etc/docker", "type": "DirectoryOrCreate"}},
        ],
    }
    daemon = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }
    return "\n---\n".join(json.dumps(document, indent=2) for document in (config, daemon)) + "\n"


def install(planned: Sequence[TrustFile], root: Path) -> list[Change]:
    """Write the files below `root` ("/" for this machine).

    Raises:
        KnarrError: one cannot be written.
    """
    return [_install(file, root) for file in planned]


def remove(planned: Sequence[TrustFile], root: Path) -> list[Change]:
    """Take the files away again: those with our content, and our block in those of others."""
    return [_remove(file, root) for file in planned]


def _install(file: TrustFile, root: Path) -> Change:
    path = root / file.path.lstrip("/")
    old = path.read_bytes() if path.exists() else None
    if not file.block:
        if old == file.content:
            return Change(file, "same")
        files.write(path, file.content, mode=file.mode)
        return Change(file, "written")
    text = (old or b"").decode()
    without = _without_block(text, file.block)
    obstacle = _OBSTACLES[file.tool](without, file.block)
    if obstacle:
        return Change(file, "left alone", obstacle)
    new = _with_block(text, file).encode()
    if new == old:
        return Change(file, "same")
    files.write(path, new, mode=path.stat().st_mode & 0o777 if old is not None else file.mode)
    return Change(file, "written")


def _remove(file: TrustFile, root: Path) -> Change:
    path = root / file.path.lstrip("/")
    if not path.exists():
        return Change(file, "absent")
    old = path.read_bytes()
    if not file.block:
        if old != file.content:
            return Change(file, "left alone", "it has another content")
        path.unlink()
        if not any(path.parent.iterdir()) and path.parent.name.split(":")[0] in file.path:
            path.parent.rmdir()
        return Change(file, "removed")
    new = _without_block(old.decode(), file.block, file.header)
    if new == old.decode():
        return Change(file, "absent")
    if new.strip():
        files.write(path, new.encode(), mode=path.stat().st_mode & 0o777)
    else:
        path.unlink()
    return Change(file, "removed")


def _with_block(text: str, file: TrustFile) -> str:
    block = _BEGIN.format(host=file.block) + file.content.decode() + _END.format(host=file.block)
    if (old := _block_of(file.block).search(text)) is not None:
        return text[: old.start()] + block + text[old.end() :]
    if file.header and file.header in text:
        return text.replace(file.header, file.header + block)
    return text + ("\n" if text and not text.endswith("\n") else "") + file.header + block


def _block_of(host: str) -> re.Pattern[str]:
    begin, end = re.escape(_BEGIN.format(host=host)), re.escape(_END.format(host=host))
    return re.compile(f"{begin}.*?{end}", re.DOTALL)


def _without_block(text: str, host: str, header: str = "") -> str:
    rest = _block_of(host).sub("", text)
    return rest.replace(header, "") if header and _MARK not in rest else rest


def _directory(tool: str, base: str) -> Callable[[Description], list[TrustFile]]:
    def planned(about: Description) -> list[TrustFile]:
        place = f"{base}/{about.host}"
        found = [TrustFile(tool, f"{place}/ca.crt", about.ca)]
        if about.client is not None:
            found.append(TrustFile(tool, f"{place}/client.key", about.client[1], files.SECRET))
            found.append(TrustFile(tool, f"{place}/client.cert", about.client[0]))
        return found

    return planned


def _containerd(about: Description) -> list[TrustFile]:
    base = f"/etc/containerd/certs.d/{about.host}"
    return [
        *_directory("containerd", "/etc/containerd/certs.d")(about),
        TrustFile("containerd", f"{base}/hosts.toml", _hosts_toml(about, f"{base}/ca.crt")),
    ]


def _hosts_toml(about: Description, ca: str) -> bytes:
    lines = [f'server = "https://{about.host}"', "", f'[host."https://{about.host}"]', f'ca = ["{ca}"]']
    if about.client is not None:
        place = f"/etc/containerd/certs.d/{about.host}"
        lines.append(f'client = [["{place}/client.cert", "{place}/client.key"]]')
    return ("\n".join(lines) + "\n").encode()


def _buildkitd(about: Description) -> list[TrustFile]:
    base = "/etc/buildkit/certs.d"
    lines = [f'[registry."{about.host}"]', f'  ca = ["{base}/{about.host}/ca.crt"]']
    if about.client is not None:
        lines += [f'  [[registry."{about.host}".keypair]]', f'    key = "{base}/{about.host}/client.key"']
        lines.append(f'    cert = "{base}/{about.host}/client.cert"')
    own = _directory("buildkitd", base)(about)
    content = ("\n".join(lines) + "\n").encode()
    return [*own, TrustFile("buildkitd", "/etc/buildkit/buildkitd.toml", content, block=about.host)]


def _k3s(about: Description) -> list[TrustFile]:
    base = "/etc/rancher/k3s/certs.d"
    tls = {"ca_file": f"{base}/{about.host}/ca.crt"}
    if about.client is not None:
        tls |= {
            "cert_file": f"{base}/{about.host}/client.cert",
            "key_file": f"{base}/{about.host}/client.key",
        }
    lines = [f'  "{about.host}":', "    tls:", *(f'      {key}: "{path}"' for key, path in tls.items())]
    content = ("\n".join(lines) + "\n").encode()
    own = _directory("k3s", base)(about)
    path = "/etc/rancher/k3s/registries.yaml"
    return [*own, TrustFile("k3s", path, content, block=about.host, header=_K3S_HEADER)]


def _system(about: Description) -> list[TrustFile]:
    name = f"knarr-{label_of(about.host)}.crt"
    return [TrustFile("system", f"/usr/local/share/ca-certificates/{name}", about.ca)]


def _tells_of_host_in_toml(text: str, host: str) -> str:
    try:
        known = tomllib.loads(text).get("registry", {})
    except tomllib.TOMLDecodeError as error:
        return f"it is not TOML: {error}"
    return f'it has a table [registry."{host}"] of its own: add the CA there' if host in known else ""


def _has_configs(text: str, host: str) -> str:
    # A second `configs:` would replace the first; what people wrote there is not moved about.
    own = re.search(r"^configs:", text.replace(_K3S_HEADER, ""), re.MULTILINE)
    return "it has configs of its own: add the host there" if own else ""


_K3S_HEADER = "configs:  # of knarr pki trust\n"
_PLANS: dict[str, Callable[[Description], list[TrustFile]]] = {
    "docker": _directory("docker", "/etc/docker/certs.d"),
    "podman": _directory("podman", "/etc/containers/certs.d"),
    "containerd": _containerd,
    "buildkitd": _buildkitd,
    "k3s": _k3s,
    "system": _system,
    "knarr": _directory("knarr", "/etc/knarr/certs.d"),
}
_OBSTACLES: dict[str, Callable[[str, str], str]] = {"buildkitd": _tells_of_host_in_toml, "k3s": _has_configs}


def secret(about: Description, *, name: str = "registry-ca") -> str:
    """A Secret with the CA and the client's certificate, for Pods that mount them (JSON, which is YAML)."""
    data = {"ca.crt": base64.b64encode(about.ca).decode()}
    if about.client is not None:
        data["client.cert"] = base64.b64encode(about.client[0]).decode()
        data["client.key"] = base64.b64encode(about.client[1]).decode()
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": data}
    return json.dumps(document, indent=2) + "\n"
