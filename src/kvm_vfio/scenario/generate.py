# SPDX-License-Identifier: GPL-2.0-only
"""Random scripts: mostly what a VMM could do, in any order, and now and then what none should.

Rule of this file: a script follows from its seed and from what it hears. It knows what is open, so
that most operations reach the code they are about; the rest meets wrong handles on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.scenario import generate_vm

_START = ("kvm_open k0", "vm_create v0 k0", "dev_create d0 v0", "container_open c0")
# Groups with an answer of their own stay open: the kernel would give their memory to other files.
_STAYING = ("g8", "g9")
_FORCED = (
    *("group_open g8 @00:10.0", "force_coh g8 0", "group_open g9 @00:11.0", "force_coh g9 1"),
)
_OPENERS = frozenset(
    (
        *("kvm_open", "open", "mkfile", "eventfd", "memfd", "socket", "dup"),
        *("vm_create", "vcpu_create", "container_open", "group_open", "get_device_fd", "kvm_fd"),
    )
)
_POOLS = {
    # kind of handle: how many names it has
    "k": 2,
    "v": 3,
    "p": 4,
    "d": 4,
    "c": 3,
    "g": 8,
    "x": 4,
    "f": 3,
    "e": 4,  # eventfds
    "u": 2,  # statistics
}
_DEVICES = ("00:10.0", "00:11.0", "00:12.0", "00:13.0", "00:14.0", "00:14.1")
_USUAL_DEVICES = _DEVICES[:5]
_ATTR_GROUPS = ("GROUP", "GROUP", "GROUP", "0", "2", "0xffffffff")
_ATTRS = ("ADD", "DEL", "ADD", "DEL", "SPAPR", "0", "4", "0x100000001", "0xffffffffffffffff")
_FLAGS = ("0", "0", "0", "1", "0xffffffff")
_IOVAS = (
    *("0", "0x1000", "0x2000", "0x3000", "0x10000", "0x100000", "0x200000"),
    *("0x800", "0x1001", "0xfee00000", "0xfeeff000", "0xfef00000", "0xfedff000"),
    *("0x7ffffff000", "0x8000000000", "0xfffffffffffff000", "0xffffffffffffe000"),
)
_SIZES = ("0x1000", "0x1000", "0x2000", "0x10000", "0x200000", "0", "0x800", "0x1001", "0x1800")
_BAD_ADDRESSES = (
    *("null", "bad", "noncanon", "kernel", "max", "unmapped", "straddle", "closed"),
    *("int:-1", "int:0", "int:3", "int:0x7fffffff", "int:-2147483648"),
)
_IOCTLS = (
    *(f"{number:#x}" for number in range(0x3B63, 0x3B86)),  # VFIO's
    *("0xae00", "0xae03", "0x5401", "0x0", "0xffffffff"),
    *("0x2", "0x5421", "0x5450", "0x5452", "0x5460", "0x40049409", "0xc0045877", "0xc020660b"),
    *("0x4018aee1", "0x4018aee2", "0x4018aee3", "0xc00caee0"),  # KVM's device control
)
_IOCTLS_OF = {
    kind: tuple(f"{int(row.request):#x}" for table in file.tables()[1:] for row in table)
    for kind, file in (("c", ContainerFile), ("g", GroupFile), ("x", VfioDeviceFile))
}
_ALL = " 2"
_UNMAP_FLAGS = ("", "", "", _ALL, " 1", " 4")
_ARGUMENTS = (
    *("null", "bad", "unmapped", "straddle", "max", "0", "1"),
    *("int:0", "int:7", "int:8", "int:12", "int:16", "int:20", "int:24", "int:32", "int:200"),
)
_REGULAR_FILE = "/tmp/file"  # noqa: S108 - in a guest, or on no disk at all
_PATHS = (
    *("/dev/null", "/dev/zero", "/dev/kvm", "/dev/kvm", "/dev/vfio/vfio", "/dev/vfio/vfio"),
    *("/dev/vfio/1", "/dev/vfio/3", "/dev/vfio/5", "/dev/vfio/0", "/dev/vfio/6", "/dev/vfio/99"),
    *("/dev/vfio", "/dev/iommu", "/dev/vfio/01", "/sys", "/"),
    *(_REGULAR_FILE, _REGULAR_FILE, f"{_REGULAR_FILE}-that-is-not-there"),
)
_KIND_OF_NODE = {"/dev/kvm": "k", "/dev/vfio/vfio": "c"}
# What a vCPU is asked: places in its states where something is decided, and values that decide.
_PLACES = {
    "regs": (0, 56, 64, 128, 136, 137),
    "sregs": (
        *(
            8,
            12,
            14,
            15,
            16,
            17,
            18,
            19,
            20,
            21,
            22,
            38,
            46,
            110,
            118,
            134,
            136,
            142,
            144,
            158,
            182,
        ),
        *(192, 200, 224, 227, 232, 240, 245, 248, 249, 250, 251, 256, 264, 265, 272, 273, 276, 280),
    ),
    "sregs2": (14, 19, 224, 227, 240, 248, 249, 256, 264, 265, 273, 280, 288, 319),
    "fpu": (0, 127, 128, 130, 132, 134, 136, 144, 152, 407, 408),
    "xsave": (0, 4, 16, 24, 26, 27, 32, 160, 415, 512, 513, 514, 519, 520, 530, 576, 800, 2688),
    "xcrs": (0, 4, 8, 16, 17, 24),
    "debugregs": (0, 32, 36, 40, 44, 48, 56),
    "events": (0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 16, 20, 21, 24, 25, 26, 27, 28, 55, 56),
    "mp": (0, 1),
}
_BYTES = ("00", "01", "01", "02", "03", "04", "07", "08", "09", "0b", "10", "20", "80", "ff", "6b")
_MSRS = (
    *("0x1b", "0x48", "0x8b", "0x9e", "0x10a", "0x140", "0xce", "0x174", "0x175", "0x17a", "0x17b"),
    *("0x179", "0x1a0", "0x200", "0x201", "0x20e", "0x250", "0x268", "0x277", "0x2ff", "0x345"),
    *("0x400", "0x401", "0x47c", "0x480", "0x6e0", "0x11", "0x12", "0x4b564d00", "0x4b564d01"),
    *("0x4b564d02", "0x4b564d03", "0x4b564d05", "0x4b564d06", "0x4b564d07", "0x40000002"),
    *("0x40000073", "0x40000100", "0xc0000080", "0xc0000081", "0xc0000082", "0xc0000100"),
    *("0xc0000101", "0xc0000102", "0xc0000103", "0xc0000104", "0xc0010015", "0xc001001f"),
    *("0xc0010114", "0xc0010117", "0xc0011029", "0x12345"),
)
_MSR_VALUES = (
    *("0", "1", "2", "8", "0x10", "0x100", "0xd01", "0x900", "0xfee00900", "0xfee00c00", "0x1000"),
    *("0x0606060606060606", "0x7040600070406", "0xffff800000000000", "0x800000000000", "-1"),
    *("0x80000000", "0x100000000", "0x1006", "0x5000", "0xc06"),
)
_LISTS = ("supported", "emulated", "hyperv", "msrs", "features")
_VCPU_REQUESTS = ("0xae9a", "0xaeb7", "0xaead", "0xae60", "0x4008ae93", "0x4004ae8b")
_VCPU_NUMBERS = ("0", "0", "1", "2", "3", "7", "1023", "4095", "4096", "16383", "16384", "-1")
_MODES = ("", "", "", " ro", " wo", " path")
_EXTENSIONS = ("CC", "CC", "type1", "type1v2", "nesting", "noiommu", *map(str, range(12)))


class Generator:
    """Writes one script, operation by operation. With `force`, some answers are the referee's."""

    def __init__(self, seed: int, *, force: bool) -> None:
        self._random = Random(seed)  # noqa: S311 - chance that can be had again
        self._open: set[str] = set()
        self._with_iommu: set[str] = set()  # handles under which a container got one
        self._opened_devices: set[str] = set()  # unbinding one that is open waits for ever
        self._ahead = list(_START)  # lines that come next: scripts begin where a VMM does
        if force and self._rarely(3):
            self._ahead += _FORCED
        self._of_vms = self._rarely(4)  # mostly what VMs are asked for
        self._missing = ""  # the kind of handle that the last line would have needed

    def next(self) -> str:
        """Another line."""
        line = self._ahead.pop(0) if self._ahead else ""
        while not line:
            self._missing = ""
            maker = self._random.choices(_MAKERS, _WEIGHTS)[0]
            if self._of_vms and not self._rarely(4):
                maker = self._random.choices(_VM_MAKERS, _VM_WEIGHTS)[0]
            line = maker(self)
            if self._missing:
                line = _OPENER_OF[self._missing](self)
        return line

    def hear(self, answer: str) -> None:
        """What came of the last line: `N LINE => RESULT ...`."""
        operation, _, result = answer.partition(" => ")
        verb, *words = operation.split(" ")[1:]
        if verb == "reset":
            self._open.clear()
            self._opened_devices.clear()
        elif verb == "close":
            self._open.discard(words[0])
        elif verb == "set_iommu" and result.startswith("0 "):
            self._with_iommu.add(words[0])
        elif result.startswith(("fd ", "0 fd=new")):
            self._open.add(words[0])
        elif verb in _OPENERS:
            self._open.discard(words[0])

    # -- handles -----------------------------------------------------------------------------------

    def _new(self, kind: str) -> str:
        return f"{kind}{self._random.randrange(_POOLS[kind])}"

    def _one(self, kinds: str) -> str:
        """A handle of one of these kinds that should be open; sometimes any other."""
        wanted = sorted(h for h in self._open if h[0] in kinds)
        if wanted and not self._rarely(12):
            return self._random.choice(wanted)
        if not wanted and not self._rarely(12):
            self._missing = self._random.choice(kinds)
        if self._open and not self._rarely(5):
            return self._random.choice(sorted(self._open))
        kind = self._random.choice(sorted(_POOLS))
        return f"{kind}{self._random.randrange(_POOLS[kind])}"

    def _one_with_iommu(self) -> str:
        """A container that has had an IOMMU set, mostly."""
        ready = sorted(self._with_iommu & self._open)
        return self._random.choice(ready) if ready and not self._rarely(8) else self._one("c")

    def _address(self) -> str:
        if self._rarely(3):
            return self._random.choice(_BAD_ADDRESSES)
        where = self._random.choice(("fd", "fd", "fd", "ro", "odd", "pageend"))
        return f"{where}:{self._one('gx')}"

    def _rarely(self, often: int) -> bool:
        """Once in so many times."""
        return self._random.randrange(often) == 0

    # -- operations --------------------------------------------------------------------------------

    def kvm_open(self) -> str:
        return f"kvm_open {self._new('k')}"

    def vm_create(self) -> str:
        kind = self._random.choice(("", "", "", "", " 1", " 2"))
        return f"vm_create {self._new('v')} {self._one('k')}{kind}"

    def kvm_check(self) -> str:
        capability = 89 if self._rarely(2) else self._random.randrange(260)
        return f"kvm_check {self._one('kv')} {capability}"

    def kvm_list(self) -> str:
        room = self._random.choice(("0", "1", "3", "4", "10", "29", "30", "100", "256", "-1"))
        return f"kvm_list {self._one('k')} {self._random.choice(_LISTS)} {room}"

    def vcpu_create(self) -> str:
        number = self._random.choice(_VCPU_NUMBERS)
        return f"vcpu_create {self._new('p')} {self._one('v')} {number}"

    def vcpu_cpuid(self) -> str:
        return f"vcpu_cpuid {self._one('p')} {self._one('k')}"

    def vcpu_get(self) -> str:
        return f"vcpu_get {self._one('p')} {self._random.choice((*_PLACES, 'lapic'))}"

    def vcpu_set(self) -> str:
        """A few bytes of a state, and then a look at what came of it."""
        state = self._random.choice(list(_PLACES))
        changes = [
            f"{self._random.choice(_PLACES[state])}:{self._random.choice(_BYTES)}"
            for _ in range(self._random.randrange(1, 5))
        ]
        vcpu = self._one("p")
        self._ahead.insert(0, f"vcpu_get {vcpu} {self._random.choice((state, 'sregs', 'events'))}")
        return f"vcpu_set {vcpu} {state} {' '.join(changes)}"

    def msr_get(self) -> str:
        return f"msr_get {self._one('p')} {self._random.choice(_MSRS)}"

    def msr_set(self) -> str:
        vcpu, index = self._one("p"), self._random.choice(_MSRS)
        self._ahead.insert(0, f"msr_get {vcpu} {index}")
        return f"msr_set {vcpu} {index} {self._random.choice(_MSR_VALUES)}"

    def vcpu_ioctl(self) -> str:
        request = self._random.choice(_VCPU_REQUESTS)
        return f"ioctl {self._one('p')} {request} {self._random.choice(('0', 'bad', 'int:8'))}"

    def vm_request(self) -> str:
        return generate_vm.line(self._random, self._one("v"), self._one)

    def vm_with_irqchip(self) -> str:
        """A VM that gets what most VMs have, before anything else."""
        vm = self._new("v")
        self._ahead = [f"kvm {vm} KVM_CREATE_IRQCHIP 0"]
        return f"vm_create {vm} {self._one('k')}"

    def stats_fd(self) -> str:
        return f"kvm_fd {self._new('u')} {self._one('vvp')} KVM_GET_STATS_FD"

    def eventfd(self) -> str:
        return f"eventfd {self._new('e')}"

    def signal(self) -> str:
        return f"{self._random.choice(('signal', 'signal', 'read'))} {self._one('e')}"

    def vm_close(self) -> str:
        return f"close {self._one('eeeuvp')}"

    def dev_create(self) -> str:
        kind = self._random.choice(("vfio", "vfio", "vfio", "vfio", "0", "1", "3", "100"))
        flags = self._random.choice(("", "", "", " TEST", " 2", " 0xffffffff"))
        return f"dev_create {self._new('d')} {self._one('v')} {kind}{flags}"

    def dev_create_addr(self) -> str:
        return f"dev_create_addr {self._one('v')} {self._random.choice(('null', 'bad', 'max'))}"

    def has_attr(self) -> str:
        attr = f"{self._random.choice(_ATTR_GROUPS)} {self._random.choice(_ATTRS)}"
        return f"has_attr {self._one('d')} {attr} {self._random.choice(_FLAGS)}"

    def set_attr(self) -> str:
        attr = f"{self._random.choice(_ATTR_GROUPS)} {self._random.choice(_ATTRS)}"
        flags = self._random.choice(_FLAGS)
        return f"set_attr {self._one('d')} {attr} {self._address()} {flags}"

    def get_attr(self) -> str:
        return f"get_attr {self._one('d')} GROUP {self._random.choice(_ATTRS)}"

    def group_add(self) -> str:
        return f"group_add {self._one('d')} {self._one('ggggx')}"

    def group_del(self) -> str:
        return f"group_del {self._one('d')} {self._one('ggggx')}"

    def container_open(self) -> str:
        return f"container_open {self._new('c')}"

    def group_open(self) -> str:
        group = f"@{self._random.choice(_USUAL_DEVICES)}"
        if self._rarely(20):
            group = self._random.choice(("0", "6", "7", "99"))
        return f"group_open {self._new('g')} {group}"

    def set_container(self) -> str:
        return f"set_container {self._one('g')} {self._one('c')}"

    def unset_container(self) -> str:
        return f"unset_container {self._one('g')}"

    def set_iommu(self) -> str:
        kind = self._random.choice(("type1v2", "type1v2", "type1v2", "type1", "8", "6", "99"))
        return f"set_iommu {self._one('c')} {kind}"

    def check_extension(self) -> str:
        return f"check_extension {self._one('c')} {self._random.choice(_EXTENSIONS)}"

    def api_version(self) -> str:
        return f"api_version {self._one('c')}"

    def group_status(self) -> str:
        return f"group_status {self._one('g')}"

    def get_device_fd(self) -> str:
        device = self._random.choice((*_DEVICES, "nonsense"))
        self._opened_devices.add(device)
        return f"get_device_fd {self._new('x')} {self._one('g')} {device}"

    def dma_map(self) -> str:
        iova, size = self._random.choice(_IOVAS), self._random.choice(_SIZES)
        return f"dma_map {self._one_with_iommu()} {iova} {size}"

    def dma_unmap(self) -> str:
        iova, size = self._random.choice(_IOVAS), self._random.choice(_SIZES)
        flags = self._random.choice(_UNMAP_FLAGS)
        if flags == _ALL and not self._rarely(4):
            iova, size = "0", "0"
        return f"dma_unmap {self._one_with_iommu()} {iova} {size}{flags}"

    def ioctl(self) -> str:
        argument = self._random.choice(_ARGUMENTS)
        handle = self._one("dccggxxxxv")
        requests = _IOCTLS
        if handle[0] in _IOCTLS_OF and not self._rarely(4):
            requests = _IOCTLS_OF[handle[0]]
        return f"ioctl {handle} {self._random.choice(requests)} {argument}"

    def other_file(self) -> str:
        kind = self._random.choice(("eventfd", "memfd", "socket", "open", "pipe", "mkfile"))
        if kind == "pipe":
            return f"pipe {self._new('f')} {self._new('f')}"
        if kind == "mkfile":
            return f"mkfile {self._new('f')} {_REGULAR_FILE}"
        if kind == "open":
            return self.open()
        return f"{kind} {self._new('f')}"

    def open(self) -> str:
        """A file that may be any, under a name that its kind could have."""
        path = self._random.choice(_PATHS)
        kind = _KIND_OF_NODE.get(path, "g" if path.startswith("/dev/vfio/") else "f")
        return f"open {self._new(kind)} {path}{self._random.choice(_MODES)}"

    def content(self) -> str:
        return f"{self._random.choice(('read', 'write', 'mmap'))} {self._one('dcgkvfp')}"

    def close(self) -> str:
        handle = self._one("vdcgxkfp")
        return "" if handle in _STAYING else f"close {handle}"

    def dup(self) -> str:
        old = self._one("dgxcvfkp")
        return f"dup {self._new(old[0])} {old}"

    def bind(self) -> str:
        device = self._random.choice(("00:14.1", "00:14.1", "00:11.0"))
        if device in self._opened_devices:
            return ""
        driver = self._random.choice(("vfio-pci", "vfio-pci", "serial", "-"))
        if driver == "serial" and device != "00:14.1":
            return ""
        return f"bind {device} {driver}" if driver != "-" else f"unbind {device}"

    def child_close_exit(self) -> str:
        return "child_close_exit"

    def child(self) -> str:
        line = self._random.choice(_IN_CHILD)(self)
        return f"child {line}" if line else ""

    def force_coh(self) -> str:
        """Another answer, for a group whose answer has been forced before."""
        if not self._open.issuperset(_STAYING):
            return ""
        answer = self._random.choice(("0", "1", "real"))
        return f"force_coh {self._random.choice(_STAYING)} {answer}"

    def reset(self) -> str:
        lines = ["reset", *_START]
        if self._open.issuperset(_STAYING):
            lines = [*(f"force_coh {handle} real" for handle in _STAYING), *lines]
        self._ahead = lines[1:]
        return lines[0]

    def chain(self) -> str:
        """What a VMM does to get a device, or the first part of it."""
        device = self._random.choice(_USUAL_DEVICES)
        c, g, x = (self._new(kind) for kind in "cgx")
        lines = [
            f"container_open {c}",
            f"group_open {g} @{device}",
            f"set_container {g} {c}",
            f"set_iommu {c}",
            f"get_device_fd {x} {g} {device}",
            f"group_add {self._one('d')} {self._random.choice((g, x))}",
        ]
        self._opened_devices.add(device)
        self._ahead = lines[1 : self._random.randrange(4, 7)]
        return lines[0]


_OFTEN: dict[Callable[[Generator], str], int] = {
    # how often each comes, in parts of a thousand or so
    Generator.kvm_open: 8,
    Generator.vm_create: 20,
    Generator.kvm_check: 4,
    Generator.kvm_list: 6,
    Generator.vcpu_create: 40,
    Generator.vcpu_cpuid: 15,
    Generator.vcpu_get: 30,
    Generator.vcpu_set: 60,
    Generator.msr_get: 15,
    Generator.msr_set: 40,
    Generator.vcpu_ioctl: 20,
    Generator.dev_create: 50,
    Generator.dev_create_addr: 4,
    Generator.has_attr: 20,
    Generator.set_attr: 50,
    Generator.get_attr: 6,
    Generator.group_add: 160,
    Generator.group_del: 120,
    Generator.container_open: 30,
    Generator.group_open: 110,
    Generator.set_container: 110,
    Generator.unset_container: 40,
    Generator.set_iommu: 60,
    Generator.check_extension: 15,
    Generator.api_version: 4,
    Generator.group_status: 30,
    Generator.get_device_fd: 50,
    Generator.dma_map: 60,
    Generator.dma_unmap: 40,
    Generator.ioctl: 60,
    Generator.other_file: 10,
    Generator.content: 10,
    Generator.close: 90,
    Generator.dup: 30,
    Generator.bind: 8,
    Generator.child_close_exit: 4,
    Generator.child: 30,
    Generator.reset: 4,
    Generator.force_coh: 30,
    Generator.chain: 30,
}
_IN_CHILD = [
    *(Generator.has_attr, Generator.set_attr, Generator.group_add, Generator.group_del),
    *(Generator.set_container, Generator.unset_container, Generator.set_iommu, Generator.dma_map),
    *(Generator.ioctl, Generator.content, Generator.check_extension, Generator.dev_create_addr),
]
_VM_OFTEN: dict[Callable[[Generator], str], int] = {
    # the same for scripts about VMs
    Generator.vm_request: 700,
    Generator.vm_with_irqchip: 40,
    Generator.vcpu_create: 20,
    Generator.stats_fd: 10,
    Generator.eventfd: 60,
    Generator.signal: 100,
    Generator.vm_close: 40,
}
_OPENER_OF = {
    "e": Generator.eventfd,
    "u": Generator.stats_fd,
    "k": Generator.kvm_open,
    "v": Generator.vm_create,
    "p": Generator.vcpu_create,
    "d": Generator.dev_create,
    "c": Generator.container_open,
    "g": Generator.group_open,
    "x": Generator.chain,
    "f": Generator.other_file,
}
_MAKERS = list(_OFTEN)
_WEIGHTS = list(_OFTEN.values())
_VM_MAKERS = list(_VM_OFTEN)
_VM_WEIGHTS = list(_VM_OFTEN.values())
