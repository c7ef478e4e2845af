"""What a kubelet asks of containerd's CRI plugin, as far as a pod with one container needs it.

The messages are made here from their names and numbers (cri-api, runtime.v1), for nothing in
knarr itself speaks CRI.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_SCALARS = {"string": Field.TYPE_STRING, "int32": Field.TYPE_INT32, "bool": Field.TYPE_BOOL}
_MESSAGES = {
    "Metadata": "1 string name, 2 string uid, 3 string namespace",
    "NamespaceOption": "1 int32 network",
    "Security": "1 NamespaceOption namespace_options",
    "Linux": "2 Security security_context",
    "Pod": "1 Metadata metadata, 3 string log_directory, 8 Linux linux",
    "RunPodSandboxRequest": "1 Pod config",
    "ImageSpec": "1 string image",
    "Login": "1 string username, 2 string password",
    "PullImageRequest": "1 ImageSpec image, 2 Login auth",
    "Name": "1 string name",
    "ContainerLinux": "1 Name unused",
    "Container": "1 Name metadata, 2 ImageSpec image, 11 string log_path, 15 ContainerLinux linux",
    "CreateContainerRequest": "1 string pod_sandbox_id, 2 Container config, 3 Pod sandbox_config",
    "Id": "1 string id",
    "Status": "3 int32 state, 7 int32 exit_code, 10 string reason, 11 string message",
    "StatusResponse": "1 Status status",
    "Image": "1 string id, 2 strings repo_tags, 3 strings repo_digests, 8 bool pinned",
    "Images": "1 Images_ images",
    "Empty": "",
}
_EXITED = 2  # of ContainerState
_POD, _NODE = 0, 2  # of NamespaceMode


def _pool() -> dict[str, Any]:
    file = FileDescriptorProto(name="cri_of_tests.proto", package="cri_of_tests", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, kind, field in (text.split() for text in fields.split(", ") if text):
            made = message.field.add(name=field, number=int(number), label=Field.LABEL_OPTIONAL)
            if kind == "strings":
                made.label, made.type = Field.LABEL_REPEATED, Field.TYPE_STRING
            elif kind == "Images_":
                made.label, made.type, made.type_name = Field.LABEL_REPEATED, Field.TYPE_MESSAGE, ".cri_of_tests.Image"
            elif kind in _SCALARS:
                made.type = _SCALARS[kind]
            else:
                made.type, made.type_name = Field.TYPE_MESSAGE, f".cri_of_tests.{kind}"
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"cri_of_tests.{name}")) for name in _MESSAGES}


MESSAGE = _pool()


class Kubelet:
    """Asks the CRI plugin at a containerd's socket."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(f"unix:{address}", options=(("grpc.default_authority", "localhost"),))

    def close(self) -> None:
        self._channel.close()

    def images(self) -> dict[str, Any]:
        """Its images by tag."""
        found = self._call("ImageService/ListImages", MESSAGE["Empty"](), "Images").images
        return {tag: image for image in found for tag in image.repo_tags}

    def pull(self, image: str, user: str, password: str) -> None:
        login = MESSAGE["Login"](username=user, password=password)
        request = MESSAGE["PullImageRequest"](image=MESSAGE["ImageSpec"](image=image), auth=login)
        self._call("ImageService/PullImage", request)

    def run(self, image: str, logs: Path, *, host_network: bool = True) -> tuple[int, str]:
        """Run a pod of one container to its end: the exit code, and what it said."""
        network = MESSAGE["NamespaceOption"](network=_NODE if host_network else _POD)
        linux = MESSAGE["Linux"](security_context=MESSAGE["Security"](namespace_options=network))
        pod = MESSAGE["Pod"](
            metadata=MESSAGE["Metadata"](name="p", uid=logs.name, namespace="default"),
            log_directory=str(logs),
            linux=linux,
        )
        sandbox = self._call("RuntimeService/RunPodSandbox", MESSAGE["RunPodSandboxRequest"](config=pod)).id
        try:
            config = MESSAGE["Container"](
                metadata=MESSAGE["Name"](name="app"),
                image=MESSAGE["ImageSpec"](image=image),
                log_path="app.log",
                linux=MESSAGE["ContainerLinux"](),
            )
            request = MESSAGE["CreateContainerRequest"](pod_sandbox_id=sandbox, config=config, sandbox_config=pod)
            container = self._call("RuntimeService/CreateContainer", request).id
            self._call("RuntimeService/StartContainer", MESSAGE["Id"](id=container), "Empty")
            return self._ended(container), _said(logs / "app.log")
        finally:
            for step in ("StopPodSandbox", "RemovePodSandbox"):
                self._call(f"RuntimeService/{step}", MESSAGE["Id"](id=sandbox), "Empty")

    def _ended(self, container: str) -> int:
        deadline = time.monotonic() + 60
        while True:
            request = MESSAGE["Id"](id=container)
            status = self._call("RuntimeService/ContainerStatus", request, "StatusResponse").status
            if status.state == _EXITED:
                return int(status.exit_code)
            assert time.monotonic() < deadline, status
            time.sleep(0.05)

    def _call(self, method: str, message: Any, answer: str = "Id") -> Any:
        call = self._channel.unary_unary(
            f"/runtime.v1.{method}",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=MESSAGE[answer].FromString,
        )
        return call(message, timeout=60)


def _said(log: Path) -> str:
    """What a container wrote, without the time, stream and mark of each line."""
    return "".join(line.split(" ", 3)[3] for line in log.read_text().splitlines(keepends=True))
