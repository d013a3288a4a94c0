# SPDX-License-Identifier: GPL-2.0-only
"""Fetch what the report page is built with, into src/kvm_vfio/report/vendor.

    python -m tools.vendor

npm fetches each package by name and version and checks its integrity; the files that the page needs
are taken out, with the licence. `vendor.toml` records what they are. To go to a newer version,
change `PACKAGES`, run this, look at the page, and commit everything.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

VENDOR = Path(__file__).parents[1] / "src/kvm_vfio/report/vendor"


class Package(NamedTuple):
    """A package of npm and the files that are taken from it."""

    name: str
    version: str
    licence: str
    files: tuple[str, ...]


PACKAGES = (
    Package("cytoscape", "3.34.4", "MIT", ("dist/cytoscape.min.js",)),
    Package("uplot", "1.6.32", "MIT", ("dist/uPlot.iife.min.js", "dist/uPlot.min.css")),
)


def fetch(package: Package, directory: str) -> tuple[Path, str]:
    """The package as npm has it, and its integrity."""
    command = ["npm", "pack", "--json", f"{package.name}@{package.version}"]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    (said,) = json.loads(done.stdout)
    return Path(directory, said["filename"]), said["integrity"]


def main() -> None:
    lines = ["# SPDX-License-Identifier: GPL-2.0-only", "# Written by python -m tools.vendor."]
    for package in PACKAGES:
        lines += ["", "[[package]]", f'name = "{package.name}"', f'version = "{package.version}"']
        lines.append(f'licence = "{package.licence}"')
        with tempfile.TemporaryDirectory() as directory:
            archive, integrity = fetch(package, directory)
            lines.append(f'integrity = "{integrity}"')
            with tarfile.open(archive) as tar:
                for file in (*package.files, "LICENSE"):
                    data = tar.extractfile(f"package/{file}")
                    assert data is not None
                    content = data.read()
                    own = file == "LICENSE"
                    name = f"{package.name}.LICENSE" if own else Path(file).name
                    (VENDOR / name).write_bytes(content)
                    digest = hashlib.sha256(content).hexdigest()
                    lines += ["", "[[package.file]]", f'name = "{name}"', f'sha256 = "{digest}"']
    (VENDOR / "vendor.toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
