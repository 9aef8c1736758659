"""A proxy in front of a node that behaves as providers do on bad days. What it does not touch, the node answers."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Call = dict[str, Any]


@dataclass
class Reply:
    """What the proxy sends instead of the node's answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Reset:
    """Instead of an answer, the connection is reset."""


class Hang:
    """Instead of an answer, nothing comes."""


def error(call: Call, code: int, message: str) -> dict[str, Any]:
    """The answer to a call that is refused."""
    return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}}


def span_of(call: Call) -> int | None:
    """How many blocks a call asks logs of; None: it asks for something else, or by a block's hash."""
    if call["method"] != "eth_getLogs" or "fromBlock" not in call["params"][0]:
        return None
    return int(call["params"][0]["toBlock"], 16) - int(call["params"][0]["fromBlock"], 16) + 1


EMPTY_BLOOM, FULL_BLOOM = "0x" + "00" * 256, "0x" + "ff" * 256


def with_bloom(bloom: str) -> Callable[[Call, Any], Any]:
    """Give each block a bloom filter that says nothing of its logs; for `RpcProxy.on_answer`."""
    return lambda _, result: (
        result | {"logsBloom": bloom} if isinstance(result, dict) and "logsBloom" in result else result
    )


@dataclass
class RpcProxy:
    """One proxy; its rules are changed while it runs."""

    url: str
    target: str
    calls: list[Call] = field(default_factory=list)
    """All that was asked, in its order."""
    on_request: Callable[[list[Call]], Reply | Reset | Hang | None] = lambda calls: None
    """Looks at a whole request."""
    on_call: Callable[[Call], dict[str, Any] | None] = lambda call: None
    """Answers a call instead of the node."""
    on_answer: Callable[[Call, Any], Any] = lambda call, result: result
    """Changes a result of the node."""
    closing: threading.Event = field(default_factory=threading.Event)

    def methods(self) -> list[str]:
        """The methods that were called, in their order."""
        return [call["method"] for call in self.calls]

    def behave(self) -> None:
        """Be an ordinary endpoint again."""
        self.on_request = lambda calls: None
        self.on_call = lambda call: None
        self.on_answer = lambda call, result: result


@contextmanager
def rpc_proxy(target: str) -> Iterator[RpcProxy]:
    """Run a proxy in front of a node until the end of the block."""
    proxy = RpcProxy("", target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            calls: list[Call] = body if isinstance(body, list) else [body]
            proxy.calls.extend(calls)
            reply = proxy.on_request(calls)
            if isinstance(reply, Reset):
                # With this, closing sends RST instead of FIN.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            if isinstance(reply, Hang):
                proxy.closing.wait(60)
                self.close_connection = True
                return
            if reply is None:
                answers = self._answer(calls)
                reply = Reply(200, json.dumps(answers if isinstance(body, list) else answers[0]).encode())
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def _answer(self, calls: list[Call]) -> list[dict[str, Any]]:
            own = {call["id"]: answer for call in calls if (answer := proxy.on_call(call)) is not None}
            rest = [call for call in calls if call["id"] not in own]
            answers = {answer["id"]: answer for answer in (_forward(proxy.target, rest) if rest else [])}
            for call in rest:
                if "result" in answers[call["id"]]:
                    answers[call["id"]]["result"] = proxy.on_answer(call, answers[call["id"]]["result"])
            return [own.get(call["id"]) or answers[call["id"]] for call in calls]

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Clients that were killed, and connections that were reset, are what this is for."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _forward(target: str, calls: list[Call]) -> list[dict[str, Any]]:
    parts = urlsplit(target)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", "/", json.dumps(calls), {"Content-Type": "application/json"})
        answers: list[dict[str, Any]] = json.loads(connection.getresponse().read())
        return answers
    finally:
        connection.close()
