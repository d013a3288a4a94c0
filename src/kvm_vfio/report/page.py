# SPDX-License-Identifier: GPL-2.0-only
"""From a course of events to one HTML page that holds everything: data, program, style, libraries.

Rule of this file: what came out of a trace goes into the page as compressed data only, never as
markup or program, so that no text in it can mean anything to a browser.
"""

from __future__ import annotations

import html
import re
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import chain, pairwise
from typing import Any

import msgspec

from kvm_vfio.report.course import CHUNK, Course
from kvm_vfio.report.problems import problems

_HERE = resources.files("kvm_vfio.report")
_SCRIPTS = ("data", "list", "timeline", "graph", "state", "main")
_VENDOR = ("uPlot.iife.min.js", "cytoscape.min.js")
# What would end a line of the page's texts, or could not be seen.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LETTERS = {"call": "c", "other": "o", "close": "x", "decision": "d"}
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def page(made: Course) -> str:
    """The page. It runs in a browser of 2023 and later, from disk, without a network."""
    parts = {
        "title": html.escape(f"{' '.join(made.header.program) or 'a trace'} - kvm-vfio"),
        "style": _asset("vendor/uPlot.min.css") + _asset("assets/page.css"),
        "libraries": "".join(f"<script>{_asset(f'vendor/{name}')}</script>\n" for name in _VENDOR),
        "script": "".join(_asset(f"assets/{name}.js") for name in _SCRIPTS),
        "data": _packed(msgspec.json.encode(as_data(made))),
        "details": "\n".join(b64encode(packed).decode() for packed in made.packed),
    }
    return _PLACE.sub(lambda match: parts[match[1]], _asset("assets/page.html"))


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _packed(data: bytes) -> str:
    return b64encode(zlib.compress(data, 9)).decode()


def as_data(made: Course) -> dict[str, Any]:
    """What the page's program works on: columns, since they pack and unpack best."""
    rows, spans = made.rows, made.spans
    whats = sorted({span.what for span in spans})
    texts = list(dict.fromkeys(span.text for span in spans))
    place = {text: index for index, text in enumerate(texts)}
    return {
        "facts": list(_facts(made)),
        "chunk": CHUNK,
        "rows": {
            "kind": "".join(_LETTERS[row.kind] for row in rows),
            "n": _steps(row.n for row in rows),
            "at": _steps(row.at for row in rows),
            "took": [row.took for row in rows],
            "task": [row.task for row in rows],
            "failed": [index for index, row in enumerate(rows) if row.failed],
            "text": "\n".join(_CONTROL.sub("?", row.text) for row in rows),
            "count": [len(row.nodes) for row in rows],
            "nodes": list(chain.from_iterable(row.nodes for row in rows)),
        },
        "tasks": [_CONTROL.sub("?", task) for task in made.tasks],
        "nodes": [[node.name, node.kind, node.slot] for node in made.nodes],
        "spans": {
            "whats": whats,
            "what": [whats.index(span.what) for span in spans],
            "x": [span.x for span in spans],
            "y": [span.y for span in spans],
            "begin": [span.begin for span in spans],
            "end": [span.end for span in spans],
            "texts": texts,
            "text": [place[span.text] for span in spans],
        },
        "problems": [[p.row, p.kind, p.text, p.times, p.fix] for p in problems(made)],
    }


def _steps(numbers: Iterable[int]) -> list[int]:
    """Each number less the one before: small, and much the same."""
    return [after - before for before, after in pairwise(chain([0], numbers))]


def _facts(made: Course) -> Iterator[tuple[str, str]]:
    header = made.header
    yield "program", " ".join(header.program)
    yield "Linux", header.linux
    yield "KVM", header.kvm
    yield "machine", header.machine.name
    calls = sum(row.kind in ("call", "other") for row in made.rows)
    yield "calls", f"{calls:,}"
    if made.end is None:
        yield "end", f"the first {calls:,} only" if made.cut else "cut off"
    elif made.end.status is not None:
        yield "exit status", str(made.end.status)
