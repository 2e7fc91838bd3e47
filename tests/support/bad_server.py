"""Ways in which a server can fail its clients, as a part of `wandb_server`."""

import json
import re
import threading

WAYS = {
    "hangs": "accepts requests and never answers",
    "drips": "sends a byte of its answer a second",
    "page": "answers with a web page, as a proxy does that wants a login",
    "cut": "closes the connection in the middle of its answer",
    "list": "answers with JSON of another type",
    "null": "answers with JSON that holds nothing",
    "closes": "closes the connection without an answer",
    "loops": "redirects to itself",
    "500": "an error of the server",
    "401": "the key has expired",
    "403": "not allowed",
    "429": "too many requests: come back in an hour",
}
"""The ways, with what the server does."""

UPLOADS = {"CreateRunFiles", "CreateArtifact", "put"}
"""Requests that concern media and tables."""


class BadServer:
    """A server that can be told to fail its clients.

    Attributes:
        failed: requests that met a failure.
    """

    way, only, left, spared = "well", None, None, 0
    failed = ()

    def be(self, way, only=None, times=None, after=0):
        """Fail from now on.

        Args:
            way: one of `WAYS`, or `well`.
            only: the requests that fail: operations of GraphQL, `file_stream`, `put`; None for all.
            times: how many requests fail; None for all.
            after: how many requests are answered before.
        """
        assert way == "well" or way in WAYS
        if way != "well":
            self.failed = []
            self.recovered = threading.Event()
        elif self.way != "well":
            self.recovered.set()  # lets go of the clients that wait
        self.way, self.only, self.left, self.spared = way, only, times, after


class BadHandler:
    """A handler that fails in the way that its server was told."""

    def misbehaves(self, body=b""):
        """Fail if this request is to fail, and return whether it did."""
        server = self.server
        name = re.search(rb"(?:query|mutation)\s+(\w+)", body) if self.path.endswith("/graphql") else None
        kind = name[1].decode() if name else "put" if self.command == "PUT" else self.path.rpartition("/")[2]
        if server.way == "well" or (server.only and kind not in server.only) or server.left == 0:
            return False
        if server.spared:
            server.spared -= 1
            return False
        if server.left is not None:
            server.left -= 1
        server.failed.append(kind)
        self.close_connection = True
        getattr(self, f"way_{server.way}")()
        return True

    def do_GET(self):  # noqa: N802
        if not self.misbehaves():
            self.answer(404, {})

    do_HEAD = do_GET  # noqa: N815

    def way_hangs(self):
        self.server.recovered.wait(600)

    def way_drips(self):
        body = json.dumps({"data": {"viewer": {"id": "v", "entity": "me", "username": "me"}}}).encode()
        self.start(200, len(body))
        for byte in body:
            self.wfile.write(bytes([byte]))
            if self.server.recovered.wait(1):
                return

    def way_page(self):
        self.start(200, 0, b"<!doctype html><title>Log in</title><p>Who are you?", "text/html")

    def way_cut(self):
        self.start(200, 1000, b'{"data": {"viewer": {"id": "v", "ent')

    def way_list(self):
        self.answer(200, [1, "two", {"data": []}])

    def way_null(self):
        self.answer(200, {"data": None})

    def way_closes(self):
        pass

    def way_loops(self):
        self.start(307, 0, headers={"Location": self.server.url + self.path})

    def way_500(self):
        self.answer(500, {"errors": [{"message": "out of order"}]})

    def way_401(self):
        self.answer(401, {"errors": [{"message": "the key has expired"}]})

    def way_403(self):
        self.answer(403, {"errors": [{"message": "not allowed"}]})

    def way_429(self):
        body = json.dumps({"errors": [{"message": "too many requests"}]}).encode()
        self.start(429, len(body), body, headers={"Retry-After": "3600"})

    def start(self, code, length, body=b"", kind="application/json", headers=None):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length or len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
