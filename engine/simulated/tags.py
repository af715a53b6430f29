"""Tags of address spaces: few numbers for any number of spaces, recycled by generations.

The algorithm is that of Linux's arm64 ASIDs (arch/arm64/mm/context.c: new_context, flush_context,
check_and_switch_context). A number is valid in one generation. When the numbers run out a new generation begins:
every number is free again except those that a CPU is using at this moment, and every CPU flushes its TLB before it
loads the next space.
"""

from typing import Final

from engine.union import Union

UNTAGGED: Final = 0
"""The tag of everything when there are no tags: each load of a root flushes."""


class Context:
    """A union as the hardware knows it. `tag` is its number of `generation`; generation 0: it never had one."""

    __slots__ = ("alive", "generation", "tag", "union")

    def __init__(self, union: Union) -> None:
        self.union = union
        self.tag = UNTAGGED
        self.generation = 0
        self.alive = True


class Tags:
    """`count` tags, numbered from 1, for `cpus` CPUs; `count` is more than `cpus` + 1.

    `rollovers` counts the generations that ran out, `assigned` the numbers given out.
    """

    __slots__ = (
        "_active",
        "_cursor",
        "_generation",
        "_pending",
        "_reserved",
        "_used",
        "assigned",
        "count",
        "rollovers",
    )

    def __init__(self, count: int, cpus: int) -> None:
        self.count = count
        self.assigned = 0
        self.rollovers = 0
        self._generation = 1
        self._cursor = 0
        self._used: set[int] = set()
        self._active: list[Context | None] = [None] * cpus
        self._reserved: list[Context | None] = [None] * cpus
        self._pending: set[int] = set()

    def load(self, cpu: int, context: Context) -> bool:
        """`cpu` is about to use `context`, which has a valid tag afterwards. Whether it must flush its TLB first."""
        if context.generation != self._generation:
            self._renew(context)
        self._active[cpu] = context
        if cpu in self._pending:
            self._pending.remove(cpu)
            return True
        return False

    def must_flush(self, cpu: int) -> bool:
        """Whether `cpu` flushes its TLB before it loads the next space: only what it uses now counts there."""
        return cpu in self._pending

    def _renew(self, context: Context) -> None:
        """A tag of the current generation."""
        if context.generation:
            if context in self._reserved:  # it was in use when its generation ended, and keeps its number
                context.generation = self._generation
                return
            if context.tag not in self._used:
                self._give(context, context.tag)
                return
        if len(self._used) == self.count:
            self._roll_over()
        while self._cursor + 1 in self._used or self._cursor == self.count:
            self._cursor = 0 if self._cursor == self.count else self._cursor + 1
        self._give(context, self._cursor + 1)

    def _give(self, context: Context, tag: int) -> None:
        self._used.add(tag)
        context.tag = tag
        context.generation = self._generation
        self.assigned += 1

    def _roll_over(self) -> None:
        """Begin a generation; what CPUs use stays theirs, also what they used when the last one began."""
        self._generation += 1
        self.rollovers += 1
        self._cursor = 0
        for cpu, active in enumerate(self._active):
            if active is not None:
                self._reserved[cpu] = active
                self._active[cpu] = None
        self._used = {held.tag for held in self._reserved if held is not None}
        self._flush_everywhere()

    def _flush_everywhere(self) -> None:
        self._pending = set(range(len(self._active)))
