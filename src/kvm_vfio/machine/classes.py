# SPDX-License-Identifier: GPL-2.0-only
"""What people call a PCI device of a class.

Rule of this file: a word for each base class that is assigned to VMs; numbers are PCI's own.
"""

_BASE = {
    0x01: "storage",
    0x02: "network",
    0x03: "display",
    0x04: "multimedia",
    0x06: "bridge",
    0x07: "communication",
    0x08: "system",
    0x0C: "serial bus",
    0x12: "accelerator",
}


def class_name(class_code: int) -> str:
    """The word for a 24-bit class code."""
    return _BASE.get(class_code >> 16, "device")
