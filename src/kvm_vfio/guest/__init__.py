# SPDX-License-Identifier: GPL-2.0-only
"""A real Linux below the waist: Debian's kernels under QEMU, with a small agent of ours inside.

packages    Debian's kernel packages, unpacked into a cache: nothing is installed
modules     which modules a kernel needs, in which order
plan        what the agent does before its first call: modules, probes, drivers
initrd      the agent, the plan and the modules as a cpio archive
machine     the QEMU command line: the machine that recordings were made on
channel     memory that host and guest share, and doorbells; every wait has a deadline
batch       many calls in one turn of the channel, with registers for what they make
guest       a guest that runs: boot, calls, a new worker for each task, death
process     `Syscalls` of a worker
"""
