"""The flags of `knarr build`: those of `docker buildx build`, with the same defaults.

What buildx has and knarr has not is listed too, so that it is refused by name
with what to use instead, and never taken for a typing error or ignored.
"""

from __future__ import annotations

from knarr.cli.flags import Flag, Kind, usage

_LEGACY = "it never meant anything to BuildKit either; leave it out"

FLAGS = (
    Flag("add-host", Kind.LIST, "HOST:IP", "add a line to /etc/hosts of RUN steps (also HOST=IP, HOST=[IPv6])"),
    Flag("allow", Kind.LIST, "RIGHT", "network.host, security.insecure, device[=NAME], or buildx.local.delete"),
    Flag("annotation", Kind.LIST, "[LEVEL:]KEY=VALUE", "annotate the manifest; LEVEL manifest, index, …-descriptor"),
    Flag("attest", Kind.LIST, "type=KIND[,…]", "attest how it was built (provenance) or what is in it (sbom)"),
    Flag("attest-store", Kind.TEXT, "PLACE", "where it goes: auto, index, referrers, both, tag, file=DIRECTORY, none"),
    Flag("build-arg", Kind.LIST, "NAME[=VALUE]", "set an ARG; without a value it is taken from the environment"),
    Flag("build-context", Kind.LIST, "NAME=WHERE", "another context: directory, URL, docker-image://, oci-layout://"),
    Flag("builder", Kind.TEXT, "BUILDER", "build there: a name, or an address (unix://, tcp://, ssh:// …)"),
    Flag("cache-from", Kind.LIST, "SPEC", "take steps from a shared cache: REFERENCE, or type=registry|local,…"),
    Flag(
        "cache-to", Kind.LIST, "SPEC", "write a shared cache: REFERENCE, or type=registry|local|inline,mode=min|max,…"
    ),
    Flag("call", Kind.TEXT, "QUESTION", "answer instead of building: check, outline or targets[,format=json]"),
    Flag("cgroup-parent", Kind.TEXT, "CGROUP", "the parent cgroup of RUN steps"),
    Flag("check", Kind.SWITCH, "", "say what is doubtful in the Dockerfile: --call check"),
    Flag("cpu-period", Kind.TEXT, "MICROSECONDS", "of --cpu-quota (default 100000)"),
    Flag("cpu-quota", Kind.TEXT, "MICROSECONDS", "processor time of each RUN step in a period"),
    Flag("cpu-shares", Kind.TEXT, "NUMBER", "weight of each RUN step beside others (they have 1024)", short="c"),
    Flag("cpuset-cpus", Kind.TEXT, "LIST", "processors that RUN steps may use, such as 0-3 or 0,2"),
    Flag("cpuset-mems", Kind.TEXT, "LIST", "memory nodes that RUN steps may use"),
    Flag(
        "file", Kind.TEXT, "FILE", "the Dockerfile (default PATH/Dockerfile; - is standard input; or a URL)", short="f"
    ),
    Flag("iidfile", Kind.TEXT, "FILE", "write the image ID to FILE"),
    Flag("label", Kind.LIST, "KEY=VALUE", "add a label to the image configuration"),
    Flag("load", Kind.SWITCH, "", "keep the image in knarr's store, also when there are other outputs"),
    Flag("memory", Kind.TEXT, "SIZE", "memory of each RUN step at most, such as 2g", short="m"),
    Flag("memory-swap", Kind.TEXT, "SIZE", "memory and swap together; -1: as much swap as there is"),
    Flag("metadata-file", Kind.TEXT, "FILE", "write what was built (digests, names) to FILE as JSON"),
    Flag("network", Kind.TEXT, "MODE", "network of RUN steps: default, none or host"),
    Flag("no-cache", Kind.SWITCH, "", "run every step anew"),
    Flag("no-cache-filter", Kind.LIST, "STAGE", "run the steps of this stage anew"),
    Flag("oci-runtime", Kind.TEXT, "PROGRAM", "run steps by crun, runc, or the path of one (default: what works)"),
    Flag("output", Kind.LIST, "SPEC", "where the result goes: DIRECTORY, -, or type=…,key=value,…", short="o"),
    Flag("containerd", Kind.TEXT, "SOCKET", "read base images from this containerd, too, and leave the image there"),
    Flag("platform", Kind.LIST, "OS/ARCH", "what to build for; several separated by commas"),
    Flag("progress", Kind.TEXT, "MODE", "auto, plain, tty, rawjson, quiet or none (default auto)"),
    Flag("provenance", Kind.TEXT, "SPEC", "how it was built: false, true, or mode=min|max,… (default mode=min)"),
    Flag("pull", Kind.OPTIONAL, "WHEN", "ask the registry for base images: always (also --pull), missing or never"),
    Flag("push", Kind.SWITCH, "", "push the image to its registry: --output type=registry"),
    Flag("quiet", Kind.SWITCH, "", "show no progress; print the image ID", short="q"),
    Flag(
        "resource",
        Kind.LIST,
        "KEY=VALUE,…",
        "limits of each RUN step: memory, memory-swap, cpus, pids, cpu-…, cpuset-…",
    ),
    Flag("sbom", Kind.TEXT, "SPEC", "what is in it: true, or generator=IMAGE,…: --attest type=sbom"),
    Flag("secret", Kind.LIST, "id=ID[,src=FILE]", "lend a secret to RUN --mount=type=secret (also env=VARIABLE)"),
    Flag("shm-size", Kind.TEXT, "SIZE", "size of /dev/shm in RUN steps (default 64m)"),
    Flag(
        "source-policy-file",
        Kind.TEXT,
        "FILE",
        "what may be fetched, and what instead: BuildKit's JSON (default: $EXPERIMENTAL_BUILDKIT_SOURCE_POLICY)",
    ),
    Flag("squash", Kind.SWITCH, "", "make one layer of those above the base image: --output …,squash=new"),
    Flag("ssh", Kind.LIST, "ID[=SOCKET|KEY,…]", "lend an ssh agent or keys to RUN --mount=type=ssh and to git"),
    Flag("tag", Kind.LIST, "NAME[:TAG]", "name of the image; may be given several times", short="t"),
    Flag("target", Kind.TEXT, "STAGE", "the stage to build (default: the last)"),
    Flag("tlscacert", Kind.TEXT, "FILE", "the authority that signed the certificate of --builder"),
    Flag("tlscert", Kind.TEXT, "FILE", "our certificate for --builder"),
    Flag("tlsdir", Kind.TEXT, "DIR", "a directory with ca.pem, cert.pem and key.pem for --builder"),
    Flag("tlskey", Kind.TEXT, "FILE", "the key of --tlscert"),
    Flag("tlsservername", Kind.TEXT, "NAME", "the name in the certificate of --builder, if it is not the address's"),
    Flag("ulimit", Kind.LIST, "NAME=SOFT[:HARD]", "limit of RUN steps, such as nofile=1024:2048"),
    Flag(
        "verify",
        Kind.TEXT,
        "FILE",
        "use only base images that this trust policy lets pass (default: $KNARR_VERIFY; off)",
    ),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
    Flag("compress", Kind.REFUSED_SWITCH, summary=_LEGACY, off=("false",)),
    Flag("debug", Kind.REFUSED_SWITCH, summary="KNARR_DEBUG=1 shows details of failures", short="D", off=("false",)),
    Flag("force-rm", Kind.REFUSED_SWITCH, summary=_LEGACY, off=("false",)),
    Flag("isolation", Kind.REFUSED, summary="it is for Windows containers", off=("default", "")),
    Flag("policy", Kind.REFUSED, summary="it is Rego; --source-policy-file takes BuildKit's JSON"),
    Flag("rm", Kind.REFUSED_SWITCH, summary=_LEGACY, off=("true",)),
    Flag("security-opt", Kind.REFUSED, summary="RUN steps always run with the default seccomp profile"),
)


def help_text() -> str:
    """What `knarr build --help` prints."""
    return (
        "Usage: knarr build [OPTIONS] PATH | URL | -\n\n"
        "Build an image from the Dockerfile in the directory PATH, or behind the URL of a git repository,\n"
        "an archive or a Dockerfile. With `-` the Dockerfile, or a tar archive with the whole context,\n"
        "comes from standard input.\n\n"
        "Without --output the image is kept in knarr's store under its tags. With --builder (or KNARR_BUILDER,\n"
        "BUILDKIT_HOST, `knarr builder use`) another process builds, BuildKit's or knarr's own.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )
