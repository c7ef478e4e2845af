"""The names of images in one namespace of containerd's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from knarr.containerd.client import KUBERNETES, Containerd
from knarr.containerd.failure import AlreadyExists
from knarr.errors import NotFound
from knarr.pb import images_pb2 as pb
from knarr.pb.containerdtypes_pb2 import Descriptor as Target
from knarr.record import field, record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

_IMAGES = pb.DESCRIPTOR.services_by_name["Images"]
MANAGED = {"io.cri-containerd.image": "managed"}  # Kubernetes' own: CRI shows and removes it
PINNED = {"io.cri-containerd.pinned": "pinned"}  # the kubelet does not remove it when disk space is short


@record
class Image:
    """A name and what it leads to."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    updated_ns: int = 0


class Images:
    """The names in the namespace of `daemon`."""

    def __init__(self, daemon: Containerd) -> None:
        self._daemon = daemon
        self._caller = daemon.caller(_IMAGES)

    def get(self, name: str) -> Image:
        """What `name` leads to.

        Raises:
            NotFound
        """
        try:
            return _image(self._caller.unary("Get", pb.GetImageRequest(name=name)).image)
        except NotFound:
            place = f"namespace {self._daemon.namespace} of containerd"
            hint = f"`ctr --namespace {self._daemon.namespace} images ls` lists what there is"
            raise NotFound(f"there is no image {name} in {place}", hint=hint) from None

    def list(self) -> tuple[Image, ...]:
        """All of them, by name."""
        found = self._caller.unary("List", pb.ListImagesRequest()).images
        return tuple(sorted((_image(image) for image in found), key=lambda image: image.name))

    def set(self, name: str, target: Descriptor, *, labels: Mapping[str, str] | None = None) -> None:
        """Let `name` lead to `target`. Labels it has besides `labels` stay."""
        wanted = {**(MANAGED if self._daemon.namespace == KUBERNETES else {}), **(labels or {})}
        image = pb.Image(
            name=name,
            labels=wanted,
            target=Target(media_type=target.media_type, digest=str(target.digest), size=target.size),
        )
        mask = FieldMask(paths=["target", *(f"labels.{key}" for key in wanted)])
        try:
            self._caller.unary("Create", pb.CreateImageRequest(image=image))
        except AlreadyExists:
            self._caller.unary("Update", pb.UpdateImageRequest(image=image, update_mask=mask))

    def remove(self, name: str, *, sync: bool = False) -> None:
        """Forget `name`; what only it kept is collected (before this returns, with `sync`).

        Raises:
            NotFound
        """
        self._caller.unary("Delete", pb.DeleteImageRequest(name=name, sync=sync))


def _image(found: pb.Image) -> Image:
    target = Descriptor(found.target.media_type, Digest.parse(found.target.digest), found.target.size)
    return Image(found.name, target, dict(found.labels), _ns(found.updated_at))


def _ns(at: Timestamp) -> int:
    return at.seconds * 10**9 + at.nanos
