"""Which names are ours, and the sockets that are listened on."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys
import time

from webui.core.config import Config
from webui.core.errors import PatchbayError

FREE_PORTS = 50  # how many ports above a busy one are tried
REFRESH_SECONDS = 10.0  # how old the list of this machine's addresses may be when an unknown one is asked for
BACKLOG = 2048


class Hosts:
    """The values of the Host header that are ours: always this machine's loopback names; with ``--listen`` its others.

    A name that is not in the list is refused, which is what keeps other sites' names from being pointed at this server.
    """

    def __init__(self, config: Config) -> None:
        self._port = config.port
        self._listen = config.listen
        self._known = {"127.0.0.1", "localhost", "[::1]"}
        if config.host and config.bind not in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
            self._known.add(bracketed(config.host.lower()))
        if config.listen:
            name = socket.gethostname().lower()
            self._known |= {name, name.partition(".")[0], name.partition(".")[0] + ".local"} - {"", ".local"}
        self._addresses: frozenset[str] = frozenset()
        self._looked = -REFRESH_SECONDS

    def __contains__(self, host: object) -> bool:
        """Whether a Host header, in lower case, is one of ours: name and port exactly."""
        if not isinstance(host, str):
            return False
        name, separator, port = host.rpartition(":")
        if not separator or name.endswith(":") or host.endswith("]"):
            name, port = host, "80"  # browsers leave the default port out
        return port == str(self._port) and (name in self._known or (self._listen and name in self._own(name)))

    def _own(self, name: str) -> frozenset[str]:
        """This machine's addresses; looked up again for an unknown one, because networks come and go."""
        if name not in self._addresses and time.monotonic() - self._looked >= REFRESH_SECONDS:
            self._looked = time.monotonic()
            self._addresses = own_addresses()
        return self._addresses


def bracketed(name: str) -> str:
    """A host as it stands in an address: an IPv6 one in brackets."""
    return f"[{name}]" if ":" in name else name


def own_addresses() -> frozenset[str]:
    """The addresses of this machine's network interfaces as they stand in a Host header."""
    import psutil

    found = set()
    for addresses in psutil.net_if_addrs().values():
        for entry in addresses:
            with contextlib.suppress(ValueError):  # a hardware address
                found.add(bracketed(str(ipaddress.ip_address(entry.address.partition("%")[0]))))
    return frozenset(found)


def network_address() -> str:
    """The address by which the local network most likely reaches this machine; "" when there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: this only asks which interface would be used
        found = str(probe.getsockname()[0])
        if not ipaddress.ip_address(found).is_loopback:
            return found
    others = (a for a in sorted(own_addresses()) if "[" not in a and not ipaddress.ip_address(a).is_loopback)
    return next(others, "")


def listen(config: Config) -> tuple[list[socket.socket], int]:
    """The sockets to serve on, and their port: the one asked for, or the next free one when none was asked for by name.

    Raises PatchbayError with a sentence when that is impossible.
    """
    asked = "port" in config.given
    last = config.port if asked else min(config.port + FREE_PORTS, 65535)
    for port in range(config.port, last + 1):
        try:
            return _bind(config, port), port
        except OSError as error:
            if not _busy(error):
                raise PatchbayError(
                    f"The address {config.bind} cannot be listened on: {error.strerror or error}.",
                    "Choose another with --host, or another --port.",
                ) from None
    if asked:
        raise PatchbayError(f"Port {config.port} is in use by another program.", "Choose another with --port.")
    raise PatchbayError(f"The ports {config.port} to {last} are all in use.", "Choose one with --port.")


def _bind(config: Config, port: int) -> list[socket.socket]:
    address = "127.0.0.1" if config.bind == "localhost" else config.bind
    first = _socket(address, port)
    if address != "127.0.0.1" or not socket.has_ipv6:
        return [first]
    with contextlib.suppress(OSError):  # no IPv6 here, or somebody else has that one: 127.0.0.1 is enough
        return [first, _socket("::1", port)]
    return [first]


def _socket(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two programs share the port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        made.bind((address, port))
        made.listen(BACKLOG)
        made.setblocking(False)
        # Workers and other children must not hold the port when the program ends.
        made.set_inheritable(False)
    except BaseException:
        made.close()
        raise
    return made


def _busy(error: OSError) -> bool:
    """Whether binding failed because of the port rather than of the address."""
    # Windows answers with "access denied" for a port that another program holds for itself alone.
    return error.errno == errno.EADDRINUSE or (sys.platform == "win32" and error.errno == errno.EACCES)
