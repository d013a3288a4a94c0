# SPDX-License-Identifier: GPL-2.0-only
"""The PIT: three counters (arch/x86/kvm/i8254.c).

Rule of this file: it keeps what is set. No guest reads a counter, and no tick is delivered.
"""

from __future__ import annotations

from collections.abc import Callable

from kvm_vfio.uapi.kvm_vm import (
    KVM_PIT_CHANNEL_STATE,
    KVM_PIT_STATE2,
    kvm_pit_channel_state,
    kvm_pit_state2,
)

_CHANNELS = 3
_FULL = 0x10000  # what a count of 0 means
_SPEAKER = 2
_NO_MODE = 0xFF
_SIZE = KVM_PIT_CHANNEL_STATE.size


class Pit:
    """struct kvm_pit. `now` is the host's clock, in nanoseconds."""

    __slots__ = ("channels", "flags", "now", "reinject")

    def __init__(self, now: Callable[[], int]) -> None:
        """kvm_create_pit: counters at full, in no mode; the speaker's gate is closed."""
        self.now = now
        self.flags = 0
        self.reinject = True
        blank = KVM_PIT_CHANNEL_STATE.unpack(bytes(_SIZE))._replace(mode=_NO_MODE)
        gates = (blank._replace(gate=int(number != _SPEAKER)) for number in range(_CHANNELS))
        self.channels = [self._loaded(number, each) for number, each in enumerate(gates)]

    def _loaded(self, number: int, channel: kvm_pit_channel_state) -> kvm_pit_channel_state:
        """pit_load_count: only counter 0 has a timer, which does not note when it was loaded."""
        loaded = channel._replace(count=channel.count or _FULL)
        return loaded._replace(count_load_time=self.now()) if number else loaded

    def get(self) -> bytes:
        """The counters (KVM_GET_PIT)."""
        return b"".join(map(KVM_PIT_CHANNEL_STATE.pack, self.channels))

    def get2(self) -> bytes:
        """The counters and the flags (KVM_GET_PIT2)."""
        return KVM_PIT_STATE2.pack(kvm_pit_state2(self.get(), self.flags, b""))

    def set(self, counters: bytes) -> None:
        """Load the counters, whatever they say (KVM_SET_PIT)."""
        given = map(KVM_PIT_CHANNEL_STATE.unpack, _pieces(counters))
        self.channels = [self._loaded(number, each) for number, each in enumerate(given)]

    def set2(self, data: bytes) -> None:
        """The same, and the flags (KVM_SET_PIT2)."""
        state = KVM_PIT_STATE2.unpack(data)
        self.flags = state.flags
        self.set(state.channels)


def _pieces(data: bytes) -> list[bytes]:
    return [data[at : at + _SIZE] for at in range(0, len(data), _SIZE)]
