package main

// differences has the reason of every spec that does not end with a handler as it does with runc, by the handler and the spec's name.
var differences = map[string]map[string]string{
	"gosuda-table": {
		"[k8s.io] Security Context UserNamespaces when Host idmap mount support is needed runtime should support NamespaceMode_POD": "containerd " +
			"2.4.2 adds the owner of stdio to the options of runc (WithUIDOwner in client/task_opts_unix.go), and fails when the options are of another type, " +
			"which a table under a runtime type of one's own makes them (containerd/containerd#11091). No shim is asked before that: pods with user namespaces need a handler without a table, or in runc's place",
	},
}
