# SPDX-License-Identifier: GPL-2.0-only
"""The commands of the NVM Command Set: what is done to blocks (section 6).

Rule of this file: a function for each command, which checks in the order of the fields and then
does it. Where the medium cannot, it is a media error.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import iter_unpack
from typing import TYPE_CHECKING

from kvm_vfio.errors import StorageError
from kvm_vfio.kernel.pci.nvme import transfer
from kvm_vfio.kernel.pci.nvme.identify import MDTS
from kvm_vfio.kernel.pci.nvme.spec import (
    EVERY_NAMESPACE,
    PAGE_SHIFT,
    Command,
    Nvm,
    Refused,
    Status,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.pci.nvme.controller import Nvme

_MOST_BYTES = 1 << PAGE_SHIFT + MDTS
_FORCE_UNIT_ACCESS = 1 << 30
_DEALLOCATE = 1 << 2
_RANGE = "<IIQ"  # attributes, blocks, first block
_RANGE_BYTES = 16


def execute(controller: Nvme, command: Command) -> int:
    """Do an I/O command: dword 0 of its completion. Refused."""
    act = _COMMANDS.get(command.opcode)
    if act is None:
        raise Refused(Status.INVALID_OPCODE)
    everywhere = command.opcode == Nvm.FLUSH and command.nsid == EVERY_NAMESPACE
    if command.nsid != 1 and not everywhere:
        raise Refused(Status.INVALID_NAMESPACE)
    act(controller, command)
    return 0


def _extent(controller: Nvme, first: int, blocks: int) -> tuple[int, int]:
    """(offset, size) in bytes on the medium."""
    if first + blocks > controller.blocks:
        raise Refused(Status.LBA_OUT_OF_RANGE)
    return first << controller.block_shift, blocks << controller.block_shift


def _blocks(controller: Nvme, command: Command) -> tuple[int, int]:
    """The extent that a command names."""
    first, blocks = command.cdw10 | command.cdw11 << 32, (command.cdw12 & 0xFFFF) + 1
    return _extent(controller, first, blocks)


def _moved(controller: Nvme, command: Command) -> tuple[int, int]:
    """The extent of a command that moves data, which is limited."""
    offset, size = _blocks(controller, command)
    if size > _MOST_BYTES:
        raise Refused(Status.INVALID_FIELD)
    return offset, size


def _read(controller: Nvme, command: Command) -> None:
    offset, size = _moved(controller, command)
    data = _from_medium(controller, offset, size)
    transfer.write(controller.dma, command, data, controller.page)
    controller.logs.reads += 1
    controller.logs.bytes_read += size


def _from_medium(controller: Nvme, offset: int, size: int) -> bytes:
    try:
        return controller.storage.read(offset, size)
    except StorageError:
        controller.logs.media_errors += 1
        raise Refused(Status.UNRECOVERED_READ_ERROR) from None


def _write(controller: Nvme, command: Command) -> None:
    offset, size = _moved(controller, command)
    data = transfer.read(controller.dma, command, size, controller.page)
    try:
        controller.storage.write(offset, data)
        _settle(controller, command)
    except StorageError:
        controller.logs.media_errors += 1
        raise Refused(Status.WRITE_FAULT) from None
    controller.logs.writes += 1
    controller.logs.bytes_written += size


def _settle(controller: Nvme, command: Command) -> None:
    """Where the command asks for it, or without a write cache, what is written is durable."""
    if command.cdw12 & _FORCE_UNIT_ACCESS or not controller.write_cache:
        controller.storage.flush()


def _compare(controller: Nvme, command: Command) -> None:
    offset, size = _moved(controller, command)
    data = transfer.read(controller.dma, command, size, controller.page)
    if data != _from_medium(controller, offset, size):
        raise Refused(Status.COMPARE_FAILURE)


def _write_zeroes(controller: Nvme, command: Command) -> None:
    offset, size = _blocks(controller, command)
    _discard(controller, offset, size)
    try:
        _settle(controller, command)
    except StorageError:
        raise Refused(Status.WRITE_FAULT) from None


def _discard(controller: Nvme, offset: int, size: int) -> None:
    try:
        controller.storage.discard(offset, size)
    except StorageError:
        controller.logs.media_errors += 1
        raise Refused(Status.WRITE_FAULT) from None


def _manage(controller: Nvme, command: Command) -> None:
    """Dataset Management: of all its hints, Deallocate does something."""
    count = (command.cdw10 & 0xFF) + 1
    data = transfer.read(controller.dma, command, count * _RANGE_BYTES, controller.page)
    extents = [_extent(controller, first, blocks) for _, blocks, first in iter_unpack(_RANGE, data)]
    if command.cdw11 & _DEALLOCATE:
        for offset, size in extents:
            _discard(controller, offset, size)


def _flush(controller: Nvme, command: Command) -> None:
    try:
        controller.storage.flush()
    except StorageError:
        raise Refused(Status.WRITE_FAULT) from None


_COMMANDS: dict[int, Callable[[Nvme, Command], None]] = {
    Nvm.FLUSH: _flush,
    Nvm.WRITE: _write,
    Nvm.READ: _read,
    Nvm.COMPARE: _compare,
    Nvm.WRITE_ZEROES: _write_zeroes,
    Nvm.DATASET_MANAGEMENT: _manage,
}
