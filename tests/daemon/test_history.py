"""The history of builds, as clients list, keep and delete it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knarr.buildkit.failure import VERTEX
from knarr.buildkit.status import StatusLog, read
from knarr.daemon.history import COMPLETE, DELETED, STARTED, History
from knarr.daemon.settings import HistorySettings
from knarr.errors import Cancelled, KnarrError, NotFound, UsageError
from knarr.pb import control_pb2 as pb
from knarr.pb.status_pb2 import Status
from knarr.progress import Log, VertexDone, VertexStarted


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history", HistorySettings(max_entries=3))


def built(history: History, tmp_path: Path, ref: str, error: BaseException | None = None, **attrs: str) -> None:
    log = StatusLog(tmp_path / f"{ref}.status")
    history.begin(pb.SolveRequest(Ref=ref, Frontend="dockerfile.v0", FrontendAttrs=attrs))
    log.send(VertexStarted("step", "RUN make"))
    log.send(Log("step", 1, ref.encode()))
    log.send(VertexDone("step", cached=True))
    log.close()
    history.end(ref, log, {"containerimage.digest": "sha256:…"}, error, {}, {})


def listed(history: History, **asked: object) -> list[tuple[int, str]]:
    request = pb.BuildHistoryRequest(EarlyExit=True, **asked)  # type: ignore[arg-type]
    return [(event.type, event.record.Ref) for event in history.listen(request, until=lambda: False)]


def test_a_build_is_listed_while_it_runs_and_when_it_has_ended(history: History, tmp_path: Path) -> None:
    history.begin(pb.SolveRequest(Ref="running"))
    built(history, tmp_path, "ended")
    assert listed(history) == [(STARTED, "running"), (COMPLETE, "ended")]
    assert listed(history, ActiveOnly=True) == [(STARTED, "running")]
    assert listed(history, Ref="ended") == [(COMPLETE, "ended")]


def test_what_it_told_and_how_it_ended_is_kept(history: History, tmp_path: Path) -> None:
    built(history, tmp_path, "good")
    built(history, tmp_path, "bad", KnarrError("it broke"))
    good, bad = (event.record for event in history.listen(pb.BuildHistoryRequest(EarlyExit=True), until=lambda: False))
    assert (good.numTotalSteps, good.numCachedSteps, good.numCompletedSteps) == (1, 1, 1)
    assert good.ExporterResponse["containerimage.digest"] == "sha256:…"
    assert not good.HasField("error")
    assert bad.error.message == "it broke"
    log = history.log("good")
    assert log is not None
    assert b"".join(line.msg for answer in read(log) for line in answer.logs) == b"good"
    assert log.name == good.logs.digest.partition(":")[2]


def test_a_failure_is_kept_whole_beside_what_it_says(history: History, tmp_path: Path) -> None:
    for ref in ("one", "other"):
        error = KnarrError("it broke")
        error.vertex = f"sha256:{ref}"
        built(history, tmp_path, ref, error)
    one, other = (event.record for event in history.listen(pb.BuildHistoryRequest(EarlyExit=True), until=lambda: False))
    assert not one.error.details
    blob = history.blobs / one.externalError.digest.removeprefix("sha256:")
    status = Status.FromString(blob.read_bytes())
    assert (status.code, status.message) == (one.error.code, one.error.message)
    assert [json.loads(detail.value) for detail in status.details if detail.type_url == VERTEX] == [
        {"digest": "sha256:one"}
    ]
    history.delete("one")
    assert not blob.exists()
    assert (history.blobs / other.externalError.digest.removeprefix("sha256:")).exists()


def test_it_outlives_the_daemon(history: History, tmp_path: Path) -> None:
    built(history, tmp_path, "one")
    assert listed(History(tmp_path / "history", HistorySettings())) == [(COMPLETE, "one")]


def test_the_oldest_go_unless_they_are_pinned(history: History, tmp_path: Path) -> None:
    for ref in ("a", "b"):
        built(history, tmp_path, ref)
    history.pin("a", pinned=True)
    for ref in ("c", "d", "e"):
        built(history, tmp_path, ref)
    assert [ref for _, ref in listed(history)] == ["a", "c", "d", "e"]
    assert history.log("b") is None
    assert len(list(history.blobs.iterdir())) == 4


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    built(History(tmp_path / "history", HistorySettings()), tmp_path, "old")
    assert listed(History(tmp_path / "history", HistorySettings(max_age_s=-10))) == []


def test_one_may_be_deleted(history: History, tmp_path: Path) -> None:
    built(history, tmp_path, "one")
    history.delete("one")
    assert listed(history) == []
    with pytest.raises(NotFound, match="no build one"):
        history.delete("one")
    with pytest.raises(NotFound):
        history.pin("one", pinned=True)


def test_who_listens_hears_what_becomes_of_builds(history: History, tmp_path: Path) -> None:
    history.begin(pb.SolveRequest(Ref="one"))
    events = history.listen(pb.BuildHistoryRequest(Ref="one"), until=lambda: False)
    heard = [next(events)]
    built(history, tmp_path, "another")
    log = StatusLog(tmp_path / "log")
    log.close()
    history.end("one", log, {}, Cancelled(), {}, {})
    history.delete("one")
    heard += [next(events), next(events)]
    assert [(event.type, event.record.Ref) for event in heard] == [
        (STARTED, "one"),
        (COMPLETE, "one"),
        (DELETED, "one"),
    ]


@pytest.mark.parametrize(
    ("filter", "refs"),
    [
        ("ref==good", ["good"]),
        ("ref~=^b", ["bad"]),
        ("status==error", ["bad"]),
        ("status!=error", ["good", "gone"]),
        ("status=canceled", ["gone"]),
        ("repository==https://example/r.git", ["good"]),
        ("startedAt>1h,status==completed", ["good"]),
        ("startedAt<1h", []),
        ("completedAt>=2020-01-02T15:04:05Z", ["good", "bad", "gone"]),
        ("duration<1h", ["good", "bad", "gone"]),
        ("duration>=1h", []),
    ],
)
def test_filters_choose(history: History, tmp_path: Path, filter: str, refs: list[str]) -> None:
    built(history, tmp_path, "good", **{"vcs:source": "https://example/r.git"})
    built(history, tmp_path, "bad", KnarrError("it broke"))
    built(history, tmp_path, "gone", Cancelled())
    assert [ref for _, ref in listed(history, Filter=[filter])] == refs


@pytest.mark.parametrize("filter", ["colour==red", "ref~=(", "startedAt>whenever", "duration==5s", "ref<x", "?"])
def test_a_filter_that_makes_no_sense_is_refused(history: History, filter: str) -> None:
    with pytest.raises(UsageError):
        listed(history, Filter=[filter])


def test_a_limit_gives_the_newest_first(history: History, tmp_path: Path) -> None:
    for ref in ("a", "b", "c"):
        built(history, tmp_path, ref)
    assert [ref for _, ref in listed(history, Limit=2)] == ["c", "b"]
    with pytest.raises(UsageError, match="limit"):
        listed(history, Limit=-1)


def test_provenance_is_a_blob_as_long_as_a_build_has_it(history: History, tmp_path: Path) -> None:
    def build(ref: str, provenance: dict[str, bytes]) -> None:
        log = StatusLog(tmp_path / f"{ref}.status")
        history.begin(pb.SolveRequest(Ref=ref))
        log.close()
        history.end(ref, log, {}, None, {}, provenance)

    build("one", {"linux/amd64": b"{}", "linux/arm64": b"[]"})
    build("two", {"": b"{}"})
    request = pb.BuildHistoryRequest(EarlyExit=True)
    records = {event.record.Ref: event.record for event in history.listen(request, until=lambda: False)}

    (said,) = records["two"].Result.Attestations
    assert said.media_type == "application/vnd.in-toto+json"
    assert said.annotations["in-toto.io/predicate-type"] == "https://slsa.dev/provenance/v1"
    assert records["one"].Results["linux/amd64"].Attestations[0].digest == said.digest
    blob = history.blobs / said.digest.removeprefix("sha256:")
    assert blob.read_bytes() == b"{}"

    history.delete("one")
    assert blob.exists()
    history.delete("two")
    assert not blob.exists()
