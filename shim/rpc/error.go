package rpc

import (
	"context"
	"errors"
	"strconv"
)

// Code is a google.rpc.Code.
type Code uint32

// The codes that a shim answers or understands.
const (
	OK                 Code = 0
	Canceled           Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	AlreadyExists      Code = 6
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Unimplemented      Code = 12
	Internal           Code = 13
)

// Error is a google.rpc.Status that is not OK: what a server answers instead of a payload.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return "code " + strconv.Itoa(int(e.Code)) + ": " + e.Message }

// errorOf returns the status of an error that a method returned.
func errorOf(err error) *Error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled):
		return &Error{Canceled, err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{DeadlineExceeded, err.Error()}
	}
	return &Error{Unknown, err.Error()}
}
