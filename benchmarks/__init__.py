# SPDX-License-Identifier: GPL-2.0-only
"""What kvm-vfio costs, always as a ratio: `./dev bench [a] [b] [c] [d] [e]`.

    a  intercept   an intercepted ioctl against C supervisors and against the real device
    b  inprocess   the model against the real device, through the same client
    c  growth      many groups, mappings and VMs against few
    d  unrelated   programs that have nothing to do with VFIO, under the supervisor against without
    e  qemu        QEMU's start with a device under us against its start without any

Microseconds differ from computer to computer and from minute to minute; ratios of things that take
turns hardly do. So everything that is compared runs interleaved (`measure`), and the limits are
limits on ratios.
"""
