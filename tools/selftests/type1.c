/* SPDX-License-Identifier: GPL-2.0-only */
/* Linked into the tests: those that do not say which IOMMU they want get type1, which Debian has. */
extern const char *default_iommu_mode;

__attribute__((constructor)) static void without_iommufd(void)
{
	default_iommu_mode = "vfio_type1_iommu";
}
