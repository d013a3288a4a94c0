# SPDX-License-Identifier: GPL-2.0-only
"""What a device model is: registers in BARs, and what happens when they are accessed.

Rule of this file: no clock. A device acts while it is accessed and at no other time, so whatever a
write starts has ended when the write returns, and the same accesses give the same answers.

A model is a subclass of `DeviceModel`. `function` says what it is on the bus; each `Register` is a
class attribute that is a plain int on the device; a method decorated with a register's `written`
runs after each write of it. `self.dma` reaches memory by iova, `self.irq` interrupts.

An access reaches a register when it lies within it. What reaches none reads as `unclaimed` and
writes nothing. Accesses are aligned, of 1, 2, 4 or 8 bytes: VFIO cuts longer ones up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar, overload

from kvm_vfio.kernel.file import Mapping
from kvm_vfio.kernel.pci.storage import Storage
from kvm_vfio.machine.model import Behaviour, PciDevice

_WIDTHS = (1, 2, 4, 8)
Key = tuple[int, int, int]
"""An access: BAR, offset in it, width in bytes."""


# -- what a model finds around it ------------------------------------------------------------------


class Dma(Protocol):
    """Memory, by iova. Every access may raise `DmaFault`.

    With `no_snoop` a transaction has the No-Snoop attribute: the CPU caches need not be asked.
    """

    def read(self, iova: int, size: int, *, no_snoop: bool = False) -> bytes:
        """`size` bytes from `iova` on."""

    def write(self, iova: int, data: bytes, *, no_snoop: bool = False) -> None:
        """Put `data` at `iova`; with a fault, what lies before it is written."""


class Interrupts(Protocol):
    """The kind that the driver has enabled: MSI-X, MSI, or the line of INTx."""

    def trigger(self, vector: int = 0) -> None:
        """Send message `vector`; without messages, assert the line until `clear`."""

    def clear(self) -> None:
        """Let the line go."""


class Bus(Protocol):
    """All that a function reaches."""

    @property
    def dma(self) -> Dma: ...
    @property
    def irq(self) -> Interrupts: ...

    def memory(self, bar: int) -> Mapping:
        """The memory of a BAR, or of those areas of it that the model says are `memory`."""

    def storage(self, path: str) -> Storage:
        """The file at `path`, opened. InputError."""


# -- registers -------------------------------------------------------------------------------------

Method = TypeVar("Method", bound=Callable[..., Any])


class Register:
    """`width` bytes at `offset` of BAR `bar`, little-endian.

    `initial` is its value after a reset; `writable` are the bits that a write changes. With `reads`
    off it reads as if it were not there. With `parts` off it is reached at its own offset only, and
    a narrower write makes the rest 0.
    """

    def __init__(
        self,
        offset: int,
        width: int = 4,
        *,
        bar: int = 0,
        initial: int = 0,
        writable: int = 0,
        reads: bool = True,
        parts: bool = True,
    ) -> None:
        self.offset = offset
        self.width = width
        self.bar = bar
        self.initial = initial
        self.writable = writable
        self.reads = reads
        self.parts = parts
        self.name = ""
        self.on_write: Callable[[Any, int], object] | None = None
        self.on_read: Callable[[Any], int] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> Self: ...
    @overload
    def __get__(self, device: DeviceModel, owner: type) -> int: ...
    def __get__(self, device: DeviceModel | None, owner: type) -> Self | int:
        return self if device is None else device.values[self.name]

    def __set__(self, device: DeviceModel, value: int) -> None:
        device.values[self.name] = value & (1 << 8 * self.width) - 1

    def written(self, method: Method) -> Method:
        """Decorate `method(self, value)`: it runs after each write.

        `value` is what was written, 0 where a narrower write did not reach; the register itself has
        taken the writable bits of it already.
        """
        self.on_write = method
        return method

    def read(self, method: Method) -> Method:
        """Decorate `method(self)`: what it returns is what the register reads as."""
        self.on_read = method
        return method

    def keys(self) -> Iterator[tuple[Key, int]]:
        """Every access that lies within, and how many bits above the register's lowest."""
        for width in _WIDTHS[: _WIDTHS.index(self.width) + 1]:
            last = self.width - width if self.parts else 0
            for at in range(0, last + 1, width):
                yield (self.bar, self.offset + at, width), 8 * at

    def load(self, device: DeviceModel, shift: int, width: int) -> int | None:
        """What an access reads; None: as if nothing were there."""
        if not self.reads:
            return None
        value = self.on_read(device) if self.on_read else device.values[self.name]
        return value >> shift & (1 << 8 * width) - 1

    def store(self, device: DeviceModel, shift: int, width: int, value: int) -> None:
        """An access writes `value`."""
        reached = self.writable
        if self.parts:
            reached &= (1 << 8 * width) - 1 << shift
        value <<= shift
        device.values[self.name] = device.values[self.name] & ~reached | value & reached
        if self.on_write:
            self.on_write(device, value)


class Registers:
    """`count` registers of one kind, `stride` bytes apart, each reached as a whole.

    They hold nothing themselves: `written` decorates `method(self, index, value)`, `read` decorates
    `method(self, index)`.
    """

    def __init__(
        self, offset: int, count: int, *, width: int = 4, stride: int = 4, bar: int = 0
    ) -> None:
        self.offset = offset
        self.count = count
        self.width = width
        self.stride = stride
        self.bar = bar
        self.on_write: Callable[[Any, int, int], object] | None = None
        self.on_read: Callable[[Any, int], int] | None = None

    def written(self, method: Method) -> Method:
        """Decorate `method(self, index, value)`: it runs at each write."""
        self.on_write = method
        return method

    def read(self, method: Method) -> Method:
        """Decorate `method(self, index)`: what it returns is what the register reads as."""
        self.on_read = method
        return method

    def keys(self) -> Iterator[tuple[Key, int]]:
        """Every access, and the index of its register."""
        for index in range(self.count):
            yield (self.bar, self.offset + index * self.stride, self.width), index

    def load(self, device: DeviceModel, index: int, width: int) -> int | None:
        """What an access reads; None: as if nothing were there."""
        return None if self.on_read is None else self.on_read(device, index)

    def store(self, device: DeviceModel, index: int, width: int, value: int) -> None:
        """An access writes `value`."""
        if self.on_write:
            self.on_write(device, index, value)


@dataclass(frozen=True, slots=True)
class Area:
    """Plain memory in a BAR that has registers elsewhere: whole pages, so that it can be mapped."""

    bar: int
    offset: int
    size: int


# -- the device ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoOptions:
    """What a model without options has."""


class DeviceModel:
    """A PCI function that behaves.

    `function` is what it is, at no address. `memory` are the areas of its BARs that are memory; a
    BAR without any register is memory as a whole. `unclaimed` is what reads where no register is: 0
    or -1, all ones. `options_type` is a dataclass of int, str and bool: what a machine file can say
    under `options`; a ValueError of its __post_init__ is a fault there.
    """

    function: ClassVar[PciDevice]
    memory: ClassVar[tuple[Area, ...]] = ()
    unclaimed: ClassVar[int] = 0
    options_type: ClassVar[type] = NoOptions
    options: Any
    _registers: ClassVar[tuple[Register, ...]]
    _accesses: ClassVar[dict[Key, tuple[Register | Registers, int]]]

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401  # as type's own
        super().__init_subclass__(**options)
        parts = {
            name: value
            for each in reversed(cls.__mro__)
            for name, value in vars(each).items()
            if isinstance(value, Register | Registers)
        }
        cls._registers = tuple(each for each in parts.values() if isinstance(each, Register))
        cls._accesses = {}
        for part in parts.values():
            for key, place in part.keys():  # noqa: SIM118  # no dict
                if key in cls._accesses:
                    raise TypeError(f"{cls.__name__}: two registers at {key[1]:#x} of BAR {key[0]}")
                cls._accesses[key] = part, place

    @classmethod
    def describe(cls, options: Any) -> PciDevice:  # noqa: ANN401  # an `options_type`
        """What the function is with these options."""
        return cls.function

    @classmethod
    def at(cls, address: str, *, trap: bool = True, **options: int | str) -> PciDevice:
        """Such a device at `address` ("0000:00:10.0"), for a machine. TypeError, ValueError."""
        chosen = cls.options_type(**options)
        behaviour = Behaviour(cls.__name__.lower(), cls, chosen, trap)
        return replace(cls.describe(chosen), address=address, behaviour=behaviour)

    @classmethod
    def accesses(cls) -> Collection[Key]:
        """Every access that reaches a register."""
        return cls._accesses.keys()

    @classmethod
    def register_bars(cls) -> frozenset[int]:
        """The BARs that have registers."""
        return frozenset(bar for bar, _, _ in cls._accesses)

    def __init__(self, bus: Bus, options: Any = None) -> None:  # noqa: ANN401  # an `options_type`
        """Power on. Do nothing on the bus yet."""
        self.bus = bus
        self.dma = bus.dma
        self.irq = bus.irq
        self.options = self.options_type() if options is None else options
        self.values: dict[str, int] = {each.name: each.initial for each in self._registers}

    def reset(self) -> None:
        """A reset of the function: FLR, or of its bus. Registers go back to how they began."""
        for each in self._registers:
            self.values[each.name] = each.initial
        self.irq.clear()

    def read(self, bar: int, offset: int, width: int) -> int:
        """A read of `width` bytes."""
        value = None
        access = self._accesses.get((bar, offset, width))
        if access is not None:
            part, place = access
            value = part.load(self, place, width)
        return self.unclaimed & (1 << 8 * width) - 1 if value is None else value

    def write(self, bar: int, offset: int, width: int, value: int) -> None:
        """A write of `width` bytes."""
        access = self._accesses.get((bar, offset, width))
        if access is not None:
            part, place = access
            part.store(self, place, width, value)
