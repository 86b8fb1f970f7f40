// Command wire is both ends of the benchmark: `wire mock` answers chat completions after a set delay, `wire load` asks for them.
// Both speak plain HTTP/1.1 over kept connections, so that they cost little beside what is measured.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("say `mock` or `load`"))
	}
	var err error
	switch os.Args[1] {
	case "mock":
		err = serveMock(os.Args[2:])
	case "load":
		err = runLoad(os.Args[2:])
	default:
		err = fmt.Errorf("%q is neither `mock` nor `load`", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "wire:", err)
	os.Exit(1)
}
