"""`knarr builder create`, `use` and `rm`: what is kept of builders."""

from __future__ import annotations

import os
import sys

from knarr.cli.builderchoice import BuilderTls
from knarr.cli.buildercommon import HELP, stored
from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.client.stored import Builders, StoredBuilder

_TLS_FLAGS = (
    Flag("tlscacert", Kind.TEXT, "FILE", "the authority that signed the builder's certificate"),
    Flag("tlscert", Kind.TEXT, "FILE", "our certificate"),
    Flag("tlsdir", Kind.TEXT, "DIR", "a directory with ca.pem, cert.pem and key.pem"),
    Flag("tlskey", Kind.TEXT, "FILE", "the key of --tlscert"),
    Flag("tlsservername", Kind.TEXT, "NAME", "the name in the builder's certificate, if it is not the address's"),
)
FLAGS = {
    "create": (
        Flag("append", Kind.SWITCH, "", "add a node to the builder --name instead of making one"),
        Flag("bootstrap", Kind.SWITCH, "", "see that it answers before it is kept"),
        Flag("driver-opt", Kind.LIST, "KEY=VALUE", "as with buildx: cacert, cert, key, servername"),
        Flag("leave", Kind.SWITCH, "", "remove --node from the builder --name"),
        Flag("name", Kind.TEXT, "NAME", "the builder's name (default: `builder`, with a number if it is taken)"),
        Flag("node", Kind.TEXT, "NODE", "the node's name (default: the builder's name with a number)"),
        Flag("platform", Kind.LIST, "OS/ARCH", "what is built on this node (default: what it says itself)"),
        *_TLS_FLAGS,
        Flag("use", Kind.SWITCH, "", "use it when nothing else is said"),
        HELP,
        Flag("driver", Kind.REFUSED, summary="knarr starts no builders: give an address", off=("remote", "")),
        Flag("buildkitd-flags", Kind.REFUSED, summary="knarr starts no builders; give them where it is started"),
        Flag("buildkitd-config", Kind.REFUSED, summary="knarr starts no builders; give it where it is started"),
    ),
    "use": (HELP,),
    "rm": (Flag("all", Kind.SWITCH, "", "all of them", short="a"), HELP),
}
_DRIVER_OPTS = {"cacert": "tlscacert", "cert": "tlscert", "key": "tlskey", "servername": "tlsservername"}
_USAGE = {
    "create": "[OPTIONS] ADDRESS\n\nName the buildkitd at ADDRESS: unix:///PATH, tcp://HOST:PORT, ssh://[USER@]HOST[:PORT][/SOCKET],\n"
    "docker-container://NAME, podman-container://NAME, nerdctl-container://NAME or kube-pod://[NAMESPACE/]POD.",
    "use": "NAME\n\nUse the builder NAME when nothing else is said; `default` is the process itself.",
    "rm": "NAME…\n\nForget builders. Nothing happens at their addresses.",
}


def help_text(word: str) -> str:
    """What `knarr builder WORD --help` prints."""
    return f"Usage: knarr builder {word} {_USAGE[word]}\n\nOptions:\n{usage(FLAGS[word])}"


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr builder WORD ARGUMENTS`."""
    given = parse(FLAGS[word], argv, command=f"knarr builder {word}")
    if given.switch("help"):
        print(help_text(word))
        return 0
    return {"create": _create, "use": _use, "rm": _rm}[word](given)


def _create(given: Parsed) -> int:
    builders = stored()
    if given.switch("leave"):
        return _leave(given, builders)
    name = given.text("name") or _free(builders)
    known = name in builders.names()
    if known and not given.switch("append"):
        raise UsageError(f"there is a builder {name} already", hint=f"--append adds a node; knarr builder rm {name}")
    if not known and given.switch("append"):
        raise UsageError(f"--append: no builder is called {name}", hint="leave out --append to make it")
    builder = _with_node(given, builders.get(name) if known else None, name)
    if given.switch("bootstrap"):
        from knarr.cli.buildercommon import reached

        node = builder.nodes[-1]
        with reached(node) as far:
            print(f"{node.name}: {far.shown}", file=sys.stderr)
    builders.save(builder)
    if given.switch("use"):
        builders.use(name)
    print(name)
    return 0


def _with_node(given: Parsed, before: StoredBuilder | None, name: str) -> StoredBuilder:
    from knarr.cli.buildelsewhere import client_tls
    from knarr.cli.buildvalues import platforms
    from knarr.client.address import is_address, read_address
    from knarr.client.stored import Node, StoredBuilder, with_node

    if len(given.words) != 1 or not is_address(given.words[0]):
        shown = " ".join(given.words)
        hint = "write knarr builder create --name NAME tcp://HOST:PORT"
        raise UsageError(f"one address is needed, given: {shown or 'none'}", hint=hint)
    address = given.words[0]
    tls = client_tls(_tls(given))
    tls.check()
    if tls.given and read_address(address).kind != "tcp":
        raise UsageError("certificates are for tcp:// addresses", hint="other addresses are as safe as what they go by")
    builder = before or StoredBuilder(name, ())
    taken = {node.name for node in builder.nodes}
    free = next(text for n in range(len(taken) + 1) if (text := f"{name}{n}") not in taken)
    node = Node(given.text("node") or free, address, tls, platforms(given.list("platform")))
    return with_node(builder, node)


def _tls(given: Parsed) -> BuilderTls:
    texts = {flag.name: given.text(flag.name) for flag in _TLS_FLAGS}
    for pair in (part for text in given.list("driver-opt") for part in text.split(",")):
        key, _, value = pair.partition("=")
        if key == "default-load":
            continue  # images are loaded here unless another output is named
        if key not in _DRIVER_OPTS or not value:
            raise UsageError(f"--driver-opt {pair}: not known", hint=f"known are: {', '.join(_DRIVER_OPTS)}")
        texts[_DRIVER_OPTS[key]] = value
    paths = {name: os.path.abspath(os.path.expanduser(text)) if text else "" for name, text in texts.items()}
    return BuilderTls(paths["tlscacert"], paths["tlscert"], paths["tlskey"], texts["tlsservername"], paths["tlsdir"])


def _free(builders: Builders) -> str:
    taken = set(builders.names())
    return next(name for n in range(len(taken) + 1) if (name := f"builder{n or ''}") not in taken)


def _leave(given: Parsed, builders: Builders) -> int:
    from knarr.record import replace

    name, node = given.text("name"), given.text("node")
    if not name or not node:
        raise UsageError("--leave needs --name and --node")
    builder = builders.get(name)
    left = tuple(known for known in builder.nodes if known.name != node)
    if len(left) == len(builder.nodes):
        raise UsageError(f"{name} has no node {node}", hint=f"it has: {', '.join(n.name for n in builder.nodes)}")
    if not left:
        raise UsageError(f"{node} is the only node of {name}", hint=f"knarr builder rm {name}")
    builders.save(replace(builder, nodes=left))
    print(name)
    return 0


def _use(given: Parsed) -> int:
    if len(given.words) != 1:
        raise UsageError("one name is needed", hint="`knarr builder ls` lists them; `default` is the process itself")
    from knarr.client.address import is_address
    from knarr.client.stored import DEFAULT

    name = given.words[0]
    if is_address(name):
        raise UsageError(f"{name} has no name", hint=f"give it one: knarr builder create --use {name}")
    stored().use("" if name == DEFAULT else name)
    for variable in ("KNARR_BUILDER", "BUILDKIT_HOST"):
        if os.environ.get(variable):
            print(f"{variable} is set, and goes before it", file=sys.stderr)
    return 0


def _rm(given: Parsed) -> int:
    builders = stored()
    names = builders.names() if given.switch("all") else given.words
    if not names and not given.switch("all"):
        raise UsageError("no builder is named", hint="`knarr builder ls` lists them; --all means all of them")
    lost = [name for name in names if not builders.remove(name)]
    if lost:
        raise UsageError(f"no builder is called {', '.join(lost)}", hint="`knarr builder ls` lists them")
    return 0
