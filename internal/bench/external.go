package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// errMissing is wrapped by the error of a peer whose program is not installed.
var errMissing = errors.New("it is not installed")

// sources is the folder of the programs that serve in place of this one. They obey the same
// orders.
func sources() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "testdata")
}

// bun serves with Bun, whose server is uWebSockets. It is looked for in $PATH and, since
// "npm install bun" is the usual way to get it, in node_modules beside this package.
func bun(wire string) (program []string, err error) {
	path, err := exec.LookPath("bun")
	if err != nil {
		path, err = filepath.EvalSymlinks(filepath.Join(filepath.Dir(sources()), "node_modules/.bin/bun"))
		if err != nil {
			return nil, fmt.Errorf("bun: %w", errMissing)
		}
	}
	return []string{path, filepath.Join(sources(), "bun.js"), wire}, nil
}

// floor serves with a loop of write(2) in C.
func floor(wire string) (program []string, err error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return nil, fmt.Errorf("cc: %w", errMissing)
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("fanfare-floor-%d", os.Getuid()))
	source := filepath.Join(sources(), "floor.c")
	if out, err := exec.Command(cc, "-O2", "-pthread", "-o", path, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cc: %w: %s", err, out)
	}
	return []string{path, wire}, nil
}

// become replaces this process by the program, which keeps its processor and its pipes.
func become(program []string) error {
	return syscall.Exec(program[0], program, os.Environ())
}

// isMissing reports whether a peer needs a program that is not installed, and says so.
func (p peer) isMissing() bool {
	if p.program == nil {
		return false
	}
	_, err := p.program(p.wire)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s, %s: %v\n", p.wire, p.name, err)
	}
	return err != nil
}
