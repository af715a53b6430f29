"""One call by name: the shape of its arguments, how it runs, and its result as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from app.arguments import OfThread
from app.errors import bad_input, complaint, too_big
from app.service import Service
from engine.credentials import Credentials
from engine.errors import EngineError
from engine.machine import Machine

Json = Any
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
        """The call ready to run. E2BIG: it would answer with too many bytes."""
        run, render = self.run, self.render
        if self.size is not None:
            frame.spend(self.size(frame.machine, args))

        def bound() -> Json:
            value = run(frame.machine, frame, args)
            if value is None:
                return 0
            return value if render is None else render(value)

        return bound


def failing(refused: EngineError) -> Bound:
    """A call that is refused when its turn comes, so that earlier failures come first."""

    def fail() -> Json:
        raise refused

    return fail


def first_complaint(invalid: ValidationError) -> str:
    """What is wrong with the arguments, in one line."""
    error = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
    return complaint(error["loc"], error["msg"])
