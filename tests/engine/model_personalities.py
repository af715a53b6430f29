"""What tasks and spaces hold when every personality is used: pages are cells, which are shared or copied."""

from dataclasses import dataclass, field, replace


@dataclass(eq=False)
class Cell:
    """A page's bytes, by their first; `shared`: mapped MAP_SHARED, so that copies of an address space share it."""

    byte: int = 0
    shared: bool = False


Pages = dict[int, Cell]


@dataclass
class TaskModel:
    """`views` are pages by view or slot; `unshared` are pages, the same in all views."""

    views: dict[int, Pages]
    threads: dict[int, list[int]]
    """[view, space] of each thread."""
    kind: str = ""
    base: int = 0
    next_view: int = 1
    deleted: set[int] = field(default_factory=set)
    unshared: set[int] = field(default_factory=set)
    attached: dict[int, bool] = field(default_factory=dict)
    """Whether it may be written, by space."""

    def reap(self) -> None:
        used = {view for view, _ in self.threads.values()}
        for view in self.deleted - used:
            del self.views[view]
        self.deleted &= used


@dataclass
class SpaceModel:
    pages: Pages
    snapshot: bool = False
    image: bool = False


def copied(pages: Pages) -> Pages:
    """As fork copies."""
    return {page: cell if cell.shared else replace(cell) for page, cell in pages.items()}
