"""Pods and Jobs of Kubernetes that run one knarr command, for each privilege that a cluster grants. Pure.

What the command reads comes from mounts: logins for registries from a secret, an
authority's certificate from a config map, the build context and the state from
claims, secrets of the build from secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knarr.record import field, record

Manifest = dict[str, Any]
_STATE, _LOGINS, _CA, _CONTEXT, _SECRETS = (
    "/state",
    "/etc/knarr/docker",
    "/etc/knarr/ca",
    "/workspace",
    "/etc/knarr/secrets",
)
_USER = 1000
_UNCONFINED = {"type": "Unconfined"}
_DEFAULT = {"type": "RuntimeDefault"}

# What each profile asks of the cluster, from the most to the least; the level of Pod Security that lets it through.
SECURITY: Mapping[str, Mapping[str, Any]] = {
    "privileged": {"privileged": True},
    # All within the pod's user namespace: mounts and namespaces for steps, and a /proc that they may mount anew.
    "userns": {
        "capabilities": {"add": ["SYS_ADMIN", "NET_ADMIN"]},
        "procMount": "Unmasked",
        "seccompProfile": _UNCONFINED,
        "appArmorProfile": _UNCONFINED,
    },
    "baseline": {"seccompProfile": _DEFAULT},
    "restricted": {
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": _DEFAULT,
    },
}


@record
class Run:
    """One command in a pod. Names of what is mounted are empty where nothing is."""

    image: str
    profile: str
    words: tuple[str, ...]  # what follows `knarr`
    name: str = "knarr"
    namespace: str = "default"
    logins: str = ""  # secret of type kubernetes.io/dockerconfigjson
    ca: str = ""  # config map with ca.crt
    state: str = ""  # claim; else the cache lasts as long as the pod
    context: str = ""  # claim, mounted read-only
    secrets: tuple[str, ...] = ()
    pull_secret: str = ""
    cpu: str = "1"
    memory: str = "2Gi"
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": "knarr", "app.kubernetes.io/instance": self.name}


def pod(run: Run) -> Manifest:
    """A Pod that runs the command once."""
    return _object(run, "v1", "Pod", spec=_pod_spec(run))


def job(run: Run, *, tries: int = 1, keep_s: int = 3600) -> Manifest:
    """A Job that runs the command until it has worked, at most `tries` times, and is gone `keep_s` seconds after."""
    spec = {
        "backoffLimit": tries - 1,
        "ttlSecondsAfterFinished": keep_s,
        "template": {"metadata": {"labels": run.labels}, "spec": _pod_spec(run)},
    }
    return _object(run, "batch/v1", "Job", spec=spec)


def _object(run: Run, version: str, kind: str, *, spec: Manifest) -> Manifest:
    about = {"name": run.name, "namespace": run.namespace, "labels": run.labels}
    return {"apiVersion": version, "kind": kind, "metadata": about, "spec": spec}


def _pod_spec(run: Run) -> Manifest:
    volumes = list(_volumes(run))
    fs_group = {"fsGroup": _USER, "fsGroupChangePolicy": "OnRootMismatch"} if run.profile == "restricted" else {}
    return {
        **({"hostUsers": False} if run.profile == "userns" else {}),
        **({"securityContext": fs_group} if fs_group else {}),
        **({"imagePullSecrets": [{"name": run.pull_secret}]} if run.pull_secret else {}),
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [_container(run, [mount for _, mount in volumes])],
        "volumes": [volume for volume, _ in volumes],
    }


def _container(run: Run, mounts: list[Manifest]) -> Manifest:
    environment = {
        "KNARR_ROOT": _STATE,
        "HOME": "/tmp",
        **({"DOCKER_CONFIG": _LOGINS} if run.logins else {}),
        **({"SSL_CERT_FILE": f"{_CA}/ca.crt"} if run.ca else {}),
        **run.environment,
    }
    return {
        "name": "knarr",
        "image": run.image,
        "command": ["knarr", *run.words],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": run.cpu, "memory": run.memory}},
        "securityContext": {**SECURITY[run.profile]},
    }


def _volumes(run: Run) -> list[tuple[Manifest, Manifest]]:
    """Each volume, and where it is mounted."""
    claim = {"persistentVolumeClaim": {"claimName": run.state}} if run.state else {"emptyDir": {}}
    found = [
        _mounted("state", claim, _STATE, writable=True),
        _mounted("tmp", {"emptyDir": {}}, "/tmp", writable=True),
        _mounted("run", {"emptyDir": {"medium": "Memory"}}, "/run/buildkit", writable=True),
    ]
    if run.logins:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        found.append(_mounted("logins", {"secret": {"secretName": run.logins, "items": items}}, _LOGINS))
    if run.ca:
        found.append(_mounted("ca", {"configMap": {"name": run.ca}}, _CA))
    if run.context:
        found.append(_mounted("context", {"persistentVolumeClaim": {"claimName": run.context}}, _CONTEXT))
    for number, name in enumerate(run.secrets):
        found.append(_mounted(f"secret-{number}", {"secret": {"secretName": name}}, f"{_SECRETS}/{name}"))
    return found


def _mounted(name: str, source: Manifest, place: str, *, writable: bool = False) -> tuple[Manifest, Manifest]:
    read_only = {} if writable else {"readOnly": True}
    return {"name": name, **source}, {"name": name, "mountPath": place, **read_only}
