"""`knarr kubernetes job`: one knarr command as a Job."""

from __future__ import annotations

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.kubernetesrun import FLAGS, number_of, run_of

_OWN = (
    Flag("tries", Kind.TEXT, "N", "how often it may be tried (default: 1)"),
    Flag("keep", Kind.TEXT, "SECONDS", "how long the ended job and its log stay (default: 3600)"),
)


def help_text() -> str:
    """What `knarr kubernetes job --help` prints."""
    return (
        "Usage: knarr kubernetes job --image IMAGE [OPTIONS] -- COMMAND [ARGUMENT…] | kubectl apply -f -\n\n"
        "  knarr kubernetes job --image registry.corp.example/tools/node:1 --registry-secret push -- \\\n"
        "    build --platform linux/amd64,linux/arm64 --push -t registry.corp.example/app:1 https://git.corp.example/app.git\n\n"
        f"Options:\n{usage((*FLAGS[:-1], *_OWN, FLAGS[-1]))}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr kubernetes job ARGUMENTS`.

    Raises:
        UsageError: something is missing, or Kubernetes would not take it.
    """
    given = parse((*FLAGS, *_OWN), argv, command="knarr kubernetes job")
    if given.switch("help"):
        print(help_text())
        return 0
    wanted = run_of(given, ())
    tries, keep_s = number_of(given, "tries", 1, 1), number_of(given, "keep", 3600, 0)
    from knarr.serve.kubernetes import text
    from knarr.serve.pods import job

    print(text([job(wanted, tries=tries, keep_s=keep_s)]), end="")
    return 0
