package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

const (
	clockMonotonic = 1
	nonblocking    = 0x800
	closeOnExec    = 0x80000
)

// timer waits to some ten microseconds. The runtime's own timers are rounded up to whole milliseconds where a core has nothing else to do.
type timer struct {
	file       *os.File
	descriptor uintptr
}

func newTimer() (*timer, error) {
	descriptor, _, failure := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, nonblocking|closeOnExec, 0)
	if failure != 0 {
		return nil, os.NewSyscallError("timerfd_create", failure)
	}
	return &timer{os.NewFile(descriptor, "timer"), descriptor}, nil
}

// until waits for a moment and returns at once if it has passed.
func (own *timer) until(moment time.Time) error {
	left := time.Until(moment)
	if left <= 0 {
		return nil
	}
	value := struct{ interval, first syscall.Timespec }{first: syscall.NsecToTimespec(left.Nanoseconds())}
	_, _, failure := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, own.descriptor, 0, uintptr(unsafe.Pointer(&value)), 0, 0, 0)
	if failure != 0 {
		return os.NewSyscallError("timerfd_settime", failure)
	}
	var expirations [8]byte
	_, err := own.file.Read(expirations[:])
	return err
}

func (own *timer) close() { own.file.Close() }
