// Package deepstack gives the main goroutine the stack at once that it needs anyway: grown step by step it would be copied from deep
// within calls, each time with a look-up of every frame, in pages of the program that nothing else needs.
//
// It is to be imported by the program, for that alone. A package that imports nothing is among the first to be initialised, when there
// is hardly a frame to copy.
package deepstack

// Size is how much stack there is at least, in bytes.
var Size = deepen()

// deepen needs 24 KiB of stack, for which the runtime doubles what there is until it is enough, and returns that number.
func deepen() int
