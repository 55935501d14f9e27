"""A small server with the endpoints of the hub that its own client calls to make, fill and read repositories.

It keeps commits in memory on the loopback address. Large files go the way of Git LFS, as the hub serves clients without
its own storage protocol. Writing needs the token.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"


class HubServer(ThreadingHTTPServer):
    """Repositories by name; each branch is a list of commits, each the content of files by name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, list[tuple[str, dict[str, bytes]]]]] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        return self.find(name, revision)[1]

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        branches = self.repositories[name]
        if revision in branches:
            return branches[revision][-1] if branches[revision] else ("0" * 40, {})
        return next(commit for commits in branches.values() for commit in commits if commit[0] == revision)

    def commit(self, name: str, revision: str, lines: list[dict[str, Any]]) -> str:
        files = dict(self.files(name, revision))
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        branch = self.repositories[name][revision]
        sha = hashlib.sha1(f"{name}{revision}{len(branch)}".encode()).hexdigest()
        branch.append((sha, files))
        return sha


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def answer(self, body: Any = None, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}" or path.startswith("/large/")
        if self.command in ("POST", "PUT") and not allowed:
            return self.answer({"error": "Unauthorized"}, 401)
        for method, pattern, action in _ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, path)):
                return action(self, body, *found.groups())
        return self.refuse(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        self.server.repositories.setdefault(name, {"main": []})
        self.answer({"url": f"{self.server.url}/{name}", "name": name, "id": "1"})

    def branch(self, body: bytes, name: str, branch: str) -> None:
        self.server.repositories[name].setdefault(branch, list(self.server.repositories[name]["main"]))
        self.answer({})

    def check_card(self, body: bytes) -> None:
        self.answer({"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        files = [file["path"] for file in json.loads(body)["files"]]
        modes = [{"path": path, "uploadMode": "lfs" if path.endswith(".safetensors") else "regular"} for path in files]
        self.answer({"files": [mode | {"shouldIgnore": False} for mode in modes]})

    def batch(self, body: bytes, name: str) -> None:
        objects = json.loads(body)["objects"]
        upload = [
            one | {"actions": {"upload": {"href": f"{self.server.url}/large/{one['oid']}", "header": {}}}}
            for one in objects
        ]
        self.answer({"transfer": "basic", "objects": upload})

    def store(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.large[oid] = body
        self.answer(b"")

    def add_commit(self, body: bytes, name: str, revision: str) -> None:
        sha = self.server.commit(name, revision, [json.loads(line) for line in body.splitlines()])
        self.answer({"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha})

    def information(self, body: bytes, name: str, revision: str | None = None) -> None:
        if name not in self.server.repositories:
            return self.refuse(404, "RepoNotFound")
        sha, files = self.server.find(name, revision or "main")
        return self.answer({"id": name, "sha": sha, "siblings": [{"rfilename": file} for file in files]})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        _, files = self.server.find(name, revision)
        self.answer([{"type": "file", "path": path, "size": len(c), "oid": "1"} for path, c in files.items()])

    def resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        if name not in self.server.repositories:
            return self.refuse(404, "RepoNotFound")
        try:
            sha, files = self.server.find(name, revision)
        except StopIteration:
            return self.refuse(404, "RevisionNotFound")
        if file not in files:
            return self.answer({}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        content = files[file]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.answer(content, ETag=etag, X_Repo_Commit=sha, X_Linked_Etag=etag, X_Linked_Size=str(len(content)))


_NAME = r"([^/]+/[^/]+)"
_ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.check_card),
    ("POST", rf"/api/models/{_NAME}/branch/(.+)", _Handler.branch),
    ("POST", rf"/api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/large/(.+)", _Handler.store),
    ("POST", rf"/api/models/{_NAME}/commit/(.+)", _Handler.add_commit),
    ("GET", rf"/api/models/{_NAME}/revision/(.+)", _Handler.information),
    ("GET", rf"/api/models/{_NAME}/tree/([^/]+)", _Handler.tree),
    ("GET", rf"/api/models/{_NAME}", _Handler.information),
    ("HEAD", rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET", rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
