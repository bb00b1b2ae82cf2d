// Command guest is what runs in the containers whose images critest names, besides busybox: the pause container, a web server called nginx
// or httpd, and a program that tells its effective user. The name it is called by chooses.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	name := filepath.Base(os.Args[0])
	if err := run(name, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(name string, args []string) error {
	switch name {
	case "pause":
		return pause()
	case "nnp":
		fmt.Printf("Effective uid: %d\n", os.Geteuid())
		return nil
	case "nginx", "httpd":
		if len(args) == 0 {
			return fmt.Errorf("needs the address to listen on")
		}
		return serve(name, args[0])
	}
	return fmt.Errorf("no program of this name")
}

// pause waits for the signal that ends a pod. As the first process of a pod whose containers share a pid namespace it collects their
// orphans, by not wanting to hear of them.
func pause() error {
	signal.Ignore(unix.SIGCHLD)
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM, unix.SIGINT)
	<-end
	return nil
}

// serve answers every request, after it has left its pid where nginx does.
func serve(name, address string) error {
	if err := os.WriteFile("/var/run/"+name+".pid", fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
		return err
	}
	fmt.Println(name, "listens on", address)
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello from", name)
	}))
}
