"""Load and store: GET and PUT /v1/tasks/{pid}/memory. What the thread's active space shows, as plain bytes."""

from app.errors import ESTALE, bad_input, too_big
from app.http.exchange import BYTES_HEADER, Exchange, address, number, optional_number, task_id
from app.routes import hot
from app.routes.hot import HotRoute
from app.service import Service
from engine.errors import EngineError
from everspace.wire import DURABILITY_NAMES, MEDIA_BYTES


async def read_memory(exchange: Exchange, service: Service, pid_text: str) -> None:
    """load: 200 with `len` bytes from `addr`. EFAULT names the first address that cannot be read; E2BIG."""
    pid = task_id(pid_text)
    query = exchange.query()
    addr, length, tid = address(query, "addr"), number(query, "len"), optional_number(query, "tid")
    limit = service.settings.body_limit
    if length > limit:
        raise too_big(f"a read of {length} bytes; at most {limit} are given")
    machine, cred = service.machine, exchange.cred
    service.renew(cred, pid)
    data = await service.executor.run(lambda: machine.read(cred, pid, tid, addr, length))
    await exchange.reply(200, data, BYTES_HEADER)


async def write_memory(exchange: Exchange, service: Service, pid_text: str) -> None:
    """store: 204. All of the body or nothing; EFAULT names the first address that cannot be written."""
    pid = task_id(pid_text)
    query = exchange.query()
    addr, tid, durable = address(query, "addr"), optional_number(query, "tid"), is_durable(query)
    if exchange.header(b"if-match") is not None:
        raise EngineError(ESTALE, "memory has no tag that If-Match could name")
    machine, cred = service.machine, exchange.cred
    service.renew(cred, pid)
    data = await exchange.body(service.settings.body_limit, MEDIA_BYTES)
    if number(query, "len", len(data)) != len(data):
        raise bad_input(f"len is {query['len']:.40}, the body has {len(data)} bytes")
    service.renew(cred, pid)
    await service.executor.run(lambda: machine.write(cred, pid, tid, addr, data, durable), wait=durable)
    await exchange.reply(204)


def is_durable(query: dict[str, str]) -> bool:
    """Whether the answer waits for stable storage. EINVAL: an unknown word."""
    how = query.get("durability", "commit")
    if how not in DURABILITY_NAMES:
        raise bad_input(f"durability is one of {', '.join(DURABILITY_NAMES)}")
    return how == "commit"


ADDR = hot.query("addr", hot.ADDRESS, "Hex with 0x, or decimal.", required=True)
PARAMETERS = [hot.path_id("pid"), ADDR, hot.TID]

MEMORY = HotRoute(
    "/v1/tasks/{pid}/memory",
    {"GET": read_memory, "PUT": write_memory},
    {
        "get": {
            "operationId": "read",
            "tags": ["memory"],
            "summary": "Load bytes",
            "description": "What the thread sees. ESRCH, EPERM, EINVAL; EFAULT: names the first address that cannot be read; E2BIG.",
            "parameters": [*PARAMETERS, hot.query("len", hot.INTEGER, "Bytes.", required=True)],
            "responses": {"200": {"description": "The bytes.", "content": hot.BINARY}},
        },
        "put": {
            "operationId": "write",
            "tags": ["memory"],
            "summary": "Store bytes",
            "description": "All of the body or nothing. ESRCH, EPERM, EINVAL; EFAULT: names the first address that cannot be written; E2BIG; ESTALE: with If-Match.",
            "parameters": [
                *PARAMETERS,
                hot.query("len", hot.INTEGER, "If given, the length that the body must have."),
                hot.DURABILITY,
            ],
            "requestBody": {"required": True, "content": hot.BINARY},
            "responses": {"204": {"description": "Stored, all of it."}},
        },
    },
)
