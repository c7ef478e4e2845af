"""The command `knarr`: a table of commands, each in a module of its own that is imported when it is run.

A command's module has `run(argv) -> int`: the exit status, or an exception that
`failure` shows. This module imports nothing, so that `knarr --help` and a warm
build start as fast as Python does.
"""

import gc
import os
import sys

from knarr.startup import onefile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

COMMANDS = {
    "build": ("build", "Build an image from a Dockerfile"),
    "run": ("run", "Run an image: create a container of it, and start that"),
    "create": ("create", "Create a container, to be started later"),
    "start": ("start", "Run a container again"),
    "attach": ("attach", "Be the terminal of a container that runs"),
    "exec": ("exec", "Run a further process in a container"),
    "ps": ("ps", "List the containers"),
    "logs": ("logs", "Show what a container wrote"),
    "stop": ("stop", "Ask containers to end, and kill those that do not"),
    "kill": ("kill", "Send a signal to containers"),
    "wait": ("wait", "Wait for containers to end"),
    "rm": ("rm", "Remove containers"),
    "cp": ("cp", "Copy files between a container and this machine"),
    "volume": ("volume", "Directories that outlive containers"),
    "pull": ("pull", "Copy an image from a registry into the store"),
    "push": ("push", "Copy an image from the store to its registry"),
    "copy": ("copy", "Copy an image between registries, layouts and archives, with all that belongs to it"),
    "sync": ("sync", "Keep mirrors of many images, as a file says"),
    "bundle": ("bundle", "Carry images to where no network goes, and only what is missing there"),
    "imagetools": ("imagetools", "Look at images in registries, and put them together"),
    "catalog": ("catalog", "List the repositories of a registry"),
    "tags": ("tags", "List the tags of a repository"),
    "manifest": ("manifest", "Show the manifest or the index behind a name"),
    "referrers": ("referrers", "Show what belongs to an image, as a tree"),
    "delete": ("delete", "Delete images in a registry"),
    "sign": ("sign", "Sign images, for cosign, skopeo and podman to check"),
    "verify": ("verify", "Check who signed an image"),
    "attest": ("attest", "Show, check and add attestations: provenance, SBOMs"),
    "repro": ("repro", "Build an image again from its provenance, and say what differs"),
    "sbom": ("sbom", "List the software in an image or in a directory"),
    "images": ("images", "List the images in the store"),
    "tag": ("tag", "Give an image another name"),
    "rmi": ("rmi", "Remove names of images"),
    "inspect": ("inspect", "Show an image's manifest and configuration as JSON"),
    "history": ("history", "Show how an image was made, layer by layer"),
    "save": ("save", "Write images to a docker or OCI archive"),
    "load": ("load", "Read images from a docker or OCI archive"),
    "login": ("login", "Log in to a registry"),
    "logout": ("logout", "Forget the login for a registry"),
    "registry": ("registry", "Serve images to others from the store"),
    "du": ("du", "Show what the build cache takes"),
    "prune": ("prune", "Remove what builds no longer need"),
    "builder": ("builder", "Name the builders elsewhere that builds may use"),
    "daemon": ("daemon", "Serve BuildKit's API to buildctl and docker buildx"),
    "serve": ("serve", "Serve builds and images in one process: what is pushed is a tag"),
    "node": ("node", "Make the node image: builder, registry and containerd in one container"),
    "kubernetes": ("kubernetes", "Print manifests: builder and registry, a build as a Job, a builder as a Pod"),
    "snapshotter": ("snapshotter", "Serve knarr's snapshotters to containerd"),
    "pki": ("pki", "Be a certificate authority for a private domain, and have it believed"),
    "doctor": ("doctor", "Say what this machine can do, and check the store"),
    "debug": ("debug", "Look inside a build: its LLB, and why a step ran"),
    "version": ("version", "Show the version"),
}


def command() -> "NoReturn":
    """Be the program `knarr`: run this process's command line and end the process with its status."""
    # Starting makes objects by the thousand that all stay: looking for garbage among them took 4 of 75 ms.
    gc.set_threshold(50_000)
    try:
        if sys.stdin is None or sys.stdout is None or sys.stderr is None:
            _fill_closed()
        onefile.install()
        status = main()
        onefile.keep()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()  # what is not written now never will be
            except (OSError, ValueError):
                status = status or 1
    except KeyboardInterrupt as error:  # before or after the command, or again while the first is told
        from knarr.cli.failure import report

        status = report(error, [])
    # All that must be closed was closed where it was opened. Taking modules apart one by one takes 8 to 15 ms more, and
    # whoever waits for the command waits for that as well.
    os._exit(status)


def _fill_closed() -> None:
    """Streams that are closed become empty ones: what is opened next, `onefile` first, would take their numbers."""
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
                os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return its exit status."""
    words = sys.argv[1:] if argv is None else argv
    try:
        status = _dispatch(words)
        sys.stdout.flush()  # here, where a reader that has gone away is no failure to talk about
        return status
    except BaseException as error:
        from knarr.cli.failure import report

        return report(error, words)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    word = words[0]
    if word in ("-v", "--version"):
        word = "version"
    if word == "help":
        words = [*words[1:2], "--help"]
        word = words[0]
        if word == "--help":
            print(_usage())
            return 0
    if word not in COMMANDS:
        from knarr.cli.failure import unknown_command

        raise unknown_command(word, COMMANDS)
    _on_terminate()
    module = __import__(f"knarr.cli.{COMMANDS[word][0]}", fromlist=["run"])
    status: int = module.run(words[1:])
    return status


def _on_terminate() -> None:
    # The C module below `signal`: the latter makes enums of all signals, which takes 1 ms.
    import _signal  # type: ignore[import-not-found]  # it has no stub

    def stop(signum: int, frame: object) -> None:
        from knarr.cli.failure import Terminated

        raise Terminated

    try:
        _signal.signal(_signal.SIGTERM, stop)
    except ValueError:
        return  # not the main thread: whoever runs us there handles signals


def _usage() -> str:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return (
        "Usage: knarr COMMAND [OPTIONS]\n\n"
        "Build container images for many platforms without a daemon, and deliver them to registries.\n\n"
        f"Commands:\n{table}\n\n"
        "`knarr help COMMAND` tells about one of them."
    )
