# SPDX-License-Identifier: GPL-2.0-only
"""What Identify tells of the controller and its namespace (section 5.15).

Rule of this file: a data structure is a table of fields: offset, then width in bytes and value.
What is not in it is 0, which in this specification means "not supported".
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

from kvm_vfio.kernel.pci.nvme.features import CRITICAL_TEMPERATURE, WARNING_TEMPERATURE
from kvm_vfio.kernel.pci.nvme.spec import CQ_ENTRY_SHIFT, SQ_ENTRY_SHIFT, VERSION

if TYPE_CHECKING:
    from kvm_vfio.kernel.pci.nvme.controller import Nvme

SIZE = 4096
MODEL, FIRMWARE = b"kvm-vfio NVMe", b"1"
MDTS = 7  # a command moves at most 2**7 pages of 4 KiB
EVENT_REQUESTS = 4
ERROR_ENTRIES = 4
ABORTS = 4

_VOLATILE_WRITE_CACHE = 0b111  # it has one, and Flush of every namespace at once
_COMPARE, _DATASET_MANAGEMENT, _WRITE_ZEROES = 1 << 0, 1 << 2, 1 << 3
_IO_CONTROLLER = 1
_LOG_PAGE_OFFSET = 1 << 2
_FIRST_SLOT_READ_ONLY, _ONE_SLOT = 1 << 0, 1 << 1
_DEALLOCATED_READS_ZERO, _WRITE_ZEROES_DEALLOCATES = 1 << 0, 1 << 3
_UUID = 3  # a kind of namespace identifier

Fields = Mapping[int, tuple[int, int | bytes]]


def packed(size: int, fields: Fields) -> bytes:
    """A data structure of `size` bytes. Text is padded with blanks."""
    data = bytearray(size)
    for offset, (width, value) in fields.items():
        if isinstance(value, bytes):
            data[offset : offset + width] = value.ljust(width, b" ")
        else:
            data[offset : offset + width] = value.to_bytes(width, "little")
    return bytes(data)


def controller(device: Nvme) -> bytes:
    """Identify Controller."""
    static = device.function
    name = f"nqn.2014-08.org.nvmexpress:uuid:{_text(_uuid(device, 'subsystem'))}".encode()
    fields: Fields = {
        0: (2, static.vendor),
        2: (2, static.subsystem_vendor),
        4: (20, device.options.serial.encode()),
        24: (40, MODEL),
        64: (8, FIRMWARE),
        77: (1, MDTS),
        80: (4, VERSION),
        111: (1, _IO_CONTROLLER),
        258: (1, ABORTS - 1),
        259: (1, EVENT_REQUESTS - 1),
        260: (1, _FIRST_SLOT_READ_ONLY | _ONE_SLOT),
        261: (1, _LOG_PAGE_OFFSET),
        262: (1, ERROR_ENTRIES - 1),
        266: (2, WARNING_TEMPERATURE),
        268: (2, CRITICAL_TEMPERATURE),
        512: (1, SQ_ENTRY_SHIFT | SQ_ENTRY_SHIFT << 4),
        513: (1, CQ_ENTRY_SHIFT | CQ_ENTRY_SHIFT << 4),
        516: (4, 1),  # one namespace
        520: (2, _COMPARE | _DATASET_MANAGEMENT | _WRITE_ZEROES),
        525: (1, _VOLATILE_WRITE_CACHE),
        768: (256, name.ljust(256, b"\0")),
        2048: (2, 2500),  # power state 0: 25 W at most
    }
    return packed(SIZE, fields)


def namespace(device: Nvme) -> bytes:
    """Identify Namespace, of the one that there is."""
    fields: Fields = {
        0: (8, device.blocks),  # its size, its capacity, what is used of it
        8: (8, device.blocks),
        16: (8, device.blocks),
        33: (1, _DEALLOCATED_READS_ZERO | _WRITE_ZEROES_DEALLOCATES),
        130: (1, device.block_shift),  # in LBA format 0
    }
    return packed(SIZE, fields)


def active_namespaces(after: int) -> bytes:
    """The namespaces whose identifiers are greater than `after`."""
    return packed(SIZE, {0: (4, 1 if after < 1 else 0)})


def namespace_descriptors(device: Nvme) -> bytes:
    """What the namespace is called: a UUID, which its serial number decides."""
    return packed(SIZE, {0: (1, _UUID), 1: (1, 16), 4: (16, _uuid(device, "namespace"))})


def _uuid(device: Nvme, of: str) -> bytes:
    """A UUID of the kind that is made from a name (version 8)."""
    digest = bytearray(sha256(f"{device.options.serial} {of}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def _text(uuid: bytes) -> str:
    digits = uuid.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
