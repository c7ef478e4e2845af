from knarr.pb import ops_pb2 as _ops_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BuildkitVersion(_message.Message):
    __slots__ = ["dockerfileVersion", "package", "revision", "version"]
    DOCKERFILEVERSION_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    dockerfileVersion: str
    package: str
    revision: str
    version: str
    def __init__(self, package: _Optional[str] = ..., version: _Optional[str] = ..., revision: _Optional[str] = ..., dockerfileVersion: _Optional[str] = ...) -> None: ...

class CDIDevice(_message.Message):
    __slots__ = ["Annotations", "AutoAllow", "Name", "OnDemand"]
    class AnnotationsEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    AUTOALLOW_FIELD_NUMBER: _ClassVar[int]
    Annotations: _containers.ScalarMap[str, str]
    AutoAllow: bool
    NAME_FIELD_NUMBER: _ClassVar[int]
    Name: str
    ONDEMAND_FIELD_NUMBER: _ClassVar[int]
    OnDemand: bool
    def __init__(self, Name: _Optional[str] = ..., AutoAllow: bool = ..., Annotations: _Optional[_Mapping[str, str]] = ..., OnDemand: bool = ...) -> None: ...

class GCPolicy(_message.Message):
    __slots__ = ["all", "filters", "keepDuration", "maxUsedSpace", "minFreeSpace", "reservedSpace"]
    ALL_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    KEEPDURATION_FIELD_NUMBER: _ClassVar[int]
    MAXUSEDSPACE_FIELD_NUMBER: _ClassVar[int]
    MINFREESPACE_FIELD_NUMBER: _ClassVar[int]
    RESERVEDSPACE_FIELD_NUMBER: _ClassVar[int]
    all: bool
    filters: _containers.RepeatedScalarFieldContainer[str]
    keepDuration: int
    maxUsedSpace: int
    minFreeSpace: int
    reservedSpace: int
    def __init__(self, all: bool = ..., keepDuration: _Optional[int] = ..., reservedSpace: _Optional[int] = ..., filters: _Optional[_Iterable[str]] = ..., maxUsedSpace: _Optional[int] = ..., minFreeSpace: _Optional[int] = ...) -> None: ...

class WorkerRecord(_message.Message):
    __slots__ = ["BuildkitVersion", "CDIDevices", "GCPolicy", "ID", "Labels", "platforms"]
    class LabelsEntry(_message.Message):
        __slots__ = ["key", "value"]
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BUILDKITVERSION_FIELD_NUMBER: _ClassVar[int]
    BuildkitVersion: BuildkitVersion
    CDIDEVICES_FIELD_NUMBER: _ClassVar[int]
    CDIDevices: _containers.RepeatedCompositeFieldContainer[CDIDevice]
    GCPOLICY_FIELD_NUMBER: _ClassVar[int]
    GCPolicy: _containers.RepeatedCompositeFieldContainer[GCPolicy]
    ID: str
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    Labels: _containers.ScalarMap[str, str]
    PLATFORMS_FIELD_NUMBER: _ClassVar[int]
    platforms: _containers.RepeatedCompositeFieldContainer[_ops_pb2.Platform]
    def __init__(self, ID: _Optional[str] = ..., Labels: _Optional[_Mapping[str, str]] = ..., platforms: _Optional[_Iterable[_Union[_ops_pb2.Platform, _Mapping]]] = ..., GCPolicy: _Optional[_Iterable[_Union[GCPolicy, _Mapping]]] = ..., BuildkitVersion: _Optional[_Union[BuildkitVersion, _Mapping]] = ..., CDIDevices: _Optional[_Iterable[_Union[CDIDevice, _Mapping]]] = ...) -> None: ...
