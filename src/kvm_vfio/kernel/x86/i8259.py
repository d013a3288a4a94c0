# SPDX-License-Identifier: GPL-2.0-only
"""The PIC: two i8259s, the second on pin 2 of the first (arch/x86/kvm/i8259.c).

Rule of this file: what happens when a line moves. Nobody reads or writes its ports, and no vCPU
asks for a vector.
"""

from __future__ import annotations

from kvm_vfio.uapi.kvm_vm import KVM_PIC_STATE, kvm_pic_state

_PINS = 8  # of one
_CASCADE = 2
_ELCR_MASKS = (0xF8, 0xDE)  # pins that may be level-triggered
_NEITHER_STATE = 0  # what KVM_CREATE_IRQCHIP begins with


class I8259:
    """struct kvm_kpic_state: fields as kvm_pic_state has them."""

    __slots__ = ("state",)

    def __init__(self, elcr_mask: int) -> None:
        blank = KVM_PIC_STATE.unpack(bytes(KVM_PIC_STATE.size))
        self.state = blank._replace(elcr_mask=elcr_mask)

    def set_irq(self, pin: int, *, level: bool) -> int:
        """pic_set_irq1. 1: raised, or lowered; 0: was there already; -1: masked."""
        state, mask = self.state, 1 << pin
        result = 1
        if state.elcr & mask:  # level-triggered
            if level:
                result = int(not state.irr & mask)
                state = state._replace(irr=state.irr | mask, last_irr=state.last_irr | mask)
            else:
                state = state._replace(irr=state.irr & ~mask, last_irr=state.last_irr & ~mask)
        elif level:
            if not state.last_irr & mask:
                result = int(not state.irr & mask)
                state = state._replace(irr=state.irr | mask)
            state = state._replace(last_irr=state.last_irr | mask)
        else:
            state = state._replace(last_irr=state.last_irr & ~mask)
        self.state = state
        return -1 if state.imr & mask else result

    def pending(self) -> bool:
        """pic_get_irq: whether an interrupt stands out, above those in service."""
        state = self.state
        wanted = self._priority(state.irr & ~state.imr)
        if wanted == _PINS:
            return False
        in_service = state.isr
        if state.special_mask:
            in_service &= ~state.imr
        if state.special_fully_nested_mode and self._is_first:
            in_service &= ~(1 << _CASCADE)
        return wanted < self._priority(in_service)

    @property
    def _is_first(self) -> bool:
        return self.state.elcr_mask == _ELCR_MASKS[0]

    def _priority(self, pins: int) -> int:
        """get_priority: of the highest of these pins; 0 comes first, 8 is none."""
        add = self.state.priority_add & (_PINS - 1)
        order = ((number + add) % _PINS for number in range(_PINS))
        return next((place for place, pin in enumerate(order) if pins >> pin & 1), _PINS)


class Pic:
    """struct kvm_pic. `sources` has who holds a line up, a bit for each."""

    __slots__ = ("chips", "sources")

    def __init__(self) -> None:
        self.chips = tuple(map(I8259, _ELCR_MASKS))
        self.sources = [0] * (_PINS * len(self.chips))

    def set_irq(self, pin: int, source: int, *, level: bool) -> int:
        """kvm_pic_set_irq: pins 8 to 15 are the second's."""
        self.sources[pin] = _with(self.sources[pin], source, there=level)
        result = self.chips[pin // _PINS].set_irq(pin % _PINS, level=self.sources[pin] != 0)
        self.update()
        return result

    def update(self) -> None:
        """pic_update_irq: the second's interrupt pulses the first's pin 2."""
        first, second = self.chips
        if second.pending():
            first.set_irq(_CASCADE, level=True)
            first.set_irq(_CASCADE, level=False)

    def clear_source(self, source: int) -> None:
        """kvm_pic_clear_all."""
        self.sources = [_with(states, source, there=False) for states in self.sources]

    def get(self, chip: int) -> bytes:
        """KVM_GET_IRQCHIP."""
        return KVM_PIC_STATE.pack(self.chips[chip].state)

    def set(self, chip: int, data: bytes) -> None:
        """KVM_SET_IRQCHIP: whatever it says."""
        self.chips[chip].state = kvm_pic_state._make(KVM_PIC_STATE.unpack(data))
        self.update()


def _with(states: int, source: int, *, there: bool) -> int:
    """__kvm_irq_line_state."""
    return states | 1 << source if there else states & ~(1 << source)
