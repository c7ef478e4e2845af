from knarr.containerd import gclabels
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest

LABEL = "containerd.io/gc.ref.content."


def one(text: str, media_type: str) -> Descriptor:
    return Descriptor(media_type, Digest.of(text.encode()), len(text))


def test_a_manifest_leads_to_its_config_and_to_every_layer() -> None:
    config, layers = one("c", mediatype.OCI_CONFIG), (one("1", mediatype.OCI_LAYER), one("2", mediatype.OCI_LAYER))
    labels = gclabels.of_document(Manifest(b"", mediatype.OCI_MANIFEST, config, layers))
    assert labels == {
        LABEL + "config": config.digest,
        LABEL + "l.0": layers[0].digest,
        LABEL + "l.1": layers[1].digest,
    }


def test_an_index_leads_to_manifests_indexes_and_whatever_else_it_names() -> None:
    entries = (one("m", mediatype.OCI_MANIFEST), one("x", "text/plain"), one("i", mediatype.OCI_INDEX))
    labels = gclabels.of_document(Index(b"", mediatype.OCI_INDEX, entries))
    assert labels == {
        LABEL + "m.0": entries[0].digest,
        LABEL + "0": entries[1].digest,
        LABEL + "m.1": entries[2].digest,
    }


def test_a_referrer_is_found_again_in_its_subject_s_labels() -> None:
    digest = Digest.of(b"signature")
    labels = {**gclabels.of_referrer(digest), LABEL + "config": str(Digest.of(b"c"))}
    assert gclabels.referrers(labels) == (digest,)
    assert labels[f"{LABEL}referrer.sha256.{digest.hex[:12]}"] == digest


def test_a_source_is_told_by_host_and_name() -> None:
    label = gclabels.of_source("docker.io/library/busybox")
    assert label == {"containerd.io/distribution.source.docker.io": "library/busybox"}
