"""How a service is asked whether it is up: its page, its socket, or what its log says."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from waymark.cli.supervisor import Answer
from waymark.core.errors import SettingsError
from waymark.pipeline.docs_site import NOTE

LOOPBACK = "127.0.0.1"


def page(url: str) -> Callable[[Path], Answer]:
    """Up when the page answers 200; what a page that is not ready says in `X-Waymark-Note` is passed on."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    opener = build_opener(ProxyHandler({}))  # loopback is never asked through a proxy

    def ask(_: Path) -> Answer:
        try:
            with opener.open(url, timeout=2) as response:
                return Answer(response.status == 200, response.headers.get(NOTE, ""))
        except HTTPError as error:
            with error:
                return Answer(False, error.headers.get(NOTE, ""))
        except (OSError, HTTPException):
            return Answer(False)

    return ask


def listening(path: Path) -> Callable[[Path], Answer]:
    """Up when something accepts connections on the Unix socket."""

    def ask(_: Path) -> Answer:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            return Answer(client.connect_ex(str(path)) == 0)

    return ask


def logged(text: str) -> Callable[[Path], Answer]:
    """Up when the log has said so once; for what has no page."""
    heard = False

    def ask(log: Path) -> Answer:
        nonlocal heard
        heard = heard or (log.exists() and text.encode() in log.read_bytes())
        return Answer(heard)

    return ask


def free_port(port: int, option: str, *, taken: set[int]) -> int:
    """The port, if nothing listens there; for 0 one that is free. `taken` are those already given out, and gets this one.

    Raises SettingsError that names the port and the option.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if port in taken:
                raise OSError
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except (OSError, OverflowError) as error:
            if not 0 <= port < 65_536:
                raise SettingsError(f"{port} is no port", remedy=f"Give {option} a number up to 65535, or 0 for any that is free.") from error
            reason = "is asked for twice" if port in taken else "may not be used" if isinstance(error, PermissionError) else "is in use"
            raise SettingsError(
                f"port {port} on {LOOPBACK} {reason}", remedy=f"Stop what uses it, or give another one: {option} NUMBER (0 takes any that is free)."
            ) from error
        found = int(probe.getsockname()[1])
    taken.add(found)
    return found
