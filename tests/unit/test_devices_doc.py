# SPDX-License-Identifier: GPL-2.0-only
"""What docs/devices.md shows, works."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kvm_vfio.machine import devices
from kvm_vfio.machine.load import parse_machine

TEXT = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()
MODEL, USE = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
MACHINE, ENTRY = re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "my_devices"}
    exec(compile(source, "docs/devices.md", "exec"), names)  # noqa: S102  # that is the test
    return names


def test_the_example_is_short_and_works() -> None:
    assert len(MODEL.splitlines()) < 60
    names = run(MODEL + USE)
    names["memory"].write(b"x" * 8)
    for at, value in ((0x08, 0xDEAD000), (0x18, 1)):
        names["dev"].write_region(0, at, value.to_bytes(4, "little"))
    assert names["memory"].read(8) == b"x" * 8
    assert names["linux"].read(names["failed"], 8)[0] == 1


def test_a_machine_file_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_devices")
    vars(module).update(run(MODEL))
    monkeypatch.setitem(sys.modules, "my_devices", module)
    ((group, named),) = tomllib.loads(ENTRY)["project"]["entry-points"].items()
    found = [importlib.metadata.EntryPoint(name, to, group) for name, to in named.items()]
    monkeypatch.setattr(devices, "entry_points", lambda **_which: found)
    text = "[[iommu]]\n[[iommu.group]]\nnumber = 1\n" + MACHINE.replace("edu", "reverser")
    ((_, device),) = parse_machine(text, "m.toml").devices()
    assert device == module.Reverser.at("0000:00:10.0")
    assert "reverser" in devices.device_models()


def test_its_models_are_all_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert rows == sorted(devices._OWN)
