"""Whether an address is written with http:// where TLS is spoken, or the other way round: neither is an outage.

A server that speaks TLS says nothing about it to whoever does not: it closes the connection, as one does that is going
down. So it is asked, once, when all else has failed.
"""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

SECONDS = 3.0  # in which a handshake must have come off
NO_TLS = ("WRONG_VERSION_NUMBER", "record layer failure")  # OpenSSL's words where the answer is none of TLS


def mistaken(url: str, words: str) -> str:
    """What is wrong with the beginning of a URL, by the words of a connection that failed; else nothing."""
    if any(sign in words for sign in NO_TLS):
        return "it does not speak TLS; write http:// where https:// is"
    if urlsplit(url).scheme == "http" and speaks_tls(url):
        return "it speaks TLS; write https:// where http:// is"
    return ""


def speaks_tls(url: str) -> bool:
    """Whether a handshake comes off there; nothing is sent, and it does not matter whose certificate it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        parts = urlsplit(url)
        place = parts.hostname or "", parts.port or 80
        with socket.create_connection(place, SECONDS) as line, context.wrap_socket(line, server_hostname=place[0]):
            return True
    except (OSError, ValueError):  # ValueError: what is no host's name
        return False
