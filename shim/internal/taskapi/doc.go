// Package taskapi has the messages of containerd's task API, without the rest of containerd's types.
package taskapi

// The generator needs protoc and its well-known types (Debian: protobuf-compiler, libprotobuf-dev) and protoc-gen-go v1.36.12.
//
//go:generate protoc --go_out=. --go_opt=paths=source_relative task.proto
//go:generate sed -i -E "s/\\b(Get)?(Exec)?Id\\b/\\1\\2ID/g" task.pb.go
