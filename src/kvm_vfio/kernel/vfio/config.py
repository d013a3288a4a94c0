# SPDX-License-Identifier: GPL-2.0-only
"""Configuration space through VFIO (drivers/vfio/pci/vfio_pci_config.c).

Rule of this file: what a program reads and what of its writes takes effect; what the function
itself has is in `kvm_vfio.kernel.pci.config`.

When a device is opened VFIO walks its capabilities and gives each byte the rules of the one it is
in: some registers are VFIO's own copies, which begin as the hardware's and end with the last close,
some are the hardware's, most cannot be written. A capability of unknown size is hidden: the list
leads past it. What is in none goes straight to the hardware, and stays there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvm_vfio.kernel.pci.config import capabilities, extended_capabilities
from kvm_vfio.uapi.pci import (
    PCI_CAP_ID_EXP,
    PCI_CAP_ID_MSI,
    PCI_CAP_ID_MSIX,
    PCI_CAP_ID_PM,
    PCI_CAPABILITY_LIST,
    PCI_COMMAND,
    PCI_COMMAND_INTX_DISABLE,
    PCI_COMMAND_MEMORY,
    PCI_EXP_DEVCAP,
    PCI_EXP_DEVCAP_FLR,
    PCI_EXP_DEVCTL,
    PCI_EXP_DEVCTL_BCR_FLR,
    PCI_EXP_DEVCTL_PAYLOAD,
    PCI_EXP_DEVCTL_READRQ,
    PCI_MSI_ADDRESS_HI,
    PCI_MSI_ADDRESS_LO,
    PCI_MSI_DATA_32,
    PCI_MSI_DATA_64,
    PCI_MSI_FLAGS,
    PCI_MSI_FLAGS_64BIT,
    PCI_MSI_FLAGS_ENABLE,
    PCI_MSI_FLAGS_QSIZE,
    PCI_MSIX_FLAGS,
    PCI_MSIX_FLAGS_ENABLE,
    PCI_PM_CAP_D1,
    PCI_PM_CAP_D2,
    PCI_PM_CTRL,
    PCI_PM_CTRL_NO_SOFT_RESET,
    PCI_PM_CTRL_PME_ENABLE,
    PCI_PM_CTRL_PME_STATUS,
    PCI_PM_CTRL_STATE_MASK,
    PCI_PM_PMC,
    PCI_STD_HEADER_SIZEOF,
)

if TYPE_CHECKING:
    from kvm_vfio.profiles.profile import Profile

_D3HOT = 3
_SUPPORT = {1: PCI_PM_CAP_D1, 2: PCI_PM_CAP_D2}  # the states that a function need not have


class ConfigSpace:
    """256 bytes, 4096 for a PCI Express function.

    `reset_function` is called when a write asks for a reset that the function can do.
    """

    def __init__(
        self,
        hardware: tuple[bytearray, bytearray],
        profile: Profile,
        reset_function: Callable[[], None] = lambda: None,
    ) -> None:
        """`hardware` is what `kernel.pci.config.hardware` returned."""
        data, writable = map(bytearray, hardware)
        self._blocks_memory = profile.low_power_blocks_memory
        self._reset_function = reset_function
        self._raw = bytearray(len(data))  # 0xFF: straight to the hardware
        self._raw[PCI_STD_HEADER_SIZEOF:] = b"\xff" * (len(data) - PCI_STD_HEADER_SIZEOF)
        self._pm = self._msi = self._msix = self._express = 0  # where each is; 0: nowhere
        self._msi_in_use, self._msi_most = False, 0
        self.writable = writable
        self._walk(data, hides_pme=profile.config_hides_pme)
        self._opened = bytes(data)
        self.data = data

    def _walk(self, data: bytearray, *, hides_pme: bool) -> None:
        link = PCI_CAPABILITY_LIST
        for at, size in list(capabilities(data)):
            if size:
                link = at + 1
                self._raw[at : at + size] = bytes(size)
                self._found(data, at, hides_pme=hides_pme)
            else:
                data[link] = data[at + 1]
        for at, _ in extended_capabilities(data):
            self._raw[at : at + 4] = bytes(4)

    def _found(self, data: bytearray, at: int, *, hides_pme: bool) -> None:
        kind = data[at]
        if kind == PCI_CAP_ID_PM:
            self._pm = at
            if hides_pme:
                hidden = PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS
                self._set_writable(at + PCI_PM_CTRL, 2, 0, of=hidden)
        elif kind == PCI_CAP_ID_MSI:
            self._msi = at
            wide = int.from_bytes(data[at + 2 : at + 4], "little") & PCI_MSI_FLAGS_64BIT
            self._set_writable(at + PCI_MSI_FLAGS, 1, 0xFF)
            self._set_writable(at + PCI_MSI_ADDRESS_LO, 4, 0xFFFF_FFFF)
            if wide:
                self._set_writable(at + PCI_MSI_ADDRESS_HI, 4, 0xFFFF_FFFF)
            self._set_writable(at + (PCI_MSI_DATA_64 if wide else PCI_MSI_DATA_32), 2, 0xFFFF)
        elif kind == PCI_CAP_ID_EXP:
            self._express = at
            virtual = PCI_EXP_DEVCTL_BCR_FLR | PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_READRQ
            self._set_writable(at + PCI_EXP_DEVCTL, 2, virtual, of=virtual)
        elif kind == PCI_CAP_ID_MSIX:
            self._msix = at

    def _set_writable(self, offset: int, width: int, bits: int, *, of: int | None = None) -> None:
        """Let `bits` be writable among the bits `of`, by default all."""
        kept = 0
        if of is not None:
            kept = int.from_bytes(self.writable[offset : offset + width], "little") & ~of
        self.writable[offset : offset + width] = (kept | bits).to_bytes(width, "little")

    # -- what a program does -----------------------------------------------------------------------

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes; the caller has checked that they exist."""
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Change the writable bits; the caller has checked that they exist."""
        end, state = offset + len(data), self._power_state()
        for at, byte in enumerate(data, offset):
            mask = self.writable[at]
            self.data[at] = self.data[at] & ~mask | byte & mask
        if offset < PCI_STD_HEADER_SIZEOF:
            return
        if self._pm and offset < self._pm + PCI_PM_CTRL + 2 and self._pm + PCI_PM_CTRL < end:
            self._change_power_state(state)
        if self._msi and offset < self._msi + PCI_MSI_FLAGS + 2 and self._msi + PCI_MSI_FLAGS < end:
            self._hold_msi_flags()
        if self._express and offset < self._express + PCI_EXP_DEVCTL + 2 < end + 2:
            self._control_device()

    def value(self, offset: int, width: int) -> int:
        """The little-endian number of `width` bytes at `offset`."""
        return int.from_bytes(self.data[offset : offset + width], "little")

    # -- what the registers mean -------------------------------------------------------------------

    def _power_state(self) -> int:
        return self.data[self._pm + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK if self._pm else 0

    def _set_power_state(self, state: int) -> None:
        at = self._pm + PCI_PM_CTRL
        self.data[at] = self.data[at] & ~PCI_PM_CTRL_STATE_MASK | state

    def _change_power_state(self, before: int) -> None:
        """vfio_pm_config_write: a state that the function does not have is not entered.

        Back from D3 the function has forgotten, and Linux does not restore what was selected.
        """
        at, state = self._pm + PCI_PM_CTRL, self._power_state()
        needed = _SUPPORT.get(state, 0)
        if self.value(self._pm + PCI_PM_PMC, 2) & needed != needed:
            self._set_power_state(before)
        elif before == _D3HOT and state == 0 and not self.data[at] & PCI_PM_CTRL_NO_SOFT_RESET:
            self.data[at + 1] &= ~self.writable[at + 1]

    def _hold_msi_flags(self) -> None:
        """vfio_msi_config_write: SET_IRQS enables MSI, and says how many there are at most."""
        at = self._msi + PCI_MSI_FLAGS
        flags = self.data[at]
        if not self._msi_in_use:
            flags &= ~PCI_MSI_FLAGS_ENABLE
        if (flags & PCI_MSI_FLAGS_QSIZE) >> 4 > self._msi_most:
            flags = flags & ~PCI_MSI_FLAGS_QSIZE | self._msi_most << 4
        self.data[at] = flags

    def _control_device(self) -> None:
        """vfio_exp_config_write: what asks for a function level reset is never kept."""
        at = self._express + PCI_EXP_DEVCTL + 1
        asked = self.data[at] & PCI_EXP_DEVCTL_BCR_FLR >> 8
        self.data[at] &= ~(PCI_EXP_DEVCTL_BCR_FLR >> 8)
        if asked and self.value(self._express + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR:
            self._reset_function()

    @property
    def decodes_memory(self) -> bool:
        """__vfio_pci_memory_enabled: whether the function answers in its memory BARs."""
        if self._blocks_memory and self._power_state() == _D3HOT:
            return False
        return bool(self.data[PCI_COMMAND] & PCI_COMMAND_MEMORY)

    @property
    def disables_intx(self) -> bool:
        """Whether the program has said in COMMAND that it wants no INTx."""
        return bool(self.value(PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE)

    # -- what else changes it ----------------------------------------------------------------------

    def reopen(self) -> None:
        """The first open: VFIO's copies are the hardware's again."""
        for at, raw in enumerate(self._raw):
            if not raw:
                self.data[at] = self._opened[at]
        self._msi_in_use, self._msi_most = False, 0

    def function_was_reset(self) -> None:
        """Linux has restored what it saved: only a low power state has ended."""
        if self._pm:
            self._set_power_state(0)

    def interrupts_are(self, *, msi: bool, msix: bool, enabled: int) -> None:
        """What SET_IRQS has enabled: so many messages of MSI or of MSI-X."""
        self._msi_in_use = msi
        if msi:
            self._msi_most = (enabled - 1).bit_length()
        if self._msix:
            at = self._msix + PCI_MSIX_FLAGS + 1
            bit = PCI_MSIX_FLAGS_ENABLE >> 8
            self.data[at] = self.data[at] & ~bit | (bit if msix else 0)
