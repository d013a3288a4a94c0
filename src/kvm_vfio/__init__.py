# SPDX-License-Identifier: GPL-2.0-only
"""KVM-VFIO in user space: the pseudo device, what it stands on, and ways to call it.

General layout, an hourglass:

- who calls: `client` (typed objects), `supervisor` (an unmodified program), `scenario` (recorded
  and random calls), with `cli` above them;
- the waist: `syscalls`, the few system calls that these devices need, and the caller's memory;
- who answers: `kernel` (the model, pure), `host` (the Linux of this computer).

Below the model lie the values it is made from: `machine` (the hardware, described), `profiles`
(where one Linux differs from another) and `uapi` (the kernel's headers as data). `errors` has what
can go wrong that is not an errno, and `trace` the record of every call and decision.
"""
