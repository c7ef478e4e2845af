"""Manifests by which a Kubernetes cluster runs `knarr serve`: plain objects, which `kubectl apply` takes as YAML. Pure.

One StatefulSet with one pod: builds and images lie on one volume. The daemon is
reached by mTLS only, since who may build may run anything. With `rootless` the pod
has a user namespace of its own (`hostUsers: false`): what is root in it is nobody
on the node. Otherwise it is privileged, which every cluster can run.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from knarr.record import field, record

REGISTRY_PORT, BUILDKIT_PORT, WATCH_PORT = 5000, 1234, 6060
_DRAIN_S = 300  # builds that run when the pod is to go
_STATE, _CONFIG, _TLS, _LOGINS = "/var/lib/knarr", "/etc/knarr", "/etc/knarr-tls", "/etc/knarr-logins"

Manifest = dict[str, Any]


@record
class Plan:
    """What is to run, and as what. `certificates` and `htpasswd` are put into secrets; else `*_secret` names those."""

    image: str
    hostname: str  # what references call the registry
    name: str = "knarr"
    namespace: str = "knarr"
    storage: str = "50Gi"
    storage_class: str = ""
    cpu: str = "1"
    memory: str = "2Gi"
    rootless: bool = False
    tls_secret: str = ""
    certificates: Mapping[str, bytes] = field(default_factory=dict, hash=False, repr=False)  # tls.crt, tls.key, ca.crt
    htpasswd_secret: str = ""
    htpasswd: bytes = field(default=b"", repr=False)
    pull_secret: str = ""
    namespaces: tuple[str, ...] = ()  # others whose pods may come
    networks: tuple[str, ...] = ()  # CIDRs from where the registry may be reached: nodes pull from their own network

    @property
    def labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": "knarr", "app.kubernetes.io/instance": self.name}

    @property
    def has_logins(self) -> bool:
        return bool(self.htpasswd or self.htpasswd_secret)


def manifests(plan: Plan) -> Iterator[Manifest]:
    """All objects, in an order in which they can be applied."""
    if plan.namespace != "default":
        yield _namespace(plan)
    yield _config(plan)
    yield from _secrets(plan)
    yield _object(
        plan,
        "v1",
        "PersistentVolumeClaim",
        f"{plan.name}-state",
        spec={
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": plan.storage_class} if plan.storage_class else {}),
            "resources": {"requests": {"storage": plan.storage}},
        },
    )
    yield _service(plan)
    yield _network_policy(plan)
    yield _stateful_set(plan)


def text(documents: Iterable[Manifest]) -> str:
    """The objects as YAML; text of several lines stands as people write it."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, explicit_start=True)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _as_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _as_text)


def _object(plan: Plan, version: str, kind: str, name: str, **more: Any) -> Manifest:
    about = {"name": name, "namespace": plan.namespace, "labels": plan.labels}
    return {"apiVersion": version, "kind": kind, "metadata": about, **more}


def _namespace(plan: Plan) -> Manifest:
    # Both variants are beyond what the stricter levels of Pod Security let through.
    labels = {"pod-security.kubernetes.io/enforce": "privileged", "pod-security.kubernetes.io/warn": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plan.namespace, "labels": labels}}


def _config(plan: Plan) -> Manifest:
    lines = [
        "[grpc]",
        f'  address = ["unix:///run/buildkit/buildkitd.sock", "tcp://0.0.0.0:{BUILDKIT_PORT}"]',
        f'  debugAddress = "0.0.0.0:{WATCH_PORT}"',
        "  [grpc.tls]",
        f'    cert = "{_TLS}/tls.crt"',
        f'    key = "{_TLS}/tls.key"',
        f'    ca = "{_TLS}/ca.crt"',
        "[serve]",
        f'  names = ["{plan.hostname}"]',
        f'  listen = "0.0.0.0:{REGISTRY_PORT}"',
        "  [serve.tls]",
        f'    certificate = "{_TLS}/tls.crt"',
        f'    key = "{_TLS}/tls.key"',
        *(["  [serve.auth]", f'    htpasswd = "{_LOGINS}/htpasswd"'] if plan.has_logins else []),
        "  [serve.retention]",
        '    interval = "6h"',
    ]
    return _object(plan, "v1", "ConfigMap", f"{plan.name}-config", data={"serve.toml": "\n".join(lines) + "\n"})


def _secrets(plan: Plan) -> Iterator[Manifest]:
    if plan.certificates:
        data = {name: _encoded(text) for name, text in plan.certificates.items()}
        yield _object(plan, "v1", "Secret", _tls_secret(plan), type="kubernetes.io/tls", data=data)
    if plan.htpasswd:
        data = {"htpasswd": _encoded(plan.htpasswd)}
        yield _object(plan, "v1", "Secret", _htpasswd_secret(plan), type="Opaque", data=data)


def _encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def _tls_secret(plan: Plan) -> str:
    return plan.tls_secret or f"{plan.name}-tls"


def _htpasswd_secret(plan: Plan) -> str:
    return plan.htpasswd_secret or f"{plan.name}-htpasswd"


def _service(plan: Plan) -> Manifest:
    ports = [
        {"name": "registry", "port": 443, "targetPort": "registry", "protocol": "TCP"},
        {"name": "buildkit", "port": BUILDKIT_PORT, "targetPort": "buildkit", "protocol": "TCP"},
    ]
    return _object(plan, "v1", "Service", plan.name, spec={"selector": plan.labels, "ports": ports})


def _network_policy(plan: Plan) -> Manifest:
    named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(plan.namespaces)}
    pods: list[Manifest] = [{"podSelector": {}}]
    if plan.namespaces:
        pods.append({"namespaceSelector": {"matchExpressions": [named]}})
    ports = [{"protocol": "TCP", "port": port} for port in ("registry", "buildkit", "watch")]
    ingress: list[Manifest] = [{"from": pods, "ports": ports}]
    if plan.networks:
        ingress.append({"from": [{"ipBlock": {"cidr": cidr}} for cidr in plan.networks], "ports": ports[:1]})
    spec = {"podSelector": {"matchLabels": plan.labels}, "policyTypes": ["Ingress"], "ingress": ingress}
    return _object(plan, "networking.k8s.io/v1", "NetworkPolicy", plan.name, spec=spec)


def _stateful_set(plan: Plan) -> Manifest:
    spec = {
        "serviceName": plan.name,
        "replicas": 1,  # one process has the store
        "selector": {"matchLabels": plan.labels},
        "template": {"metadata": {"labels": plan.labels}, "spec": _pod(plan)},
    }
    return _object(plan, "apps/v1", "StatefulSet", plan.name, spec=spec)


def _pod(plan: Plan) -> Manifest:
    return {
        **({"hostUsers": False} if plan.rootless else {}),
        **({"imagePullSecrets": [{"name": plan.pull_secret}]} if plan.pull_secret else {}),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _DRAIN_S + 30,
        "containers": [_container(plan)],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": f"{plan.name}-state"}},
            {"name": "config", "configMap": {"name": f"{plan.name}-config"}},
            {"name": "tls", "secret": {"secretName": _tls_secret(plan), "defaultMode": 0o400}},
            *(
                [{"name": "logins", "secret": {"secretName": _htpasswd_secret(plan), "defaultMode": 0o400}}]
                if plan.has_logins
                else []
            ),
            {"name": "run", "emptyDir": {"medium": "Memory"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _container(plan: Plan) -> Manifest:
    words = ["knarr", "serve", "--config", f"{_CONFIG}/serve.toml", "--root", _STATE]
    places = {"state": _STATE, "config": _CONFIG, "tls": _TLS, "run": "/run/buildkit", "tmp": "/tmp"}
    if plan.has_logins:
        places["logins"] = _LOGINS
    read_only = ("config", "tls", "logins")
    ports = (("registry", REGISTRY_PORT), ("buildkit", BUILDKIT_PORT), ("watch", WATCH_PORT))
    return {
        "name": "knarr",
        "image": plan.image,
        "command": [*words, "--drain-timeout", str(_DRAIN_S)],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if name in read_only else {})}
            for name, path in places.items()
        ],
        "resources": {"requests": {"cpu": plan.cpu, "memory": plan.memory}},
        "startupProbe": _probe("/healthz", periodSeconds=2, failureThreshold=150),  # a store may have much to look at
        "livenessProbe": _probe("/healthz", periodSeconds=20, failureThreshold=6),
        "readinessProbe": _probe("/readyz", periodSeconds=5),
        "securityContext": _security(plan),
    }


def _probe(path: str, **numbers: int) -> Manifest:
    return {"httpGet": {"path": path, "port": "watch"}, "timeoutSeconds": 5, **numbers}


def _security(plan: Plan) -> Manifest:
    if not plan.rootless:
        return {"privileged": True, "readOnlyRootFilesystem": True}
    return {
        "readOnlyRootFilesystem": True,
        # All within the pod's user namespace: mounts and name spaces for steps, and a /proc that they may mount anew.
        "capabilities": {"add": ["SYS_ADMIN", "NET_ADMIN"]},
        "procMount": "Unmasked",
        "seccompProfile": {"type": "Unconfined"},
        "appArmorProfile": {"type": "Unconfined"},
    }
