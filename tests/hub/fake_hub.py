"""A Hugging Face Hub on loopback, with the few routes that a push and a download take."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_of_me"
OWNER = "me"


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by id of the commit, in order."""
    tags: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes that the Hub states in place of the right ones."""

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit with changed files and return its id."""
        before = list(self.commits.values())[-1] if self.commits else {}
        key = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[key] = before | files
        return key

    def find(self, revision: str) -> str | None:
        """Return the id of the commit that a revision names."""
        if revision == "main":
            return list(self.commits)[-1] if self.commits else None
        return self.tags.get(revision, revision if revision in self.commits else None)


@dataclass
class FakeHub:
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    role: str = "write"
    stop: Callable[[], None] = lambda: None
    """Stops the server, as if the network was lost."""
    answer: Any = None
    """Answer to every request about a repository, in place of the right one."""

    def downloads(self) -> list[str]:
        """Return the files that were downloaded."""
        return [path.split("/resolve/")[1] for method, path in self.requests if method == "GET" and "/resolve/" in path]


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *arguments: object) -> None:
        pass

    def reply(self, body: Any = b"", code: int = 200, headers: Sequence[tuple[str, str]] = ()) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, code: int, kind: str = "") -> None:
        self.reply({"error": kind}, code, [("X-Error-Code", kind)] if kind else [])

    def is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self) -> None:
        hub, path = self.hub, unquote(self.path)
        hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/validate-yaml":
            bad = "license: bad" in json.loads(body)["content"]
            error = {"message": '"license" must be one of [apache-2.0, ...]'}
            self.reply({"errors": [error] if bad else [], "warnings": []}, 400 if bad else 200)
        elif not self.is_owner():
            self.refuse(401)
        elif path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization'] or OWNER}/{request['name']}"
            private = request.get("private", request.get("visibility") == "private")
            code = 409 if name in hub.repos else 200
            hub.repos.setdefault(name, Repo(private=private))
            self.reply({"url": f"{hub.url}/{name}"}, code)
        elif "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self.reply({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            rows = [json.loads(line) for line in body.splitlines()]
            files = {row["value"]["path"]: row["value"] for row in rows if row["key"] == "file"}
            oid = hub.repos[name].commit({key: base64.b64decode(value["content"]) for key, value in files.items()})
            self.reply({"commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid, "hookOutput": ""})
        else:
            self.refuse(404)

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append((self.command, path))
        if path == "/api/whoami-v2":
            self.whoami()
        elif path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self.info(name, revision or "main")
        elif "/resolve/" in path:
            name, _, rest = path[1:].partition("/resolve/")
            self.file(name, *rest.split("/", 1))
        else:
            self.refuse(404)

    do_HEAD = do_GET

    def whoami(self) -> None:
        if not self.is_owner():
            self.refuse(401)
            return
        self.reply({"name": OWNER, "orgs": [{"name": "us"}], "auth": {"accessToken": {"role": self.hub.role}}})

    def readable(self, name: str, revision: str) -> tuple[Repo, str] | None:
        """Return a repository and a commit, or refuse as the Hub does."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.is_owner()):
            self.refuse(404 if self.is_owner() else 401, "RepoNotFound")
            return None
        commit = repo.find(revision)
        if commit is None and repo.commits:
            self.refuse(404, "RevisionNotFound")
            return None
        return repo, commit or "0" * 40

    def info(self, name: str, revision: str) -> None:
        if self.hub.answer is not None:
            self.reply(self.hub.answer)
            return
        read = self.readable(name, revision)
        if read is None:
            return
        repo, commit = read
        files = repo.commits.get(commit, {})
        siblings = [{"rfilename": key, "size": repo.sizes.get(key, len(data))} for key, data in files.items()]
        self.reply({"id": name, "sha": commit, "private": repo.private, "siblings": siblings, "tags": []})

    def file(self, name: str, revision: str, file: str) -> None:
        read = self.readable(name, revision)
        if read is None:
            return
        repo, commit = read
        if repo.gated:
            self.refuse(403, "GatedRepo")
            return
        data = repo.commits[commit].get(file)
        if data is None:
            self.refuse(404, "EntryNotFound")
            return
        self.reply(data, headers=[("X-Repo-Commit", commit), ("ETag", f'"{hashlib.sha1(data).hexdigest()}"')])


@contextmanager
def serve() -> Iterator[FakeHub]:
    """Serve an empty Hub on a free port."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Handler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    hub.stop = stop
    try:
        yield hub
    finally:
        stop()
