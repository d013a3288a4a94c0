# SPDX-License-Identifier: GPL-2.0-only
"""The NVMe controller, from the host's side. What is expected is the specification's (1.4)."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvm_vfio import Container, Device, InputError
from kvm_vfio.kernel.pci.nvme import Nvme
from kvm_vfio.uapi.vfio import (
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
)
from tests.nvme_host import (
    ACQ,
    AQA,
    ASQ,
    CAP,
    CC,
    CSTS,
    INTMC,
    INTMS,
    IOVA,
    PAGE,
    VS,
    Driver,
)
from tests.unit.kernel.pci.desk import ADDRESS, Desk

DNR = 0x4000
READY, FATAL, SHUT_DOWN = 1, 2, 8
WRITE, READ, COMPARE = 1, 2, 5


class Lab(Driver):
    """The driver with the device on a desk."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # the model's own
        self.desk = Desk(Nvme.at(ADDRESS, **options))
        super().__init__(self.desk.linux, self.desk.device, self.desk.container)

    @property
    def model(self) -> Nvme:
        model = self.desk.kernel.function(ADDRESS).model
        assert isinstance(model, Nvme)
        return model

    def refused(self, queue: int, opcode: int, nsid: int = 0, **fields: int) -> int:
        """The status of a command that must fail."""
        status = self.call(queue, opcode, nsid, **fields).status
        assert status
        return status


@pytest.fixture
def nvme() -> Lab:
    """Enabled, with one pair of I/O queues."""
    lab = Lab()
    lab.enable()
    lab.create_queues()
    return lab


# -- registers -------------------------------------------------------------------------------------


def test_capabilities() -> None:
    lab = Lab()
    cap = lab.get(CAP, 8)
    assert cap == lab.get(CAP) | lab.get(CAP + 4) << 32
    assert cap & 0xFFFF == 1023
    assert cap >> 16 & 1  # contiguous queues
    assert cap >> 37 & 1  # NVM
    assert cap >> 32 & 0xF == 0  # doorbells 4 bytes apart
    assert lab.get(VS) == 0x10400
    lab.put(CAP, 0)
    assert lab.get(CAP, 8) == cap


def test_it_becomes_ready_and_is_reset(nvme: Lab) -> None:
    assert nvme.get(CSTS) == READY
    nvme.put(CC, 0)
    assert nvme.get(CSTS) == 0
    assert nvme.get(ASQ, 8) and nvme.get(ACQ, 8) and nvme.get(AQA)  # noqa: PT018  # one fact
    nvme.put(CC, 0x0046_0001)
    assert nvme.get(CSTS) == READY


def test_a_reset_of_the_function_takes_everything_but_the_data(nvme: Lab) -> None:
    buffer = nvme.allocate()
    nvme.memory.write(b"data", buffer)
    assert nvme.move(WRITE, 7, buffer, 1).status == 0
    nvme.device.reset()
    assert [nvme.get(at, 4) for at in (CC, CSTS, AQA, ASQ, ACQ)] == [0] * 5
    nvme.device.write_config(4, 2, 6)
    nvme.enable()
    nvme.create_queues()
    nvme.memory.write(bytes(512), buffer)
    assert nvme.move(READ, 7, buffer, 1).status == 0
    assert nvme.memory.read(4, buffer) == b"data"


@pytest.mark.parametrize(
    "cc",
    [0x0046_0011, 0x0046_0071, 0x0046_0801, 0x0046_0281, 0x0046_0781],
    ids=["CSS 1", "CSS 7", "AMS 1", "MPS 5", "MPS 15"],
)
def test_a_configuration_that_cannot_be(cc: int) -> None:
    lab = Lab()
    lab.enable(cc=cc)
    assert lab.get(CSTS) == FATAL
    lab.put(CC, 0)
    assert lab.get(CSTS) == 0


def test_an_admin_queue_of_one_entry() -> None:
    lab = Lab()
    lab.put(CC, 1)
    assert lab.get(CSTS) == FATAL


@pytest.mark.parametrize("how", [1, 2])
def test_shutdown(nvme: Lab, how: int) -> None:
    nvme.put(CC, 0x0046_0001 | how << 14)
    assert nvme.get(CSTS) == READY | SHUT_DOWN
    nvme.submit(0, 6, cdw10=1)
    nvme.ring(0)
    assert not nvme.completions(0)
    nvme.enable()
    assert nvme.get(CSTS) == READY


def test_larger_pages() -> None:
    lab = Lab()
    lab.enable(cc=0x0046_0001 | 1 << 7)  # 8 KiB: the queues may lie at an odd page
    if lab.get(CSTS) == FATAL:
        lab.allocate()
        lab.enable(cc=0x0046_0001 | 1 << 7)
    lab.put(CC, 0)
    for at in (ASQ, ACQ):
        lab.put(at, (lab.get(at, 8) + 0x1FFF) & ~0x1FFF, 8)
    lab.put(CC, 0x0046_0001 | 1 << 7)
    assert lab.get(CSTS) == READY
    lab.queues[0].sq, lab.queues[0].cq = (lab.get(at, 8) - IOVA for at in (ASQ, ACQ))
    page = lab.allocate(4) + 0x1800 & ~0xFFF
    lab.queues[0].tail = lab.queues[0].head = 0
    at = page + 0x800  # within 8 KiB, across 4 KiB
    if (IOVA + at) % 0x2000 > 0x1000:
        at += 0x1000
    lab.admin(6, prp1=IOVA + at, cdw10=1)
    assert lab.memory.read(13, at + 24) == b"kvm-vfio NVMe"


# -- doorbells and queues --------------------------------------------------------------------------


def test_queues_go_round(nvme: Lab) -> None:
    for n in range(100):
        completion = nvme.call(1, 0, 1)
        assert (completion.sq_head, completion.sq) == ((n + 1) % 16, 1)


def test_many_at_one_ring(nvme: Lab) -> None:
    nvme.queues[1].tail = 0
    ids = [nvme.submit(1, 0, 1) for _ in range(15)]
    nvme.ring(1)
    assert [each.command for each in nvme.completions(1)] == ids


def test_a_completion_queue_that_is_full_waits_for_the_host(nvme: Lab) -> None:
    small, big = nvme._queue(2, 4), nvme._queue(3, 16)
    nvme.admin(5, prp1=IOVA + small.cq, cdw10=3 << 16 | 2, cdw11=1)
    nvme.admin(1, prp1=IOVA + big.sq, cdw10=15 << 16 | 3, cdw11=1 | 2 << 16)
    ids = [nvme.submit(3, 0, 1) for _ in range(10)]
    nvme.ring(3)
    found = []
    for _ in range(10):
        found += [each.command for each in nvme.completions(2)]
    assert found == ids


def test_an_admin_queue_full_of_events() -> None:
    lab = Lab()
    lab.enable(4)
    for _ in range(3):
        lab.submit(0, 0x0C)
    lab.ring(0)
    assert not lab.completions(0)
    lab.submit(0, 9, cdw10=0x0B, cdw11=2)  # temperature events, please
    lab.submit(0, 9, cdw10=4, cdw11=300)  # and it is that warm
    lab.put(0x1000 + 8 * 9, 0)
    lab.ring(0)
    results = [each.result for _ in range(4) for each in lab.completions(0)]
    assert sorted(results) == [0, 0, 0x010000, 0x020101]


QUEUE_ERRORS = [
    (5, {"cdw10": 15 << 16}, 0x101),  # the admin queue's number
    (5, {"cdw10": 15 << 16 | 65}, 0x101),
    (5, {"cdw10": 15 << 16 | 1}, 0x101),  # taken
    (5, {"cdw10": 2}, 0x102),
    (5, {"cdw10": 1024 << 16 | 2}, 0x102),
    (5, {"cdw11": 0}, 0x002),  # not contiguous
    (5, {"prp1": IOVA + 8}, 0x013),
    (5, {"cdw11": 3 | 65 << 16}, 0x108),
    (1, {"cdw10": 15 << 16 | 1}, 0x101),
    (1, {"cdw10": 2}, 0x102),
    (1, {"cdw11": 1}, 0x101),  # completions into queue 0
    (1, {"cdw11": 1 | 65 << 16}, 0x101),
    (1, {"cdw11": 1 | 2 << 16}, 0x100),
    (1, {"cdw11": 1 << 16}, 0x002),
    (1, {"prp1": IOVA + 2048}, 0x013),
    (0, {"cdw10": 0}, 0x101),
    (0, {"cdw10": 2}, 0x101),
    (4, {"cdw10": 0}, 0x101),
    (4, {"cdw10": 2}, 0x101),
    (4, {"cdw10": 1}, 0x10C),  # a submission queue uses it
]


@pytest.mark.parametrize(("opcode", "fields", "status"), QUEUE_ERRORS)
def test_queues_that_cannot_be(nvme: Lab, opcode: int, fields: dict[str, int], status: int) -> None:
    good = {"prp1": IOVA + nvme.allocate(), "cdw10": 15 << 16 | 2, "cdw11": 1 | (opcode == 1) << 16}
    assert nvme.refused(0, opcode, **{**good, **fields}) == status | DNR


def test_entry_sizes_come_first() -> None:
    lab = Lab()
    lab.enable(cc=1)
    for opcode in (5, 1):
        where = {"prp1": IOVA + lab.allocate(), "cdw10": 15 << 16 | 1, "cdw11": 1 | 1 << 16}
        assert lab.refused(0, opcode, **where) == 0x102 | DNR


def test_a_queue_comes_and_goes(nvme: Lab) -> None:
    nvme.admin(0, cdw10=1)
    nvme.submit(1, 0, 1)
    nvme.ring(1)
    assert not nvme.completions(1)
    nvme.admin(4, cdw10=1)
    nvme.create_queues()
    assert nvme.call(1, 0, 1).status == 0


def test_a_queue_that_cannot_be_reached_is_fatal(nvme: Lab) -> None:
    cq = nvme.allocate()
    nvme.admin(5, prp1=IOVA + cq, cdw10=15 << 16 | 2, cdw11=1)
    nvme.admin(1, prp1=0x9_0000_0000, cdw10=15 << 16 | 2, cdw11=1 | 2 << 16)
    nvme.put(0x1010, 1)
    assert nvme.get(CSTS) == READY | FATAL
    nvme.ring(0)
    assert not nvme.completions(0)
    nvme.enable()
    assert nvme.get(CSTS) == READY


def test_a_doorbell_of_nobody_and_one_beyond_the_queue(nvme: Lab) -> None:
    nvme.submit(0, 0x0C)
    nvme.submit(0, 0x0C)
    nvme.ring(0)
    nvme.put(0x1000 + 8 * 7, 1)
    (event,) = nvme.completions(0)
    assert event.result == 0x01_00_00  # an error, doorbell register, log page 1
    nvme.put(0x1008, 16)  # hidden until the page was read
    assert not nvme.completions(0)
    page = nvme.allocate()
    nvme.submit(0, 2, 0xFFFF_FFFF, prp1=IOVA + page, cdw10=15 << 16 | 1)
    nvme.ring(0)
    log = nvme.completions(0)
    assert [each.result for each in log] in ([0, 0x01_01_00], [0x01_01_00, 0])


@pytest.mark.parametrize("value", [16, 5, 0xFFFF])
def test_a_head_where_nothing_was_completed(nvme: Lab, value: int) -> None:
    nvme.submit(0, 0x0C)
    nvme.ring(0)
    nvme.put(0x100C, value)
    assert [each.result for each in nvme.completions(0)] == [0x01_01_00]
    assert nvme.call(1, 0, 1).status == 0


# -- what it says of itself ------------------------------------------------------------------------


def test_identify_controller() -> None:
    lab = Lab(serial="A1")
    lab.enable()
    data = lab.identify(1)
    assert data[4:24] == b"A1".ljust(20)
    assert data[24:64] == b"kvm-vfio NVMe".ljust(40)
    assert data[77] == 7
    assert data[80:84] == bytes([0, 4, 1, 0])
    assert (data[512], data[513], data[516]) == (0x66, 0x44, 1)
    assert data[768:].startswith(b"nqn.2014-08.org.nvmexpress:uuid:")
    other = Lab(serial="A2")
    other.enable()
    assert other.identify(1)[768:1024] != data[768:1024]


@pytest.mark.parametrize(("size", "block"), [(1 << 20, 512), (1 << 40, 512), (1 << 20, 4096)])
def test_identify_namespace(size: int, block: int) -> None:
    lab = Lab(size=size, block=block)
    lab.enable()
    data = lab.identify(0, 1)
    assert struct.unpack_from("<QQQ", data) == (size // block,) * 3
    assert 1 << data[130] == block


def test_identify_lists(nvme: Lab) -> None:
    assert nvme.identify(2)[:8] == bytes([1, 0, 0, 0, 0, 0, 0, 0])
    assert nvme.identify(2, 1) == bytes(PAGE)
    descriptors = nvme.identify(3, 1)
    assert descriptors[:4] == bytes([3, 16, 0, 0])
    assert descriptors[4:20] != bytes(16)
    assert descriptors[20:] == bytes(PAGE - 20)


@pytest.mark.parametrize(
    ("cns", "nsid", "status"),
    [
        *((0, nsid, 0x0B) for nsid in (0, 2, 0xFFFF_FFFF)),
        *((3, nsid, 0x0B) for nsid in (0, 2)),
        *((2, nsid, 0x0B) for nsid in (0xFFFF_FFFE, 0xFFFF_FFFF)),
        (6, 0, 2),
    ],
)
def test_what_it_does_not_identify(nvme: Lab, cns: int, nsid: int, status: int) -> None:
    assert nvme.refused(0, 6, nsid, prp1=IOVA, cdw10=cns) == status | DNR


@pytest.mark.parametrize("opcode", [0x0D, 0x10, 0x18, 0x7C, 0x80, 0xFF])
def test_commands_it_has_not(nvme: Lab, opcode: int) -> None:
    assert nvme.refused(0, opcode) == 1 | DNR
    assert nvme.refused(1, opcode, 1) == 1 | DNR


@pytest.mark.parametrize("flags", [1, 2, 0x40, 0x80])
def test_neither_fused_nor_scattered(nvme: Lab, flags: int) -> None:
    assert nvme.refused(0, 6, flags=flags, prp1=IOVA, cdw10=1) == 2 | DNR


# -- features --------------------------------------------------------------------------------------


def test_number_of_queues() -> None:
    lab = Lab(queues=3)
    lab.enable()
    assert lab.admin(9, cdw10=7, cdw11=7 | 7 << 16) == 2 | 2 << 16
    assert lab.admin(0xA, cdw10=7) == 2 | 2 << 16
    assert lab.refused(0, 9, cdw10=7, cdw11=0xFFFF) == 2 | DNR
    lab.create_queues(3)
    assert lab.refused(0, 9, cdw10=7, cdw11=0) == 0x0C | DNR
    assert lab.device.irq_info(VFIO_PCI_MSIX_IRQ_INDEX).count == 4


@pytest.mark.parametrize("feature", [1, 5, 6, 8, 0x0A, 0x0B])
def test_a_feature_is_remembered_until_a_reset(nvme: Lab, feature: int) -> None:
    default = nvme.admin(0xA, cdw10=feature)
    nvme.admin(9, cdw10=feature, cdw11=0)
    assert nvme.admin(0xA, cdw10=feature) == 0
    assert nvme.refused(0, 9, cdw10=1 << 31 | feature, cdw11=1) == 0x10D | DNR
    nvme.enable()
    assert nvme.admin(0xA, cdw10=feature) == default


def test_features_with_parts(nvme: Lab) -> None:
    nvme.admin(9, cdw10=9, cdw11=1 << 16 | 3)
    assert [nvme.admin(0xA, cdw10=9, cdw11=v) for v in (3, 4)] == [0x10003, 4]
    nvme.admin(9, cdw10=9, cdw11=3)
    assert nvme.admin(0xA, cdw10=9, cdw11=3) == 3
    assert nvme.refused(0, 9, cdw10=9, cdw11=65) == 2 | DNR
    nvme.admin(9, cdw10=4, cdw11=350)
    nvme.admin(9, cdw10=4, cdw11=1 << 20 | 250)
    assert [nvme.admin(0xA, cdw10=4, cdw11=v) for v in (0, 1 << 20)] == [350, 250]
    assert nvme.refused(0, 0xA, cdw10=4, cdw11=1 << 16) == 2 | DNR
    nvme.admin(9, cdw10=2, cdw11=0)
    assert nvme.refused(0, 9, cdw10=2, cdw11=1) == 2 | DNR
    assert nvme.refused(0, 9, cdw10=0xC0) == 2 | DNR
    assert nvme.refused(0, 0xA, cdw10=0) == 2 | DNR


# -- log pages, events -----------------------------------------------------------------------------


def log(lab: Lab, number: int, size: int = 512, offset: int = 0) -> bytes:
    page = lab.allocate()
    dwords = size // 4 - 1
    lab.admin(2, 0xFFFF_FFFF, prp1=IOVA + page, cdw10=dwords << 16 | number, cdw12=offset)
    return lab.memory.read(size, page)


def test_the_error_log(nvme: Lab) -> None:
    assert log(nvme, 1, 64) == bytes(64)
    nvme.refused(1, READ, 1, prp1=IOVA, cdw10=0xFFFF_FFFF)
    nvme.refused(0, 0xFF, identifier=99)
    first, second = struct.iter_unpack("<QHHHHQI36x", log(nvme, 1, 128))
    assert first[:4] == (2, 0, 99, (1 | DNR) << 1 | first[3] & 1)
    assert second[0:2] == (1, 1)
    assert second[5:] == (0xFFFF_FFFF, 1)
    assert log(nvme, 1, 64, 64) == log(nvme, 1, 128)[64:]


def test_smart(nvme: Lab) -> None:
    buffer = nvme.allocate(16)
    for _ in range(16):
        nvme.move(WRITE, 0, buffer, 128)
    nvme.move(READ, 0, buffer, 1)
    data = log(nvme, 2)
    assert struct.unpack_from("<BHBBB", data) == (0, 310, 100, 10, 0)
    assert struct.unpack_from("<Q8xQ8xQ8xQ", data, 32) == (1, 3, 1, 16)
    nvme.admin(9, cdw10=4, cdw11=310)
    assert log(nvme, 2)[0] == 2


def test_firmware_slot(nvme: Lab) -> None:
    data = log(nvme, 3)
    assert (data[0], data[8:16]) == (1, b"1       ")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"cdw10": 0x70}, 0x109),
        ({"cdw10": 0}, 0x109),
        ({"cdw10": 2, "cdw12": 2}, 2),
        ({"cdw10": 2, "cdw12": 516}, 2),
        ({"cdw10": 2, "cdw13": 1}, 2),
        ({"cdw10": 2, "nsid": 1}, 2),
        ({"cdw10": 2, "nsid": 2}, 0x0B),
    ],
)
def test_log_pages_there_are_not(nvme: Lab, fields: dict[str, int], status: int) -> None:
    fields = {"prp1": IOVA, **fields}
    assert nvme.refused(0, 2, fields.pop("nsid", 0), **fields) == status | DNR


def test_event_requests_are_four(nvme: Lab) -> None:
    ids = [nvme.submit(0, 0x0C) for _ in range(5)]
    nvme.ring(0)
    (one,) = nvme.completions(0)
    assert (one.command, one.status) == (ids[4], 0x105 | DNR)


def test_a_request_can_be_aborted(nvme: Lab) -> None:
    waiting = nvme.submit(0, 0x0C)
    nvme.submit(0, 8, cdw10=waiting << 16)
    nvme.submit(0, 8, cdw10=waiting << 16)
    nvme.ring(0)
    assert [(each.result, each.status) for each in nvme.completions(0)] == [(0, 7), (0, 0), (1, 0)]


# -- blocks ----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    block=st.integers(0, 2000),
    blocks=st.integers(1, 1024),
    offset=st.integers(0, 1024).map(lambda dwords: 4 * dwords),
    data=st.binary(min_size=8, max_size=64),
)
def test_what_is_written_is_read(block: int, blocks: int, offset: int, data: bytes) -> None:
    lab = Lab(size=4 << 20)
    lab.enable()
    lab.create_queues()
    size = blocks * 512
    there, back = lab.allocate(130) + offset, lab.allocate(130) + offset
    content = (data * (size // len(data) + 1))[:size]
    lab.memory.write(content, there)
    assert lab.move(WRITE, block, there, blocks).status == 0
    assert lab.move(READ, block, back, blocks).status == 0
    assert lab.memory.read(size, back) == content
    assert lab.move(COMPARE, block, there, blocks).status == 0
    lab.memory.write(bytes([content[-1] ^ 1]), there + size - 1)
    assert lab.move(COMPARE, block, there, blocks).status == 0x285


def test_a_list_of_lists() -> None:
    """Pages of 4 KiB hold 512 entries; a list that begins near the end of one holds few."""
    lab = Lab()
    lab.enable()
    lab.create_queues()
    data, lists = lab.allocate(10), lab.allocate(2)
    pages = [IOVA + data + PAGE * n for n in range(10)]
    tail = lists + PAGE - 16  # room for two entries: one page, and where it goes on
    lab.memory.write(struct.pack("<QQ", pages[1], IOVA + lists + PAGE), tail)
    lab.memory.write(struct.pack("<8Q", *pages[2:]), lists + PAGE)
    lab.memory.write(bytes(range(256)) * 160, data)
    where = {"prp1": pages[0], "prp2": IOVA + tail}
    assert lab.call(1, WRITE, 1, **where, cdw12=79).status == 0
    lab.memory.write(bytes(40960), data)
    assert lab.call(1, READ, 1, **where, cdw12=79).status == 0
    assert lab.memory.read(40960, data) == bytes(range(256)) * 160


PRPS = [
    ({"prp1": IOVA + 2}, 0x013 | DNR),
    ({"prp1": IOVA + 0x800, "prp2": IOVA + 0x1800, "cdw12": 7}, 0x013 | DNR),
    ({"prp1": IOVA, "prp2": IOVA + 4, "cdw12": 31}, 0x013 | DNR),
    ({"prp1": 0x9_0000_0000}, 0x004),
    ({"prp1": IOVA, "prp2": 0x9_0000_0000, "cdw12": 15}, 0x004),
    ({"prp1": IOVA, "prp2": 0x9_0000_0000, "cdw12": 31}, 0x004),
]


@pytest.mark.parametrize(("fields", "status"), PRPS)
@pytest.mark.parametrize("opcode", [READ, WRITE])
def test_memory_that_cannot_be(nvme: Lab, opcode: int, fields: dict[str, int], status: int) -> None:
    assert nvme.refused(1, opcode, 1, **fields) == status
    assert nvme.get(CSTS) == READY


LAST = (64 << 20) // 512
OUTSIDE = [
    (READ, {"cdw10": LAST}),
    (READ, {"cdw10": LAST - 1, "cdw12": 1}),
    (WRITE, {"cdw11": 1}),
    (WRITE, {"cdw10": 0xFFFF_FFFF, "cdw11": 0xFFFF_FFFF}),
    (8, {"cdw10": LAST}),
]


@pytest.mark.parametrize(("opcode", "fields"), OUTSIDE)
def test_blocks_there_are_not(nvme: Lab, opcode: int, fields: dict[str, int]) -> None:
    assert nvme.refused(1, opcode, 1, prp1=IOVA, **fields) == 0x80 | DNR


@pytest.mark.parametrize("nsid", [0, 2, 0xFFFF_FFFF])
@pytest.mark.parametrize("opcode", [0, READ, WRITE, COMPARE, 8, 9])
def test_namespaces_there_are_not(nvme: Lab, opcode: int, nsid: int) -> None:
    if (opcode, nsid) == (0, 0xFFFF_FFFF):
        assert nvme.call(1, 0, nsid).status == 0  # Flush of all
    else:
        assert nvme.refused(1, opcode, nsid, prp1=IOVA) == 0x0B | DNR


def test_more_than_it_moves_at_once(nvme: Lab) -> None:
    assert nvme.refused(1, READ, 1, prp1=IOVA, cdw12=1024) == 2 | DNR


def test_zeroes_and_deallocation(nvme: Lab) -> None:
    buffer, ranges = nvme.allocate(8), nvme.allocate()
    nvme.memory.write(b"\xff" * 32768, buffer)
    assert nvme.move(WRITE, 0, buffer, 64).status == 0
    assert nvme.call(1, 8, 1, cdw10=3, cdw12=1).status == 0  # blocks 3, 4
    nvme.memory.write(struct.pack("<IIQIIQ", 0, 1, 10, 0, 2, 20), ranges)
    assert nvme.call(1, 9, 1, prp1=IOVA + ranges, cdw10=1, cdw11=7).status == 0
    assert nvme.move(READ, 0, buffer, 64).status == 0
    data = nvme.memory.read(32768, buffer)
    zero = [n for n in range(64) if data[n * 512 : n * 512 + 512] == bytes(512)]
    assert zero == [3, 4, 10, 20, 21]
    nvme.memory.write(struct.pack("<IIQ", 0, 2, LAST - 1), ranges)
    assert nvme.refused(1, 9, 1, prp1=IOVA + ranges, cdw11=4) == 0x80 | DNR
    assert nvme.call(1, 9, 1, prp1=IOVA + ranges + 16, cdw11=3).status == 0  # hints alone


# -- a file behind it ------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    return path


def test_data_in_a_file(disk: Path) -> None:
    lab = Lab(file=str(disk))
    lab.enable()
    lab.create_queues()
    assert struct.unpack_from("<Q", lab.identify(0, 1)) == (2048,)
    buffer = lab.allocate()
    lab.memory.write(b"durable", buffer)
    assert lab.move(WRITE, 2047, buffer, 1, cdw12=1 << 30).status == 0
    assert disk.read_bytes()[2047 * 512 :].startswith(b"durable")
    assert lab.call(1, 8, 1, cdw10=2040, cdw12=7).status == 0
    assert disk.read_bytes() == bytes(1 << 20)


def test_a_file_that_fails(disk: Path) -> None:
    lab = Lab(file=str(disk))
    lab.enable()
    lab.create_queues()
    os.truncate(disk, 4096)
    assert lab.refused(1, READ, 1, prp1=IOVA, cdw10=100) == 0x281
    assert int.from_bytes(log(lab, 2)[160:176], "little") == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Lab(file=str(tmp_path / "none"))


def test_a_file_has_one_user(disk: Path) -> None:
    keep = Lab(file=str(disk))
    with pytest.raises(InputError, match="another device keeps its data there"):
        Lab(file=str(disk))
    assert keep.get(VS)


@pytest.mark.parametrize(
    "options",
    [
        *({"size": size} for size in (0, 1000)),
        {"block": 520},
        *({"queues": queues} for queues in (0, 65)),
        *({"serial": serial} for serial in ("x" * 21, "é", "a\tb")),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="; write "):
        Nvme.at(ADDRESS, **options)


# -- interrupts ------------------------------------------------------------------------------------


def test_each_queue_interrupts_its_vector() -> None:
    lab = Lab()
    lab.enable()
    events = lab.desk.eventfds(VFIO_PCI_MSIX_IRQ_INDEX, 4)
    lab.create_queues(1, vector=3)
    lab.create_queues(2, vector=None)
    heard = [lab.desk.heard(event) for event in events]
    assert heard == [4, 0, 0, 0]
    lab.submit(1, 0, 1)
    lab.submit(1, 0, 1)
    lab.ring(1)
    lab.call(2, 0, 1)
    assert [lab.desk.heard(event) for event in events] == [0, 0, 0, 1]


def test_the_line() -> None:
    lab = Lab()
    lab.enable()
    (event,) = lab.desk.eventfds(VFIO_PCI_INTX_IRQ_INDEX)
    unmask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK

    def told() -> int:
        lab.device.set_irqs(VFIO_PCI_INTX_IRQ_INDEX, unmask, 0, 1)
        return lab.desk.heard(event)

    lab.submit(0, 6, prp1=IOVA + lab.allocate(), cdw10=1)
    lab.ring(0)
    assert lab.desk.heard(event) == 1
    assert told() == 1  # the completion was not read
    lab.put(INTMS, 1)
    assert (told(), lab.get(INTMS), lab.get(INTMC)) == (0, 1, 1)
    lab.put(INTMC, 1)
    assert lab.desk.heard(event) == 1
    assert lab.completions(0)
    assert told() == 0


# -- whatever a host does --------------------------------------------------------------------------

COMMANDS = st.fixed_dictionaries(
    {
        "opcode": st.sampled_from([*range(16), 0x80, 0xFF]),
        "flags": st.sampled_from([0, 0, 0, 1]),
        "nsid": st.sampled_from([0, 1, 2, 0xFFFF_FFFF]),
        "prp1": st.sampled_from([0, IOVA, IOVA + 4, IOVA + 0xFFC, 1 << 40, (1 << 64) - 4]),
        "prp2": st.sampled_from([0, IOVA + PAGE, IOVA + 0x1FF8, (1 << 64) - 8]),
        **{
            f"cdw{n}": st.sampled_from([0, 1, 2, 0x10001, 0x70002, 1 << 31, 0xFFFF_FFFF])
            for n in (10, 11, 12, 13)
        },
    }
)
WRITES = st.tuples(
    st.sampled_from([*range(0, 0x40, 4), *range(0x1000, 0x1020, 4), 0x2000, 0x3FFC]),
    st.sampled_from([0, 1, 5, 0x460001, 0x464001, 0xFFFF_FFFF]),
)


@settings(max_examples=150)
@given(st.lists(st.one_of(COMMANDS, WRITES), max_size=25))
def test_no_host_breaks_it(steps: list[Any]) -> None:
    lab = Lab(size=1 << 20)
    lab.enable()
    lab.create_queues()
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            lab.put(*step)
        else:
            lab.submit(number % 2, **step)
            lab.ring(number % 2)
        if lab.get(CSTS) == READY:
            for queue in (0, 1):
                assert len(lab.completions(queue)) < 16
    lab.enable()
    assert lab.get(CSTS) == READY
    assert lab.identify(1)[24:32] == b"kvm-vfio"
    assert isinstance(lab.device, Device)
    assert isinstance(lab.container, Container)
