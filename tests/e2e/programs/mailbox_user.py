# SPDX-License-Identifier: GPL-2.0-only
"""mailbox_user BDF GROUP: maps what can be mapped of a mailbox, and rings."""

from __future__ import annotations

import sys

from kvm_vfio import Container, Group, HostSyscalls

linux = HostSyscalls()
container, group = Container(linux), Group(linux, int(sys.argv[2]))
group.set_container(container)
container.set_iommu()
device = group.device(sys.argv[1])
info = device.region_info(0)
print("areas:", *[(area.offset, area.size) for area in info.mappable_areas])
mapped = linux.mmap(device.fileno(), 4096, info.offset + 4096)
mapped.write(b"stressed")
device.write_region(0, 0, (8).to_bytes(4, "little"))
device.write_region(0, 4, (1).to_bytes(4, "little"))
print("mapped:", mapped.read(8).decode())
print("read:", device.read_region(0, 4096, 8).decode())
try:
    linux.mmap(device.fileno(), 8192, info.offset)
except OSError as error:
    print("map all:", error.strerror)
