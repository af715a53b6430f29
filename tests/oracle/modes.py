"""Surroundings in which sequences run. Each shows rules that the others cannot reach."""

from dataclasses import dataclass

from tests.oracle.calls import CORE, CORE_PAGES, PAGE, SIGNATURES, WINDOW, WINDOW_SIZE

UNLIMITED = tuple(name for name in SIGNATURES if name != "limit")


@dataclass(frozen=True, slots=True)
class Mode:
    """`calls` are the kinds of call that are made; `resources` those that the call `limit` may name."""

    name: str
    calls: tuple[str, ...] = UNLIMITED
    filled: bool = False
    """All but the core is taken, so that what the system places anywhere comes into the core."""
    bottom_up: bool = False
    """The system searches for a free range from below (legacy layout) instead of from above."""
    unprivileged: bool = False
    """Nobody's rights, so that limits of locked memory hold."""
    crowded: bool = False
    """Nearly as many regions as a process may have."""
    resources: tuple[str, ...] = ()

    @property
    def bounds(self) -> tuple[int, int]:
        """What belongs to the sequence and is compared."""
        return (CORE, CORE + CORE_PAGES * PAGE) if self.filled else (WINDOW, WINDOW + WINDOW_SIZE)


MODES = {
    mode.name: mode
    for mode in (
        Mode("plain"),
        Mode("downwards", filled=True),
        Mode("upwards", filled=True, bottom_up=True),
        Mode(
            "limited",
            calls=(*UNLIMITED, "limit"),
            unprivileged=True,
            resources=("address_space", "data", "stack", "locked"),
        ),
        Mode(
            "crowded",
            calls=tuple(name for name in SIGNATURES if name not in ("fork", "exit")),
            crowded=True,
            resources=("map_count",),
        ),
    )
}
"""By name. In `crowded` a fork would copy tens of thousands of regions, so there is none."""
