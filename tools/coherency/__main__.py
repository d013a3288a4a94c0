# SPDX-License-Identifier: GPL-2.0-only
"""Draw the figures of docs/coherency.md: what a search finds, and what then happens.

python -m tools.coherency          write them into the page
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st

from tools.coherency.play import GROUPS, Guest, Step, play

PAGE = Path(__file__).parents[2] / "docs" / "coherency.md"
_STEPS = st.lists(
    st.one_of(
        st.builds(Step, st.just("run"), st.integers(0, 2)),
        st.builds(Step, st.just("store"), st.integers(1, 255)),
        st.builds(Step, st.just("dma"), st.sampled_from(GROUPS)),
    ),
    max_size=12,
)
_SEARCH = settings(
    database=None,
    derandomize=True,
    max_examples=2000,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def counterexample(register: Sequence[int]) -> list[Step]:
    """The shortest way to stale data when these groups are registered."""

    def stale(steps: list[Step]) -> bool:
        guest = Guest()
        guest.assign(register=register)
        return any(line.startswith("STALE") for line in play(guest, steps))

    return find(_STEPS, stale, settings=_SEARCH)


def drawing(steps: Sequence[Step], register: Sequence[int]) -> str:
    """Who knows what, step by step."""
    guest = Guest()
    guest.assign(register=register)
    rows = [("", "the guest sees", "memory holds")]
    for step in steps:
        for line in play(guest, [step]):
            sees, holds = guest.load(0), guest.in_memory(0)
            rows.append((line, str(sees), f"{holds}" if sees == holds else f"{holds}  <- older"))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{a:<{first}}   {b:>{second}}   {c}".rstrip() for a, b, c in rows)


def page() -> str:
    """The page with its figures as they come out now."""
    text = PAGE.read_text(encoding="utf-8")
    steps = counterexample(register=[1])
    figures = {
        "without": drawing(steps, register=[1]),
        "with": drawing(steps, register=list(GROUPS)),
    }
    for name, figure in figures.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n```\n")
        text = before + mark + figure + rest[rest.index("\n```") :]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
