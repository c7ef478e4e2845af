"""The node image at work: started privileged by runc, it builds, pushes and runs for two platforms inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containerd.cri import Kubelet
from tests.node.container import Node

pytestmark = [pytest.mark.root, pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]

MakeNode = Callable[..., Node]
DOCKERFILE = """\
FROM busybox
RUN uname -m > /machine
CMD ["sh", "-c", "echo built on $(cat /machine), runs on $(uname -m); ip -o -4 addr | grep -c eth0; sleep 0.3"]
"""
APP = "127.0.0.1:5000/team/app:1"


@pytest.fixture
def work(node: MakeNode, busybox_layout: Path) -> Node:
    """A container with a Dockerfile in it, and the base image's layout."""
    found = node(binds={busybox_layout: "/bases/busybox"})
    context = found.place / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    return found


def test_it_builds_pushes_and_runs_an_image_for_two_platforms(work: Node) -> None:
    with work.started("knarr", "node", "start"):
        work.until("knarr serve: ready")
        base = "127.0.0.1:5000/library/busybox"
        work.exec("knarr", "copy", "--quiet", "oci:/bases/busybox:latest", base)
        platforms = ("--platform=linux/amd64,linux/arm64", f"--build-context=busybox=docker-image://{base}")
        daemon = "--builder=unix:///run/buildkit/buildkitd.sock"
        work.exec("knarr", "build", daemon, *platforms, f"--tag={APP}", "--push", f"{work.place}/context")
        index = json.loads(work.exec("knarr", "manifest", APP))
        found = {each["platform"]["architecture"] for each in index["manifests"]}
        assert found >= {"amd64", "arm64"}
        assert "built on x86_64, runs on x86_64" in _by_ctr(work, "runc")
        assert "built on x86_64, runs on x86_64" in _by_ctr(work, "crun")
        assert _of_a_pod(work) == (0, "built on x86_64, runs on x86_64\n1\n")
        for platform, machine in (("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")):
            said = work.exec("knarr", "run", "--rm", f"--platform={platform}", APP)
            assert said == f"built on {machine}, runs on {machine}\n1\n"


def _by_ctr(work: Node, runtime: str) -> str:
    """What the image says, run by containerd."""
    work.exec("ctr", "images", "pull", "--plain-http", "--platform=linux/amd64", APP)
    return work.exec("ctr", "run", "--rm", f"--runc-binary={runtime}", APP, f"one-{runtime}")


def _of_a_pod(work: Node) -> tuple[int, str]:
    """The status and the words of a pod with a network of its own, as a kubelet has it made."""
    logs = work.place / "logs"
    logs.mkdir()
    kubelet = Kubelet(f"/proc/{work.pid()}/root/run/containerd/containerd.sock")
    try:
        kubelet.pull(APP, "", "")
        return kubelet.run(APP, logs, host_network=False)
    finally:
        kubelet.close()


def test_a_command_runs_when_all_is_ready_and_its_status_is_the_containers(node: MakeNode) -> None:
    script = "test -S /run/containerd/containerd.sock && knarr build --help >/dev/null && echo $BUILDKIT_HOST; exit 7"
    status, said = node().run("knarr", "node", "start", "--", "sh", "-c", script)
    assert status == 7, said
    assert "unix:///run/buildkit/buildkitd.sock" in said


def test_sigterm_ends_it_in_order_and_what_lost_its_parent_was_reaped(node: MakeNode) -> None:
    here = node()
    with here.started("knarr", "node", "start") as process:
        here.until("knarr serve: ready")
        here.exec("sh", "-c", "(sleep 0.05 &) & sleep 0.3")
        assert "Z" not in {line.split()[0] for line in here.exec("ps", "-A", "-o", "state=").splitlines()}
        here.tell(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "did not end" not in here.log.read_text()


def test_a_service_that_dies_ends_the_node(node: MakeNode) -> None:
    here = node()
    with here.started("knarr", "node", "start") as process:
        here.until("knarr serve: ready")
        here.exec("pkill", "-9", "-x", "containerd")
        assert process.wait(60) == 1
    assert "error: containerd ended with status 137: the node ends" in here.log.read_text()


def test_certificates_of_a_mount_are_believed_by_every_program(node: MakeNode, tmp_path: Path) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*words, "-subj", "/CN=corp", "-keyout", "key", "-out", "corp.crt"], cwd=tmp_path, check=True)
    authorities = tmp_path / "ca"
    authorities.mkdir()
    os.rename(tmp_path / "corp.crt", authorities / "corp.crt")
    here = node(binds={authorities: "/etc/knarr/ca"}, env={"KNARR_NODE_CONTAINERD": "0"})
    verify = "openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt /etc/knarr/ca/corp.crt"
    status, said = here.run("knarr", "node", "start", "sh", "-c", verify)
    assert status == 0, said
    assert "corp.crt: OK" in said
    assert "certificates: corp.crt" in said


def test_a_key_in_place_of_a_certificate_is_refused(node: MakeNode, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    status, said = node(binds={tmp_path: "/etc/knarr/ca"}).run("knarr", "node", "start")
    assert status == 2
    assert "error: /etc/knarr/ca/ca.crt: holds a private key" in said


def test_without_rights_it_says_what_it_needs(node: MakeNode) -> None:
    here = node()
    process = here.configuration(["knarr", "node", "start"])["process"] | {"capabilities": {}}
    with here.started("knarr", "node", "start", process=process) as running:
        assert running.wait(60) == 1
    assert "error: this container may not mount: it can be no node" in here.log.read_text()


FUSE = """\
set -e
b=127.0.0.1:5000/library/busybox:latest
knarr copy --quiet oci:/bases/busybox:latest $b
ctr images pull --plain-http --platform linux/amd64 --snapshotter fuse-overlayfs $b >/dev/null
ctr run --rm --snapshotter fuse-overlayfs $b one sh -c 'echo x > /new && grep " / " /proc/mounts; sleep 0.3'
ctr -n k8s.io snapshots --snapshotter fuse-overlayfs ls
"""


def test_without_the_kernels_overlayfs_containers_of_containerd_are_on_fuse_overlayfs(
    node: MakeNode, busybox_layout: Path
) -> None:
    here = node(env={"KNARR_NODE_SNAPSHOTTER": "fuse-overlayfs"}, binds={busybox_layout: "/bases/busybox"})
    status, said = here.run("knarr", "node", "start", "sh", "-c", FUSE)
    assert status == 0, said
    assert "fuse-overlayfs snapshotter: ready" in said
    assert "/ fuse.fuse-overlayfs rw" in said
    assert "Committed" in said  # the image of pods is there as well


def test_every_program_of_it_runs_also_for_arm64(node_layout: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM node\nRUN ["knarr", "node", "check"]\n')
    command = [
        sys.executable,
        "-m",
        "knarr",
        "build",
        "--progress=plain",
        "--platform=linux/arm64",
        "--output=type=cacheonly",
    ]
    done = subprocess.run(
        [*command, f"--build-context=node=oci-layout://{node_layout}:1", str(tmp_path)],
        env={**os.environ, "KNARR_ROOT": str(tmp_path / "state")},
        capture_output=True,
        text=True,
    )
    assert "DOES NOT RUN" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "aarch64" in done.stderr


def test_where_the_hosts_groups_are_seen_the_node_gets_a_namespace_for_its_own(work: Node) -> None:
    linux = work.configuration([])["linux"]
    namespaces = [each for each in linux["namespaces"] if each["type"] != "cgroup"]
    with work.started("knarr", "node", "start", linux={**linux, "namespaces": namespaces}):
        work.until("knarr serve: ready")
        base = "127.0.0.1:5000/library/busybox:latest"
        work.exec("knarr", "copy", "--quiet", "oci:/bases/busybox:latest", base)
        work.exec("ctr", "images", "pull", "--plain-http", "--platform=linux/amd64", base)
        (work.place / "run").write_text(f"exec ctr run --rm --memory-limit=50000000 {base} one echo ran; sleep 0.3\n")
        # From inside its namespaces: what `runc exec` starts is in the host's for control groups, as the container is.
        apart = ["nsenter", f"--target={work.pid()}", "--all", "sh", f"{work.place}/run"]
        done = subprocess.run(apart, capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]})
        assert done.stdout == "ran\n", done.stderr


BARE = """\
set -e
for place in proc sys dev; do mount --rbind /$place $0/$place; done
exec chroot $0 /usr/local/bin/knarr node start -- sh -c 'ctr version && knarr images && knarr version'
"""


def test_the_same_is_laid_out_on_a_bare_machine_without_a_network_and_runs_there(
    node_cache: Path, node_rootfs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "node"
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    command = [sys.executable, "-m", "knarr", "node", "build", "--offline", f"--cache={node_cache}", f"--rootfs={root}"]
    subprocess.run(command, env=env, check=True, capture_output=True)
    for program in ("usr/bin/newuidmap", "usr/bin/containerd", "usr/local/bin/knarr", "etc/passwd", "bin"):
        ours, theirs = (root / program).lstat(), (node_rootfs / program).lstat()
        assert (ours.st_mode, ours.st_uid, ours.st_gid) == (theirs.st_mode, theirs.st_uid, theirs.st_gid), program
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    apart = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run([*apart, "sh", "-c", BARE, str(root)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "knarr serve: ready" in done.stderr
    assert "Server:" in done.stdout  # ctr reached the containerd in there
