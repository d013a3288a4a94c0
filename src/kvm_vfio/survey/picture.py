# SPDX-License-Identifier: GPL-2.0-only
"""The groups of a computer as one SVG picture: an IOMMU is a column, a group a box in it.

Rule of this file: pure. Nothing is said by colour alone, and nothing is fetched: the picture stands
for itself in light and dark.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from xml.etree import ElementTree as ET

from kvm_vfio.machine.classes import class_name
from kvm_vfio.survey.facts import Computer, Function, Group
from kvm_vfio.survey.judge import Answer, enforcing, judge, shortcomings

_LINE, _PAD, _GAP = 18, 10, 14
_LETTER = 7.3  # how wide one is at most, at 13 pixels
_LEAST = 300
_LONGEST = 84  # letters of a line
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c1f23; }
.title { font-weight: 600; }
.dim { fill: #59616b; }
.page { fill: #ffffff; }
.unit { fill: #f3f5f7; stroke: #b9c1ca; }
.group { fill: #ffffff; stroke: #8b95a1; }
.no-op { stroke: #1a7f37; stroke-width: 2; }
.executed { stroke: #c4500c; stroke-width: 2; }
.missing { stroke-dasharray: 6 4; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ec; } .dim { fill: #a3adb8; } .page { fill: #14171a; }
  .unit { fill: #1d2126; stroke: #4a535d; } .group { fill: #14171a; stroke: #7d8894; }
  .no-op { stroke: #4ac26b; } .executed { stroke: #f0883e; }
}
"""
_CLASSES = {Answer.NO_OP: "no-op", Answer.EXECUTED: "executed"}

_Line = tuple[str, str]  # its class, its text


def svg(computer: Computer) -> str:
    """The picture. Its size follows from what is in it."""
    columns = list(_columns(computer))
    width, height, drawn = _laid_out(columns)
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "viewBox": f"0 0 {width:g} {height:g}",
            "role": "img",
            "aria-label": f"IOMMU groups, Linux {computer.release}",
        },
    )
    ET.SubElement(root, "style").text = _STYLE
    ET.SubElement(root, "rect", {"class": "page", "width": "100%", "height": "100%"})
    root.extend(drawn)
    return ET.tostring(root, encoding="unicode") + "\n"


_Box = tuple[str, list[_Line]]  # the class of its frame, its lines
_Column = tuple[list[_Line], list[_Box]]


def _columns(computer: Computer) -> Iterator[_Column]:
    """A column for each IOMMU, and one for what is behind none."""
    told: set[int] = set()
    only = computer.units[0].name if len(computer.units) == 1 else None
    for unit in computer.units:
        groups = [g for g in computer.groups if unit.name in {f.iommu or only for f in g.functions}]
        told |= {group.number for group in groups}
        heads = [("title", unit.name), ("dim", enforcing(unit))]
        yield heads, [_of_group(computer, group) for group in groups]
    rest = [_of_group(computer, g) for g in computer.groups if g.number not in told]
    if rest:
        yield [("title", "behind no IOMMU that is known")], rest
    if not computer.units:
        lines = [("dim", sentence) for sentence in shortcomings(computer)]
        boxes = [("group", list(_of_function(function))) for function in computer.ungrouped]
        yield [("title", f"Linux {computer.release}: no IOMMU"), *lines], boxes


def _of_group(computer: Computer, group: Group) -> _Box:
    judgement = judge(computer, group)
    lines = [("title", f"group {group.number}{'' if judgement.viable else ', not viable'}")]
    lines += chain.from_iterable(map(_of_function, group.functions))
    lines += [("", name) for name in group.others]
    lines += [("dim", f"missing: {what}") for what in judgement.missing]
    lines.append(("", f"WBINVD: {judgement.wbinvd.answer.value}"))
    frame = f"group {_CLASSES.get(judgement.wbinvd.answer, '')}"
    return f"{frame} missing" if judgement.missing else frame, lines


def _of_function(function: Function) -> Iterator[_Line]:
    kind = "bridge" if function.bridge else class_name(function.class_code)
    ids = f"{function.vendor:04x}:{function.device:04x}"
    yield "", f"{function.address} {kind} {ids}, {function.driver or 'no driver'}"


def _laid_out(columns: list[_Column]) -> tuple[float, float, list[ET.Element]]:
    x: float = _GAP
    tallest: float = 0
    drawn: list[ET.Element] = []
    for heads, boxes in columns:
        texts = [text for _, text in chain(heads, *(lines for _, lines in boxes))]
        longest = max(min(len(text), _LONGEST) for text in texts)
        inner = max(_LEAST, longest * _LETTER + 2 * _PAD)
        y = _GAP + _PAD + len(heads) * _LINE + _PAD
        inside: list[ET.Element] = list(_texts(heads, x + _PAD, _GAP + _PAD))
        for frame, lines in boxes:
            tall = len(lines) * _LINE + 2 * _PAD
            inside.append(_rect(frame, x + _PAD, y, inner, tall))
            inside += _texts(lines, x + 2 * _PAD, y + _PAD)
            y += tall + _PAD
        drawn += [_rect("unit", x, _GAP, inner + 2 * _PAD, y - _GAP), *inside]
        tallest = max(tallest, y)
        x += inner + 2 * _PAD + _GAP
    return x, tallest + _GAP, drawn


def _rect(frame: str, x: float, y: float, width: float, height: float) -> ET.Element:
    place = {"x": x, "y": y, "width": width, "height": height, "rx": 6}
    return ET.Element("rect", {"class": frame, **{key: f"{v:g}" for key, v in place.items()}})


def _texts(lines: list[_Line], x: float, y: float) -> Iterator[ET.Element]:
    for number, (kind, text) in enumerate(lines):
        place = {"x": f"{x:g}", "y": f"{y + number * _LINE + _LINE * 0.7:g}"}
        element = ET.Element("text", {**({"class": kind} if kind else {}), **place})
        element.text = (
            text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
        )
        if element.text != text:
            ET.SubElement(element, "title").text = text
        yield element
