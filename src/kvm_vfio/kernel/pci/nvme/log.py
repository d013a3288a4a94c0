# SPDX-License-Identifier: GPL-2.0-only
"""What the controller has counted and what went wrong: its log pages (section 5.14).

Rule of this file: it remembers; how much of a page the host wants is `admin`'s.
"""

from __future__ import annotations

from collections import deque
from struct import pack

from kvm_vfio.kernel.pci.nvme.features import TEMPERATURE, Features
from kvm_vfio.kernel.pci.nvme.identify import ERROR_ENTRIES, FIRMWARE, packed
from kvm_vfio.kernel.pci.nvme.spec import Command, Log

_ERROR_ENTRY_BYTES = 64
_UNIT = 512_000  # bytes of a data unit
_NO_LOCATION = 0xFFFF
_TOO_WARM = 1 << 1


class Logs:
    """Since power on."""

    def __init__(self) -> None:
        self.bytes_read = 0
        self.bytes_written = 0
        self.reads = 0
        self.writes = 0
        self.media_errors = 0
        self.error_count = 0
        self._errors: deque[bytes] = deque(maxlen=ERROR_ENTRIES)  # newest first

    def failed(self, queue: int, command: Command, status: int) -> None:
        """A command ended with `status`, as its completion has it."""
        self.error_count += 1
        lba = command.cdw10 | command.cdw11 << 32 if queue else 0
        entry = pack(
            "<QHHHHQI",
            self.error_count,
            queue,
            command.identifier,
            status,
            _NO_LOCATION,
            lba,
            command.nsid,
        )
        self._errors.appendleft(entry.ljust(_ERROR_ENTRY_BYTES, b"\0"))

    def page(self, log: Log, features: Features) -> bytes:
        """A log page, whole."""
        if log is Log.ERROR:
            return b"".join(self._errors).ljust(ERROR_ENTRIES * _ERROR_ENTRY_BYTES, b"\0")
        if log is Log.SMART:
            return self._smart(features)
        return packed(512, {0: (1, 1), 8: (8, FIRMWARE)})  # slot 1 is active

    def _smart(self, features: Features) -> bytes:
        fields = {
            0: (1, _TOO_WARM if features.too_warm else 0),
            1: (2, TEMPERATURE),
            3: (1, 100),  # per cent of spare blocks there
            4: (1, 10),  # and when to worry
            32: (16, -(-self.bytes_read // _UNIT)),
            48: (16, -(-self.bytes_written // _UNIT)),
            64: (16, self.reads),
            80: (16, self.writes),
            112: (16, 1),  # power cycles
            160: (16, self.media_errors),
            176: (16, self.error_count),
        }
        return packed(512, fields)
