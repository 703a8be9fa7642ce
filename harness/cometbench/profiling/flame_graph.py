"""A flame graph from collapsed stacks, as one SVG without script: wide is much time, the innermost frame is on top, names on hover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from cometbench.profiling.py_spy import Stack, is_allocator, is_system_call

_WIDTH, _ROW, _CHARACTER = 1200, 18, 6.6
_KERNEL, _ALLOCATOR, _PYTHON, _NATIVE = "#0072b2", "#b5528b", "#8f6400", "#00805c"


class _Box(NamedTuple):
    frames: tuple[str, ...]
    begin: int
    samples: int


def to_collapsed(stacks: Sequence[Stack]) -> str:
    """Return stacks in the collapsed form that other tools read, one line each."""
    return "".join(f"{';'.join(frames)} {count}\n" for frames, count in sorted(stacks))


def both_forms(name: str, stacks: Sequence[Stack], title: str) -> dict[str, str]:
    """Return the collapsed text and the SVG by file name."""
    return {f"{name}.txt": to_collapsed(stacks), f"{name}.svg": to_flame_svg(stacks, title)}


def to_flame_svg(stacks: Sequence[Stack], title: str) -> str:
    """Draw stacks; blue is in a system call, purple the allocator, brown Python, green compiled code."""
    total = sum(count for _, count in stacks)
    depth = max((len(frames) for frames, _ in stacks), default=0)
    height = (depth + 2) * _ROW
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11"><title>{escape(title)}</title>'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
        f'<text x="4" y="13" font-weight="bold">{escape(title)}: {total} samples</text>\n'
    )
    drawn = [_draw(box, total, height) for box in _boxes(sorted(stacks), 0, 0)]
    return head + "\n".join(drawn) + "\n</svg>\n"


def _boxes(stacks: Sequence[Stack], depth: int, begin: int) -> Iterator[_Box]:
    """Yield a box for each run of stacks that share a frame at this depth, and those above it."""
    at = 0
    while at < len(stacks):
        frames, count = stacks[at]
        if len(frames) <= depth:
            at, begin = at + 1, begin + count
            continue
        end = next(
            (i for i in range(at, len(stacks)) if stacks[i][0][depth : depth + 1] != (frames[depth],)),
            len(stacks),
        )
        width = sum(samples for _, samples in stacks[at:end])
        yield _Box(frames[: depth + 1], begin, width)
        yield from _boxes(stacks[at:end], depth + 1, begin)
        at, begin = end, begin + width


def _draw(box: _Box, total: int, height: int) -> str:
    x, width = _WIDTH * box.begin / total, _WIDTH * box.samples / total
    y = height - len(box.frames) * _ROW - 2
    name = box.frames[-1]
    room = int(width / _CHARACTER)
    shown = name if len(name) <= room else f"{name[: room - 1]}…" if room > 3 else ""
    return (
        f"<g><title>{escape(name)}: {box.samples} samples, {100 * box.samples / total:.1f} %</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.3):.1f}" height="{_ROW - 1}" fill="{_color(box.frames)}"/>'
        f'<text x="{x + 3:.1f}" y="{y + 13}" fill="#ffffff">{escape(shown)}</text></g>'
    )


def _color(frames: tuple[str, ...]) -> str:
    if is_system_call(frames):
        return _KERNEL
    if is_allocator(frames[-1:]):
        return _ALLOCATOR
    return _PYTHON if frames[-1].endswith(".py)") else _NATIVE
