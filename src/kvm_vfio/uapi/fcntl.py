# SPDX-License-Identifier: GPL-2.0-only
"""linux/fcntl.h: the open(2) flags that have one value on x86-64 and aarch64."""

O_RDONLY = 0
O_WRONLY = 1
O_RDWR = 2
O_ACCMODE = 3
O_CREAT = 0o100
O_EXCL = 0o200
O_TRUNC = 0o1000
O_APPEND = 0o2000
O_NONBLOCK = 0o4000
O_CLOEXEC = 0o2000000
O_PATH = 0o10000000
