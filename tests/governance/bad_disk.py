"""A file system for SQLite that fails or loses power: what was not synced may be lost, kept or torn, like on a disk.

    with BadDisk(seed=1, cut_at=17) as disk:
        ... Log.open(path, vfs=disk.name) ...      # the 17th write, sync, truncation or deletion is the last thing that happens
    disk.leave(folder)                             # what a disk could hold after that

Names are made durable by a sync of their folder, which SQLite does with the first sync of a new journal and where it
deletes a journal durably (synchronous=EXTRA).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random
from typing import Any, Self

import apsw

SECTOR = 512
JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_numbers = itertools.count()


class Image:
    """A file: its content when last synced, and what was done to it since."""

    def __init__(self, durable: bytes, named: bool) -> None:
        self.durable, self.named = durable, named  # named: its entry in the folder is durable
        self.pending: list[tuple[int, bytes | None]] = []  # (offset, data), or (size, None) for a truncation
        self.ghost: Image | None = None  # what this name held before, while the folder does not know better

    def apply(self, content: bytearray, offset: int, data: bytes | None) -> None:
        if data is None:
            del content[offset:]
            return
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data

    def whole(self) -> bytes:
        """With everything that was done to it."""
        content = bytearray(self.durable)
        for operation in self.pending:
            self.apply(content, *operation)
        return bytes(content)

    def survivor(self, random: Random, mode: str) -> bytes:
        """With what the disk may have done of it: "none", "all" or "some" (each kept, lost or torn within sectors)."""
        content = bytearray(self.durable)
        for offset, data in self.pending if mode != "none" else ():
            fate = "keep" if mode == "all" else random.choice(("keep", "lose", "tear"))
            if fate == "tear" and data is not None:
                sectors = range(0, len(data), SECTOR)
                for start in (s for s in sectors if random.random() < 0.5):
                    self.apply(content, offset + start, data[start : start + SECTOR])
            elif fate == "keep" or (fate == "tear" and random.random() < 0.5):
                self.apply(content, offset, data)
        return bytes(content)


class BadDisk(apsw.VFS):
    """Counts operations; at number `cut_at` the power goes, at number `fail_at` the operation fails with `error`."""

    def __init__(
        self,
        seed: int = 0,
        cut_at: int = 0,
        fail_at: int = 0,
        error: type[Exception] = apsw.IOError,
        lasting: bool = False,
    ) -> None:
        self.name = f"bad-disk-{next(_numbers)}"
        self.random, self.cut_at, self.fail_at, self.error, self.lasting = Random(seed), cut_at, fail_at, error, lasting
        self.operations = self.failures = 0
        self.dead = False
        self.images: dict[str, Image] = {}
        self.ghosts: dict[str, Image] = {}  # deleted, but the folder may not know
        super().__init__(self.name, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def excepthook(self, *_: object) -> None:
        """Failures of an operation whose result SQLite does not look at are meant to happen."""

    def adopt(self, folder: Path) -> None:
        """Files that are on the disk already, durably."""
        for path in folder.iterdir():
            self.images[str(path)] = Image(path.read_bytes(), named=True)

    def step(self, what: str) -> None:
        """One operation; raises if it must not happen."""
        if self.dead:
            raise apsw.IOError("the power is off")
        self.operations += 1
        if self.operations == self.cut_at:
            self.dead = True
            raise apsw.IOError(f"power lost at operation {self.operations} ({what})")
        if self.fail_at and (self.operations == self.fail_at or (self.lasting and self.operations > self.fail_at)):
            self.failures += 1
            raise self.error(f"planted failure of operation {self.operations} ({what})")

    def know_names(self) -> None:
        """The folder is synced."""
        self.ghosts.clear()
        for image in self.images.values():
            image.named, image.ghost = True, None

    def xOpen(self, name: Any, flags: list[int]) -> BadFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        new = path is not None and not Path(path).exists()
        file = BadFile(self, name, flags)
        if path is not None and path not in self.images:
            content = b"" if new else Path(path).read_bytes()
            self.images[path] = Image(content, named=not new)
            self.images[path].ghost = self.ghosts.pop(path, None)
        file.path, file.names = path, new and bool(flags[0] & JOURNALS)
        return file

    def xDelete(self, name: str, sync_folder: bool) -> None:
        self.step("delete")
        super().xDelete(name, sync_folder)
        image = self.images.pop(name, None)
        if image is not None:
            self.ghosts[name] = image if image.named else (image.ghost or image)
        if sync_folder:
            self.know_names()

    def leave(self, folder: Path) -> None:
        """Writes what the disk could hold now."""
        mode = self.random.choice(("none", "all", "some", "some"))
        back = {path: ghost for path, ghost in self.ghosts.items() if self.random.random() < 0.5}
        left = {**self.images, **back}
        for path, image in left.items():
            seen: Image | None = image
            if not image.named and self.random.random() < 0.5:
                seen = image.ghost
            if seen is not None:
                (folder / Path(path).name).write_bytes(seen.survivor(self.random, mode))


class BadFile(apsw.VFSFile):
    """A file of a `BadDisk`."""

    def __init__(self, disk: BadDisk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        self.path: str | None = None
        self.names = False  # its first sync syncs the folder
        super().__init__("", name, flags)

    def note(self, offset: int, data: bytes | None) -> None:
        if self.path is not None and self.path in self.disk.images:
            self.disk.images[self.path].pending.append((offset, data))

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self.disk.step("write")
        except apsw.Error:
            if self.disk.operations == self.disk.cut_at:
                self.note(offset, bytes(data))  # in flight: it may have reached the disk in part
            raise
        super().xWrite(data, offset)
        self.note(offset, bytes(data))

    def xTruncate(self, size: int) -> None:
        self.disk.step("truncate")
        super().xTruncate(size)
        self.note(size, None)

    def xSync(self, flags: int) -> None:
        self.disk.step("sync")  # the real disk is not asked: what would be durable is kept in memory
        image = self.disk.images.get(self.path or "")
        if image is not None:
            image.durable, image.pending = image.whole(), []
        if self.names:
            self.disk.know_names()
            self.names = False
