# SPDX-License-Identifier: GPL-2.0-only
"""Random requests to a VM: a table of the words that each field may have.

Rule of this file: a table, and how a line is made from it. The words are those at which an answer
changes, and some beside; `{e}` stands for an eventfd, `{any}` for any handle. Sizes stay small,
so that no kernel runs out of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

Words = Sequence[str]
Fields = Mapping[str, Words]

_USUAL_SLOTS = ("0", "0", "0", "1", "1", "2", "0x10000", "508") * 3
_SLOTS = (*_USUAL_SLOTS, "509", "32763", "32764", "0x20000")
_REGION: Fields = {
    "slot": _SLOTS,
    "flags": ("0", "0", "0", "1", "1", "1", "1", "2", "3", "4", "8"),
    "guest_phys_addr": (
        *("0", "0", "0x1000", "0x2000", "0x4000", "0x100000", "0x46000") * 3,
        *("0", "0x800"),
        *("0xfffffff000", "0x10000000000", "0xfffffffffffff000"),
    ),
    "memory_size": (*("0x1000", "0x1000", "0x2000", "0x46000", "0x46000", "0") * 3, "0x800"),
    "userspace_addr": (
        *("0x7f0000000000",) * 20,
        *("0", "0x7f0000000800"),
        *("0x7ffffffff000", "0x7fffffffe000", "0xfffffffffff000", "kernel"),
    ),
}
_EVENT = ("fd:{e}",) * 9 + ("fd:{any}", "0xffffffff")
_GSIS = ("0", "2", "5", "5", "7", "9", "16", "20", "20", "23", "24", "100")
_CAPS = (
    *("116", "121", "128", "129", "143", "159", "164", "168", "168", "182", "188", "192", "193"),
    *("201", "204", "213", "218", "220", "223", "237", "0", "89", "212", "65535"),
)

# Counters of a PIT in no mode (byte 13), since in any other the first one soon ticks.
_COUNTERS = ("01000000" + "00" * 9 + "ff", "ff" * 72)

# request -> its fields, or "" for a number
CALLS: dict[str, Fields] = {
    "KVM_SET_USER_MEMORY_REGION": _REGION,
    "KVM_SET_USER_MEMORY_REGION2": _REGION,
    "KVM_GET_DIRTY_LOG": {"slot": _SLOTS, "dirty_bitmap": ("int:7", "int:7", "int:7", "bad")},
    "KVM_CLEAR_DIRTY_LOG": {
        "slot": _SLOTS,
        "num_pages": ("1", "2", "64", "70", "0", "4", "128"),
        "first_page": ("0", "0", "0", "64", "1", "128"),
        "dirty_bitmap": ("int:7", "int:7", "bad"),
    },
    "KVM_RESET_DIRTY_RINGS": {"": ("0",)},
    "KVM_SET_NR_MMU_PAGES": {"": ("0", "63", "64", "5000", "0x100000040")},
    "KVM_GET_NR_MMU_PAGES": {"": ("0",)},
    "KVM_SET_TSS_ADDR": {"": ("0", "0xfffbd000", "0xffffd000", "0xffffd001", "0x100000000")},
    "KVM_SET_IDENTITY_MAP_ADDR": {"value": ("0", "0xfffbc000", "1")},
    "KVM_SET_BOOT_CPU_ID": {"": ("0", "1", "4096", "16384", "16385", "0x100000000")},
    "KVM_CREATE_IRQCHIP": {"": ("0", "1")},
    "KVM_GET_IRQCHIP": {"chip_id": ("0", "0", "1", "2", "2", "3")},
    "KVM_SET_IRQCHIP": {
        "chip_id": ("0", "1", "2", "2", "3"),
        "chip": (
            "",
            "0102",
            "00000000000000000000000000ff00f8",
            "00" * 16 + "ffffff00",
            "ff" * 216,
        ),
    },
    "KVM_IRQ_LINE": {"irq": _GSIS, "level": ("0", "1", "1", "2")},
    "KVM_IRQ_LINE_STATUS": {"irq": _GSIS, "level": ("0", "1", "1", "2")},
    "KVM_SIGNAL_MSI": {
        "address_lo": ("0xfee00000", "0xfee01000", "0xfeeff000", "0"),
        "address_hi": ("0", "0", "0x100", "0xff"),
        "data": ("0x41", "0x8041", "0x141", "0x741"),
        "flags": ("0", "0", "1", "2"),
    },
    "KVM_CREATE_PIT": {"": ("0",)},
    "KVM_CREATE_PIT2": {"flags": ("0", "1", "0xffffffff")},
    "KVM_GET_PIT": {"channels": ("",)},
    "KVM_SET_PIT": {"channels": _COUNTERS},
    "KVM_GET_PIT2": {"flags": ("0",)},
    "KVM_SET_PIT2": {"channels": _COUNTERS, "flags": ("0", "1", "7")},
    "KVM_REINJECT_CONTROL": {"pit_reinject": ("0", "1")},
    "KVM_IRQFD": {
        "fd": _EVENT,
        "gsi": _GSIS,
        "flags": ("0", "0", "0", "0", "1", "1", "1", "2", "2", "3", "4"),
        "resamplefd": _EVENT,
    },
    "KVM_IOEVENTFD": {
        "fd": _EVENT,
        "addr": ("0x1000", "0x1000", "0x1004", "0", "0xffffffffffffffff"),
        "len": ("4", "4", "2", "0", "8", "1", "3"),
        "datamatch": ("0", "0", "1", "2"),
        "flags": ("0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "16", "32"),
    },
    "KVM_REGISTER_COALESCED_MMIO": {
        "addr": ("0", "0x1000", "0xffffffffffffffff"),
        "size": ("0x1000", "4", "0"),
        "pio": ("0", "0", "1", "2"),
    },
    "KVM_UNREGISTER_COALESCED_MMIO": {
        "addr": ("0", "0x1000", "4"),
        "size": ("0x1000", "4", "0"),
        "pio": ("0", "0", "1", "2"),
    },
    "KVM_GET_CLOCK": {"flags": ("0",)},
    "KVM_SET_CLOCK": {
        "clock": ("0", "0x10000000000"),
        "flags": ("0", "0", "1", "2", "4", "8", "16"),
    },
    "KVM_SET_TSC_KHZ": {"": ("1000000", "1")},
    "KVM_ENABLE_CAP": {
        "cap": _CAPS,
        "flags": ("0",) * 9 + ("1",),
        "arg0": (
            *(
                "0",
                "0",
                "1",
                "1",
                "2",
                "3",
                "4",
                "7",
                "8",
                "15",
                "16",
                "24",
                "0x7f",
                "0x80",
                "0x400",
            ),
            *("0x1000", "0x1001", "0x10000", "4095", "16384", "0x2000001", "0x100000000"),
        ),
    },
    "KVM_X86_SET_MSR_FILTER": {"flags": ("0", "1", "2")},
    "KVM_SET_PMU_EVENT_FILTER": {
        "action": ("0", "1", "2"),
        "nevents": ("0", "0", "301"),
        "flags": ("0", "0", "1", "2"),
    },
    "KVM_HYPERV_EVENTFD": {
        "conn_id": ("0", "1", "0xffffff", "0x1000000"),
        "fd": _EVENT,
        "flags": ("0", "0", "1", "2"),
    },
    "KVM_MEMORY_ENCRYPT_REG_REGION": {"addr": ("0",), "size": ("0x1000",)},
}

_OFTEN = {
    # how many times more often than the others
    "KVM_SET_USER_MEMORY_REGION": 8,
    "KVM_GET_DIRTY_LOG": 3,
    "KVM_CLEAR_DIRTY_LOG": 3,
    "KVM_GET_IRQCHIP": 3,
    "KVM_IRQ_LINE_STATUS": 4,
    "KVM_IRQFD": 6,
    "KVM_IOEVENTFD": 6,
    "KVM_ENABLE_CAP": 5,
}
_REQUESTS = [request for request in CALLS for _ in range(_OFTEN.get(request, 1))]

_ENTRIES = (
    *("{gsi},1,0,0,0,{pin}", "{gsi},1,0,0,1,{pin}", "{gsi},1,0,0,2,{pin}", "{gsi},1,0,0,3,0"),
    *("{gsi},2,0,0,0xfee00000,0,0x41", "{gsi},2,1,0,0xfee01000,0,0x41", "{gsi},2,2,0,0,0,0"),
    *("{gsi},2,0,0,0xfee00000,0xff,0x41", "{gsi},4,0,0,0,0", "{gsi},0,0,0", "{gsi},1,1,0,0,0"),
)
_WORDS_OF_ENTRY = 12


def line(random: Random, vm: str, handle: Callable[[str], str]) -> str:
    """One request to the VM with handle `vm`; `handle` names one of some kinds."""
    if random.randrange(10) == 0:
        return _routing(random, vm)
    request = random.choice(_REQUESTS)
    if "" not in CALLS[request] and random.randrange(40) == 0:
        return f"kvm {vm} {request} {random.choice(('null', 'bad', 'unmapped', 'max'))}"
    words = [f"{name}={random.choice(pool)}" for name, pool in CALLS[request].items()]
    text = " ".join(word.removeprefix("=") for word in words)
    while "{" in text:
        kind = "e" if "{e}" in text else "any"
        text = text.replace(f"{{{kind}}}", handle("e" if kind == "e" else "kvdcgfp"), 1)
    return f"kvm {vm} {request} {text}"


def _routing(random: Random, vm: str) -> str:
    entries = []
    for _ in range(random.randrange(4)):
        entry = random.choice(_ENTRIES).format(
            gsi=random.choice((*_GSIS, "4095", "4096")),
            pin=random.choice(("0", "4", "7", "20", "24")),
        )
        entries.append(entry + ",0" * (_WORDS_OF_ENTRY - entry.count(",") - 1))
    count = len(entries) if random.randrange(12) else random.choice(("4097", "0xffffffff"))
    flags = "1" if random.randrange(12) == 0 else "0"
    rest = f" u32:{','.join(entries)}" if entries else ""
    return f"kvm {vm} KVM_SET_GSI_ROUTING nr={count} flags={flags}{rest}"
