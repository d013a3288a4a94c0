# SPDX-License-Identifier: GPL-2.0-only
"""The IOMMU: groups of devices, and the domains they translate through."""
