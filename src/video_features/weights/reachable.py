"""Finds out within seconds whether a server can be reached, before a library tries for longer."""

from __future__ import annotations

import queue
import socket
import urllib.parse
from threading import Thread

SECONDS = 3.0  # for the name and the connection together
PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080, "socks5h": 1080}


def check_reachable(url: str, *, all_proxy: bool = False) -> None:
    """Raise OSError, with the reason, if no connection to the server of `url`, or to its proxy, opens within seconds.

    all_proxy: whether the library that will download also takes the proxy from ALL_PROXY
    """
    server = urllib.parse.urlsplit(url)
    proxy = _proxy(server, all_proxy)
    host, port, what = _address(proxy or server, "the proxy " if proxy else "")
    found: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
    # In a thread, because the look-up of a name cannot be limited in time. The process does not wait for it.
    Thread(target=_connect, args=(host, port, what, found), daemon=True).start()
    try:
        failure = found.get(timeout=SECONDS)
    except queue.Empty:
        failure = TimeoutError(f"no network: no answer from {what} within {SECONDS:g} s")
    if failure is not None:
        raise failure


def _proxy(server: urllib.parse.SplitResult, all_proxy: bool) -> urllib.parse.SplitResult | None:
    from urllib.request import getproxies, proxy_bypass  # takes longer than everything else here

    proxies = getproxies()
    proxy = proxies.get(server.scheme) or (proxies.get("all") if all_proxy else None)
    if not proxy or proxy_bypass(server.hostname or ""):
        return None
    return urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _address(url: urllib.parse.SplitResult, kind: str) -> tuple[str, int, str]:
    """Return the host, the port, and both in words."""
    host, port = url.hostname or "", url.port or PORTS.get(url.scheme, 443)
    return host, port, f"{kind}{host}{f':{url.port}' if url.port else ''}"


def _connect(host: str, port: int, what: str, found: queue.SimpleQueue[OSError | None]) -> None:
    """Put None as soon as a connection to one of the addresses of the host opens, or else the reason why none did."""
    try:
        addresses = {entry[4] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        found.put(OSError(f"no network: {what} cannot be found ({getattr(error, 'strerror', None) or error})"))
        return
    results: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
    for address in addresses:  # at once: a host may have addresses of both versions of IP, and only one of them works
        Thread(target=_open, args=(str(address[0]), port, results), daemon=True).start()
    failures = []
    for _ in addresses:
        if (failure := results.get()) is None:
            found.put(None)
            return
        failures.append(failure)
    found.put(OSError(f"no network: {what} cannot be reached ({failures[0].strerror or failures[0]})"))


def _open(host: str, port: int, results: queue.SimpleQueue[OSError | None]) -> None:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
        results.put(None)
    except OSError as error:
        results.put(error)
