// Command probe makes the system calls of its argument, a JSON list of {"Nr":…,"Args":[…]}, and prints their errnos as a
// JSON list.
package main

import (
	"encoding/json"
	"os"
	"syscall"
)

func main() {
	var calls []struct {
		Nr   uint32
		Args [6]uint64
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &calls); err != nil {
		panic(err)
	}
	errnos := make([]int, len(calls))
	for i, c := range calls {
		a := c.Args
		_, _, errno := syscall.Syscall6(uintptr(c.Nr), uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), uintptr(a[5]))
		errnos[i] = int(errno)
	}
	if err := json.NewEncoder(os.Stdout).Encode(errnos); err != nil {
		panic(err)
	}
}
