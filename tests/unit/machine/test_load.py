# SPDX-License-Identifier: GPL-2.0-only
"""Machine files: what is read, and one sentence for each thing that is wrong."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.errors import InputError
from kvm_vfio.kernel.pci.edu import Edu
from kvm_vfio.machine.load import (
    _KEYS,
    LIMIT,
    MOST_FAULTS,
    builtin_machines,
    describe,
    load_machine,
)
from kvm_vfio.machine.load import parse_machine as parse
from kvm_vfio.machine.model import Bar, BarKind, Iommu, IommuGroup, Machine, Msi, Msix, PciDevice
from tests.unit.machine.toml_text import machines, toml_text

GOOD = """\
name = "small"

[[iommu]]

[[iommu.group]]
number = 7

[[iommu.group.device]]
address = "0000:00:10.0"
vendor = 0x1234
device = 0x11e8
class = 0x00ff00
bars = [
  { index = 0, size = "1M" },
  { index = 2, size = 16, kind = "io" },
  { index = 4, size = "16K", kind = "memory64" },
]
msi = { vectors = 4 }
msix = { vectors = 3, table_bar = 4 }

[[iommu.group.device]]
address = "00:1F.7"
vendor = 0x1234
device = 0x11e8
class = 0x00ff00
driver = "none"
interrupt_pin = "B"
"""

FIRST = "iommu[0].group[0].device[0]"
SECOND = "iommu[0].group[0].device[1]"
A = "(0000:00:10.0)"
B = "(0000:00:1f.7)"
KEYS_OF_MSI = "the keys are vectors, maskable"
NEW_GROUP = "\n[[iommu.group]]\nnumber = 8\n"
NEW_DEVICE = """
[[iommu.group.device]]
address = "{}"
vendor = 1
device = 2
class = 3
"""


class Bad(NamedTuple):
    """What is replaced in GOOD, by what, and what is said."""

    old: str
    new: str
    sentence: str


BAD = [
    # keys
    Bad(
        'name = "small"',
        'nmae = "small"',
        '1: nmae: there is no key "nmae" here; did you mean name?',
    ),
    Bad(
        "msi = { vectors = 4 }",
        "msi = { zzz = 4 }",
        f'18: {FIRST}.msi.zzz {A}: there is no key "zzz" here; {KEYS_OF_MSI}',
    ),
    Bad(
        "msi = { vectors = 4 }",
        'msi = { "a\\tb" = 4 }',
        f'18: {FIRST}.msi {A}: there is no key "a\\tb" here; {KEYS_OF_MSI}',
    ),
    Bad(
        'driver = "none"',
        'drivre = "none"',
        f'26: {SECOND}.drivre {B}: there is no key "drivre" here; did you mean driver?',
    ),
    Bad(
        'address = "0000:00:10.0"\n',
        "",
        f"8: {FIRST}.address: the key address is missing; "
        'write it as lspci -D prints it, such as address = "0000:00:10.0"',
    ),
    Bad(
        "number = 7\n",
        "",
        "5: iommu[0].group[0].number: the key number is missing; "
        "write the group's number, such as number = 1",
    ),
    Bad(
        "{ index = 0, size",
        "{ size",
        f"14: {FIRST}.bars[0].index {A}: the key index is missing; write the BAR's index, 0 to 5",
    ),
    Bad(
        ", table_bar = 4",
        "",
        f"19: {FIRST}.msix.table_bar {A}: the key table_bar is missing; "
        "write the index of the BAR that holds the table",
    ),
    # types
    Bad(
        "number = 7",
        'number = "7"',
        "6: iommu[0].group[0].number: it must be a whole number, not text; "
        "write the number, without quotes",
    ),
    Bad(
        "number = 7",
        "number = 7.0",
        "6: iommu[0].group[0].number: it must be a whole number, not a fraction; "
        "write the number, without quotes",
    ),
    Bad(
        "number = 7",
        "number = 0x1ffffffffffffffff",
        "6: iommu[0].group[0].number: this number has more than 64 bits; write a smaller one",
    ),
    Bad(
        'name = "small"',
        "name = 2024-01-01",
        "1: name: it must be text, not a date; put it in quotes",
    ),
    Bad(
        "[[iommu]]\n",
        '[[iommu]]\nsnoop_control = "no"\n',
        "4: iommu[0].snoop_control: it must be true or false, not text; "
        "write true or false, without quotes",
    ),
    Bad(
        "msi = { vectors = 4 }",
        "msi = 4",
        f"18: {FIRST}.msi {A}: it must be a table, not a whole number; write {{ KEY = VALUE }}",
    ),
    Bad(
        'interrupt_pin = "B"',
        "bars = { index = 0, size = 16 }",
        f"27: {SECOND}.bars {B}: it must be an array, not a table; "
        "write [{ index = 0, size = 4096 }]",
    ),
    Bad(
        'size = "1M"',
        'size = "1 MB"',
        f"14: {FIRST}.bars[0].size {A}: this is no size; "
        'write a number of bytes, or a text such as "4K" or "1M"',
    ),
    Bad(
        'size = "1M"',
        "size = true",
        f"14: {FIRST}.bars[0].size {A}: it must be a whole number or text, not true or false; "
        'write a number of bytes, or a text such as "4K" or "1M"',
    ),
    Bad(
        'kind = "io"',
        'kind = "port"',
        f'15: {FIRST}.bars[1].kind {A}: "port" is not known here; write memory32, memory64 or io',
    ),
    Bad(
        'interrupt_pin = "B"',
        'interrupt_pin = "E"',
        f'27: {SECOND}.interrupt_pin {B}: "E" is not known here; write A, B, C or D',
    ),
    Bad(
        "[[iommu]]\n",
        '[[iommu]]\nkind = "smmu"\n',
        '4: iommu[0].kind: "smmu" is not known here; write intel or amd',
    ),
    Bad(
        'name = "small"',
        'architecture = "pdp11"',
        '1: architecture: "pdp11" is not known here; write x86_64 or aarch64',
    ),
    # names
    Bad(
        'name = "small"',
        'name = "a\\u001b[31m"',
        "1: name: it has a line break or control character; write one line of plain text",
    ),
    Bad(
        "[[iommu]]\n",
        '[[iommu]]\nname = "a/b"\n',
        '4: iommu[0].name: this is no name for an IOMMU; write one such as "dmar0"',
    ),
    Bad(
        'driver = "none"',
        'driver = ""',
        f"26: {SECOND}.driver {B}: this is no driver's name; "
        'write "none" where no driver holds the device',
    ),
    # the IOMMU
    Bad(
        "[[iommu]]\n",
        "[[iommu]]\naddress_width = 16\n",
        "4: iommu[0].address_width: an iova has 32 to 64 bits, not 16; write 39 or 48",
    ),
    Bad(
        "[[iommu]]\n",
        '[[iommu]]\nkind = "amd"\nsnoop_control = false\n',
        "5: iommu[0].snoop_control: an AMD IOMMU always enforces coherency; "
        "remove the key or write true",
    ),
    Bad(
        "[[iommu]]\n",
        "[[iommu]]\n[[iommu]]\n",
        "3: iommu[0].group: this IOMMU has no group; add an [[iommu.group]] or remove the IOMMU",
    ),
    # groups and addresses
    Bad(
        "number = 7",
        "number = -1",
        "6: iommu[0].group[0].number: -0x1 is out of range; write 0 to 0x7fffffff",
    ),
    Bad(
        'interrupt_pin = "B"\n',
        NEW_GROUP,
        "28: iommu[0].group[1].device: group 8 has no device; "
        "add an [[iommu.group.device]] or remove the group",
    ),
    Bad(
        'interrupt_pin = "B"\n',
        NEW_GROUP.replace("8", "7") + NEW_DEVICE.format("0000:00:12.0"),
        "29: iommu[0].group[1].number: group 7 is already iommu[0].group[0]; choose another number",
    ),
    Bad(
        'interrupt_pin = "B"\n',
        NEW_DEVICE.format("00:10.0"),
        "29: iommu[0].group[0].device[2].address (0000:00:10.0): "
        f"device 0000:00:10.0 is already {FIRST}; choose another address",
    ),
    *(
        Bad(
            "0000:00:10.0",
            address,
            f"9: {FIRST}.address: this is no PCI address; "
            "write it as lspci -D prints it, such as 0000:00:10.0",
        )
        for address in (
            "",
            "10.0",
            "00:20.0",
            "00:10.8",
            "0000:00:10.0 ",
            "0000:0:10.0",
            "x:00:1.0",
        )
    ),
    # ids
    Bad(
        "class = 0x00ff00\nbars",
        "class = 0x1000000\nbars",
        f"12: {FIRST}.class {A}: 0x1000000 is out of range; write 0 to 0xffffff",
    ),
    Bad(
        "vendor = 0x1234\ndevice = 0x11e8\nclass = 0x00ff00\nbars",
        "vendor = 0x1234\ndevice = 0x11e80\nclass = 0x00ff00\nbars",
        f"11: {FIRST}.device {A}: 0x11e80 is out of range; write 0 to 0xffff",
    ),
    Bad(
        'driver = "none"',
        "revision = 256",
        f"26: {SECOND}.revision {B}: 0x100 is out of range; write 0 to 0xff",
    ),
    Bad(
        "vendor = 0x1234\ndevice = 0x11e8\nclass = 0x00ff00\nbars",
        "vendor = 0xffff\ndevice = 0x11e8\nclass = 0x00ff00\nbars",
        f"10: {FIRST}.vendor {A}: vendor 0xffff means that no device is there; write the real one",
    ),
    # BARs
    Bad(
        "index = 2",
        "index = 6",
        f"15: {FIRST}.bars[1].index {A}: there is no BAR 6; write 0 to 5",
    ),
    Bad(
        "index = 2",
        "index = 0",
        f"15: {FIRST}.bars[1].index {A}: BAR 0 has index 0 already; choose another index",
    ),
    Bad(
        "]\nmsi =",
        "  { index = 5, size = 16 },\n]\nmsi =",
        f"17: {FIRST}.bars[3].index {A}: the upper half of BAR 4 has index 5 already; "
        "choose another index",
    ),
    Bad(
        'index = 2, size = 16, kind = "io"',
        'index = 5, size = 16, kind = "memory64"',
        f"15: {FIRST}.bars[1].index {A}: a 64-bit BAR takes two indices and there is no BAR 6; "
        "write 0 to 4",
    ),
    Bad(
        'size = "1M"',
        'size = "3K"',
        f"14: {FIRST}.bars[0].size {A}: 3072 is no power of two; the next one is 4K",
    ),
    Bad(
        'size = "1M"',
        "size = 8",
        f"14: {FIRST}.bars[0].size {A}: a 32-bit memory BAR has 16 to 2G bytes, not 8; "
        "change the size",
    ),
    Bad(
        'size = "1M"',
        'size = "4G"',
        f"14: {FIRST}.bars[0].size {A}: a 32-bit memory BAR has 16 to 2G bytes, not 4294967296; "
        "change the size",
    ),
    Bad(
        'size = 16, kind = "io"',
        'size = 512, kind = "io"',
        f"15: {FIRST}.bars[1].size {A}: an I/O BAR has 4 to 256 bytes, not 512; change the size",
    ),
    Bad(
        'size = 16, kind = "io"',
        'size = 2, kind = "io"',
        f"15: {FIRST}.bars[1].size {A}: an I/O BAR has 4 to 256 bytes, not 2; change the size",
    ),
    Bad(
        'kind = "io"',
        'kind = "io", prefetchable = true',
        f"15: {FIRST}.bars[1].prefetchable {A}: an I/O BAR cannot be prefetchable; remove the key",
    ),
    # what Linux has found, byte by byte
    Bad(
        "msi = { vectors = 4 }",
        "addresses = { 1 = 0x1000 }",
        f"18: {FIRST}.addresses {A}: there is no BAR 1; describe it, or leave it out",
    ),
    Bad(
        "msi = { vectors = 4 }",
        "addresses = { 0 = 0x100000000 }",
        f"18: {FIRST}.addresses {A}: BAR 0 cannot be at 0x100000000; write a lower one",
    ),
    Bad(
        "msi = { vectors = 4 }",
        "addresses = { 0 = 0x1000 }",
        f"18: {FIRST}.addresses {A}: BAR 0 cannot be at 0x1000; write a multiple of its size, 1M",
    ),
    Bad(
        "msi = { vectors = 4 }",
        'config = [{ offset = 4, bytes = "00" }]',
        f"18: {FIRST}.config[0].offset {A}: the first 64 bytes come from the other keys,"
        " but for the list's pointer at 0x34; write 0x40 or more",
    ),
    Bad(
        "msi = { vectors = 4 }",
        'config = [{ offset = 0xff, bytes = "0000" }]',
        f"18: {FIRST}.config[0].bytes {A}: this would end at 0x101"
        " and the space at 0x100; write less",
    ),
    Bad(
        "msi = { vectors = 4 }",
        'config = [{ offset = 0x40, bytes = "0000", writable = "00" }]',
        f"18: {FIRST}.config[0].writable {A}: write 2 bytes here, one for each of bytes",
    ),
    Bad(
        "msi = { vectors = 4 }",
        "registers = [{ bar = 1, offset = 0, value = 1 }]",
        f"18: {FIRST}.registers[0].bar {A}: there is no BAR 1; describe it, or leave this out",
    ),
    Bad(
        "msi = { vectors = 4 }",
        "registers = [{ bar = 0, offset = 2, value = 1 }]",
        f"18: {FIRST}.registers[0].offset {A}: BAR 0 has no 32 bits at 0x2;"
        " write a multiple of 4 below 0x100000",
    ),
    Bad(
        "msi = { vectors = 4 }",
        "registers = [{ bar = 0, offset = 0, value = -1 }]",
        f"18: {FIRST}.registers[0].value {A}: -0x1 is out of range; write 0 to 0xffffffff",
    ),
    Bad(
        "msi = { vectors = 4 }",
        'config = [{ offset = 0x40, bytes = "0" }]',
        f"18: {FIRST}.config[0].bytes {A}: these are no bytes; write two hexadecimal"
        ' digits for each, such as "05 00 80 00"',
    ),
    Bad(
        "msi = { vectors = 4 }",
        "addresses = { 6 = 0x1000 }",
        f"18: {FIRST}.addresses {A}: there is no BAR 6; describe it, or leave it out",
    ),
    # interrupts
    Bad(
        "vectors = 4",
        "vectors = 3",
        f"18: {FIRST}.msi.vectors {A}: MSI has 1, 2, 4, 8, 16 or 32 vectors, not 3",
    ),
    Bad(
        "vectors = 3",
        "vectors = 2049",
        f"19: {FIRST}.msix.vectors {A}: MSI-X has 1 to 2048 vectors, not 2049",
    ),
    Bad(
        "table_bar = 4",
        "table_bar = 1, pba_bar = 4",
        f"19: {FIRST}.msix.table_bar {A}: the MSI-X table must be in a memory BAR and 1 is none; "
        "name one of 0, 4",
    ),
    Bad(
        "table_bar = 4",
        "table_bar = 4, pba_bar = 2",
        f"19: {FIRST}.msix.pba_bar {A}: "
        "the MSI-X pending bits must be in a memory BAR and 2 is none; name one of 0, 4",
    ),
    Bad(
        "table_bar = 4",
        "table_bar = 4, table_offset = 0x3ff0, pba_offset = 0",
        f"19: {FIRST}.msix.table_offset {A}: "
        "the MSI-X table would end at 0x4020 and BAR 4 ends at 0x4000; "
        "move it or make the BAR larger",
    ),
    Bad(
        "table_bar = 4",
        "table_bar = 4, pba_offset = 0x4000",
        f"19: {FIRST}.msix.pba_offset {A}: "
        "the MSI-X pending bits would end at 0x4008 and BAR 4 ends at 0x4000; "
        "move it or make the BAR larger",
    ),
    Bad(
        "table_bar = 4",
        "table_bar = 4, table_offset = 4, pba_offset = 0x100",
        f"19: {FIRST}.msix.table_offset {A}: 4 is no multiple of 8; "
        "the MSI-X table must begin at one",
    ),
    Bad(
        "table_bar = 4",
        "table_bar = 4, pba_offset = 0x28",
        f"19: {FIRST}.msix.pba_offset {A}: the MSI-X pending bits overlap the table; "
        "put them at 0x30 or behind",
    ),
]

# What follows is tomllib's own, and differs from Python to Python.
NOT_TOML = [
    ("name =\n", "m.toml:1:7: this is not TOML: "),
    ("[[iommu]\n", "m.toml:1:8: this is not TOML: "),
    ("a = 1\na = 2\n", "m.toml:2:6: this is not TOML: "),
    ('a = """\n', "m.toml: this is not TOML: "),
]


class Refused(NamedTuple):
    """A whole file, and what is said."""

    text: str
    sentence: str


NO_MACHINE = [
    Refused("a = " + "[" * 3000, "m.toml: it is nested too deeply; a machine is four deep"),
    Refused("a = " + "9" * 5000, "m.toml: it has a number of thousands of digits; write 64 bits"),
    Refused("\n" + "a." * 200_000 + "a = 1", "m.toml:2: it has more than 100 dots; write fewer"),
    Refused("", "m.toml: iommu: the key iommu is missing; add an [[iommu]]"),
    Refused(
        "iommu = []",
        "m.toml:1: iommu: there is no IOMMU, so there is nothing to assign; add an [[iommu]]",
    ),
    Refused(
        "[iommu]\n",
        "m.toml:1: iommu: it must be an array, not a table; write [[iommu]], in two brackets",
    ),
    Refused(
        "iommu = [3]",
        "m.toml:1: iommu[0]: it must be a table, not a whole number; write { KEY = VALUE }",
    ),
    Refused(
        "[[iommu]]\n[iommu.group]\n",
        "m.toml:2: iommu[0].group: it must be an array, not a table; "
        "write [[iommu.group]], in two brackets",
    ),
]


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse(text, "m.toml")
    return str(caught.value)


def test_a_good_file() -> None:
    first = PciDevice(
        address="0000:00:10.0",
        vendor=0x1234,
        device=0x11E8,
        class_code=0xFF00,
        bars=(
            Bar(0, 1 << 20),
            Bar(2, 16, BarKind.IO),
            Bar(4, 16 << 10, BarKind.MEMORY64),
        ),
        msi=Msi(vectors=4),
        msix=Msix(vectors=3, table_bar=4, table_offset=0, pba_bar=4, pba_offset=48),
        driver="vfio-pci",
    )
    second = PciDevice(
        address="0000:00:1f.7",
        vendor=0x1234,
        device=0x11E8,
        class_code=0xFF00,
        interrupt_pin=2,
        driver=None,
    )
    iommu = Iommu(name="dmar0", groups=(IommuGroup(7, (first, second)),))
    assert parse(GOOD, "m.toml") == Machine(name="small", iommus=(iommu,))


def test_a_machine_without_a_name_has_that_of_its_file() -> None:
    assert parse(GOOD.replace('name = "small"', ""), "/tmp/lab-3.toml").name == "lab-3"


def test_an_amd_iommu() -> None:
    (iommu,) = parse(GOOD.replace("[[iommu]]\n", '[[iommu]]\nkind = "amd"\n'), "m.toml").iommus
    assert (iommu.name, iommu.snoop_control, iommu.enforces_coherency) == ("ivhd0", True, True)


@pytest.mark.parametrize(("old", "new", "sentence"), BAD)
def test_what_is_wrong_is_told_in_one_sentence(old: str, new: str, sentence: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    assert refusal(text) == f"m.toml:{sentence}"


@pytest.mark.parametrize(("text", "begins"), NOT_TOML)
def test_what_is_not_toml(text: str, begins: str) -> None:
    sentence = refusal(text)
    assert sentence.startswith(begins)
    assert len(sentence) > len(begins)


@pytest.mark.parametrize(("text", "sentence"), NO_MACHINE, ids=[r.sentence for r in NO_MACHINE])
def test_what_is_no_machine(text: str, sentence: str) -> None:
    assert refusal(text) == sentence


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_lines() -> None:
    text = (
        GOOD.replace('name = "small"', 'nmae = "small"')
        .replace("number = 7", 'number = "7"')
        .replace('"0000:00:10.0"\nvendor = 0x1234', '"00:40.0"\nvendor = "0x1234"')
        .replace("index = 2, size = 16", "index = 7, size = 24")
        .replace('address = "00:1F.7"\n', "")
    )
    places = [sentence.split(": ")[1] for sentence in refusal(text).splitlines()]
    assert places == [
        "nmae",
        "iommu[0].group[0].number",
        f"{FIRST}.address",
        f"{FIRST}.vendor",
        f"{FIRST}.bars[1].index",
        f"{SECOND}.address",
    ]


def test_one_fault_makes_no_others() -> None:
    """MSI-X names a BAR whose size is not known; a group's number is not known."""
    text = GOOD.replace('size = "16K"', 'size = "16k"').replace("number = 7", "")
    assert len(refusal(text).splitlines()) == 2


def test_a_thousand_faults_are_cut_short() -> None:
    text = GOOD + "".join(NEW_DEVICE.format(f"00:10.{n % 8}") for n in range(1000))
    *sentences, last = refusal(text).splitlines()
    assert len(sentences) == MOST_FAULTS
    assert last == "m.toml: there is more; mend these first"


def test_a_thousand_wrong_keys_are_cut_short() -> None:
    text = "".join(f"k{n} = 1\n" for n in range(1000))
    assert len(refusal(text).splitlines()) == MOST_FAULTS


def test_a_thousand_wrong_types_are_cut_short() -> None:
    text = "[[iommu]]\ngroup = [" + "3, " * 1000 + "]"
    assert len(refusal(text).splitlines()) == MOST_FAULTS


# -- files ----------------------------------------------------------------------------------------


def refused(path: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        load_machine(path)
    return str(caught.value)


# -- models ----------------------------------------------------------------------------------------

MODELLED = """\
[[iommu]]
[[iommu.group]]
number = 1
[[iommu.group.device]]
address = "00:10.0"
model = "edu"
options = { dma_mask = 0xffffffff }
subsystem_device = 0x77
"""


def test_a_device_with_a_model() -> None:
    ((_, device),) = parse(MODELLED, "m.toml").devices()
    expected = Edu.at("0000:00:10.0", dma_mask=0xFFFF_FFFF)
    assert device == replace(expected, subsystem_device=0x77)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"edu"', '"eud"', '6: {}.model {}: there is no device model "eud"; there are '),
        ('"edu"', "7", "6: {}.model {}: it must be text, not a whole number; put it in quotes"),
        ("dma_mask", "mask", '7: {}.options {}: there is no option "mask"; did you mean dma_mask?'),
        ("0xffffffff", '"x"', "7: {}.options {}: dma_mask must be a whole number; write a number"),
        ("0xffffffff", "-1", "7: {}.options {}: a mask of address bits is not negative; write "),
        ("{ dma_mask = 0xffffffff }", "3", "7: {}.options {}: it must be a table, not a whole "),
        ("subsystem_device", "bars", '8: {}.bars {}: there is no key "bars" here; the keys are '),
    ],
)
def test_what_is_wrong_with_a_model(old: str, new: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(MODELLED.replace(old, new), "m.toml")
    told = str(refused.value)
    assert told.startswith("m.toml:" + sentence.format(FIRST, A))
    assert "\n" not in told or old == "subsystem_device"


def test_a_size_as_text() -> None:
    text = MODELLED.replace("0xffffffff", '"64K"')
    ((_, device),) = parse(text, "m.toml").devices()
    assert device == replace(Edu.at("0000:00:10.0", dma_mask=65536), subsystem_device=0x77)


def test_options_without_a_model() -> None:
    with pytest.raises(InputError, match='there is no key "options" here'):
        parse(MODELLED.replace('model = "edu"', "vendor = 1\ndevice = 2\nclass = 3"), "m.toml")


# -- files -----------------------------------------------------------------------------------------


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert load_machine(path) == load_machine(str(path)) == parse(GOOD, "m.toml")


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    assert refused(path) == (
        f"{path}: there is no such file; the built-in machines are default, devices or referee"
    )


def test_a_directory(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path}: is a directory; name a file to read"


def test_a_file_that_cannot_be_read() -> None:
    """Even root is refused the unmapped first page of a process."""
    path = "/proc/self/mem"
    assert refused(path) == f"{path}: input/output error; name a file to read"


def test_a_huge_file_is_refused_before_it_is_read() -> None:
    assert refused("/dev/zero") == "/dev/zero: it has more than 1 MiB; name a machine file"


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(GOOD + "#" * (LIMIT - len(GOOD)))
    assert load_machine(path).name == "small"
    path.write_text(GOOD + "#" * (LIMIT - len(GOOD) + 1))
    assert refused(path) == f"{path}: it has more than 1 MiB; name a machine file"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes(b'name = "a"\n# \xff\n')
    assert refused(path) == f"{path}:2: this is not UTF-8; save the file as UTF-8"


@pytest.mark.parametrize("name", builtin_machines())
def test_a_file_may_have_a_built_in_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_machine(name).name == name
    assert load_machine(f"./{name}").name == "small"
    assert load_machine(Path(name)).name == "small"


# -- properties -----------------------------------------------------------------------------------


@given(machines())
def test_round_trip(machine: Machine) -> None:
    assert parse(toml_text(machine), "m.toml") == machine


KEYS = st.sampled_from(sorted({key for keys in _KEYS.values() for key in keys.known}))
SCALARS = st.one_of(
    st.integers(),
    st.integers(0, 8),
    st.floats(),
    st.booleans(),
    st.text(max_size=5),
    st.sampled_from(["intel", "amd", "io", "memory64", "A", "1M", "4K", "00:10.0", "0000:00:1f.7"]),
    st.dates(),
    st.times(),
    st.datetimes(timezones=st.just(dt.UTC)),
)
VALUES = st.recursive(
    SCALARS,
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), below, max_size=6)
    ),
    max_leaves=25,
)


@given(st.dictionaries(KEYS | st.text(max_size=5), VALUES, max_size=5))
def test_any_tables_are_described_or_told(data: dict[str, Any]) -> None:
    described, found = describe(data, "any")
    assert isinstance(described, Machine)
    assert found or any(described.devices())


def good_data() -> dict[str, Any]:
    device = {
        "address": "00:10.0",
        "vendor": 1,
        "device": 2,
        "class": 3,
        "bars": [{"index": 0, "size": "4K"}, {"index": 1, "size": 16, "kind": "io"}],
        "msi": {"vectors": 2},
        "msix": {"vectors": 2, "table_bar": 0},
    }
    return {"iommu": [{"group": [{"number": 0, "device": [device]}]}]}


PLACES = [
    ("iommu",),
    ("iommu", 0),
    ("iommu", 0, "group"),
    ("iommu", 0, "group", 0),
    ("iommu", 0, "group", 0, "number"),
    *(
        ("iommu", 0, "group", 0, "device", *rest)
        for rest in (
            (),
            (0,),
            *((0, key) for key in ("address", "vendor", "class", "bars", "msi", "msix", "driver")),
            *((0, "bars", 0, key) for key in ("index", "size", "kind", "prefetchable")),
            *((0, "msix", key) for key in ("vectors", "table_bar", "table_offset", "pba_offset")),
        )
    ),
]


@given(st.sampled_from(PLACES), VALUES)
def test_any_value_in_a_good_machine_is_described_or_told(
    place: tuple[Any, ...], value: object
) -> None:
    data: Any = good_data()
    assert describe(good_data(), "any")[1] == []
    table = data
    for step in place[:-1]:
        table = table[step]
    table[place[-1]] = value
    machine, found = describe(data, "any")
    assert isinstance(machine, Machine)
    assert all(fault.reason and fault.reason.isprintable() for fault in found)


@given(st.text())
def test_any_text_is_a_machine_or_told(text: str) -> None:
    assert refusal(text).startswith("m.toml")


@given(st.data())
def test_a_good_file_with_any_line_gone_or_doubled(data: st.DataObject) -> None:
    lines = GOOD.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    lines[index : index + 1] = [lines[index]] * data.draw(st.sampled_from([0, 2]))
    try:
        machine = parse("\n".join(lines), "m.toml")
    except InputError as error:
        assert all(line.startswith("m.toml:") for line in str(error).splitlines())  # noqa: PT017  # either is right
    else:
        assert any(machine.devices())
