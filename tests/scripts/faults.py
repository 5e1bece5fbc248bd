"""A proxy before Azurite that counts requests and, on demand, fails like a bad network or a bad server.

    faults.py UPSTREAM_HOST:PORT FOLDER

Prints its port, then serves. FOLDER/requests gets a line for each request: its kind (data, list, other),
method and path. FOLDER/rule, read again at every request, is JSON:
  action  status (answer with "code"), hang, cut (half the body, then a reset), flip (one byte of the body),
          short (a body one byte less than there is), gone (this proxy ends)
  on      data | list | other: the kind of request concerned (data)
  match   a regular expression for the path
  after   requests concerned that go well before the first fault (0)
  times   faults after which all is well again (without limit)
  tell    a fifo that gets a line at the first fault, so that a test can wait for it
"""

import http.client
import http.server
import json
import os
import re
import socket
import struct
import sys
import threading
import urllib.parse

UPSTREAM, FOLDER = sys.argv[1], sys.argv[2]
lock = threading.Lock()
seen = {"rule": "", "concerned": 0, "faults": 0}


def rule_for(kind: str, path: str) -> dict:
    with lock:
        try:
            with open(os.path.join(FOLDER, "rule")) as file:
                text = file.read()
        except FileNotFoundError:
            return {}
        if text != seen["rule"]:
            seen.update(rule=text, concerned=0, faults=0)
        rule = json.loads(text or "{}")
        if not rule or kind != rule.get("on", "data") or not re.search(rule.get("match", ""), path):
            return {}
        seen["concerned"] += 1
        if seen["concerned"] <= rule.get("after", 0) or seen["faults"] >= rule.get("times", 1 << 60):
            return {}
        seen["faults"] += 1
        first = seen["faults"] == 1
    if first and "tell" in rule:
        with open(rule["tell"], "w") as fifo:
            fifo.write("now\n")
    return rule


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "comp=list" in self.path:
            kind = "list"
        elif self.command == "GET" and "restype=" not in self.path and ".manifest.json" not in self.path:
            kind = "data"
        else:
            kind = "other"
        path = urllib.parse.unquote(self.path.split("?")[0])
        with lock, open(os.path.join(FOLDER, "requests"), "a") as log:
            log.write(f"{kind} {self.command} {path}\n")
        rule = rule_for(kind, path)
        action = rule.get("action")
        if action == "gone":
            os._exit(0)
        if action == "hang":
            threading.Event().wait()
        if action == "status":
            error = rule.get("error", "ServerBusy")
            body = f"<Error><Code>{error}</Code><Message>As the rule says.</Message></Error>".encode()
            self.answer(rule["code"], [("x-ms-error-code", error), ("Content-Type", "application/xml")], body)
            return
        upstream = http.client.HTTPConnection(UPSTREAM)
        upstream.request(self.command, self.path, body or None, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        headers = [
            h
            for h in answer.getheaders()
            if h[0].lower() not in ("transfer-encoding", "connection", "keep-alive")
        ]
        upstream.close()
        if action == "flip" and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        if action == "short" and content:
            content = content[:-1]
            headers = [h for h in headers if h[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(content))))
        self.answer(answer.status, headers, content, cut=action == "cut")

    def answer(self, status: int, headers: list, content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            # A reset, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_request

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        pass


server = Server(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
