# SPDX-License-Identifier: GPL-2.0-only
"""What can go wrong that is not an errno.

An errno is an answer, and answers are not errors: inside the model they travel as
`kvm_vfio.kernel.error.KernelError`, outside it as `OSError`. What is here has no errno.

    KvmVfioError
    +-- NotModelled     Linux has an answer here and this project does not know it
    +-- InputError      a machine file, scenario or command line is wrong: place, reason, remedy
    +-- Unsupported     this computer lacks something the request needs: what, and how to get it
    +-- StorageError    the file a device keeps its data in cannot be read or written
"""


class KvmVfioError(Exception):
    """The root of every exception of this package that is not an `OSError`."""


class NotModelled(KvmVfioError):
    """Linux would answer, and the model cannot: never a 0, never an errno that is made up."""


class InputError(KvmVfioError):
    """Something a person wrote is wrong. The message is one sentence: place, reason, remedy."""


class Unsupported(KvmVfioError):
    """This computer cannot do what was asked. The message is one sentence with the remedy."""


class StorageError(KvmVfioError):
    """A device's data cannot be read or written. The device tells its driver, as a disk does."""
