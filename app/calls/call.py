"""One call by name: the shape of its arguments, how it runs, and its result as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from app.calls.arguments import OfThread
from app.errors import bad_input, complaint, too_big
from app.service import Service
from engine.credentials import Credentials
from engine.errors import EngineError
from engine.machine import Machine

Json = Any
LISTED_BYTES: Final = 16
"""What a member of a list counts for, beside the texts in it."""
Bound = Callable[[], Json]
"""A call with its arguments, ready to run; raises EngineError and PagesNeeded."""


@dataclass(slots=True)
class Frame:
    """In whose name the calls of one request run. `budget` is how many bytes they may still answer with."""

    service: Service
    cred: Credentials
    pid: int
    tid: int | None
    budget: int

    @property
    def machine(self) -> Machine:
        """The engine."""
        return self.service.machine

    def thread(self, args: OfThread) -> int | None:
        """The thread that a call names, else the one of the request."""
        return self.tid if args.tid is None else args.tid

    def spend(self, count: int) -> None:
        """Set bytes of the answer aside. E2BIG: more than one answer may hold."""
        if count > self.budget:
            raise too_big("the answer would have more bytes than one answer may hold")
        self.budget -= max(0, count)


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments, the engine call, and its result as JSON (None becomes 0).

    `size` tells how many bytes the answer will have, where that can be many.
    """

    args: type[BaseModel]
    run: Callable[[Machine, Frame, Any], Any]
    render: Callable[[Any], Json] | None = None
    size: Callable[[Machine, Any], int] | None = None

    def parse(self, members: Mapping[str, Any]) -> BaseModel:
        """The arguments out of JSON. EINVAL names the first wrong one."""
        try:
            return self.args.model_validate(members)
        except ValidationError as invalid:
            raise bad_input(first_complaint(invalid)) from None

    def bind(self, frame: Frame, args: BaseModel) -> Bound:
        """The call ready to run. E2BIG: it would answer with too many bytes, or does."""
        run, render, measured = self.run, self.render, self.size is not None
        if self.size is not None:
            frame.spend(self.size(frame.machine, args))
        spent = 0

        def bound() -> Json:
            nonlocal spent
            value = run(frame.machine, frame, args)
            if value is None:
                return 0
            value = value if render is None else render(value)
            if not measured and not isinstance(value, int):
                more = weight(value) - spent  # a call that lacked pages is run again
                frame.spend(more)
                spent += max(0, more)
            return value

        return bound


def weight(value: Json) -> int:
    """About how many bytes a result has: texts and lists of one batch must not add up to more than an answer may hold."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(weight, value), sum(map(weight, value.values())))
    if isinstance(value, list):
        return sum(map(weight, value), LISTED_BYTES * len(value))
    return 0


def failing(refused: EngineError) -> Bound:
    """A call that is refused when its turn comes, so that earlier failures come first."""

    def fail() -> Json:
        raise refused

    return fail


def first_complaint(invalid: ValidationError) -> str:
    """What is wrong with the arguments, in one line."""
    error = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
    return complaint(error["loc"], error["msg"])
