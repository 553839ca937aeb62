"""Objects of web servers, `https://`, read in ranges; a server on this machine may speak `http://`.

Redirections are followed to `https://` alone, and never from a public address to a private one, so that a server cannot
make this machine ask services of its own network.
"""

from __future__ import annotations

import email.utils
import ipaddress
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any

from data.errors import InputError
from data.remote.objects import ObjectFacts, PassingError, changed, missing, shown

#: Seconds without a byte after which a request counts as failed.
TIMEOUT_S = 60.0
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")


class Web:
    """The objects of web servers."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(_Redirects())

    def facts(self, url: str) -> ObjectFacts:
        """See `data.remote.objects.ObjectServer`."""
        return self._get(url, 0, 1)[0]

    def read(self, url: str, start: int, end: int, facts: ObjectFacts) -> bytes:
        """See `data.remote.objects.ObjectServer`."""
        present, data = self._get(url, start, end)
        if (present.size, present.version) != (facts.size, facts.version):
            raise changed(url)
        if len(data) != end - start:
            raise PassingError(f"{len(data):,} of {end - start:,} bytes came")
        return data

    def _get(self, url: str, start: int, end: int) -> tuple[ObjectFacts, bytes]:
        """Facts of an object, and a range of its bytes, which is shorter at its end."""
        refuse_plain(url)
        request = urllib.request.Request(
            url,
            headers={"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity", "User-Agent": "understudy"},
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                if answer.status != 206:
                    raise InputError(
                        "the server does not answer ranges of bytes, so that the object cannot be read in parts",
                        where=shown(url),
                        remedy="Copy it to this machine and name the copy",
                    )
                return _facts(answer.headers, url), answer.read(end - start)
        except urllib.error.HTTPError as error:
            if error.code == 416:
                return _facts(error.headers, url), b""
            raise _refused(error, url) from error
        except (HTTPException, OSError) as error:
            raise PassingError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def _refused(error: urllib.error.HTTPError, url: str) -> Exception:
    if error.code in (404, 410):
        return missing(url)
    if error.code in (401, 403):
        return InputError(
            f"access is refused ({error.code})",
            where=shown(url),
            remedy="Give a URL that is signed and has not expired, or copy the object to this machine",
        )
    if error.code in _PASSING:
        return PassingError(f"the server answers {error.code}")
    return InputError(f"the server answers {error.code}", where=shown(url), remedy="Check the URL")


def _facts(headers: Any, url: str) -> ObjectFacts:
    size = _RANGE.fullmatch(str(headers.get("Content-Range", "")).strip())
    if size is None:
        raise InputError(
            "the server does not say how long the object is", where=shown(url), remedy="Copy it to this machine"
        )
    modified = headers.get("Last-Modified", "")
    time = email.utils.parsedate_to_datetime(modified).timestamp() if modified else 0.0
    return ObjectFacts(int(size[1]), str(headers.get("ETag") or modified or ""), time)


def refuse_plain(url: str) -> None:
    """Refuse `http://` to other machines.

    Raises:
        InputError: the URL is refused.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in LOCAL:
        raise InputError(
            "http:// is neither private nor protected from changes on the way",
            where=shown(url),
            remedy="Give https://; http:// is only for localhost",
        )


def refuse_redirection(before: str, after: str) -> None:
    """Refuse a redirection to another scheme, or from a public address to a private one.

    Raises:
        InputError: it is refused.
    """
    old, new = urllib.parse.urlsplit(before), urllib.parse.urlsplit(after)
    if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
        raise InputError(
            f"it redirects to {new.scheme}://{new.hostname}", where=shown(before), remedy="Give the final URL"
        )
    refuse_plain(after)
    if old.hostname != new.hostname and is_private(str(new.hostname)) and not is_private(str(old.hostname)):
        raise InputError(
            f"it redirects from a public address to {new.hostname}, which is a private one",
            where=shown(before),
            remedy="Give the final URL if that is meant",
        )


def is_private(host: str) -> bool:
    """Whether one of the addresses of a host is not public."""
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        # A proxy may know it; the request itself tells.
        return False
    return any(not ipaddress.ip_address(address.partition("%")[0]).is_global for address in addresses)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows few redirections, each of them checked."""

    max_redirections = 5

    def redirect_request(
        self, request: urllib.request.Request, answer: Any, code: int, message: str, headers: Any, url: str
    ) -> urllib.request.Request | None:
        refuse_redirection(request.full_url, url)
        return super().redirect_request(request, answer, code, message, headers, url)
