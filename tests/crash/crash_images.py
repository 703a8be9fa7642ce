"""What a disk may hold after the power failed at one instant of a recorded run.

Pages: each holds any content that it had since the last sync of its file that returned, or, torn, sectors of several of these; a
page stored to through a map may also have been read by the disk between two stores, so words of two versions may be mixed.
Names and lengths, two models: ``journal``, a prefix of all changes that reaches every sync (ext4, xfs), or ``posix``, any change may
be missing that no sync of its own directory or file has covered, later changes of the same name with it.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from page_recorder import PAGE_BYTES, ZEROS, FileHistory, Recording

SECTOR_BYTES = 512
MODELS = ("journal", "posix")


@dataclass(frozen=True)
class Weather:
    """How much of what was not synced reached the disk. ``newest``, ``oldest``: share of pages; the rest lies between.

    ``torn``, ``mixed``: share of pages torn at sectors, or mixed at words. ``names``: share of unsynced changes that are there.
    """

    newest: float
    oldest: float
    torn: float
    mixed: float
    names: float


NOTHING_UNSYNCED = Weather(newest=0, oldest=1, torn=0, mixed=0, names=0)


def draw_weather(rng: random.Random) -> Weather:
    """Draw how a crash hits: nearly everything there, nearly nothing, or anything."""
    kind = rng.choice(["all but a few", "none but a few", "half", "any"])
    torn, mixed = rng.choice([0.0, 0.1, 0.5]), rng.choice([0.0, 0.0, 0.2])
    if kind == "all but a few":
        return Weather(0.9, 0.05, torn / 5, mixed / 5, rng.choice([0.9, 1.0]))
    if kind == "none but a few":
        return Weather(0.05, 0.9, torn / 5, mixed / 5, rng.choice([0.0, 0.2]))
    if kind == "half":
        return Weather(0.5, 0.5, torn, mixed, 0.5)
    newest = rng.random()
    return Weather(newest, rng.uniform(0, 1 - newest), torn, mixed, rng.random())


def _draw_page(rng: random.Random, weather: Weather, versions: list[bytes]) -> bytes:
    if len(versions) == 1:
        return versions[0]

    def one() -> bytes:
        place = rng.random()
        if place < weather.newest:
            return versions[-1]
        return versions[0] if place < weather.newest + weather.oldest else rng.choice(versions)

    kind = rng.random()
    if kind < weather.torn:
        pieces = [one()[at : at + SECTOR_BYTES] for at in range(0, PAGE_BYTES, SECTOR_BYTES)]
        return b"".join(pieces)
    if kind < weather.torn + weather.mixed:
        first = rng.randrange(len(versions) - 1)
        older, newer = versions[first], versions[first + 1]
        share = rng.random()
        return b"".join(
            (newer if older[at : at + 8] != newer[at : at + 8] and rng.random() < share else older)[
                at : at + 8
            ]
            for at in range(0, PAGE_BYTES, 8)
        )
    return one()


def _content(
    rng: random.Random, weather: Weather, file: FileHistory, time: int, metadata_time: int | None
) -> bytes:
    """Draw what a file holds; ``metadata_time`` is where the journal ends, None without one."""
    synced = file.length_synced_until(time)
    if metadata_time is not None:
        length = file.lengths_between(synced, max(metadata_time, synced))[-1]
    else:
        lengths = file.lengths_between(synced, time)
        length = lengths[-1] if rng.random() < weather.names else rng.choice(lengths)
    pages = []
    for page in range(-(-length // PAGE_BYTES)):
        if page in file.pages:
            pages.append(_draw_page(rng, weather, file.versions(page, file.synced_until(time, page), time)))
        else:
            pages.append(ZEROS)
    return b"".join(pages)[:length]


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _journal_end(rng: random.Random, recording: Recording, time: int) -> int:
    """Draw where the journal ends: behind every sync of a directory, and of a file that had grown."""
    least = max((at for at, _ in recording.directory_syncs if at <= time), default=-1)
    for file in recording.files:
        synced = file.length_synced_until(time)
        least = max([least, *(at for at, _ in file.lengths[1:] if at <= synced)])
    return rng.randint(least, time)


def _names(
    rng: random.Random, weather: Weather, recording: Recording, time: int, journal_end: int | None
) -> dict[str, FileHistory | str]:
    """Draw which names are there and what each stands for."""
    bound: dict[str, FileHistory | str | None] = {}
    held_back: set[str] = set()
    synced = {
        directory: recording.directory_synced_until(directory, time)
        for directory in {_parent(name) for change in recording.changes for name, _ in change.binds}
    }
    for change in recording.changes:
        if change.time > time:
            break
        names = {name for name, _ in change.binds}
        if journal_end is not None:
            there = change.time <= journal_end
        else:
            must = any(change.time <= synced[_parent(name)] for name in names)
            there = must or (not names & held_back and rng.random() < weather.names)
        if there:
            bound.update(change.binds)
        else:
            held_back |= names
    return {name: what for name, what in bound.items() if what is not None}


def draw_image(
    rng: random.Random, recording: Recording, time: int, weather: Weather, model: str
) -> dict[str, bytes | None]:
    """Return one possible disk: file name to content, directory name to None."""
    journal_end = _journal_end(rng, recording, time) if model == "journal" else None
    names = _names(rng, weather, recording, time, journal_end)
    directories = {name for name, what in names.items() if isinstance(what, str)}
    reachable = {name for name in sorted(directories) if _all_there(_parent(name), directories)}
    contents: dict[int, bytes] = {}
    image: dict[str, bytes | None] = dict.fromkeys(sorted(reachable))
    for name, what in names.items():
        if isinstance(what, str) or not _all_there(_parent(name), reachable):
            continue
        if id(what) not in contents:
            contents[id(what)] = _content(rng, weather, what, time, journal_end)
        image[name] = contents[id(what)]
    return image


def _all_there(directory: str, directories: set[str]) -> bool:
    while directory:
        if directory not in directories:
            return False
        directory = _parent(directory)
    return True


def write_image(image: dict[str, bytes | None], place: Path) -> None:
    """Lay an image out in a directory; runs of zeros take no room there."""
    place.mkdir()
    for name, content in image.items():
        path = place / name
        if content is None:
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(content)
