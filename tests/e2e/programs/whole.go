// SPDX-License-Identifier: GPL-2.0-only

// The whole sequence of whole.c, in a static Go program.
package main

import (
	"fmt"
	"syscall"
	"unsafe"
)

const (
	createVM      = 0xae01
	createDevice  = 0xc00caee0
	setDeviceAttr = 0x4018aee1
	hasDeviceAttr = 0x4018aee3
	vfioBase      = 0x3b64
	add           = 1
	del           = 2
)

var names = map[syscall.Errno]string{
	syscall.EBUSY: "EBUSY", syscall.EEXIST: "EEXIST", syscall.EINVAL: "EINVAL",
	syscall.ENOENT: "ENOENT", syscall.EBADF: "EBADF", syscall.ENXIO: "ENXIO",
}

func value(name string, result int, err error) int {
	if err != nil {
		text, known := names[err.(syscall.Errno)]
		if !known {
			text = err.Error()
		}
		fmt.Printf("%s: %s\n", name, text)
		return -1
	}
	fmt.Printf("%s: %d\n", name, result)
	return result
}

func step(name string, result int, err error) int {
	value(name, 0, err)
	return result
}

func open(path string) (int, error) {
	return syscall.Open(path, syscall.O_RDWR, 0)
}

func ioctl(fd int, request uintptr, argument uintptr) (int, error) {
	result, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, argument)
	if errno != 0 {
		return -1, errno
	}
	return int(result), nil
}

type create struct{ kind, fd, flags uint32 }

func newDevice(vm int) (int, error) {
	c := create{kind: 4}
	_, err := ioctl(vm, createDevice, uintptr(unsafe.Pointer(&c)))
	return int(c.fd), err
}

type attr struct {
	flags, group uint32
	attr         uint64
	addr         uint64
}

func attribute(device int, request uintptr, number uint64, fd int) (int, error) {
	target := int32(fd)
	a := attr{group: 1, attr: number, addr: uint64(uintptr(unsafe.Pointer(&target)))}
	return ioctl(device, request, uintptr(unsafe.Pointer(&a)))
}

func set(name string, device int, number uint64, fd int) {
	result, err := attribute(device, setDeviceAttr, number, fd)
	step(name, result, err)
}

func must(name string) func(int, error) int {
	return func(result int, err error) int { return step(name, result, err) }
}

func shown(name string) func(int, error) int {
	return func(result int, err error) int { return value(name, result, err) }
}

func main() {
	kvm := must("open kvm")(open("/dev/kvm"))
	vm := must("create vm")(ioctl(kvm, createVM, 0))
	container := must("open container")(open("/dev/vfio/vfio"))
	group := must("open group")(open("/dev/vfio/1"))
	must("open group again")(open("/dev/vfio/1"))
	shown("api version")(ioctl(container, vfioBase, 0))
	shown("type1v2")(ioctl(container, vfioBase+1, 3))
	status := [2]uint32{8, 0}
	must("status")(ioctl(group, vfioBase+3, uintptr(unsafe.Pointer(&status))))
	shown("flags")(int(status[1]), nil)
	must("set iommu too early")(ioctl(container, vfioBase+2, 3))
	number := int32(container)
	must("set container")(ioctl(group, vfioBase+4, uintptr(unsafe.Pointer(&number))))
	must("set iommu")(ioctl(container, vfioBase+2, 3))
	device := must("create device")(newDevice(vm))
	must("create device again")(newDevice(vm))
	must("has add")(attribute(device, hasDeviceAttr, add, 0))
	must("has 9")(attribute(device, hasDeviceAttr, 9, 0))
	set("add", device, add, group)
	set("add again", device, add, group)
	set("add container", device, add, container)
	set("add closed", device, add, 999)
	syscall.Close(group)
	must("open member")(open("/dev/vfio/1"))
	group = must("open other group")(open("/dev/vfio/2"))
	set("add other", device, add, group)
	set("del other", device, del, group)
	set("del other again", device, del, group)
	syscall.Close(device)
	syscall.Close(container)
	must("reopen group")(open("/dev/vfio/1"))
	must("create device anew")(newDevice(vm))
}
