// Package criu compares the messages that the engine writes to criu by hand, and what it reads, with the generated ones.
package criu

import (
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"google.golang.org/protobuf/proto"

	"github.com/gosuda/gosudacon/internal/criu"
)

// TestRequest fills in everything, each with a value of its own.
func TestRequest(t *testing.T) {
	o := &criu.Options{
		ImagesDir: 11, WorkDir: 12, LogFile: "log", ConfigFile: "config", Pid: 13, Root: "/root", ParentImages: "../parent", FreezeCgroup: "/freezer",
		ManageCgroups:  criu.CgroupStrict,
		CgroupRoots:    []criu.CgroupRoot{{Controller: "cpu", Path: "/a"}, {Controller: "", Path: "/b"}},
		ExternalMounts: []criu.Pair{{Key: "/key", Value: "/value"}, {Key: "/only", Value: ""}},
		External:       []string{"net[1]:x", "file[1:2]"},
		InheritFDs:     []criu.InheritFD{{Key: "pipe:[1]", FD: 0}, {Key: "x", FD: 5}},
		JoinNamespaces: []criu.Pair{{Key: "uts", Value: "/proc/1/ns/uts"}},
		EmptyNs:        0x40000000, PageServer: criu.PageServer{Address: "10.0.0.1", Port: 65535},
		LeaveRunning: true, ExtUnixSk: true, TCPEstablished: true, TCPSkipInFlight: true, TCPClose: true, EvasiveDevices: true, ShellJob: true,
		FileLocks: true, TrackMem: true, AutoDedup: true, LinkRemap: true, LazyPages: true, OrphanPtsMaster: true, RestoreSibling: true,
		NetworkLock: criu.LockSkip, LSMProfile: "apparmor:x", LSMMountContext: "context",
	}
	want := &rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum(), Opts: &rpc.CriuOpts{
		ImagesDirFd: proto.Int32(11), WorkDirFd: proto.Int32(12), LogFile: proto.String("log"), LogLevel: proto.Int32(4), ConfigFile: proto.String("config"),
		Pid: proto.Int32(13), Root: proto.String("/root"), ParentImg: proto.String("../parent"), FreezeCgroup: proto.String("/freezer"),
		ManageCgroups: proto.Bool(true), ManageCgroupsMode: rpc.CriuCgMode_STRICT.Enum(), NotifyScripts: proto.Bool(true),
		CgRoot:    []*rpc.CgroupRoot{{Ctrl: proto.String("cpu"), Path: proto.String("/a")}, {Ctrl: proto.String(""), Path: proto.String("/b")}},
		ExtMnt:    []*rpc.ExtMountMap{{Key: proto.String("/key"), Val: proto.String("/value")}, {Key: proto.String("/only"), Val: proto.String("")}},
		External:  []string{"net[1]:x", "file[1:2]"},
		InheritFd: []*rpc.InheritFd{{Key: proto.String("pipe:[1]"), Fd: proto.Int32(0)}, {Key: proto.String("x"), Fd: proto.Int32(5)}},
		JoinNs:    []*rpc.JoinNamespace{{Ns: proto.String("uts"), NsFile: proto.String("/proc/1/ns/uts")}},
		EmptyNs:   proto.Uint32(0x40000000), Ps: &rpc.CriuPageServerInfo{Address: proto.String("10.0.0.1"), Port: proto.Int32(65535)},
		LeaveRunning: proto.Bool(true), ExtUnixSk: proto.Bool(true), TcpEstablished: proto.Bool(true), TcpSkipInFlight: proto.Bool(true),
		TcpClose: proto.Bool(true), EvasiveDevices: proto.Bool(true), ShellJob: proto.Bool(true), FileLocks: proto.Bool(true), TrackMem: proto.Bool(true),
		AutoDedup: proto.Bool(true), LinkRemap: proto.Bool(true), LazyPages: proto.Bool(true), OrphanPtsMaster: proto.Bool(true), RstSibling: proto.Bool(true),
		NetworkLock: rpc.CriuNetworkLockMethod_SKIP.Enum(), LsmProfile: proto.String("apparmor:x"), LsmMountContext: proto.String("context"),
	}}
	same(t, criu.EncodeRequest(criu.Restore, o), want)
	// What is required is there also when it is zero.
	same(t, criu.EncodeRequest(criu.Dump, &criu.Options{}), &rpc.CriuReq{Type: rpc.CriuReqType_DUMP.Enum(), Opts: &rpc.CriuOpts{ImagesDirFd: proto.Int32(0),
		LogLevel: proto.Int32(4), ManageCgroups: proto.Bool(true), ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(), NotifyScripts: proto.Bool(true)}})
	same(t, criu.EncodeAnswer(true), &rpc.CriuReq{Type: rpc.CriuReqType_NOTIFY.Enum(), NotifySuccess: proto.Bool(true)})
	same(t, criu.EncodeAnswer(false), &rpc.CriuReq{Type: rpc.CriuReqType_NOTIFY.Enum(), NotifySuccess: proto.Bool(false)})
	same(t, criu.EncodeFeatures(criu.Features{LazyPages: true}), &rpc.CriuReq{Type: rpc.CriuReqType_FEATURE_CHECK.Enum(),
		Features: &rpc.CriuFeatures{LazyPages: proto.Bool(true)}})
}

// TestNumbers: names and numbers that a message with one value does not show.
func TestNumbers(t *testing.T) {
	for kind, want := range map[criu.Kind]rpc.CriuReqType{criu.Dump: rpc.CriuReqType_DUMP, criu.Restore: rpc.CriuReqType_RESTORE,
		criu.PreDump: rpc.CriuReqType_SINGLE_PRE_DUMP} {
		if int32(kind) != int32(want) {
			t.Errorf("%s is %d, want %d", kind, kind, want)
		}
	}
	for mode, want := range map[criu.CgroupMode]rpc.CriuCgMode{criu.CgroupIgnore: rpc.CriuCgMode_IGNORE, criu.CgroupSoft: rpc.CriuCgMode_SOFT,
		criu.CgroupFull: rpc.CriuCgMode_FULL, criu.CgroupStrict: rpc.CriuCgMode_STRICT, criu.CgroupDefault: rpc.CriuCgMode_DEFAULT} {
		if int32(mode) != int32(want) {
			t.Errorf("cgroup mode %d, want %d", mode, want)
		}
	}
	for lock, want := range map[criu.NetworkLock]rpc.CriuNetworkLockMethod{criu.LockIptables: rpc.CriuNetworkLockMethod_IPTABLES,
		criu.LockNftables: rpc.CriuNetworkLockMethod_NFTABLES, criu.LockSkip: rpc.CriuNetworkLockMethod_SKIP} {
		if int32(lock) != int32(want) {
			t.Errorf("network lock %d, want %d", lock, want)
		}
	}
}

// same fails the test unless a message that was written by hand is the generated one.
func same(t *testing.T, got []byte, want *rpc.CriuReq) {
	t.Helper()
	var m rpc.CriuReq
	if err := proto.Unmarshal(got, &m); err != nil { // fails without what is required
		t.Fatal(err)
	}
	if !proto.Equal(&m, want) {
		t.Errorf("got\n%s\nwant\n%s", m.String(), want.String())
	}
}

func TestResponse(t *testing.T) {
	b, err := proto.Marshal(&rpc.CriuResp{Type: rpc.CriuReqType_NOTIFY.Enum(), Success: proto.Bool(true), CrErrno: proto.Int32(3),
		CrErrmsg: proto.String("message"), Notify: &rpc.CriuNotify{Script: proto.String("post-restore"), Pid: proto.Int32(77)},
		Features: &rpc.CriuFeatures{MemTrack: proto.Bool(true), LazyPages: proto.Bool(true)},
		Dump:     &rpc.CriuDumpResp{Restored: proto.Bool(true)}, Version: &rpc.CriuVersion{MajorNumber: proto.Int32(4), MinorNumber: proto.Int32(2)}})
	if err != nil {
		t.Fatal(err)
	}
	var r criu.Response
	if err := r.Decode(b); err != nil {
		t.Fatal(err)
	}
	want := criu.Response{Kind: 6, Success: true, Script: "post-restore", Pid: 77, Errno: 3, Message: "message",
		Features: criu.Features{TrackMem: true, LazyPages: true}}
	if r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
}
