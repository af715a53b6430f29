"""What all control routes share: strict JSON, ids in paths, tags and conditions, no framework's own 422."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor

from app.errors import bad_input, complaint
from app.http import strict_json
from app.http.etags import Conditions, etag_of
from app.http.exchange import MEDIA_UNSAID, parse_id, parse_query
from app.routes.hot import header
from engine.errors import ESRCH, EngineError
from everspace.wire import HEADER_KEY, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, LIST_LIMIT_MIN, MEDIA_JSON

TASK_IDS = frozenset({"pid", "tid"})
"""Path parameters that name tasks and threads: what is no number is an unknown one, ESRCH."""

BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


KEYED: Final[dict[str, Any]] = {
    "parameters": [header(HEADER_KEY, "Asked again under the same key, it is not done again, for a day.")]
}
"""For the description of a route that makes something, `Caller.create`."""
CONDITIONAL: Final[dict[str, Any]] = {
    "parameters": [
        header(
            "If-Match", "Tags; ESTALE unless one of them is that of what there is; *: there is something."
        ),
        header("If-None-Match", "Tags; ESTALE if one of them is; *: there is nothing."),
    ]
}
"""For the description of a route that changes what can be read at the same path, `Caller.call` with a target."""

_Id = BeforeValidator(parse_id)
_IdSchema = WithJsonSchema({"type": "integer"})
Vid = Annotated[int, _Id, _IdSchema, Path(description="Id of a space.")]
Sid = Annotated[int, _Id, _IdSchema, Path(description="Id of a segment.")]
Pid = Annotated[int, _Id, _IdSchema, Path(description="Id of a task.")]
TidPath = Annotated[int, _Id, _IdSchema, Path(description="Id of a thread.")]
TidQuery = Annotated[
    int | None, _Id, _IdSchema, Query(alias="tid", description="A thread; by default the main thread.")
]
NameQuery = Annotated[str | None, Query(description="Only the one with this name.")]
Cursor = Annotated[str | None, Query(description="`next` of the part before.")]
Limit = Annotated[
    int,
    BeforeValidator(lambda text: text if isinstance(text, int) else parse_id(text)),
    Query(ge=LIST_LIMIT_MIN, le=LIST_LIMIT_MAX, description="Items of one part."),
]
LIMIT: Limit = LIST_LIMIT_DEFAULT


class TextConvertor(Convertor[str]):
    """The rest of a path, whatever is in it: starlette's own `path` stops at line feeds and swallows a last one."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """As it came."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


REST: Final = "rest"
"""The convertor's name in the path of a route."""
register_url_convertor(REST, TextConvertor())


async def _root_name(
    request: Request, name: Annotated[str, Path(description="Name of a root, percent-encoded.")]
) -> str:
    """EINVAL: not UTF-8, which the server would have replaced by something that is."""
    try:
        unquote_to_bytes(request.scope["raw_path"]).decode("utf-8")
    except UnicodeDecodeError:
        raise bad_input("the name is not UTF-8") from None
    return name


RootName = Annotated[str, Depends(_root_name)]


class StrictRequest(Request):
    """A request whose JSON is read strictly."""

    async def json(self) -> Any:
        """The body. JsonError, which FastAPI takes for a JSONDecodeError, whatever is wrong with it.

        `null` is refused here, since FastAPI would take it for an absent body.
        """
        value = strict_json.loads(await self.body())
        if value is None:
            raise strict_json.JsonError("null where an object belongs")
        return value


class StrictRoute(APIRoute):
    """A route that takes JSON only, reads it strictly, and takes each query parameter once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler behind the checks."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            parse_query(request.scope["query_string"])
            scope = request.scope
            if request.method in BODY_METHODS and require_json(request):
                headers = [header for header in scope["headers"] if header[0] != b"content-type"]
                scope = {**scope, "headers": headers}
            return tagged(request, await handler(StrictRequest(scope, request.receive)))

        return strict


def tagged(request: Request, answer: Response) -> Response:
    """The answer with the tag of what it represents, or 304 for a reader who has it. ESTALE: If-Match names another state."""
    if answer.status_code != (201 if request.method == "POST" else 200) or not hasattr(answer, "body"):
        return answer
    etag = etag_of(answer.body)
    answer.headers["etag"] = etag
    conditions = Conditions.of(request.scope["headers"]) if request.method == "GET" else None
    if conditions is None:
        return answer
    conditions.require_match(etag)
    return Response(status_code=304, headers={"etag": etag}) if conditions.unchanged(etag) else answer


def require_json(request: Request) -> bool:
    """EINVAL: a body that says it is something else. Whether its type is to be passed over, as it was not chosen."""
    given = request.headers.get("content-type", MEDIA_JSON).partition(";")[0].strip().lower()
    if given not in (MEDIA_JSON, MEDIA_UNSAID) and has_body(request):
        raise bad_input(f"the body must be {MEDIA_JSON}")
    if "content-encoding" in request.headers:
        raise bad_input("an encoded body is not taken")
    return given == MEDIA_UNSAID


def has_body(request: Request) -> bool:
    """Whether a body was announced."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def new_router(tag: str) -> APIRouter:
    """A router of the /v1 API."""
    return APIRouter(tags=[tag], route_class=StrictRoute)


def refusal_of(invalid: RequestValidationError) -> EngineError:
    """EINVAL; ESRCH if a task's or thread's id in the path is not a number. Paths are judged before bodies."""
    errors = sorted(invalid.errors(), key=lambda error: error["loc"][0] != "path")
    error = errors[0]
    place = error["loc"]
    if place[0] == "path" and place[-1] in TASK_IDS:
        return EngineError(ESRCH, f"no such {'task' if place[-1] == 'pid' else 'thread'}")
    if error["type"] == "json_invalid":
        return bad_input(f"the body is not JSON: {error['ctx']['error']}")
    return bad_input(complaint(place[1:], error["msg"]))
