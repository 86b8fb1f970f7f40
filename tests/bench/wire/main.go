// Command wire is both ends of the benchmark. `wire mock` answers chat completions as it is told to; `wire load` asks for them, `wire hold`
// keeps streams open, `wire cancel` leaves in the middle, and `wire spin` keeps a core awake. All speak plain HTTP/1.1 over kept
// connections, so that they cost little beside what is measured.
package main

import (
	"fmt"
	"os"
	"strings"
)

var commands = map[string]func([]string) error{
	"mock": serveMock, "load": runLoad, "hold": runHold, "cancel": runCancel, "spin": spin,
}

func main() {
	name := ""
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	command, known := commands[name]
	if !known {
		fail(fmt.Errorf("%q is none of mock, load, hold, cancel and spin", name))
	}
	if err := command(os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "wire:", err)
	os.Exit(1)
}

// list is a flag that may be repeated.
type list []string

func (values *list) String() string { return strings.Join(*values, ", ") }

func (values *list) Set(value string) error {
	*values = append(*values, value)
	return nil
}
