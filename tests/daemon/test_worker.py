"""What the daemon says of itself as a worker."""

from __future__ import annotations

import json
from pathlib import Path

from knarr.daemon.worker import Worker


def test_devices_are_listed_as_they_are_now(tmp_path: Path) -> None:
    worker = Worker(tmp_path, labels={}, cdi_dirs=(tmp_path / "none", tmp_path / "cdi"))
    assert list(worker.records()[0].CDIDevices) == []
    (tmp_path / "cdi").mkdir()
    edits = {"containerEdits": {"env": ["A=1"]}}
    free = {"name": "free", "annotations": {"org.mobyproject.buildkit.device.autoallow": "true"}, **edits}
    spec = {"cdiVersion": "0.6.0", "kind": "vendor.com/gpu", "devices": [{"name": "bound", **edits}, free]}
    (tmp_path / "cdi/vendor.json").write_text(json.dumps(spec))
    (device, allowed) = worker.records()[0].CDIDevices
    assert (device.Name, device.AutoAllow) == ("vendor.com/gpu=bound", False)
    assert (allowed.Name, allowed.AutoAllow) == ("vendor.com/gpu=free", True)
    assert dict(allowed.Annotations) == free["annotations"]


def test_annotations_that_yaml_reads_as_truth_values_are_text(tmp_path: Path) -> None:
    text = "cdiVersion: 0.6.0\nkind: v.com/c\nannotations: {org.mobyproject.buildkit.device.autoallow: true, n: 1}\n"
    (tmp_path / "v.yaml").write_text(text + "devices: [{name: d, containerEdits: {env: [A=1]}}]\n")
    (device,) = Worker(tmp_path, labels={}, cdi_dirs=(tmp_path,)).records()[0].CDIDevices
    assert (device.AutoAllow, device.Annotations["n"]) == (True, "1")


def test_a_worker_keeps_its_name_and_its_labels(tmp_path: Path) -> None:
    first, second = (Worker(tmp_path, labels={"a": "b"}).records()[0] for _ in range(2))
    assert first.ID == second.ID
    assert first.Labels["a"] == "b"
    assert first.platforms[0].OS == "linux"
