# SPDX-License-Identifier: GPL-2.0-only
"""The build's own step: manual pages, made from the command that the wheel is to hold."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface[Any]):
    """Puts the manual pages into a wheel's share/man/man1; an editable install has none."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        try:
            from kvm_vfio.cli import main  # noqa: PLC0415 - it is there from here on
            from kvm_vfio.cli._man import pages  # noqa: PLC0415
        finally:
            del sys.path[0]
        self._directory = tempfile.TemporaryDirectory()
        for name, content in pages(main, "kvm-vfio", self.metadata.version):
            page = Path(self._directory.name, name)
            page.write_text(content, encoding="utf-8")
            build_data["shared_data"][str(page)] = f"share/man/man1/{name}"

    def finalize(self, version: str, _build_data: dict[str, Any], _artifact: str) -> None:
        if version != "editable":
            self._directory.cleanup()
