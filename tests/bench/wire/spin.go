package main

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

const policyIdle = 5

// spin keeps the core that it is started on awake without taking time from anything else: it runs only when nobody wants to. A core
// that sleeps needs a tenth of a millisecond or more to wake up on a virtual machine, which would be counted as the gateway's.
func spin([]string) error {
	runtime.LockOSThread()
	// Where sessions share the CPU as groups, the policy counts within a group alone: a group of its own, and the least of all. Where
	// they do not, neither call matters.
	syscall.Setsid()
	os.WriteFile("/proc/self/autogroup", []byte("19"), 0)
	parameter := struct{ priority int32 }{}
	_, _, failure := syscall.Syscall(syscall.SYS_SCHED_SETSCHEDULER, 0, policyIdle, uintptr(unsafe.Pointer(&parameter)))
	if failure != 0 {
		return os.NewSyscallError("sched_setscheduler", failure)
	}
	for {
	}
}
