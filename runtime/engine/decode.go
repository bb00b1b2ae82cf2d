package engine

import "github.com/gosuda/gosudacon/runtime/internal/lazyjson"

// Decode reads JSON from a caller, such as a specs.Process or a specs.LinuxResources, into what v points to. The error is
// InvalidArgument and says where in the text it is wrong.
func Decode(text []byte, v any) error {
	if err := lazyjson.Unmarshal(text, v); err != nil {
		return errorf(InvalidArgument, err, "%v", err)
	}
	return nil
}
