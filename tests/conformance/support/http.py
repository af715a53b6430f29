"""HTTP as anybody speaks it: the standard library's client, and every problem document looked at."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
BYTES = "application/octet-stream"
PROBLEM = "application/problem+json"
STATUS = {
    "EINVAL": 400, "E2BIG": 413, "EACCES": 403, "EPERM": 403, "ESRCH": 404, "ENOENT": 404, "EEXIST": 409,
    "EBUSY": 409, "EFAULT": 422, "ESTALE": 412, "EDQUOT": 429, "EAGAIN": 429, "ENOMEM": 507, "ENOSPC": 507,
    "ETIMEDOUT": 408, "EIO": 500,
}  # fmt: skip
"""errno → status, from the contract of the interface and not from the source."""
WITHOUT_ERRNO = {401, 404, 405, 416, 503}


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers.get("content-type", "").startswith((JSON, PROBLEM)), self
        return json.loads(self.body)

    @property
    def text(self) -> str:
        assert self.headers.get("content-type", "").startswith("text/plain"), self
        return self.body.decode("utf-8")

    @property
    def etag(self) -> str:
        tag = self.headers["etag"]
        assert tag.startswith('"'), f"a strong tag is wanted, not {tag}"
        assert tag.endswith('"')
        return tag


class Problem(Exception):  # noqa: N818 - it carries a problem document
    """A refusal, whose document has been checked for its form."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.document = checked_problem(answer)
        self.errno = str(self.document.get("errno", ""))
        super().__init__(f"{answer.status} {self.document}")


def checked_problem(answer: Answer) -> dict[str, Any]:
    """The problem document of a refusal. Whatever went wrong, it is one, and never the framework's own or a 500."""
    assert answer.headers.get("content-type", "").split(";")[0] == PROBLEM, answer
    document = json.loads(answer.body)
    assert isinstance(document, dict), answer
    assert document["status"] == answer.status, document
    assert isinstance(document["title"], str), document
    assert isinstance(document["detail"], str), document
    assert document["detail"], document
    assert "Traceback" not in answer.body.decode("utf-8")
    if "errno" in document:
        assert STATUS[document["errno"]] == answer.status, document
    else:
        assert answer.status in WITHOUT_ERRNO, document
    return document


class Http:
    """A connection of one account, kept open between requests."""

    def __init__(self, port: int, token: str | None) -> None:
        self.token = token
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def close(self) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request (`body` is sent as JSON, `raw` as it is) and read the answer, whatever it is."""
        sent: dict[str, str] = {}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            raw = json.dumps(body).encode("ascii")
            sent["Content-Type"] = JSON
        elif raw is not None:
            sent["Content-Type"] = BYTES
        sent |= headers or {}
        try:
            self._connection.request(method, path, body=raw, headers=sent)
            response = self._connection.getresponse()
            content = response.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, content
        )

    def send(self, method: str, path: str, body: Any) -> None:
        """Send a request and leave its answer unread; afterwards this connection is good for `close` alone."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": JSON}
        self._connection.request(method, path, body=json.dumps(body).encode("ascii"), headers=headers)

    def open(self, path: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """GET an answer that is read piece by piece; afterwards this connection is good for `close` alone."""
        sent = {"Authorization": f"Bearer {self.token}"} | dict(headers)
        self._connection.request("GET", path, headers=sent)
        return self._connection.getresponse()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        status: int | tuple[int, ...] = (200, 204),
    ) -> Answer:
        """As `request`, but a refusal is raised as a Problem, and a success has one of the statuses."""
        answer = self.request(method, path, body, raw=raw, headers=headers)
        if answer.status >= 400:
            raise Problem(answer)
        wanted = (status,) if isinstance(status, int) else status
        assert answer.status in wanted, (method, path, answer)
        return answer

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return self.call("GET", path, status=200).json
