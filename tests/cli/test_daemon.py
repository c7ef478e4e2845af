"""The words of `knarr daemon`, which are buildkitd's."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.cli.daemon import ALL, FLAGS, settings_of
from knarr.cli.flags import parse
from knarr.config import Containerd
from knarr.daemon.settings import DaemonSettings
from knarr.errors import UsageError


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path))
    monkeypatch.setattr("knarr.remote.settings.BUILDKITD_TOML", str(tmp_path / "none.toml"))


def settings(*words: str) -> DaemonSettings:
    return settings_of(parse(ALL, words, command="knarr daemon"))


def test_the_words_of_buildkits_test_suite_are_taken(tmp_path: Path) -> None:
    config = tmp_path / "buildkitd.toml"
    config.write_text('[registry."docker.io"]\nmirrors = ["localhost:5000"]\n[otel]\nsocketPath = "/x"\n')
    found = settings(
        "--oci-worker=true",
        "--containerd-worker=false",
        "--oci-worker-gc=false",
        "--oci-worker-labels=a.b=c",
        f"--config={config}",
        "--root",
        str(tmp_path / "root"),
        "--addr",
        "unix:///a.sock",
        "--debug",
    )
    assert found.root == tmp_path / "root"
    assert found.addresses == ("unix:///a.sock",)
    assert found.labels == {"a.b": "c"}
    assert (found.collects, found.debug, found.config) == (False, True, str(config))
    assert (str(found.trace_socket), found.warnings) == ("/x", ())


def test_a_flag_goes_before_the_file(tmp_path: Path) -> None:
    config = tmp_path / "buildkitd.toml"
    config.write_text('root = "/file"\n[grpc]\naddress = ["unix:///file.sock"]\n[worker.oci]\ngc = false\n')
    assert settings("--config", str(config)).root == Path("/file")
    found = settings("--config", str(config), "--root", "/flag", "--addr", "tcp://localhost:1", "--oci-worker-gc")
    assert (found.root, found.addresses, found.collects) == (Path("/flag"), ("tcp://localhost:1",), True)


def test_a_containerd_worker_is_asked_for_by_flags_or_file_and_flags_win(tmp_path: Path) -> None:
    assert settings().containerd is None
    found = settings("--oci-worker=false", "--containerd-worker=true", "--containerd-worker-addr=unix:///x")
    assert (found.containerd, found.snapshotter) == (Containerd("/x", "buildkit"), "containerd:overlayfs")
    config = tmp_path / "buildkitd.toml"
    config.write_text(
        "[worker.oci]\nenabled = false\n"
        '[worker.containerd]\nenabled = true\naddress = "/y"\nnamespace = "ns"\nsnapshotter = "native"\n'
    )
    found = settings("--config", str(config))
    assert (found.containerd, found.snapshotter) == (Containerd("/y", "ns"), "containerd:native")
    assert found.warnings == ()
    found = settings("--config", str(config), "--containerd-worker-snapshotter=knarr")
    assert (found.containerd, found.snapshotter) == (Containerd("/y", "ns"), "containerd:knarr")
    found = settings("--config", str(config), "--containerd-worker=false")
    assert (found.containerd, found.snapshotter) == (None, "")


def test_what_has_no_effect_is_told(tmp_path: Path) -> None:
    found = settings("--oci-max-parallelism", "4", "--proxy-network", "--containerd-worker=auto")
    assert found.warnings == ("--oci-max-parallelism has no effect here", "--proxy-network has no effect here")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--oci-worker=false"], "leaves no worker"),
        (["--oci-worker-snapshotter", "stargz"], "stargz: not known"),
        (["--oci-worker-labels", "novalue"], "not KEY=VALUE"),
        (["--drain-timeout", "soon"], "not a number of seconds"),
        (["--adress", "x"], "did you mean --addr"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(*words)
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_every_flag_says_what_it_does() -> None:
    assert all(flag.summary for flag in FLAGS)


def test_the_network_of_steps() -> None:
    found = settings("--oci-worker-net=cni", "--oci-cni-config-path=/net.d", "--oci-cni-pool-size=2").network
    assert (found.mode, found.cni_config, found.pool, found.plugin_dirs) == ("cni", "/net.d", 2, ())
    for wrong in ("--oci-worker-net=slirp", "--oci-cni-pool-size=many"):
        with pytest.raises(UsageError):
            settings(wrong)


def test_devices_are_given_unless_that_is_switched_off() -> None:
    assert settings().gives_devices
    assert not settings("--cdi-disabled").gives_devices
