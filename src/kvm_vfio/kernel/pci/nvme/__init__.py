# SPDX-License-Identifier: GPL-2.0-only
"""`nvme`: an NVM Express 1.4 controller with one namespace.

General layout, from the bus inwards: `controller` has the registers and the queues and turns the
wheel; `admin` and `nvm` have a function for each command of the two kinds; `transfer` moves their
data by PRPs; `identify` and `log` are what the controller says of itself; `features` is what the
host may set; `spec` has the specification's numbers.

All is from the NVM Express Base Specification, revision 1.4. The names are its own.
"""

from kvm_vfio.kernel.pci.nvme.controller import Nvme, NvmeOptions

__all__ = ["Nvme", "NvmeOptions"]
