# SPDX-License-Identifier: GPL-2.0-only
"""Records as people read them: a call as strace would show it, a decision as a sentence.

Rule of this file: a file is named by what it is, a number by its name in the header; what is not
known is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct, structs

from kvm_vfio.trace.schema import CONTINUED, Call, Close, Decision, Header, Object, Record, Task

Fields = Mapping[str, Any]

_SECOND = 1_000_000_000
_MOST_TASKS = 10_000
_LARGE = 4096  # a number from here on is an address or a mask: in hexadecimal
_TYPES = {
    1: "VFIO_TYPE1_IOMMU",
    2: "VFIO_SPAPR_TCE_IOMMU",
    3: "VFIO_TYPE1v2_IOMMU",
    4: "VFIO_DMA_CC_IOMMU",
    5: "VFIO_EEH",
    6: "VFIO_TYPE1_NESTING_IOMMU",
    7: "VFIO_SPAPR_TCE_v2_IOMMU",
    8: "VFIO_NOIOMMU_IOMMU",
    9: "VFIO_UNMAP_ALL",
    10: "VFIO_UPDATE_VADDR",
}
_ATTRIBUTES = {(1, 1): "GROUP_ADD", (1, 2): "GROUP_DEL", (1, 3): "GROUP_SET_SPAPR_TCE"}
_REGION_SHIFT = 40
_REGIONS = {6: "ROM", 7: "config space", 8: "VGA"}
_IRQS = {0: "INTx", 1: "MSI", 2: "MSI-X", 3: "errors", 4: "requests"}
_IRQ_FLAGS = {8: "mask", 16: "unmask", 32: "trigger", 1: "no data", 2: "bools", 4: "eventfds"}


def fields(value: object) -> Fields:
    """The fields of an argument, whether it was read from a file or has just been recorded."""
    if isinstance(value, Struct):
        return structs.asdict(value)
    return value if isinstance(value, dict) else {}


def attribute(call: Call) -> str:
    """The name of the attribute that a KVM_*_DEVICE_ATTR is about, "" where there is none."""
    args = fields(call.args)
    if not call.call.endswith("_DEVICE_ATTR") or "attr" not in args:
        return ""
    pair = args["group"], args["attr"]
    return _ATTRIBUTES.get(pair, f"attribute ({pair[0]}, {pair[1]})")


def call_text(call: Call) -> str:
    """`VFIO_GROUP_SET_CONTAINER(group 26, container 1) = 0`."""
    return f"{request_text(call)} = {answer_text(call)}"


def request_text(call: Call) -> str:
    """The call without its answer."""
    words = [call.on or (f"fd {call.fd}" if call.fd is not None else ""), *_arguments(call)]
    return f"{call.call}({', '.join(filter(None, words))})"


def answer_text(call: Call) -> str:
    """The answer: what an fd is of, why there is none."""
    if call.answer == CONTINUED:
        return "the computer's own answer"
    if isinstance(call.answer, str):
        fault = f"injected: {call.fault}" if call.fault else call.why
        return f"-{call.answer} ({fault})" if fault else f"-{call.answer}"
    if call.made:
        made = ", ".join(f"fd {each.fd}: {each.what}" for each in call.made)
        return made if call.answer == call.made[0].fd else f"{call.answer}, {made}"
    return number(call.answer)


def printable(text: str) -> str:
    """What a program passed, on one line and without what a terminal would obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def number(value: object) -> str:
    """A number as a person reads it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:#x}" if value >= _LARGE else str(value)
    return str(value)


def object_text(found: Object) -> str:
    """A file that an argument named."""
    return f"{found.what} (fd {found.fd})" if found.what else f"fd {found.fd}, which is not open"


def _arguments(call: Call) -> Iterable[str]:
    args = fields(call.args)
    special = _SPECIAL.get(call.call)
    if "path" in args:
        yield f'"{printable(args["path"])}"'
    elif special is not None and (said := special(call, args)) is not None:
        yield from said
    else:
        yield from _plain(args)
        yield from map(object_text, call.looked_up)


def _plain(args: Fields) -> Iterable[str]:
    if args.keys() == {"arg"}:
        if args["arg"]:
            yield number(args["arg"])
    elif args.keys() == {"text"}:
        yield printable(args["text"])
    elif args.keys() == {"words"}:
        yield from map(number, args["words"])
    else:
        yield from (f"{name} {number(value)}" for name, value in args.items() if _told(name, value))


def _told(name: str, value: object) -> bool:
    """Not a structure's size, and no padding that has nothing in it."""
    if name.startswith(("pad", "reserved")):
        return bool(str(value).strip("0"))
    return name != "argsz"


_Special = Callable[[Call, Fields], "list[str] | None"]


def _of_attribute(call: Call, args: Fields) -> list[str] | None:
    if "attr" not in args:
        return None
    return [attribute(call), *map(object_text, call.looked_up)]


def _of_type(_call: Call, args: Fields) -> list[str] | None:
    return [_TYPES.get(args["arg"], number(args["arg"]))] if "arg" in args else None


def _of_container(call: Call, _args: Fields) -> list[str] | None:
    return [object_text(each) for each in call.looked_up] or None


def _of_create(_call: Call, args: Fields) -> list[str] | None:
    if "type" not in args:
        return None
    kind = "KVM_DEV_TYPE_VFIO" if args["type"] == 4 else f"type {args['type']}"  # noqa: PLR2004
    return [kind, "only tested"] if args["flags"] & 1 else [kind]


def _of_map(_call: Call, args: Fields) -> list[str] | None:
    if "vaddr" not in args:
        return None
    access = [name for bit, name in ((1, "read"), (2, "write")) if args["flags"] & bit]
    place = f"iova {args['iova']:#x} + {args['size']:#x}"
    return [place, f"memory at {args['vaddr']:#x}", " and ".join(access) or "no access"]


def _of_unmap(_call: Call, args: Fields) -> list[str] | None:
    if "iova" not in args:
        return None
    if args["flags"] & 2:
        return ["everything"]
    return [f"iova {args['iova']:#x} + {args['size']:#x}"]


def _of_region(_call: Call, args: Fields) -> list[str] | None:
    return [_REGIONS.get(args["index"], f"BAR {args['index']}")] if "index" in args else None


def _of_access(_call: Call, args: Fields) -> list[str] | None:
    """A place in a device's file: its regions are 1 TiB apart, 16 of them from some base."""
    if "offset" not in args:
        return None
    index, at = args["offset"] >> _REGION_SHIFT & 0xF, args["offset"] & (1 << _REGION_SHIFT) - 1
    return [f"{_REGIONS.get(index, f'BAR {index}')} + {at:#x}", f"{args['size']} bytes"]


def _of_irq(_call: Call, args: Fields) -> list[str] | None:
    return [_irq(args["index"])] if "index" in args else None


def _of_set_irqs(call: Call, args: Fields) -> list[str] | None:
    if "index" not in args:
        return None
    actions = [name for bit, name in _IRQ_FLAGS.items() if args["flags"] & bit]
    last = args["start"] + args["count"] - 1
    vectors = f"{args['start']} to {last}" if args["count"] > 1 else str(args["start"])
    which = f"{_irq(args['index'])} {vectors}" if args["count"] else f"all {_irq(args['index'])}"
    return [which, *actions, *map(object_text, call.looked_up)]


def _irq(index: int) -> str:
    return _IRQS.get(index, f"IRQ {index}")


def _no_argument(_call: Call, _args: Fields) -> list[str] | None:
    return []


def _nothing(_call: Call, args: Fields) -> list[str] | None:
    return [] if "arg" not in args else None


_SPECIAL: dict[str, _Special] = {
    "KVM_SET_DEVICE_ATTR": _of_attribute,
    "KVM_HAS_DEVICE_ATTR": _of_attribute,
    "KVM_GET_DEVICE_ATTR": _of_attribute,
    "KVM_CREATE_DEVICE": _of_create,
    "VFIO_SET_IOMMU": _of_type,
    "VFIO_CHECK_EXTENSION": _of_type,
    "VFIO_GROUP_SET_CONTAINER": _of_container,
    "VFIO_GROUP_GET_STATUS": _nothing,
    "VFIO_IOMMU_GET_INFO": _nothing,
    "VFIO_DEVICE_GET_INFO": _nothing,
    "VFIO_IOMMU_MAP_DMA": _of_map,
    "VFIO_IOMMU_UNMAP_DMA": _of_unmap,
    "VFIO_DEVICE_GET_REGION_INFO": _of_region,
    **dict.fromkeys(("pread64", "pwrite64", "mmap"), _of_access),
    "VFIO_DEVICE_GET_IRQ_INFO": _of_irq,
    "VFIO_DEVICE_SET_IRQS": _of_set_irqs,
    "VFIO_DEVICE_RESET": _no_argument,
    "VFIO_GROUP_UNSET_CONTAINER": _no_argument,
    "VFIO_GET_API_VERSION": _no_argument,
}


# -- a trace ---------------------------------------------------------------------------------------


def lines(records: Iterable[Record]) -> Iterator[str]:
    """A trace, line by line."""
    tasks: dict[int, str] = {}
    for record in records:
        if isinstance(record, Header):
            program = f": {' '.join(record.program)}" if record.program else ""
            yield f"# Linux {record.linux} on {record.machine.name}, {record.kvm} KVM{program}"
        elif isinstance(record, Task):
            if len(tasks) >= _MOST_TASKS:
                tasks.clear()
            tasks[record.tid] = f"{printable(record.comm)}[{record.pid}]"
        elif isinstance(record, Call):
            who = tasks.get(record.tid, "?")
            yield f"{_begin(record)} {who} {call_text(record)}  <{record.took / 1000:.1f} us>"
        elif isinstance(record, Close):
            yield f"{_begin(record)} {close_text(record)}"
        elif isinstance(record, Decision):
            yield f"{'':18} -> {decision_text(record)}"
        elif record.status is None:
            yield f"# {record.at / _SECOND:.6f}: the end"
        else:
            yield f"# {record.at / _SECOND:.6f}: the program ended with status {record.status}"


def _begin(record: Call | Close) -> str:
    return f"{record.at / _SECOND:11.6f} {f'#{record.n}':>6}"


# -- closes and decisions --------------------------------------------------------------------------


def close_text(close: Close) -> str:
    """The last close of a file."""
    how = {
        "close": "is closed",
        "exit": f"is closed by an exit: {close.by}",
        "kill": "is closed by the end of a process that was killed",
    }
    return f"{close.what} {how[close.cause]}"


def decision_text(decision: Decision) -> str:
    """What the kernel decided, as a sentence; a kind that is not known, by its name."""
    said = _DECISIONS.get(decision.did)
    return said(decision) if said is not None else decision.did


def _noncoherent(decision: Decision) -> str:
    if not decision.on:
        still = f", still registered {decision.count} x" if decision.count else ""
        return f"vm {decision.vm}: noncoherent DMA off{still}"
    because = "; ".join(f"{reason.member}: {reason.because}" for reason in decision.reasons)
    return f"vm {decision.vm}: noncoherent DMA on ({because})"


def _coherency(decision: Decision) -> str:
    answer = "yes" if decision.coherent else f"no: {decision.because}"
    return f"is the DMA of {decision.member} coherent? {answer}"


def _iommu(decision: Decision) -> str:
    said = [
        f"{domain.what} ({', '.join(f'group {n}' for n in domain.groups)}), "
        f"{'coherent' if domain.coherent else 'noncoherent'}"
        for domain in decision.domains
    ]
    return f"{decision.container} has an IOMMU: {'; '.join(said)}"


def _stale(decision: Decision) -> str:
    now = "noncoherent" if decision.on else "coherent"
    other = "coherent" if decision.on else "noncoherent"
    return f"{decision.device} still says {now}, and would find {other} if it asked now"


def _members(decision: Decision) -> str:
    count = decision.count
    return f"{count} member{'s' * (count != 1)}" if count else "no member"


_DECISIONS: dict[str, Callable[[Decision], str]] = {
    "vm made": lambda d: f"vm {d.vm} is made",
    "vm destroyed": lambda d: f"vm {d.vm} is destroyed",
    "device made": lambda d: f"{d.device} of vm {d.vm} is made",
    "device released": lambda d: f"{d.device} of vm {d.vm} is released, with {_members(d)}",
    "device destroyed": lambda d: f"{d.device} ends with vm {d.vm}, with {_members(d)}",
    "taken": lambda d: f"{d.device} of vm {d.vm} holds {d.member}",
    "dropped": lambda d: f"{d.device} of vm {d.vm} lets go of {d.member}",
    "leaked": lambda d: f"{d.device} is gone and can never let go of {d.member}",
    "coherency": _coherency,
    "noncoherent": _noncoherent,
    "stale": _stale,
    "fresh": lambda d: f"what {d.device} says is true again",
    "attached": lambda d: f"group {d.group} is in {d.container}",
    "detached": lambda d: f"group {d.group} leaves {d.container}",
    "iommu set": _iommu,
    "machine changed": lambda d: d.because,
    "interrupt": lambda d: f"an irqfd of VM {d.vm} raises {d.because}",
}
