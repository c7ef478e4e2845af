"""`knarr kubernetes pod`: one knarr command as a Pod."""

from __future__ import annotations

from knarr.cli.flags import parse, usage
from knarr.cli.kubernetesrun import FLAGS, run_of

_SOCKET = "unix:///run/buildkit/buildkitd.sock"
_BUILDER = ("daemon", "--addr", _SOCKET)


def help_text() -> str:
    """What `knarr kubernetes pod --help` prints."""
    return (
        "Usage: knarr kubernetes pod --image IMAGE [OPTIONS] [-- COMMAND [ARGUMENT…]] | kubectl apply -f -\n\n"
        "Without a command it is a builder: `knarr build --builder kube-pod://NAME?namespace=NAMESPACE`.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr kubernetes pod ARGUMENTS`.

    Raises:
        UsageError: something is missing, or Kubernetes would not take it.
    """
    given = parse(FLAGS, argv, command="knarr kubernetes pod")
    if given.switch("help"):
        print(help_text())
        return 0
    wanted = run_of(given, _BUILDER)
    from knarr.record import replace
    from knarr.serve.kubernetes import text
    from knarr.serve.pods import pod

    if wanted.words == _BUILDER:  # `kubectl exec` has it as well: what it starts there then finds the daemon
        wanted = replace(wanted, environment={"BUILDKIT_HOST": _SOCKET, **wanted.environment})
    print(text([pod(wanted)]), end="")
    return 0
