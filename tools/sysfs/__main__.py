# SPDX-License-Identifier: GPL-2.0-only
"""Record a tree: of this machine, or of a real Linux under QEMU.

    python -m tools.sysfs > machine.tree
    python -m tools.sysfs --linux 6.12 --iommu intel-iommu,snoop-control=off > intel.tree

The guest is the one that `kvm-vfio guest prepare` has fetched, with more PCI devices than the
recordings' machine has: a network card behind a port, so that a group has a bridge.
"""

from __future__ import annotations

import argparse
import os

from tools.sysfs.guests import There, booted
from tools.sysfs.trees import record


class Here:
    """This machine."""

    def names(self, path: str) -> list[str]:
        return os.listdir(path)

    def link(self, path: str) -> str:
        return os.readlink(path)

    def content(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--linux")
    parser.add_argument("--iommu", default="intel-iommu,intremap=on,snoop-control=off")
    options = parser.parse_args()
    if options.linux is None:
        print(*record(Here()), sep="\n")
        return
    with booted(options.linux, options.iommu) as process:
        print(f"# Linux {process.guest.kernel.release} under QEMU, {options.iommu}")
        print(*record(There(process)), sep="\n")


if __name__ == "__main__":
    main()
