package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// checkText refuses text that would not be the same to everybody: bytes that are no UTF-8, which the JSON decoder would replace,
// so that a path in the config would be another on the disk.
func checkText(data []byte) error {
	if utf8.Valid(data) {
		return nil
	}
	for line := 1; ; line++ {
		text, rest, _ := bytes.Cut(data, []byte("\n"))
		if !utf8.Valid(text) {
			return fmt.Errorf("line %d: is not UTF-8", line)
		}
		data = rest
	}
}

// checkStrings refuses NUL bytes anywhere in a decoded spec: to the kernel a string ends there, so it would use another than
// the one that was checked. A NUL can only come from an escape: without one in the text there is nothing to look for.
func checkStrings(data []byte, spec any) error {
	if !bytes.Contains(data, []byte(`\u0000`)) {
		return nil
	}
	if at := findNUL(reflect.ValueOf(spec), ""); at != "" {
		return errors.New(at + ": contains a NUL byte")
	}
	return nil
}

// findNUL returns the path of a string with a NUL byte, "" when there is none.
func findNUL(v reflect.Value, at string) string {
	switch v.Kind() {
	case reflect.String:
		if strings.IndexByte(v.String(), 0) >= 0 {
			return at
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return findNUL(v.Elem(), at)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if p := findNUL(v.Index(i), fmt.Sprintf("%s[%d]", at, i)); p != "" {
				return p
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if findNUL(it.Key(), "key") != "" {
				return at
			}
			if p := findNUL(it.Value(), at+"."+it.Key().String()); p != "" {
				return p
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if p := findNUL(v.Field(i), strings.TrimPrefix(at+"."+name, ".")); p != "" {
				return p
			}
		}
	}
	return ""
}
